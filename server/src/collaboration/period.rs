//! Periods and their calendar months.

use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};

use crate::error::Error;

/// The most months a period may touch.
const MAX_MONTHS: usize = 240;
/// The months of a period that is not given, the current one included.
const DEFAULT_MONTHS: i64 = 12;

/// [start, end), and the time zone in which its months begin.
#[derive(Clone, Debug)]
pub(crate) struct Period {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    zone: TimeZone,
}

/// The part of a calendar month that lies in a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    /// E.g. `2026-03`.
    pub(crate) label: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
}

impl Period {
    /// The period a request means: the current calendar month and the eleven before it if it does not say.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`.
    pub(crate) fn read(
        start: Option<prost_types::Timestamp>,
        end: Option<prost_types::Timestamp>,
        time_zone: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let zone = if time_zone.is_empty() {
            TimeZone::UTC
        } else {
            TimeZone::get(time_zone).map_err(|_| {
                Error::invalid(
                    "time_zone",
                    "is not the IANA name of a time zone, e.g. \"Europe/Berlin\"",
                )
            })?
        };
        let (start, end) = match (start, end) {
            (Some(start), Some(end)) => (instant("start", start)?, instant("end", end)?),
            (None, None) => {
                let month = first_of_month(&now.to_zoned(zone.clone()))?;
                let start = month
                    .checked_sub((DEFAULT_MONTHS - 1).months())
                    .map_err(outside)?;
                let end = month.checked_add(1.month()).map_err(outside)?;
                (start.timestamp(), end.timestamp())
            }
            (None, Some(_)) => return Err(Error::invalid("start", "must be set where end is")),
            (Some(_), None) => return Err(Error::invalid("end", "must be set where start is")),
        };
        if start >= end {
            return Err(Error::invalid("end", "must be later than start"));
        }
        Ok(Self { start, end, zone })
    }

    /// Whether an instant lies in the period.
    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// The months, clipped to the period.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there are too many.
    pub(crate) fn months(&self) -> Result<Vec<Month>, Error> {
        let mut months = Vec::new();
        let mut first = first_of_month(&self.start.to_zoned(self.zone.clone()))?;
        while first.timestamp() < self.end {
            if months.len() == MAX_MONTHS {
                return Err(Error::invalid(
                    "start",
                    format!("the period must not have more than {MAX_MONTHS} months"),
                ));
            }
            let next = first_of_month(&first.checked_add(1.month()).map_err(outside)?)?;
            months.push(Month {
                label: first.strftime("%Y-%m").to_string(),
                start: first.timestamp().max(self.start),
                end: next.timestamp().min(self.end),
            });
            first = next;
        }
        Ok(months)
    }
}

/// The index of the month an instant lies in.
pub(crate) fn months_of(months: &[Month], at: Timestamp) -> Option<usize> {
    let index = months.partition_point(|month| month.end <= at);
    months
        .get(index)
        .is_some_and(|month| month.start <= at)
        .then_some(index)
}

/// The instant of a message.
///
/// # Errors
/// `INVALID_ARGUMENT`.
fn instant(field: &str, timestamp: prost_types::Timestamp) -> Result<Timestamp, Error> {
    Timestamp::new(timestamp.seconds, timestamp.nanos)
        .ok()
        .filter(|_| timestamp.nanos >= 0)
        .ok_or_else(|| Error::invalid(field, "is not a valid timestamp"))
}

fn first_of_month(at: &Zoned) -> Result<Zoned, Error> {
    at.first_of_month()
        .and_then(|first| first.start_of_day())
        .map_err(outside)
}

fn outside(_: jiff::Error) -> Error {
    Error::invalid("start", "is outside the calendar")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn proto(text: &str) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp {
            seconds: at(text).as_second(),
            nanos: 0,
        })
    }

    #[test]
    fn the_default_is_twelve_months_with_the_current_one() {
        let period = Period::read(None, None, "", at("2026-03-15T12:00:00Z")).unwrap();
        assert_eq!(period.start, at("2025-04-01T00:00:00Z"));
        assert_eq!(period.end, at("2026-04-01T00:00:00Z"));
        let months = period.months().unwrap();
        assert_eq!(months.len(), 12);
        assert_eq!(months[0].label, "2025-04");
        assert_eq!(months[11].label, "2026-03");
        assert_eq!(months_of(&months, at("2026-03-31T23:59:59Z")), Some(11));
        assert_eq!(months_of(&months, period.end), None);
        assert_eq!(months_of(&months, at("2025-03-31T23:59:59Z")), None);
    }

    #[test]
    fn months_begin_in_the_time_zone_and_are_clipped() {
        let (start, end) = ("2026-02-27T00:00:00Z", "2026-04-02T00:00:00Z");
        let period = Period::read(
            proto(start),
            proto(end),
            "Europe/Berlin",
            at("2026-05-01T00:00:00Z"),
        )
        .unwrap();
        let months = period.months().unwrap();
        let limits: Vec<_> = months
            .iter()
            .map(|month| (month.label.as_str(), month.start, month.end))
            .collect();
        // Summer time begins on 2026-03-29.
        assert_eq!(
            limits,
            [
                ("2026-02", at(start), at("2026-02-28T23:00:00Z")),
                (
                    "2026-03",
                    at("2026-02-28T23:00:00Z"),
                    at("2026-03-31T22:00:00Z")
                ),
                ("2026-04", at("2026-03-31T22:00:00Z"), at(end)),
            ]
        );
    }

    #[test]
    fn half_given_or_empty_periods_are_refused() {
        let now = at("2026-03-01T00:00:00Z");
        let day = proto("2026-01-01T00:00:00Z");
        assert!(Period::read(day, None, "", now).is_err());
        assert!(Period::read(None, day, "", now).is_err());
        assert!(Period::read(day, day, "", now).is_err());
        assert!(Period::read(None, None, "Mars/Olympus", now).is_err());
        let long = Period::read(proto("1900-01-01T00:00:00Z"), day, "", now).unwrap();
        assert!(long.months().is_err());
    }
}
