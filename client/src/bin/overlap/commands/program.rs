//! `overlap program`: the numbers.

mod intelligence;
mod settings;
mod views;

use overlap_client::{
    EngagementPeriod, Metric, MetricDefinition, MetricGroup, MetricSeriesEntry, ProgramFilter,
    ProgramPeriod, StageConversion,
    terminal::figures::{self, sparkline},
    view::Named,
};

use super::{Context, export_format, failed, save_stream, times::instant};
use crate::{
    args::{Format, Program, ProgramOptions},
    output::{Printer, Report, Sheet, Value, basis, metric_columns, metric_rows, metrics},
};

/// What `overlap program revenue` shows.
const REVENUE: [&str; 9] = [
    "sourced_closed_revenue",
    "influenced_revenue",
    "influenced_not_sourced_revenue",
    "renewal_revenue",
    "expansion_revenue",
    "won_revenue",
    "partner_share",
    "average_deal_size",
    "sourced_pipeline",
];
/// What `overlap program velocity` shows.
const VELOCITY: [&str; 7] = [
    "sales_cycle",
    "registrations_submitted",
    "registration_approval_rate",
    "registration_win_rate",
    "registration_decided_win_rate",
    "sourced_opportunities",
    "won_deals",
];

pub(super) async fn run(context: &mut Context, command: Program) -> anyhow::Result<()> {
    let client = context.client().await?;
    let printer = &mut context.printer;
    match command {
        Program::Scorecard {
            filter: options,
            retention,
            return_basis,
        } => {
            let filter = filter(options)?;
            let card = client.scorecard(&filter, retention, return_basis).await?;
            show_metrics(printer, "Scorecard", &card)
        }
        Program::Metrics {
            metrics,
            filter: options,
        } => {
            let found = client.metrics(&filter(options)?, &metrics).await?;
            show_metrics(printer, "Metrics", &found)
        }
        Program::Revenue { filter: options } => {
            let found = client.metrics(&filter(options)?, &ids(&REVENUE)).await?;
            show_metrics(printer, "Revenue", &found)
        }
        Program::Velocity { filter: options } => {
            let found = client.metrics(&filter(options)?, &ids(&VELOCITY)).await?;
            show_metrics(printer, "Velocity", &found)
        }
        Program::Funnel {
            stages,
            filter: options,
        } => {
            let conversions = client.stage_conversion(&filter(options)?, &stages).await?;
            show_funnel(printer, &conversions)
        }
        Program::Breakdown {
            by,
            metrics,
            filter: options,
            limit,
        } => {
            let filter = filter(options)?;
            let breakdown = pages!(
                client.list_metric_breakdown(&filter, &metrics, by).groups,
                limit
            );
            let name = by.name().to_lowercase().replace('_', " ");
            let mut report = Report::new(
                groups_sheet(&breakdown.groups),
                "No group: there are no records yet, or the filter excludes all.",
            )
            .titled(format!("By {name}"))
            .note(basis(
                breakdown.groups.iter().flat_map(|group| &group.metrics),
            ));
            if breakdown.multi_valued {
                report = report
                    .note("A record may be in several groups: they do not add up to the whole.");
            }
            printer.report(&breakdown, report)
        }
        Program::Series {
            metrics,
            period,
            filter: options,
        } => {
            let entries = client
                .metric_series(&filter(options)?, &metrics, period)
                .await?;
            show_series(printer, period, &entries)
        }
        Program::Definitions { metrics } => {
            let mut definitions = client.metric_definitions().await?;
            if !metrics.is_empty() {
                if let Some(unknown) = metrics
                    .iter()
                    .find(|id| !definitions.iter().any(|definition| definition.id == **id))
                {
                    return Err(failed(
                        "NOT_FOUND",
                        format!(
                            "no metric is called \"{unknown}\": \"overlap program definitions\" lists all"
                        ),
                    ));
                }
                definitions.retain(|definition| metrics.contains(&definition.id));
            }
            show_definitions(printer, &definitions)
        }
        Program::Export {
            metrics,
            by,
            format,
            to,
            filter: options,
        } => {
            let filter = filter(options)?;
            let format = export_format(printer, format);
            let chunks = client.export_metrics(&filter, &metrics, by, format);
            save_stream(printer, to.as_deref(), chunks).await
        }
        Program::Feed {
            metrics,
            first_day,
            last_day,
            time_zone,
            format,
            to,
        } => {
            let format = export_format(printer, format);
            let chunks = client.export_daily_feed(
                &first_day,
                &last_day,
                time_zone.as_deref(),
                &metrics,
                format,
            );
            save_stream(printer, to.as_deref(), chunks).await
        }
        Program::Settings(command) => settings::run(&client, printer, command).await,
        command @ (Program::Forecast { .. }
        | Program::Compare { .. }
        | Program::Enablement { .. }
        | Program::Alerts { .. }
        | Program::Executive { .. }
        | Program::Partner { .. }
        | Program::Signals { .. }
        | Program::Adoption { .. }) => views::run(&client, printer, command).await,
        command => intelligence::run(&client, printer, command).await,
    }
}

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn filter(options: ProgramOptions) -> anyhow::Result<ProgramFilter> {
    let zone = options.time_zone.as_deref();
    let period = match (options.range, &options.start, &options.end) {
        (Some(range), ..) => ProgramPeriod::Quick(range),
        (None, Some(start), Some(end)) => ProgramPeriod::Interval {
            start: instant("--start", start, zone)?,
            end: instant("--end", end, zone)?,
        },
        _ => ProgramPeriod::Default,
    };
    let as_of = options
        .as_of
        .as_ref()
        .map(|text| instant("--as-of", text, zone))
        .transpose()?;
    Ok(ProgramFilter {
        period,
        as_of,
        time_zone: options.time_zone,
        partners: options.partners,
        types: options.types,
        segments: options.segments,
        tiers: options.tiers,
        verticals: options.verticals,
        regions: options.regions,
        territories: options.territories,
        products: options.products,
        industries: options.industries,
    })
}

fn show_metrics(printer: &mut Printer, title: &str, found: &[Metric]) -> anyhow::Result<()> {
    let report = Report::new(metrics(found), "No metrics.")
        .titled(title)
        .note(basis(found));
    printer.report(&Named::new("metrics", found), report)
}

/// One row a group and value.
fn groups_sheet(groups: &[MetricGroup]) -> Sheet {
    let mut sheet = metric_columns(Sheet::new().text("group").field("group_label")).look("");
    let largest = |id: &str, currency: &str| {
        groups
            .iter()
            .flat_map(|group| &group.metrics)
            .filter(|metric| metric.id == id)
            .flat_map(|metric| &metric.values)
            .filter(|value| value.currency_code == currency)
            .filter_map(|value| value.value)
            .fold(0.0, f64::max)
    };
    for group in groups {
        let shown = if group.label.is_empty() {
            &group.value
        } else {
            &group.label
        };
        for metric in &group.metrics {
            let first = [
                Value::Shown {
                    text: shown.clone(),
                    field: group.value.clone(),
                },
                Value::from(&group.label),
            ];
            let bars = metric.values.iter().map(|value| {
                let whole = largest(&metric.id, &value.currency_code);
                vec![Value::bar(value.value.unwrap_or_default(), whole)]
            });
            metric_rows(&mut sheet, &first, metric, bars);
        }
    }
    sheet
}

fn show_funnel(printer: &mut Printer, conversions: &[StageConversion]) -> anyhow::Result<()> {
    let mut sheet = metric_columns(Sheet::new().text("from_stage").text("to_stage")).look("");
    for conversion in conversions {
        let first = [
            Value::from(&conversion.from_stage),
            Value::from(&conversion.to_stage),
        ];
        let bars = conversion
            .conversion
            .values
            .iter()
            .map(|value| vec![Value::bar(value.value.unwrap_or_default(), 1.0)]);
        metric_rows(&mut sheet, &first, &conversion.conversion, bars);
    }
    let report = Report::new(
        sheet,
        "No deal has entered a stage in this period: deals carry stage_changes.",
    )
    .titled("Deals that went on from stage to stage")
    .note(basis(conversions.iter().map(|entry| &entry.conversion)));
    printer.report(&Named::new("conversions", conversions), report)
}

fn show_series(
    printer: &mut Printer,
    period: EngagementPeriod,
    entries: &[MetricSeriesEntry],
) -> anyhow::Result<()> {
    let all = || entries.iter().flat_map(|entry| &entry.metrics);
    if printer.format != Format::Table {
        let mut sheet = metric_columns(Sheet::new().text("period"));
        for entry in entries {
            for metric in &entry.metrics {
                let first = [Value::from(&entry.label)];
                metric_rows(&mut sheet, &first, metric, []);
            }
        }
        return printer.report(&Named::new("entries", entries), Report::new(sheet, ""));
    }
    // People see one part a metric and currency, with its course.
    let mut reports = Vec::new();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for metric in all() {
        for value in &metric.values {
            let key = (metric.id.as_str(), value.currency_code.as_str());
            if !seen.contains(&key) {
                seen.push(key);
            }
        }
    }
    // A metric of which no period knows a value is shown as such.
    for metric in all() {
        if !seen.iter().any(|(id, _)| *id == metric.id) {
            seen.push((&metric.id, ""));
        }
    }
    for (id, currency) in seen {
        reports.push(course(entries, id, currency));
    }
    if reports.is_empty() {
        reports.push(Report::new(Sheet::new(), "No period in this span."));
    }
    if let Some(last) = reports.last_mut() {
        let by = period.name().to_lowercase();
        last.notes.push(format!("by {by} · {}", basis(all())));
    }
    printer.reports(&Named::new("entries", entries), reports)
}

/// One metric in one currency over time.
fn course(entries: &[MetricSeriesEntry], id: &str, currency: &str) -> Report {
    let mut rows = Vec::new();
    let mut label = id.to_owned();
    for entry in entries {
        let metric = entry.metrics.iter().find(|metric| metric.id == id);
        let value = metric.and_then(|metric| {
            label.clone_from(&metric.label);
            let value = metric
                .values
                .iter()
                .find(|value| value.currency_code == currency)?;
            Some((metric.unit, value))
        });
        rows.push((&entry.label, value));
    }
    let numbers: Vec<Option<f64>> = rows
        .iter()
        .map(|(_, value)| value.and_then(|(_, value)| value.value))
        .collect();
    let largest = numbers.iter().flatten().copied().fold(0.0, f64::max);
    let mut sheet = Sheet::new()
        .text("period")
        .number("value")
        .look_number("made_of")
        .look("");
    for (period, value) in &rows {
        sheet.push(vec![
            Value::from(*period),
            value.map_or(Value::Unset, |(unit, value)| Value::metric(unit, value)),
            Value::look(value.map_or_else(String::new, |(_, value)| figures::made_of(value))),
            Value::bar(
                value.and_then(|(_, value)| value.value).unwrap_or_default(),
                largest,
            ),
        ]);
    }
    let currency = if currency.is_empty() {
        String::new()
    } else {
        format!(", {currency}")
    };
    Report::new(sheet, "No period in this span.")
        .titled(format!("{label}{currency}  {}", sparkline(&numbers)))
}

fn show_definitions(printer: &mut Printer, definitions: &[MetricDefinition]) -> anyhow::Result<()> {
    let mut sheet = Sheet::new()
        .text("id")
        .text("label")
        .text("unit")
        .number("version")
        .field("definition")
        .text("numerator")
        .text("denominator");
    for definition in definitions {
        sheet.push(vec![
            Value::from(&definition.id),
            Value::from(&definition.label),
            Value::name(definition.unit.name()),
            Value::Number(definition.version.into()),
            Value::from(&definition.definition),
            Value::from(&definition.numerator),
            Value::from(&definition.denominator),
        ]);
    }
    let mut report = Report::new(sheet, "No metrics.");
    if let [definition] = definitions {
        report = report
            .titled(&definition.label)
            .note(&definition.definition);
    } else {
        report = report.note(
            "\"overlap program definitions ID\" says what one means; docs/METRICS.md has all.",
        );
    }
    printer.report(&Named::new("definitions", definitions), report)
}
