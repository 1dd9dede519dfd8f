//! Records from tables: a column is a field of the kind's message by its name, a cell is text.

use std::borrow::Cow;

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind as FieldKind};
use serde_json::{Map, Value};

use super::{Refusals, finish, message, typed};
use crate::records::{batch::Batch, kind::Kind};

/// The columns of a table of records of one kind.
pub(super) struct Columns {
    kind: Kind,
    columns: Vec<Column>,
}

impl Columns {
    /// Reads the header; `place` says where a column's name is.
    ///
    /// # Errors
    /// Columns that are no fields; a table without ids.
    pub(super) fn parse<'n>(
        batch: &mut Batch,
        kind: Kind,
        names: impl Iterator<Item = &'n str>,
        place: impl Fn(&str) -> String,
    ) -> Result<Self, Refusals> {
        let mut columns: Vec<Column> = Vec::new();
        for name in names {
            match Column::parse(name.trim().trim_start_matches('\u{feff}'), kind) {
                Some(column) if columns.iter().any(|other| other.name == column.name) => {
                    batch.refuse(place(name), "is there twice".to_owned())?;
                }
                Some(column) => columns.push(column),
                None => batch.refuse(
                    place(name),
                    format!("is not a column of {} records", kind.field()),
                )?,
            }
        }
        if !columns.iter().any(|column| column.name == "id") {
            batch.refuse(place("id"), "is missing".to_owned())?;
        }
        if batch.has_refused() {
            return Err(finish(batch));
        }
        Ok(Self { kind, columns })
    }

    /// The name of a column, from 0.
    pub(super) fn name(&self, at: usize) -> Option<&str> {
        self.columns.get(at).map(|column| column.name.as_str())
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.columns.len()
    }

    /// Adds the record of a row, whose cells may be refused for reasons of the file; `place` names a column of it, or the row.
    ///
    /// # Errors
    /// The refused fields once there are too many.
    pub(super) fn push<T: AsRef<str>>(
        &self,
        batch: &mut Batch,
        cells: impl Iterator<Item = Result<T, String>>,
        place: impl Fn(&str) -> String,
    ) -> Result<(), Refusals> {
        let mut record = Map::new();
        record.insert(self.kind.field().to_owned(), Map::new().into());
        let mut good = true;
        for (column, cell) in self.columns.iter().zip(cells) {
            let put = cell.and_then(|cell| match cell.as_ref().trim() {
                "" => Ok(()),
                cell => column.put(&mut record, cell),
            });
            if let Err(problem) = put {
                batch.refuse(place(&column.name), problem)?;
                good = false;
            }
        }
        if !good {
            return Ok(());
        }
        let parsed = DynamicMessage::deserialize_with_options(
            message("overlap.v1.Record"),
            Value::from(record),
            &DeserializeOptions::new(),
        )
        .map_err(|error| error.to_string());
        match parsed.and_then(|message| typed(&message)) {
            Ok(record) => batch.push(record, |_, field| {
                let prefix = format!("{}.", self.kind.field());
                place(field.strip_prefix(&prefix).unwrap_or(field))
            }),
            Err(problem) => batch.refuse(place(""), problem),
        }
    }
}

/// A column of a table.
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
                kind => elements(cell)?
                    .iter()
                    .map(|element| value(&kind, element))
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

/// The elements of a list: separated by semicolons, or in JSON, for those that hold some themselves.
fn elements(cell: &str) -> Result<Vec<Cow<'_, str>>, String> {
    if cell.starts_with('[') {
        return serde_json::from_str(cell).map_err(|error| {
            format!(
                "must be values separated by \";\", or a list of strings in JSON as it begins with \"[\": {error}"
            )
        });
    }
    let parts = cell.split(';').map(str::trim);
    Ok(parts
        .filter(|part| !part.is_empty())
        .map(Cow::Borrowed)
        .collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::import::POOL;

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
