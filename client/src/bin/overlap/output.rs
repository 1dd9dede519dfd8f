//! The three ways to print what was read.

mod report;

use std::io::{self, BufWriter, Stdout, Write};

use overlap_client::{
    Timestamp,
    terminal::{figures, readable_time},
};
use serde::Serialize;

use crate::{
    args::Format,
    table::{self, Entry, Paint, Tone, grouped, one_line},
};

pub(crate) use report::{Report, Sheet, as_of, basis, metric_columns, metric_rows, metrics, rows};

/// Columns of a bar.
const BAR: usize = 20;

/// One value of a record.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    /// A word that stands for good or bad news.
    State(String, Tone),
    Number(u64),
    Time(Option<Timestamp>),
    Flag(bool),
    /// What a person reads, and what a spreadsheet does.
    Shown {
        text: String,
        field: String,
    },
    /// Not known, which is not the same as 0.
    Unset,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Unset, Self::Number)
    }
}

impl Value {
    /// A bar of a value that is `whole` at the most, for people alone.
    pub(crate) fn bar(value: f64, whole: f64) -> Self {
        Self::look(figures::bar(value, whole, BAR))
    }

    /// A bar of a count beside others.
    pub(crate) fn count_bar(count: u64, largest: Option<u64>) -> Self {
        Self::bar(count as f64, largest.unwrap_or_default() as f64)
    }

    /// For people.
    pub(crate) fn entry(&self) -> Entry {
        let (text, tone) = match self {
            Self::Text(text) => (one_line(text), Tone::Plain),
            Self::State(text, tone) => (one_line(text), *tone),
            Self::Number(number) => (grouped(*number), Tone::Plain),
            Self::Time(time) => (time.map(readable_time).unwrap_or_default(), Tone::Plain),
            Self::Shown { text, .. } => (one_line(text), Tone::Plain),
            Self::Flag(true) => ("yes".to_owned(), Tone::Plain),
            Self::Flag(false) | Self::Unset => (String::new(), Tone::Plain),
        };
        Entry { text, tone }
    }

    /// For spreadsheets.
    pub(crate) fn field(&self) -> String {
        match self {
            Self::Text(text) | Self::State(text, _) | Self::Shown { field: text, .. } => {
                text.clone()
            }
            Self::Number(number) => number.to_string(),
            Self::Time(time) => time.map(|time| time.to_string()).unwrap_or_default(),
            Self::Flag(flag) => flag.to_string(),
            Self::Unset => String::new(),
        }
    }
}

/// One column of records: its name and where its value is.
pub(crate) struct Column<'a, T> {
    pub(crate) name: String,
    value: Box<dyn Fn(&T) -> Value + 'a>,
    number: bool,
}

impl<'a, T> Column<'a, T> {
    pub(crate) fn new<V: Into<Value>>(name: &str, value: impl Fn(&T) -> V + 'a) -> Self {
        Self {
            name: name.to_owned(),
            value: Box::new(move |record| value(record).into()),
            number: false,
        }
    }

    /// A text of the record itself.
    pub(crate) fn text(name: &str, value: impl for<'r> Fn(&'r T) -> &'r str + 'a) -> Self {
        Self::new(name, move |record: &T| value(record).to_owned())
    }

    pub(crate) fn number<V: Into<Value>>(name: &str, value: impl Fn(&T) -> V + 'a) -> Self {
        Self {
            number: true,
            ..Self::new(name, value)
        }
    }

    /// The value of a record, for spreadsheets.
    pub(crate) fn field(&self, record: &T) -> String {
        (self.value)(record).field()
    }
}

/// Standard output.
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) paint: Paint,
    out: BufWriter<Stdout>,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            paint: Paint::stdout(),
            out: BufWriter::new(io::stdout()),
        }
    }

    /// Text for people.
    pub(crate) fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    /// A line for people.
    pub(crate) fn line(&mut self, text: &str) -> anyhow::Result<()> {
        writeln!(self.out, "{}", one_line(text))?;
        Ok(())
    }

    /// A heading for people.
    pub(crate) fn heading(&mut self, text: &str) -> anyhow::Result<()> {
        let text = self.paint.text(Tone::Bold, &one_line(text));
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// One JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// Lines of comma-separated values for spreadsheets: no text of theirs, which may be the partner's, is run as a formula.
    pub(crate) fn csv(
        &mut self,
        header: &[String],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> anyhow::Result<()> {
        let rows = rows.into_iter().map(spreadsheet_row);
        self.csv_as_is(&spreadsheet_row(header.to_vec()), rows)
    }

    /// One line as [`Printer::csv`] writes it, handed to the reader at once.
    pub(crate) fn csv_line(&mut self, row: Vec<String>) -> anyhow::Result<()> {
        self.csv(&row, [])?;
        self.flush()
    }

    /// Lines of comma-separated values that an import reads back.
    pub(crate) fn csv_as_is(
        &mut self,
        header: &[String],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> anyhow::Result<()> {
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(header)?;
        for row in rows {
            writer.write_record(row)?;
        }
        writer.flush()?;
        Ok(())
    }

    /// A list of records; `none` says that there are none.
    pub(crate) fn list<T: Serialize>(
        &mut self,
        records: &[T],
        columns: &[Column<'_, T>],
        none: &str,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.json(&records),
            Format::Csv => self.csv_records(records, columns),
            Format::Table if records.is_empty() => self.line(none),
            Format::Table => self.table(records, columns),
        }
    }

    /// One record.
    pub(crate) fn record<T: Serialize>(
        &mut self,
        record: &T,
        columns: &[Column<'_, T>],
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.json(record),
            Format::Csv => self.csv_records(std::slice::from_ref(record), columns),
            Format::Table => {
                let lines: Vec<(String, Entry)> = columns
                    .iter()
                    .map(|column| {
                        (
                            column.name.replace('_', " "),
                            (column.value)(record).entry(),
                        )
                    })
                    .filter(|(_, entry)| !entry.text.is_empty())
                    .collect();
                self.properties(0, &lines)
            }
        }
    }

    /// Names and values for people.
    pub(crate) fn properties(
        &mut self,
        indent: usize,
        lines: &[(String, Entry)],
    ) -> anyhow::Result<()> {
        let text = table::properties(self.paint, indent, lines);
        self.text(&text)
    }

    pub(crate) fn csv_records<T>(
        &mut self,
        records: &[T],
        columns: &[Column<'_, T>],
    ) -> anyhow::Result<()> {
        let (header, rows) = cells(records, columns);
        self.csv(&header, rows)
    }

    /// [`Printer::csv_records`] for an import.
    pub(crate) fn csv_records_as_is<T>(
        &mut self,
        records: &[T],
        columns: &[Column<'_, T>],
    ) -> anyhow::Result<()> {
        let (header, rows) = cells(records, columns);
        self.csv_as_is(&header, rows)
    }

    pub(crate) fn table<T>(
        &mut self,
        records: &[T],
        columns: &[Column<'_, T>],
    ) -> anyhow::Result<()> {
        let header: Vec<String> = columns
            .iter()
            .map(|column| column.name.replace('_', " ").to_uppercase())
            .collect();
        let right: Vec<bool> = columns.iter().map(|column| column.number).collect();
        let rows: Vec<Vec<Entry>> = records
            .iter()
            .map(|record| {
                columns
                    .iter()
                    .map(|column| (column.value)(record).entry())
                    .collect()
            })
            .collect();
        let text = table::columns(self.paint, &header, &right, &rows);
        self.text(&text)
    }

    /// What a node streams as a file, as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes)?;
        Ok(())
    }

    /// One JSON value a line, handed to the reader at once.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")?;
        self.flush()
    }

    /// Hands what was printed so far to the reader.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        Ok(())
    }

    /// Starts a list of JSON records that is written as it arrives.
    pub(crate) fn json_list(&mut self) -> JsonList<'_> {
        JsonList {
            out: &mut self.out,
            empty: true,
        }
    }

    /// Hands everything to the reader.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush()?;
        Ok(())
    }
}

/// The header and the lines of records.
fn cells<T>(
    records: &[T],
    columns: &[Column<'_, T>],
) -> (Vec<String>, impl Iterator<Item = Vec<String>>) {
    let header = columns.iter().map(|column| column.name.clone()).collect();
    let rows = records
        .iter()
        .map(|record| columns.iter().map(|column| column.field(record)).collect());
    (header, rows)
}

fn spreadsheet_row(row: Vec<String>) -> Vec<String> {
    row.into_iter().map(defused).collect()
}

/// Text that a spreadsheet would run as a formula is marked as text, as in the node's own exports.
fn defused(field: String) -> String {
    let runs = field.starts_with(['=', '@', '\t', '\r'])
        || (field.starts_with(['+', '-']) && !is_number(&field));
    if runs { format!("'{field}") } else { field }
}

/// Whether a field is a number, an amount with its currency as people write it, or the dash that stands for what is not known.
fn is_number(field: &str) -> bool {
    let number = match field.split_once(' ') {
        Some((number, currency)) if currency.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            number
        }
        _ => field,
    };
    field == "-" || number.replace(',', "").parse::<f64>().is_ok()
}

/// A JSON list under way, one record a line.
pub(crate) struct JsonList<'a> {
    out: &'a mut BufWriter<Stdout>,
    empty: bool,
}

impl JsonList<'_> {
    pub(crate) fn push(&mut self, record: &impl Serialize) -> anyhow::Result<()> {
        self.out
            .write_all(if self.empty { b"[\n  " } else { b",\n  " })?;
        self.empty = false;
        serde_json::to_writer(&mut self.out, record)?;
        Ok(())
    }

    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.out
            .write_all(if self.empty { b"[]\n" } else { b"\n]\n" })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::defused;

    #[test]
    fn formulas_are_marked_and_numbers_are_not() {
        for formula in ["=1+1", "@A1", "\t=1", "\r=1", "-A1", "+1+1", "-1 + A1"] {
            assert_eq!(defused(formula.to_owned()), format!("'{formula}"));
        }
        for plain in [
            "",
            "-",
            "-1",
            "+0.5",
            "-1250.50 EUR",
            "-1,250.50 EUR",
            "a=1",
            "Ünïted, Inc.",
        ] {
            assert_eq!(defused(plain.to_owned()), plain);
        }
    }
}
