//! What the command line accepts.

mod attribution;
mod engagement;
mod program;
mod records;
mod timeline;

use std::path::PathBuf;

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use overlap_client::{ImportFormat, Role, StageCategory};

pub(crate) use attribution::{Assets, Attribution, AttributionOptions, DecisionOptions};
pub(crate) use engagement::{Engagement, EngagementOptions, WhoOptions};
pub(crate) use program::{Preferences, Program, ProgramOptions, Settings, SettingsChanges};
pub(crate) use records::{Changes, Records};
pub(crate) use timeline::{MonthOptions, Timeline};

/// Works with an Overlap node: find the customers you share with a partner, without showing each other the rest.
#[derive(Debug, Parser)]
#[command(
    name = "overlap",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Environment: OVERLAP_DIR, OVERLAP_NODE, OVERLAP_TOKEN_FILE and OVERLAP_TLS_CA stand in for the options \
                  of the same names, OVERLAP_TOKEN for the token itself. NO_COLOR turns colours off.\n\
                  Exit codes: 0 done, 1 failed with one line on standard error, 2 wrong usage."
)]
pub(crate) struct Overlap {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory of a node that runs on this machine
    #[arg(long, global = true, value_name = "DIR", help_heading = "Node", conflicts_with_all = ["node", "token_file"])]
    pub(crate) dir: Option<PathBuf>,
    /// Address of the node: https://HOST:PORT, or http:// on this machine
    #[arg(long, global = true, value_name = "URL", help_heading = "Node")]
    pub(crate) node: Option<String>,
    /// File that holds the bearer token
    #[arg(long, global = true, value_name = "FILE", help_heading = "Node")]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the authority to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Node")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Send the token in the clear to another machine: anyone on the way can read it
    #[arg(long, global = true, help_heading = "Node")]
    pub(crate) danger_plaintext: bool,
    /// How long to wait for one answer
    #[arg(long, global = true, value_name = "SECONDS", help_heading = "Node", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
    /// How to print what was read
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORMAT",
        help_heading = "Output",
        default_value = "table"
    )]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Connect with partners
    #[command(subcommand)]
    Partner(Partner),
    /// Load and look at your own customers
    #[command(subcommand)]
    Customers(Customers),
    /// Define your lifecycle stages
    #[command(subcommand)]
    Stages(Stages),
    /// Decide what a partner may learn
    #[command(subcommand)]
    Sharing(Sharing),
    /// Match customers with a partner and wait for the result; Ctrl-C cancels the run
    Match {
        /// Name or id of the partner
        partner: String,
        /// Match everything again even where only changes would do
        #[arg(long)]
        full: bool,
    },
    /// List the runs with a partner, newest first
    Runs {
        /// Name or id of the partner
        partner: String,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Show how many customers you share, your stages against the partner's
    Matrix {
        /// Name or id of the partner
        partner: String,
    },
    /// List the customers you share
    Shared(Shared),
    /// Show one shared customer
    Customer {
        /// Name or id of the partner
        partner: String,
        /// Your id of the customer
        id: String,
        /// Add what happened with it, here and at the partner
        #[arg(long)]
        timeline: bool,
    },
    /// Follow what happens with shared customers
    #[command(subcommand)]
    Timeline(Timeline),
    /// Ask for credit for a shared customer, and answer the partner's requests
    #[command(subcommand)]
    Attribution(Attribution),
    /// Give files to partners and fetch theirs
    #[command(subcommand)]
    Assets(Assets),
    /// See what partners do in the portal
    #[command(subcommand)]
    Engagement(Engagement),
    /// See the numbers of the partner program
    #[command(subcommand)]
    Program(Box<Program>),
    /// Load and look at the records that the numbers are made of
    #[command(subcommand)]
    Records(Records),
    /// Follow what changes on this node
    #[command(subcommand)]
    Changes(Changes),
    /// Mark shared customers as targets; the partner never learns
    #[command(subcommand)]
    Target(Target),
    /// Say why one of your customers did or did not match
    Explain {
        /// Name or id of the partner
        partner: String,
        /// Your id of the customer
        id: String,
    },
    /// Show, export and verify what both sides signed of each run
    #[command(subcommand)]
    Receipts(crate::commands::Receipts),
    /// Manage who may call the node
    #[command(subcommand)]
    Token(Token),
    /// See who did what
    #[command(subcommand)]
    Audit(Audit),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Partner {
    /// Make a single-use invitation to hand to a partner over a trusted channel
    Invite {
        /// Where the partner reaches this node; the configured address if left out
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: Option<String>,
        /// How long the invitation stays valid
        #[arg(long, value_name = "N", default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..))]
        valid_hours: u32,
    },
    /// Accept a partner's invitation
    Accept {
        /// The invitation's line of text; "-" reads it from standard input
        invite: String,
        /// Where the partner reaches this node; the configured address if left out
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: Option<String>,
    },
    /// List partnerships
    List {
        /// Leave out pending and revoked ones
        #[arg(long)]
        connected: bool,
    },
    /// Show one partnership
    Show {
        /// Name or id of the partner
        partner: String,
    },
    /// Show what a partner says about itself; without a partner, what you tell partners
    Info {
        /// Name or id of the partner
        partner: Option<String>,
    },
    /// Replace what every partner is told about you
    #[command(
        after_help = "The file is TOML: name, description, website_uri, logo_uri (https), industry, regions = [...], and \
                      a [[contacts]] table for each contact with name, role, email, phone."
    )]
    SetInfo {
        /// TOML file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// End a partnership and remove everything derived from it
    Revoke {
        /// Name or id of the partner
        partner: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Customers {
    /// Import a file of customers, all or nothing
    #[command(
        after_help = "Columns: id, stage (required); email, phone, domain, external_id (several values separated by \
                      \";\"); name, owner, industry, region. Any other column becomes a field."
    )]
    Import {
        /// CSV with a header line, NDJSON or Parquet
        file: PathBuf,
        /// Format, where the file's extension (.csv, .ndjson, .jsonl, .parquet) does not tell
        #[arg(long, value_parser = PossibleValuesParser::new(ImportFormat::ALL.iter().map(|format| format.name()))
              .try_map(|name| ImportFormat::from_name(&name).ok_or("no such format")))]
        format: Option<ImportFormat>,
        /// Delete every customer that the file does not name
        #[arg(long)]
        replace: bool,
        /// Region of telephone numbers without a country code, e.g. DE; the configured one if left out
        #[arg(long, value_name = "REGION")]
        default_region: Option<String>,
    },
    /// List your customers
    List {
        /// Only this stage
        #[arg(long)]
        stage: Option<String>,
        /// Only those whose id, name or domain contains this
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Stop after this many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Delete customers by id, all or nothing
    Delete {
        /// Ids of the customers
        #[arg(required_unless_present = "from")]
        ids: Vec<String>,
        /// File with one id a line; "-" is standard input
        #[arg(long, value_name = "FILE", conflicts_with = "ids")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Stages {
    /// List your lifecycle stages
    List,
    /// Define or change a stage, or the stages of a file
    #[command(
        after_help = "The file is TOML: a [[stages]] table for each stage with id, and label, ordinal, category where \
                      wanted; without ordinals, the order of the file counts."
    )]
    Set {
        /// Id of the stage, as customers' records name it
        #[arg(required_unless_present = "file")]
        id: Option<String>,
        /// Name that people read
        #[arg(long)]
        label: Option<String>,
        /// Position in the lifecycle
        #[arg(long, value_name = "N")]
        ordinal: Option<u32>,
        /// What the stage means for metrics
        #[arg(long, ignore_case = true,
              value_parser = PossibleValuesParser::new(StageCategory::ALL.iter().map(|category| category.name()))
              .try_map(|name| StageCategory::from_name(&name).ok_or("no such name")))]
        category: Option<StageCategory>,
        /// TOML file of stages
        #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "label", "ordinal", "category"])]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sharing {
    /// Set what a partner may learn, and propose it or answer the partner's proposal with it
    Set {
        /// Name or id of the partner
        partner: String,
        /// Sharing policy (TOML)
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Show what each side discloses
    Show {
        /// Name or id of the partner
        partner: String,
    },
    /// Approve the partner's proposal
    Approve {
        /// Name or id of the partner
        partner: String,
    },
    /// Decline the partner's proposal
    Decline {
        /// Name or id of the partner
        partner: String,
    },
    /// Stop sharing, both ways, and remove what was found
    Revoke {
        /// Name or id of the partner
        partner: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Shared {
    /// Name or id of the partner
    pub(crate) partner: String,
    /// Only this stage of yours
    #[arg(long, value_name = "STAGE")]
    pub(crate) mine: Option<String>,
    /// Only this stage of the partner's
    #[arg(long, value_name = "STAGE")]
    pub(crate) theirs: Option<String>,
    /// Only those whose name or domain contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// Only those marked as targets
    #[arg(long)]
    pub(crate) targets: bool,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// Mark customers
    Add(Targets),
    /// Unmark customers
    Remove(Targets),
}

#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Name or id of the partner
    pub(crate) partner: String,
    /// Your ids of the customers
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a bearer token; its secret is shown once
    Create {
        /// Who will use it
        user: String,
        /// What it allows
        #[arg(long, ignore_case = true,
              value_parser = PossibleValuesParser::new(Role::ALL.iter().map(|role| role.name()))
              .try_map(|name| Role::from_name(&name).ok_or("no such name")))]
        role: Role,
        /// With role PARTNER: the partner whose numbers it may read
        #[arg(long)]
        partner: Option<String>,
        /// How long it works; for ever if left out
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        valid_hours: Option<u32>,
    },
    /// List tokens, without their secrets
    List,
    /// End a token
    Revoke {
        /// Id of the token
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List audit events, newest first
    List {
        /// Only those that concern this partner
        #[arg(long)]
        partner: Option<String>,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
}
