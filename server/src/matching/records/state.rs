//! What survives of a partnership's runs for the next one.

use overlap_crypto::{handshake::ListQuerier, receipt::SignedReceipt};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{number, stored};
use crate::error::Error;

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
