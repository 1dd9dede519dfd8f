//! Schema changes, append-only: what has been released is never edited.

use std::path::Path;

use rusqlite::Connection;

use crate::error::{Error, Reason};

/// Applied in order; the database's `user_version` is how many have been.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_node.sql"),
    include_str!("migrations/0002_customers.sql"),
    include_str!("migrations/0003_sharing.sql"),
    include_str!("migrations/0004_matching.sql"),
    include_str!("migrations/0005_engagement.sql"),
    include_str!("migrations/0006_program.sql"),
    include_str!("migrations/0007_collaboration.sql"),
    include_str!("migrations/0008_run_restarts.sql"),
    include_str!("migrations/0009_dashboard_alerts_pieces.sql"),
    include_str!("migrations/0010_receipts.sql"),
    include_str!("migrations/0011_known_names.sql"),
    include_str!("migrations/0012_settled_policies.sql"),
];

/// Brings the schema up to date, each step in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let (applied, known) = version(connection, path)?;
    for (version, statements) in (1..=known).zip(MIGRATIONS).skip(applied as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(statements)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// How many steps the database has, and how many there are.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<(u32, u32), Error> {
    let applied: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).expect("far fewer than 2^32 migrations");
    if applied > known {
        return Err(Error::new(
            Reason::StoreSchemaNewer,
            format!(
                "{}: schema {applied} was written by a newer version, this one knows {known}: install the newer version or restore a backup",
                path.display()
            ),
        ));
    }
    Ok((applied, known))
}
