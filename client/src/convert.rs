//! Small conversions between the API's messages and this crate's types.

use jiff::Timestamp;

use crate::Error;

/// A time; one that the calendar does not have is dropped.
pub(crate) fn time(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

/// A message that the API promises.
pub(crate) fn present<T>(part: Option<T>, what: &'static str) -> Result<T, Error> {
    part.ok_or(Error::Response { missing: what })
}
