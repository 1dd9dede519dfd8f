//! Every method that answers page by page.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A listing, and for each field that narrows or orders it what to put there instead.
pub fn listings() -> BTreeMap<&'static str, (Value, Value)> {
    let narrowed = || json!({"partners": ["p1"]});
    let attributions = || {
        let base = json!({"partner": "Globex"});
        let others =
            json!({"partner": "Initech", "state": "ATTRIBUTION_STATE_PENDING", "customer": "a1"});
        (base, others)
    };
    let assets = || {
        let others = json!({"partner": "Initech", "kind": "ASSET_KIND_CASE_STUDY"});
        (json!({"partner": "Globex"}), others)
    };
    BTreeMap::from([
        ("AdminService.ListTokens", (json!({}), json!({}))),
        (
            "AdminService.ListAuditEvents",
            (json!({}), json!({"partner": "Globex"})),
        ),
        (
            "AssetService.ListAssets",
            (json!({}), json!({"kind": "ASSET_KIND_CASE_STUDY"})),
        ),
        ("AssetService.ListAssetsFromPartner", assets()),
        ("AssetService.ListAssetsSharedWithPartner", assets()),
        ("AttributionService.ListSentAttributions", attributions()),
        (
            "AttributionService.ListReceivedAttributions",
            attributions(),
        ),
        (
            "CustomerService.ListCustomers",
            (
                json!({}),
                json!({"stage": "Customer", "search": "customer"}),
            ),
        ),
        (
            "EngagementService.ListTopResources",
            (json!({}), json!({"filter": narrowed()})),
        ),
        (
            "EngagementService.ListTopRooms",
            (json!({}), json!({"filter": narrowed()})),
        ),
        (
            "EngagementService.ListLeaderboard",
            (
                json!({}),
                json!({
                    "filter": narrowed(), "order_by": "LEADERBOARD_COLUMN_NAME",
                    "direction": "SORT_DIRECTION_ASCENDING", "read_mask": "rank,name",
                }),
            ),
        ),
        (
            "EngagementService.ListAtRiskPartners",
            (
                json!({}),
                json!({"filter": narrowed(), "risks": ["ENGAGEMENT_RISK_INACTIVE"]}),
            ),
        ),
        (
            "MatchService.ListRuns",
            (json!({"partner": "Globex"}), json!({"partner": "Initech"})),
        ),
        (
            "ReceiptService.ListReceipts",
            (json!({}), json!({"partner": "Globex"})),
        ),
        (
            "OverlapService.ListSharedCustomers",
            (
                json!({"partner": "Globex"}),
                json!({
                    "partner": "Initech", "mine": "Customer", "theirs": "Customer", "search": "customer",
                    "targets_only": true,
                }),
            ),
        ),
        (
            "PartnershipService.ListPartnerships",
            (json!({}), json!({"connected_only": true})),
        ),
        (
            "ProgramIntelligenceService.ListAreasToAddress",
            (
                json!({}),
                json!({"filter": narrowed(), "scores": ["PARTNER_SCORE_CAPABILITY"], "below": 49}),
            ),
        ),
        (
            "ProgramService.GetMetricBreakdown",
            (
                json!({"dimension": "METRIC_DIMENSION_PARTNER"}),
                json!({
                    "filter": narrowed(), "metrics": ["won_deals"], "dimension": "METRIC_DIMENSION_TYPE",
                }),
            ),
        ),
        (
            "ProgramService.ListAlerts",
            (
                json!({}),
                json!({"filter": narrowed(), "kinds": ["ALERT_KIND_STALLED_DEAL"]}),
            ),
        ),
        (
            "RecordService.ListRecords",
            (
                json!({"kind": "RECORD_KIND_DEAL"}),
                json!({"kind": "RECORD_KIND_PARTNER_PROFILE", "partner": "p1"}),
            ),
        ),
        (
            "TimelineService.ListActionSegment",
            (
                json!({"partner": "Globex", "segment": "ACTION_SEGMENT_MUTUAL_CUSTOMERS"}),
                json!({"partner": "Initech", "segment": "ACTION_SEGMENT_NEWLY_SHARED"}),
            ),
        ),
    ])
}
