//! `overlap engagement`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlap_client::{
    EngagementComparison, EngagementExport, EngagementPeriod, EngagementRisk, ExportFormat,
    LeaderboardColumn, PartnerType, QuickRange,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Engagement {
    /// Show the five key figures: users, sessions, page views, actions, average duration
    #[command(alias = "sessions")]
    Summary(EngagementOptions),
    /// Show sessions, page views and users over time
    #[command(alias = "timeline")]
    Activity(EngagementOptions),
    /// Show the key figures of the latest months, quarters or years
    History {
        /// month, quarter or year
        #[arg(long, default_value = "month")]
        period: EngagementPeriod,
        /// How many, the current one included
        #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=60))]
        count: u32,
        #[command(flatten)]
        who: WhoOptions,
    },
    /// Rank partners by their engagement score
    Leaderboard {
        #[command(flatten)]
        filter: EngagementOptions,
        /// Sort by score, name, type, unique-users, sessions, page-views, average-duration or actions
        #[arg(long, value_name = "COLUMN")]
        sort: Option<LeaderboardColumn>,
        /// Turn the order round
        #[arg(long)]
        reverse: bool,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// List the resources that were looked at most
    Resources {
        #[command(flatten)]
        filter: EngagementOptions,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
    },
    /// List the rooms that were looked at most
    Rooms {
        #[command(flatten)]
        filter: EngagementOptions,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
    },
    /// List partners that are about to be lost, and why
    AtRisk {
        #[command(flatten)]
        filter: EngagementOptions,
        /// Only this risk: inactive, declining-duration or low-actions; repeatable
        #[arg(long)]
        risk: Vec<EngagementRisk>,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Set groups of partners side by side
    Compare {
        /// type (referral, reseller), tenure (new, established) or level (high, average)
        by: EngagementComparison,
        #[command(flatten)]
        filter: EngagementOptions,
    },
    /// Show whether figures rise, fall or follow the season
    Trends {
        /// Complete months to look at
        #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=60))]
        months: u32,
        #[command(flatten)]
        who: WhoOptions,
    },
    /// Write everything of a view to a file, as the node streams it
    Export {
        /// leaderboard, timeline, resources or rooms
        view: EngagementExport,
        /// csv or ndjson; ndjson with --output json, csv otherwise, if left out
        #[arg(long)]
        format: Option<ExportFormat>,
        /// Where to write; standard output if left out
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        filter: EngagementOptions,
    },
}

/// Which partners.
#[derive(Debug, Args)]
pub(crate) struct WhoOptions {
    /// Only this partner; repeatable
    #[arg(long, value_name = "ID")]
    pub(crate) partner: Vec<String>,
    /// Only partners of this type: referral or reseller; repeatable
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Vec<PartnerType>,
    /// Time zone of days, e.g. Europe/Berlin; UTC if left out
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
}

/// Which partners and which days.
#[derive(Debug, Args)]
pub(crate) struct EngagementOptions {
    /// last-30-days, this-month, last-month, this-quarter, last-quarter, this-year or last-year
    #[arg(long, conflicts_with_all = ["first_day", "last_day"])]
    pub(crate) range: Option<QuickRange>,
    /// First day, YYYY-MM-DD; with --last-day
    #[arg(long, value_name = "DAY", requires = "last_day")]
    pub(crate) first_day: Option<String>,
    /// Last day, which still belongs
    #[arg(long, value_name = "DAY", requires = "first_day")]
    pub(crate) last_day: Option<String>,
    #[command(flatten)]
    pub(crate) who: WhoOptions,
}
