//! Records from CSV files.

use std::io::Read;

use super::{Refusals, columns::Columns, finish};
use crate::records::{batch::Batch, kind::Kind};

/// Adds the file's records.
pub(super) fn read(
    batch: &mut Batch,
    file_bytes: impl Read,
    file: &str,
    kind: Kind,
) -> Result<(), Refusals> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(file_bytes);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(not_csv(batch, file, &error)),
    };
    let columns = Columns::parse(batch, kind, header.iter(), |column| {
        format!("{file}, line 1, column {column}")
    })?;
    let mut row = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(not_csv(batch, file, &error)),
        }
        let line = row.position().map_or(0, csv::Position::line);
        let place = |column: &str| match column {
            "" => format!("{file}, line {line}"),
            column => format!("{file}, line {line}, column {column}"),
        };
        if row.len() == columns.len() {
            columns.push(batch, row.iter().map(Ok), place)?;
        } else {
            let problem = format!("must have {} columns, has {}", columns.len(), row.len());
            batch.refuse(place(""), problem)?;
        }
    }
}

fn not_csv(batch: &mut Batch, file: &str, error: &csv::Error) -> Refusals {
    let place = match error.position() {
        Some(position) => format!("{file}, line {}", position.line()),
        None => file.to_owned(),
    };
    match batch.refuse(place, format!("is not CSV: {error}")) {
        Err(refusals) => refusals,
        Ok(()) => finish(batch),
    }
}
