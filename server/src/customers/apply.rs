//! Writing sorted customers into the store, deleting them, and bringing keys up to date with the rules.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use overlap_crypto::terms::KeyType;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{
    blob,
    draft::Record,
    normalize::{self, NORMALIZER_VERSION, Region, SUFFIX_LIST_VERSION},
    spool::Merge,
};
use crate::{clock::Clock, error::Error, storage::Store};

/// Tombstones are kept for longer than any run refers back.
const TOMBSTONE_AGE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Rows looked at between two writes.
const PAGE_ROWS: usize = 1024;
/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 8192;

/// What a file or stream changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) inserted: u64,
    pub(super) updated: u64,
    pub(super) unchanged: u64,
    pub(super) deleted: u64,
}

/// How to write.
pub(super) struct Plan<'a> {
    /// Delete every customer that is not named.
    pub(super) replace_all: bool,
    pub(super) now: Timestamp,
    /// The error for an id that occurs twice, from its two origins.
    pub(super) duplicate: &'a dyn Fn(&str, u64, u64) -> Error,
    /// Takes the number of customers written so far.
    pub(super) progress: &'a mut dyn FnMut(u64),
}

/// The store's own account of its customers.
pub(super) struct State {
    pub(super) change_seq: u64,
    pub(super) pruned_seq: u64,
    pub(super) customers: u64,
    pub(super) keys_are_current: bool,
}

pub(super) fn state(connection: &Connection) -> Result<State, Error> {
    Ok(connection.prepare_cached(
        "SELECT change_seq, pruned_seq, customers, normalizer_version, suffix_list_version FROM customer_state",
    )?.query_row([], |row| {
        let customers = row.get(2)?;
        Ok(State {
            change_seq: row.get(0)?,
            pruned_seq: row.get(1)?,
            customers,
            keys_are_current: customers == 0
                || (row.get::<_, u16>(3)? == NORMALIZER_VERSION
                    && row.get_ref(4)?.as_str()? == SUFFIX_LIST_VERSION),
        })
    })?)
}

/// Inserts or replaces customers.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    merge: &mut Merge,
    plan: Plan<'_>,
) -> Result<Applied, Error> {
    renormalize(transaction, plan.now)?;
    let state = state(transaction)?;
    let seq = state.change_seq + 1;
    let mut select = transaction.prepare_cached(
        "SELECT stage, private, name, identifiers, details FROM customer WHERE id = ?1",
    )?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO customer (id, stage, private, changed_seq, identifiers, name, updated_at_ms, details)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut update = transaction.prepare_cached(
        "UPDATE customer SET stage = ?2, private = ?3, changed_seq = ?4, identifiers = ?5, name = ?6,
         updated_at_ms = ?7, details = ?8 WHERE id = ?1",
    )?;
    let mut revive = transaction.prepare_cached("DELETE FROM customer_tombstone WHERE id = ?1")?;
    let tombstones: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM customer_tombstone)",
        [],
        |row| row.get(0),
    )?;
    let now_ms = plan.now.as_millisecond();
    let mut applied = Applied::default();
    let mut written = 0;
    let mut last: Option<(String, u64)> = None;
    let mut absent = plan
        .replace_all
        .then(|| Absent::new(transaction, seq, now_ms))
        .transpose()?;
    while let Some(record) = merge.next()? {
        if let Some((id, origin)) = &mut last {
            if id == record.id {
                return Err((plan.duplicate)(record.id, *origin, record.origin));
            }
            id.clear();
            id.push_str(record.id);
            *origin = record.origin;
        } else {
            last = Some((record.id.to_owned(), record.origin));
        }
        if let Some(absent) = &mut absent {
            applied.deleted += absent.delete_before(record.id)?;
        }
        let same = if state.customers == 0 {
            None
        } else {
            select
                .query_row([record.id], |row| {
                    Ok(row.get::<_, i64>(0)? == record.stage
                        && row.get::<_, bool>(1)? == record.private
                        && row.get_ref(2)?.as_str()? == record.name
                        && row.get_ref(3)?.as_blob()? == record.identifiers
                        && row.get_ref(4)?.as_blob()? == record.details)
                })
                .optional()?
        };
        let Record {
            id,
            stage,
            private,
            name,
            identifiers,
            details,
            ..
        } = record;
        match same {
            Some(true) => applied.unchanged += 1,
            Some(false) => {
                update.execute(params![
                    id,
                    stage,
                    private,
                    seq,
                    identifiers,
                    name,
                    now_ms,
                    details
                ])?;
                applied.updated += 1;
            }
            None => {
                insert.execute(params![
                    id,
                    stage,
                    private,
                    seq,
                    identifiers,
                    name,
                    now_ms,
                    details
                ])?;
                if tombstones {
                    revive.execute([id])?;
                }
                applied.inserted += 1;
            }
        }
        written += 1;
        if written % PROGRESS_ROWS == 0 {
            (plan.progress)(written);
        }
    }
    if let Some(absent) = &mut absent {
        applied.deleted += absent.delete_rest()?;
    }
    (plan.progress)(written);
    finish(transaction, &state, applied, plan.now)?;
    Ok(applied)
}

/// Deletes customers by id, in ascending order; an id that does not exist is passed over.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    ids: &[String],
    now: Timestamp,
) -> Result<u64, Error> {
    let state = state(transaction)?;
    let mut remove = Remove::new(transaction, state.change_seq + 1, now.as_millisecond())?;
    let mut applied = Applied::default();
    for id in ids {
        applied.deleted += remove.delete(id)?;
    }
    finish(transaction, &state, applied, now)?;
    Ok(applied.deleted)
}

fn finish(
    transaction: &Transaction<'_>,
    before: &State,
    applied: Applied,
    now: Timestamp,
) -> Result<(), Error> {
    let Applied {
        inserted,
        updated,
        deleted,
        ..
    } = applied;
    if inserted + updated + deleted > 0 {
        transaction.execute(
            "UPDATE customer_state SET change_seq = ?1, customers = ?2, normalizer_version = ?3,
             suffix_list_version = ?4",
            params![
                before.change_seq + 1,
                before.customers + inserted - deleted,
                if before.keys_are_current {
                    NORMALIZER_VERSION
                } else {
                    0
                },
                SUFFIX_LIST_VERSION
            ],
        )?;
    }
    prune(transaction, now)
}

/// Forgets deletions that are older than any run refers back.
fn prune(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), Error> {
    let horizon = (now - TOMBSTONE_AGE).as_millisecond();
    let oldest: Option<i64> = transaction
        .prepare_cached(
            "SELECT deleted_at_ms FROM customer_tombstone ORDER BY changed_seq LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?;
    if oldest.is_none_or(|oldest| oldest >= horizon) {
        return Ok(());
    }
    let pruned: u64 = transaction.query_row(
        "SELECT max(changed_seq) FROM customer_tombstone WHERE deleted_at_ms < ?1",
        [horizon],
        |row| row.get(0),
    )?;
    transaction.execute(
        "DELETE FROM customer_tombstone WHERE changed_seq <= ?1",
        [pruned],
    )?;
    transaction.execute(
        "UPDATE customer_state SET pruned_seq = max(pruned_seq, ?1)",
        [pruned],
    )?;
    Ok(())
}

/// Deletes rows and remembers that they were there.
struct Remove<'a> {
    delete: rusqlite::CachedStatement<'a>,
    bury: rusqlite::CachedStatement<'a>,
    seq: u64,
    now_ms: i64,
}

impl<'a> Remove<'a> {
    fn new(transaction: &'a Transaction<'_>, seq: u64, now_ms: i64) -> Result<Self, Error> {
        Ok(Self {
            delete: transaction.prepare_cached("DELETE FROM customer WHERE id = ?1")?,
            bury: transaction.prepare_cached(
                "INSERT OR REPLACE INTO customer_tombstone (id, changed_seq, deleted_at_ms) VALUES (?1, ?2, ?3)",
            )?,
            seq,
            now_ms,
        })
    }

    fn delete(&mut self, id: &str) -> Result<u64, Error> {
        let deleted = self.delete.execute([id])?;
        if deleted > 0 {
            self.bury.execute(params![id, self.seq, self.now_ms])?;
        }
        Ok(deleted as u64)
    }
}

/// Deletes the stored customers that an ascending stream of ids leaves out.
struct Absent<'a> {
    page: rusqlite::CachedStatement<'a>,
    remove: Remove<'a>,
    ids: VecDeque<String>,
    /// The last id of the last page.
    last: String,
    more: bool,
}

impl<'a> Absent<'a> {
    fn new(transaction: &'a Transaction<'_>, seq: u64, now_ms: i64) -> Result<Self, Error> {
        Ok(Self {
            page: transaction
                .prepare_cached("SELECT id FROM customer WHERE id > ?1 ORDER BY id LIMIT ?2")?,
            remove: Remove::new(transaction, seq, now_ms)?,
            ids: VecDeque::new(),
            last: String::new(),
            more: true,
        })
    }

    /// Deletes what was stored between the previous id and `id`. To be called before `id` is written, or a later page
    /// would take it for one that was there.
    fn delete_before(&mut self, id: &str) -> Result<u64, Error> {
        let mut deleted = 0;
        while self.fill()? {
            let Some(stored) = self.ids.pop_front_if(|stored| stored.as_str() <= id) else {
                break;
            };
            if stored != id {
                deleted += self.remove.delete(&stored)?;
            }
        }
        Ok(deleted)
    }

    fn delete_rest(&mut self) -> Result<u64, Error> {
        let mut deleted = 0;
        while self.fill()? {
            while let Some(stored) = self.ids.pop_front() {
                deleted += self.remove.delete(&stored)?;
            }
        }
        Ok(deleted)
    }

    /// Whether there is a stored id left to look at.
    fn fill(&mut self) -> Result<bool, Error> {
        if self.ids.is_empty() && self.more {
            let mut rows = self.page.query(params![self.last, PAGE_ROWS])?;
            while let Some(row) = rows.next()? {
                self.ids.push_back(row.get(0)?);
            }
            self.more = self.ids.len() == PAGE_ROWS;
            if let Some(last) = self.ids.back() {
                self.last.clone_from(last);
            }
        }
        Ok(!self.ids.is_empty())
    }
}

/// Makes the keys anew if another version of the rules made them; a node does so when it starts. Returns how many customers
/// got other keys.
///
/// # Errors
/// What the store reports.
pub fn bring_keys_up_to_date(store: &Store, clock: &dyn Clock) -> Result<u64, Error> {
    if store.read_blocking(state)?.keys_are_current {
        return Ok(0);
    }
    store.write_blocking(|transaction| renormalize(transaction, clock.now()))
}

fn renormalize(transaction: &Transaction<'_>, now: Timestamp) -> Result<u64, Error> {
    let state = state(transaction)?;
    if state.keys_are_current {
        return Ok(0);
    }
    let seq = state.change_seq + 1;
    let mut page = transaction.prepare_cached(
        "SELECT id, identifiers FROM customer WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut write = transaction.prepare_cached(
        "UPDATE customer SET identifiers = ?2, changed_seq = ?3, updated_at_ms = ?4 WHERE id = ?1",
    )?;
    let mut last = String::new();
    let mut changed = 0;
    loop {
        let rows = page
            .query_map(params![last, PAGE_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<Vec<(String, Vec<u8>)>, _>>()?;
        for (id, old) in &rows {
            let new = keys_anew(old)?;
            if new != *old {
                write.execute(params![id, new, seq, now.as_millisecond()])?;
                changed += 1;
            }
        }
        match rows.into_iter().next_back() {
            Some((id, _)) => last = id,
            None => break,
        }
    }
    transaction.execute(
        "UPDATE customer_state SET change_seq = ?1, normalizer_version = ?2, suffix_list_version = ?3",
        params![
            if changed > 0 { seq } else { state.change_seq },
            NORMALIZER_VERSION,
            SUFFIX_LIST_VERSION
        ],
    )?;
    Ok(changed)
}

fn keys_anew(old: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = blob::Reader(old);
    if reader.is_empty() {
        return Ok(Vec::new());
    }
    let code = reader.region()?;
    let region = Region::parse(code.unwrap_or_default(), "region").map_err(|_| blob::damaged())?;
    let mut new = Vec::with_capacity(old.len());
    blob::begin_identifiers(&mut new, code);
    while let Some(entry) = reader.identifier()? {
        let key_type: KeyType = entry.key_type;
        let key = normalize::normalize(key_type, entry.raw, region);
        blob::put_identifier(
            &mut new,
            key_type,
            entry.raw,
            key.as_deref().map_err(|outcome| *outcome),
        );
    }
    Ok(new)
}
