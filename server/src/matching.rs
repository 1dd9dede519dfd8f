//! Plans and drives runs of the matching protocol.
//!
//! A run reads one snapshot of the disclosed customers ([`local_customers`]) and drives the protocol's flows over a link
//! ([`driver`]). What it found is handed to [`crate::overlap`].

pub(crate) mod bits;
pub mod compute;
mod delta;
pub mod driver;
pub mod engine;
pub mod failure;
pub mod keys;
pub mod ledger;
pub mod local_customers;
pub mod progress;
pub mod receipts;
pub mod recording;
pub mod records;
#[cfg(test)]
mod replay;
pub mod service;
pub mod spool;
pub mod terms;

pub use engine::{Engine, accept_run, recover, remove_derived_results, restart_interrupted};
pub use service::Service;

use crate::node::Registry;

/// Results do not outlive the permissions they were made under.
pub(crate) fn register(registry: &mut Registry) {
    registry.on_partnership_ended(|node, tx, partnership| {
        node.matching.cancel_with(partnership);
        remove_derived_results(tx, &node.store, &node.directory, partnership)
    });
    registry.on_sharing_changed(|node, tx, partnership, change| {
        if change.removes_results() {
            node.matching.cancel_with(partnership);
            remove_derived_results(tx, &node.store, &node.directory, partnership)?;
        }
        Ok(())
    });
}
