//! `overlap attribution`

use overlap_client::{
    AttributionDirection, AttributionFilter, AttributionMetrics, AttributionState, Client,
    Decision, NewAttribution, terminal::figures,
};

use super::{Context, first, read_text, times::months};
use crate::{
    args::{Attribution, AttributionOptions, DecisionOptions, Format},
    output::{Column, Report, Sheet, Value},
    table::Tone,
};

pub(super) async fn run(context: &mut Context, command: Attribution) -> anyhow::Result<()> {
    let client = context.client().await?;
    match command {
        Attribution::Request {
            partner,
            customer,
            details,
            details_file,
            request_id,
        } => {
            let details = match (details, details_file) {
                (Some(details), _) => details,
                (None, Some(file)) => read_text(&file)?,
                (None, None) => String::new(),
            };
            let new = NewAttribution {
                customer,
                details: details.trim().to_owned(),
                request_id,
            };
            let filed = client.request_attribution(&partner, new).await?;
            show(context, &filed)
        }
        Attribution::List(options) => {
            let directions = [AttributionDirection::Received, AttributionDirection::Sent];
            list(context, &client, options, &directions).await
        }
        Attribution::Sent(options) => {
            list(context, &client, options, &[AttributionDirection::Sent]).await
        }
        Attribution::Received(options) => {
            list(context, &client, options, &[AttributionDirection::Received]).await
        }
        Attribution::Show { partner, id } => {
            let attribution = client.attribution(&partner, &id).await?;
            show(context, &attribution)
        }
        Attribution::Approve(options) => {
            let (partner, id, decision) = decision(options);
            let decided = client.approve_attribution(&partner, &id, decision).await?;
            show(context, &decided)
        }
        Attribution::Deny(options) => {
            let (partner, id, decision) = decision(options);
            let decided = client.deny_attribution(&partner, &id, decision).await?;
            show(context, &decided)
        }
        Attribution::Cancel {
            partner,
            id,
            request_id,
        } => {
            let cancelled = client
                .cancel_attribution(&partner, &id, request_id.as_deref())
                .await?;
            show(context, &cancelled)?;
            if context.printer.format == Format::Table
                && cancelled.state == AttributionState::Pending
            {
                context.printer.line(
                    "The partner's node has not confirmed yet: the request ends when it does.",
                )?;
            }
            Ok(())
        }
        Attribution::Metrics {
            partner,
            months: options,
        } => {
            let metrics = client
                .attribution_metrics(&partner, months(options)?)
                .await?;
            show_metrics(context, &partner, &metrics)
        }
    }
}

fn decision(options: DecisionOptions) -> (String, String, Decision) {
    let decision = Decision {
        comment: options.comment,
        request_id: options.request_id,
    };
    (options.partner, options.id, decision)
}

async fn list(
    context: &mut Context,
    client: &Client,
    options: AttributionOptions,
    directions: &[AttributionDirection],
) -> anyhow::Result<()> {
    let filter = AttributionFilter {
        state: options.state,
        customer: options.customer,
    };
    let mut attributions = Vec::new();
    for direction in directions {
        let of_direction = client.attributions(&options.partner, *direction, &filter);
        attributions.extend(first(of_direction, options.limit).await?);
    }
    attributions.sort_by_key(|attribution| std::cmp::Reverse(attribution.requested_at));
    let printer = &mut context.printer;
    if printer.format == Format::Json {
        return printer.json(&attributions);
    }
    let mut sheet = Sheet::new()
        .text("id")
        .text("direction")
        .text("state")
        .text("customer")
        .text("requested_at")
        .text("decided_at")
        .field("cancel_requested_at")
        .text("details")
        .text("comment")
        .field("partner")
        .field("ref")
        .field("user");
    for attribution in &attributions {
        sheet.push(vec![
            Value::from(&attribution.id),
            Value::name(attribution.direction.name()),
            state(attribution),
            Value::from(&attribution.customer),
            Value::time(attribution.requested_at),
            Value::time(attribution.decided_at),
            Value::time(attribution.cancel_requested_at),
            short(&attribution.details),
            short(&attribution.comment),
            Value::from(&attribution.partner),
            Value::from(&attribution.r#ref),
            Value::from(&attribution.user),
        ]);
    }
    let none = if filter == AttributionFilter::default() {
        "No requests yet: \"overlap attribution request PARTNER CUSTOMER --details TEXT\" files one."
    } else {
        "No request matches."
    };
    printer.report(&attributions, Report::new(sheet, none))
}

/// A long text would leave no room for the rest; "show" has all of it.
fn short(text: &str) -> Value {
    const LONGEST: usize = 40;
    let shown = if text.chars().count() > LONGEST {
        let start: String = text.chars().take(LONGEST - 1).collect();
        format!("{}…", start.trim_end())
    } else {
        text.to_owned()
    };
    Value::Shown {
        text: shown,
        field: text.to_owned(),
    }
}

fn state(attribution: &overlap_client::Attribution) -> Value {
    let tone = match attribution.state {
        AttributionState::Approved => Tone::Good,
        AttributionState::Denied => Tone::Bad,
        AttributionState::Pending => Tone::Warning,
        _ => Tone::Dim,
    };
    Value::State(attribution.state.name().to_owned(), tone)
}

fn show(context: &mut Context, attribution: &overlap_client::Attribution) -> anyhow::Result<()> {
    type Row = overlap_client::Attribution;
    let columns = [
        Column::text("id", |row: &Row| &row.id),
        Column::text("partner", |row: &Row| &row.partner),
        Column::new("direction", |row: &Row| row.direction.name()),
        Column::new("state", state),
        Column::text("customer", |row: &Row| &row.customer),
        Column::text("ref", |row: &Row| &row.r#ref),
        Column::text("details", |row: &Row| &row.details),
        Column::text("comment", |row: &Row| &row.comment),
        Column::new("requested_at", |row: &Row| Value::Time(row.requested_at)),
        Column::new("decided_at", |row: &Row| Value::Time(row.decided_at)),
        Column::new("cancel_requested_at", |row: &Row| {
            Value::Time(row.cancel_requested_at)
        }),
        Column::text("user", |row: &Row| &row.user),
    ];
    context.printer.record(attribution, &columns)
}

fn show_metrics(
    context: &mut Context,
    partner: &str,
    metrics: &AttributionMetrics,
) -> anyhow::Result<()> {
    let largest = metrics
        .months
        .iter()
        .map(|month| month.sent_approved.max(month.received_approved))
        .max()
        .unwrap_or_default() as f64;
    let mut sheet = Sheet::new()
        .text("month")
        .number("sent_approved")
        .look("by the partner")
        .number("received_approved")
        .look("by you");
    let bar = |count: u64| Value::look(figures::bar(count as f64, largest, 16));
    for month in &metrics.months {
        sheet.push(vec![
            Value::from(&month.month),
            Value::Number(month.sent_approved),
            bar(month.sent_approved),
            Value::Number(month.received_approved),
            bar(month.received_approved),
        ]);
    }
    let report = Report::new(sheet, "No months in this period.")
        .titled(format!("Approved attributions with {partner}"))
        .note(format!(
            "over all time: {} of yours approved by the partner, {} of the partner's approved by you",
            metrics.sent_approved, metrics.received_approved
        ))
        .note(
            metrics
                .as_of
                .map(|time| format!("as of {}", figures::minute(time)))
                .unwrap_or_default(),
        );
    context.printer.report(metrics, report)
}
