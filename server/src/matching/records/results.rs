//! The last good result with each partner: pointers to its files.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Summary, from_json, instant, json};
use crate::{
    error::{Error, Reason},
    overlap::{matrix::Matrix, writer::Manifest},
};

/// The last good result with a partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRecord {
    /// The run it comes from.
    pub run_id: String,
    /// The directory of its files under `runs/`.
    pub directory: String,
    /// When it came into force.
    pub completed_at: Timestamp,
    /// The matrix.
    pub matrix: Matrix,
    /// The files.
    pub manifest: Manifest,
    /// The fields the partner discloses, in the order of its labels.
    pub their_fields: Vec<String>,
}

impl ResultRecord {
    /// The bytes a receipt commits to.
    ///
    /// # Errors
    /// `INTERNAL` if they cannot be written.
    pub fn committed_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = json(&self.matrix)?.into_bytes();
        bytes.extend_from_slice(json(&self.manifest)?.as_bytes());
        Ok(bytes)
    }
}

/// The last good result with a partner, if there is one.
///
/// # Errors
/// What the store reports.
pub fn result(
    connection: &Connection,
    partnership_id: &str,
) -> Result<Option<ResultRecord>, Error> {
    let stored: Option<(String, i64, [String; 4])> = connection
        .prepare_cached(
            "SELECT run_id, completed_at, matrix, manifest, their_fields, directory FROM matching_results
             WHERE partnership_id = ?1",
        )?
        .query_row([partnership_id], |row| {
            let documents = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            Ok((row.get(0)?, row.get(1)?, documents))
        })
        .optional()?;
    stored
        .map(
            |(run_id, completed_at, [matrix, manifest, their_fields, directory])| {
                Ok(ResultRecord {
                    run_id,
                    directory,
                    completed_at: instant(completed_at)?,
                    matrix: from_json(&matrix)?,
                    manifest: from_json(&manifest)?,
                    their_fields: from_json(&their_fields)?,
                })
            },
        )
        .transpose()
}

/// Puts a result in force and ends its run. Returns the directory whose files are no longer needed.
///
/// # Errors
/// `CANCELLED` if the run was ended meanwhile, by a broken connection or on request; what the store reports.
pub fn complete(
    tx: &Transaction<'_>,
    partnership_id: &str,
    result: &ResultRecord,
    summary: &Summary,
) -> Result<Option<String>, Error> {
    let ended: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM matching_runs WHERE id = ?1 AND state IN ('FAILED', 'CANCELLED'))",
        [&result.run_id],
        |row| row.get(0),
    )?;
    if ended {
        return Err(Error::new(
            Reason::Cancelled,
            "the run was ended before its result was in force",
        ));
    }
    let previous = tx
        .query_row(
            "SELECT directory FROM matching_results WHERE partnership_id = ?1",
            [partnership_id],
            |row| row.get(0),
        )
        .optional()?;
    tx.execute(
        "INSERT OR REPLACE INTO matching_results (partnership_id, run_id, completed_at, matrix, manifest, their_fields, directory)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            partnership_id,
            result.run_id,
            result.completed_at.as_millisecond(),
            json(&result.matrix)?,
            json(&result.manifest)?,
            json(&result.their_fields)?,
            result.directory,
        ],
    )?;
    tx.execute(
        "UPDATE matching_runs SET state = 'DONE', ended_at = ?2, summary = ?3 WHERE id = ?1",
        params![
            result.run_id,
            result.completed_at.as_millisecond(),
            json(summary)?
        ],
    )?;
    Ok(previous)
}

/// The directories of all results in force.
///
/// # Errors
/// What the store reports.
pub fn directories(connection: &Connection) -> Result<std::collections::HashSet<String>, Error> {
    let mut statement = connection.prepare("SELECT directory FROM matching_results")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes what was derived from a partner's customers. What was released, and pinned, stays.
///
/// # Errors
/// What the store reports.
pub fn remove_derived(tx: &Transaction<'_>, partnership_id: &str) -> Result<(), Error> {
    for table in ["matching_results", "matching_roles", "matching_targets"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE partnership_id = ?1"),
            [partnership_id],
        )?;
    }
    Ok(())
}
