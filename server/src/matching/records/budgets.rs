//! The database's copy of the budget ledgers' state.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{number, stored};
use crate::{error::Error, matching::ledger::Balance};

/// What the database knows of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredBudget {
    /// Counts how often the ledger was opened and closed.
    pub generation: u64,
    /// The newest epoch of mine.
    pub epoch: u64,
    /// Evaluations debited as of then.
    pub queries: u64,
    /// Tags debited as of then.
    pub tags: u64,
    /// When the window of both began, Unix time.
    pub since: i64,
}

/// What the database knows of a partnership's ledger.
///
/// # Errors
/// What the store reports.
pub fn budget(
    connection: &Connection,
    partnership_id: &str,
) -> Result<Option<StoredBudget>, Error> {
    let row: Option<(i64, i64, i64, i64, i64)> = connection
        .query_row(
            "SELECT generation, epoch, queries, tags, tags_since FROM matching_budgets WHERE partnership_id = ?1",
            [partnership_id],
            |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            },
        )
        .optional()?;
    row.map(|(generation, epoch, queries, tags, since)| {
        Ok(StoredBudget {
            generation: number(generation)?,
            epoch: number(epoch)?,
            queries: number(queries)?,
            tags: number(tags)?,
            since,
        })
    })
    .transpose()
}

/// Remembers a generation of a ledger.
///
/// # Errors
/// What the store reports.
pub fn remember_budget(
    tx: &Transaction<'_>,
    partnership_id: &str,
    balance: &Balance,
) -> Result<(), Error> {
    tx.execute(
        "INSERT OR REPLACE INTO matching_budgets (partnership_id, generation, epoch, queries, tags, tags_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            partnership_id,
            stored(balance.generation)?,
            stored(balance.epoch)?,
            stored(balance.queries)?,
            stored(balance.tags)?,
            balance.since,
        ],
    )?;
    Ok(())
}
