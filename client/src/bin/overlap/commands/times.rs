//! Days and instants as people type them.

use overlap_client::{Months, Timestamp};

use super::failed;
use crate::args::MonthOptions;

/// A day (its first instant in the time zone) or an RFC 3339 instant.
pub(super) fn instant(
    name: &str,
    text: &str,
    time_zone: Option<&str>,
) -> anyhow::Result<Timestamp> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let day: jiff::civil::Date = text.parse().map_err(|_| {
        failed(
            "INVALID_ARGUMENT",
            format!("{name}: \"{text}\" is neither a day (2026-01-31) nor an instant (2026-01-31T09:00:00Z)"),
        )
    })?;
    let zone = time_zone.unwrap_or("UTC");
    let start = jiff::tz::TimeZone::get(zone)
        .and_then(|zone| day.to_zoned(zone))
        .map_err(|_| {
            failed(
                "INVALID_ARGUMENT",
                format!("--time-zone: \"{zone}\" is not a time zone, e.g. Europe/Berlin or UTC"),
            )
        })?;
    Ok(start.timestamp())
}

/// Which months to count in.
pub(super) fn months(options: MonthOptions) -> anyhow::Result<Months> {
    let zone = options.time_zone.as_deref();
    let at = |name, text: Option<&String>| text.map(|text| instant(name, text, zone)).transpose();
    Ok(Months {
        start: at("--start", options.start.as_ref())?,
        end: at("--end", options.end.as_ref())?,
        time_zone: options.time_zone,
    })
}

#[cfg(test)]
mod tests {
    use super::instant;

    #[test]
    fn a_day_begins_where_the_time_zone_says() {
        let at = |text, zone| instant("--start", text, zone).map(|time| time.to_string());
        assert_eq!(at("2026-03-01", None).unwrap(), "2026-03-01T00:00:00Z");
        assert_eq!(
            at("2026-07-01", Some("Europe/Berlin")).unwrap(),
            "2026-06-30T22:00:00Z"
        );
        assert_eq!(
            at("2026-03-01T10:30:00+01:00", Some("Europe/Berlin")).unwrap(),
            "2026-03-01T09:30:00Z"
        );
        assert!(
            at("March", None)
                .unwrap_err()
                .to_string()
                .contains("--start: \"March\"")
        );
        assert!(
            at("2026-03-01", Some("Nowhere/Here"))
                .unwrap_err()
                .to_string()
                .contains("--time-zone")
        );
    }
}
