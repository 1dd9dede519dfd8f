//! `overlap receipts`

use std::{fs::File, io::BufReader, path::Path};

use clap::{Args, Subcommand};
use overlap_client::{Receipt, ReceiptFile, SignatureState, Verdict};

use super::{Context, failed, first, read_text};
use crate::{
    args::Format,
    output::{Column, Printer, Value},
    table::{Tone, grouped},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Receipts {
    /// List what both sides signed of each run, newest first
    List {
        /// Name or id of the partner; every partner's if left out
        partner: Option<String>,
        /// Stop after this many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Write the receipts of a run to a file that anyone can verify without a node
    Export {
        /// Id of the run
        run: String,
        /// Where to; "-" is standard output
        #[arg(long, short = 'f', value_name = "FILE")]
        file: std::path::PathBuf,
    },
    /// Verify exported receipts, without a node
    Verify(Verify),
}

#[derive(Debug, Args)]
#[command(
    after_help = "The keys are the organisations' Ed25519 keys as 64 hexadecimal digits. Take them from where you trust them: \
                  \"overlap receipts list --output json\" of either node shows both."
)]
pub(crate) struct Verify {
    /// File that "overlap receipts export" wrote
    file: std::path::PathBuf,
    /// Key of the organisation that exported the file
    #[arg(long, value_name = "KEY", value_parser = key)]
    my_key: [u8; 32],
    /// Key of its partner
    #[arg(long, value_name = "KEY", value_parser = key)]
    partner_key: [u8; 32],
    /// Recording of the run's frames to check against the receipts
    #[arg(long, value_name = "FILE")]
    frames: Option<std::path::PathBuf>,
}

fn key(text: &str) -> Result<[u8; 32], &'static str> {
    let mut key = [0; 32];
    hex::decode_to_slice(text, &mut key).map_err(|_| "a key has 64 hexadecimal digits")?;
    Ok(key)
}

pub(super) async fn run(context: &mut Context, command: Receipts) -> anyhow::Result<()> {
    match command {
        Receipts::List { partner, limit } => list(context, partner.as_deref(), limit).await,
        Receipts::Export { run, file } => export(context, &run, &file).await,
        Receipts::Verify(arguments) => verify(&mut context.printer, &arguments),
    }
}

async fn list(context: &mut Context, partner: Option<&str>, limit: usize) -> anyhow::Result<()> {
    let client = context.client().await?;
    let receipts = first(client.receipts(partner), limit).await?;
    let printer = &mut context.printer;
    let mut columns = columns();
    if printer.format == Format::Table {
        columns.retain(|column| {
            [
                "run",
                "organization",
                "started_at",
                "mode",
                "my_queries",
                "my_tags",
                "their_queries",
                "their_tags",
                "my_signature",
                "their_signature",
            ]
            .contains(&&*column.name)
        });
    }
    printer.list(
        &receipts,
        &columns,
        "No receipts yet: each run that both sides complete leaves one.",
    )
}

fn columns() -> Vec<Column<'static, Receipt>> {
    vec![
        Column::text("run", |receipt: &Receipt| &receipt.run),
        Column::text("partner", |receipt: &Receipt| &receipt.partner),
        Column::text("organization", |receipt: &Receipt| &receipt.organization),
        Column::new("started_at", |receipt: &Receipt| {
            Value::Time(receipt.started_at)
        }),
        Column::new("ended_at", |receipt: &Receipt| {
            Value::Time(receipt.ended_at)
        }),
        Column::new(
            "mode",
            |receipt: &Receipt| {
                if receipt.full { "full" } else { "changes" }
            },
        ),
        Column::number("my_queries", |receipt: &Receipt| {
            Value::Number(receipt.mine.list_queries + receipt.mine.count_queries)
        }),
        Column::number("my_tags", |receipt: &Receipt| {
            Value::Number(receipt.mine.tags)
        }),
        Column::number("their_queries", |receipt: &Receipt| {
            Value::Number(receipt.theirs.list_queries + receipt.theirs.count_queries)
        }),
        Column::number("their_tags", |receipt: &Receipt| {
            Value::Number(receipt.theirs.tags)
        }),
        Column::new("my_signature", |receipt: &Receipt| {
            signature(receipt.my_signature)
        }),
        Column::new("their_signature", |receipt: &Receipt| {
            signature(receipt.their_signature)
        }),
        Column::text("session", |receipt: &Receipt| &receipt.session),
        Column::text("my_key", |receipt: &Receipt| &receipt.my_key),
        Column::text("their_key", |receipt: &Receipt| &receipt.their_key),
    ]
}

fn signature(state: SignatureState) -> Value {
    let tone = match state {
        SignatureState::Valid => Tone::Good,
        SignatureState::Missing => Tone::Warning,
        _ => Tone::Bad,
    };
    Value::State(state.name().to_owned(), tone)
}

async fn export(context: &mut Context, run: &str, path: &Path) -> anyhow::Result<()> {
    let receipts = context.client().await?.receipt_file(run).await?;
    if path == Path::new("-") {
        return context.printer.text(&receipts.to_text());
    }
    std::fs::write(path, receipts.to_text()).map_err(|error| unreadable(path, &error))?;
    if context.printer.format == Format::Table {
        context.printer.line(&format!(
            "Wrote {}: verify it with the two organisation keys, as each side knows them.",
            path.display()
        ))?;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    failed("FILE_UNREADABLE", format!("{}: {error}", path.display()))
}

/// Verifies a file. Fails unless everything is good.
pub(crate) fn verify(printer: &mut Printer, arguments: &Verify) -> anyhow::Result<()> {
    let path = &arguments.file;
    let invalid =
        |problems: &str| failed("RECEIPT_INVALID", format!("{}: {problems}", path.display()));
    let file =
        ReceiptFile::parse(&read_text(path)?).map_err(|error| invalid(&error.to_string()))?;
    let (mine, theirs) = (&arguments.my_key, &arguments.partner_key);
    let verdict = match &arguments.frames {
        None => file.verify(mine, theirs),
        Some(frames) => {
            let recording = File::open(frames).map_err(|error| unreadable(frames, &error))?;
            file.verify_frames(mine, theirs, BufReader::with_capacity(1 << 20, recording))
                .map_err(|error| unreadable(frames, &error))?
        }
    };
    match printer.format {
        Format::Json => printer.json(&verdict)?,
        Format::Csv => {
            let rows = verdict.problems.iter().map(|problem| vec![problem.clone()]);
            printer.csv(&["problem".to_owned()], rows)?;
        }
        Format::Table if verdict.valid => show(printer, &file, &verdict)?,
        Format::Table => {}
    }
    if verdict.valid {
        Ok(())
    } else {
        Err(invalid(&verdict.problems.join("; ")))
    }
}

fn show(printer: &mut Printer, file: &ReceiptFile, verdict: &Verdict) -> anyhow::Result<()> {
    printer.heading("Both receipts are good and state the same run.")?;
    let text = |text: String| Value::from(text).entry();
    let mut lines = vec![
        (
            "run".to_owned(),
            text(format!("{} ({})", file.run, file.mode)),
        ),
        ("partner".to_owned(), text(file.partner.clone())),
        ("started".to_owned(), Value::Time(file.started_at).entry()),
    ];
    if let Some(statement) = &verdict.statement {
        for (name, side) in [("mine", &statement.mine), ("theirs", &statement.theirs)] {
            lines.push((
                name.to_owned(),
                text(format!(
                    "{} list queries, {} count queries, {} tags, {} frames",
                    grouped(side.list_queries),
                    grouped(side.count_queries),
                    grouped(side.tags),
                    grouped(side.frames)
                )),
            ));
        }
        lines.push(("session".to_owned(), text(statement.session.clone())));
        lines.push(("terms hash".to_owned(), text(statement.terms_hash.clone())));
    }
    if let Some(frames) = &verdict.frames {
        lines.push((
            "recording".to_owned(),
            text(format!(
                "{} frames as signed, {} chunks of {} evaluations proven, {} slices as committed, {} reports",
                grouped(frames.frames),
                grouped(frames.chunks),
                grouped(frames.elements),
                grouped(frames.slices),
                grouped(frames.reports)
            )),
        ));
        if frames.delta {
            lines.push((
                "not checked".to_owned(),
                text(
                    "what removals, earlier claims and withdrawals refer to: see the recordings of earlier runs"
                        .to_owned(),
                ),
            ));
        }
    }
    printer.properties(0, &lines)
}
