//! `overlap changes`

use futures::StreamExt as _;
use overlap_client::{Change, ChangeFilter, Error, Retry, Watched, terminal::figures};
use std::time::Duration;

use super::{Context, interrupts};
use crate::{
    args::{Changes, Format},
    output::Printer,
    table::{Tone, one_line, pad},
};

/// How often in a row the watch may break before we give up.
const MAX_BREAKS: u32 = 5;

pub(super) async fn run(context: &mut Context, command: Changes) -> anyhow::Result<()> {
    let Changes::Watch(options) = command;
    let client = context.client().await?;
    let mut filter = ChangeFilter {
        cursor: options.from,
        from_oldest: options.from_oldest,
        kinds: options.kind,
        partner: options.partner,
    };
    let mut left = options.limit.unwrap_or(usize::MAX);
    let printer = &mut context.printer;
    if printer.format == Format::Csv {
        header(printer)?;
    }
    let mut interrupts = interrupts();
    let mut breaks = 0;
    while left > 0 {
        let mut changes = std::pin::pin!(client.watch_changes(filter.clone()));
        loop {
            let watched = tokio::select! {
                watched = changes.next() => watched,
                Some(()) = interrupts.recv() => return Ok(()),
            };
            match watched {
                Some(Ok(watched)) => {
                    breaks = 0;
                    filter.cursor = Some(watched.cursor.clone());
                    filter.from_oldest = false;
                    if show(printer, &watched)? {
                        left -= 1;
                    }
                    if left == 0 {
                        return Ok(());
                    }
                }
                // The node restarts, or the connection broke: nothing is missed after the last cursor.
                Some(Err(error)) if heals(&error) && breaks < MAX_BREAKS => break,
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
        }
        breaks += 1;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200 << breaks.min(5))) => {}
            Some(()) = interrupts.recv() => return Ok(()),
        }
    }
    Ok(())
}

fn heals(error: &Error) -> bool {
    error.retry() != Retry::No
}

fn header(printer: &mut Printer) -> anyhow::Result<()> {
    let header = ["at", "kind", "partner", "subject", "details", "cursor"];
    printer.csv_line(header.map(str::to_owned).to_vec())
}

/// Prints a change, and says whether there was one.
fn show(printer: &mut Printer, watched: &Watched) -> anyhow::Result<bool> {
    let Some(change) = &watched.change else {
        return Ok(false);
    };
    match printer.format {
        Format::Json => printer.json_line(watched)?,
        Format::Csv => {
            let row = vec![
                change.at.map(|at| at.to_string()).unwrap_or_default(),
                change.kind.name().to_owned(),
                change.partner.clone(),
                change.subject.clone(),
                details(change),
                watched.cursor.clone(),
            ];
            printer.csv_line(row)?;
        }
        Format::Table => {
            let kind = change.kind.name().to_lowercase().replace('_', " ");
            let line = format!(
                "{}  {}  {}  {}",
                change.at.map_or_else(
                    || pad(figures::UNSET, 20, false),
                    |at| pad(&figures::minute(at), 20, false)
                ),
                // As wide as the longest kind.
                pad(&kind, 22, false),
                [change.partner.as_str(), change.subject.as_str()]
                    .into_iter()
                    .filter(|text| !text.is_empty())
                    .collect::<Vec<_>>()
                    .join(" "),
                details(change)
            );
            let cursor = printer
                .paint
                .text(Tone::Dim, &format!("  {}", one_line(&watched.cursor)));
            let line = one_line(line.trim_end());
            printer.text(&format!("{line}{cursor}\n"))?;
            printer.flush()?;
        }
    }
    Ok(true)
}

fn details(change: &Change) -> String {
    let details: Vec<String> = change
        .details
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    details.join(" ")
}
