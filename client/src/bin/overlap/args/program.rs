//! `overlap program`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlap_client::{
    AlertKind, CoverageDimension, EngagementPeriod, ExportFormat, MetricDimension, PartnerScore,
    PartnerType, QuickRange, RetentionMeasure, ReturnBasis,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// Show the leadership scorecard
    Scorecard {
        #[command(flatten)]
        filter: ProgramOptions,
        /// Show renewal or expansion revenue
        #[arg(long, value_name = "MEASURE")]
        retention: Option<RetentionMeasure>,
        /// Set revenue or gross-margin against the channel's cost
        #[arg(long, value_name = "BASIS")]
        return_basis: Option<ReturnBasis>,
    },
    /// Show any metrics; "overlap program definitions" lists them
    Metrics {
        /// Ids of metrics; all if left out
        metrics: Vec<String>,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show sourced, influenced, renewal and expansion revenue
    Revenue {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show how fast deals move: sales cycle, registrations, win rates
    Velocity {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show how many deals went from each sales stage to the next
    Funnel {
        /// The sales stages in order; as they appear in the deals if left out
        stages: Vec<String>,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show a metric for every partner, tier, region, product ...
    Breakdown {
        /// partner, type, segment, tier, status, partner-stage, partner-region, vertical, specialisation, business-model,
        /// engagement-level; of deals: account, deal-stage, region, territory, industry, product, deal-type
        by: MetricDimension,
        /// Ids of metrics
        #[arg(required = true)]
        metrics: Vec<String>,
        #[command(flatten)]
        filter: ProgramOptions,
        /// Stop after this many groups
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show metrics month by month, quarter by quarter or year by year
    Series {
        /// Ids of metrics
        #[arg(required = true)]
        metrics: Vec<String>,
        /// month, quarter or year
        #[arg(long, default_value = "month")]
        period: EngagementPeriod,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show won revenue plus weighted open deals, against the target
    Forecast {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Compare metrics with their targets, or cohorts of partners with each other
    Compare {
        /// Ids of metrics; those of targets if left out
        metrics: Vec<String>,
        /// Compare the partners of each value of this dimension, e.g. tier
        #[arg(long, value_name = "DIMENSION")]
        cohorts: Option<MetricDimension>,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show trainings, certifications, funds, payouts and campaigns
    Enablement {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// List what needs attention
    Alerts {
        /// Only this kind: stalled-deal, expiring-certification, missed-target, swing or approval-rate-drop; repeatable
        #[arg(long)]
        kind: Vec<AlertKind>,
        #[command(flatten)]
        filter: ProgramOptions,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show the executive view: share, quarter over quarter, top and at-risk partners
    Executive {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show everything about one partner of the program
    Partner {
        /// Id of the partner in the program's records
        partner: String,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Count ecosystem events: installs, usage, listings, support cases
    Signals {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show how this dashboard itself is used
    Adoption {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Say what every metric means
    Definitions {
        /// Ids of metrics; all if left out
        metrics: Vec<String>,
    },
    /// Write metrics to a file, as the node streams them
    Export {
        /// Ids of metrics; all if left out
        metrics: Vec<String>,
        /// One row for each value of this dimension
        #[arg(long, value_name = "DIMENSION")]
        by: Option<MetricDimension>,
        /// csv or ndjson; ndjson with --output json, csv otherwise, if left out
        #[arg(long)]
        format: Option<ExportFormat>,
        /// Where to write; standard output if left out
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Write metrics as of the end of each day, for a warehouse
    Feed {
        /// Ids of metrics; all if left out
        metrics: Vec<String>,
        /// First day, YYYY-MM-DD
        #[arg(long, value_name = "DAY")]
        first_day: String,
        /// Last day, which still belongs; at most 366 days in all
        #[arg(long, value_name = "DAY")]
        last_day: String,
        /// Time zone of days, e.g. Europe/Berlin; UTC if left out
        #[arg(long, value_name = "ZONE")]
        time_zone: Option<String>,
        /// csv or ndjson; ndjson with --output json, csv otherwise, if left out
        #[arg(long)]
        format: Option<ExportFormat>,
        /// Where to write; standard output if left out
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Show or change the settings
    #[command(subcommand)]
    Settings(Settings),
    /// Show the metric cards you chose to see
    Cards {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// List what partners are good at
    Strengths {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// List low scores of partners, lowest first
    Areas {
        /// Only this score: capacity, capability, commitment or customer-alignment; repeatable
        #[arg(long)]
        score: Vec<PartnerScore>,
        /// List scores below this; 50 if left out
        #[arg(long, value_name = "N")]
        below: Option<u32>,
        #[command(flatten)]
        filter: ProgramOptions,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show how many partners are in each lifecycle stage and status
    Lifecycle {
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show how many partners cover each region, subtype, vertical or offering
    Coverage {
        /// region, subtype, vertical or offering
        by: CoverageDimension,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Show which of the values you name too few partners cover
    Gaps {
        /// region, subtype, vertical or offering
        by: CoverageDimension,
        /// What should be covered
        #[arg(required = true)]
        reference: Vec<String>,
        /// A value is a gap if fewer partners cover it
        #[arg(long, value_name = "N", default_value_t = 1)]
        least: u32,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Set tiers side by side
    Tiers {
        /// Lifecycle stage that counts as early; repeatable
        #[arg(long, value_name = "STAGE")]
        early: Vec<String>,
        /// Lifecycle stage from which value is expected; repeatable
        #[arg(long, value_name = "STAGE")]
        late: Vec<String>,
        #[command(flatten)]
        filter: ProgramOptions,
    },
    /// Ask the platform to analyse a partner, or all, anew
    Refresh {
        /// Id of the partner; all if left out
        partner: Option<String>,
        /// Makes the command safe to repeat
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
    },
    /// List what the platform was asked to analyse
    Refreshes {
        /// Only those after this sequence number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show or choose which tiles of a view you see
    #[command(subcommand)]
    Preferences(Preferences),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// Show the settings
    Show,
    /// Change settings; what is not named stays
    Set(SettingsChanges),
}

#[derive(Debug, Args)]
pub(crate) struct SettingsChanges {
    /// Days without movement after which an open deal is an alert
    #[arg(long, value_name = "N")]
    pub(crate) stalled_deal_days: Option<u32>,
    /// Days before its end from which a certification is an alert
    #[arg(long, value_name = "N")]
    pub(crate) certification_expiry_days: Option<u32>,
    /// Change against the period before that is an alert
    #[arg(long, value_name = "PERCENT")]
    pub(crate) swing_percent: Option<u32>,
    /// Fall of a region's approval rate that is an alert
    #[arg(long, value_name = "POINTS")]
    pub(crate) approval_drop_points: Option<u32>,
    /// Type that partners may have: referral or reseller; repeatable
    #[arg(long = "enabled-type", value_name = "TYPE")]
    pub(crate) enabled_types: Vec<PartnerType>,
    /// Chance of winning deals of a sales stage in percent, e.g. Proposal=40; repeatable, replaces all
    #[arg(long = "probability", value_name = "STAGE=PERCENT")]
    pub(crate) probabilities: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Preferences {
    /// Show which tiles you see
    Show {
        /// program, engagement or partner-lifecycle
        view: String,
    },
    /// Show or hide tiles
    Set {
        /// program, engagement or partner-lifecycle
        view: String,
        /// Tile to show; repeatable
        #[arg(long, value_name = "TILE")]
        show: Vec<String>,
        /// Tile to hide; repeatable
        #[arg(long, value_name = "TILE")]
        hide: Vec<String>,
        /// For everyone who did not choose; takes role ADMIN
        #[arg(long)]
        everyone: bool,
    },
}

/// Which partners and deals, when.
#[derive(Debug, Args)]
pub(crate) struct ProgramOptions {
    /// last-30-days, this-month, last-month, this-quarter, last-quarter, this-year or last-year; this quarter so far if
    /// left out
    #[arg(long, help_heading = "Filter", conflicts_with_all = ["start", "end"])]
    pub(crate) range: Option<QuickRange>,
    /// From this day or instant on; with --end
    #[arg(long, help_heading = "Filter", value_name = "TIME", requires = "end")]
    pub(crate) start: Option<String>,
    /// Up to this day or instant, which no longer belongs
    #[arg(long, help_heading = "Filter", value_name = "TIME", requires = "start")]
    pub(crate) end: Option<String>,
    /// As things were known at this day or instant; now if left out
    #[arg(long, help_heading = "Filter", value_name = "TIME")]
    pub(crate) as_of: Option<String>,
    /// Time zone of days and periods, e.g. Europe/Berlin; UTC if left out
    #[arg(long, help_heading = "Filter", value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// Only this partner; repeatable, as all below
    #[arg(long = "partner", help_heading = "Filter", value_name = "ID")]
    pub(crate) partners: Vec<String>,
    /// Only partners of this type: referral or reseller
    #[arg(long = "type", help_heading = "Filter", value_name = "TYPE")]
    pub(crate) types: Vec<PartnerType>,
    /// Only partners of this segment
    #[arg(long = "segment", help_heading = "Filter", value_name = "NAME")]
    pub(crate) segments: Vec<String>,
    /// Only partners of this tier; goes with --segment
    #[arg(long = "tier", help_heading = "Filter", value_name = "NAME")]
    pub(crate) tiers: Vec<String>,
    /// Only partners of this vertical
    #[arg(long = "vertical", help_heading = "Filter", value_name = "NAME")]
    pub(crate) verticals: Vec<String>,
    /// Only deals of this region
    #[arg(long = "region", help_heading = "Filter", value_name = "NAME")]
    pub(crate) regions: Vec<String>,
    /// Only deals of this territory
    #[arg(long = "territory", help_heading = "Filter", value_name = "NAME")]
    pub(crate) territories: Vec<String>,
    /// Only deals of this product
    #[arg(long = "product", help_heading = "Filter", value_name = "NAME")]
    pub(crate) products: Vec<String>,
    /// Only deals of this industry
    #[arg(long = "industry", help_heading = "Filter", value_name = "NAME")]
    pub(crate) industries: Vec<String>,
}
