//! `overlap attribution` and `overlap assets`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlap_client::{AssetKind, AttributionState};

use super::MonthOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum Attribution {
    /// Ask the partner to attribute a shared customer to your influence
    #[command(alias = "file")]
    Request {
        /// Name or id of the partner
        partner: String,
        /// Your id of the customer
        customer: String,
        /// How you influenced the customer; the partner reads it
        #[arg(long, value_name = "TEXT", required_unless_present = "details_file")]
        details: Option<String>,
        /// File with the details; "-" is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "details")]
        details_file: Option<PathBuf>,
        /// Makes the command safe to repeat: the same id files one request
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
    },
    /// List requests of both sides, newest first
    List(AttributionOptions),
    /// List what you asked of the partner, newest first
    Sent(AttributionOptions),
    /// List what the partner asked of you, newest first
    Received(AttributionOptions),
    /// Show one request
    Show {
        /// Name or id of the partner
        partner: String,
        /// Id of the request
        id: String,
    },
    /// Approve a request of the partner
    Approve(DecisionOptions),
    /// Deny a request of the partner
    #[command(alias = "reject")]
    Deny(DecisionOptions),
    /// Withdraw a request of yours that is not decided
    #[command(alias = "withdraw")]
    Cancel {
        /// Name or id of the partner
        partner: String,
        /// Id of the request
        id: String,
        /// Makes the command safe to repeat
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
    },
    /// Count approved requests, overall and by month
    Metrics {
        /// Name or id of the partner
        partner: String,
        #[command(flatten)]
        months: MonthOptions,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AttributionOptions {
    /// Name or id of the partner
    pub(crate) partner: String,
    /// Only this state: pending, approved, denied or cancelled
    #[arg(long)]
    pub(crate) state: Option<AttributionState>,
    /// Only this customer of yours
    #[arg(long, value_name = "ID")]
    pub(crate) customer: Option<String>,
    /// Stop after this many of each side
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DecisionOptions {
    /// Name or id of the partner
    pub(crate) partner: String,
    /// Id of the request
    pub(crate) id: String,
    /// What both sides read beside the decision
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// Makes the command safe to repeat
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Assets {
    /// Store a file on your node; it is shared with nobody yet
    Add {
        /// The file
        file: PathBuf,
        /// What it is: product-sheet, co-marketing-guideline, integration-doc, case-study or other
        #[arg(long, default_value = "other")]
        kind: AssetKind,
        /// What people read; the file's name if left out
        #[arg(long, value_name = "TEXT")]
        title: Option<String>,
        /// E.g. application/pdf; by the file's extension if left out
        #[arg(long, value_name = "TYPE")]
        media_type: Option<String>,
        /// Makes the command safe to repeat: the same id stores one file
        #[arg(long, value_name = "ID")]
        request_id: Option<String>,
    },
    /// List files: yours, or those a partner shares with you, or you with it
    List {
        /// What this partner shares with you
        #[arg(long, value_name = "PARTNER", conflicts_with = "with")]
        from: Option<String>,
        /// What you share with this partner
        #[arg(long, value_name = "PARTNER")]
        with: Option<String>,
        /// Only this kind
        #[arg(long)]
        kind: Option<AssetKind>,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Let a partner have a file of yours
    Share {
        /// Name or id of the partner
        partner: String,
        /// Id of the file
        id: String,
        /// What the partner reads beside it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Take a file back; the partner's node deletes its copy
    Unshare {
        /// Name or id of the partner
        partner: String,
        /// Id of the file
        id: String,
    },
    /// Fetch a file, and check its SHA-256 before it is saved
    Download {
        /// Id of the file
        id: String,
        /// The partner that shares it; yours if left out
        #[arg(long, value_name = "PARTNER")]
        from: Option<String>,
        /// Where to save it; under its own name here if left out, "-" is standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Delete a file of yours; partners it was shared with lose it
    Remove {
        /// Id of the file
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}
