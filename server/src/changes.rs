//! What changed, for platforms that follow: a durable log of bounded length, and a stream that can be resumed.

mod log;
mod service;

pub use log::{Change, Kind, record};
pub use service::Service;
#[cfg(feature = "fuzzing")]
pub(crate) use service::fuzz_cursor;

pub(crate) use log::{Details, forget, forget_alerts, note_run, noted_run};
