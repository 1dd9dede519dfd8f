//! Sharing permissions (P-31): each side states what it discloses, the other side agrees, and both end with the same terms.

mod actions;
mod document;
mod incoming;
mod ledger;
pub mod policy;
mod service;
#[cfg(test)]
mod tests;

use rusqlite::Transaction;

use crate::{
    error::Error,
    node::{Node, Registry},
    partnership,
};

pub use service::Service;

pub(crate) fn register(registry: &mut Registry) {
    incoming::register(registry);
    registry.on_partnership_ended(|_, tx, partnership| ledger::forget(tx, partnership));
}

/// Tells every partner with whom terms are in force that this organisation's stages have changed. To be called in the transaction
/// that changes them.
///
/// # Errors
/// What the store reports.
pub fn stages_changed(node: &Node, tx: &Transaction<'_>, actor: &str) -> Result<(), Error> {
    for partnership in partnership::all_connected(tx)? {
        actions::rename_stages(node, tx, &partnership, actor)?;
    }
    Ok(())
}

/// Ends sharing with a partner whose node knows more of it than this node's restored store.
pub(crate) fn rolled_back(
    node: &Node,
    tx: &Transaction<'_>,
    partnership_id: &str,
) -> Result<(), Error> {
    match partnership::by_id(tx, partnership_id)?.map(partnership::Record::into_connected) {
        Some(Ok(partnership)) => actions::rolled_back(node, tx, &partnership),
        // There is nothing to end.
        Some(Err(_)) | None => Ok(()),
    }
}

/// The hash of the terms in force with a partner, the same on both nodes once every notice is delivered.
///
/// # Errors
/// `SHARING_NOT_ACTIVE`.
pub fn terms_hash(
    node: &Node,
    connection: &rusqlite::Connection,
    partnership: &partnership::Partnership,
) -> Result<[u8; 32], Error> {
    let ledger = ledger::Ledger::load(connection, &partnership.id)?;
    match ledger.terms_hash(
        &node.identity.organization_key(),
        &partnership.organization_key,
    )? {
        Some(hash) => Ok(hash),
        // Says why there are none.
        None => ledger
            .agreement(&partnership.id)
            .and_then(|_| Err(Error::internal("terms without a hash"))),
    }
}
