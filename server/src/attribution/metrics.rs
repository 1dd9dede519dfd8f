//! What approved requests add up to: approved ones count, and only those.

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::{Connection, params};

use crate::{
    collaboration::{Period, months_of},
    convert::{stored_time, timestamp},
    error::Error,
};

/// Counts approved requests, overall and by the month of their decision.
pub(super) fn metrics(
    connection: &Connection,
    partnership: &str,
    period: &Period,
    now: Timestamp,
) -> Result<v1::GetAttributionMetricsResponse, Error> {
    let mut response = v1::GetAttributionMetricsResponse {
        as_of: Some(timestamp(now)),
        ..Default::default()
    };
    let months = period.months()?;
    let mut counts = vec![(0_u64, 0_u64); months.len()];
    let mut statement = connection.prepare_cached(
        "SELECT decided_us, sent FROM attributions WHERE partnership = ? AND state = 'APPROVED'",
    )?;
    let mut rows = statement.query(params![partnership])?;
    while let Some(row) = rows.next()? {
        let sent: bool = row.get(1)?;
        let month = months_of(&months, stored_time(row, 0)?);
        let count = |sent_count: &mut u64, received_count: &mut u64| {
            *(if sent { sent_count } else { received_count }) += 1;
        };
        count(&mut response.sent_approved, &mut response.received_approved);
        if let Some((sent, received)) = month.map(|month| &mut counts[month]) {
            count(sent, received);
        }
    }
    response.months = months
        .into_iter()
        .zip(counts)
        .map(
            |(month, (sent_approved, received_approved))| v1::AttributionMonth {
                month: month.label,
                sent_approved,
                received_approved,
            },
        )
        .collect();
    Ok(response)
}
