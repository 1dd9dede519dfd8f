//! Whether figures rise, fall or follow the season (G-30).

use overlap_proto::v1;
use rusqlite::Connection;

use super::{
    figures::{Buckets, Figures},
    population::Query,
    scan,
};
use crate::{
    error::Error,
    records::{
        calendar::{self, Days, Unit},
        times::{Nanos, SECOND},
    },
};

/// Months of a cycle.
const CYCLE: usize = 12;

/// Where a series goes: Kendall's rank correlation with time of at least 1/2 is increasing, of at most -1/2 declining.
#[must_use]
pub fn direction(values: &[f64]) -> v1::TrendDirection {
    let count = values.len() as i64;
    if count < 3 {
        return v1::TrendDirection::Unspecified;
    }
    let mut balance = 0_i64;
    for (at, earlier) in values.iter().enumerate() {
        for later in &values[at + 1..] {
            balance += i64::from(later > earlier) - i64::from(later < earlier);
        }
    }
    let pairs = count * (count - 1) / 2;
    if 2 * balance >= pairs {
        v1::TrendDirection::Increasing
    } else if 2 * balance <= -pairs {
        v1::TrendDirection::Declining
    } else {
        v1::TrendDirection::Steady
    }
}

/// Whether the last two cycles look alike: their departures from the common straight line correlate by at least 0.7. Unset
/// without two full cycles.
#[must_use]
pub fn seasonal(values: &[f64]) -> Option<bool> {
    let values = &values[values.len().checked_sub(2 * CYCLE)?..];
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let (mut with_time, mut of_time, mut scale) = (0.0, 0.0, 0.0_f64);
    for (at, value) in values.iter().enumerate() {
        let time = at as f64 - middle;
        with_time += time * (value - mean);
        of_time += time * time;
        scale = scale.max(value.abs());
    }
    let slope = with_time / of_time;
    let departure: Vec<f64> = values
        .iter()
        .enumerate()
        .map(|(at, value)| value - mean - slope * (at as f64 - middle))
        .collect();
    let (one, two) = departure.split_at(CYCLE);
    let (one, two) = (centred(one), centred(two));
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (spread_one, spread_two) = (product(&one, &one), product(&two, &two));
    // A straight line has no season, whatever rounding leaves of it.
    let noise = (scale * 1e-9).powi(2) * count;
    if spread_one <= noise || spread_two <= noise {
        return Some(false);
    }
    Some(product(&one, &two) >= 0.7 * (spread_one * spread_two).sqrt())
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// Trends of the five key figures over complete months.
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter or number of months.
pub fn trends(
    connection: &Connection,
    as_of: Nanos,
    request: &v1::GetEngagementTrendsRequest,
) -> Result<v1::GetEngagementTrendsResponse, Error> {
    let months = match request.months {
        0 => 24,
        months @ 1..=60 => i64::from(months),
        _ => return Err(Error::invalid("months", "must be at most 60")),
    };
    let query = Query::resolve_over(connection, request.filter.as_ref(), as_of, |zone| {
        let this = Unit::Month.first_day(calendar::date(as_of, &zone));
        Ok(Days {
            first: Unit::Month.step(this, -months),
            last: Unit::Day.step(this, -1),
            zone,
        })
    })?;
    let mut bounds = vec![query.span.start];
    for month in query.days.cut(Unit::Month) {
        bounds.push(month.span()?.end);
    }
    let mut buckets = Buckets::new(bounds);
    scan::sessions(connection, &query.span, &query.selection, &mut |part| {
        buckets.add(part);
    })?;
    let months = buckets.finish();
    let sessions = months.iter().map(|month| month.sessions).sum();
    type Reading = fn(&Figures) -> f64;
    let readings: [(&str, Reading); 5] = [
        ("unique_users", |figures| figures.unique_users as f64),
        ("sessions", |figures| figures.sessions as f64),
        ("page_views", |figures| figures.page_views as f64),
        ("actions", |figures| figures.actions as f64),
        ("average_duration", |figures| {
            figures.average_duration().unwrap_or(0) as f64 / SECOND as f64
        }),
    ];
    let trends = readings
        .into_iter()
        .map(|(metric, reading)| {
            let values: Vec<f64> = months.iter().map(reading).collect();
            v1::EngagementTrend {
                metric: metric.to_owned(),
                direction: direction(&values) as i32,
                seasonal: seasonal(&values),
                values,
            }
        })
        .collect();
    Ok(v1::GetEngagementTrendsResponse {
        trends,
        scope: Some(query.scope(connection, sessions)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-30: of the six pairs of four values, three more must rise than fall.
    #[test]
    fn g30_direction() {
        use v1::TrendDirection as D;
        assert_eq!(direction(&[1.0, 2.0, 3.0, 4.0]), D::Increasing);
        // Five rise, one falls: 4 of 6.
        assert_eq!(direction(&[1.0, 3.0, 2.0, 4.0]), D::Increasing);
        // Four rise, two fall: 2 of 6.
        assert_eq!(direction(&[2.0, 1.0, 4.0, 3.0]), D::Steady);
        assert_eq!(direction(&[9.0, 5.0, 1.0]), D::Declining);
        assert_eq!(direction(&[1.0, 1.0, 1.0]), D::Steady);
        assert_eq!(direction(&[1.0, 2.0]), D::Unspecified);
    }

    /// G-30: a season shows only in two full cycles; a straight line has none.
    #[test]
    fn g30_season_needs_two_cycles() {
        let summer = |month: usize| {
            if (5..8).contains(&(month % 12)) {
                90.0
            } else {
                10.0
            }
        };
        let months: Vec<f64> = (0..24).map(summer).collect();
        assert_eq!(seasonal(&months), Some(true));
        assert_eq!(seasonal(&months[1..]), None);
        let line: Vec<f64> = (0..24).map(|month| month as f64 * 7.0).collect();
        assert_eq!(seasonal(&line), Some(false));
        let unlike: Vec<f64> = (0..24)
            .map(|month| {
                if month < 12 {
                    summer(month)
                } else {
                    summer(month + 6)
                }
            })
            .collect();
        assert_eq!(seasonal(&unlike), Some(false));
    }
}
