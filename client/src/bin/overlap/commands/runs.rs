//! `overlap match` and `overlap runs`

use std::time::Duration;

use futures::StreamExt as _;
use overlap_client::{Client, Error, Fault, Run, RunState, StartRun};
use tokio::sync::mpsc;

use super::{Context, failed, first, interrupts};
use crate::{
    args::Format,
    output::{Column, Value},
    progress::{Meter, bytes, clock, run_line},
    table::{Entry, Tone, grouped},
};

/// How often in a row watching may break before we give up.
const MAX_BREAKS: u32 = 5;
/// How long a cancelled run may take to end.
const CANCEL_GRACE: Duration = Duration::from_secs(30);

/// Starts a run and waits for its end.
pub(super) async fn start(context: &mut Context, partner: &str, full: bool) -> anyhow::Result<()> {
    let mut interrupts = interrupts();
    let client = context.client().await?;
    let options = StartRun {
        full,
        ..StartRun::default()
    };
    let run = client.start_run(partner, options).await?;
    let run = follow(&client, run, &mut interrupts).await?;
    let printer = &mut context.printer;
    let done = run.state == RunState::Done;
    match printer.format {
        Format::Table if !done => {}
        Format::Table => show(context, partner, &run)?,
        // Programs get the failed run too.
        _ => printer.record(&run, &columns())?,
    }
    match run.state {
        RunState::Done => Ok(()),
        RunState::Cancelled => Err(failed("CANCELLED", format!("run {} was cancelled", run.id))),
        _ => Err(failure(&run)),
    }
}

/// Watches a run to its end; the first interrupt cancels it, the second leaves at once.
async fn follow(
    client: &Client,
    mut run: Run,
    interrupts: &mut mpsc::Receiver<()>,
) -> anyhow::Result<Run> {
    let mut meter = Meter::new();
    let mut cancelled = false;
    let mut breaks = 0;
    let id = run.id.clone();
    let grace = tokio::time::sleep(CANCEL_GRACE);
    let mut grace = std::pin::pin!(grace);
    while !run.state.is_final() {
        let mut updates = std::pin::pin!(client.watch_run(&id));
        loop {
            meter.show(&format!(
                "{}{}",
                if cancelled { "cancelling · " } else { "" },
                run_line(&run)
            ));
            tokio::select! {
                update = updates.next() => match update {
                    Some(Ok(update)) => {
                        breaks = 0;
                        run = update;
                        if run.state.is_final() {
                            break;
                        }
                    }
                    Some(Err(error)) if !may_heal(&error) => return Err(error.into()),
                    // The node restarts, or the connection broke: the run goes on without us.
                    Some(Err(error)) if breaks >= MAX_BREAKS => return Err(error.into()),
                    _ => {
                        breaks += 1;
                        break;
                    }
                },
                Some(()) = interrupts.recv() => {
                    if cancelled {
                        return Err(failed("INTERRUPTED", format!("left before run {id} ended")));
                    }
                    cancelled = true;
                    grace.as_mut().reset(tokio::time::Instant::now() + CANCEL_GRACE);
                    match client.cancel_run(&id).await {
                        Ok(update) => run = update,
                        Err(error) => {
                            // It may just have ended by itself.
                            run = client.run(&id).await?;
                            if !run.state.is_final() {
                                return Err(error.into());
                            }
                        }
                    }
                    if run.state.is_final() {
                        break;
                    }
                }
                () = &mut grace, if cancelled => {
                    return Err(failed(
                        "DEADLINE_EXCEEDED",
                        format!("run {id} is being cancelled but has not ended yet"),
                    ));
                }
            }
        }
        if !run.state.is_final() {
            if breaks > MAX_BREAKS {
                return Err(failed(
                    "NODE_UNREACHABLE",
                    format!("run {id} cannot be watched: the node keeps ending the connection"),
                ));
            }
            let pause = Duration::from_millis(200 << breaks);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Some(()) = interrupts.recv() => {
                    if cancelled {
                        return Err(failed("INTERRUPTED", format!("left before run {id} ended")));
                    }
                    cancelled = true;
                    grace.as_mut().reset(tokio::time::Instant::now() + CANCEL_GRACE);
                    run = client.cancel_run(&id).await?;
                }
            }
        }
    }
    Ok(run)
}

/// Whether watching again may work.
fn may_heal(error: &Error) -> bool {
    !matches!(error.retry(), overlap_client::Retry::No)
}

fn failure(run: &Run) -> anyhow::Error {
    let Some(failure) = &run.failure else {
        return failed(
            "UNKNOWN",
            format!("run {} ended as {}", run.id, run.state.name()),
        );
    };
    let side = match failure.fault {
        Fault::Partner => " (the partner's side)",
        Fault::Network => " (the connection)",
        _ => "",
    };
    failed(
        &failure.reason,
        format!("run {} failed{side}: {}", run.id, failure.message),
    )
}

fn show(context: &mut Context, partner: &str, run: &Run) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    let text = |text: String| Value::from(text).entry();
    let mut lines: Vec<(String, Entry)> = vec![
        (
            "run".to_owned(),
            text(format!(
                "{} ({}{})",
                run.id,
                if run.full { "full" } else { "changes" },
                if run.initiated_here {
                    ""
                } else {
                    ", started by the partner"
                }
            )),
        ),
        ("state".to_owned(), state(run.state).entry()),
    ];
    if let (Some(from), Some(to)) = (run.started_at, run.ended_at) {
        let seconds = to.duration_since(from).as_secs().max(0).unsigned_abs();
        lines.push(("took".to_owned(), text(clock(seconds))));
    }
    if let Some(summary) = &run.summary {
        lines.push((
            "shared customers".to_owned(),
            text(
                summary
                    .shared_customers
                    .map_or_else(|| "not known".to_owned(), grouped),
            ),
        ));
        lines.push((
            "keys".to_owned(),
            text(format!(
                "{} mine, {} theirs",
                grouped(summary.my_keys),
                grouped(summary.their_keys)
            )),
        ));
        lines.push((
            "traffic".to_owned(),
            text(format!(
                "{} sent, {} received",
                bytes(summary.sent_bytes),
                bytes(summary.received_bytes)
            )),
        ));
        if !summary.flows.is_empty() {
            lines.push(("flows".to_owned(), text(summary.flows.join("; "))));
        }
        if !summary.backend.is_empty() {
            lines.push(("engine".to_owned(), text(summary.backend.clone())));
        }
    }
    printer.properties(0, &lines)?;
    printer.line("")?;
    printer.line(&format!(
        "Next: overlap matrix {partner}; overlap shared {partner}"
    ))
}

/// Lists runs.
pub(super) async fn list(context: &mut Context, partner: &str, limit: usize) -> anyhow::Result<()> {
    let client = context.client().await?;
    let runs = first(client.runs(partner), limit).await?;
    let printer = &mut context.printer;
    let mut columns = columns();
    if printer.format == Format::Table {
        columns.retain(|column| !["partner", "ended_at", "message"].contains(&&*column.name));
    }
    printer.list(
        &runs,
        &columns,
        &format!("No runs yet: \"overlap match {partner}\" starts one."),
    )
}

fn columns() -> Vec<Column<'static, Run>> {
    vec![
        Column::text("id", |run: &Run| &run.id),
        Column::text("partner", |run: &Run| &run.partner),
        Column::new("state", |run: &Run| state(run.state)),
        Column::new("full", |run: &Run| Value::Flag(run.full)),
        Column::new("initiated_here", |run: &Run| {
            Value::Flag(run.initiated_here)
        }),
        Column::new("started_at", |run: &Run| Value::Time(run.started_at)),
        Column::new("ended_at", |run: &Run| Value::Time(run.ended_at)),
        Column::number("shared_customers", |run: &Run| {
            run.summary
                .as_ref()
                .and_then(|summary| summary.shared_customers)
        }),
        Column::new("reason", |run: &Run| {
            run.failure
                .as_ref()
                .map_or(Value::Unset, |failure| Value::from(&failure.reason))
        }),
        Column::new("message", |run: &Run| {
            run.failure
                .as_ref()
                .map_or(Value::Unset, |failure| Value::from(&failure.message))
        }),
    ]
}

fn state(state: RunState) -> Value {
    let tone = match state {
        RunState::Done => Tone::Good,
        RunState::Failed => Tone::Bad,
        RunState::Cancelled => Tone::Dim,
        _ => Tone::Warning,
    };
    Value::State(state.name().to_owned(), tone)
}
