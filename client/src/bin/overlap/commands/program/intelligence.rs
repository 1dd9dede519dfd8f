//! What the program's records say about partners beyond its numbers.

use overlap_client::{
    AnalysisRefreshRequest, AreaToAddress, CardTone, Client, LifecycleCard, MetricCard,
    PartnerLifecycle, TierComparison, TilePreference, terminal::figures::UNSET, view::Named,
};

use super::filter;
use crate::{
    args::{Preferences, Program},
    commands::{failed, first},
    output::{Printer, Report, Sheet, Value, basis, metric_columns, metric_rows},
    table::{Tone, counted},
};

pub(super) async fn run(
    client: &Client,
    printer: &mut Printer,
    command: Program,
) -> anyhow::Result<()> {
    match command {
        Program::Cards { filter: options } => {
            let cards = client.metric_cards(&filter(options)?).await?;
            show_cards(printer, &cards)
        }
        Program::Strengths { filter: options } => {
            let strengths = client.partner_strengths(&filter(options)?).await?;
            let largest = strengths.strengths.iter().map(|row| row.partners).max();
            let mut sheet = Sheet::new()
                .text("label")
                .number("partners")
                .look("")
                .number("average_score")
                .text("description");
            for row in &strengths.strengths {
                sheet.push(vec![
                    Value::from(&row.label),
                    Value::Number(row.partners),
                    Value::count_bar(row.partners, largest),
                    Value::decimal(row.average_score, 1),
                    Value::from(&row.description),
                ]);
            }
            let report =
                Report::new(sheet, &strengths.empty_reason).titled("What partners are good at");
            printer.report(&strengths, report)
        }
        Program::Areas {
            score,
            below,
            filter: options,
            limit,
        } => {
            let filter = filter(options)?;
            let areas = first(client.areas_to_address(&filter, &score, below), limit).await?;
            show_areas(printer, &areas)
        }
        Program::Lifecycle { filter: options } => {
            let lifecycle = client.partner_lifecycle(&filter(options)?).await?;
            printer.reports(&lifecycle, show_lifecycle(&lifecycle))
        }
        Program::Coverage {
            by,
            filter: options,
        } => {
            let coverage = client.partner_coverage(&filter(options)?, by).await?;
            let largest = coverage.entries.iter().map(|entry| entry.partners).max();
            let mut sheet = Sheet::new()
                .text("value")
                .text("type")
                .number("partners")
                .number("percent")
                .look("");
            for entry in &coverage.entries {
                sheet.push(vec![
                    Value::from(&entry.value),
                    entry
                        .r#type
                        .map_or(Value::Unset, |kind| Value::name(kind.name())),
                    Value::Number(entry.partners),
                    Value::points(entry.percent),
                    Value::count_bar(entry.partners, largest),
                ]);
            }
            let mut report = Report::new(sheet, "No profile names any.")
                .titled(format!("Coverage by {}", by.name().to_lowercase()))
                .note(format!(
                    "of {}",
                    counted(coverage.profiles, "partner profile")
                ));
            if coverage.multi_valued {
                report = report
                    .note("A partner may be in several rows: they do not add up to the whole.");
            }
            printer.report(&coverage, report)
        }
        Program::Gaps {
            by,
            reference,
            least,
            filter: options,
        } => {
            let gaps = client
                .coverage_gaps(&filter(options)?, by, &reference, least)
                .await?;
            let mut sheet = Sheet::new().text("value").number("partners");
            for gap in &gaps.gaps {
                sheet.push(vec![Value::from(&gap.value), Value::Number(gap.partners)]);
            }
            let mut report = Report::new(sheet, "No gap: enough partners cover each.")
                .titled(format!("Gaps by {}", by.name().to_lowercase()));
            if !gaps.unlisted.is_empty() {
                report = report.note(format!("partners also cover: {}", gaps.unlisted.join(", ")));
            }
            printer.report(&gaps, report)
        }
        Program::Tiers {
            early,
            late,
            filter: options,
        } => {
            let tiers = client
                .compare_partner_tiers(&filter(options)?, &early, &late)
                .await?;
            show_tiers(printer, &tiers)
        }
        Program::Refresh {
            partner,
            request_id,
        } => {
            let request = client
                .request_analysis_refresh(partner.as_deref(), request_id.as_deref())
                .await?;
            let sheet = refreshes(std::slice::from_ref(&request));
            printer.report(&request, Report::new(sheet, ""))
        }
        Program::Refreshes { after, limit } => {
            let requests = client.analysis_refresh_requests(after, limit).await?;
            let report = Report::new(refreshes(&requests), "Nothing was asked.");
            printer.report(&requests, report)
        }
        Program::Preferences(Preferences::Show { view }) => {
            let tiles = client.view_preferences(&view).await?;
            show_tiles(printer, &view, &tiles)
        }
        Program::Preferences(Preferences::Set {
            view,
            show,
            hide,
            everyone,
        }) => {
            let tiles: Vec<(String, bool)> = show
                .into_iter()
                .map(|tile| (tile, true))
                .chain(hide.into_iter().map(|tile| (tile, false)))
                .collect();
            if tiles.is_empty() {
                return Err(failed(
                    "INVALID_ARGUMENT",
                    "nothing to change: name a tile with --show TILE or --hide TILE",
                ));
            }
            let tiles = client
                .update_view_preferences(&view, &tiles, everyone)
                .await?;
            show_tiles(printer, &view, &tiles)
        }
        _ => Ok(()),
    }
}

fn show_cards(printer: &mut Printer, cards: &[MetricCard]) -> anyhow::Result<()> {
    let mut sheet = Sheet::new()
        .text("label")
        .number("value")
        .field("tone")
        .text("description")
        .field("metric");
    for card in cards {
        let tone = match card.tone {
            CardTone::Green => Tone::Good,
            CardTone::Orange => Tone::Warning,
            CardTone::Red => Tone::Bad,
            _ => Tone::Plain,
        };
        let value = match card.value.as_str() {
            "n/a" => Value::State(UNSET.to_owned(), Tone::Dim),
            value => Value::State(value.to_owned(), tone),
        };
        sheet.push(vec![
            Value::from(&card.label),
            value,
            Value::from(card.tone.name()),
            Value::from(&card.description),
            Value::from(&card.metric.id),
        ]);
    }
    let report = Report::new(
        sheet,
        "You chose to see no cards: \"overlap program preferences set program --show TILE\" shows one.",
    )
    .note(basis(cards.iter().map(|card| &card.metric)));
    printer.report(&Named::new("cards", cards), report)
}

fn show_areas(printer: &mut Printer, areas: &[AreaToAddress]) -> anyhow::Result<()> {
    let mut sheet = Sheet::new()
        .field("partner")
        .text("name")
        .text("score")
        .number("value")
        .look("of 100");
    for area in areas {
        sheet.push(vec![
            Value::from(&area.partner),
            Value::from(if area.name.is_empty() {
                &area.partner
            } else {
                &area.name
            }),
            Value::name(area.score.name()),
            Value::Number(area.value.into()),
            Value::bar(area.value.into(), 100.0),
        ]);
    }
    let report = Report::new(sheet, "No score is below that; an unknown score is none.")
        .titled("Areas to address");
    printer.report(&areas, report)
}

fn show_lifecycle(lifecycle: &PartnerLifecycle) -> Vec<Report> {
    let part = |title: &str, name: &'static str, cards: &[LifecycleCard]| {
        let mut sheet = Sheet::new()
            .text(name)
            .number("partners")
            .number("percent")
            .look("");
        for card in cards {
            sheet.push(vec![
                Value::from(&card.label),
                Value::Number(card.partners),
                Value::points(card.percent),
                Value::bar(card.percent.unwrap_or_default(), 100.0),
            ]);
        }
        Report::new(sheet, "No partner profiles yet.").titled(title)
    };
    vec![
        part("Lifecycle stages", "stage", &lifecycle.stages),
        part("Statuses", "status", &lifecycle.statuses).note(format!(
            "of {}",
            counted(lifecycle.profiles, "partner profile")
        )),
    ]
}

fn show_tiers(printer: &mut Printer, tiers: &[TierComparison]) -> anyhow::Result<()> {
    let mut sheet = metric_columns(
        Sheet::new()
            .text("tier")
            .number("partners")
            .number("early_partners")
            .number("late_partners")
            .field("early_stage_concentration")
            .field("slow_late_stage_value"),
    );
    let mut flags = Vec::new();
    for tier in tiers {
        let first = [
            Value::from(&tier.tier),
            Value::Number(tier.partners),
            Value::Number(tier.early_partners),
            Value::Number(tier.late_partners),
            Value::Flag(tier.early_stage_concentration),
            Value::Flag(tier.slow_late_stage_value),
        ];
        for metric in &tier.metrics {
            metric_rows(&mut sheet, &first, metric, []);
        }
        if tier.early_stage_concentration {
            flags.push(format!(
                "{}: more than half of its partners are in an early stage",
                tier.tier
            ));
        }
        if tier.slow_late_stage_value {
            flags.push(format!(
                "{}: more than half of its late-stage partners closed nothing",
                tier.tier
            ));
        }
    }
    let mut report = Report::new(sheet, "No tiers yet.").titled("Tiers");
    report.notes = flags;
    let report = report.note(basis(tiers.iter().flat_map(|tier| &tier.metrics)));
    printer.report(&Named::new("tiers", tiers), report)
}

fn refreshes(requests: &[AnalysisRefreshRequest]) -> Sheet {
    let mut sheet = Sheet::new()
        .number("sequence")
        .text("partner")
        .text("requested_by")
        .text("requested_at");
    for request in requests {
        sheet.push(vec![
            Value::from(request.sequence.to_string()),
            Value::Shown {
                text: if request.partner.is_empty() {
                    "all".to_owned()
                } else {
                    request.partner.clone()
                },
                field: request.partner.clone(),
            },
            Value::from(&request.requested_by),
            Value::time(request.requested_at),
        ]);
    }
    sheet
}

fn show_tiles(printer: &mut Printer, view: &str, tiles: &[TilePreference]) -> anyhow::Result<()> {
    let mut sheet = Sheet::new().text("tile").text("visible");
    for tile in tiles {
        sheet.push(vec![Value::from(&tile.tile), Value::Flag(tile.visible)]);
    }
    let report = Report::new(sheet, "The view has no tiles.").titled(format!("Tiles of {view}"));
    printer.report(&Named::new("tiles", tiles), report)
}
