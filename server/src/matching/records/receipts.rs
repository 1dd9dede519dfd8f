//! What both sides signed of each run.

use overlap_crypto::receipt::SignedReceipt;
use rusqlite::{Transaction, params};

use super::stored;
use crate::error::Error;

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
