//! Typed client of an Overlap node.
//!
//! [`Client`] has one method a call of the node's API. It takes and returns plain structs, puts a deadline on every
//! call, pages through lists as streams, and reports errors by the node's stable reasons ([`Error::reason`]).
//!
//! ```no_run
//! use futures::TryStreamExt as _;
//! use overlap_client::{Client, ClientConfig, SharedFilter};
//!
//! # async fn example() -> Result<(), overlap_client::Error> {
//! let client = Client::connect(ClientConfig::from_node_dir("/var/lib/overlap")?).await?;
//! let matrix = client.matrix("Globex").await?;
//! println!("{:?} shared customers", matrix.shared_customers);
//! let mut shared = std::pin::pin!(client.shared_customers("Globex", SharedFilter::default()));
//! while let Some(customer) = shared.try_next().await? {
//!     println!("{} is {} here and {} there", customer.name, customer.mine, customer.theirs);
//! }
//! # Ok(())
//! # }
//! ```

#[macro_use]
mod message;
#[macro_use]
mod names;
#[macro_use]
mod connection;
mod admin;
mod asset;
mod attribution;
mod change;
mod config;
mod convert;
mod customer;
mod engagement;
mod error;
mod import;
mod intelligence;
mod metric;
mod overlap;
mod paging;
mod partner_info;
mod partnership;
mod program;
mod receipt;
mod record;
mod run;
mod sharing;
pub mod terminal;
mod timeline;
mod transfer;
pub mod view;

pub use admin::{AuditEvent, NewToken, Node, Role, Token, TokenWithSecret};
pub use asset::{Asset, AssetKind, Download, NewAsset, SharedAsset, sha256_of_file};
pub use attribution::{
    Attribution, AttributionDirection, AttributionFilter, AttributionMetrics, AttributionMonth,
    AttributionState, Decision, Months, NewAttribution,
};
pub use change::{Change, ChangeFilter, ChangeKind, Watched};
pub use config::{BearerToken, ClientConfig};
pub use connection::Client;
pub use customer::{
    Customer, CustomerFilter, CustomerPage, KeyType, Stage, StageCategory, UpsertOptions,
    UpsertReport,
};
pub use engagement::{
    AtRiskPartner, AtRiskPartners, EngagementBucket, EngagementBucketSize, EngagementComparison,
    EngagementDays, EngagementExport, EngagementFigures, EngagementFilter, EngagementGroup,
    EngagementGroups, EngagementHistory, EngagementHistoryEntry, EngagementPeriod, EngagementRisk,
    EngagementScope, EngagementSummary, EngagementTimeline, EngagementTrend, EngagementTrends,
    ExportFormat, Leaderboard, LeaderboardColumn, LeaderboardOrder, LeaderboardRow, NoDataReason,
    QuickRange, SortDirection, TopResource, TopResources, TopRoom, TopRooms, TrendDirection,
};
pub use error::{Error, FieldViolation, NodeError, Retry};
pub use import::{Import, ImportFormat, ImportReport};
pub use intelligence::{
    AnalysisRefreshRequest, AreaToAddress, CardTone, CoverageDimension, CoverageEntry, CoverageGap,
    CoverageGaps, LifecycleCard, MetricCard, PartnerCoverage, PartnerLifecycle, PartnerScore,
    PartnerStrength, PartnerStrengths, TierComparison, TilePreference,
};
pub use message::{Money, TimeSpan};
pub use metric::{
    Metric, MetricDefinition, MetricDimension, MetricGroup, MetricNote, MetricQuantity,
    MetricSeriesEntry, MetricUnit, MetricValue, ProgramFilter, ProgramPeriod, RetentionMeasure,
    ReturnBasis, TimeInterval,
};
pub use overlap::{
    Cell, CellState, EmptyReason, Explanation, KeyExplanation, Matrix, SharedCustomer,
    SharedCustomerPage, SharedFilter,
};
pub use paging::{Page, PageRequest};
pub use partner_info::{Contact, OrganizationInfo, OwnInfo, PartnerInfo};
pub use partnership::{Invite, Partnership, PartnershipState};
pub use program::{
    Alert, AlertKind, Alerts, DashboardAdoption, DashboardUse, EcosystemSignal, EcosystemSignals,
    Enablement, EnablementCohort, ExecutiveView, Forecast, Forecasts, MetricBreakdown,
    MetricComparison, PartnerOverview, PartnerStanding, ProgramSettings, QuarterComparison,
    StageConversion, StageProbability, TargetComparison,
};
pub use receipt::{
    FramesChecked, Receipt, ReceiptFile, ReceiptFileError, ReceiptSide, SignatureState, Statement,
    Verdict,
};
pub use record::{
    EcosystemEventType, PartnerContactRecord, PartnerProfileRecord, PartnerType, Record,
    RecordColumns, RecordFileFormat, RecordImport, RecordKind, RecordsReport,
};
pub use run::{Fault, Progress, Run, RunFailure, RunState, RunSummary, StartRun};
pub use sharing::{Sharing, SharingPolicy, SharingState, Tier};
pub use timeline::{
    ActionSegment, ActionSegmentCount, ActionSegmentCustomer, ActionSegments, CustomerTimeline,
    DisclosureState, ReferralConversion, StageMovement, StageMovementMonth, StageMovements,
    TimelineEvent, TimelineEventType, TimelineSide,
};

/// The times of records.
pub use jiff::Timestamp;
/// The messages of the API, for what the typed methods do not cover.
pub use overlap_proto::v1;
