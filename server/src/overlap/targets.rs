//! Customers marked as targets: kept on this node, never sent.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction};

use super::last::LastResult;
use crate::error::Error;

const MARKED: &str = "SELECT customer_id FROM matching_targets WHERE partnership_id = ?1";
const IS_MARKED: &str =
    "SELECT EXISTS (SELECT 1 FROM matching_targets WHERE partnership_id = ?1 AND customer_id = ?2)";

/// The ids of the marked customers.
///
/// # Errors
/// What the store reports.
pub fn ids(connection: &Connection, partnership_id: &str) -> Result<BTreeSet<String>, Error> {
    let mut statement = connection.prepare_cached(MARKED)?;
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

/// Marks or unmarks a customer by the rows of its shared customer, however many others are marked; returns whether that changed
/// anything.
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
        let mut is_marked = tx.prepare_cached(IS_MARKED)?;
        for row in rows {
            if is_marked.query_row([partnership_id, row], |found| found.get(0))? {
                return Ok(false);
            }
        }
        changed = tx
            .prepare_cached(
                "INSERT INTO matching_targets (partnership_id, customer_id) VALUES (?1, ?2)",
            )?
            .execute([partnership_id, id])?;
    } else {
        let mut unmark = tx.prepare_cached(
            "DELETE FROM matching_targets WHERE partnership_id = ?1 AND customer_id = ?2",
        )?;
        for row in rows {
            changed += unmark.execute([partnership_id, row])?;
        }
    }
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus::VmStep;

    use super::*;
    use crate::storage::Store;

    /// P-15: the work to mark a customer does not grow with the number of marked ones.
    #[test]
    fn p15_marking_many_customers_is_linear() {
        const CUSTOMERS: usize = 10_000;
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let work = |tx: &Transaction<'_>| {
            for index in 0..CUSTOMERS {
                let rows = [format!("a{index}"), format!("b{index}")];
                assert!(set(tx, "prt_1", &rows[0], &rows, true)?);
            }
            let mut steps = 0;
            for sql in [MARKED, IS_MARKED] {
                steps += tx.prepare_cached(sql)?.get_status(VmStep);
            }
            assert!(steps > 0);
            let most = i32::try_from(100 * CUSTOMERS).unwrap();
            assert!(steps < most, "{steps} steps");
            assert_eq!(ids(tx, "prt_1")?.len(), CUSTOMERS);
            // By whichever row, of this partnership alone.
            let rows = ["a7".to_owned(), "b7".to_owned()];
            assert!(!set(tx, "prt_1", "b7", &rows, true)?);
            assert!(set(tx, "prt_2", "b7", &rows, true)?);
            assert!(set(tx, "prt_1", "b7", &rows, false)?);
            assert!(!set(tx, "prt_1", "b7", &rows, false)?);
            assert_eq!(ids(tx, "prt_1")?.len(), CUSTOMERS - 1);
            Ok(())
        };
        store.write_blocking(work).unwrap();
    }
}
