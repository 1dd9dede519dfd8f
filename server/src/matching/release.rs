//! What a report may say (PROTOCOL.md "Reports"): thresholds, the column rule, sticky release.
//!
//! The reporter keeps the members of every cell as of its last release. A new value is released only if it differs in enough
//! members; until then the old value stands, with its old date, even if nothing changed at all: a fresh date would tell that.

use jiff::Timestamp;

/// How often the reporter says something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseIntervals {
    /// Least seconds between two releases of one cell.
    pub cell_s: i64,
    /// Least seconds between the starts of two series.
    pub series_s: i64,
}

impl Default for ReleaseIntervals {
    fn default() -> Self {
        Self {
            cell_s: 7 * 24 * 3600,
            series_s: 30 * 24 * 3600,
        }
    }
}

/// A value that was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The number of members.
    pub count: u64,
    /// When it was released.
    pub at: Timestamp,
}

/// What the reporter knows of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellNow {
    /// Members now.
    pub count: u64,
    /// Members now or at the last release, but not both; the count if there was no release.
    pub difference: u64,
    /// The last release in this series.
    pub last: Option<Released>,
}

/// What the report says of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Suppress,
    /// What was said before.
    Repeat(Released),
    /// The value now.
    Release(Released),
}

/// The threshold: 0 is suppressed whatever the policy says.
#[must_use]
pub fn threshold(min_count: u32) -> u64 {
    u64::from(min_count).max(1)
}

/// Whether a column must be suppressed as a whole: too few of the reader's customers would be left out of it.
///
/// `declared` is how many listed customers of the stage the reader declared, `claimed` how many of them are known to both
/// already, `counted` the members of all cells of the column.
#[must_use]
pub fn column_suppressed(declared: u64, claimed: u64, counted: u64, min_count: u32) -> bool {
    let unclaimed = declared.saturating_sub(claimed);
    unclaimed < counted.saturating_add(threshold(min_count))
}

/// Decides on one cell of a column that is not suppressed.
#[must_use]
pub fn decide(
    cell: CellNow,
    min_count: u32,
    intervals: ReleaseIntervals,
    now: Timestamp,
) -> Decision {
    let threshold = threshold(min_count);
    if let Some(last) = cell.last {
        let age_s = now.as_second() - last.at.as_second();
        if cell.difference < threshold || age_s < intervals.cell_s {
            return Decision::Repeat(last);
        }
    }
    if cell.count < threshold {
        return Decision::Suppress;
    }
    Decision::Release(Released {
        count: cell.count,
        at: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + day * DAY).unwrap()
    }

    fn said(count: u64, day: i64) -> Released {
        Released { count, at: at(day) }
    }

    fn decide_on(count: u64, difference: u64, last: Option<Released>, day: i64) -> Decision {
        let cell = CellNow {
            count,
            difference,
            last,
        };
        decide(cell, 5, ReleaseIntervals::default(), at(day))
    }

    #[test]
    fn z07_a_count_under_the_threshold_is_suppressed_and_so_is_zero() {
        for count in 0..5 {
            assert_eq!(decide_on(count, count, None, 0), Decision::Suppress);
        }
        assert_eq!(decide_on(5, 5, None, 0), Decision::Release(said(5, 0)));
        let cell = CellNow {
            count: 0,
            difference: 0,
            last: None,
        };
        let decision = decide(cell, 0, ReleaseIntervals::default(), at(0));
        assert_eq!(decision, Decision::Suppress);
    }

    #[test]
    fn z07_a_release_stands_until_enough_members_differ() {
        let last = Some(said(10, 0));
        // One came, nobody came, four came and none went: all look alike.
        for (count, difference) in [(11, 1), (10, 0), (14, 4), (10, 4)] {
            assert_eq!(
                decide_on(count, difference, last, 20),
                Decision::Repeat(said(10, 0))
            );
        }
        assert_eq!(decide_on(15, 5, last, 20), Decision::Release(said(15, 20)));
        assert_eq!(decide_on(10, 6, last, 20), Decision::Release(said(10, 20)));
        assert_eq!(decide_on(4, 6, last, 20), Decision::Suppress);
    }

    #[test]
    fn z07_a_cell_is_released_at_most_once_an_interval() {
        let last = Some(said(10, 0));
        assert_eq!(decide_on(99, 89, last, 6), Decision::Repeat(said(10, 0)));
        assert_eq!(decide_on(99, 89, last, 7), Decision::Release(said(99, 7)));
    }

    #[test]
    fn z07_a_column_that_leaves_too_few_uncounted_is_suppressed() {
        // 48 declared, 16 claimed: 32 could be in the column.
        assert!(!column_suppressed(48, 16, 27, 5));
        assert!(column_suppressed(48, 16, 28, 5));
        assert!(column_suppressed(0, 0, 0, 5));
        assert!(column_suppressed(16, 20, 0, 5));
    }
}
