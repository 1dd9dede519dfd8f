//! `overlap timeline`

use overlap_client::{
    ActionSegment, ActionSegmentCustomer, CustomerTimeline, DisclosureState, StageMovement,
    TimelineEvent, TimelineSide, terminal::figures,
};

use super::{Context, first, times::months};
use crate::{
    args::{Format, Timeline},
    output::{Report, Sheet, Value},
    table::counted,
};

pub(super) async fn run(context: &mut Context, command: Timeline) -> anyhow::Result<()> {
    let client = context.client().await?;
    match command {
        Timeline::Show { partner, id } => {
            let timeline = client.timeline(&partner, &id).await?;
            let report = events(&timeline).titled(format!("Timeline of {id} with {partner}"));
            context.printer.report(&timeline, report)
        }
        Timeline::Movements {
            partner,
            months: options,
        } => {
            let movements = client.stage_movements(&partner, months(options)?).await?;
            let mut sheet = Sheet::new()
                .text("side")
                .text("from")
                .text("to")
                .number("count")
                .look("")
                .look("by month");
            let largest = movements
                .movements
                .iter()
                .map(|movement| movement.count)
                .max();
            for movement in &movements.movements {
                let by_month: Vec<Option<f64>> = movements
                    .months
                    .iter()
                    .map(|month| {
                        let same = |other: &&StageMovement| {
                            (other.side, &other.from, &other.to)
                                == (movement.side, &movement.from, &movement.to)
                        };
                        let found = month.movements.iter().find(same);
                        Some(found.map_or(0.0, |found| found.count as f64))
                    })
                    .collect();
                sheet.push(vec![
                    side(movement.side),
                    Value::from(&movement.from),
                    Value::from(&movement.to),
                    Value::Number(movement.count),
                    Value::look(figures::bar(
                        movement.count as f64,
                        largest.unwrap_or_default() as f64,
                        16,
                    )),
                    Value::look(figures::sparkline(&by_month)),
                ]);
            }
            let mut report = Report::new(sheet, "No shared customer moved in this period.")
                .titled(format!("Movement between stages with {partner}"));
            if let (Some(from), Some(to)) = (movements.months.first(), movements.months.last()) {
                report = report.note(format!("{} to {}", from.month, to.month));
            }
            report = report.note(disclosure(movements.partner_timeline));
            context.printer.report(&movements, report)
        }
        Timeline::Conversion {
            partner,
            months: options,
        } => {
            let conversion = client
                .referral_conversion(&partner, months(options)?)
                .await?;
            let mut sheet = Sheet::new()
                .number("referred")
                .number("converted")
                .number("conversion");
            sheet.push(vec![
                Value::Number(conversion.referred),
                Value::Number(conversion.converted),
                Value::percent(conversion.conversion),
            ]);
            let report = Report::new(sheet, "")
                .titled(format!("Prospects referred by {partner}"))
                .note(as_of(conversion.as_of));
            context.printer.report(&conversion, report)
        }
        Timeline::Segments {
            partner,
            segment: None,
            ..
        } => {
            let segments = client.action_segments(&partner).await?;
            let largest = segments.segments.iter().map(|segment| segment.count).max();
            let mut sheet = Sheet::new().text("segment").number("count").look("");
            for segment in &segments.segments {
                sheet.push(vec![
                    Value::name(segment.segment.name()),
                    Value::Number(segment.count),
                    Value::look(figures::bar(
                        segment.count as f64,
                        largest.unwrap_or_default() as f64,
                        24,
                    )),
                ]);
            }
            let report = Report::new(sheet, "No segments.")
                .titled(format!(
                    "Shared customers with {partner} by what to do about them"
                ))
                .note(as_of(segments.as_of))
                .note(disclosure(segments.partner_timeline));
            context.printer.report(&segments, report)
        }
        Timeline::Segments {
            partner,
            segment: Some(segment),
            limit,
        } => {
            let customers = first(client.action_segment(&partner, segment), limit).await?;
            show_segment(context, segment, &customers)
        }
    }
}

fn show_segment(
    context: &mut Context,
    segment: ActionSegment,
    customers: &[ActionSegmentCustomer],
) -> anyhow::Result<()> {
    let printer = &mut context.printer;
    if printer.format == Format::Json {
        return printer.json(&customers);
    }
    let mut sheet = Sheet::new()
        .text("id")
        .text("mine")
        .text("theirs")
        .text("first_matched_at")
        .text("last_event_at")
        .text("last_event");
    for customer in customers {
        let last = customer.last_event.as_ref();
        sheet.push(vec![
            Value::from(&customer.id),
            Value::from(&customer.mine),
            Value::from(&customer.theirs),
            Value::time(customer.first_matched_at),
            Value::time(last.and_then(|event| event.at)),
            last.map_or(Value::Unset, |event| Value::name(event.r#type.name())),
        ]);
    }
    let count = counted(customers.len() as u64, "shared customer");
    let report = Report::new(sheet, "No shared customer is in this segment.").titled(format!(
        "{count}: {}",
        segment.name().to_lowercase().replace('_', " ")
    ));
    printer.report(&customers, report)
}

/// What happened with one customer.
pub(super) fn events(timeline: &CustomerTimeline) -> Report {
    let mut sheet = Sheet::new()
        .text("at")
        .text("side")
        .text("type")
        .text("label")
        .text("partner")
        .field("id");
    for event in &timeline.events {
        sheet.push(event_row(event));
    }
    Report::new(sheet, "Nothing has happened with this customer yet.")
        .note(disclosure(timeline.partner_timeline))
}

fn event_row(event: &TimelineEvent) -> Vec<Value> {
    vec![
        Value::time(event.at),
        side(event.side),
        Value::name(event.r#type.name()),
        Value::from(&event.label),
        Value::from(&event.partner),
        Value::from(&event.id),
    ]
}

fn side(side: TimelineSide) -> Value {
    Value::name(side.name())
}

fn disclosure(state: DisclosureState) -> &'static str {
    match state {
        DisclosureState::Shared => "The partner shares its timeline.",
        DisclosureState::NotShared => {
            "The partner does not share its timeline: only your side is known. [NOT_SHARED]"
        }
        _ => "",
    }
}

fn as_of(time: Option<overlap_client::Timestamp>) -> String {
    time.map(|time| format!("as of {}", figures::minute(time)))
        .unwrap_or_default()
}
