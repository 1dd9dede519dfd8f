//! Use of the dashboard itself.

#[path = "records/support.rs"]
mod support;

use overlap_proto::v1;
use overlap_server::{audit, auth::Role};
use support::*;

const NOW: &str = "2026-03-31T12:00:00Z";

fn quarter() -> Option<v1::ProgramFilter> {
    period("2026-01-01", "2026-04-01")
}

/// Writes into the audit log when forecasts were looked at, and how often.
async fn see_forecasts<const N: usize>(node: &Node, seen: [(&'static str, &'static str); N]) {
    node.store
        .write(move |tx| {
            for (time, calls) in seen {
                let at = time.parse().expect("a time");
                let details = [("view", "GetForecast"), ("calls", calls)];
                audit::record(tx, at, "tok_other", audit::DASHBOARD_VIEWED, None, &details)?;
            }
            Ok(())
        })
        .await
        .expect("written");
}

/// K-38: who looked at what, from the audit log; calls that were refused do not count.
#[tokio::test]
async fn k38_adoption_is_read_from_the_audit_log() {
    let node = Node::start(NOW).await;
    for _ in 0..2 {
        node.program(Role::PartnerManager)
            .get_scorecard(v1::GetScorecardRequest::default())
            .await
            .expect("a scorecard");
    }
    node.program_of("p1")
        .get_scorecard(v1::GetScorecardRequest::default())
        .await
        .expect("a scorecard");
    // The service of engagement counts into the same log.
    node.engagement(Role::Admin)
        .get_engagement_summary(v1::GetEngagementSummaryRequest::default())
        .await
        .expect("a summary");
    node.engagement(Role::Member)
        .get_engagement_summary(v1::GetEngagementSummaryRequest::default())
        .await
        .expect_err("refused");
    let adoption = async || {
        let answer = node
            .program(Role::Admin)
            .get_dashboard_adoption(v1::GetDashboardAdoptionRequest { filter: quarter() })
            .await
            .expect("adoption")
            .into_inner();
        let uses = |view: &v1::DashboardUse| (view.view.clone(), view.calls, view.users);
        let views: Vec<_> = answer.views.iter().map(uses).collect();
        (views, answer.calls, answer.users)
    };
    let used = |view: &str, calls, users| (view.to_owned(), calls, users);
    // The call itself counts, too.
    let seen = [
        used("GetDashboardAdoption", 1, 1),
        used("GetEngagementSummary", 1, 1),
        used("GetScorecard", 3, 2),
    ];
    assert_eq!(adoption().await, (seen.to_vec(), 5, 2));

    // The log says so, and what else it says is counted: 4 calls within P, 8 on the day after it, 16 before it.
    let forecasts = [
        ("2026-01-01T00:00:00Z", "4"),
        ("2026-04-01T00:00:00Z", "8"),
        ("2025-12-31T23:59:59.999999Z", "16"),
    ];
    see_forecasts(&node, forecasts).await;
    let seen = [
        used("GetDashboardAdoption", 2, 1),
        used("GetEngagementSummary", 1, 1),
        used("GetForecast", 4, 1),
        used("GetScorecard", 3, 2),
    ];
    assert_eq!(adoption().await, (seen.to_vec(), 10, 3));
    let events = node
        .store
        .read(|connection| {
            audit::verify(connection)?;
            audit::list(connection, None, None, 100)
        })
        .await
        .expect("a log that is whole");
    let scorecards: Vec<_> = events
        .iter()
        .filter(|event| {
            event
                .details
                .contains(&("view".to_owned(), "GetScorecard".to_owned()))
        })
        .map(|event| (event.actor.as_str(), event.details[0].clone()))
        .collect();
    let calls = |calls: &str| ("calls".to_owned(), calls.to_owned());
    assert_eq!(
        scorecards,
        [("user", calls("2")), ("their user", calls("1"))]
    );
}

/// K-38: of a P that is over the day after it is no part; a P that ends within a day has that day.
#[tokio::test]
async fn k38_adoption_ends_with_p() {
    let node = Node::start(NOW).await;
    let forecasts = [
        ("2026-01-31T23:59:59.999999Z", "4"),
        ("2026-02-01T00:00:00Z", "8"),
        ("2026-02-02T00:00:00Z", "16"),
    ];
    see_forecasts(&node, forecasts).await;
    let calls = async |end: &str| {
        let filter = v1::ProgramFilter {
            period: Some(v1::program_filter::Period::Interval(v1::TimeInterval {
                start: day("2026-01-01"),
                end: Some(time(end)),
            })),
            ..Default::default()
        };
        node.program(Role::Admin)
            .get_dashboard_adoption(v1::GetDashboardAdoptionRequest {
                filter: Some(filter),
            })
            .await
            .expect("adoption")
            .into_inner()
            .calls
    };
    assert_eq!(calls("2026-02-01T00:00:00Z").await, 4);
    assert_eq!(calls("2026-02-01T00:00:00.000000001Z").await, 12);
}
