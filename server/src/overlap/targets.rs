//! Customers marked as targets: kept on this node, never sent.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction, params};

use super::last::LastResult;
use crate::error::Error;

/// The ids of the marked customers.
///
/// # Errors
/// What the store reports.
pub fn ids(connection: &Connection, partnership_id: &str) -> Result<BTreeSet<String>, Error> {
    let mut statement = connection
        .prepare_cached("SELECT customer_id FROM matching_targets WHERE partnership_id = ?1")?;
    let rows = statement.query_map([partnership_id], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The positions of the marked customers that are still shared, ascending.
///
/// # Errors
/// What the store or the file system reports.
pub fn positions(ids: &BTreeSet<String>, last: &LastResult) -> Result<Vec<u64>, Error> {
    let mut positions = BTreeSet::new();
    for id in ids {
        positions.extend(last.files.position_of_row(id)?);
    }
    Ok(positions.into_iter().collect())
}

/// Marks or unmarks a customer by the rows of its shared customer; returns whether that changed anything.
///
/// # Errors
/// What the store reports.
pub fn set(
    tx: &Transaction<'_>,
    partnership_id: &str,
    id: &str,
    rows: &[String],
    target: bool,
) -> Result<bool, Error> {
    let mut changed = 0;
    if target {
        let marked = ids(tx, partnership_id)?;
        if !rows.iter().any(|row| marked.contains(row)) {
            changed = tx.execute(
                "INSERT INTO matching_targets (partnership_id, customer_id) VALUES (?1, ?2)",
                params![partnership_id, id],
            )?;
        }
    } else {
        for row in rows {
            changed += tx.execute(
                "DELETE FROM matching_targets WHERE partnership_id = ?1 AND customer_id = ?2",
                params![partnership_id, row],
            )?;
        }
    }
    Ok(changed > 0)
}
