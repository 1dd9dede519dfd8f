//! Forecast, comparisons, alerts and the views made of several parts.

use overlap_client::{
    Alert, AlertKind, Client, Enablement, ExecutiveView, Forecasts, MetricComparison, MetricUnit,
    MetricValue, PartnerOverview, PartnerStanding, Record, TargetComparison, terminal::figures,
};

use super::{filter, groups_sheet};
use crate::{
    args::Program,
    output::{Printer, Report, Sheet, Value, as_of, basis, metric_columns, metric_rows, metrics},
    table::{Tone, counted, grouped},
};

pub(super) async fn run(
    client: &Client,
    printer: &mut Printer,
    command: Program,
) -> anyhow::Result<()> {
    match command {
        Program::Forecast { filter: options } => {
            let forecasts = client.forecast(&filter(options)?).await?;
            printer.report(&forecasts, show_forecast(&forecasts))
        }
        Program::Compare {
            metrics,
            cohorts,
            filter: options,
        } => {
            let comparison = client
                .compare_metrics(&filter(options)?, &metrics, cohorts)
                .await?;
            printer.reports(&comparison, show_comparison(&comparison))
        }
        Program::Enablement { filter: options } => {
            let enablement = client.enablement(&filter(options)?).await?;
            printer.reports(&enablement, show_enablement(&enablement))
        }
        Program::Alerts {
            kind,
            filter: options,
            limit,
        } => {
            let filter = filter(options)?;
            let alerts = pages!(client.list_alerts(&filter, &kind).alerts, limit);
            let report = Report::new(alert_sheet(&alerts.alerts), "Nothing needs attention.")
                .titled("Alerts")
                .note(as_of_alone(alerts.as_of));
            printer.report(&alerts, report)
        }
        Program::Executive { filter: options } => {
            let view = client.executive_view(&filter(options)?).await?;
            printer.reports(&view, show_executive(&view))
        }
        Program::Partner {
            partner,
            filter: options,
        } => {
            let overview = client.partner_overview(&partner, &filter(options)?).await?;
            printer.reports(&overview, show_overview(&overview))
        }
        Program::Signals { filter: options } => {
            let signals = client.ecosystem_signals(&filter(options)?).await?;
            let mut sheet = Sheet::new()
                .text("type")
                .number("events")
                .number("quantity")
                .number("partners")
                .number("customers")
                .number("amounts");
            for signal in &signals.signals {
                let amounts: Vec<String> = signal.amounts.iter().map(figures::money).collect();
                sheet.push(vec![
                    Value::name(signal.r#type.name()),
                    Value::Number(signal.events),
                    Value::Number(signal.quantity),
                    Value::Number(signal.partners),
                    Value::Number(signal.customers),
                    Value::from(amounts.join("; ")),
                ]);
            }
            let report = Report::new(sheet, "No ecosystem events in this period.")
                .titled("Ecosystem")
                .note(as_of(signals.as_of, signals.data_through));
            printer.report(&signals, report)
        }
        Program::Adoption { filter: options } => {
            let adoption = client.dashboard_adoption(&filter(options)?).await?;
            let largest = adoption.views.iter().map(|view| view.calls).max();
            let mut sheet = Sheet::new()
                .text("view")
                .number("calls")
                .look("")
                .number("users");
            for view in &adoption.views {
                sheet.push(vec![
                    Value::from(&view.view),
                    Value::Number(view.calls),
                    Value::count_bar(view.calls, largest),
                    Value::Number(view.users),
                ]);
            }
            let report = Report::new(sheet, "Nobody used the dashboard in this period.")
                .titled("Use of the dashboard")
                .note(format!(
                    "{} by {} in all",
                    counted(adoption.calls, "call"),
                    counted(adoption.users, "user")
                ));
            printer.report(&adoption, report)
        }
        _ => Ok(()),
    }
}

fn as_of_alone(time: Option<overlap_client::Timestamp>) -> String {
    time.map(|time| format!("as of {}", figures::minute(time)))
        .unwrap_or_default()
}

fn show_forecast(forecasts: &Forecasts) -> Report {
    let mut sheet = Sheet::new()
        .text("currency_code")
        .number("won")
        .number("weighted_open")
        .number("forecast")
        .number("target")
        .number("attainment")
        .look("");
    for forecast in &forecasts.forecasts {
        sheet.push(vec![
            Value::from(&forecast.currency_code),
            Value::money(forecast.won.as_ref()),
            Value::money(forecast.weighted_open.as_ref()),
            Value::money(forecast.forecast.as_ref()),
            Value::money(forecast.target.as_ref()),
            Value::percent(forecast.attainment),
            Value::bar(forecast.attainment.unwrap_or_default(), 1.0),
        ]);
    }
    let mut report =
        Report::new(sheet, "No sourced deals are won or open in this period.").titled("Forecast");
    if forecasts.deals_without_probability > 0 {
        report = report.note(format!(
            "{} open deals are left out: neither they nor the settings say how likely they are (overlap program settings set --probability STAGE=PERCENT)",
            grouped(forecasts.deals_without_probability)
        ));
    }
    report.note(as_of(forecasts.as_of, forecasts.data_through))
}

fn show_comparison(comparison: &MetricComparison) -> Vec<Report> {
    let mut sheet = metric_columns(Sheet::new().text("target").text("partner"))
        .number("goal")
        .number("attainment")
        .look("");
    for target in &comparison.targets {
        target_row(&mut sheet, target);
    }
    let none = "No targets: \"overlap records import FILE --kind targets\" loads them.";
    let mut reports = vec![Report::new(sheet, none).titled("Targets").note(basis(
        comparison.targets.iter().map(|target| &target.actual),
    ))];
    if !comparison.cohorts.is_empty() {
        reports.push(
            Report::new(groups_sheet(&comparison.cohorts), "")
                .titled("Cohorts")
                .note(basis(
                    comparison.cohorts.iter().flat_map(|group| &group.metrics),
                )),
        );
    }
    reports
}

fn target_row(sheet: &mut Sheet, target: &TargetComparison) {
    let first = [Value::from(&target.target), Value::from(&target.partner)];
    let last = vec![
        Value::quantity(target.goal.as_ref()),
        Value::percent(target.attainment),
        Value::bar(target.attainment.unwrap_or_default(), 1.0),
    ];
    metric_rows(sheet, &first, &target.actual, [last]);
}

fn show_enablement(enablement: &Enablement) -> Vec<Report> {
    let mut reports = vec![
        Report::new(metrics(&enablement.metrics), "No metrics.")
            .titled("Enablement")
            .note(basis(&enablement.metrics)),
    ];
    let mut sheet = metric_columns(Sheet::new().text("cohort").number("partners"));
    for cohort in &enablement.cohorts {
        let first = [Value::name(&cohort.id), Value::Number(cohort.partners)];
        for metric in &cohort.metrics {
            metric_rows(&mut sheet, &first, metric, []);
        }
    }
    if !sheet.is_empty() {
        reports.push(Report::new(sheet, "").titled("What it goes along with"));
    }
    reports
}

fn alert_sheet(alerts: &[Alert]) -> Sheet {
    let mut sheet = Sheet::new()
        .text("kind")
        .text("partner")
        .text("subject")
        .text("since")
        .text("message")
        .field("id");
    for alert in alerts {
        let tone = match alert.kind {
            AlertKind::MissedTarget | AlertKind::ApprovalRateDrop => Tone::Bad,
            _ => Tone::Warning,
        };
        sheet.push(vec![
            Value::State(alert.kind.name().to_owned(), tone),
            Value::from(&alert.partner),
            Value::from(&alert.subject),
            Value::time(alert.since),
            Value::from(&alert.message),
            Value::from(&alert.id),
        ]);
    }
    sheet
}

fn standings(partners: &[PartnerStanding]) -> Sheet {
    let largest = partners
        .iter()
        .filter_map(|partner| partner.revenue.as_ref()?.value)
        .fold(0.0, f64::max);
    let mut sheet = Sheet::new()
        .field("partner")
        .text("name")
        .number("revenue")
        .look("")
        .text("reasons");
    for partner in partners {
        let revenue = partner.revenue.as_ref();
        let name = if partner.name.is_empty() {
            &partner.partner
        } else {
            &partner.name
        };
        sheet.push(vec![
            Value::from(&partner.partner),
            Value::from(name),
            revenue.map_or(Value::Unset, |revenue| {
                Value::metric(MetricUnit::Money, revenue)
            }),
            Value::bar(
                revenue
                    .and_then(|revenue| revenue.value)
                    .unwrap_or_default(),
                largest,
            ),
            Value::from(partner.reasons.join(", ")),
        ]);
    }
    sheet
}

fn show_executive(view: &ExecutiveView) -> Vec<Report> {
    let mut quarters = metric_columns(Sheet::new())
        .number("previous")
        .number("change");
    for comparison in &view.quarter_over_quarter {
        let last = comparison.current.values.iter().map(|value| {
            let same = |other: &&MetricValue| other.currency_code == value.currency_code;
            let previous = comparison.previous.values.iter().find(same);
            let change = comparison.change.iter().find(same);
            vec![
                previous.map_or(Value::Unset, |previous| {
                    Value::metric(comparison.current.unit, previous)
                }),
                Value::percent(change.and_then(|change| change.value)),
            ]
        });
        metric_rows(&mut quarters, &[], &comparison.current, last);
    }
    let mut trend = metric_columns(Sheet::new().text("quarter"));
    for entry in &view.trend {
        for metric in &entry.metrics {
            metric_rows(&mut trend, &[Value::from(&entry.label)], metric, []);
        }
    }
    let mut all = metric_columns(Sheet::new().field("part").field("period"));
    let mut add = |part: &str, period: &str, metric| {
        metric_rows(
            &mut all,
            &[Value::from(part), Value::from(period)],
            metric,
            [],
        );
    };
    add("partner_share", "", &view.partner_share);
    for comparison in &view.quarter_over_quarter {
        add("quarter_over_quarter", "current", &comparison.current);
        add("quarter_over_quarter", "previous", &comparison.previous);
    }
    for group in &view.mix {
        for metric in &group.metrics {
            add("mix", &group.value, metric);
        }
    }
    for entry in &view.trend {
        for metric in &entry.metrics {
            add("trend", &entry.label, metric);
        }
    }
    vec![
        Report::new(all, "").for_spreadsheets(),
        Report::new(metrics([&view.partner_share]), "").titled("Partner share"),
        Report::new(quarters, "No quarter to compare.").titled("This quarter and the one before"),
        Report::new(
            standings(&view.top),
            "No partner closed revenue in this period.",
        )
        .titled("Top partners"),
        Report::new(standings(&view.at_risk), "No partner is at risk.").titled("Partners at risk"),
        Report::new(groups_sheet(&view.mix), "No revenue to split.").titled("By partner type"),
        Report::new(trend, "No quarters yet.")
            .titled("The last four quarters")
            .note(basis([&view.partner_share])),
    ]
}

fn show_overview(overview: &PartnerOverview) -> Vec<Report> {
    let mut facts = Sheet::new().text("field").text("value");
    if let Some(profile) = &overview.profile {
        let lines = [
            ("name", Value::from(&profile.name)),
            (
                "type",
                profile
                    .r#type
                    .map_or(Value::Unset, |kind| Value::name(kind.name())),
            ),
            ("segment", Value::from(&profile.segment)),
            ("tier", Value::from(&profile.tier)),
            ("status", Value::from(&profile.status)),
            ("lifecycle stage", Value::from(&profile.lifecycle_stage)),
            ("regions", Value::from(profile.regions.join(", "))),
            ("verticals", Value::from(profile.verticals.join(", "))),
            ("enrolled at", Value::time(profile.enrolled_at)),
        ];
        for (name, value) in lines {
            facts.push(vec![Value::from(name), value]);
        }
    }
    let count = |name: &str, records: &[Record]| counted(records.len() as u64, name);
    vec![
        Report::new(metrics(&overview.metrics), "").for_spreadsheets(),
        Report::new(
            facts,
            "No profile: \"overlap records import FILE --kind partner-profiles\" loads it.",
        )
        .titled(format!("Partner {}", overview.partner)),
        Report::new(alert_sheet(&overview.alerts), "Nothing needs attention.")
            .titled("Alerts")
            .note(format!(
                "records: {}, {}, {}, {} (--output json has them)",
                count("deal", &overview.deals),
                count("incentive", &overview.incentives),
                count("training", &overview.trainings),
                count("certification", &overview.certifications)
            )),
    ]
}
