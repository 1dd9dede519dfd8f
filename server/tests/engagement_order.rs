//! G-05: the same events give the same answers, whatever the order, the number of calls and the duplicates; and those
//! answers are the ones a slow, readable model gives.

use std::collections::{BTreeMap, BTreeSet};

use overlap_proto::v1;
use overlap_server::{
    auth::{Caller, Role},
    engagement::{leaderboard, overview, places},
    records::{
        Batch,
        paging::{Page, Paged},
        times::{self, DAY, Nanos, SECOND},
    },
    storage::Store,
};
use proptest::prelude::*;
use rusqlite::Connection;

/// 2026-01-01.
const FIRST_DAY: Nanos = 20_454 * DAY;
const NOW: Nanos = FIRST_DAY + 10 * DAY;
const MINUTE: Nanos = 60 * SECOND;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Nanos,
    id: u32,
    partner: u8,
    user: u8,
    kind: i32,
    resource: u8,
}

impl Event {
    fn record(&self) -> v1::Record {
        v1::Record {
            id: format!("event {}", self.id),
            content: Some(v1::record::Content::PortalEvent(v1::PortalEventRecord {
                partner: format!("partner {}", self.partner),
                user: format!("user {}", self.user),
                at: Some(times::to_proto(self.at)),
                kind: self.kind,
                room: String::new(),
                resource: match self.resource {
                    0 => String::new(),
                    resource => format!("resource {resource}"),
                },
            })),
            ..Default::default()
        }
    }
}

/// Events of few users, near midnights and near the limits of 30 minutes and 4 hours.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![
        4 => (0_i64..40).prop_map(|minutes| minutes * MINUTE),
        2 => Just(29 * MINUTE),
        1 => Just(30 * MINUTE),
        1 => Just(30 * MINUTE - 1),
        1 => (0_i64..30).prop_map(|hours| hours * 60 * MINUTE),
    ];
    let event = (step, 0_u8..2, 0_u8..3, 1_i32..4, 0_u8..4);
    proptest::collection::vec(event, 1..120).prop_map(|parts| {
        let mut clocks: BTreeMap<(u8, u8), Nanos> = BTreeMap::new();
        (0..)
            .zip(parts)
            .map(|(id, (step, partner, user, kind, resource))| {
                let clock = clocks
                    .entry((partner, user))
                    .or_insert(FIRST_DAY + 23 * 60 * MINUTE);
                *clock = (*clock + step).min(NOW - 1);
                Event {
                    at: *clock,
                    id,
                    partner,
                    user,
                    kind,
                    resource,
                }
            })
            .collect()
    })
}

/// Users, sessions, page views, actions, total duration.
type Figures = (u64, u64, u64, u64, i64);

/// The rule as one would read it aloud.
fn model(events: &[Event], first: Nanos, end: Nanos) -> (Figures, BTreeMap<u8, (u64, u64)>) {
    let mut of_user: BTreeMap<(u8, u8), Vec<&Event>> = BTreeMap::new();
    for event in events {
        of_user
            .entry((event.partner, event.user))
            .or_default()
            .push(event);
    }
    let mut sessions: Vec<Vec<&Event>> = Vec::new();
    for mut events in of_user.into_values() {
        events.sort();
        for event in events {
            match sessions.last_mut() {
                Some(session)
                    if (session[0].partner, session[0].user) == (event.partner, event.user)
                        && event.at - session[session.len() - 1].at < 30 * MINUTE
                        && event.at - session[0].at < 240 * MINUTE =>
                {
                    session.push(event);
                }
                _ => sessions.push(vec![event]),
            }
        }
    }
    sessions.retain(|session| (first..end).contains(&session[0].at));
    let inside = || sessions.iter().flatten();
    let users: BTreeSet<u8> = inside().map(|event| event.user).collect();
    let views = inside().filter(|event| event.kind == 1).count() as u64;
    let durations = sessions
        .iter()
        .map(|session| session[session.len() - 1].at - session[0].at)
        .sum();
    let mut resources: BTreeMap<u8, (u64, BTreeSet<u8>)> = BTreeMap::new();
    for event in inside().filter(|event| event.kind == 1 && event.resource > 0) {
        let resource = resources.entry(event.resource).or_default();
        resource.0 += 1;
        resource.1.insert(event.user);
    }
    (
        (
            users.len() as u64,
            sessions.len() as u64,
            views,
            inside().count() as u64 - views,
            durations,
        ),
        resources
            .into_iter()
            .map(|(resource, (views, users))| (resource, (views, users.len() as u64)))
            .collect(),
    )
}

fn figures(found: v1::EngagementFigures) -> Figures {
    let duration = found.total_duration.unwrap_or_default();
    (
        found.unique_users,
        found.sessions,
        found.page_views,
        found.actions,
        duration.seconds * SECOND + i64::from(duration.nanos),
    )
}

fn page<R: Paged>(request: &R) -> Page {
    let caller = Caller {
        token_id: String::new(),
        user: String::new(),
        role: Role::Admin,
        partner: None,
    };
    Page::of(request, &caller, NOW, 1000, 1000).expect("no token")
}

fn filter(first: i64, last: i64) -> Option<v1::EngagementFilter> {
    let day = |day: i64| format!("2026-01-{:02}", day + 1);
    Some(v1::EngagementFilter {
        range: Some(v1::engagement_filter::Range::DateRange(v1::DateRange {
            first_day: day(first),
            last_day: day(last),
        })),
        ..Default::default()
    })
}

/// The answers for days `first` to `last`.
fn answers(
    connection: &Connection,
    first: i64,
    last: i64,
) -> (
    Figures,
    BTreeMap<u8, (u64, u64)>,
    v1::ListLeaderboardResponse,
) {
    let filter = filter(first, last);
    let request = v1::GetEngagementSummaryRequest {
        filter: filter.clone(),
    };
    let summary = overview::summary(connection, NOW, &request).expect("a summary");
    let request = v1::ListTopResourcesRequest {
        filter: filter.clone(),
        ..Default::default()
    };
    let resources = places::resources(connection, &page(&request), &request).expect("resources");
    let request = v1::ListLeaderboardRequest {
        filter,
        ..Default::default()
    };
    let board =
        leaderboard::leaderboard(connection, &page(&request), &request).expect("a leaderboard");
    let resources = resources
        .resources
        .into_iter()
        .map(|resource| {
            let number = resource.id.trim_start_matches("resource ").parse();
            (
                number.expect("a number"),
                (resource.page_views, resource.unique_users),
            )
        })
        .collect();
    (figures(summary.figures.expect("set")), resources, board)
}

fn store(calls: &[&[Event]]) -> (Store, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).expect("a store");
    for call in calls {
        let mut batch = Batch::new(NOW);
        for event in *call {
            batch
                .push(event.record(), |_, field| field.to_owned())
                .expect("good");
        }
        batch.store(&store).expect("stored");
    }
    (store, directory)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn g05_order_calls_and_duplicates_do_not_matter(
        events in events(),
        shuffled in Just(()).prop_perturb(|(), mut random| random.next_u64()),
        calls in 1_usize..7,
    ) {
        let mut other = events.clone();
        // A quarter arrives twice.
        other.extend(events.iter().filter(|event| event.id % 4 == 0).cloned());
        let mut state = shuffled | 1;
        for at in (1..other.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            other.swap(at, (state >> 33) as usize % (at + 1));
        }
        let (in_order, _one) = store(&[&events]);
        let chunks: Vec<&[Event]> = other.chunks(other.len().div_ceil(calls)).collect();
        let (any_order, _two) = store(&chunks);
        for (first, last) in [(0, 9), (0, 0), (1, 1), (1, 3)] {
            let read = |store: &Store| {
                store
                    .read_blocking(|connection| Ok(answers(connection, first, last)))
                    .expect("read")
            };
            let (one, two) = (read(&in_order), read(&any_order));
            prop_assert_eq!(&one.0, &two.0);
            prop_assert_eq!(&one.1, &two.1);
            prop_assert_eq!(&one.2.rows, &two.2.rows);
            let (expected, resources) = model(
                &events,
                FIRST_DAY + first * DAY,
                FIRST_DAY + (last + 1) * DAY,
            );
            prop_assert_eq!(one.0, expected);
            prop_assert_eq!(one.1, resources);
        }
    }
}

/// Of two events with one id of one user and day the earlier is kept, in either order.
#[test]
fn g05_the_earlier_of_two_events_with_one_id_is_kept() {
    let event = |at: Nanos| Event {
        at: FIRST_DAY + at,
        id: 1,
        partner: 0,
        user: 0,
        kind: 1,
        resource: 0,
    };
    let anchor = Event { id: 2, ..event(0) };
    let (early, late) = (event(10 * MINUTE), event(20 * MINUTE));
    for order in [[early.clone(), late.clone()], [late, early]] {
        let calls: Vec<&[Event]> = vec![
            std::slice::from_ref(&anchor),
            std::slice::from_ref(&order[0]),
            std::slice::from_ref(&order[1]),
        ];
        let (store, _directory) = store(&calls);
        let found = store
            .read_blocking(|connection| Ok(answers(connection, 0, 0).0))
            .expect("read");
        assert_eq!(found, (1, 1, 2, 0, 10 * MINUTE));
    }
}
