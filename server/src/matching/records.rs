//! What the database keeps of runs: pointers and small tables.

use jiff::Timestamp;
use overlap_crypto::{handshake::ListQuerier, receipt::SignedReceipt};
use overlap_proto::v1;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{
    failure::{Failure, Side},
    progress::{Progress, RunState},
};
use crate::{
    error::{Error, Reason},
    overlap::{matrix::Matrix, writer::Manifest},
};

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
}

impl From<&Failure> for RecordedFailure {
    fn from(failure: &Failure) -> Self {
        Self {
            reason: failure.error.reason().name().to_owned(),
            message: failure.error.message().to_owned(),
            side: failure.side,
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

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("JSON: {error}")))
}

fn from_json<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::internal(format!("a stored document is malformed: {error}")))
}

fn instant(milliseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|error| Error::internal(format!("a stored time is malformed: {error}")))
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
        "UPDATE matching_runs SET state = ?2, ended_at = ?3, failure_reason = ?4, failure_message = ?5, failure_fault = ?6
         WHERE id = ?1 AND state NOT IN ('DONE', 'FAILED', 'CANCELLED')",
        params![
            id,
            state.name(),
            now.as_millisecond(),
            failure.reason,
            failure.message,
            failure.side.name(),
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
                       failure_reason, failure_message, failure_fault, summary";

fn read(row: &Row<'_>) -> Result<RunRecord, Error> {
    let state: String = row.get(2)?;
    let ended_at: Option<i64> = row.get(7)?;
    let reason: Option<String> = row.get(8)?;
    let message: Option<String> = row.get(9)?;
    let side: Option<String> = row.get(10)?;
    let summary: Option<String> = row.get(11)?;
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

/// The receipts of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// Signed here.
    pub own: SignedReceipt,
    /// Signed by the partner.
    pub peer: SignedReceipt,
    /// Opens the commitment to the result in `own`.
    pub salt: [u8; 32],
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

/// What survives of a partnership's runs for the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartnerState {
    /// Runs completed.
    pub run_counter: u64,
    /// Hash of this node's last receipt, or zeros.
    pub receipt_head: [u8; 32],
    /// The partner's last receipt.
    pub peer_receipt: Option<SignedReceipt>,
    /// The highest epoch of the partner's that was seen, and its key.
    pub highest_epoch: Option<(u64, [u8; 32])>,
}

fn number(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::internal("a stored number is negative"))
}

fn stored(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::internal("a number is too large to store"))
}

/// What is remembered of earlier runs with a partner.
///
/// # Errors
/// What the store reports.
pub fn partner_state(connection: &Connection, partnership_id: &str) -> Result<PartnerState, Error> {
    type Kept = (i64, Option<[u8; 32]>, Option<Vec<u8>>);
    let chain: Option<Kept> = connection
        .query_row(
            "SELECT runs, chain_head, peer_receipt FROM matching_state WHERE partnership_id = ?1",
            [partnership_id],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let epoch: Option<(i64, [u8; 32])> = connection
        .query_row(
            "SELECT epoch, public_key FROM matching_peer_keys WHERE partnership_id = ?1 ORDER BY epoch DESC LIMIT 1",
            [partnership_id],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let mut state = PartnerState {
        highest_epoch: match epoch {
            Some((epoch, key)) => Some((number(epoch)?, key)),
            None => None,
        },
        ..PartnerState::default()
    };
    if let Some((runs, head, receipt)) = chain {
        state.run_counter = number(runs)?;
        state.receipt_head = head.unwrap_or_default();
        state.peer_receipt = receipt
            .map(|bytes| {
                SignedReceipt::decode(&bytes)
                    .map_err(|fault| Error::internal(format!("a stored receipt: {fault}")))
            })
            .transpose()?;
    }
    Ok(state)
}

/// Remembers a receipt that this node has signed and is about to send.
///
/// # Errors
/// What the store reports.
pub fn remember_own_receipt(
    tx: &Transaction<'_>,
    partnership_id: &str,
    own: &SignedReceipt,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO matching_state (partnership_id, runs, chain_head) VALUES (?1, ?2, ?3)
         ON CONFLICT (partnership_id) DO UPDATE SET runs = excluded.runs, chain_head = excluded.chain_head",
        params![
            partnership_id,
            stored(own.receipt.run_counter)?,
            own.hash()
        ],
    )?;
    Ok(())
}

/// Remembers the receipts of a completed run; the own one is remembered already.
///
/// # Errors
/// What the store reports.
pub fn remember_receipts(
    tx: &Transaction<'_>,
    partnership_id: &str,
    run_id: &str,
    receipts: &ReceiptRecord,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE matching_state SET peer_receipt = ?2 WHERE partnership_id = ?1",
        params![partnership_id, receipts.peer.encode()],
    )?;
    tx.execute(
        "INSERT INTO matching_receipts (run_id, partnership_id, own, peer, result_salt) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            run_id,
            partnership_id,
            receipts.own.encode(),
            receipts.peer.encode(),
            receipts.salt
        ],
    )?;
    Ok(())
}

/// Pins the partner's key of an epoch. A second key for a known epoch was refused before.
///
/// # Errors
/// What the store reports.
pub fn pin_epoch(
    tx: &Transaction<'_>,
    partnership_id: &str,
    epoch: u64,
    public_key: &[u8; 32],
) -> Result<(), Error> {
    tx.execute(
        "INSERT OR IGNORE INTO matching_peer_keys (partnership_id, epoch, public_key) VALUES (?1, ?2, ?3)",
        params![partnership_id, stored(epoch)?, public_key],
    )?;
    Ok(())
}

/// Who queries for list x list in the epochs given, as far as remembered. The partner's epoch may have ended since.
///
/// # Errors
/// What the store reports.
pub fn list_querier(
    connection: &Connection,
    partnership_id: &str,
    my_epoch: u64,
) -> Result<ListQuerier, Error> {
    let stored_role: Option<bool> = connection
        .query_row(
            "SELECT i_query FROM matching_roles WHERE partnership_id = ?1 AND my_epoch = ?2",
            params![partnership_id, stored(my_epoch)?],
            |row| row.get(0),
        )
        .optional()?;
    Ok(match stored_role {
        None => ListQuerier::Open,
        Some(true) => ListQuerier::Sender,
        Some(false) => ListQuerier::Receiver,
    })
}

/// Remembers who queries for list x list.
///
/// # Errors
/// What the store reports.
pub fn remember_roles(
    tx: &Transaction<'_>,
    partnership_id: &str,
    my_epoch: u64,
    their_epoch: u64,
    i_query: bool,
) -> Result<(), Error> {
    tx.execute(
        "INSERT OR REPLACE INTO matching_roles (partnership_id, my_epoch, their_epoch, i_query) VALUES (?1, ?2, ?3, ?4)",
        params![
            partnership_id,
            stored(my_epoch)?,
            stored(their_epoch)?,
            i_query
        ],
    )?;
    Ok(())
}

/// What this node released to a partner so far, as the protocol crate wrote it.
///
/// # Errors
/// What the store reports.
pub fn series(connection: &Connection, partnership_id: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(connection
        .query_row(
            "SELECT series FROM matching_series WHERE partnership_id = ?1",
            [partnership_id],
            |row| row.get(0),
        )
        .optional()?)
}

/// Remembers what is about to be released.
///
/// # Errors
/// What the store reports.
pub fn remember_series(
    tx: &Transaction<'_>,
    partnership_id: &str,
    series: &[u8],
) -> Result<(), Error> {
    tx.execute(
        "INSERT OR REPLACE INTO matching_series (partnership_id, series) VALUES (?1, ?2)",
        params![partnership_id, series],
    )?;
    Ok(())
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
