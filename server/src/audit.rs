//! Who did what, when: append-only, each event's hash covering the one before.
//!
//! Events never hold a customer's identifier, nor a count under a threshold.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Reason};

/// The actor of what the node does by itself.
pub const SYSTEM: &str = "system";

/// Somebody looked at numbers of the dashboard. Details: `view`, the RPC; `calls`, how often of late.
pub const DASHBOARD_VIEWED: &str = "dashboard.viewed";

/// The actor of what a partner's node caused.
#[must_use]
pub fn partner(partnership_id: &str) -> String {
    format!("partner:{partnership_id}")
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Position in the log, from 1 without gaps.
    pub sequence: u64,
    /// When it happened.
    pub at: Timestamp,
    /// A token's id, [`SYSTEM`], or [`partner`].
    pub actor: String,
    /// E.g. `sharing.proposed`.
    pub action: String,
    /// The partnership it is about.
    pub partner: Option<String>,
    /// What else there is to know, by key.
    pub details: Vec<(String, String)>,
}

/// Appends an event in the transaction that does what it tells.
///
/// # Errors
/// What the store reports.
pub fn record(
    tx: &Transaction<'_>,
    at: Timestamp,
    actor: &str,
    action: &str,
    partner: Option<&str>,
    details: &[(&str, &str)],
) -> Result<(), Error> {
    let last: Option<(u64, [u8; 32])> = tx
        .prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (sequence, previous) = last.map_or((1, [0; 32]), |(sequence, hash)| (sequence + 1, hash));
    let mut details: Vec<_> = details
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    details.sort();
    let event = Event {
        sequence,
        at,
        actor: actor.to_owned(),
        action: action.to_owned(),
        partner: partner.map(str::to_owned),
        details,
    };
    let hash = chain(&previous, &event);
    tx.prepare_cached(
        "INSERT INTO audit (sequence, at_us, actor, action, partnership, details, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        sequence,
        at.as_microsecond(),
        actor,
        action,
        partner,
        serde_json::to_string(&event.details)
            .map_err(|error| Error::internal(format!("audit details: {error}")))?,
        hash,
    ])?;
    Ok(())
}

/// Events before `before`, newest first.
///
/// # Errors
/// What the store reports.
pub fn list(
    connection: &Connection,
    partner: Option<&str>,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Event>, Error> {
    let before = before.unwrap_or(i64::MAX.unsigned_abs());
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at_us, actor, action, partnership, details FROM audit \
         WHERE sequence < ?1 AND (?2 IS NULL OR partnership = ?2) ORDER BY sequence DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![before, partner, limit])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read(row)?);
    }
    Ok(events)
}

/// Visits [`DASHBOARD_VIEWED`] events of a span in microseconds since 1970: actor, view, calls.
///
/// # Errors
/// `STORAGE_FAILED` for damaged details; what the store or `visit` reports.
pub(crate) fn viewed(
    connection: &Connection,
    span: std::ops::Range<i64>,
    visit: &mut dyn FnMut(String, String, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, at_us, actor, action, partnership, details FROM audit \
         WHERE action = 'dashboard.viewed' AND at_us >= ? AND at_us < ?",
    )?;
    let mut rows = statement.query([span.start, span.end])?;
    while let Some(row) = rows.next()? {
        let Event { actor, details, .. } = read(row)?;
        let (mut view, mut calls) = (None, None);
        for (key, value) in details {
            match key.as_str() {
                "view" => view = Some(value),
                "calls" => calls = value.parse().ok(),
                _ => {}
            }
        }
        let (Some(view), Some(calls)) = (view, calls) else {
            return Err(Error::new(
                Reason::StorageFailed,
                "audit log: details are damaged",
            ));
        };
        visit(actor, view, calls)?;
    }
    Ok(())
}

/// Recomputes the chain. It shows that no event was changed, inserted or removed before the newest one; that the newest ones
/// are all there, only a copy of the last hash kept elsewhere can show.
///
/// # Errors
/// `STORAGE_FAILED` with the first event that does not fit.
pub fn verify(connection: &Connection) -> Result<u64, Error> {
    let mut statement = connection.prepare(
        "SELECT sequence, at_us, actor, action, partnership, details, hash FROM audit ORDER BY sequence",
    )?;
    let mut rows = statement.query([])?;
    let (mut count, mut previous) = (0, [0; 32]);
    while let Some(row) = rows.next()? {
        let event = read(row)?;
        let hash = chain(&previous, &event);
        count += 1;
        if event.sequence != count || row.get::<_, [u8; 32]>(6)? != hash {
            return Err(Error::new(
                Reason::StorageFailed,
                format!("audit log: event {count} was changed, removed or inserted"),
            ));
        }
        previous = hash;
    }
    Ok(count)
}

fn read(row: &rusqlite::Row<'_>) -> Result<Event, Error> {
    let damaged = |what: &str| Error::new(Reason::StorageFailed, format!("audit log: {what}"));
    Ok(Event {
        sequence: row.get(0)?,
        at: Timestamp::from_microsecond(row.get(1)?).map_err(|_| damaged("a time is damaged"))?,
        actor: row.get(2)?,
        action: row.get(3)?,
        partner: row.get(4)?,
        details: serde_json::from_str(&row.get::<_, String>(5)?)
            .map_err(|_| damaged("details are damaged"))?,
    })
}

fn chain(previous: &[u8; 32], event: &Event) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"overlap/audit/v1");
    hash.update(previous);
    hash.update(event.sequence.to_be_bytes());
    hash.update(event.at.as_microsecond().to_be_bytes());
    let mut field = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    field(&event.actor);
    field(&event.action);
    field(if event.partner.is_some() { "1" } else { "0" });
    field(event.partner.as_deref().unwrap_or_default());
    for (key, value) in &event.details {
        field(key);
        field(value);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Store;

    #[test]
    fn tampering_shows() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let at: Timestamp = "2026-03-01T12:00:00.123456Z".parse().unwrap();
        for index in 0..5 {
            store
                .write_blocking(|tx| {
                    record(
                        tx,
                        at,
                        SYSTEM,
                        "test.done",
                        Some("p"),
                        &[("n", &index.to_string())],
                    )
                })
                .unwrap();
        }
        assert_eq!(store.read_blocking(verify).unwrap(), 5);
        let page = store
            .read_blocking(|c| list(c, Some("p"), Some(4), 2))
            .unwrap();
        assert_eq!(
            page.iter().map(|event| event.sequence).collect::<Vec<_>>(),
            [3, 2]
        );
        // The log refuses changes.
        for change in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"] {
            let refused = store.write_blocking(|tx| Ok(tx.execute(change, [])?));
            assert!(refused.unwrap_err().message().contains("append-only"));
        }
        // Whoever gets round that is found out.
        for tampering in [
            "UPDATE audit SET actor = 'x' WHERE sequence = 3",
            "DELETE FROM audit WHERE sequence = 2",
            "DELETE FROM audit WHERE sequence = 1",
        ] {
            let result = store.write_blocking(|tx| {
                tx.execute_batch(
                    "DROP TRIGGER audit_keeps_rows; DROP TRIGGER audit_keeps_values;",
                )?;
                tx.execute(tampering, [])?;
                verify(tx)
            });
            assert_eq!(result.unwrap_err().reason(), Reason::StorageFailed);
        }
    }
}
