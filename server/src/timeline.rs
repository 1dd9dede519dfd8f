//! What happens with shared customers: events of both sides, movement between stages, referrals, action segments.

mod events;
mod index;
mod measures;
mod notices;
mod publish;
mod segments;
mod service;

use rusqlite::Transaction;

use crate::error::Error;

pub use notices::register;
pub use service::Service;

pub(crate) use index::{index, resolve};
pub(crate) use publish::publish;

/// Removes what a partner disclosed, and what it was sent.
///
/// # Errors
/// What the store reports.
pub(crate) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM partner_events WHERE partnership = ?",
        [partnership],
    )?;
    tx.execute(
        "DELETE FROM timeline_sent WHERE partnership = ?",
        [partnership],
    )?;
    terms_changed(tx, partnership)
}

/// Removes what hung on the old terms. Both nodes do this, so what is still permitted is sent again.
///
/// # Errors
/// What the store reports.
pub(crate) fn tightened(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    forget(tx, partnership)?;
    index::forget_alerts_of_partner(tx, partnership, |_| true)
}

/// Has events published again under the new terms.
///
/// # Errors
/// What the store reports.
pub(crate) fn terms_changed(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM timeline_publication WHERE partnership = ?",
        [partnership],
    )?;
    tx.execute(
        "DELETE FROM timeline_unpublished WHERE partnership = ?",
        [partnership],
    )?;
    Ok(())
}
