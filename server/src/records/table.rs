//! Tables as CSV or NDJSON, in chunks of whole lines (K-28).

use overlap_proto::v1;

use crate::error::Error;

/// Least bytes of a chunk but the last.
const CHUNK_BYTES: usize = 64 * 1024;

/// A value of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell(serde_json::Value);

impl<T: Into<serde_json::Value>> From<T> for Cell {
    fn from(value: T) -> Self {
        Self(value.into())
    }
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180 with a header; what is unset is empty.
    Csv,
    /// One JSON object a line; what is unset is null.
    Ndjson,
}

/// The format the API means.
///
/// # Errors
/// `INVALID_ARGUMENT` if it names none.
pub fn format(format: i32) -> Result<Format, Error> {
    match v1::ExportFormat::try_from(format) {
        Ok(v1::ExportFormat::Csv) => Ok(Format::Csv),
        Ok(v1::ExportFormat::Ndjson) => Ok(Format::Ndjson),
        _ => Err(Error::invalid("format", "must be CSV or NDJSON")),
    }
}

/// Rows under a header.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each column.
    pub fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.header.len());
        self.rows.push(row);
    }

    /// The file, chunk by chunk.
    pub fn chunks(self, format: Format) -> impl Iterator<Item = Vec<u8>> + Send {
        let Self { header, rows } = self;
        let mut rows = rows.into_iter();
        let mut first = true;
        std::iter::from_fn(move || {
            let mut chunk = Vec::new();
            if std::mem::take(&mut first) && format == Format::Csv {
                write_csv(&mut chunk, header.iter().map(|name| (*name).to_owned()));
            }
            for row in rows.by_ref() {
                match format {
                    Format::Csv => write_csv(&mut chunk, row.into_iter().map(|cell| text(cell.0))),
                    Format::Ndjson => {
                        let object: serde_json::Map<String, serde_json::Value> = header
                            .iter()
                            .map(|name| (*name).to_owned())
                            .zip(row.into_iter().map(|cell| cell.0))
                            .collect();
                        chunk.extend(serde_json::Value::from(object).to_string().into_bytes());
                        chunk.push(b'\n');
                    }
                }
                if chunk.len() >= CHUNK_BYTES {
                    break;
                }
            }
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

fn text(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn write_csv(chunk: &mut Vec<u8>, fields: impl Iterator<Item = String>) {
    let mut writer = csv::Writer::from_writer(chunk);
    let fields: Vec<String> = fields.map(defused).collect();
    writer
        .write_record(&fields)
        .expect("writing to memory does not fail");
    writer.flush().expect("writing to memory does not fail");
}

/// Text that a spreadsheet would run as a formula is marked as text.
fn defused(field: String) -> String {
    let runs = field.starts_with(['=', '@', '\t', '\r'])
        || (field.starts_with(['+', '-']) && field.parse::<f64>().is_err());
    if runs { format!("'{field}") } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "value"]);
        table.push(vec![Cell::from("a,\"b\""), Cell::from(1.5)]);
        table.push(vec![Cell::from("=1+1"), Cell::from(None::<f64>)]);
        table
    }

    /// K-28: quoting, unset cells and formulas.
    #[test]
    fn k28_csv() {
        let file: Vec<u8> = table().chunks(Format::Csv).flatten().collect();
        assert_eq!(
            String::from_utf8(file).expect("text"),
            "name,value\n\"a,\"\"b\"\"\",1.5\n'=1+1,\n"
        );
    }

    /// K-28: unset is null, not 0.
    #[test]
    fn k28_ndjson() {
        let file: Vec<u8> = table().chunks(Format::Ndjson).flatten().collect();
        assert_eq!(
            String::from_utf8(file).expect("text"),
            "{\"name\":\"a,\\\"b\\\"\",\"value\":1.5}\n{\"name\":\"=1+1\",\"value\":null}\n"
        );
    }
}
