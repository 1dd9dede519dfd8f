//! Timestamps of the API, to the nanosecond.

use jiff::Timestamp;

/// Nanoseconds since 1970; covers the years 1678 to 2262.
pub type Nanos = i64;

/// One day.
pub const DAY: Nanos = 86_400 * SECOND;
/// One second.
pub const SECOND: Nanos = 1_000_000_000;

/// Nanoseconds since 1970, if the timestamp is well formed and within range.
#[must_use]
pub fn to_nanos(timestamp: &prost_types::Timestamp) -> Option<Nanos> {
    if !(0..1_000_000_000).contains(&timestamp.nanos) {
        return None;
    }
    timestamp
        .seconds
        .checked_mul(SECOND)?
        .checked_add(i64::from(timestamp.nanos))
}

/// The API's timestamp for `nanos` since 1970.
#[must_use]
pub fn to_proto(nanos: Nanos) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: nanos.div_euclid(SECOND),
        nanos: i32::try_from(nanos.rem_euclid(SECOND)).expect("less than a second"),
    }
}

/// Nanoseconds since 1970, clipped to what 64 bits hold.
#[must_use]
pub fn of(timestamp: Timestamp) -> Nanos {
    let nanos = timestamp.as_nanosecond();
    Nanos::try_from(nanos).unwrap_or(if nanos < 0 { Nanos::MIN } else { Nanos::MAX })
}

/// The API's duration of `nanos`.
#[must_use]
pub fn duration(nanos: i128) -> prost_types::Duration {
    let second = i128::from(SECOND);
    prost_types::Duration {
        seconds: i64::try_from(nanos / second).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos % second).expect("less than a second"),
    }
}
