//! Records from NDJSON files, whole or without their kind.

use std::io::{BufRead as _, BufReader, Read};

use prost_reflect::DynamicMessage;
use serde_json::{Map, Value};

use super::{Refusals, finish, message, typed, unreadable};
use crate::records::{batch::Batch, kind::Kind};

/// Longest line.
const MAX_LINE_BYTES: usize = 1 << 20;
/// What some programs begin a UTF-8 file with. It is no part of the text, and RFC 8259 section 8.1 lets a parser pass over it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Adds the file's records.
pub(super) fn read(
    batch: &mut Batch,
    file_bytes: impl Read,
    file: &str,
    kind: Option<Kind>,
) -> Result<(), Refusals> {
    let record = message("overlap.v1.Record");
    let mut reader = BufReader::with_capacity(1 << 16, file_bytes);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = (&mut reader)
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| unreadable(file, &error))?;
        if read == 0 {
            break;
        }
        let place = |column: &str| match column {
            "" => format!("{file}, line {number}"),
            column => format!("{file}, line {number}, column {column}"),
        };
        if line.len() > MAX_LINE_BYTES {
            batch.refuse(place(""), "must be at most 1 MiB long".to_owned())?;
            return Err(finish(batch));
        }
        let text = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if number == 1 => rest,
            _ => line.as_slice(),
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        let parsed: Result<DynamicMessage, serde_json::Error> = match kind {
            None => {
                let mut deserializer = serde_json::Deserializer::from_slice(text);
                DynamicMessage::deserialize(record.clone(), &mut deserializer)
                    .and_then(|message| deserializer.end().map(|()| message))
            }
            Some(kind) => serde_json::from_slice::<Map<String, Value>>(text)
                .map(|object| nested(object, kind))
                .and_then(|value| DynamicMessage::deserialize(record.clone(), value)),
        };
        let parsed = parsed.map_err(|error| (error.column(), error.to_string()));
        match parsed.and_then(|message| typed(&message).map_err(|problem| (0, problem))) {
            Ok(record) => batch.push(record, |_, field| place(field))?,
            Err((0, problem)) => batch.refuse(place(""), problem)?,
            Err((column, problem)) => batch.refuse(place(&column.to_string()), problem)?,
        }
    }
    Ok(())
}

/// A record from an object that holds the kind's fields directly, unless it names the kind itself.
fn nested(mut object: Map<String, Value>, kind: Kind) -> Value {
    let field = message("overlap.v1.Record")
        .get_field_by_name(kind.field())
        .expect("a field of Record");
    if object.contains_key(field.name()) || object.contains_key(field.json_name()) {
        return object.into();
    }
    let mut record = Map::new();
    for key in ["id", "updated_at", "updatedAt", "deleted"] {
        if let Some(value) = object.remove(key) {
            record.insert(key.to_owned(), value);
        }
    }
    record.insert(field.name().to_owned(), object.into());
    record.into()
}
