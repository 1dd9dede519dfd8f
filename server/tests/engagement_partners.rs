//! Leaderboard, risks, groups and trends over the API. Expected values are computed by hand from the few events each test sends.

#[path = "records/support.rs"]
mod support;

#[path = "engagement/questions.rs"]
mod questions;

use overlap_proto::v1::{
    self, NoDataReason, PartnerType, PortalEventKind as Event, engagement_filter::Range,
};
use overlap_server::auth::Role;
use questions::*;
use support::*;
use tonic::Code;

async fn leaderboard(
    node: &Node,
    request: v1::ListLeaderboardRequest,
) -> v1::ListLeaderboardResponse {
    node.engagement(Role::Admin)
        .list_leaderboard(request)
        .await
        .expect("a leaderboard")
        .into_inner()
}

/// G-15, G-16, G-20. a: 3 sessions, 2 users, 3 views, mean 200 s. b: 1 session, 1 user, 3 views, mean 1200 s.
/// a: 40 + 30 + 20 + 10/6 = 91.667; b: 13.333 + 15 + 20 + 10 = 58.333.
#[tokio::test]
async fn g15_leaderboard() {
    let node = Node::start(NOW).await;
    node.ingest(two_partners()).await.expect("stored");
    let board = leaderboard(&node, v1::ListLeaderboardRequest::default()).await;
    let a = &board.rows[0];
    assert_eq!(
        (a.rank, a.partner.as_str(), a.name.as_str()),
        (1, "a", "Partner a")
    );
    assert_eq!(a.r#type(), PartnerType::Referral);
    assert!((a.score - 91.666_666_666).abs() < 1e-6, "{}", a.score);
    let found = a.figures.expect("set");
    assert_eq!(
        (found.sessions, found.unique_users, found.page_views),
        (3, 2, 3)
    );
    assert_eq!(seconds(found.average_duration), Some(200));
    let b = &board.rows[1];
    assert_eq!((b.rank, b.partner.as_str()), (2, "b"));
    assert!((b.score - 58.333_333_333).abs() < 1e-6, "{}", b.score);
    let totals = board.totals.expect("set");
    assert_eq!((totals.unique_users, totals.sessions), (3, 4));
    assert_eq!(seconds(totals.average_duration), Some(450));
    assert_eq!(board.total_size, 2);
}

/// G-17, G-18, G-19, G-20: sorted by any column both ways, ranks stay by score; pages; totals are of all.
#[tokio::test]
async fn g18_sorting_and_paging() {
    use v1::{LeaderboardColumn as Column, SortDirection as Direction};
    let node = Node::start(NOW).await;
    let mut records = two_partners();
    // c is exactly like b: both are second, and there is no third.
    records.push(portal_user("u4", "c"));
    for (id, text) in [("f1", "10:00"), ("f2", "10:10"), ("f3", "10:20")] {
        records.push(view(id, "c", "u4", &format!("2026-03-21T{text}:00Z")));
    }
    node.ingest(records).await.expect("stored");
    let board = leaderboard(&node, v1::ListLeaderboardRequest::default()).await;
    let ranks: Vec<_> = board
        .rows
        .iter()
        .map(|row| (row.rank, row.partner.as_str()))
        .collect();
    assert_eq!(ranks, [(1, "a"), (2, "b"), (2, "c")]);
    for (column, direction, expected) in [
        (
            Column::AverageDuration,
            Direction::Unspecified,
            ["b", "c", "a"],
        ),
        (
            Column::AverageDuration,
            Direction::Ascending,
            ["a", "b", "c"],
        ),
        (Column::Sessions, Direction::Descending, ["a", "b", "c"]),
        (Column::Sessions, Direction::Ascending, ["b", "c", "a"]),
        // "Partner a", "Partner b", and "c", which has no profile.
        (Column::Name, Direction::Unspecified, ["a", "b", "c"]),
        (Column::Name, Direction::Descending, ["c", "b", "a"]),
        (Column::Type, Direction::Unspecified, ["c", "a", "b"]),
        (Column::Score, Direction::Ascending, ["b", "c", "a"]),
    ] {
        let request = v1::ListLeaderboardRequest {
            order_by: column as i32,
            direction: direction as i32,
            ..Default::default()
        };
        let board = leaderboard(&node, request).await;
        let order: Vec<_> = board.rows.iter().map(|row| row.partner.as_str()).collect();
        assert_eq!(order, expected, "{column:?} {direction:?}");
        assert_eq!(
            board
                .rows
                .iter()
                .find(|row| row.partner == "a")
                .map(|row| row.rank),
            Some(1)
        );
    }
    let mut request = v1::ListLeaderboardRequest {
        page_size: 2,
        read_mask: Some(prost_types::FieldMask {
            paths: vec!["rank".to_owned(), "partner".to_owned()],
        }),
        ..Default::default()
    };
    let first = leaderboard(&node, request.clone()).await;
    assert_eq!(first.rows.len(), 2);
    assert_eq!(first.rows[0].figures, None);
    assert_eq!(first.totals.expect("set").sessions, 5);
    request.page_token = first.next_page_token;
    let second = leaderboard(&node, request.clone()).await;
    assert_eq!(second.rows[0].partner, "c");
    assert_eq!(second.next_page_token, "");
    // A token continues its own order only.
    request.order_by = Column::Sessions as i32;
    let refused = node
        .engagement(Role::Admin)
        .list_leaderboard(request)
        .await
        .expect_err("refused");
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
}

/// G-15, G-19: lists in the order of their numbers go on while these stay: events or settings that came between two pages would
/// have them skip and repeat partners.
#[tokio::test]
async fn g19_pages_by_number_are_of_one_state_of_the_records() {
    let node = Node::start(NOW).await;
    let mut records = Vec::new();
    for partner in ["a", "b", "c"] {
        records.push(profile(partner, PartnerType::Reseller, "2025-01-01"));
        records.push(portal_user(&format!("user of {partner}"), partner));
        for resource in ["r1", "r2", "r3"] {
            records.push(event(
                &format!("{partner} {resource}"),
                partner,
                partner,
                "2026-03-10T09:00:00Z",
                v1::PortalEventKind::PageView,
                &format!("room of {resource}"),
                resource,
            ));
        }
        records.push(record(
            &format!("analysis of {partner}"),
            v1::record::Content::PartnerAnalysis(v1::PartnerAnalysisRecord {
                partner: partner.to_owned(),
                analyzed_at: day("2026-02-01"),
                capability: Some(10),
                ..Default::default()
            }),
        ));
    }
    // Whoever comes last is inactive: at risk.
    for partner in ["x", "y", "z"] {
        records.push(portal_user(&format!("user of {partner}"), partner));
    }
    node.ingest(records).await.expect("stored");
    // The second page of each list, with its size or the reason that there is none.
    let mut tokens: Vec<String> = Vec::new();
    let pages = async |tokens: &[String]| {
        let mut client = node.engagement(Role::Admin);
        let mut found: Vec<Result<(usize, String), String>> = Vec::new();
        macro_rules! pages {
            ($($client:ident $call:ident $request:ident $entries:ident,)*) => {$(
                let token = tokens.get(found.len()).cloned().unwrap_or_default();
                let request = v1::$request { page_size: 1, page_token: token, ..Default::default() };
                found.push(match $client.$call(request).await {
                    Ok(answer) => {
                        let answer = answer.into_inner();
                        Ok((answer.$entries.len(), answer.next_page_token))
                    }
                    Err(status) => Err(reason(&status)),
                });
            )*};
        }
        let mut intelligence = node.intelligence(Role::Admin, "ann");
        pages! {
            client list_leaderboard ListLeaderboardRequest rows,
            client list_at_risk_partners ListAtRiskPartnersRequest partners,
            client list_top_resources ListTopResourcesRequest resources,
            client list_top_rooms ListTopRoomsRequest rooms,
            intelligence list_areas_to_address ListAreasToAddressRequest areas,
        }
        found
    };
    let refused = Err("PAGE_TOKEN_INVALID".to_owned());
    let sizes = |found: &[Result<(usize, String), String>]| -> Vec<Result<usize, String>> {
        let size = |one: &Result<(usize, String), String>| one.clone().map(|(size, _)| size);
        found.iter().map(size).collect()
    };
    let start = async |tokens: &mut Vec<String>| {
        let first = pages(&[]).await;
        assert_eq!(sizes(&first), vec![Ok(1); 5]);
        *tokens = first
            .into_iter()
            .map(|one| one.expect("a page").1)
            .collect();
        assert_eq!(sizes(&pages(tokens).await), vec![Ok(1); 5]);
    };
    start(&mut tokens).await;
    // Areas are not made of events.
    node.ingest(vec![view("later", "z", "z", "2026-03-11T09:00:00Z")])
        .await
        .expect("stored");
    let mut expected = vec![refused.clone(); 4];
    expected.push(Ok(1));
    assert_eq!(sizes(&pages(&tokens).await), expected);

    start(&mut tokens).await;
    node.ingest(vec![profile("d", PartnerType::Reseller, "2025-01-01")])
        .await
        .expect("stored");
    assert_eq!(sizes(&pages(&tokens).await), vec![refused.clone(); 5]);

    start(&mut tokens).await;
    node.program(Role::Admin)
        .update_program_settings(v1::UpdateProgramSettingsRequest {
            settings: Some(v1::ProgramSettings {
                enabled_types: vec![PartnerType::Reseller as i32],
                ..Default::default()
            }),
            update_mask: None,
        })
        .await
        .expect("updated");
    assert_eq!(sizes(&pages(&tokens).await), expected);
}

/// G-21: type filter, available types returned, a disabled type is INVALID_ARGUMENT.
#[tokio::test]
async fn g21_types() {
    let node = Node::start(NOW).await;
    node.ingest(two_partners()).await.expect("stored");
    let resellers = || {
        Some(v1::EngagementFilter {
            types: vec![PartnerType::Reseller as i32],
            ..Default::default()
        })
    };
    assert_eq!(figures(&node, resellers()).await.sessions, 1);
    node.program(Role::Admin)
        .update_program_settings(v1::UpdateProgramSettingsRequest {
            settings: Some(v1::ProgramSettings {
                enabled_types: vec![PartnerType::Referral as i32],
                ..Default::default()
            }),
            update_mask: None,
        })
        .await
        .expect("updated");
    let answer = summary(&node, None).await;
    assert_eq!(
        answer.scope.expect("set").available_types,
        [PartnerType::Referral as i32]
    );
    assert_eq!(answer.figures.expect("set").sessions, 3);
    let refused = node
        .engagement(Role::Admin)
        .get_engagement_summary(v1::GetEngagementSummaryRequest {
            filter: resellers(),
        })
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(violations(&refused)[0].0, "filter.types");
}

/// G-22, G-23: quick ranges and several partners.
#[tokio::test]
async fn g22_g23_filters() {
    let node = Node::start(NOW).await;
    let mut records = two_partners();
    records.push(view("old", "a", "u1", "2026-02-10T09:00:00Z"));
    node.ingest(records).await.expect("stored");
    let with = |range: v1::QuickRange, partners: &[&str]| {
        Some(v1::EngagementFilter {
            range: Some(Range::QuickRange(range as i32)),
            partners: partners.iter().map(|&partner| partner.to_owned()).collect(),
            ..Default::default()
        })
    };
    assert_eq!(
        figures(&node, with(v1::QuickRange::LastMonth, &[]))
            .await
            .sessions,
        1
    );
    assert_eq!(
        figures(&node, with(v1::QuickRange::ThisQuarter, &[]))
            .await
            .sessions,
        5
    );
    assert_eq!(
        figures(&node, with(v1::QuickRange::ThisQuarter, &["a"]))
            .await
            .sessions,
        4
    );
    assert_eq!(
        figures(&node, with(v1::QuickRange::ThisQuarter, &["a", "b"]))
            .await
            .sessions,
        5
    );
}

/// G-25: an empty filter is everyone over the last 30 days, in UTC. G-29: how far the events go is told.
#[tokio::test]
async fn g25_g29_defaults_and_how_far_the_data_goes() {
    let node = Node::start(NOW).await;
    assert_eq!(
        summary(&node, None).await.scope.expect("set").data_through,
        None
    );
    node.ingest(two_partners()).await.expect("stored");
    // The last day before the 30, which end today, and a first one at their very start.
    node.ingest(vec![
        view("early", "a", "u1", "2026-03-01T23:59:59Z"),
        view("first", "a", "u1", "2026-03-02T00:30:00Z"),
    ])
    .await
    .expect("stored");
    let explicit = summary(&node, Node::days("2026-03-02", "2026-03-31")).await;
    let figures = explicit.figures.expect("set");
    // Four sessions of the two partners and the one on the first day.
    assert_eq!((figures.sessions, figures.unique_users), (5, 3));
    for filter in [None, Some(v1::EngagementFilter::default())] {
        let answer = summary(&node, filter).await;
        assert_eq!(answer, explicit);
        let scope = answer.scope.expect("set");
        assert_eq!(
            (scope.first_day.as_str(), scope.last_day.as_str()),
            ("2026-03-02", "2026-03-31")
        );
        assert_eq!(scope.time_zone, "UTC");
        // The latest event, although it is of another day than the latest to arrive.
        assert_eq!(scope.data_through, Some(time("2026-03-20T10:20:00Z")));
        assert_eq!(scope.definition_version, 1);
    }
    let board = leaderboard(&node, v1::ListLeaderboardRequest::default()).await;
    assert_eq!(board.scope, explicit.scope);
}

/// G-24: history by month, quarter and year, the current one last.
#[tokio::test]
async fn g24_history() {
    let node = Node::start(NOW).await;
    let mut records = two_partners();
    records.push(view("old", "a", "u1", "2026-01-31T09:00:00Z"));
    node.ingest(records).await.expect("stored");
    let mut client = node.engagement(Role::Admin);
    for (period, count, expected) in [
        (
            v1::EngagementPeriod::Month,
            3,
            vec![("2026-01", 1), ("2026-02", 0), ("2026-03", 4)],
        ),
        (
            v1::EngagementPeriod::Quarter,
            2,
            vec![("2025-Q4", 0), ("2026-Q1", 5)],
        ),
        (v1::EngagementPeriod::Year, 1, vec![("2026", 5)]),
    ] {
        let found = client
            .get_engagement_history(v1::GetEngagementHistoryRequest {
                period: period as i32,
                count,
                ..Default::default()
            })
            .await
            .expect("a history")
            .into_inner()
            .entries;
        let found: Vec<_> = found
            .iter()
            .map(|entry| (entry.label.as_str(), entry.figures.expect("set").sessions))
            .collect();
        assert_eq!(found, expected);
    }
}

/// G-26: zero sessions (access alone suffices), declining duration, few actions.
#[tokio::test]
async fn g26_at_risk() {
    use v1::EngagementRisk as Risk;
    let node = Node::start(NOW).await;
    let mut records = two_partners();
    records.push(portal_user("u9", "silent"));
    // b lasted 30 minutes in the 30 days before, 20 now.
    for (id, text) in [("p1", "10:00"), ("p2", "10:15"), ("p3", "10:30")] {
        records.push(view(id, "b", "u3", &format!("2026-02-20T{text}:00Z")));
    }
    // Actions per session: a 2/3, b 0, c 1. Nearest rank: ceil(3 / 4) = 1, so the least, 0: nobody is under it.
    records.push(event(
        "c1",
        "c",
        "u4",
        "2026-03-21T10:00:00Z",
        Event::ClickLink,
        "",
        "",
    ));
    node.ingest(records).await.expect("stored");
    let found = node
        .engagement(Role::Admin)
        .list_at_risk_partners(v1::ListAtRiskPartnersRequest::default())
        .await
        .expect("a list")
        .into_inner()
        .partners;
    let risks: Vec<(&str, Vec<Risk>)> = found
        .iter()
        .map(|partner| (partner.partner.as_str(), partner.risks().collect()))
        .collect();
    assert_eq!(
        risks,
        [
            ("b", vec![Risk::DecliningDuration]),
            ("silent", vec![Risk::Inactive]),
        ]
    );
    assert_eq!(found[0].last_session_at, Some(time("2026-03-20T10:00:00Z")));
    assert_eq!(found[1].last_session_at, None);
    // Five active partners: ceil(5 / 4) = 2, the second least of 0, 0.67, 1, 1, 1 is 2/3; b is under it.
    node.ingest(vec![
        event(
            "d1",
            "d",
            "u5",
            "2026-03-21T10:00:00Z",
            Event::ClickLink,
            "",
            "",
        ),
        event(
            "f1",
            "f",
            "u6",
            "2026-03-21T10:00:00Z",
            Event::ClickLink,
            "",
            "",
        ),
    ])
    .await
    .expect("stored");
    let found = node
        .engagement(Role::Admin)
        .list_at_risk_partners(v1::ListAtRiskPartnersRequest {
            risks: vec![Risk::LowActions as i32],
            ..Default::default()
        })
        .await
        .expect("a list")
        .into_inner()
        .partners;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (
            found[0].partner.as_str(),
            found[0].risks().collect::<Vec<_>>()
        ),
        ("b", vec![Risk::DecliningDuration, Risk::LowActions])
    );
}

/// G-27: by type, tenure (b enrolled 30 days ago, a long before) and level (the top quartile of two is one).
#[tokio::test]
async fn g27_groups() {
    let node = Node::start(NOW).await;
    node.ingest(two_partners()).await.expect("stored");
    for (comparison, expected) in [
        (
            v1::EngagementComparison::Type,
            [("REFERRAL", 3), ("RESELLER", 1)],
        ),
        (
            v1::EngagementComparison::Tenure,
            [("NEW", 1), ("ESTABLISHED", 3)],
        ),
        (
            v1::EngagementComparison::Level,
            [("HIGH", 3), ("AVERAGE", 1)],
        ),
    ] {
        let found = node
            .engagement(Role::Admin)
            .compare_engagement(v1::CompareEngagementRequest {
                filter: None,
                comparison: comparison as i32,
            })
            .await
            .expect("groups")
            .into_inner()
            .groups;
        let found: Vec<_> = found
            .iter()
            .map(|group| (group.id.as_str(), group.figures.expect("set").sessions))
            .collect();
        assert_eq!(found, expected, "{comparison:?}");
    }
}

/// G-28: why there is nothing.
#[tokio::test]
async fn g28_reasons() {
    let node = Node::start(NOW).await;
    let only = |partner: &str| {
        Some(v1::EngagementFilter {
            partners: vec![partner.to_owned()],
            ..Default::default()
        })
    };
    node.ingest(vec![profile("p", PartnerType::Referral, "2026-01-01")])
        .await
        .expect("stored");
    assert_eq!(
        reason_of(summary(&node, None).await.scope),
        NoDataReason::NoAccess
    );
    node.ingest(vec![portal_user("u", "p")])
        .await
        .expect("stored");
    assert_eq!(
        reason_of(summary(&node, None).await.scope),
        NoDataReason::NoLogins
    );
    node.ingest(vec![
        profile("q", PartnerType::Referral, "2026-01-01"),
        view("e", "r", "v", "2026-03-10T09:00:00Z"),
    ])
    .await
    .expect("stored");
    assert_eq!(
        reason_of(summary(&node, None).await.scope),
        NoDataReason::Unspecified
    );
    assert_eq!(
        reason_of(summary(&node, only("q")).await.scope),
        NoDataReason::NoAccess
    );
    assert_eq!(
        reason_of(summary(&node, only("p")).await.scope),
        NoDataReason::FilteredOut
    );
    assert_eq!(
        reason_of(summary(&node, only("nobody")).await.scope),
        NoDataReason::FilteredOut
    );
    let later = Node::days("2026-03-20", "2026-03-21");
    assert_eq!(
        reason_of(summary(&node, later).await.scope),
        NoDataReason::NotIngested
    );
    let earlier = Node::days("2026-02-20", "2026-02-21");
    assert_eq!(
        reason_of(summary(&node, earlier).await.scope),
        NoDataReason::NoLogins
    );
}

/// G-30: complete months only; one more session every month is increasing, two cycles are needed for a season.
#[tokio::test]
async fn g30_trends() {
    let node = Node::start(NOW).await;
    let mut records = Vec::new();
    for month in 1..=2 {
        for day in 1..=month {
            let at = format!("2026-{month:02}-{day:02}T09:00:00Z");
            records.push(view(&format!("e{month}-{day}"), "a", "u", &at));
        }
    }
    node.ingest(records).await.expect("stored");
    let mut client = node.engagement(Role::Admin);
    let mut ask = async |months| {
        client
            .get_engagement_trends(v1::GetEngagementTrendsRequest {
                filter: None,
                months,
            })
            .await
            .expect("trends")
            .into_inner()
            .trends
    };
    let trends = ask(3).await;
    assert_eq!(trends[1].metric, "sessions");
    // December 2025, January and February 2026; March is not complete.
    assert_eq!(trends[1].values, [0.0, 1.0, 2.0]);
    assert_eq!(trends[1].direction(), v1::TrendDirection::Increasing);
    assert_eq!(trends[1].seasonal, None);
    assert_eq!(ask(24).await[1].seasonal, Some(false));
}

/// K-28: the leaderboard as CSV.
#[tokio::test]
async fn k28_engagement_export() {
    let node = Node::start(NOW).await;
    node.ingest(two_partners()).await.expect("stored");
    let mut stream = node
        .engagement(Role::Admin)
        .export_engagement(v1::ExportEngagementRequest {
            filter: Node::days("2026-03-09", "2026-03-12"),
            export: v1::EngagementExport::Timeline as i32,
            format: v1::ExportFormat::Csv as i32,
        })
        .await
        .expect("a stream")
        .into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.expect("a chunk") {
        file.extend(message.chunk);
    }
    assert_eq!(
        String::from_utf8(file).expect("text"),
        "first_day,last_day,sessions,page_views,unique_users\n\
         2026-03-09,2026-03-09,0,0,0\n\
         2026-03-10,2026-03-10,1,2,1\n\
         2026-03-11,2026-03-11,1,1,1\n\
         2026-03-12,2026-03-12,1,0,1\n"
    );
}
