//! Engagement as files (K-28).

use overlap_proto::v1;
use rusqlite::Connection;

use super::{leaderboard, overview, places};
use crate::{
    auth::Caller,
    error::Error,
    records::{
        paging::Page,
        table::{Cell, Table},
        times::{Nanos, SECOND},
    },
};

pub use crate::records::table::format;

/// Most rows of an export of a list.
const MOST: usize = 1_000_000;

/// The table a call asks for.
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong filter or export.
pub fn table(
    connection: &Connection,
    caller: &Caller,
    now: Nanos,
    kind: v1::EngagementExport,
    filter: Option<v1::EngagementFilter>,
) -> Result<Table, Error> {
    use v1::EngagementExport as E;
    match kind {
        E::Unspecified => Err(Error::invalid("export", "must be set")),
        E::Leaderboard => {
            let request = v1::ListLeaderboardRequest {
                filter,
                ..Default::default()
            };
            let page = Page::of(&request, caller, now, MOST, MOST)?;
            let answer = leaderboard::leaderboard(connection, &page, &request)?;
            let mut table = Table::new(&[
                "rank",
                "partner",
                "name",
                "type",
                "score",
                "unique_users",
                "sessions",
                "page_views",
                "actions",
                "average_duration_s",
            ]);
            for row in answer.rows {
                let kind = row.r#type();
                let figures = row.figures.unwrap_or_default();
                table.push(vec![
                    Cell::from(u64::from(row.rank)),
                    Cell::from(row.partner),
                    Cell::from(row.name),
                    Cell::from(kind.as_str_name().to_owned()),
                    Cell::from(row.score),
                    Cell::from(figures.unique_users),
                    Cell::from(figures.sessions),
                    Cell::from(figures.page_views),
                    Cell::from(figures.actions),
                    Cell::from(figures.average_duration.map(|duration| {
                        duration.seconds as f64 + f64::from(duration.nanos) / SECOND as f64
                    })),
                ]);
            }
            Ok(table)
        }
        E::Timeline => {
            let request = v1::GetEngagementTimelineRequest { filter };
            let answer = overview::timeline(connection, now, &request)?;
            let mut table = Table::new(&[
                "first_day",
                "last_day",
                "sessions",
                "page_views",
                "unique_users",
            ]);
            for bucket in answer.buckets {
                table.push(vec![
                    Cell::from(bucket.first_day),
                    Cell::from(bucket.last_day),
                    Cell::from(bucket.sessions),
                    Cell::from(bucket.page_views),
                    Cell::from(bucket.unique_users),
                ]);
            }
            Ok(table)
        }
        E::Resources => {
            let request = v1::ListTopResourcesRequest {
                filter,
                ..Default::default()
            };
            let page = Page::of(&request, caller, now, MOST, MOST)?;
            let answer = places::resources(connection, &page, &request)?;
            let mut table = Table::new(&["resource", "title", "uri", "page_views", "unique_users"]);
            for resource in answer.resources {
                table.push(vec![
                    Cell::from(resource.id),
                    Cell::from(resource.title),
                    Cell::from(resource.uri),
                    Cell::from(resource.page_views),
                    Cell::from(resource.unique_users),
                ]);
            }
            Ok(table)
        }
        E::Rooms => {
            let request = v1::ListTopRoomsRequest {
                filter,
                ..Default::default()
            };
            let page = Page::of(&request, caller, now, MOST, MOST)?;
            let answer = places::rooms(connection, &page, &request)?;
            let mut table = Table::new(&["room", "title", "page_views", "unique_users"]);
            for room in answer.rooms {
                table.push(vec![
                    Cell::from(room.id),
                    Cell::from(room.title),
                    Cell::from(room.page_views),
                    Cell::from(room.unique_users),
                ]);
            }
            Ok(table)
        }
    }
}
