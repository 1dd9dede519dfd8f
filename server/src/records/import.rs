//! Records from CSV and NDJSON files.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    sync::LazyLock,
};

use overlap_proto::v1::{self, import_records_request::Part};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind as FieldKind,
    MessageDescriptor,
};
use serde_json::{Map, Value};

use super::{
    batch::{Batch, Refusals},
    kind::Kind,
    service::Messages,
    store::Outcome,
    times::Nanos,
};
use crate::{error::Error, storage::Store};

/// Longest line.
const MAX_LINE_BYTES: usize = 1 << 20;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(overlap_proto::DESCRIPTORS).expect("compiled from our own .proto files")
});

fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name)
        .expect("a message of our own .proto files")
}

/// Takes the file in that `messages` carry. Blocks.
///
/// # Errors
/// Every wrong field with file, line and column.
pub(super) fn import(
    mut messages: Messages<v1::ImportRecordsRequest>,
    store: Store,
    now: Nanos,
) -> Result<Outcome, Refusals> {
    let first = messages.blocking_recv().transpose()?;
    let Some(Part::Header(header)) = first.and_then(|message| message.part) else {
        return Err(Error::invalid("header", "must come first").into());
    };
    let kind = match v1::RecordKind::try_from(header.kind) {
        Ok(kind) => Kind::from_proto(kind),
        Err(_) => return Err(Error::invalid("header.kind", "is not a known kind").into()),
    };
    let file = match header.file_name.as_str() {
        "" => "file".to_owned(),
        name => name.to_owned(),
    };
    let chunks = Chunks {
        messages,
        chunk: Vec::new(),
        at: 0,
    };
    let mut batch = Batch::new(now);
    match (v1::RecordFileFormat::try_from(header.format), kind) {
        (Ok(v1::RecordFileFormat::Ndjson), kind) => ndjson(&mut batch, chunks, &file, kind)?,
        (Ok(v1::RecordFileFormat::Csv), Some(kind)) => csv(&mut batch, chunks, &file, kind)?,
        (Ok(v1::RecordFileFormat::Csv), None) => {
            return Err(Error::invalid("header.kind", "must be set for CSV").into());
        }
        _ => return Err(Error::invalid("header.format", "must be CSV or NDJSON").into()),
    }
    batch.store(&store)
}

/// The file's bytes, as they arrive.
struct Chunks {
    messages: Messages<v1::ImportRecordsRequest>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.messages.blocking_recv() {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(v1::ImportRecordsRequest {
                    part: Some(Part::Chunk(chunk)),
                })) => (self.chunk, self.at) = (chunk, 0),
                Some(Ok(_)) => return Err(io::Error::other("a header after the first message")),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn unreadable(file: &str, error: &io::Error) -> Refusals {
    Error::invalid(file, format!("cannot be read: {error}")).into()
}

fn ndjson(
    batch: &mut Batch,
    chunks: Chunks,
    file: &str,
    kind: Option<Kind>,
) -> Result<(), Refusals> {
    let record = message("overlap.v1.Record");
    let mut reader = BufReader::with_capacity(1 << 16, chunks);
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
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed: Result<DynamicMessage, serde_json::Error> = match kind {
            None => {
                let mut deserializer = serde_json::Deserializer::from_slice(&line);
                DynamicMessage::deserialize(record.clone(), &mut deserializer)
                    .and_then(|message| deserializer.end().map(|()| message))
            }
            Some(kind) => serde_json::from_slice::<Map<String, Value>>(&line)
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

/// The refused fields so far.
fn finish(batch: &mut Batch) -> Refusals {
    Refusals::Fields(batch.take_refused())
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

fn typed(message: &DynamicMessage) -> Result<v1::Record, String> {
    message
        .transcode_to()
        .map_err(|error| format!("is not a record: {error}"))
}

/// A column of a CSV file.
struct Column {
    name: String,
    /// From Record down to the field.
    path: Vec<FieldDescriptor>,
}

impl Column {
    fn parse(name: &str, kind: Kind) -> Option<Self> {
        let record = message("overlap.v1.Record");
        let full = if ["id", "updated_at", "deleted"].contains(&name) {
            name.to_owned()
        } else {
            format!("{}.{name}", kind.field())
        };
        let mut path: Vec<FieldDescriptor> = Vec::new();
        let mut inside = Some(record);
        for part in full.split('.') {
            let field = inside?.get_field_by_name(part)?;
            inside = match field.kind() {
                FieldKind::Message(message) if !field.is_list() => Some(message),
                _ => None,
            };
            path.push(field);
        }
        Some(Self {
            name: name.to_owned(),
            path,
        })
    }

    /// Puts a cell's value into the record.
    fn put(&self, record: &mut Map<String, Value>, cell: &str) -> Result<(), String> {
        let (last, parents) = self.path.split_last().expect("a column has a field");
        let value = if last.is_list() {
            match last.kind() {
                FieldKind::Message(_) => {
                    serde_json::from_str(cell).map_err(|error| format!("must be JSON: {error}"))?
                }
                kind => cell
                    .split(';')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| value(&kind, part))
                    .collect::<Result<Vec<_>, _>>()?
                    .into(),
            }
        } else {
            value(&last.kind(), cell)?
        };
        let mut inside = record;
        for parent in parents {
            inside = inside
                .entry(parent.name())
                .or_insert_with(|| Map::new().into())
                .as_object_mut()
                .ok_or("is given twice")?;
        }
        inside.insert(last.name().to_owned(), value);
        Ok(())
    }
}

/// A cell in the protobuf JSON mapping.
fn value(kind: &FieldKind, cell: &str) -> Result<Value, String> {
    match kind {
        FieldKind::String => Ok(cell.into()),
        FieldKind::Bool => match cell.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true.into()),
            "false" | "0" | "no" => Ok(false.into()),
            _ => Err("must be true or false".to_owned()),
        },
        FieldKind::Enum(names) => {
            let wanted = cell.to_ascii_uppercase().replace([' ', '-'], "_");
            names
                .values()
                .find(|name| {
                    let name = name.name();
                    name == wanted
                        || name
                            .strip_suffix(wanted.as_str())
                            .is_some_and(|prefix| prefix == prefix_of(names.name()))
                })
                .map(|name| name.name().into())
                .ok_or_else(|| format!("\"{cell}\" is not a known value"))
        }
        FieldKind::Uint32 | FieldKind::Uint64 => cell
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| "must be a whole number of at least 0".to_owned()),
        FieldKind::Int32 | FieldKind::Int64 => cell
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| "must be a whole number".to_owned()),
        FieldKind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => cell
            .parse::<jiff::Timestamp>()
            .map(|time| time.to_string().into())
            .map_err(|_| {
                "must be an RFC 3339 time with a zone, e.g. 2026-01-31T09:00:00Z".to_owned()
            }),
        FieldKind::Message(message) if message.full_name() == "overlap.v1.Money" => money(cell)
            .ok_or_else(|| "must be an amount and a currency, e.g. 1234.50 EUR".to_owned()),
        _ => serde_json::from_str(cell).map_err(|error| format!("must be JSON: {error}")),
    }
}

/// `DEAL_TYPE_` for `DealType`.
fn prefix_of(enumeration: &str) -> String {
    let mut prefix = String::new();
    for letter in enumeration.chars() {
        if letter.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    prefix
}

fn money(cell: &str) -> Option<Value> {
    let (amount, currency) = cell.trim().split_once(char::is_whitespace)?;
    let (negative, digits) = match amount.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, amount),
    };
    let (units, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if units.is_empty() || fraction.len() > 9 || !all_digits(units) || !all_digits(fraction) {
        return None;
    }
    let units: i64 = units.parse().ok()?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let sign = if negative { -1 } else { 1 };
    Some(serde_json::json!({
        "currency_code": currency.trim(),
        "units": units * i64::from(sign),
        "nanos": nanos * sign,
    }))
}

fn csv(batch: &mut Batch, chunks: Chunks, file: &str, kind: Kind) -> Result<(), Refusals> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(chunks);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(csv_error(batch, file, &error)),
    };
    let mut columns = Vec::new();
    for name in &header {
        match Column::parse(name.trim().trim_start_matches('\u{feff}'), kind) {
            Some(column) => columns.push(column),
            None => batch.refuse(
                format!("{file}, line 1, column {name}"),
                format!("is not a column of {} records", kind.field()),
            )?,
        }
    }
    if !columns.iter().any(|column| column.name == "id") {
        batch.refuse(
            format!("{file}, line 1, column id"),
            "is missing".to_owned(),
        )?;
    }
    if columns.len() < header.len() || batch.has_refused() {
        return Err(finish(batch));
    }
    let record_message = message("overlap.v1.Record");
    let mut row = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(csv_error(batch, file, &error)),
        }
        let line = row.position().map_or(0, csv::Position::line);
        let place = |column: &str| match column {
            "" => format!("{file}, line {line}"),
            column => format!("{file}, line {line}, column {column}"),
        };
        if row.len() != columns.len() {
            let problem = format!("must have {} columns, has {}", columns.len(), row.len());
            batch.refuse(place(""), problem)?;
            continue;
        }
        let mut record = Map::new();
        record.insert(kind.field().to_owned(), Map::new().into());
        let mut good = true;
        for (column, cell) in columns.iter().zip(&row) {
            let cell = cell.trim();
            if !cell.is_empty()
                && let Err(problem) = column.put(&mut record, cell)
            {
                batch.refuse(place(&column.name), problem)?;
                good = false;
            }
        }
        if !good {
            continue;
        }
        let parsed = DynamicMessage::deserialize_with_options(
            record_message.clone(),
            Value::from(record),
            &DeserializeOptions::new(),
        )
        .map_err(|error| error.to_string());
        match parsed.and_then(|message| typed(&message)) {
            Ok(record) => batch.push(record, |_, field| {
                let prefix = format!("{}.", kind.field());
                place(field.strip_prefix(&prefix).unwrap_or(field))
            })?,
            Err(problem) => batch.refuse(place(""), problem)?,
        }
    }
}

fn csv_error(batch: &mut Batch, file: &str, error: &csv::Error) -> Refusals {
    let place = match error.position() {
        Some(position) => format!("{file}, line {}", position.line()),
        None => file.to_owned(),
    };
    match batch.refuse(place, format!("is not CSV: {error}")) {
        Err(refusals) => refusals,
        Ok(()) => finish(batch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        assert_eq!(
            money("1234.5 EUR"),
            Some(serde_json::json!({"currency_code": "EUR", "units": 1234, "nanos": 500_000_000}))
        );
        assert_eq!(
            money("-0.01 USD"),
            Some(serde_json::json!({"currency_code": "USD", "units": 0, "nanos": -10_000_000}))
        );
        for wrong in ["12", "EUR 12", "1,5 EUR", "1.0000000001 EUR", ". EUR"] {
            assert_eq!(money(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn enums_are_known_with_and_without_prefix() {
        assert_eq!(prefix_of("DealType"), "DEAL_TYPE_");
        let outcome = POOL
            .get_enum_by_name("overlap.v1.DealOutcome")
            .expect("an enum");
        for cell in ["won", "WON", "DEAL_OUTCOME_WON"] {
            assert_eq!(
                value(&FieldKind::Enum(outcome.clone()), cell),
                Ok("DEAL_OUTCOME_WON".into())
            );
        }
        assert!(value(&FieldKind::Enum(outcome), "ON").is_err());
    }
}
