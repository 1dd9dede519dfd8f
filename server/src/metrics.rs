//! Numbers for the operator's monitoring, in the OpenMetrics text format, on a listener of their own.
//!
//! Like logs they carry no identifiers, no keys, and no counts of customers: partnerships appear by their random id. What can
//! be asked of the store is asked when the numbers are read; only API requests are counted as they come.

mod collect;
mod listener;
mod requests;

pub(crate) use listener::serve;
pub(crate) use requests::{Requests, RequestsLayer};
