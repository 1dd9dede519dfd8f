//! Engagement over the API. Expected values are computed by hand from the few events each test sends.

#[path = "records/support.rs"]
mod support;

#[path = "engagement/questions.rs"]
mod questions;

use overlap_proto::v1::{self, NoDataReason, PortalEventKind as Event};
use overlap_server::auth::Role;
use questions::*;
use support::*;
use tonic::Code;

/// G-01: only ADMIN and PARTNER_ADMIN see engagement; nobody without a token does.
#[tokio::test]
async fn g01_roles() {
    let node = Node::start(NOW).await;
    for role in Role::ALL {
        let mut client = node.engagement(role);
        let may = matches!(role, Role::Admin | Role::PartnerAdmin);
        macro_rules! calls {
            ($($call:ident $request:ident,)*) => {$(
                let answer = client.$call(v1::$request::default()).await;
                let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
                assert_eq!(code == Code::PermissionDenied, !may, "{role:?} {}", stringify!($call));
            )*};
        }
        calls! {
            get_engagement_summary GetEngagementSummaryRequest,
            get_engagement_timeline GetEngagementTimelineRequest,
            get_engagement_history GetEngagementHistoryRequest,
            list_top_resources ListTopResourcesRequest,
            list_top_rooms ListTopRoomsRequest,
            list_leaderboard ListLeaderboardRequest,
            list_at_risk_partners ListAtRiskPartnersRequest,
            compare_engagement CompareEngagementRequest,
            get_engagement_trends GetEngagementTrendsRequest,
            export_engagement ExportEngagementRequest,
        }
    }
    let mut anonymous =
        v1::engagement_service_client::EngagementServiceClient::new(node.anonymous());
    let refused = anonymous
        .get_engagement_summary(v1::GetEngagementSummaryRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// G-02, G-09: nothing yet is an empty answer with a reason; the average is unset, not 0.
#[tokio::test]
async fn g02_nothing_yet_is_no_error() {
    let node = Node::start(NOW).await;
    let answer = summary(&node, None).await;
    let found = answer.figures.expect("set");
    assert_eq!((found.sessions, found.unique_users), (0, 0));
    assert_eq!(found.average_duration, None);
    assert_eq!(reason_of(answer.scope), NoDataReason::NotIngested);
    let board = node
        .engagement(Role::Admin)
        .list_leaderboard(v1::ListLeaderboardRequest::default())
        .await
        .expect("empty")
        .into_inner();
    assert!(board.rows.is_empty());
}

/// G-04, G-06, G-07, G-08, G-09: the five key figures. Durations 600 + 0 + 0 + 1200 s over 4 sessions: 450 s.
#[tokio::test]
async fn g09_five_key_figures() {
    let node = Node::start(NOW).await;
    node.ingest(two_partners()).await.expect("stored");
    let answer = summary(&node, None).await;
    let found = answer.figures.expect("set");
    assert_eq!(found.unique_users, 3);
    assert_eq!(found.sessions, 4);
    assert_eq!(found.page_views, 6);
    assert_eq!(found.actions, 2);
    assert_eq!(seconds(found.average_duration), Some(450));
    assert_eq!(seconds(found.total_duration), Some(1800));
    // G-25: the default is the last 30 days; G-29: data_through is the latest event.
    let scope = answer.scope.expect("set");
    assert_eq!(
        (scope.first_day.as_str(), scope.last_day.as_str()),
        ("2026-03-02", "2026-03-31")
    );
    assert_eq!(scope.data_through, Some(time("2026-03-20T10:20:00Z")));
    assert_eq!(scope.as_of, Some(time(NOW)));
    assert_eq!(scope.definition_version, 1);
}

/// G-07: each of the thirteen kinds is one action; a page view is none.
#[tokio::test]
async fn g07_thirteen_kinds_of_actions() {
    let node = Node::start(NOW).await;
    let events = (1..=14)
        .map(|kind| {
            let kind = Event::try_from(kind).expect("known");
            let id = format!("e{}", kind as i32);
            event(&id, "a", "u", "2026-03-10T09:00:00Z", kind, "", "")
        })
        .collect();
    node.ingest(events).await.expect("stored");
    let found = figures(&node, None).await;
    assert_eq!((found.page_views, found.actions), (1, 13));
}

/// G-05: 29:59.999999999 continues a session, 30:00 opens one; the key is (partner, user).
#[tokio::test]
async fn g05_boundaries_over_the_api() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        view("e1", "a", "u", "2026-03-10T09:00:00Z"),
        view("e2", "a", "u", "2026-03-10T09:29:59.999999999Z"),
        view("e3", "a", "u", "2026-03-10T09:59:59.999999999Z"),
        // The same user at another partner has a session of its own, but is one person (G-04).
        view("e4", "b", "u", "2026-03-10T09:01:00Z"),
    ])
    .await
    .expect("stored");
    let found = figures(&node, None).await;
    assert_eq!((found.sessions, found.unique_users), (3, 1));
}

/// G-05: a session over midnight is one session, of the day it begins; late events join and split it.
#[tokio::test]
async fn g05_sessions_over_midnight_and_late_events() {
    let node = Node::start(NOW).await;
    let at = |id: &str, text: &str| view(id, "a", "u", text);
    node.ingest(vec![
        at("e1", "2026-03-10T23:50:00Z"),
        at("e3", "2026-03-11T00:30:00Z"),
    ])
    .await
    .expect("stored");
    assert_eq!(figures(&node, None).await.sessions, 2);
    // A late event at 00:10 joins the two: 23:50 to 00:30.
    node.ingest(vec![at("e2", "2026-03-11T00:10:00Z")])
        .await
        .expect("stored");
    let tenth = figures(&node, Node::days("2026-03-10", "2026-03-10")).await;
    assert_eq!((tenth.sessions, tenth.page_views), (1, 3));
    assert_eq!(seconds(tenth.total_duration), Some(40 * 60));
    let eleventh = figures(&node, Node::days("2026-03-11", "2026-03-11")).await;
    assert_eq!((eleventh.sessions, eleventh.page_views), (0, 0));
    // Events every 20 minutes since 20:30 make the four hours end at 00:30, which now opens a session.
    let earlier = (0..10)
        .map(|step| {
            let minutes = 30 + 20 * step;
            let text = format!(
                "2026-03-10T{:02}:{:02}:00Z",
                20 + minutes / 60,
                minutes % 60
            );
            at(&format!("x{step}"), &text)
        })
        .collect();
    node.ingest(earlier).await.expect("stored");
    let tenth = figures(&node, Node::days("2026-03-10", "2026-03-10")).await;
    // 20:30 to 00:10; the event at 00:30 is four hours after the start.
    assert_eq!((tenth.sessions, tenth.page_views), (1, 12));
    assert_eq!(seconds(tenth.total_duration), Some(220 * 60));
    let eleventh = figures(&node, Node::days("2026-03-11", "2026-03-11")).await;
    assert_eq!((eleventh.sessions, eleventh.page_views), (1, 1));
}

/// G-10, G-11, G-12: daily buckets without gaps, that sum to the totals (people do not).
#[tokio::test]
async fn g10_timeline() {
    let node = Node::start(NOW).await;
    node.ingest(two_partners()).await.expect("stored");
    let mut client = node.engagement(Role::Admin);
    let mut ask = async |filter| {
        client
            .get_engagement_timeline(v1::GetEngagementTimelineRequest { filter })
            .await
            .expect("a timeline")
            .into_inner()
    };
    let daily = ask(Node::days("2026-03-09", "2026-03-21")).await;
    assert_eq!(daily.bucket_size(), v1::EngagementBucketSize::Day);
    let sessions: Vec<u64> = daily.buckets.iter().map(|bucket| bucket.sessions).collect();
    assert_eq!(sessions, [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    let views: Vec<u64> = daily
        .buckets
        .iter()
        .map(|bucket| bucket.page_views)
        .collect();
    assert_eq!(views, [0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    // 2026-03-08 is a Sunday: fourteen days are three weeks, clipped at both ends.
    let weekly = ask(Node::days("2026-03-08", "2026-03-21")).await;
    assert_eq!(weekly.bucket_size(), v1::EngagementBucketSize::Week);
    let weeks: Vec<(&str, u64, u64)> = weekly
        .buckets
        .iter()
        .map(|bucket| {
            (
                bucket.first_day.as_str(),
                bucket.sessions,
                bucket.unique_users,
            )
        })
        .collect();
    assert_eq!(
        weeks,
        [
            ("2026-03-08", 0, 0),
            ("2026-03-09", 3, 2),
            ("2026-03-16", 1, 1)
        ]
    );
}

/// G-11: days are the time zone's. Berlin puts its clocks forward on 2026-03-29: that day begins at 23:00Z and ends at 22:00Z.
#[tokio::test]
async fn g11_time_zones() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        view("e1", "a", "u", "2026-03-28T22:59:00Z"),
        view("e2", "a", "v", "2026-03-28T23:00:00Z"),
        view("e3", "a", "w", "2026-03-29T21:59:59Z"),
        view("e4", "a", "x", "2026-03-29T22:00:00Z"),
    ])
    .await
    .expect("stored");
    let on = |day: &str, zone: &str| {
        let mut filter = Node::days(day, day).expect("set");
        zone.clone_into(&mut filter.time_zone);
        Some(filter)
    };
    assert_eq!(
        figures(&node, on("2026-03-29", "Europe/Berlin"))
            .await
            .sessions,
        2
    );
    assert_eq!(
        figures(&node, on("2026-03-30", "Europe/Berlin"))
            .await
            .sessions,
        1
    );
    assert_eq!(figures(&node, on("2026-03-29", "UTC")).await.sessions, 2);
    assert_eq!(figures(&node, on("2026-03-28", "UTC")).await.sessions, 2);
    let refused = node
        .engagement(Role::Admin)
        .get_engagement_summary(v1::GetEngagementSummaryRequest {
            filter: on("2026-03-29", "Mars/Olympus"),
        })
        .await
        .expect_err("refused");
    assert_eq!(violations(&refused)[0].0, "filter.time_zone");
}

/// G-13, G-14: top resources and rooms with unique users, titles, links; ties by unique users, then id.
#[tokio::test]
async fn g13_g14_top_places() {
    let node = Node::start(NOW).await;
    let mut records = two_partners();
    records.push(record(
        "deck",
        v1::record::Content::Resource(v1::ResourceRecord {
            title: "The deck".to_owned(),
            uri: "https://portal.example/deck".to_owned(),
            room: "stage".to_owned(),
        }),
    ));
    node.ingest(records).await.expect("stored");
    let mut client = node.engagement(Role::Admin);
    let first = client
        .list_top_resources(v1::ListTopResourcesRequest {
            page_size: 1,
            ..Default::default()
        })
        .await
        .expect("a page")
        .into_inner();
    // deck: e3, e6, e7 by u1 and u3; guide: e1, e4 by u1 and u2 (e2 is a download).
    let deck = &first.resources[0];
    assert_eq!(
        (deck.id.as_str(), deck.page_views, deck.unique_users),
        ("deck", 3, 2)
    );
    assert_eq!(
        (deck.title.as_str(), deck.uri.as_str()),
        ("The deck", "https://portal.example/deck")
    );
    let second = client
        .list_top_resources(v1::ListTopResourcesRequest {
            page_size: 1,
            page_token: first.next_page_token,
            ..Default::default()
        })
        .await
        .expect("a page")
        .into_inner();
    let guide = &second.resources[0];
    assert_eq!(
        (guide.id.as_str(), guide.page_views, guide.unique_users),
        ("guide", 2, 2)
    );
    assert_eq!(second.next_page_token, "");
    let rooms = client
        .list_top_rooms(v1::ListTopRoomsRequest::default())
        .await
        .expect("rooms")
        .into_inner()
        .rooms;
    let rooms: Vec<_> = rooms
        .iter()
        .map(|room| (room.id.as_str(), room.page_views, room.unique_users))
        .collect();
    assert_eq!(rooms, [("lobby", 3, 2), ("stage", 2, 1)]);
}

/// G-13: equal views are ordered by unique users, then id.
#[tokio::test]
async fn g13_ties() {
    let node = Node::start(NOW).await;
    let at = "2026-03-10T09:00:00Z";
    let one = |id: &str, user: &str, resource: &str| {
        event(id, "a", user, at, Event::PageView, "", resource)
    };
    node.ingest(vec![
        one("e1", "u", "z"),
        one("e2", "v", "z"),
        one("e3", "u", "a"),
        one("e4", "u", "a"),
        one("e5", "u", "m"),
        one("e6", "w", "m"),
    ])
    .await
    .expect("stored");
    for size in [2, 10] {
        let found = node
            .engagement(Role::Admin)
            .list_top_resources(v1::ListTopResourcesRequest {
                page_size: size,
                ..Default::default()
            })
            .await
            .expect("a page")
            .into_inner()
            .resources;
        let ids: Vec<_> = found.iter().map(|resource| resource.id.as_str()).collect();
        assert_eq!(ids, ["m", "z", "a"][..(size as usize).min(3)]);
    }
}
