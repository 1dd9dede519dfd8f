//! What the database keeps of runs: pointers and small tables.

mod budgets;
mod receipts;
mod results;
mod runs;
mod state;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub use budgets::{StoredBudget, budget, remember_budget};
pub use receipts::{
    ReceiptRecord, adopt_own_receipt, list_receipts, receipts_of, remember_own_receipt,
    remember_peer_receipt,
};
pub use results::{ResultRecord, complete, directories, remove_derived, result};
pub use runs::{
    RecordedFailure, RunRecord, Summary, by_request, fail, forget_failed, get, give_way, insert,
    list, set_full, settle_interrupted, timestamp, unfinished,
};
pub use state::{
    PartnerState, list_querier, partner_state, pin_epoch, remember_roles, remember_series, series,
};

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("JSON: {error}")))
}

fn from_json<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::internal(format!("a stored document is malformed: {error}")))
}

fn instant(milliseconds: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|error| Error::internal(format!("a stored time is malformed: {error}")))
}

fn number(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::internal("a stored number is negative"))
}

fn stored(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::internal("a number is too large to store"))
}
