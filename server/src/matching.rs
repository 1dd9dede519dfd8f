//! Plans and drives runs of the matching protocol.
//!
//! A run reads one snapshot of the disclosed customers ([`local_customers`]) and drives the protocol's flows over a link
//! ([`driver`]). What it found is handed to [`crate::overlap`].

pub mod compute;
pub mod driver;
pub mod failure;
pub mod keys;
pub mod ledger;
pub mod local_customers;
pub mod progress;
pub mod records;
pub mod spool;
pub mod terms;

use std::sync::Arc;

use crate::{
    error::{Error, Reason},
    exchange::Link,
    node::Node,
};

/// Answers a run that a partner's node opened.
///
/// # Errors
/// Why the run failed; the partner is told the reason alone.
pub async fn accept_run(node: Arc<Node>, link: Link) -> Result<(), Error> {
    let _ = (node, link);
    Err(Error::new(
        Reason::Unimplemented,
        "this node does not run matches yet",
    ))
}
