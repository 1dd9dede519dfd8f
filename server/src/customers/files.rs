//! Files of customers: CSV, NDJSON, and Parquet where it is built in.

mod csv;
mod ndjson;
#[cfg(feature = "parquet")]
mod parquet;
mod records;

use std::{borrow::Cow, path::Path};

use overlap_crypto::terms::KeyType;

use super::{
    draft::{Block, Draft, Encoder, Fault, Place, excerpt},
    normalize::trim,
};
use crate::error::{Error, Reason};

pub(crate) use csv::{Malformed, NOT_UTF8, Records};
pub(crate) use records::{Chunk, ChunkReader};

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet; needs the cargo feature `parquet`.
    Parquet,
}

impl Format {
    /// The format with this name, or, if it is empty, that of the file name's ending.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is no such format.
    pub fn find(name: &str, file_name: &str) -> Result<Self, Error> {
        let ending = Path::new(file_name)
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        let wanted = if name.is_empty() { ending } else { name };
        match wanted.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "ndjson" | "jsonl" => Ok(Self::Ndjson),
            "parquet" => Ok(Self::Parquet),
            _ if name.is_empty() => Err(Error::invalid(
                "format",
                format!(
                    "{file_name}: the ending does not say the format: give one of csv, ndjson, parquet"
                ),
            )),
            _ => Err(Error::invalid(
                "format",
                format!("\"{name}\" is not one of csv, ndjson, parquet"),
            )),
        }
    }
}

/// Where in a file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position<'a> {
    /// The line where the record starts, or the number of a Parquet file's row; both from 1.
    line: u64,
    /// Number and name of the column; the number is that of the value in CSV and that of the character in NDJSON.
    column: Option<(u64, &'a str)>,
}

/// An error at a place of a text file.
fn error_at(file: &str, position: Position<'_>, problem: impl Into<String>) -> Error {
    located(file, "line", position, problem)
}

fn located(file: &str, unit: &str, position: Position<'_>, problem: impl Into<String>) -> Error {
    let Position { line, column } = position;
    match column {
        Some((number, name)) => Error::invalid(
            format!("{file}, {unit} {line}, column {number} ({name})"),
            problem,
        )
        .with("file", file)
        .with(unit, line)
        .with("column", number)
        .with("column_name", name),
        None => Error::invalid(format!("{file}, {unit} {line}"), problem)
            .with("file", file)
            .with(unit, line),
    }
}

/// The error for an id that a file has twice.
pub(super) fn duplicate(file: &str, format: Format, id: &str, first: u64, second: u64) -> Error {
    let unit = if format == Format::Parquet {
        "row"
    } else {
        "line"
    };
    located(
        file,
        unit,
        Position {
            line: second,
            column: None,
        },
        format!("the id \"{id}\" is on {unit} {first} already: remove one of the two"),
    )
}

/// An error of a whole file.
pub(super) fn error_of(file: &str, problem: impl Into<String>) -> Error {
    Error::invalid(file, problem).with("file", file)
}

/// A file that cannot be read, or why the stream broke that it comes by.
pub(crate) fn unreadable(file: &str, error: &std::io::Error) -> Error {
    let of_stream = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<Error>());
    if let Some(error) = of_stream {
        return error.clone();
    }
    Error::new(
        Reason::FileUnreadable,
        format!("{file}: cannot be read: {error}"),
    )
    .with("file", file)
}

/// A line-based file, once its start has been read.
pub(super) enum Lines {
    Csv(csv::Csv),
    Ndjson(ndjson::Ndjson),
}

impl Lines {
    /// Starts on a file; what of `first` belongs to a header is taken from it.
    pub(super) fn start(file: &str, format: Format, first: &mut Chunk) -> Result<Self, Error> {
        match format {
            Format::Csv => Ok(Self::Csv(csv::Csv::start(file, first)?)),
            Format::Ndjson => Ok(Self::Ndjson(ndjson::Ndjson::new(file))),
            Format::Parquet => Err(Error::internal("Parquet is not read by lines")),
        }
    }

    /// The customers of a chunk.
    pub(super) fn block(&self, chunk: &Chunk, encoder: &Encoder) -> Result<Block, Error> {
        match self {
            Self::Csv(csv) => csv.block(chunk, encoder),
            Self::Ndjson(ndjson) => ndjson.block(chunk, encoder),
        }
    }

    /// The columns that became further fields, where a header says so.
    pub(super) fn field_columns(&self) -> Vec<String> {
        match self {
            Self::Csv(csv) => csv.field_columns(),
            Self::Ndjson(_) => Vec::new(),
        }
    }
}

/// The customers of a Parquet file, handed to `take` in blocks.
#[cfg(feature = "parquet")]
pub(super) use parquet::read as read_parquet;

/// Without the feature there is no Parquet.
#[cfg(not(feature = "parquet"))]
pub(super) fn read_parquet(
    file: &str,
    _reader: &mut dyn std::io::Read,
    _directory: &Path,
    _encoder: &Encoder,
    _take: &mut dyn FnMut(Block, u64) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    Err(error_of(
        file,
        "this node was built without Parquet: export the customers as CSV or NDJSON, or build it with `--features parquet`",
    ))
}

/// The meaning of a column or member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Id,
    Stage,
    Identifier(KeyType),
    Name,
    Owner,
    Industry,
    Region,
    Private,
    Field,
}

impl Role {
    /// The role of a column of this name; capitals do not matter.
    fn of(name: &str) -> Self {
        const ROLES: [(&str, Role); 11] = [
            ("id", Role::Id),
            ("stage", Role::Stage),
            ("email", Role::Identifier(KeyType::Email)),
            ("phone", Role::Identifier(KeyType::Phone)),
            ("domain", Role::Identifier(KeyType::Domain)),
            ("external_id", Role::Identifier(KeyType::ExternalId)),
            ("name", Role::Name),
            ("owner", Role::Owner),
            ("industry", Role::Industry),
            ("region", Role::Region),
            ("private", Role::Private),
        ];
        ROLES
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or(Self::Field, |(_, role)| role)
    }

    /// Puts the text of a column of this role and name into a draft.
    fn put<'a>(
        self,
        draft: &mut Draft<'a>,
        name: &'a str,
        text: Cow<'a, str>,
    ) -> Result<(), String> {
        match self {
            Self::Id => draft.id = text,
            Self::Stage => draft.stage = text,
            Self::Name => draft.name = text,
            Self::Owner => draft.owner = text,
            Self::Industry => draft.industry = text,
            Self::Region => draft.region = text,
            Self::Private => draft.private = truth(&text)?,
            Self::Identifier(key_type) => match text {
                Cow::Borrowed(text) => {
                    for (number, part) in text.split(SEPARATOR).enumerate() {
                        put_identifier(draft, key_type, number, Cow::Borrowed(part));
                    }
                }
                Cow::Owned(text) => {
                    for (number, part) in text.split(SEPARATOR).enumerate() {
                        put_identifier(draft, key_type, number, Cow::Owned(part.to_owned()));
                    }
                }
            },
            Self::Field => {
                let value = match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                    Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
                };
                if !value.is_empty() {
                    draft.fields.push((Cow::Borrowed(name), value));
                }
            }
        }
        Ok(())
    }

    /// The role of the column that a fault is in.
    fn of_fault(fault: &Fault) -> Option<Self> {
        match fault.place {
            Place::Id => Some(Self::Id),
            Place::Stage => Some(Self::Stage),
            Place::Name => Some(Self::Name),
            Place::Owner => Some(Self::Owner),
            Place::Industry => Some(Self::Industry),
            Place::Region => Some(Self::Region),
            Place::Identifier(key_type, _) => Some(Self::Identifier(key_type)),
            Place::Field(_) | Place::Identifiers | Place::Fields => None,
        }
    }
}

/// Adds one identifier, the value's `number`th, unless it is empty.
fn put_identifier<'a>(draft: &mut Draft<'a>, key_type: KeyType, number: usize, text: Cow<'a, str>) {
    if !trim(&text).is_empty() {
        draft.identifiers.push((key_type, number, text));
    }
}

/// A yes or no as people write it.
fn truth(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "false" | "no" | "n" | "0" => Ok(false),
        "true" | "yes" | "y" | "1" => Ok(true),
        _ => Err(format!("\"{}\" is neither true nor false", excerpt(value))),
    }
}

/// What separates several identifiers in one value.
const SEPARATOR: char = ';';
