//! What both sides signed of each run.

use jiff::Timestamp;
use overlap_crypto::receipt::SignedReceipt;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{instant, stored};
use crate::error::Error;

/// The receipts of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRecord {
    /// The run on this node.
    pub run_id: String,
    /// With whom.
    pub partnership_id: String,
    /// When the run began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Signed here.
    pub own: SignedReceipt,
    /// Signed by the partner, if it arrived.
    pub peer: Option<SignedReceipt>,
    /// Opens the commitment to the result in `own`.
    pub salt: [u8; 32],
}

const COLUMNS: &str = "matching_receipts.run_id, matching_receipts.partnership_id, started_at, ended_at, \
                       own, peer, result_salt";
const JOINED: &str =
    "matching_receipts JOIN matching_runs ON matching_runs.id = matching_receipts.run_id";

fn read(row: &Row<'_>) -> Result<ReceiptRecord, Error> {
    let decode = |bytes: Vec<u8>| {
        SignedReceipt::decode(&bytes)
            .map_err(|fault| Error::internal(format!("a stored receipt: {fault}")))
    };
    let ended_at: Option<i64> = row.get(3)?;
    let peer: Option<Vec<u8>> = row.get(5)?;
    Ok(ReceiptRecord {
        run_id: row.get(0)?,
        partnership_id: row.get(1)?,
        started_at: instant(row.get(2)?)?,
        ended_at: ended_at.map(instant).transpose()?,
        own: decode(row.get(4)?)?,
        peer: peer.map(decode).transpose()?,
        salt: row.get(6)?,
    })
}

/// The receipts of a run.
///
/// # Errors
/// `NOT_FOUND`; what the store reports.
pub fn receipts_of(connection: &Connection, run_id: &str) -> Result<ReceiptRecord, Error> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {JOINED} WHERE matching_receipts.run_id = ?1"
        ))?
        .query_row([run_id], |row| Ok(read(row)))
        .optional()?
        .unwrap_or_else(|| Err(Error::not_found("receipt of run", run_id)))
}

/// Receipts, newest run first, without the first `offset`; of one partnership if one is given.
///
/// # Errors
/// What the store reports.
pub fn list_receipts(
    connection: &Connection,
    partnership_id: Option<&str>,
    offset: u64,
    limit: usize,
) -> Result<Vec<ReceiptRecord>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {JOINED} WHERE ?1 IS NULL OR matching_receipts.partnership_id = ?1
         ORDER BY started_at DESC, matching_receipts.run_id DESC LIMIT ?2 OFFSET ?3"
    ))?;
    let mut rows = statement.query(params![partnership_id, limit, stored(offset)?])?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next()? {
        receipts.push(read(row)?);
    }
    Ok(receipts)
}

/// Goes on from a receipt of this node's own: the next one follows it.
///
/// # Errors
/// What the store reports.
pub fn adopt_own_receipt(
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

/// Remembers a receipt that this node has signed and is about to send; `salt` opens its commitment to the result.
///
/// # Errors
/// What the store reports.
pub fn remember_own_receipt(
    tx: &Transaction<'_>,
    partnership_id: &str,
    run_id: &str,
    own: &SignedReceipt,
    salt: &[u8; 32],
) -> Result<(), Error> {
    adopt_own_receipt(tx, partnership_id, own)?;
    // A run that goes on over another connection may sign again.
    tx.execute(
        "INSERT OR REPLACE INTO matching_receipts (run_id, partnership_id, own, result_salt) VALUES (?1, ?2, ?3, ?4)",
        params![run_id, partnership_id, own.encode(), salt],
    )?;
    Ok(())
}

/// Remembers the partner's receipt of a completed run; the own one is remembered already.
///
/// # Errors
/// What the store reports.
pub fn remember_peer_receipt(
    tx: &Transaction<'_>,
    partnership_id: &str,
    run_id: &str,
    peer: &SignedReceipt,
) -> Result<(), Error> {
    let bytes = peer.encode();
    tx.execute(
        "UPDATE matching_state SET peer_receipt = ?2 WHERE partnership_id = ?1",
        params![partnership_id, bytes],
    )?;
    tx.execute(
        "UPDATE matching_receipts SET peer = ?2 WHERE run_id = ?1",
        params![run_id, bytes],
    )?;
    Ok(())
}
