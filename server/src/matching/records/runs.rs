//! Runs, from the first word to their end.

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{from_json, instant, json, stored};
use crate::{
    error::{Error, Reason},
    matching::{
        failure::{Failure, Side},
        progress::{Progress, RunState},
    },
};

/// Failed runs of the partner's that are remembered.
const FAILED_KEPT: u32 = 1_000;

/// A run as the database has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Random; the same on both nodes.
    pub id: String,
    /// With whom.
    pub partnership_id: String,
    /// Where it is; for a run under way the database only knows that it has begun.
    pub state: RunState,
    /// Whether everything is matched again.
    pub full: bool,
    /// Whether this node opened the stream.
    pub initiated_here: bool,
    /// What the caller named its request.
    pub request_id: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub failure: Option<RecordedFailure>,
    /// What it did, once it is done.
    pub summary: Option<Summary>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFailure {
    /// Stable code.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Which side has to act.
    pub side: Side,
    /// Figures, e.g. of a budget.
    pub details: std::collections::BTreeMap<String, String>,
}

impl From<&Failure> for RecordedFailure {
    fn from(failure: &Failure) -> Self {
        Self {
            reason: failure.error.reason().name().to_owned(),
            message: failure.error.message().to_owned(),
            side: failure.side,
            details: failure.error.metadata().iter().cloned().collect(),
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Keys of mine that took part.
    pub my_keys: u64,
    /// Keys the partner declared, padding included.
    pub their_keys: u64,
    /// The sum of visible cells.
    pub shared_customers: Option<u64>,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Seconds by state.
    pub phase_s: std::collections::BTreeMap<String, f64>,
    /// The engine of the curve arithmetic.
    pub backend: String,
    /// The flows that ran.
    pub flows: Vec<String>,
}

impl RunRecord {
    /// The API's form; `progress` is that of a run under way.
    #[must_use]
    pub fn to_proto(&self, partner: &str, progress: Option<Progress>) -> v1::Run {
        let state = match progress {
            Some(progress) if !self.state.is_final() => progress.state,
            _ => self.state,
        };
        v1::Run {
            id: self.id.clone(),
            partner: partner.to_owned(),
            state: state.to_proto().into(),
            full: self.full,
            initiated_here: self.initiated_here,
            started_at: Some(timestamp(self.started_at)),
            ended_at: self.ended_at.map(timestamp),
            progress: progress
                .filter(|_| !self.state.is_final())
                .map(|progress| v1::Progress {
                    phase: progress.state.name().to_owned(),
                    items_done: progress.items_done,
                    items_total: progress.items_total,
                    items_per_s: progress.items_per_s,
                    eta_s: progress.eta_s,
                }),
            failure: self.failure.as_ref().map(|failure| v1::RunFailure {
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                fault: match failure.side {
                    Side::Mine => v1::Fault::Mine,
                    Side::Partner => v1::Fault::Partner,
                    Side::Network => v1::Fault::Network,
                }
                .into(),
                details: failure.details.clone().into_iter().collect(),
            }),
            summary: self.summary.as_ref().map(|summary| v1::RunSummary {
                my_keys: summary.my_keys,
                their_keys: summary.their_keys,
                shared_customers: summary.shared_customers,
                sent_bytes: summary.sent_bytes,
                received_bytes: summary.received_bytes,
                phase_s: summary.phase_s.clone().into_iter().collect(),
                backend: summary.backend.clone(),
                flows: summary.flows.clone(),
            }),
        }
    }
}

/// The API's form of an instant.
#[must_use]
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// Stores a run that begins.
///
/// # Errors
/// What the store reports.
pub fn insert(tx: &Transaction<'_>, run: &RunRecord) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO matching_runs (id, partnership_id, state, is_full, initiated_here, request_id, started_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            run.id,
            run.partnership_id,
            run.state.name(),
            run.full,
            run.initiated_here,
            run.request_id,
            run.started_at.as_millisecond(),
        ],
    )?;
    Ok(())
}

/// Forgets the oldest runs that the partner opened and that failed without a receipt: opening them costs the partner little.
///
/// # Errors
/// What the store reports.
pub fn forget_failed(tx: &Transaction<'_>, partnership_id: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM matching_runs WHERE partnership_id = ?1 AND id IN (
             SELECT id FROM matching_runs WHERE partnership_id = ?1 AND initiated_here = 0 AND state IN ('FAILED', 'CANCELLED')
                 AND id NOT IN (SELECT run_id FROM matching_receipts)
             ORDER BY started_at DESC, id DESC LIMIT -1 OFFSET ?2)",
        params![partnership_id, FAILED_KEPT],
    )?;
    Ok(())
}

/// Ends a run without a result, unless it has ended: a result that is in force stays so. Returns whether it did.
///
/// # Errors
/// What the store reports.
pub fn fail(
    tx: &Transaction<'_>,
    id: &str,
    state: RunState,
    failure: &RecordedFailure,
    now: Timestamp,
) -> Result<bool, Error> {
    let changed = tx.execute(
        "UPDATE matching_runs SET state = ?2, ended_at = ?3, failure_reason = ?4, failure_message = ?5, failure_fault = ?6,
         failure_details = ?7 WHERE id = ?1 AND state NOT IN ('DONE', 'FAILED', 'CANCELLED')",
        params![
            id,
            state.name(),
            now.as_millisecond(),
            failure.reason,
            failure.message,
            failure.side.name(),
            json(&failure.details)?,
        ],
    )?;
    Ok(changed > 0)
}

/// Restarts of a node that one run goes on after.
const MAX_RESTARTS: u32 = 1;

/// Settles the runs that the last process left behind: those that this node opened are planned again, a bounded number of
/// times; the others have failed.
///
/// # Errors
/// What the store reports.
pub fn settle_interrupted(tx: &Transaction<'_>, now: Timestamp) -> Result<(), Error> {
    tx.execute(
        "UPDATE matching_runs SET state = 'FAILED', ended_at = ?1, failure_reason = ?2,
         failure_message = 'this node was restarted during the run', failure_fault = 'MINE'
         WHERE state NOT IN ('DONE', 'FAILED', 'CANCELLED') AND NOT (initiated_here = 1 AND restarts < ?3)",
        params![
            now.as_millisecond(),
            Reason::RunInterrupted.name(),
            MAX_RESTARTS
        ],
    )?;
    tx.execute(
        "UPDATE matching_runs SET state = 'PLANNED', restarts = restarts + 1
         WHERE state NOT IN ('DONE', 'FAILED', 'CANCELLED')",
        [],
    )?;
    Ok(())
}

/// The runs that have not ended.
///
/// # Errors
/// What the store reports.
pub fn unfinished(connection: &Connection) -> Result<Vec<RunRecord>, Error> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM matching_runs WHERE state NOT IN ('DONE', 'FAILED', 'CANCELLED') ORDER BY started_at, id"
    ))?;
    let mut rows = statement.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(read(row)?);
    }
    Ok(records)
}

const COLUMNS: &str = "id, partnership_id, state, is_full, initiated_here, request_id, started_at, ended_at, \
                       failure_reason, failure_message, failure_fault, summary, failure_details";

fn read(row: &Row<'_>) -> Result<RunRecord, Error> {
    let state: String = row.get(2)?;
    let ended_at: Option<i64> = row.get(7)?;
    let reason: Option<String> = row.get(8)?;
    let message: Option<String> = row.get(9)?;
    let side: Option<String> = row.get(10)?;
    let summary: Option<String> = row.get(11)?;
    let details: Option<String> = row.get(12)?;
    Ok(RunRecord {
        id: row.get(0)?,
        partnership_id: row.get(1)?,
        state: RunState::from_name(&state)
            .ok_or_else(|| Error::internal(format!("a stored run has state {state}")))?,
        full: row.get(3)?,
        initiated_here: row.get(4)?,
        request_id: row.get(5)?,
        started_at: instant(row.get(6)?)?,
        ended_at: ended_at.map(instant).transpose()?,
        failure: match (reason, message, side.as_deref().and_then(Side::from_name)) {
            (Some(reason), Some(message), Some(side)) => Some(RecordedFailure {
                reason,
                message,
                side,
                details: details
                    .as_deref()
                    .map(from_json)
                    .transpose()?
                    .unwrap_or_default(),
            }),
            _ => None,
        },
        summary: summary.as_deref().map(from_json).transpose()?,
    })
}

fn one(
    connection: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<Option<RunRecord>, Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM matching_runs WHERE {condition}"
        ))?
        .query_row(values, |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// A run by its id.
///
/// # Errors
/// `NOT_FOUND`; what the store reports.
pub fn get(connection: &Connection, id: &str) -> Result<RunRecord, Error> {
    one(connection, "id = ?1", [id])?.ok_or_else(|| Error::not_found("run", id))
}

/// The run that a request began.
///
/// # Errors
/// What the store reports.
pub fn by_request(
    connection: &Connection,
    partnership_id: &str,
    request_id: &str,
) -> Result<Option<RunRecord>, Error> {
    one(
        connection,
        "partnership_id = ?1 AND request_id = ?2",
        [partnership_id, request_id],
    )
}

/// Runs of a partnership, newest first, without the first `offset`.
///
/// # Errors
/// What the store reports.
pub fn list(
    connection: &Connection,
    partnership_id: &str,
    offset: u64,
    limit: usize,
) -> Result<Vec<RunRecord>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM matching_runs WHERE partnership_id = ?1
         ORDER BY started_at DESC, id DESC LIMIT ?2 OFFSET ?3"
    ))?;
    let mut rows = statement.query(params![partnership_id, limit, stored(offset)?])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push(read(row)?);
    }
    Ok(runs)
}

/// Notes that a run goes on as the one that the partner opened at the same time.
///
/// # Errors
/// What the store reports.
pub fn give_way(tx: &Transaction<'_>, id: &str) -> Result<(), Error> {
    tx.execute(
        "UPDATE matching_runs SET initiated_here = 0 WHERE id = ?1",
        [id],
    )?;
    Ok(())
}

/// Notes whether a run matches everything, which both sides have agreed on.
///
/// # Errors
/// What the store reports.
pub fn set_full(tx: &Transaction<'_>, id: &str, full: bool) -> Result<(), Error> {
    tx.execute(
        "UPDATE matching_runs SET is_full = ?2 WHERE id = ?1",
        params![id, full],
    )?;
    Ok(())
}
