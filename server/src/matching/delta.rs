//! Delta runs: what one run of an epoch leaves for the next, and what the next one makes of it (PROTOCOL.md §7.7).
//!
//! Everything a run leaves is a base, whose files stay as they are from run to run, and what changed since. A run reads of
//! the base what its changes concern.
//!
//! Invariant: a delta run ends with the list result of a full run. Whatever casts doubt on the state that the last run left
//! (other terms, another epoch, other receipts, a file that does not open) makes the run a full one.

pub(crate) mod beside;
pub(crate) mod column;
pub(crate) mod entries;
pub(crate) mod keeper;
pub(crate) mod kept;
pub(crate) mod links;
pub(crate) mod maps;
pub(crate) mod own;
pub(crate) mod plan;
pub(crate) mod published;
pub(crate) mod sealed;
mod search;
pub(crate) mod shared;
pub(crate) mod texts;
