//! Finds customers by what they are called.

use overlap_crypto::terms::KeyType;
use rusqlite::{Connection, Row};

use super::{blob, text};
use crate::error::Error;

/// Which customers to list.
pub(in crate::customers) struct Search<'a> {
    /// Only those after this id.
    pub(in crate::customers) after: &'a str,
    /// Only this stage.
    pub(in crate::customers) stage: Option<&'a str>,
    /// Only those that [match](Searchable::matches).
    pub(in crate::customers) folded: Option<&'a str>,
    /// At most so many ids.
    pub(in crate::customers) limit: usize,
    /// Whether to go on counting past the limit.
    pub(in crate::customers) count_all: bool,
}

/// The first ids found, in ascending order, and how many customers were found in all.
pub(in crate::customers) fn find(
    connection: &Connection,
    search: &Search<'_>,
) -> Result<(Vec<String>, u64), Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, identifiers FROM customer
         WHERE id > ?1 AND (?2 IS NULL OR stage = (SELECT number FROM stage WHERE id = ?2)) ORDER BY id",
    )?;
    let mut rows = statement.query((search.after, search.stage))?;
    let mut ids = Vec::new();
    let mut found = 0;
    while let Some(row) = rows.next()? {
        let row = searchable_row(row)?;
        if let Some(folded) = search.folded
            && !row.matches(folded)?
        {
            continue;
        }
        found += 1;
        if ids.len() < search.limit {
            ids.push(row.id.to_owned());
        } else if !search.count_all {
            break;
        }
    }
    Ok((ids, found))
}

/// What a customer is searched by.
#[derive(Clone, Copy)]
pub struct Searchable<'a> {
    /// The row's id.
    pub id: &'a str,
    /// The customer's name, or empty.
    pub name: &'a str,
    identifiers: blob::Reader<'a>,
}

impl<'a> Searchable<'a> {
    /// The domains as the source has them.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if the row is damaged.
    pub fn domains(&self) -> Result<Vec<&'a str>, Error> {
        let mut domains = Vec::new();
        let mut reader = self.identifiers;
        reader.region()?;
        while let Some(entry) = reader.identifier()? {
            if entry.key_type == KeyType::Domain {
                domains.push(entry.raw);
            }
        }
        Ok(domains)
    }

    /// Whether the id, the name, or a domain as the source has it or as it is compared contains `folded`, which is in
    /// lower case, without regard to case.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if the row is damaged.
    pub fn matches(&self, folded: &str) -> Result<bool, Error> {
        if contains_folded(self.id, folded) || contains_folded(self.name, folded) {
            return Ok(true);
        }
        let mut reader = self.identifiers;
        reader.region()?;
        while let Some(entry) = reader.identifier()? {
            if entry.key_type == KeyType::Domain
                && (contains_folded(entry.raw, folded)
                    || entry.key.is_ok_and(|key| contains_folded(key, folded)))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether `text` contains `folded`, which is in lower case, without regard to case.
fn contains_folded(text: &str, folded: &str) -> bool {
    if text.is_ascii() {
        return folded.is_empty()
            || text
                .as_bytes()
                .windows(folded.len())
                .any(|window| window.eq_ignore_ascii_case(folded.as_bytes()));
    }
    text.to_lowercase().contains(folded)
}

/// Visits what the rows with these ids are searched by, in the order given; ids that do not exist are passed over. Ascending
/// ids are read in sequence.
///
/// # Errors
/// What the store or `visit` reports.
pub fn searchable(
    connection: &Connection,
    ids: &mut dyn Iterator<Item = &str>,
    visit: &mut dyn FnMut(Searchable<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement =
        connection.prepare_cached("SELECT id, name, identifiers FROM customer WHERE id = ?1")?;
    for id in ids {
        let mut rows = statement.query([id])?;
        if let Some(row) = rows.next()? {
            visit(searchable_row(row)?)?;
        }
    }
    Ok(())
}

fn searchable_row<'a>(row: &'a Row<'_>) -> Result<Searchable<'a>, Error> {
    Ok(Searchable {
        id: text(row, 0)?,
        name: text(row, 1)?,
        identifiers: blob::Reader(blob(row, 2)?),
    })
}
