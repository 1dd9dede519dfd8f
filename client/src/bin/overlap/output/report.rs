//! Numbers with their headings, units and what they rest on.

use overlap_client::{
    Metric, MetricQuantity, MetricUnit, MetricValue, Money, TimeSpan, Timestamp, terminal::figures,
};
use serde::Serialize;

use super::{Printer, Value};
use crate::{
    args::Format,
    table::{self, Entry, Tone},
};

/// Who reads a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Both,
    Person,
    Spreadsheet,
}

struct Heading {
    name: &'static str,
    right: bool,
    reader: Reader,
}

/// Rows of values. In a spreadsheet a column is called what the API calls the field.
#[derive(Default)]
pub(crate) struct Sheet {
    headings: Vec<Heading>,
    rows: Vec<Vec<Value>>,
}

impl Sheet {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn column(mut self, name: &'static str, right: bool, reader: Reader) -> Self {
        self.headings.push(Heading {
            name,
            right,
            reader,
        });
        self
    }

    pub(crate) fn text(self, name: &'static str) -> Self {
        self.column(name, false, Reader::Both)
    }

    pub(crate) fn number(self, name: &'static str) -> Self {
        self.column(name, true, Reader::Both)
    }

    /// Only where a person looks.
    pub(crate) fn look(self, name: &'static str) -> Self {
        self.column(name, false, Reader::Person)
    }

    /// Only where a person looks, to the right.
    pub(crate) fn look_number(self, name: &'static str) -> Self {
        self.column(name, true, Reader::Person)
    }

    /// Only in a spreadsheet.
    pub(crate) fn field(self, name: &'static str) -> Self {
        self.column(name, false, Reader::Spreadsheet)
    }

    /// A row with a value for every column.
    pub(crate) fn push(&mut self, row: Vec<Value>) {
        debug_assert_eq!(row.len(), self.headings.len(), "a value for every column");
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn columns(&self, left_out: Reader) -> impl Iterator<Item = usize> {
        (0..self.headings.len()).filter(move |index| self.headings[*index].reader != left_out)
    }

    fn csv(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let columns: Vec<usize> = self.columns(Reader::Person).collect();
        let header = columns
            .iter()
            .map(|index| self.headings[*index].name.to_owned())
            .collect();
        let rows = self
            .rows
            .iter()
            .map(|row| columns.iter().map(|index| row[*index].field()).collect())
            .collect();
        (header, rows)
    }
}

/// What a person reads: a title, rows, and lines that say what they rest on.
pub(crate) struct Report {
    pub(crate) title: Option<String>,
    pub(crate) sheet: Sheet,
    pub(crate) none: String,
    pub(crate) notes: Vec<String>,
    reader: Reader,
}

impl Report {
    pub(crate) fn new(sheet: Sheet, none: impl Into<String>) -> Self {
        Self {
            title: None,
            sheet,
            none: none.into(),
            notes: Vec::new(),
            reader: Reader::Both,
        }
    }

    /// What spreadsheets get in place of the other parts.
    pub(crate) fn for_spreadsheets(mut self) -> Self {
        self.reader = Reader::Spreadsheet;
        self
    }

    pub(crate) fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        let note = note.into();
        if !note.is_empty() {
            self.notes.push(note);
        }
        self
    }
}

impl Printer {
    /// One answer: for programs as it is, for spreadsheets and people as rows.
    pub(crate) fn report(&mut self, answer: &impl Serialize, report: Report) -> anyhow::Result<()> {
        self.reports(answer, vec![report])
    }

    /// One answer in several parts; for spreadsheets the first that is not empty, or else the first.
    pub(crate) fn reports(
        &mut self,
        answer: &impl Serialize,
        reports: Vec<Report>,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.json(answer),
            Format::Csv => {
                let part = reports
                    .iter()
                    .find(|report| !report.sheet.is_empty())
                    .or(reports.first());
                let (header, rows) = part.map(|part| part.sheet.csv()).unwrap_or_default();
                self.csv(&header, rows)
            }
            Format::Table => {
                let parts = reports
                    .iter()
                    .filter(|report| report.reader != Reader::Spreadsheet);
                for (index, report) in parts.enumerate() {
                    if index > 0 {
                        self.line("")?;
                    }
                    self.part(report)?;
                }
                Ok(())
            }
        }
    }

    fn part(&mut self, report: &Report) -> anyhow::Result<()> {
        if let Some(title) = &report.title {
            self.heading(title)?;
        }
        if report.sheet.is_empty() {
            self.line(&report.none)?;
        } else {
            self.sheet(&report.sheet)?;
        }
        if !report.notes.is_empty() {
            self.line("")?;
        }
        for note in &report.notes {
            let note = self.paint.text(Tone::Dim, &table::one_line(note));
            self.text(&note)?;
            self.text("\n")?;
        }
        Ok(())
    }

    fn sheet(&mut self, sheet: &Sheet) -> anyhow::Result<()> {
        let heading = |index: &usize| &sheet.headings[*index];
        // A column to look at that has nothing to look at would only take room.
        let shown = |index: &usize| {
            heading(index).reader == Reader::Both
                || sheet
                    .rows
                    .iter()
                    .any(|row| !row[*index].entry().text.is_empty())
        };
        let columns: Vec<usize> = sheet.columns(Reader::Spreadsheet).filter(shown).collect();
        let header: Vec<String> = columns
            .iter()
            .map(|index| heading(index).name.replace('_', " ").to_uppercase())
            .collect();
        let right: Vec<bool> = columns.iter().map(|index| heading(index).right).collect();
        let rows: Vec<Vec<Entry>> = sheet
            .rows
            .iter()
            .map(|row| {
                let entry = |index: &usize| person(&row[*index], heading(index).reader);
                columns.iter().map(entry).collect()
            })
            .collect();
        let text = table::columns(self.paint, &header, &right, &rows);
        self.text(&text)
    }
}

/// Rows of texts, whose columns only the file knows.
pub(crate) fn rows(paint: table::Paint, header: &[String], rows: &[Vec<Value>]) -> String {
    let left = vec![false; header.len()];
    let rows: Vec<Vec<Entry>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|value| person(value, Reader::Both))
                .collect()
        })
        .collect();
    table::columns(paint, header, &left, &rows)
}

/// A value that is not known is said to be so; a bar of nothing is none.
fn person(value: &Value, reader: Reader) -> Entry {
    let mut entry = match value {
        Value::Time(Some(time)) => Entry {
            text: figures::minute(*time),
            tone: Tone::Plain,
        },
        Value::Flag(false) => Entry {
            text: "no".to_owned(),
            tone: Tone::Plain,
        },
        value => value.entry(),
    };
    if entry.text.is_empty() && reader == Reader::Both {
        entry = Entry {
            text: figures::UNSET.to_owned(),
            tone: Tone::Dim,
        };
    }
    entry
}

impl Value {
    fn shown(text: impl Into<String>, field: impl Into<String>) -> Self {
        Self::Shown {
            text: text.into(),
            field: field.into(),
        }
    }

    /// A ratio, as a percentage for people.
    pub(crate) fn percent(ratio: Option<f64>) -> Self {
        ratio.map_or(Self::Unset, |ratio| {
            Self::shown(figures::percent(ratio), ratio.to_string())
        })
    }

    /// What is a percentage already.
    pub(crate) fn points(percent: Option<f64>) -> Self {
        percent.map_or(Self::Unset, |percent| {
            Self::shown(
                format!("{}%", figures::decimal(percent, 1)),
                percent.to_string(),
            )
        })
    }

    pub(crate) fn decimal(number: f64, decimals: usize) -> Self {
        Self::shown(figures::decimal(number, decimals), number.to_string())
    }

    pub(crate) fn money(money: Option<&Money>) -> Self {
        money.map_or(Self::Unset, |money| {
            Self::shown(
                figures::money(money),
                figures::money_exact(&money.currency_code, money.units, money.nanos),
            )
        })
    }

    pub(crate) fn span(span: Option<TimeSpan>) -> Self {
        span.map_or(Self::Unset, |span| {
            Self::shown(figures::time_span(span), span.to_string())
        })
    }

    pub(crate) fn quantity(quantity: Option<&MetricQuantity>) -> Self {
        quantity.map_or(Self::Unset, |quantity| {
            let field = match quantity {
                MetricQuantity::Count(count) => count.to_string(),
                MetricQuantity::Money(money) => {
                    figures::money_exact(&money.currency_code, money.units, money.nanos)
                }
                MetricQuantity::Duration(span) => span.to_string(),
                _ => String::new(),
            };
            Self::shown(figures::quantity(quantity), field)
        })
    }

    pub(crate) fn metric(unit: MetricUnit, value: &MetricValue) -> Self {
        match value.value {
            None => Self::Unset,
            Some(number) => Self::shown(figures::metric_value(unit, value), number.to_string()),
        }
    }

    /// A name of the API: for people without underscores.
    pub(crate) fn name(name: &str) -> Self {
        match name {
            "UNKNOWN" => Self::Unset,
            name => Self::shown(name.to_lowercase().replace('_', " "), name),
        }
    }

    pub(crate) fn time(time: Option<Timestamp>) -> Self {
        Self::Time(time)
    }

    pub(crate) fn look(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// Metrics, one row a value; a spreadsheet gets everything that is known of them.
pub(crate) fn metrics<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> Sheet {
    let mut sheet = metric_columns(Sheet::new());
    for metric in metrics {
        metric_rows(&mut sheet, &[], metric, []);
    }
    sheet
}

/// The columns of metrics, after others.
pub(crate) fn metric_columns(sheet: Sheet) -> Sheet {
    sheet
        .field("id")
        .text("label")
        .field("unit")
        .field("currency_code")
        .number("value")
        .look_number("made_of")
        .field("numerator")
        .field("denominator")
        .look("notes")
        .field("definition_version")
        .field("period_start")
        .field("period_end")
        .field("as_of")
        .field("data_through")
}

/// The rows of a metric after values that every row begins with, and before those of further columns, one for each of its
/// values.
pub(crate) fn metric_rows(
    sheet: &mut Sheet,
    first: &[Value],
    metric: &Metric,
    last: impl IntoIterator<Item = Vec<Value>>,
) {
    let mut last = last.into_iter();
    let unknown = MetricValue::unknown();
    let values = match metric.values.as_slice() {
        [] => std::slice::from_ref(&unknown),
        values => values,
    };
    for value in values {
        let mut row = first.to_vec();
        row.extend([
            Value::from(&metric.id),
            Value::from(&metric.label),
            Value::from(metric.unit.name()),
            Value::from(&value.currency_code),
            Value::metric(metric.unit, value),
            Value::look(figures::made_of(value)),
            Value::quantity(value.numerator.as_ref()),
            Value::quantity(value.denominator.as_ref()),
            Value::look(notes(metric)),
            Value::from(metric.definition_version.to_string()),
            Value::time(metric.period.as_ref().and_then(|period| period.start)),
            Value::time(metric.period.as_ref().and_then(|period| period.end)),
            Value::time(metric.as_of),
            Value::time(metric.data_through),
        ]);
        row.extend(last.next().unwrap_or_default());
        // Where nothing is known there is nothing to look at.
        row.resize(sheet.headings.len(), Value::Unset);
        sheet.push(row);
    }
}

fn notes(metric: &Metric) -> String {
    let notes: Vec<String> = metric
        .notes
        .iter()
        .filter(|note| note.count != 0)
        .map(|note| {
            format!(
                "{} {}",
                figures::integer(note.count),
                note.name.replace('_', " ")
            )
        })
        .collect();
    notes.join(", ")
}

/// What metrics rest on, in one line: period, as_of, data_through where they agree.
pub(crate) fn basis<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> String {
    let metrics: Vec<&Metric> = metrics.into_iter().collect();
    let Some(first) = metrics.first() else {
        return String::new();
    };
    let mut parts = Vec::new();
    if let Some(period) = &first.period
        && metrics.iter().all(|metric| metric.period == first.period)
        && let (Some(start), Some(end)) = (period.start, period.end)
    {
        parts.push(format!(
            "{} to {}",
            figures::minute(start),
            figures::minute(end)
        ));
    }
    let data_through = metrics
        .iter()
        .filter_map(|metric| metric.data_through)
        .max();
    let latest = metrics.iter().filter_map(|metric| metric.as_of).max();
    parts.push(as_of(latest, data_through));
    parts.join(" · ")
}

/// "as of ... · data through ...".
pub(crate) fn as_of(as_of: Option<Timestamp>, data_through: Option<Timestamp>) -> String {
    let shown =
        |time: Option<Timestamp>| time.map_or_else(|| figures::UNSET.to_owned(), figures::minute);
    format!(
        "as of {} · data through {}",
        shown(as_of),
        shown(data_through)
    )
}
