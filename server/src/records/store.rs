//! The table of records: last version by the platform's clock wins, whatever the order of arrival.

use overlap_proto::v1::{self, record::Content};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{kind::Kind, times::Nanos, validate::Header};
use crate::error::Error;

/// A checked record on its way into the table.
#[derive(Clone, Debug)]
pub struct Row {
    kind: Kind,
    id: String,
    partner: String,
    customer: String,
    version: Nanos,
    deleted: bool,
    body: Vec<u8>,
}

impl Row {
    /// The row of a checked record.
    #[must_use]
    pub fn new(record: &v1::Record, header: Header<'_>) -> Self {
        // The id and the version are columns; two records are the same if the rest is.
        let body = v1::Record {
            id: String::new(),
            updated_at: None,
            deleted: record.deleted,
            content: record.content.clone(),
        };
        Self {
            kind: header.kind,
            id: record.id.clone(),
            partner: header.partner.to_owned(),
            customer: header.customer.to_owned(),
            version: header.version,
            deleted: record.deleted,
            body: body.encode_to_vec(),
        }
    }
}

/// What became of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// New ones.
    pub inserted: u64,
    /// Newer versions of known ones.
    pub updated: u64,
    /// Duplicates and older versions.
    pub unchanged: u64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
    }
}

/// Stores rows, in any order.
///
/// # Errors
/// What the store reports.
pub fn upsert(transaction: &Transaction<'_>, rows: &[Row]) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let mut find = transaction
        .prepare_cached("SELECT version, deleted, body FROM records WHERE kind = ?1 AND id = ?2")?;
    let mut put = transaction.prepare_cached(
        "INSERT INTO records (kind, id, partner, customer, version, deleted, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (kind, id) DO UPDATE SET partner = ?3, customer = ?4, version = ?5, deleted = ?6, body = ?7",
    )?;
    for row in rows {
        let known: Option<(Nanos, bool, Vec<u8>)> = find
            .query_row(params![row.kind.code(), row.id], |found| {
                Ok((found.get(0)?, found.get(1)?, found.get(2)?))
            })
            .optional()?;
        let new = (row.version, row.deleted, &row.body);
        match &known {
            None => outcome.inserted += 1,
            Some((version, deleted, body)) => {
                let old = (*version, *deleted, body);
                // Of two events with one id the earlier stays, of anything else the later; equal times are decided by
                // the contents, so that the order of arrival never decides.
                let replaces = if row.kind.is_event() {
                    new < old
                } else {
                    new > old
                };
                if !replaces {
                    outcome.unchanged += 1;
                    continue;
                }
                if (*deleted, body) == (row.deleted, &row.body) {
                    outcome.unchanged += 1;
                } else {
                    outcome.updated += 1;
                }
            }
        }
        put.execute(params![
            row.kind.code(),
            row.id,
            row.partner,
            row.customer,
            row.version,
            row.deleted,
            row.body
        ])?;
    }
    Ok(outcome)
}

/// Counts a change of what numbers are made of: records and the program's settings; `of_facts` if not of portal events alone.
///
/// # Errors
/// What the store reports.
pub fn count_change(transaction: &Transaction<'_>, of_facts: bool) -> Result<(), Error> {
    transaction
        .prepare_cached("UPDATE record_state SET revision = revision + 1, facts = facts + ?")?
        .execute([of_facts])?;
    Ok(())
}

/// How often what numbers are made of changed: while it stays, they do.
///
/// # Errors
/// What the store reports.
pub fn revision(connection: &Connection) -> Result<i64, Error> {
    Ok(connection
        .prepare_cached("SELECT revision FROM record_state WHERE id = 1")?
        .query_row([], |row| row.get(0))?)
}

/// The same without portal events.
///
/// # Errors
/// What the store reports.
pub fn facts_revision(connection: &Connection) -> Result<i64, Error> {
    Ok(connection
        .prepare_cached("SELECT facts FROM record_state WHERE id = 1")?
        .query_row([], |row| row.get(0))?)
}

/// Visits the records of one kind by id.
///
/// # Errors
/// What the store or `visit` reports.
pub fn scan(
    connection: &Connection,
    kind: Kind,
    visit: &mut dyn FnMut(String, Nanos, Content) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id, version, body FROM records WHERE kind = ?1 AND NOT deleted ORDER BY id",
    )?;
    let mut rows = statement.query([kind.code()])?;
    while let Some(row) = rows.next()? {
        if let Some(content) = decode(row.get_ref(2)?.as_blob().unwrap_or_default())?.content {
            visit(row.get(0)?, row.get(1)?, content)?;
        }
    }
    Ok(())
}

/// The kind is written out in both, as the index of that kind by time wants it.
const ECOSYSTEM_EVENTS: &str = "SELECT body FROM records INDEXED BY records_ecosystem WHERE kind = 18 AND NOT deleted AND version >= ?1 AND version < ?2 ORDER BY version";
const ECOSYSTEM_THROUGH: &str =
    "SELECT max(version) FROM records INDEXED BY records_ecosystem WHERE kind = 18 AND NOT deleted";

/// Visits the ecosystem events that happened from `from` on and before `until`, by time.
///
/// # Errors
/// What the store or `visit` reports.
pub fn ecosystem_events(
    connection: &Connection,
    from: Nanos,
    until: Nanos,
    visit: &mut dyn FnMut(v1::EcosystemEventRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(ECOSYSTEM_EVENTS)?;
    let mut rows = statement.query([from, until])?;
    while let Some(row) = rows.next()? {
        if let Some(Content::EcosystemEvent(event)) =
            decode(row.get_ref(0)?.as_blob().unwrap_or_default())?.content
        {
            visit(event)?;
        }
    }
    Ok(())
}

/// When the latest ecosystem event happened.
///
/// # Errors
/// What the store reports.
pub fn ecosystem_through(connection: &Connection) -> Result<Option<Nanos>, Error> {
    Ok(connection
        .prepare_cached(ECOSYSTEM_THROUGH)?
        .query_row([], |row| row.get(0))?)
}

/// The records of one kind that are about a customer, by id.
///
/// # Errors
/// What the store reports.
pub fn of_customer(
    connection: &Connection,
    kind: Kind,
    customer: &str,
) -> Result<Vec<v1::Record>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT id, version, body FROM records WHERE kind = ?1 AND customer = ?2 AND customer <> '' AND NOT deleted ORDER BY id",
    )?;
    let mut rows = statement.query(params![kind.code(), customer])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_blob().unwrap_or_default();
        records.push(restore(kind, row.get(0)?, row.get(1)?, body)?);
    }
    Ok(records)
}

/// One record.
///
/// # Errors
/// What the store reports.
pub fn find(connection: &Connection, kind: Kind, id: &str) -> Result<Option<v1::Record>, Error> {
    let found: Option<(Nanos, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT version, body FROM records WHERE kind = ?1 AND id = ?2 AND NOT deleted",
        )?
        .query_row(params![kind.code(), id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    found
        .map(|(version, body)| restore(kind, id.to_owned(), version, &body))
        .transpose()
}

/// A page of the records of one kind after `after`, by id.
///
/// # Errors
/// What the store reports.
pub fn page(
    connection: &Connection,
    kind: Kind,
    partner: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<v1::Record>, Error> {
    let sql = if partner.is_empty() {
        "SELECT id, version, body FROM records WHERE kind = ?1 AND id > ?3 AND NOT deleted AND ?2 = '' ORDER BY id LIMIT ?4"
    } else {
        "SELECT id, version, body FROM records WHERE kind = ?1 AND partner = ?2 AND id > ?3 AND NOT deleted ORDER BY id LIMIT ?4"
    };
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![kind.code(), partner, after, limit])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_blob().unwrap_or_default();
        records.push(restore(kind, row.get(0)?, row.get(1)?, body)?);
    }
    Ok(records)
}

fn restore(kind: Kind, id: String, version: Nanos, body: &[u8]) -> Result<v1::Record, Error> {
    let mut record = decode(body)?;
    record.id = id;
    if !kind.is_event() {
        record.updated_at = Some(super::times::to_proto(version));
    }
    Ok(record)
}

fn decode(body: &[u8]) -> Result<v1::Record, Error> {
    v1::Record::decode(body)
        .map_err(|error| Error::internal(format!("a stored record cannot be decoded: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Store;

    #[test]
    fn k34_events_are_found_by_time_without_reading_the_others() {
        assert_eq!(Kind::EcosystemEvent.code(), 18);
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for (sql, times) in [(ECOSYSTEM_EVENTS, 2), (ECOSYSTEM_THROUGH, 0)] {
            let plan: String = store
                .read_blocking(|connection| {
                    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                    let times = rusqlite::params_from_iter(vec![0; times]);
                    Ok(plan.query_row(times, |row| row.get(3))?)
                })
                .unwrap();
            assert!(plan.contains("INDEX records_ecosystem"), "{plan}");
        }
    }
}
