//! `overlap timeline`

use clap::{Args, Subcommand};
use overlap_client::ActionSegment;

#[derive(Debug, Subcommand)]
pub(crate) enum Timeline {
    /// Show what happened with one shared customer, here and at the partner
    Show {
        /// Name or id of the partner
        partner: String,
        /// Your id of the customer
        id: String,
    },
    /// Count how shared customers moved between stages
    Movements {
        /// Name or id of the partner
        partner: String,
        #[command(flatten)]
        months: MonthOptions,
    },
    /// Show how many of the prospects that the partner referred became customers
    Conversion {
        /// Name or id of the partner
        partner: String,
        #[command(flatten)]
        months: MonthOptions,
    },
    /// Count the shared customers of every action segment, or list those of one
    Segments {
        /// Name or id of the partner
        partner: String,
        /// List this one: mutual-customers, my-prospects-their-customers, complementary-stages, one-solution, newly-shared
        /// or at-risk
        #[arg(long)]
        segment: Option<ActionSegment>,
        /// Stop after this many
        #[arg(long, value_name = "N", requires = "segment", default_value_t = 100)]
        limit: usize,
    },
}

/// Which months.
#[derive(Debug, Args)]
pub(crate) struct MonthOptions {
    /// From this day or instant on; with --end. The last twelve months if left out
    #[arg(long, value_name = "TIME", requires = "end")]
    pub(crate) start: Option<String>,
    /// Up to this day or instant, which no longer belongs
    #[arg(long, value_name = "TIME", requires = "start")]
    pub(crate) end: Option<String>,
    /// Time zone of days and months, e.g. Europe/Berlin; UTC if left out
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
}
