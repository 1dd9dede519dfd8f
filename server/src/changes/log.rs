//! The log of changes. An alert names a customer by the id of my record; nothing here holds an e-mail address, a phone number
//! or anything else customers are matched on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::{
    convert::stored_time,
    error::{Error, Reason},
};

/// How many changes are kept.
pub(crate) const KEPT: u64 = 100_000;

macro_rules! kinds {
    ($($variant:ident $doc:literal;)*) => {
        /// A kind of change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $(#[doc = $doc] $variant,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind in the API's terms.
            #[must_use]
            pub const fn to_proto(self) -> v1::ChangeKind {
                match self { $(Self::$variant => v1::ChangeKind::$variant,)* }
            }
        }
    };
}

kinds! {
    SharedCustomersFound "A run found shared customers that were not shared before.";
    ResultsReplaced "A run replaced the results.";
    AttributionSent "I asked for attribution.";
    AttributionReceived "The partner asked for attribution.";
    AttributionApproved "A request was approved.";
    AttributionDenied "A request was denied.";
    AttributionCancelled "A request was cancelled.";
    AssetShared "I shared a file.";
    AssetReceived "The partner shared a file.";
    AssetUnshared "A file was taken back.";
    PartnerInfoUpdated "The partner told something new about itself.";
    TimelineUpdated "The partner's events changed.";
    Alert "Something needs attention.";
    ResultsRemoved "Everything derived with the partner was removed.";
    ProgramAlert "A number of the partner program needs attention.";
}

/// Further facts of a change, by name.
pub(crate) type Details = BTreeMap<String, String>;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position in the log.
    pub sequence: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The kind's number in the API.
    pub kind: i32,
    /// The partnership it concerns, or empty.
    pub partnership: String,
    /// What changed: an id within the kind.
    pub subject: String,
    /// Further facts.
    pub details: BTreeMap<String, String>,
}

impl Change {
    /// The change in the API's terms.
    #[must_use]
    pub fn to_proto(&self) -> v1::Change {
        v1::Change {
            at: Some(crate::convert::timestamp(self.at)),
            kind: self.kind,
            partner: self.partnership.clone(),
            subject: self.subject.clone(),
            details: self
                .details
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        }
    }
}

/// Appends a change in the transaction that makes it.
///
/// # Errors
/// What the store reports.
pub fn record(
    tx: &Transaction<'_>,
    at: Timestamp,
    kind: Kind,
    partnership: Option<&str>,
    subject: &str,
    details: &[(&str, &str)],
) -> Result<(), Error> {
    let details: BTreeMap<_, _> = details.iter().copied().collect();
    let details = serde_json::to_string(&details)
        .map_err(|error| Error::internal(format!("a change's details: {error}")))?;
    let sequence: u64 = tx
        .prepare_cached(
            "INSERT INTO changes (at_us, kind, partnership, subject, details) VALUES (?, ?, ?, ?, ?) RETURNING sequence",
        )?
        .query_row(
            params![
                at.as_microsecond(),
                i32::from(kind.to_proto()),
                partnership.unwrap_or_default(),
                subject,
                details
            ],
            |row| row.get(0),
        )?;
    if let Some(old) = sequence.checked_sub(KEPT) {
        tx.prepare_cached("DELETE FROM changes WHERE sequence <= ?")?
            .execute([old])?;
    }
    Ok(())
}

/// The position of the last change; 0 if there was none.
pub(super) fn last(connection: &Connection) -> Result<u64, Error> {
    // The sequence outlives what it numbered.
    Ok(connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")?
        .query_row([], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

/// The position before the oldest change that is kept.
pub(super) fn before_oldest(connection: &Connection) -> Result<u64, Error> {
    let oldest: Option<u64> = connection
        .prepare_cached("SELECT min(sequence) FROM changes")?
        .query_row([], |row| row.get(0))?;
    oldest.map_or_else(|| last(connection), |oldest| Ok(oldest - 1))
}

/// Up to `limit` changes after a position, whatever their kind.
///
/// # Errors
/// `CURSOR_TOO_OLD` if changes after the position are gone, `INVALID_ARGUMENT` if it lies in the future.
pub(super) fn after(
    connection: &Connection,
    position: u64,
    limit: usize,
) -> Result<Vec<Change>, Error> {
    if position < before_oldest(connection)? {
        return Err(Error::new(
            Reason::CursorTooOld,
            "cursor: the changes after it are no longer kept: read the current state, then watch without a cursor",
        ));
    }
    if position > last(connection)? {
        return Err(Error::invalid(
            "cursor",
            "is ahead of this node: its store was restored from a backup; read the current state, then watch without a cursor",
        ));
    }
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at_us, kind, partnership, subject, details FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?",
    )?;
    let mut rows = statement.query(params![position, limit])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        changes.push(Change {
            sequence: row.get(0)?,
            at: stored_time(row, 1)?,
            kind: row.get(2)?,
            partnership: row.get(3)?,
            subject: row.get(4)?,
            details: read_details(&row.get::<_, String>(5)?)?,
        });
    }
    Ok(changes)
}

fn read_details(text: &str) -> Result<Details, Error> {
    serde_json::from_str(text)
        .map_err(|_| Error::new(Reason::StorageFailed, "a change's details are damaged"))
}

/// The run that a partner's results came from when changes were last told of, and when the newest shared customer of it was
/// first found.
///
/// # Errors
/// What the store reports.
pub(crate) fn noted_run(
    connection: &Connection,
    partnership: &str,
) -> Result<(String, Timestamp), Error> {
    let mut statement = connection
        .prepare_cached("SELECT run, newest_us FROM changes_runs WHERE partnership = ?")?;
    let mut rows = statement.query([partnership])?;
    match rows.next()? {
        Some(row) => Ok((row.get(0)?, stored_time(row, 1)?)),
        None => Ok((String::new(), Timestamp::MIN)),
    }
}

/// Notes the run that a partner's results come from.
///
/// # Errors
/// What the store reports.
pub(crate) fn note_run(
    tx: &Transaction<'_>,
    partnership: &str,
    run: &str,
    newest: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO changes_runs (partnership, run, newest_us) VALUES (?, ?, ?)",
    )?
    .execute(params![partnership, run, newest.as_microsecond()])?;
    Ok(())
}

/// Removes the alerts with a partner whose details meet a condition.
///
/// # Errors
/// What the store reports.
pub(crate) fn forget_alerts(
    tx: &Transaction<'_>,
    partnership: &str,
    is_gone: impl Fn(&Details) -> bool,
) -> Result<(), Error> {
    let mut statement = tx.prepare_cached(
        "SELECT sequence, details FROM changes WHERE partnership = ? AND kind = ?",
    )?;
    let mut rows = statement.query(params![partnership, i32::from(Kind::Alert.to_proto())])?;
    let mut gone: Vec<u64> = Vec::new();
    while let Some(row) = rows.next()? {
        if is_gone(&read_details(&row.get::<_, String>(1)?)?) {
            gone.push(row.get(0)?);
        }
    }
    let mut delete = tx.prepare_cached("DELETE FROM changes WHERE sequence = ?")?;
    for sequence in gone {
        delete.execute([sequence])?;
    }
    Ok(())
}

/// Removes what names shared customers of a partner.
///
/// # Errors
/// What the store reports.
pub(crate) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM changes WHERE partnership = ? AND kind = ?",
        params![partnership, i32::from(Kind::Alert.to_proto())],
    )?;
    tx.execute(
        "DELETE FROM changes_runs WHERE partnership = ?",
        [partnership],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Store;

    #[test]
    fn the_log_is_bounded_and_an_old_cursor_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let at: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let first = KEPT + 3;
        store
            .write_blocking(|tx| {
                assert_eq!((before_oldest(tx)?, last(tx)?), (0, 0));
                assert!(after(tx, 0, 5)?.is_empty());
                record(tx, at, Kind::Alert, None, "a", &[("b", "c")])?;
                // As if many had followed.
                tx.execute(
                    "UPDATE sqlite_sequence SET seq = ? WHERE name = 'changes'",
                    [first - 1],
                )?;
                record(tx, at, Kind::AssetShared, Some("p"), "x", &[])?;
                record(tx, at, Kind::AssetUnshared, Some("p"), "x", &[])
            })
            .unwrap();
        store
            .read_blocking(|connection| {
                let kept = after(connection, first - 1, 5)?;
                assert_eq!(
                    kept.iter()
                        .map(|change| change.sequence)
                        .collect::<Vec<_>>(),
                    [first, first + 1]
                );
                assert_eq!(kept[0].subject, "x");
                assert_eq!(after(connection, first + 1, 5)?, []);
                assert_eq!(after(connection, first - 1, 1)?.len(), 1);
                let old = after(connection, 0, 5).unwrap_err();
                assert_eq!(old.reason(), Reason::CursorTooOld);
                let ahead = after(connection, first + 2, 5).unwrap_err();
                assert_eq!(ahead.reason(), Reason::InvalidArgument);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn every_kind_has_its_own_number() {
        let mut numbers: Vec<i32> = Kind::ALL
            .iter()
            .map(|kind| kind.to_proto().into())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (1..=15).collect::<Vec<_>>());
    }
}
