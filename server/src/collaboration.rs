//! What two connected organisations do with their shared customers: attribution, assets, timeline, information about each
//! other, and the stream of changes. Rules: docs/COLLABORATION.md.

mod customers;
mod follow;
mod limits;
pub(crate) mod paging;
mod period;
mod repeats;
mod results;

use rusqlite::Transaction;

use crate::{
    assets, attribution,
    changes::{self, Kind},
    error::Error,
    node::{Node, Registry, SharingChange},
    partner_info, timeline,
};

pub use customers::{SharedCustomer, SharedCustomers};
pub use follow::{follow, follow_once};
pub(crate) use limits::{line, paragraph, peer_id, peer_line, peer_paragraph, peer_time};
pub(crate) use paging::{PageRequest, newest_first};
pub(crate) use period::{Month, Period, months_of};
pub(crate) use repeats::{remember, repeated};
pub use results::Results;

/// Registers notices and hooks of everything here.
pub(crate) fn register(registry: &mut Registry) {
    attribution::register(registry);
    assets::register(registry);
    timeline::register(registry);
    partner_info::register(registry);
    registry.on_partnership_ended(partnership_ended);
    registry.on_sharing_changed(sharing_changed);
}

/// Removes what a partnership that has ended leaves behind (Z-06). Within the transaction that ends it.
///
/// # Errors
/// What the store reports.
pub fn partnership_ended(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &str,
) -> Result<(), Error> {
    attribution::forget(tx, partnership)?;
    timeline::forget(tx, partnership)?;
    assets::forget(tx, partnership)?;
    partner_info::forget(tx, partnership)?;
    changes::forget(tx, partnership)?;
    changes::record(
        tx,
        node.now(),
        Kind::ResultsRemoved,
        Some(partnership),
        "",
        &[("cause", "partnership")],
    )
}

/// Removes what the terms no longer allow (P-31, Z-06). Within the transaction that changes them.
///
/// # Errors
/// What the store reports.
pub fn sharing_changed(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &str,
    change: SharingChange,
) -> Result<(), Error> {
    match change {
        // Attribution and timelines name shared customers. Assets and information about the organisations do not: they
        // belong to the partnership.
        SharingChange::Ended => {
            attribution::forget(tx, partnership)?;
            timeline::forget(tx, partnership)?;
            changes::forget(tx, partnership)?;
        }
        SharingChange::Tightened => timeline::tightened(tx, partnership)?,
        SharingChange::Activated | SharingChange::Widened | SharingChange::Kept => {
            return timeline::terms_changed(tx, partnership);
        }
    }
    changes::record(
        tx,
        node.now(),
        Kind::ResultsRemoved,
        Some(partnership),
        "",
        &[("cause", "sharing")],
    )
}
