//! Records as JSON and as rows: the formats that the node imports, read from the descriptors of the .proto files.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _,
    SerializeOptions, Value,
};

use super::{Record, RecordKind};
use crate::{Error, v1};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(overlap_proto::DESCRIPTORS).expect("compiled from our own .proto files")
});

fn record_message() -> MessageDescriptor {
    POOL.get_message_by_name("overlap.v1.Record")
        .expect("a message of our own .proto files")
}

fn dynamic(record: &v1::Record) -> Result<DynamicMessage, prost::DecodeError> {
    DynamicMessage::decode(record_message(), record.encode_to_vec().as_slice())
}

/// A record in the protobuf JSON mapping, with the names of the .proto files.
pub(super) fn json(record: &v1::Record) -> Result<serde_json::Value, String> {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    dynamic(record)
        .map_err(|error| error.to_string())?
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| error.to_string())
}

/// The columns of a CSV file of one kind of records, as the node imports them.
pub struct RecordColumns {
    kind: RecordKind,
    columns: Vec<(String, Vec<FieldDescriptor>)>,
}

impl RecordColumns {
    /// The columns of a kind: id and updated_at, then the fields of its message, nested ones with dots.
    #[must_use]
    pub fn of(kind: RecordKind) -> Self {
        let record = record_message();
        let mut columns = Vec::new();
        for field in ["id", "updated_at"]
            .iter()
            .filter_map(|name| record.get_field_by_name(name))
        {
            columns.push((field.name().to_owned(), vec![field]));
        }
        if let Some(content) = record.get_field_by_name(&kind.name().to_ascii_lowercase())
            && let Kind::Message(message) = content.kind()
        {
            nested(&mut columns, "", &[content], &message);
        }
        Self { kind, columns }
    }

    /// The header line.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The cells of a record of this kind.
    ///
    /// # Errors
    /// If the record is of another kind.
    pub fn cells(&self, record: &Record) -> Result<Vec<String>, Error> {
        if record.kind() != self.kind {
            return Err(Error::Response {
                missing: "records of the kind asked for",
            });
        }
        let message = dynamic(&record.0).map_err(|_| Error::Response {
            missing: "a record of this version",
        })?;
        Ok(self
            .columns
            .iter()
            .map(|(_, path)| at(&message, path))
            .collect())
    }
}

fn nested(
    columns: &mut Vec<(String, Vec<FieldDescriptor>)>,
    prefix: &str,
    path: &[FieldDescriptor],
    message: &MessageDescriptor,
) {
    for field in message.fields() {
        let name = format!("{prefix}{}", field.name());
        let path = [path, std::slice::from_ref(&field)].concat();
        match field.kind() {
            Kind::Message(inner)
                if !field.is_list()
                    && !["google.protobuf.Timestamp", "overlap.v1.Money"]
                        .contains(&inner.full_name()) =>
            {
                nested(columns, &format!("{name}."), &path, &inner);
            }
            _ => columns.push((name, path)),
        }
    }
}

fn at(message: &DynamicMessage, path: &[FieldDescriptor]) -> String {
    let Some((field, rest)) = path.split_first() else {
        return String::new();
    };
    // What is not set has no value, which is not the same as an empty one.
    if !message.has_field(field) {
        return String::new();
    }
    let value = message.get_field(field);
    match (&*value, rest) {
        (Value::Message(inner), [_, ..]) => at(inner, rest),
        (value, _) => cell(value, &field.kind()),
    }
}

fn cell(value: &Value, kind: &Kind) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(names) => names.get_value(*number).map_or_else(
                || number.to_string(),
                |value| {
                    let unspecified = names.default_value();
                    let prefix = unspecified.name().trim_end_matches("UNSPECIFIED");
                    value.name().trim_start_matches(prefix).to_owned()
                },
            ),
            _ => number.to_string(),
        },
        Value::Message(message) if message.descriptor().full_name() == "overlap.v1.Money" => {
            money(message)
        }
        Value::List(values) => match kind {
            Kind::Message(_) => message_json(value_list(values)),
            _ => list(values.iter().map(|value| cell(value, kind)).collect()),
        },
        Value::Message(message) => match mapped(message) {
            // A time is a string in the mapping.
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        },
        other => format!("{other:?}"),
    }
}

/// Values separated by semicolons, or in JSON where the node would read them as others.
fn list(elements: Vec<String>) -> String {
    let is_plain = |element: &String| {
        !element.is_empty() && element.trim() == element && !element.contains(';')
    };
    let joined = elements.join(";");
    if elements.iter().all(is_plain) && !joined.starts_with('[') {
        return joined;
    }
    serde_json::Value::from(elements).to_string()
}

fn value_list(values: &[Value]) -> Vec<serde_json::Value> {
    values
        .iter()
        .filter_map(Value::as_message)
        .map(mapped)
        .collect()
}

fn message_json(values: Vec<serde_json::Value>) -> String {
    serde_json::Value::from(values).to_string()
}

fn mapped(message: &DynamicMessage) -> serde_json::Value {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap_or_default()
}

/// E.g. "1234.50 EUR": every digit that counts.
fn money(message: &DynamicMessage) -> String {
    match message.transcode_to::<v1::Money>() {
        Ok(money) => {
            crate::terminal::figures::money_exact(&money.currency_code, money.units, money.nanos)
        }
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn lists_are_json_where_semicolons_would_read_as_others() {
        let cell = |elements: &[&str]| list(elements.iter().map(|&one| one.to_owned()).collect());
        assert_eq!(cell(&["p2", "p3"]), "p2;p3");
        assert_eq!(cell(&[]), "");
        assert_eq!(cell(&["a;b", "c"]), r#"["a;b","c"]"#);
        assert_eq!(cell(&["[1]"]), r#"["[1]"]"#);
        assert_eq!(cell(&["a", ""]), r#"["a",""]"#);
        assert_eq!(cell(&[" a"]), r#"[" a"]"#);
    }
}
