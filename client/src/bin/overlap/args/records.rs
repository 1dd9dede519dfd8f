//! `overlap records` and `overlap changes`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use overlap_client::{ChangeKind, RecordFileFormat, RecordKind};

#[derive(Debug, Subcommand)]
pub(crate) enum Records {
    /// Import a file of records, all or nothing; importing it again changes nothing
    #[command(
        after_help = "CSV: a header, then a record a line. Columns are id, updated_at, deleted and the fields of the kind \
                      as proto/overlap/v1/record.proto names them, nested ones with dots (registration.submitted_at). \
                      Lists are separated by \";\" (in JSON where a value holds one: [\"a;b\",\"c\"]), money is \
                      \"1234.50 EUR\", times are RFC 3339.\n\
                      NDJSON: one record a line, as \"overlap records export --format ndjson\" writes them.\n\
                      Parquet, where the node was built with it: the columns of CSV."
    )]
    Import {
        /// CSV with a header line, NDJSON or Parquet
        file: PathBuf,
        /// What the lines are, e.g. deals, portal-events, partner-profiles; needed for CSV and Parquet
        #[arg(long, value_parser = record_kind)]
        kind: Option<RecordKind>,
        /// csv, ndjson or parquet, where the file's extension (.csv, .ndjson, .jsonl, .parquet) does not tell
        #[arg(long)]
        format: Option<RecordFileFormat>,
    },
    /// Write every record of a kind, as "overlap records import" reads them
    Export {
        /// E.g. deals; portal events are counted, not kept one by one
        #[arg(value_parser = record_kind)]
        kind: RecordKind,
        /// Only this partner's
        #[arg(long, value_name = "ID")]
        partner: Option<String>,
        /// csv or ndjson; ndjson with --output json, csv otherwise, if left out
        #[arg(long, value_parser = export_format)]
        format: Option<RecordFileFormat>,
        /// Where to write; standard output if left out
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// List records of a kind by id
    List {
        /// E.g. deals
        #[arg(value_parser = record_kind)]
        kind: RecordKind,
        /// Only this partner's
        #[arg(long, value_name = "ID")]
        partner: Option<String>,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one record
    Show {
        /// E.g. deal
        #[arg(value_parser = record_kind)]
        kind: RecordKind,
        /// Id of the record
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Changes {
    /// Print changes as they happen; Ctrl-C ends it
    #[command(
        after_help = "Every line ends with a cursor; --from CURSOR goes on after it, also after the node was started anew. \
                      With --output json every change is one JSON object a line."
    )]
    Watch(WatchChanges),
}

#[derive(Debug, Args)]
pub(crate) struct WatchChanges {
    /// Go on after this place
    #[arg(long, value_name = "CURSOR", conflicts_with = "from_oldest")]
    pub(crate) from: Option<String>,
    /// Start with the oldest change that is kept, not with the next one
    #[arg(long)]
    pub(crate) from_oldest: bool,
    /// Only this partner's
    #[arg(long)]
    pub(crate) partner: Option<String>,
    /// Only this kind, e.g. attribution-received, asset-shared, results-replaced, alert; repeatable
    #[arg(long)]
    pub(crate) kind: Vec<ChangeKind>,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

/// A format that records are exported in.
fn export_format(text: &str) -> Result<RecordFileFormat, String> {
    match text.parse() {
        Ok(format @ (RecordFileFormat::Csv | RecordFileFormat::Ndjson)) => Ok(format),
        Ok(_) => Err("records are exported as csv or ndjson only".to_owned()),
        Err(_) => Err("one of csv, ndjson".to_owned()),
    }
}

/// A kind as people type it, in the plural too.
fn record_kind(text: &str) -> Result<RecordKind, String> {
    let singular = match text.strip_suffix('s') {
        // "analysis" is no plural.
        Some(singular) if !singular.ends_with("analysi") => singular,
        _ => text,
    };
    singular.parse()
}
