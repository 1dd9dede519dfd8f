//! Plans and drives runs of the matching protocol.

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
