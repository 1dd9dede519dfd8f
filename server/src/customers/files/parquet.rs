//! Parquet files, through the format's row reader.

use std::{borrow::Cow, io::Read, path::Path};

use overlap_crypto::terms::KeyType;
use parquet::record::{Field, List, Row};

use super::{Position, Role, error_of, located, put_identifier, unreadable};
use crate::{
    customers::{
        draft::{self, Block, Draft, Encoder, Place},
        limits, spool,
    },
    error::Error,
    parquet_file::{self, CopyError, ParquetFile, Refused},
};

/// Rows of a block.
const BLOCK_ROWS: usize = 8192;

/// Reads a file, handing its customers to `take` with the file's bytes, and returns the columns that became further fields.
/// Parquet is read from its end, so the bytes go to a temporary file first.
pub(in crate::customers) fn read(
    file: &str,
    reader: &mut dyn Read,
    directory: &Path,
    encoder: &Encoder,
    take: &mut dyn FnMut(Block, u64) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    let mut copy =
        tempfile::tempfile_in(directory).map_err(|error| spool::failed(directory, &error))?;
    let bytes =
        parquet_file::copy(reader, &mut copy, limits::MAX_PARQUET_BYTES).map_err(|error| {
            match error {
                CopyError::Read(error) => unreadable(file, &error),
                CopyError::Write(error) => spool::failed(directory, &error),
                CopyError::TooLarge => error_of(
                    file,
                    format!(
                        "a Parquet file may have at most {} bytes: import it in parts",
                        limits::MAX_PARQUET_BYTES
                    ),
                ),
            }
        })?;
    if bytes == 0 {
        return Err(error_of(file, "the file is empty"));
    }
    let refused = |refused: Refused| match refused {
        Refused::Copy(error) => spool::failed(directory, &error),
        refused => error_of(file, refused.to_string()),
    };
    let parquet = ParquetFile::open(copy).map_err(refused)?;
    let columns: Vec<(String, Role)> = parquet
        .columns()
        .map(|column| (column.to_owned(), Role::of(column)))
        .collect();
    check_columns(file, &columns)?;
    let mut block = Block::default();
    let mut scratch = Vec::new();
    for (number, row) in (1..).zip(parquet.rows()) {
        let row = row.map_err(refused)?;
        let at = |place: Option<usize>, problem: String| {
            let column = place.map(|index| (index as u64 + 1, columns[index].0.as_str()));
            located(
                file,
                "row",
                Position {
                    line: number,
                    column,
                },
                problem,
            )
        };
        let draft = draft(&row, &columns).map_err(|(index, problem)| at(Some(index), problem))?;
        encoder
            .encode(&draft, number, &mut block, &mut scratch)
            .map_err(|fault| {
                let index = match &fault.place {
                    Place::Field(name) => columns.iter().position(|(other, _)| other == name),
                    _ => Role::of_fault(&fault)
                        .and_then(|role| columns.iter().position(|(_, other)| *other == role)),
                };
                at(index, fault.problem)
            })?;
        if block.entries.len() == BLOCK_ROWS {
            take(std::mem::take(&mut block), bytes)?;
        }
    }
    take(block, bytes)?;
    Ok(columns
        .into_iter()
        .filter(|(_, role)| *role == Role::Field)
        .map(|(name, _)| name)
        .collect())
}

fn check_columns(file: &str, columns: &[(String, Role)]) -> Result<(), Error> {
    for (index, (name, role)) in columns.iter().enumerate() {
        if *role == Role::Field
            && let Some(problem) = draft::field_name(name)
        {
            return Err(error_of(file, problem));
        }
        let twice = |(other, other_role): &(String, Role)| {
            other == name || (other_role == role && *role != Role::Field)
        };
        if columns[..index].iter().any(twice) {
            return Err(error_of(
                file,
                format!("two columns are named \"{name}\": rename or remove one"),
            ));
        }
    }
    for (name, role) in [("id", Role::Id), ("stage", Role::Stage)] {
        if !columns.iter().any(|(_, other)| *other == role) {
            return Err(error_of(file, format!("the file has no column \"{name}\"")));
        }
    }
    Ok(())
}

fn draft<'a>(row: &'a Row, columns: &'a [(String, Role)]) -> Result<Draft<'a>, (usize, String)> {
    let mut draft = Draft::default();
    for (index, ((_, value), (name, role))) in row.get_column_iter().zip(columns).enumerate() {
        match (role, value) {
            (Role::Identifier(key_type), Field::ListInternal(list)) => {
                listed(&mut draft, *key_type, list)
            }
            _ => scalar(value).and_then(|text| role.put(&mut draft, name, text)),
        }
        .map_err(|problem| (index, problem))?;
    }
    draft.fields.sort_unstable();
    Ok(draft)
}

/// Adds a list of texts, each of which is one identifier.
fn listed<'a>(draft: &mut Draft<'a>, key_type: KeyType, list: &'a List) -> Result<(), String> {
    for (number, value) in list.elements().iter().enumerate() {
        put_identifier(draft, key_type, number, scalar(value)?);
    }
    Ok(())
}

fn scalar(value: &Field) -> Result<Cow<'_, str>, String> {
    match value {
        Field::Null => Ok(Cow::Borrowed("")),
        Field::Str(text) => Ok(Cow::Borrowed(text)),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data())
            .map(Cow::Borrowed)
            .map_err(|_| "the text is not UTF-8".to_owned()),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
            Err("a text is wanted here, not a list or a group".to_owned())
        }
        other => parquet_file::text(other).map(Cow::Owned),
    }
}
