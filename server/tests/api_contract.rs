//! What holds for every method of `overlap.v1`, enumerated from the descriptors: a new method without an entry fails.

#![allow(
    clippy::unwrap_used,
    clippy::result_large_err,
    unreachable_pub,
    missing_docs,
    reason = "a test that cannot go on fails"
)]

mod attribution_support;
#[path = "api_contract/raw.rs"]
mod raw;
#[path = "api_contract/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use attribution_support::node_support::reason;
use overlap_proto::v1::Role;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value as FieldValue};
use raw::{Caller, method, methods};
use serde_json::{Value, json};
use tonic::{Code, Status};
use world::World;

/// Who may call a method; everyone else is told PERMISSION_DENIED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Admin,
    Admins,
    Managers,
    Staff,
    /// Managers, and a partner's user for its own company.
    Readers,
    Everyone,
    /// Managers; to a partner's user it does not exist (I-13).
    Lifecycle,
}

const ROLES: [Role; 5] = [
    Role::Admin,
    Role::PartnerAdmin,
    Role::PartnerManager,
    Role::Member,
    Role::Partner,
];

impl May {
    fn admits(self, role: Role) -> bool {
        use Role as R;
        match self {
            Self::Admin => matches!(role, R::Admin),
            Self::Admins => matches!(role, R::Admin | R::PartnerAdmin),
            Self::Managers | Self::Lifecycle => {
                matches!(role, R::Admin | R::PartnerAdmin | R::PartnerManager)
            }
            Self::Staff => role != R::Partner,
            Self::Readers => role != R::Member,
            Self::Everyone => true,
        }
    }
}

/// Method, who may call it, a request that does no harm, and how whoever may call it is answered.
fn roles() -> Vec<(&'static str, May, Value, Code)> {
    use Code::{InvalidArgument, NotFound, Ok};
    use May::{Admin, Admins, Everyone, Lifecycle, Managers, Readers, Staff};
    let globex = || json!({"partner": "Globex"});
    let nobody = || json!({"partner": "Nobody"});
    let of_globex = |field: &str| json!({"partner": "Globex", field: "nobody"});
    let days = json!({"first_day": "2026-02-01", "last_day": "2026-02-02"});
    vec![
        ("AdminService.GetNode", Everyone, json!({}), Ok),
        (
            "AdminService.CreateToken",
            Admin,
            json!({}),
            InvalidArgument,
        ),
        ("AdminService.ListTokens", Admin, json!({}), Ok),
        (
            "AdminService.RevokeToken",
            Admin,
            json!({"id": "nobody"}),
            NotFound,
        ),
        ("AdminService.ListAuditEvents", Admin, json!({}), Ok),
        (
            "AssetService.UploadAsset",
            Managers,
            json!({}),
            InvalidArgument,
        ),
        (
            "AssetService.DeleteAsset",
            Managers,
            json!({"id": "nobody"}),
            NotFound,
        ),
        (
            "AssetService.ShareAsset",
            Managers,
            of_globex("id"),
            NotFound,
        ),
        (
            "AssetService.UnshareAsset",
            Managers,
            of_globex("id"),
            NotFound,
        ),
        ("AssetService.ListAssets", Staff, json!({}), Ok),
        ("AssetService.ListAssetsFromPartner", Staff, globex(), Ok),
        (
            "AssetService.ListAssetsSharedWithPartner",
            Staff,
            globex(),
            Ok,
        ),
        (
            "AssetService.DownloadAsset",
            Staff,
            of_globex("id"),
            NotFound,
        ),
        (
            "AttributionService.RequestAttribution",
            Staff,
            json!({"partner": "Globex", "customer": "nobody", "details": "x"}),
            NotFound,
        ),
        (
            "AttributionService.ListSentAttributions",
            Staff,
            globex(),
            Ok,
        ),
        (
            "AttributionService.ListReceivedAttributions",
            Staff,
            globex(),
            Ok,
        ),
        (
            "AttributionService.GetAttribution",
            Staff,
            of_globex("id"),
            NotFound,
        ),
        (
            "AttributionService.ApproveAttribution",
            Managers,
            of_globex("id"),
            NotFound,
        ),
        (
            "AttributionService.DenyAttribution",
            Managers,
            of_globex("id"),
            NotFound,
        ),
        (
            "AttributionService.CancelAttribution",
            Staff,
            of_globex("id"),
            NotFound,
        ),
        (
            "AttributionService.GetAttributionMetrics",
            Staff,
            globex(),
            Ok,
        ),
        ("ChangeService.WatchChanges", Staff, json!({}), Ok),
        (
            "CustomerService.UpsertCustomers",
            Admins,
            json!({"last": true}),
            Ok,
        ),
        (
            "CustomerService.ImportCustomers",
            Admins,
            json!({"last": true}),
            InvalidArgument,
        ),
        (
            "CustomerService.DeleteCustomers",
            Admins,
            json!({"last": true}),
            Ok,
        ),
        ("CustomerService.ListCustomers", Staff, json!({}), Ok),
        ("CustomerService.ListStages", Staff, json!({}), Ok),
        ("CustomerService.UpsertStages", Admins, json!({}), Ok),
        (
            "EngagementService.GetEngagementSummary",
            Admins,
            json!({}),
            Ok,
        ),
        (
            "EngagementService.GetEngagementTimeline",
            Admins,
            json!({}),
            Ok,
        ),
        (
            "EngagementService.GetEngagementHistory",
            Admins,
            json!({"period": "ENGAGEMENT_PERIOD_MONTH"}),
            Ok,
        ),
        ("EngagementService.ListTopResources", Admins, json!({}), Ok),
        ("EngagementService.ListTopRooms", Admins, json!({}), Ok),
        ("EngagementService.ListLeaderboard", Admins, json!({}), Ok),
        (
            "EngagementService.ListAtRiskPartners",
            Admins,
            json!({}),
            Ok,
        ),
        (
            "EngagementService.CompareEngagement",
            Admins,
            json!({"comparison": "ENGAGEMENT_COMPARISON_TYPE"}),
            Ok,
        ),
        (
            "EngagementService.GetEngagementTrends",
            Admins,
            json!({}),
            Ok,
        ),
        (
            "EngagementService.ExportEngagement",
            Admins,
            json!({"export": "ENGAGEMENT_EXPORT_ROOMS", "format": "EXPORT_FORMAT_CSV"}),
            Ok,
        ),
        ("MatchService.StartRun", Managers, nobody(), NotFound),
        (
            "MatchService.GetRun",
            Staff,
            json!({"run": "nobody"}),
            NotFound,
        ),
        ("MatchService.ListRuns", Staff, globex(), Ok),
        (
            "MatchService.WatchRun",
            Staff,
            json!({"run": "nobody"}),
            NotFound,
        ),
        (
            "MatchService.CancelRun",
            Managers,
            json!({"run": "nobody"}),
            NotFound,
        ),
        ("OverlapService.GetMatrix", Staff, globex(), Ok),
        ("OverlapService.ListSharedCustomers", Staff, globex(), Ok),
        (
            "OverlapService.GetSharedCustomer",
            Staff,
            of_globex("id"),
            NotFound,
        ),
        ("OverlapService.SetTargets", Staff, nobody(), NotFound),
        (
            "OverlapService.ExplainCustomer",
            Staff,
            of_globex("id"),
            NotFound,
        ),
        ("PartnerInfoService.GetPartnerInfo", Staff, globex(), Ok),
        ("PartnerInfoService.GetOwnInfo", Staff, json!({}), Ok),
        (
            "PartnerInfoService.SetOwnInfo",
            Admins,
            json!({}),
            InvalidArgument,
        ),
        (
            "PartnershipService.CreateInvite",
            Admin,
            json!({"endpoint": "nowhere"}),
            InvalidArgument,
        ),
        (
            "PartnershipService.AcceptInvite",
            Admin,
            json!({}),
            InvalidArgument,
        ),
        (
            "PartnershipService.ListPartnerships",
            Everyone,
            json!({}),
            Ok,
        ),
        ("PartnershipService.GetPartnership", Everyone, globex(), Ok),
        (
            "PartnershipService.RevokePartnership",
            Admin,
            nobody(),
            NotFound,
        ),
        (
            "ProgramIntelligenceService.ListMetricCards",
            Readers,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.ListPartnerStrengths",
            Lifecycle,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.RequestAnalysisRefresh",
            Lifecycle,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.ListAnalysisRefreshRequests",
            Lifecycle,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.ListAreasToAddress",
            Lifecycle,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.GetPartnerLifecycle",
            Lifecycle,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.GetPartnerCoverage",
            Lifecycle,
            json!({"dimension": "COVERAGE_DIMENSION_REGION"}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.ListCoverageGaps",
            Lifecycle,
            json!({"dimension": "COVERAGE_DIMENSION_REGION"}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.ComparePartnerTiers",
            Lifecycle,
            json!({}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.GetViewPreferences",
            Everyone,
            json!({"view": "program"}),
            Ok,
        ),
        (
            "ProgramIntelligenceService.UpdateViewPreferences",
            Everyone,
            json!({"view": "program"}),
            Ok,
        ),
        (
            "ProgramService.ListMetricDefinitions",
            Readers,
            json!({}),
            Ok,
        ),
        ("ProgramService.GetScorecard", Readers, json!({}), Ok),
        ("ProgramService.GetMetrics", Readers, json!({}), Ok),
        (
            "ProgramService.GetMetricBreakdown",
            Readers,
            json!({"dimension": "METRIC_DIMENSION_PARTNER"}),
            Ok,
        ),
        (
            "ProgramService.GetMetricSeries",
            Readers,
            json!({"period": "ENGAGEMENT_PERIOD_MONTH"}),
            Ok,
        ),
        ("ProgramService.GetStageConversion", Readers, json!({}), Ok),
        ("ProgramService.GetForecast", Readers, json!({}), Ok),
        ("ProgramService.CompareMetrics", Readers, json!({}), Ok),
        ("ProgramService.GetEnablement", Readers, json!({}), Ok),
        ("ProgramService.ListAlerts", Readers, json!({}), Ok),
        ("ProgramService.GetExecutiveView", Readers, json!({}), Ok),
        (
            "ProgramService.GetPartnerOverview",
            Readers,
            json!({"partner": "p1"}),
            Ok,
        ),
        ("ProgramService.GetEcosystemSignals", Readers, json!({}), Ok),
        ("ProgramService.GetDashboardAdoption", Admins, json!({}), Ok),
        (
            "ProgramService.ExportMetrics",
            Readers,
            json!({"format": "EXPORT_FORMAT_CSV"}),
            Ok,
        ),
        (
            "ProgramService.ExportDailyFeed",
            Readers,
            json!({"days": days, "format": "EXPORT_FORMAT_NDJSON"}),
            Ok,
        ),
        ("ProgramService.GetProgramSettings", Managers, json!({}), Ok),
        (
            "ProgramService.UpdateProgramSettings",
            Admins,
            json!({}),
            Ok,
        ),
        ("RecordService.IngestRecords", Admins, json!({}), Ok),
        (
            "RecordService.ImportRecords",
            Admins,
            json!({}),
            InvalidArgument,
        ),
        (
            "RecordService.GetRecord",
            Managers,
            json!({"kind": "RECORD_KIND_DEAL", "id": "nobody"}),
            NotFound,
        ),
        (
            "RecordService.ListRecords",
            Managers,
            json!({"kind": "RECORD_KIND_DEAL"}),
            Ok,
        ),
        (
            "SharingService.SetPolicy",
            Admins,
            nobody(),
            InvalidArgument,
        ),
        ("SharingService.ApproveProposal", Admins, nobody(), NotFound),
        ("SharingService.DeclineProposal", Admins, nobody(), NotFound),
        ("SharingService.RevokeSharing", Admins, nobody(), NotFound),
        ("SharingService.GetSharing", Staff, globex(), Ok),
        (
            "TimelineService.GetTimeline",
            Staff,
            of_globex("customer"),
            NotFound,
        ),
        ("TimelineService.GetStageMovements", Staff, globex(), Ok),
        ("TimelineService.GetReferralConversion", Staff, globex(), Ok),
        ("TimelineService.GetActionSegments", Staff, globex(), Ok),
        (
            "TimelineService.ListActionSegment",
            Staff,
            json!({"partner": "Globex", "segment": "ACTION_SEGMENT_MUTUAL_CUSTOMERS"}),
            Ok,
        ),
    ]
}

fn code(answer: &Result<DynamicMessage, Status>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// Message and details of a refusal, with a name that the caller chose put in place of another of the same length.
fn renamed(status: &Status, from: &str, to: &str) -> (Code, String, Vec<u8>) {
    assert_eq!(from.len(), to.len());
    let mut details = status.details().to_vec();
    for start in 0..details.len().saturating_sub(from.len() - 1) {
        if details[start..].starts_with(from.as_bytes()) {
            details[start..start + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    (status.code(), status.message().replace(from, to), details)
}

/// K-27, G-01, I-13: every method of the API, called as every role and without a token.
#[tokio::test(flavor = "multi_thread")]
async fn k27_g01_i13_every_method_knows_its_roles() {
    let table = roles();
    let entries: BTreeSet<String> = table.iter().map(|entry| entry.0.to_owned()).collect();
    let all: BTreeSet<String> = methods().into_iter().map(|(name, _)| name).collect();
    assert_eq!(entries, all, "every method has one entry");
    assert_eq!(table.len(), entries.len());
    let world = World::new().await;
    let mut wrong = Vec::new();
    let mut note = |name: &str, role: &str, problem: String| {
        wrong.push(format!("{name} as {role}: {problem}"));
    };
    for role in ROLES {
        let caller = world.role(role).await;
        let absent = caller
            .call(
                &method("ProgramIntelligenceService.GetViewPreferences"),
                &json!({"view": "no-such-view-here"}),
            )
            .await
            .unwrap_err();
        let absent = renamed(&absent, "no-such-view-here", "partner-lifecycle");
        for (name, may, request, expected) in &table {
            let answer = caller.call(&method(name), request).await;
            let role_name = role.as_str_name();
            if may.admits(role) {
                if code(&answer) != *expected {
                    note(name, role_name, format!("{answer:?}, not {expected:?}"));
                }
            } else if *may == May::Lifecycle && role == Role::Partner {
                let refused = answer.expect_err("hidden");
                let hidden = renamed(&refused, "no-such-view-here", "partner-lifecycle");
                if hidden != absent || hidden.0 != Code::NotFound {
                    note(
                        name,
                        role_name,
                        format!("{refused:?} is not how absence is told"),
                    );
                }
            } else if code(&answer) != Code::PermissionDenied
                || reason(&answer.as_ref().unwrap_err().clone()) != "ROLE_NOT_ALLOWED"
            {
                note(name, role_name, format!("{answer:?}, not refused"));
            }
        }
    }
    let anonymous = world.anonymous().await;
    for (name, _, request, _) in &table {
        let answer = anonymous.call(&method(name), request).await;
        if code(&answer) != Code::Unauthenticated
            || reason(&answer.as_ref().unwrap_err().clone()) != "UNAUTHENTICATED"
        {
            note(name, "nobody", format!("{answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// K-27, I-13: what a partner's user may not know of is answered, to the byte, like what does not exist.
#[tokio::test(flavor = "multi_thread")]
async fn i13_k27_what_is_hidden_is_worded_like_what_is_absent() {
    let world = World::new().await;
    let partner = world.role(Role::Partner).await;
    let cases = [
        (
            "PartnershipService.GetPartnership",
            json!({"partner": "Initech"}),
            "Initech",
            "Nowhere",
        ),
        (
            "ProgramService.GetMetrics",
            json!({"filter": {"partners": ["p2"]}}),
            "p2",
            "zz",
        ),
        (
            "ProgramService.ListAlerts",
            json!({"filter": {"partners": ["p2"]}}),
            "p2",
            "zz",
        ),
        (
            "ProgramIntelligenceService.GetViewPreferences",
            json!({"view": "partner-lifecycle"}),
            "partner-lifecycle",
            "no-such-view-here",
        ),
        (
            "ProgramIntelligenceService.UpdateViewPreferences",
            json!({"view": "partner-lifecycle"}),
            "partner-lifecycle",
            "no-such-view-here",
        ),
        (
            "ProgramIntelligenceService.GetViewPreferences",
            json!({"view": "engagement"}),
            "engagement",
            "engagemend",
        ),
    ];
    for (name, request, there, absent) in cases {
        let method = method(name);
        let hidden = partner.call(&method, &request).await.unwrap_err();
        let text = request.to_string().replace(there, absent);
        let request = serde_json::from_str(&text).unwrap();
        let missing = partner.call(&method, &request).await.unwrap_err();
        assert_eq!(hidden.code(), Code::NotFound, "{name}");
        assert_eq!(reason(&hidden), "NOT_FOUND", "{name}");
        assert_eq!(
            renamed(&hidden, there, absent),
            renamed(&missing, absent, absent),
            "{name}"
        );
    }
    // What it does see is its own company, although its token names the partnership and records the profile.
    let overview = partner
        .call(
            &method("ProgramService.GetPartnerOverview"),
            &json!({"partner": "p2"}),
        )
        .await
        .unwrap();
    let overview = serde_json::to_value(&overview).unwrap();
    assert_eq!(
        (&overview["partner"], &overview["profile"]["name"]),
        (&json!("p1"), &json!("Globex"))
    );
    assert_eq!(overview["deals"].as_array().unwrap().len(), 1);
    let alerts = partner
        .call(&method("ProgramService.ListAlerts"), &json!({}))
        .await
        .unwrap();
    let alerts = serde_json::to_value(&alerts).unwrap();
    let alerts: Vec<_> = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(alerts, ["stalled_deal:d1"]);
}

/// A listing, and for each field that narrows or orders it what to put there instead.
fn listings() -> BTreeMap<&'static str, (Value, Value)> {
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

fn with(base: &Value, field: &str, value: &Value) -> Value {
    let mut request = base.clone();
    request[field] = value.clone();
    request
}

/// The entries of a page: the answer's first repeated field.
fn entries(answer: &DynamicMessage) -> Vec<FieldValue> {
    let list = answer
        .descriptor()
        .fields()
        .find(prost_reflect::FieldDescriptor::is_list);
    answer.get_field(&list.unwrap()).as_list().unwrap().to_vec()
}

fn next_token(answer: &DynamicMessage) -> String {
    let token = answer.get_field_by_name("next_page_token").unwrap();
    token.as_str().unwrap().to_owned()
}

async fn is_refused(admin: &Caller, name: &str, request: &Value, problem: &str) {
    let answer = admin.call(&method(name), request).await;
    let Err(status) = answer else {
        panic!("{name} takes {problem}: {request}");
    };
    // Where nothing is shared with a partner there is no listing that a token could continue.
    let is_not_shared = problem == "another partner" && reason(&status) == "SHARING_NOT_ACTIVE";
    assert!(
        reason(&status) == "PAGE_TOKEN_INVALID" || is_not_shared,
        "{name}, {problem}: {status:?}"
    );
}

/// G-19, K-27: a page token continues its own listing, filter and order, and nothing else, to the bit.
#[tokio::test(flavor = "multi_thread")]
async fn g19_page_tokens_are_bound_to_filter_and_order() {
    let listings = listings();
    let paged: BTreeSet<String> = methods()
        .into_iter()
        .filter(|(_, method)| method.input().get_field_by_name("page_token").is_some())
        .map(|(name, _)| name)
        .collect();
    let entered: BTreeSet<String> = listings.keys().map(|&name| name.to_owned()).collect();
    assert_eq!(entered, paged, "every paged method has one entry");
    let world = World::new().await;
    let admin = world.admin().await;
    let mut tokens = BTreeMap::new();
    for (&name, (base, others)) in &listings {
        let input = method(name).input();
        let filters: BTreeSet<String> = input
            .fields()
            .map(|field| field.name().to_owned())
            .filter(|field| !["page_size", "page_token"].contains(&field.as_str()))
            .collect();
        let changed: BTreeSet<String> = others.as_object().unwrap().keys().cloned().collect();
        assert_eq!(changed, filters, "{name}: every field has another value");
        let first_request = with(base, "page_size", &json!(1));
        let first = admin.call(&method(name), &first_request).await.unwrap();
        let token = next_token(&first);
        assert_eq!(entries(&first).len(), 1, "{name}");
        assert!(!token.is_empty(), "{name} has a second page");
        let continued = with(&first_request, "page_token", &json!(token));
        let second = admin.call(&method(name), &continued).await.unwrap();
        assert_eq!(entries(&second).len(), 1, "{name}");
        assert_ne!(entries(&first), entries(&second), "{name}");
        // The same again, and pages of another size, are fine.
        let again = admin.call(&method(name), &continued).await.unwrap();
        assert_eq!(entries(&again), entries(&second), "{name}");
        let larger = with(&continued, "page_size", &json!(7));
        let larger = admin.call(&method(name), &larger).await.unwrap();
        assert_eq!(entries(&larger)[0], entries(&second)[0], "{name}");
        for (field, value) in others.as_object().unwrap() {
            let request = with(&continued, field, value);
            is_refused(&admin, name, &request, &format!("another {field}")).await;
        }
        let flipped = |at: usize| {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        let mut wrong: Vec<String> = (0..token.len()).map(flipped).collect();
        wrong.push(token[1..].to_owned());
        wrong.push(token[..token.len() - 1].to_owned());
        wrong.push(format!("{token}AAAA"));
        wrong.push("?".to_owned());
        for wrong in wrong {
            let request = with(&continued, "page_token", &json!(wrong));
            is_refused(&admin, name, &request, "a changed token").await;
        }
        tokens.insert(name, token);
    }
    for (&name, (base, _)) in &listings {
        for (&other, token) in &tokens {
            if other != name {
                let request = with(base, "page_token", &json!(token));
                is_refused(&admin, name, &request, &format!("a token of {other}")).await;
            }
        }
    }
}
