//! Records from Parquet files, through the format's row reader. A column's text is that of a CSV file's cell; times and lists
//! may also have the format's own types.

use std::io::{self, Read};

use parquet::record::Field;

use super::{Refusals, columns::Columns, unreadable};
use crate::{
    error::{Error, Reason},
    parquet_file::{self, CopyError, ParquetFile, Refused},
    records::{batch::Batch, kind::Kind},
};

/// Bytes of the largest file, which is kept in a temporary one while it is read.
const MAX_BYTES: u64 = 4 << 30;

/// Adds the file's records. Parquet is read from its end, so the bytes go to a temporary file first.
pub(super) fn read(
    batch: &mut Batch,
    mut file_bytes: impl Read,
    file: &str,
    kind: Kind,
) -> Result<(), Refusals> {
    let no_room = |error: io::Error| {
        Error::new(
            Reason::DiskFull,
            format!("a temporary file cannot be written: {error}: free some space and try again"),
        )
    };
    let mut copy = tempfile::tempfile().map_err(no_room)?;
    parquet_file::copy(&mut file_bytes, &mut copy, MAX_BYTES).map_err(|error| match error {
        CopyError::Read(error) => unreadable(file, &error),
        CopyError::Write(error) => no_room(error).into(),
        CopyError::TooLarge => Error::new(
            Reason::QuotaExhausted,
            format!("{file}: a file may have at most {MAX_BYTES} bytes: send it in parts"),
        )
        .into(),
    })?;
    let refused = |refused: Refused| match refused {
        Refused::Copy(_) => Error::internal(refused.to_string()),
        refused => Error::invalid(file, refused.to_string()),
    };
    let parquet = ParquetFile::open(copy).map_err(refused)?;
    let columns = Columns::parse(batch, kind, parquet.columns(), |column| {
        format!("{file}, column {column}")
    })?;
    for (number, row) in (1_u64..).zip(parquet.rows()) {
        let row = row.map_err(refused)?;
        let cells = row.get_column_iter().map(|(_, value)| text(value));
        columns.push(batch, cells, |column| match column {
            "" => format!("{file}, row {number}"),
            column => format!("{file}, row {number}, column {column}"),
        })?;
    }
    Ok(())
}

/// A value as a CSV file's cell would hold it.
fn text(value: &Field) -> Result<String, String> {
    let instant = |at: Result<jiff::Timestamp, jiff::Error>| {
        at.map(|at| at.to_string())
            .map_err(|_| "is out of range".to_owned())
    };
    match value {
        Field::Null => Ok(String::new()),
        Field::Str(text) => Ok(text.clone()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data())
            .map(str::to_owned)
            .map_err(|_| "the text is not UTF-8".to_owned()),
        Field::TimestampMillis(at) => instant(jiff::Timestamp::from_millisecond(*at)),
        Field::TimestampMicros(at) => instant(jiff::Timestamp::from_microsecond(*at)),
        Field::ListInternal(list) => {
            let elements: Vec<String> = list
                .elements()
                .iter()
                .map(|element| match element {
                    Field::ListInternal(_) | Field::Group(_) | Field::MapInternal(_) => {
                        Err("a list of plain values is wanted here".to_owned())
                    }
                    plain => text(plain),
                })
                .collect::<Result<_, _>>()?;
            let joined = elements.join(";");
            if joined.starts_with('[') || elements.iter().any(|element| element.contains(';')) {
                return serde_json::to_string(&elements).map_err(|error| error.to_string());
            }
            Ok(joined)
        }
        Field::Group(_) | Field::MapInternal(_) => {
            Err("a text is wanted here, not a group".to_owned())
        }
        other => parquet_file::text(other),
    }
}
