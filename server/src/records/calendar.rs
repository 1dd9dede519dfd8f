//! Days, weeks, months and quarters of a time zone. The time zone database is built in.

use std::{ops::Range, sync::LazyLock};

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};
use overlap_proto::v1;

use super::times::{self, Nanos};
use crate::error::Error;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone with this IANA name; UTC if it is empty.
///
/// # Errors
/// `INVALID_ARGUMENT` if there is none.
pub fn zone(field: &str, name: &str) -> Result<TimeZone, Error> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    ZONES.get(name).map_err(|_| {
        Error::invalid(
            field,
            format!("\"{name}\" is not an IANA time zone, e.g. \"Europe/Berlin\""),
        )
    })
}

/// The instant nearest to `nanos`.
#[must_use]
pub fn timestamp(nanos: Nanos) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).expect("jiff covers more than 64-bit nanoseconds")
}

/// The day of an instant.
#[must_use]
pub fn date(nanos: Nanos, zone: &TimeZone) -> Date {
    zone.to_datetime(timestamp(nanos)).date()
}

/// The first instant of a day.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is out of range.
pub fn start_of_day(day: Date, zone: &TimeZone) -> Result<Nanos, Error> {
    let zoned = day
        .to_zoned(zone.clone())
        .map_err(|_| Error::invalid("filter.range", "is out of range"))?;
    Ok(times::of(zoned.timestamp()))
}

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A day.
    Day,
    /// Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// Three months, from January.
    Quarter,
    /// A year.
    Year,
}

impl Unit {
    /// The first day of the period that holds `day`.
    #[must_use]
    pub fn first_day(self, day: Date) -> Date {
        match self {
            Self::Day => day,
            Self::Week => {
                let back = i64::from(day.weekday().since(Weekday::Monday));
                day.saturating_sub(back.days())
            }
            Self::Month => day.first_of_month(),
            Self::Quarter => {
                let back = i64::from((day.month() - 1) % 3);
                day.first_of_month().saturating_sub(back.months())
            }
            Self::Year => day.first_of_year(),
        }
    }

    /// The first day of the period `steps` after the one that begins on `first`.
    #[must_use]
    pub fn step(self, first: Date, steps: i64) -> Date {
        first.saturating_add(match self {
            Self::Day => steps.days(),
            Self::Week => steps.weeks(),
            Self::Month => steps.months(),
            Self::Quarter => (3 * steps).months(),
            Self::Year => steps.years(),
        })
    }

    /// What people call the period that begins on `first`.
    #[must_use]
    pub fn label(self, first: Date) -> String {
        match self {
            Self::Day => first.to_string(),
            Self::Week => {
                let week = first.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Self::Month => format!("{:04}-{:02}", first.year(), first.month()),
            Self::Quarter => format!("{:04}-Q{}", first.year(), (first.month() - 1) / 3 + 1),
            Self::Year => format!("{:04}", first.year()),
        }
    }

    /// The unit the API means.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it names none.
    pub fn of_period(field: &str, period: i32) -> Result<Self, Error> {
        match v1::EngagementPeriod::try_from(period) {
            Ok(v1::EngagementPeriod::Month) => Ok(Self::Month),
            Ok(v1::EngagementPeriod::Quarter) => Ok(Self::Quarter),
            Ok(v1::EngagementPeriod::Year) => Ok(Self::Year),
            _ => Err(Error::invalid(field, "must be MONTH, QUARTER or YEAR")),
        }
    }
}

/// Whole days of a time zone, both ends included.
#[derive(Clone, Debug, PartialEq)]
pub struct Days {
    /// The first.
    pub first: Date,
    /// The last.
    pub last: Date,
    /// Where they begin and end.
    pub zone: TimeZone,
}

impl Days {
    /// The days of a quick range (G-22).
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it names none.
    pub fn quick(range: v1::QuickRange, now: Nanos, zone: &TimeZone) -> Result<Self, Error> {
        use v1::QuickRange as Q;
        let today = date(now, zone);
        let this = |unit: Unit| (unit.first_day(today), today);
        let last = |unit: Unit| {
            let first = unit.first_day(today);
            (unit.step(first, -1), first.saturating_sub(1.day()))
        };
        let (first, last) = match range {
            Q::Unspecified => return Err(Error::invalid("filter.quick_range", "must be set")),
            Q::Last30Days => (today.saturating_sub(29.days()), today),
            Q::ThisMonth => this(Unit::Month),
            Q::LastMonth => last(Unit::Month),
            Q::ThisQuarter => this(Unit::Quarter),
            Q::LastQuarter => last(Unit::Quarter),
            Q::ThisYear => this(Unit::Year),
            Q::LastYear => last(Unit::Year),
        };
        Ok(Self {
            first,
            last,
            zone: zone.clone(),
        })
    }

    /// The days a date range names.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if they are not days or the last comes before the first.
    pub fn parse(range: &v1::DateRange, field: &str, zone: &TimeZone) -> Result<Self, Error> {
        let day = |part: &str, text: &str| -> Result<Date, Error> {
            text.parse::<Date>()
                .ok()
                .filter(|day| (1900..2200).contains(&day.year()))
                .ok_or_else(|| {
                    Error::invalid(
                        format!("{field}.{part}"),
                        "must be a day between 1900 and 2199, YYYY-MM-DD",
                    )
                })
        };
        let days = Self {
            first: day("first_day", &range.first_day)?,
            last: day("last_day", &range.last_day)?,
            zone: zone.clone(),
        };
        if days.last < days.first {
            return Err(Error::invalid(
                format!("{field}.last_day"),
                "must not come before first_day",
            ));
        }
        Ok(days)
    }

    /// How many days.
    #[must_use]
    pub fn count(&self) -> i64 {
        // The difference of two days is a span of days only.
        i64::from((self.last - self.first).get_days()) + 1
    }

    /// The time span [start, end).
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is out of range.
    pub fn span(&self) -> Result<Range<Nanos>, Error> {
        let start = start_of_day(self.first, &self.zone)?;
        let end = start_of_day(self.last.saturating_add(1.day()), &self.zone)?;
        Ok(start..end)
    }

    /// As many days, just before.
    #[must_use]
    pub fn previous(&self) -> Self {
        Self {
            first: self.first.saturating_sub(self.count().days()),
            last: self.first.saturating_sub(1.day()),
            zone: self.zone.clone(),
        }
    }

    /// The size of the buckets a timeline of these days has (G-11).
    #[must_use]
    pub fn bucket(&self) -> Unit {
        match self.count() {
            ..=13 => Unit::Day,
            14..=60 => Unit::Week,
            _ => Unit::Month,
        }
    }

    /// These days, cut along the calendar; the first and last piece may be shorter.
    #[must_use]
    pub fn cut(&self, unit: Unit) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut begin = unit.first_day(self.first);
        while begin <= self.last {
            let next = unit.step(begin, 1);
            if next <= begin {
                break;
            }
            pieces.push(Self {
                first: begin.max(self.first),
                last: next.saturating_sub(1.day()).min(self.last),
                zone: self.zone.clone(),
            });
            begin = next;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(first: &str, last: &str, zone_name: &str) -> Days {
        Days {
            first: first.parse().expect("a day"),
            last: last.parse().expect("a day"),
            zone: zone("zone", zone_name).expect("a zone"),
        }
    }

    /// G-11: 13 days are daily, 14 and 60 weekly, 61 monthly.
    #[test]
    fn g11_bucket_sizes() {
        let bucket = |last| days("2026-01-01", last, "").bucket();
        assert_eq!(bucket("2026-01-13"), Unit::Day);
        assert_eq!(bucket("2026-01-14"), Unit::Week);
        assert_eq!(bucket("2026-03-01"), Unit::Week);
        assert_eq!(bucket("2026-03-02"), Unit::Month);
    }

    /// G-11: ISO weeks begin on Monday; both ends are clipped.
    #[test]
    fn g11_weeks_are_clipped() {
        // 2026-01-01 is a Thursday.
        let pieces: Vec<(String, String)> = days("2026-01-01", "2026-01-14", "")
            .cut(Unit::Week)
            .iter()
            .map(|piece| (piece.first.to_string(), piece.last.to_string()))
            .collect();
        let expected = [
            ("2026-01-01", "2026-01-04"),
            ("2026-01-05", "2026-01-11"),
            ("2026-01-12", "2026-01-14"),
        ];
        assert_eq!(
            pieces,
            expected.map(|(first, last)| (first.to_owned(), last.to_owned()))
        );
    }

    /// G-11: days are those of the time zone, daylight saving included: 23 hours on 2026-03-29 in Berlin, 25 on 2026-10-25.
    #[test]
    fn g11_days_follow_daylight_saving() {
        let hours = |day: &str| {
            let span = days(day, day, "Europe/Berlin").span().expect("in range");
            (span.end - span.start) / (3600 * times::SECOND)
        };
        assert_eq!(hours("2026-03-28"), 24);
        assert_eq!(hours("2026-03-29"), 23);
        assert_eq!(hours("2026-10-25"), 25);
        // Where midnight itself is skipped, the day begins with its first instant: 2018-11-04 01:00 -02:00.
        let span = days("2018-11-04", "2018-11-04", "America/Sao_Paulo")
            .span()
            .expect("in range");
        assert_eq!(timestamp(span.start).to_string(), "2018-11-04T03:00:00Z");
    }

    /// G-22: quick ranges, as of 2026-05-20 in UTC.
    #[test]
    fn g22_quick_ranges() {
        use v1::QuickRange as Q;
        let now = times::of("2026-05-20T12:00:00Z".parse().expect("a time"));
        for (range, first, last) in [
            (Q::Last30Days, "2026-04-21", "2026-05-20"),
            (Q::ThisMonth, "2026-05-01", "2026-05-20"),
            (Q::LastMonth, "2026-04-01", "2026-04-30"),
            (Q::ThisQuarter, "2026-04-01", "2026-05-20"),
            (Q::LastQuarter, "2026-01-01", "2026-03-31"),
            (Q::ThisYear, "2026-01-01", "2026-05-20"),
            (Q::LastYear, "2025-01-01", "2025-12-31"),
        ] {
            let found = Days::quick(range, now, &TimeZone::UTC).expect("a range");
            assert_eq!(found, days(first, last, "UTC"), "{range:?}");
        }
    }

    /// G-26: the previous equal period.
    #[test]
    fn g26_previous_days() {
        assert_eq!(
            days("2026-03-01", "2026-03-30", "").previous(),
            days("2026-01-30", "2026-02-28", "")
        );
    }
}
