//! Key figures: of a period, over time, in history, and where they go.

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
        times::Nanos,
    },
};

/// Figures of the pieces of the query's days.
fn figures_of(
    connection: &Connection,
    query: &Query,
    pieces: &[Days],
) -> Result<Vec<Figures>, Error> {
    let mut bounds = vec![query.span.start];
    for piece in pieces {
        bounds.push(piece.span()?.end);
    }
    let mut buckets = Buckets::new(bounds);
    scan::sessions(connection, &query.span, &query.selection, &mut |part| {
        buckets.add(part);
    })?;
    Ok(buckets.finish())
}

fn sessions(figures: &[Figures]) -> u64 {
    figures.iter().map(|figures| figures.sessions).sum()
}

/// The five key figures (G-09).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter.
pub fn summary(
    connection: &Connection,
    as_of: Nanos,
    request: &v1::GetEngagementSummaryRequest,
) -> Result<v1::GetEngagementSummaryResponse, Error> {
    let query = Query::resolve(connection, request.filter.as_ref(), as_of)?;
    let figures = figures_of(connection, &query, std::slice::from_ref(&query.days))?[0];
    Ok(v1::GetEngagementSummaryResponse {
        figures: Some(figures.to_proto()),
        scope: Some(query.scope(connection, figures.sessions)?),
    })
}

/// Figures over time (G-10 to G-12).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter.
pub fn timeline(
    connection: &Connection,
    as_of: Nanos,
    request: &v1::GetEngagementTimelineRequest,
) -> Result<v1::GetEngagementTimelineResponse, Error> {
    let query = Query::resolve(connection, request.filter.as_ref(), as_of)?;
    let unit = query.days.bucket();
    let pieces = query.days.cut(unit);
    let figures = figures_of(connection, &query, &pieces)?;
    let scope = query.scope(connection, sessions(&figures))?;
    let buckets = pieces
        .iter()
        .zip(&figures)
        .map(|(piece, figures)| v1::EngagementBucket {
            first_day: piece.first.to_string(),
            last_day: piece.last.to_string(),
            sessions: figures.sessions,
            page_views: figures.page_views,
            unique_users: figures.unique_users,
        })
        .collect();
    let size = match unit {
        Unit::Day => v1::EngagementBucketSize::Day,
        Unit::Week => v1::EngagementBucketSize::Week,
        _ => v1::EngagementBucketSize::Month,
    };
    Ok(v1::GetEngagementTimelineResponse {
        buckets,
        bucket_size: size as i32,
        scope: Some(scope),
    })
}

/// Figures of the latest months, quarters or years (G-24).
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter, period or count.
pub fn history(
    connection: &Connection,
    as_of: Nanos,
    request: &v1::GetEngagementHistoryRequest,
) -> Result<v1::GetEngagementHistoryResponse, Error> {
    let unit = Unit::of_period("period", request.period)?;
    let count = match request.count {
        0 => 12,
        count @ 1..=60 => i64::from(count),
        _ => return Err(Error::invalid("count", "must be at most 60")),
    };
    let query = Query::resolve_over(connection, request.filter.as_ref(), as_of, |zone| {
        let today = calendar::date(as_of, &zone);
        Ok(Days {
            first: unit.step(unit.first_day(today), 1 - count),
            last: today,
            zone,
        })
    })?;
    let pieces = query.days.cut(unit);
    let figures = figures_of(connection, &query, &pieces)?;
    let scope = query.scope(connection, sessions(&figures))?;
    let entries = pieces
        .iter()
        .zip(&figures)
        .map(|(piece, figures)| v1::EngagementHistoryEntry {
            label: unit.label(piece.first),
            first_day: piece.first.to_string(),
            last_day: piece.last.to_string(),
            figures: Some(figures.to_proto()),
        })
        .collect();
    Ok(v1::GetEngagementHistoryResponse {
        entries,
        scope: Some(scope),
    })
}
