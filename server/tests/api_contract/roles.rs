//! Which role may call what: every method of `overlap.v1`, as docs/API.md, docs/COLLABORATION.md and the interfaces say.

use overlap_proto::v1::Role;
use serde_json::{Value, json};
use tonic::Code;

/// Who may call a method; everyone else is told PERMISSION_DENIED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
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

pub const ROLES: [Role; 5] = [
    Role::Admin,
    Role::PartnerAdmin,
    Role::PartnerManager,
    Role::Member,
    Role::Partner,
];

impl May {
    pub fn admits(self, role: Role) -> bool {
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
pub fn roles() -> Vec<(&'static str, May, Value, Code)> {
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
        ("ReceiptService.ListReceipts", Admins, json!({}), Ok),
        (
            "ReceiptService.GetReceipt",
            Admins,
            json!({"run": "nothing"}),
            NotFound,
        ),
        (
            "RecordService.IngestRecords",
            Admins,
            json!({"last": true}),
            Ok,
        ),
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
