//! Measures engagement: `cargo run --release -p overlap-server --example engagement-speed -- [EVENTS]`.
//!
//! A year of portal activity of 200 partners with 20,000 users is taken in day by day, 1% of it late, then every dashboard
//! call over that year is timed. One thread; the encoded messages are decoded within the time measured.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::{hint::black_box, time::Instant};

use overlap_proto::v1;
use overlap_server::{
    auth::{Caller, Role},
    engagement::{leaderboard, overview, places, trends},
    error::Error,
    records::{
        Batch,
        paging::{Page, Paged},
        times::{self, DAY, Nanos, SECOND},
    },
    storage::Store,
};
use prost::Message as _;
use rusqlite::Connection;

const PARTNERS: u64 = 200;
const USERS: u64 = 20_000;
const ROOMS: u64 = 50;
const RESOURCES: u64 = 2_000;
const DAYS: u64 = 365;
/// 2025-01-01.
const FIRST_DAY: Nanos = 20_089 * DAY;
const NOW: Nanos = FIRST_DAY + 365 * DAY;
const EVENTS_PER_MESSAGE: usize = 5_000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(10_000_000), |text| text.parse())?;
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path())?;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut late: Vec<v1::Record> = Vec::new();
    let (mut events, mut taking, mut working, mut slowest) = (0_u64, 0.0, 0.0, 0.0_f64);
    for day in 0..DAYS {
        let mut records = std::mem::take(&mut late);
        let goal = wanted * (day + 1) / DAYS;
        while events < goal {
            session(&mut random, day, &mut events, &mut records, &mut late);
        }
        let messages: Vec<Vec<u8>> = records
            .chunks(EVENTS_PER_MESSAGE)
            .map(|records| {
                v1::IngestRecordsRequest {
                    records: records.to_vec(),
                    last: false,
                }
                .encode_to_vec()
            })
            .collect();
        let (begin, processor) = (Instant::now(), processor_seconds());
        take(&store, &messages)?;
        let seconds = begin.elapsed().as_secs_f64();
        working += processor_seconds() - processor;
        taking += seconds;
        slowest = slowest.max(seconds);
    }
    let (stored, bytes) = store.read_blocking(|connection| {
        Ok((
            connection.query_row("SELECT events FROM engagement_state", [], |row| {
                row.get::<_, i64>(0)
            })?,
            connection.query_row(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
                [],
                |row| row.get::<_, i64>(0),
            )?,
        ))
    })?;
    println!(
        "ingest: {stored} events in {taking:.1} s, {:.0} events/s on one thread ({:.0} events per processor second); slowest of {DAYS} calls {:.0} ms; {:.1} bytes/event stored",
        stored as f64 / taking,
        stored as f64 / working,
        slowest * 1e3,
        bytes as f64 / stored as f64,
    );
    single(&store)?;
    queries(&store)?;
    Ok(())
}

/// Seconds this thread has spent on a processor, where the system says so: other processes' work does not count.
fn processor_seconds() -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |nanos| nanos / 1e9)
}

/// One call with one new event, into the fullest day.
fn single(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for at in 0..21 {
        let record = event(
            format!("single{at}"),
            7,
            7,
            FIRST_DAY + 364 * DAY + at,
            1,
            1,
        );
        let message = v1::IngestRecordsRequest {
            records: vec![record],
            last: false,
        };
        let begin = Instant::now();
        take(store, &[message.encode_to_vec()])?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    println!(
        "one event in a call: median of 21: {:.1} ms",
        times[10] * 1e3
    );
    Ok(())
}

fn take(store: &Store, messages: &[Vec<u8>]) -> Result<(), Box<dyn std::error::Error>> {
    let mut batch = Batch::new(NOW);
    for message in messages {
        for record in v1::IngestRecordsRequest::decode(&**message)?.records {
            batch
                .push(record, |index, field| format!("records[{index}].{field}"))
                .map_err(|refused| format!("{refused:?}"))?;
        }
    }
    batch
        .store(store)
        .map_err(|refused| format!("{refused:?}"))?;
    Ok(())
}

fn session(
    random: &mut Random,
    day: u64,
    events: &mut u64,
    records: &mut Vec<v1::Record>,
    late: &mut Vec<v1::Record>,
) {
    let user = random.below(USERS);
    let mut at = FIRST_DAY + day.cast_signed() * DAY + random.below(86_400).cast_signed() * SECOND;
    for _ in 0..=random.below(19) {
        let kind = if random.below(10) < 6 {
            1
        } else {
            2 + random.below(13) as i32
        };
        let record = event(
            format!("event-{events:012}"),
            user % PARTNERS,
            user,
            at,
            kind,
            random.below(RESOURCES),
        );
        *events += 1;
        if random.below(100) == 0 {
            late.push(record);
        } else {
            records.push(record);
        }
        at += random.below(300).cast_signed() * SECOND + 137_000_000;
    }
}

fn event(id: String, partner: u64, user: u64, at: Nanos, kind: i32, resource: u64) -> v1::Record {
    v1::Record {
        id,
        content: Some(v1::record::Content::PortalEvent(v1::PortalEventRecord {
            partner: format!("partner-{partner:04}"),
            user: format!("user-{user:06}"),
            at: Some(times::to_proto(at)),
            kind,
            room: format!("room-{:03}", resource % ROOMS),
            resource: format!("resource-{resource:05}"),
        })),
        ..Default::default()
    }
}

fn queries(store: &Store) -> Result<(), Error> {
    let year = || {
        Some(v1::EngagementFilter {
            range: Some(v1::engagement_filter::Range::DateRange(v1::DateRange {
                first_day: "2025-01-01".to_owned(),
                last_day: "2025-12-31".to_owned(),
            })),
            time_zone: "Europe/Berlin".to_owned(),
            ..Default::default()
        })
    };
    time(store, "GetEngagementSummary", |connection| {
        let request = v1::GetEngagementSummaryRequest { filter: year() };
        overview::summary(connection, NOW, &request).map(drop)
    })?;
    time(store, "GetEngagementTimeline", |connection| {
        let request = v1::GetEngagementTimelineRequest { filter: year() };
        overview::timeline(connection, NOW, &request).map(drop)
    })?;
    time(store, "GetEngagementHistory (12 months)", |connection| {
        let request = v1::GetEngagementHistoryRequest {
            period: v1::EngagementPeriod::Month as i32,
            ..Default::default()
        };
        overview::history(connection, NOW, &request).map(drop)
    })?;
    time(store, "ListTopResources", |connection| {
        let request = v1::ListTopResourcesRequest {
            filter: year(),
            ..Default::default()
        };
        places::resources(connection, &page(&request, 10), &request).map(drop)
    })?;
    time(store, "ListTopRooms", |connection| {
        let request = v1::ListTopRoomsRequest {
            filter: year(),
            ..Default::default()
        };
        places::rooms(connection, &page(&request, 10), &request).map(drop)
    })?;
    time(store, "ListLeaderboard", |connection| {
        let request = v1::ListLeaderboardRequest {
            filter: year(),
            ..Default::default()
        };
        leaderboard::leaderboard(connection, &page(&request, 50), &request).map(drop)
    })?;
    time(store, "ListAtRiskPartners", |connection| {
        let request = v1::ListAtRiskPartnersRequest {
            filter: year(),
            ..Default::default()
        };
        leaderboard::at_risk(connection, &page(&request, 50), &request).map(drop)
    })?;
    time(store, "CompareEngagement", |connection| {
        let request = v1::CompareEngagementRequest {
            filter: year(),
            comparison: v1::EngagementComparison::Level as i32,
        };
        leaderboard::compare(connection, NOW, &request).map(drop)
    })?;
    time(store, "GetEngagementTrends (24 months)", |connection| {
        let request = v1::GetEngagementTrendsRequest::default();
        trends::trends(connection, NOW, &request).map(drop)
    })
}

fn page<R: Paged>(request: &R, size: usize) -> Page {
    let caller = Caller {
        token_id: "token".to_owned(),
        user: "user".to_owned(),
        role: Role::Admin,
        partner: None,
    };
    Page::of(request, &caller, NOW, size, 1000).expect("no token")
}

fn time(
    store: &Store,
    name: &str,
    work: impl Fn(&Connection) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut times, mut processor) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let (begin, before) = (Instant::now(), processor_seconds());
        black_box(store.read_blocking(&work)?);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        processor.push((processor_seconds() - before) * 1e3);
    }
    times.sort_by(f64::total_cmp);
    processor.sort_by(f64::total_cmp);
    println!(
        "{name}: median of 11: {:.0} ms, worst {:.0} ms; on the processor: median {:.0} ms",
        times[5], times[10], processor[5]
    );
    Ok(())
}
