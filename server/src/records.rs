//! The partner program's records: one door for everything the platform pushes.
//!
//! Invariant: a call is all or nothing, and what is stored in the end does not depend on the order or number of calls.

pub mod batch;
pub mod calendar;
pub(crate) mod import;
pub mod kind;
pub mod money;
pub mod paging;
mod service;
pub mod store;
pub mod table;
pub mod times;
pub mod validate;

pub use batch::{Batch, Refusal, Refusals};
pub use service::Records;
