//! `overlap engagement`

use overlap_client::{
    AtRiskPartners, EngagementBucketSize, EngagementDays, EngagementFigures, EngagementFilter,
    EngagementGroups, EngagementHistory, EngagementScope, EngagementSummary, EngagementTimeline,
    EngagementTrends, Leaderboard, LeaderboardColumn, LeaderboardOrder, NoDataReason,
    SortDirection, TopResources, TopRooms, TrendDirection,
    terminal::figures::{self, sparkline},
};

use super::{Context, export_format, save_stream};
use crate::{
    args::{Engagement, EngagementOptions, WhoOptions},
    output::{Report, Sheet, Value, as_of},
    table::{Tone, counted, grouped},
};

pub(super) async fn run(context: &mut Context, command: Engagement) -> anyhow::Result<()> {
    let client = context.client().await?;
    let printer = &mut context.printer;
    match command {
        Engagement::Summary(options) => {
            let summary = client.engagement_summary(&filter(options)).await?;
            printer.report(&summary, show_summary(&summary))
        }
        Engagement::Activity(options) => {
            let timeline = client.engagement_timeline(&filter(options)).await?;
            printer.report(&timeline, show_timeline(&timeline))
        }
        Engagement::History { period, count, who } => {
            let filter = of_whom(who);
            let history = client.engagement_history(&filter, period, count).await?;
            printer.report(&history, show_history(&history))
        }
        Engagement::Leaderboard {
            filter: options,
            sort,
            reverse,
            limit,
        } => {
            let filter = filter(options);
            let order = LeaderboardOrder {
                column: sort,
                direction: reverse.then(|| other_way(sort)),
            };
            let board = pages!(client.list_leaderboard(&filter, order).rows, limit);
            printer.report(&board, show_leaderboard(&board))
        }
        Engagement::Resources {
            filter: options,
            limit,
        } => {
            let filter = filter(options);
            let top = pages!(client.list_top_resources(&filter).resources, limit);
            printer.report(&top, show_resources(&top))
        }
        Engagement::Rooms {
            filter: options,
            limit,
        } => {
            let filter = filter(options);
            let top = pages!(client.list_top_rooms(&filter).rooms, limit);
            printer.report(&top, show_rooms(&top))
        }
        Engagement::AtRisk {
            filter: options,
            risk,
            limit,
        } => {
            let filter = filter(options);
            let partners = pages!(client.list_at_risk_partners(&filter, &risk).partners, limit);
            printer.report(&partners, show_at_risk(&partners))
        }
        Engagement::Compare {
            by,
            filter: options,
        } => {
            let groups = client.compare_engagement(&filter(options), by).await?;
            printer.report(&groups, show_groups(&groups))
        }
        Engagement::Trends { months, who } => {
            let trends = client.engagement_trends(&of_whom(who), months).await?;
            printer.report(&trends, show_trends(&trends))
        }
        Engagement::Export {
            view,
            format,
            to,
            filter: options,
        } => {
            let filter = filter(options);
            let format = export_format(printer, format);
            let chunks = client.export_engagement(&filter, view, format);
            save_stream(printer, to.as_deref(), chunks).await
        }
    }
}

fn filter(options: EngagementOptions) -> EngagementFilter {
    let days = match (options.range, options.first_day, options.last_day) {
        (Some(range), ..) => EngagementDays::Quick(range),
        (None, Some(first_day), Some(last_day)) => EngagementDays::Days {
            first_day,
            last_day,
        },
        _ => EngagementDays::Default,
    };
    EngagementFilter {
        days,
        ..of_whom(options.who)
    }
}

fn of_whom(who: WhoOptions) -> EngagementFilter {
    EngagementFilter {
        days: EngagementDays::Default,
        time_zone: who.time_zone,
        partners: who.partner,
        types: who.kind,
    }
}

/// Names and types come ascending, figures descending.
fn other_way(column: Option<LeaderboardColumn>) -> SortDirection {
    match column {
        Some(LeaderboardColumn::Name | LeaderboardColumn::Type) => SortDirection::Descending,
        _ => SortDirection::Ascending,
    }
}

/// Rows with what they were counted over.
fn scoped(sheet: Sheet, scope: &EngagementScope) -> Report {
    let none = match scope.no_data_reason {
        Some(reason) => format!("{} [{}]", nothing(reason), reason.name()),
        None => "Nothing to show.".to_owned(),
    };
    let mut report = Report::new(sheet, none).note(format!(
        "{} to {} {} · {}",
        scope.first_day,
        scope.last_day,
        scope.time_zone,
        as_of(scope.as_of, scope.data_through)
    ));
    // Rows of nothing but 0 need the reason too.
    if let Some(reason) = scope.no_data_reason
        && !report.sheet.is_empty()
    {
        report = report.note(format!("{} [{}]", nothing(reason), reason.name()));
    }
    report
}

const fn nothing(reason: NoDataReason) -> &'static str {
    match reason {
        NoDataReason::NoAccess => {
            "No partner of the selection has a portal user: \"overlap records import FILE --kind portal-users\" loads them."
        }
        NoDataReason::NoLogins => "There are portal users, but none was active in this time.",
        NoDataReason::FilteredOut => "There is activity, but not within the filter.",
        NoDataReason::NotIngested => {
            "Nothing has been ingested for this time: \"overlap records import FILE --kind portal-events\" loads it."
        }
        _ => "Nothing to show.",
    }
}

fn figure_columns(sheet: Sheet) -> Sheet {
    sheet
        .number("unique_users")
        .number("sessions")
        .number("page_views")
        .number("actions")
        .number("average_duration")
        .field("total_duration")
}

fn figure_values(figures: &EngagementFigures) -> Vec<Value> {
    vec![
        Value::Number(figures.unique_users),
        Value::Number(figures.sessions),
        Value::Number(figures.page_views),
        Value::Number(figures.actions),
        Value::span(figures.average_duration),
        Value::span(figures.total_duration),
    ]
}

fn show_summary(summary: &EngagementSummary) -> Report {
    let mut sheet = figure_columns(Sheet::new());
    sheet.push(figure_values(&summary.figures));
    scoped(sheet, &summary.scope).titled("Engagement")
}

fn show_timeline(timeline: &EngagementTimeline) -> Report {
    let largest = timeline.buckets.iter().map(|bucket| bucket.sessions).max();
    let mut sheet = Sheet::new()
        .text("first_day")
        .text("last_day")
        .number("sessions")
        .look("")
        .number("page_views")
        .number("unique_users");
    for bucket in &timeline.buckets {
        sheet.push(vec![
            Value::from(&bucket.first_day),
            Value::from(&bucket.last_day),
            Value::Number(bucket.sessions),
            Value::count_bar(bucket.sessions, largest),
            Value::Number(bucket.page_views),
            Value::Number(bucket.unique_users),
        ]);
    }
    let by = match timeline.bucket_size {
        EngagementBucketSize::Day => "day",
        EngagementBucketSize::Week => "week",
        EngagementBucketSize::Month => "month",
        _ => "bucket",
    };
    scoped(sheet, &timeline.scope)
        .titled(format!("Activity by {by}"))
        .note("Users are distinct within a row: rows do not add up to the whole.")
}

fn show_history(history: &EngagementHistory) -> Report {
    let largest = history
        .entries
        .iter()
        .map(|entry| entry.figures.sessions)
        .max();
    let mut sheet = figure_columns(
        Sheet::new()
            .text("label")
            .field("first_day")
            .field("last_day"),
    )
    .look("");
    for entry in &history.entries {
        let mut row = vec![
            Value::from(&entry.label),
            Value::from(&entry.first_day),
            Value::from(&entry.last_day),
        ];
        row.extend(figure_values(&entry.figures));
        row.push(Value::count_bar(entry.figures.sessions, largest));
        sheet.push(row);
    }
    scoped(sheet, &history.scope).titled("Engagement over time")
}

fn show_leaderboard(board: &Leaderboard) -> Report {
    let mut sheet = figure_columns(
        Sheet::new()
            .number("rank")
            .field("partner")
            .text("name")
            .field("logo_uri")
            .text("type"),
    )
    .number("score")
    .look("");
    for row in &board.rows {
        let mut values = vec![
            Value::Number(row.rank.into()),
            Value::from(&row.partner),
            Value::from(if row.name.is_empty() {
                &row.partner
            } else {
                &row.name
            }),
            Value::from(&row.logo_uri),
            row.r#type
                .map_or(Value::Unset, |kind| Value::name(kind.name())),
        ];
        values.extend(figure_values(&row.figures));
        values.push(Value::decimal(row.score, 1));
        values.push(Value::bar(row.score, 100.0));
        sheet.push(values);
    }
    let totals = &board.totals;
    let mut report = scoped(sheet, &board.scope).titled("Leaderboard");
    if board.total_size > 0 {
        let shown = board.rows.len() as u64;
        report.notes.insert(
            0,
            format!(
                "all of {}: {}, {}, {}, {}, {} on average{}",
                counted(board.total_size, "partner"),
                counted(totals.unique_users, "user"),
                counted(totals.sessions, "session"),
                counted(totals.page_views, "page view"),
                counted(totals.actions, "action"),
                totals
                    .average_duration
                    .map_or_else(|| figures::UNSET.to_owned(), figures::time_span),
                if shown < board.total_size {
                    format!(" (the first {} are shown)", grouped(shown))
                } else {
                    String::new()
                }
            ),
        );
    }
    report
}

/// The columns that resources and rooms have, which [`visited`] fills.
fn visited_columns() -> Sheet {
    Sheet::new()
        .text("id")
        .text("title")
        .number("page_views")
        .look("")
        .number("unique_users")
}

fn visited(
    id: &str,
    title: &str,
    page_views: u64,
    unique_users: u64,
    largest: Option<u64>,
) -> Vec<Value> {
    vec![
        Value::from(id),
        Value::from(title),
        Value::Number(page_views),
        Value::count_bar(page_views, largest),
        Value::Number(unique_users),
    ]
}

fn show_resources(top: &TopResources) -> Report {
    let largest = top.resources.iter().map(|row| row.page_views).max();
    let mut sheet = visited_columns().text("uri");
    for row in &top.resources {
        let mut values = visited(
            &row.id,
            &row.title,
            row.page_views,
            row.unique_users,
            largest,
        );
        values.push(Value::from(&row.uri));
        sheet.push(values);
    }
    scoped(sheet, &top.scope).titled("Resources by page views")
}

fn show_rooms(top: &TopRooms) -> Report {
    let largest = top.rooms.iter().map(|row| row.page_views).max();
    let mut sheet = visited_columns();
    for row in &top.rooms {
        sheet.push(visited(
            &row.id,
            &row.title,
            row.page_views,
            row.unique_users,
            largest,
        ));
    }
    scoped(sheet, &top.scope).titled("Rooms by page views")
}

fn show_at_risk(partners: &AtRiskPartners) -> Report {
    let mut sheet = Sheet::new()
        .field("partner")
        .text("name")
        .text("type")
        .text("risks")
        .number("sessions")
        .number("previous_sessions")
        .number("average_duration")
        .number("previous_average_duration")
        .number("actions")
        .text("last_session_at");
    for row in &partners.partners {
        let risks: Vec<&str> = row.risks.iter().map(|risk| risk.name()).collect();
        let shown = risks.join(", ").to_lowercase().replace('_', " ");
        sheet.push(vec![
            Value::from(&row.partner),
            Value::from(if row.name.is_empty() {
                &row.partner
            } else {
                &row.name
            }),
            row.r#type
                .map_or(Value::Unset, |kind| Value::name(kind.name())),
            Value::Shown {
                text: shown,
                field: risks.join(";"),
            },
            Value::Number(row.figures.sessions),
            Value::Number(row.previous_figures.sessions),
            Value::span(row.figures.average_duration),
            Value::span(row.previous_figures.average_duration),
            Value::Number(row.figures.actions),
            Value::time(row.last_session_at),
        ]);
    }
    let mut report = scoped(sheet, &partners.scope).titled("Partners at risk");
    if partners.scope.no_data_reason.is_none() {
        report.none = "No partner is at risk.".to_owned();
    }
    report
}

fn show_groups(groups: &EngagementGroups) -> Report {
    let mut sheet = figure_columns(Sheet::new().text("group").number("partners"));
    for group in &groups.groups {
        let mut row = vec![Value::name(&group.id), Value::Number(group.partners)];
        row.extend(figure_values(&group.figures));
        sheet.push(row);
    }
    scoped(sheet, &groups.scope).titled("Groups of partners")
}

fn show_trends(trends: &EngagementTrends) -> Report {
    let mut sheet = Sheet::new()
        .text("metric")
        .text("direction")
        .text("seasonal")
        .look("month by month")
        .look_number("latest")
        .field("values");
    for trend in &trends.trends {
        let tone = match trend.direction {
            TrendDirection::Increasing => Tone::Good,
            TrendDirection::Declining => Tone::Bad,
            _ => Tone::Plain,
        };
        let columns: Vec<Option<f64>> = trend.values.iter().copied().map(Some).collect();
        let values: Vec<String> = trend.values.iter().map(f64::to_string).collect();
        sheet.push(vec![
            Value::Shown {
                text: trend.metric.replace('_', " "),
                field: trend.metric.clone(),
            },
            match trend.direction {
                TrendDirection::Unknown => Value::Unset,
                direction => Value::State(direction.name().to_lowercase(), tone),
            },
            trend.seasonal.map_or(Value::Unset, Value::Flag),
            Value::look(sparkline(&columns)),
            trend
                .values
                .last()
                .map_or(Value::Unset, |value| Value::decimal(*value, 0)),
            Value::from(values.join(";")),
        ]);
    }
    scoped(sheet, &trends.scope).titled("Trends")
}
