//! Records from CSV files, which are read as those of customers are.

use std::io::Read;

use super::{Refusals, columns::Columns, finish};
use crate::{
    customers::files::{ChunkReader, Format, Malformed, NOT_UTF8, Records},
    records::{batch::Batch, kind::Kind},
};

/// Adds the file's records.
pub(super) fn read(
    batch: &mut Batch,
    mut file_bytes: impl Read + Send,
    file: &str,
    kind: Kind,
) -> Result<(), Refusals> {
    let mut reader = ChunkReader::new(file, Format::Csv, &mut file_bytes);
    let mut header: Option<Columns> = None;
    loop {
        let chunk = match reader.next() {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            // What is wrong before it comes first.
            Err(_) if batch.has_refused() => return Err(finish(batch)),
            Err(error) => return Err(error.into()),
        };
        let mut records = Records::new(&chunk.bytes, chunk.line);
        let mut values = Vec::new();
        loop {
            let line = match records.next(&mut values) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(malformed) => return Err(not_csv(batch, file, header.as_ref(), malformed)),
            };
            let place = |column: &str| match column {
                "" => format!("{file}, line {line}"),
                column => format!("{file}, line {line}, column {column}"),
            };
            let Some(columns) = &header else {
                let names: Vec<_> = values
                    .iter()
                    .map(|name| String::from_utf8_lossy(name))
                    .collect();
                let names = names.iter().map(AsRef::as_ref);
                header = Some(Columns::parse(batch, kind, names, place)?);
                continue;
            };
            if values.len() == columns.len() {
                let cells = values.iter().map(|cell| std::str::from_utf8(cell));
                let cells = cells.map(|cell| cell.map_err(|_| NOT_UTF8.to_owned()));
                columns.push(batch, cells, place)?;
            } else {
                let problem = format!("must have {} columns, has {}", columns.len(), values.len());
                batch.refuse(place(""), problem)?;
            }
        }
    }
    match header {
        Some(_) => Ok(()),
        None => not_a_table(batch, file),
    }
}

fn not_a_table(batch: &mut Batch, file: &str) -> Result<(), Refusals> {
    batch.refuse(file.to_owned(), "the file has no header".to_owned())?;
    Err(finish(batch))
}

fn not_csv(
    batch: &mut Batch,
    file: &str,
    header: Option<&Columns>,
    malformed: Malformed,
) -> Refusals {
    let Malformed {
        line,
        column,
        problem,
    } = malformed;
    let name = header.and_then(|columns| columns.name(column));
    let place = match name {
        Some(name) => format!("{file}, line {line}, column {name}"),
        None => format!("{file}, line {line}"),
    };
    match batch.refuse(place, problem) {
        Err(refusals) => refusals,
        Ok(()) => finish(batch),
    }
}
