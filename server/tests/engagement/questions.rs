//! Questions about engagement, and the events that several tests send.
#![allow(dead_code, reason = "each test file uses a part")]

use overlap_proto::v1::{self, NoDataReason, PartnerType, PortalEventKind as Event};
use overlap_server::auth::Role;

use super::support::*;

pub(crate) const NOW: &str = "2026-03-31T12:00:00Z";

pub(crate) async fn summary(
    node: &Node,
    filter: Option<v1::EngagementFilter>,
) -> v1::GetEngagementSummaryResponse {
    node.engagement(Role::PartnerAdmin)
        .get_engagement_summary(v1::GetEngagementSummaryRequest { filter })
        .await
        .expect("a summary")
        .into_inner()
}

pub(crate) async fn figures(
    node: &Node,
    filter: Option<v1::EngagementFilter>,
) -> v1::EngagementFigures {
    summary(node, filter).await.figures.expect("set")
}

pub(crate) fn seconds(duration: Option<prost_types::Duration>) -> Option<i64> {
    duration.map(|duration| duration.seconds)
}

pub(crate) fn reason_of(scope: Option<v1::EngagementScope>) -> NoDataReason {
    scope.expect("set").no_data_reason()
}

/// Partner a: user 1 one session of 10 minutes (2 views, 1 action), user 2 two single-event sessions.
/// Partner b: user 3 one session of 20 minutes (3 views).
pub(crate) fn two_partners() -> Vec<v1::Record> {
    let at = |text: &str| format!("2026-03-{text}:00Z");
    vec![
        profile("a", PartnerType::Referral, "2025-01-01"),
        profile("b", PartnerType::Reseller, "2026-03-01"),
        portal_user("u1", "a"),
        portal_user("u2", "a"),
        portal_user("u3", "b"),
        event(
            "e1",
            "a",
            "u1",
            &at("10T09:00"),
            Event::PageView,
            "lobby",
            "guide",
        ),
        event(
            "e2",
            "a",
            "u1",
            &at("10T09:04"),
            Event::DownloadFile,
            "lobby",
            "guide",
        ),
        event(
            "e3",
            "a",
            "u1",
            &at("10T09:10"),
            Event::PageView,
            "lobby",
            "deck",
        ),
        event(
            "e4",
            "a",
            "u2",
            &at("11T09:00"),
            Event::PageView,
            "lobby",
            "guide",
        ),
        event("e5", "a", "u2", &at("12T09:00"), Event::UseSearch, "", ""),
        event(
            "e6",
            "b",
            "u3",
            &at("20T10:00"),
            Event::PageView,
            "stage",
            "deck",
        ),
        event(
            "e7",
            "b",
            "u3",
            &at("20T10:10"),
            Event::PageView,
            "stage",
            "deck",
        ),
        event("e8", "b", "u3", &at("20T10:20"), Event::PageView, "", ""),
    ]
}
