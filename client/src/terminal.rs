//! How records look to a person: aligned tables, the matrix as a grid, progress in one line.

pub mod figures;
pub mod grid;
pub mod progress;
pub mod table;

use jiff::{Timestamp, tz::TimeZone};

/// A time as people read it.
#[must_use]
pub fn readable_time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M:%S UTC")
        .to_string()
}
