//! What the demonstration prints.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use overlap_client::{
    Attribution, CellState, SharingPolicy, Stage, Tier,
    terminal::{
        figures, grid,
        progress::bytes,
        table::{Entry, Paint, Tone, columns, grouped, one_line},
    },
    view::{MatrixView, Named, SharedView},
};
use serde_json::json;

use super::{
    Numbers, View,
    together::{Credit, HandedOver},
};

/// Shared customers shown of each side.
const SHOWN: usize = 5;

/// Both sides' results as one document; a contract. What a side does not have is null.
pub(super) fn json(
    a: &View,
    b: &View,
    credit: Option<&Credit>,
    file: &HandedOver,
) -> anyhow::Result<()> {
    let side = |view: &View, attribution: Option<&Attribution>| {
        let numbers = view.numbers.as_ref();
        json!({
            "organization": view.organization,
            "matrix": MatrixView::from(&view.matrix),
            "shared": view.shared.iter().map(SharedView::from).collect::<Vec<_>>(),
            "run": view.run,
            "attribution": attribution,
            "scorecard": numbers.map(|numbers| Named::new("metrics", &numbers.scorecard)),
            "leaderboard": numbers.map(|numbers| &numbers.leaderboard),
        })
    };
    let document = json!({
        "a": side(a, credit.map(|credit| &credit.sent)),
        "b": side(b, credit.map(|credit| &credit.received)),
        "asset": file.asset,
        "asset_saved_to": file.saved_to,
    });
    let mut out = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, &document)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Both sides' results for people.
pub(super) fn text(
    a: &View,
    b: &View,
    credit: Option<&Credit>,
    file: &HandedOver,
) -> anyhow::Result<()> {
    let paint = Paint::stdout();
    let mut text = String::new();
    for view in [a, b] {
        policy(&mut text, paint, view);
    }
    for (view, other) in [(a, b), (b, a)] {
        heading(
            &mut text,
            paint,
            &format!("What {} sees", view.organization),
        );
        text.push_str(&grid::draw(paint, view.partner, &view.matrix));
        text.push('\n');
        shared(&mut text, paint, view);
        not_learned(&mut text, paint, view, other);
        if let Some(numbers) = &view.numbers {
            scorecard(&mut text, paint, numbers);
            leaderboard(&mut text, paint, numbers);
        }
    }
    heading(&mut text, paint, "What they did with it");
    together(&mut text, (a, b), credit, file);
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// How to go on with nodes that stay up.
pub(super) fn commands(a: &View, b: &View, credit: Option<&Credit>) {
    let mut text = String::from("\nBoth nodes are up; Ctrl-C stops them. In another terminal:\n\n");
    for view in [a, b] {
        let overlap = format!("overlap --dir {}", view.directory.display());
        let id = view.shared.first().map_or("ID", |customer| &customer.id);
        let _ = write!(
            text,
            "  # as {organization}\n  {overlap} matrix \"{partner}\"\n  {overlap} shared \"{partner}\" --search bank\n  {overlap} explain \"{partner}\" {id}\n  {overlap} match \"{partner}\"\n  {overlap} timeline segments \"{partner}\"\n  {overlap} attribution list \"{partner}\"\n  {overlap} assets list --{direction} \"{partner}\"\n",
            organization = view.organization,
            partner = view.partner,
            direction = if std::ptr::eq(view, a) {
                "with"
            } else {
                "from"
            },
        );
        if credit.is_some() {
            let _ = writeln!(text, "  {overlap} attribution metrics \"{}\"", view.partner);
        }
        if view.numbers.is_some() {
            let _ = write!(
                text,
                "  {overlap} program scorecard --range last-quarter\n  {overlap} program breakdown partner sourced_closed_revenue --range last-quarter\n  {overlap} program alerts\n  {overlap} engagement leaderboard\n  {overlap} engagement activity --range this-year\n  {overlap} records list deals --limit 10\n  {overlap} changes watch --from-oldest\n"
            );
        }
        text.push('\n');
    }
    // Nobody may be listening, which is no reason to stop.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn heading(text: &mut String, paint: Paint, title: &str) {
    let _ = writeln!(
        text,
        "{}\n",
        paint.text(Tone::Bold, &format!("── {title} ──"))
    );
}

fn policy(text: &mut String, paint: Paint, view: &View) {
    heading(
        text,
        paint,
        &format!("What {} lets {} see", view.organization, view.partner),
    );
    let none = SharingPolicy::default();
    let policy = view.sharing.mine.as_ref().unwrap_or(&none);
    let rows: Vec<Vec<Entry>> = view
        .matrix
        .mine
        .iter()
        .map(|stage| {
            let (meaning, tone) = match tier(policy, stage) {
                Tier::List => ("list: who they are", Tone::Good),
                Tier::Count => ("count: how many, not who", Tone::Warning),
                _ => ("hidden: nothing", Tone::Dim),
            };
            vec![entry(stage.title(), Tone::Plain), entry(meaning, tone)]
        })
        .collect();
    text.push_str(&columns(
        paint,
        &["stage".to_owned(), "tier".to_owned()],
        &[false, false],
        &rows,
    ));
    let keys: Vec<&str> = policy.match_on.iter().map(|key| key.name()).collect();
    let fields = if policy.shared_fields.is_empty() {
        "none".to_owned()
    } else {
        policy.shared_fields.join(", ")
    };
    let _ = writeln!(
        text,
        "\nfields with listed customers: {}; counts under {} are suppressed; matched on {}\n",
        one_line(&fields),
        policy.min_count,
        keys.join(", ")
    );
}

fn tier(policy: &SharingPolicy, stage: &Stage) -> Tier {
    policy
        .stages
        .get(&stage.id)
        .copied()
        .unwrap_or(Tier::Hidden)
}

fn entry(text: &str, tone: Tone) -> Entry {
    Entry {
        text: one_line(text),
        tone,
    }
}

fn shared(text: &mut String, paint: Paint, view: &View) {
    if view.shared.is_empty() {
        text.push_str("No shared customer is listed.\n\n");
        return;
    }
    let header = [
        "id",
        "name",
        "mine",
        "theirs",
        "matched on",
        "what the partner adds",
    ]
    .map(str::to_owned);
    let rows: Vec<Vec<Entry>> = view
        .shared
        .iter()
        .take(SHOWN)
        .map(|customer| {
            let keys: Vec<&str> = customer.matched_on.iter().map(|key| key.name()).collect();
            let fields: Vec<String> = customer
                .partner_fields
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            [
                customer.id.as_str(),
                &customer.name,
                &customer.mine,
                &customer.theirs,
                &keys.join(", "),
                &fields.join(", "),
            ]
            .map(|text| entry(text, Tone::Plain))
            .into()
        })
        .collect();
    text.push_str(&columns(paint, &header, &[false; 6], &rows));
    if view.shared.len() > SHOWN {
        let _ = writeln!(
            text,
            "... and {} more",
            grouped((view.shared.len() - SHOWN) as u64)
        );
    }
    text.push('\n');
}

fn scorecard(text: &mut String, paint: Paint, numbers: &Numbers) {
    let title = format!(
        "Scorecard of the year, from {} records",
        grouped(numbers.records)
    );
    let _ = writeln!(text, "{}", paint.text(Tone::Bold, &title));
    let mut rows = Vec::new();
    for metric in &numbers.scorecard {
        if metric.values.is_empty() {
            let unset = entry(figures::UNSET, Tone::Dim);
            rows.push(vec![
                entry(&metric.label, Tone::Plain),
                unset,
                Entry::default(),
            ]);
        }
        for value in &metric.values {
            rows.push(vec![
                entry(&metric.label, Tone::Plain),
                entry(&figures::metric_value(metric.unit, value), Tone::Plain),
                entry(&figures::made_of(value), Tone::Dim),
            ]);
        }
    }
    let header = ["metric", "value", "made of"].map(str::to_owned);
    text.push_str(&columns(paint, &header, &[false, true, true], &rows));
    text.push('\n');
}

fn leaderboard(text: &mut String, paint: Paint, numbers: &Numbers) {
    let board = &numbers.leaderboard;
    let title = format!(
        "Leaderboard, {} to {}",
        board.scope.first_day, board.scope.last_day
    );
    let _ = writeln!(text, "{}", paint.text(Tone::Bold, &title));
    let header = [
        "rank",
        "partner",
        "users",
        "sessions",
        "page views",
        "average",
        "score",
        "",
    ]
    .map(str::to_owned);
    let right = [true, false, true, true, true, true, true, false];
    let rows: Vec<Vec<Entry>> = board
        .rows
        .iter()
        .take(SHOWN)
        .map(|row| {
            let average = row.figures.average_duration;
            [
                grouped(row.rank.into()),
                row.name.clone(),
                grouped(row.figures.unique_users),
                grouped(row.figures.sessions),
                grouped(row.figures.page_views),
                average.map_or_else(|| figures::UNSET.to_owned(), figures::time_span),
                figures::decimal(row.score, 1),
                figures::bar(row.score, 100.0, 20),
            ]
            .map(|text| entry(&text, Tone::Plain))
            .into()
        })
        .collect();
    text.push_str(&columns(paint, &header, &right, &rows));
    if board.total_size > rows.len() as u64 {
        let more = board.total_size - rows.len() as u64;
        let _ = writeln!(text, "... and {} more", grouped(more));
    }
    text.push('\n');
}

fn together(text: &mut String, (a, b): (&View, &View), credit: Option<&Credit>, file: &HandedOver) {
    let (of_a, of_b) = (a.organization, b.organization);
    if let Some(credit) = credit {
        let _ = writeln!(
            text,
            "{of_a} asked for credit for {}: \"{}\"\n{of_b} knows the customer as {}, received the request and answered {}: \"{}\"",
            one_line(&credit.customer_name),
            one_line(&credit.sent.details),
            one_line(&credit.received.customer),
            credit.sent.state.name(),
            one_line(&credit.sent.comment),
        );
    }
    let asset = &file.asset;
    let _ = writeln!(
        text,
        "{of_a} shared {}, {of_b} fetched it: {}, sha256 {} checked",
        one_line(&asset.file_name),
        bytes(asset.size_bytes),
        asset.sha256
    );
}

/// The other side of the bargain: what stayed hidden from `view`.
fn not_learned(text: &mut String, paint: Paint, view: &View, other: &View) {
    let partner = view.partner;
    let _ = writeln!(
        text,
        "{}",
        paint.text(
            Tone::Bold,
            &format!("What {} did not learn", view.organization)
        )
    );
    let _ = writeln!(
        text,
        "  {partner} keeps {} records. {} can name the {} customers of its list, who are its own customers too, and nobody else.",
        grouped(other.customers),
        view.organization,
        grouped(view.shared.len() as u64)
    );
    let counted: u64 = view
        .matrix
        .cells
        .iter()
        .filter(|cell| cell.state == CellState::Counted)
        .filter_map(|cell| cell.count)
        .sum();
    let suppressed = view
        .matrix
        .cells
        .iter()
        .filter(|cell| cell.state == CellState::Suppressed)
        .count();
    if counted > 0 {
        let _ = writeln!(
            text,
            "  {} shared customers are known as a number only, not who they are.",
            grouped(counted)
        );
    }
    if suppressed > 0 {
        let cells = if suppressed == 1 {
            "1 cell is".to_owned()
        } else {
            format!("{suppressed} cells are")
        };
        let _ = writeln!(
            text,
            "  {cells} suppressed: not even whether anyone is in there."
        );
    }
    let hidden: Vec<&str> = view
        .matrix
        .theirs
        .iter()
        .filter(|stage| {
            let mut cells = view
                .matrix
                .cells
                .iter()
                .filter(|cell| cell.theirs == stage.id)
                .peekable();
            cells.peek().is_some() && cells.all(|cell| cell.state == CellState::NotShared)
        })
        .map(Stage::title)
        .collect();
    if !hidden.is_empty() {
        let _ = writeln!(
            text,
            "  {} at {partner}: never entered the protocol, so not even their number leaks.",
            one_line(&hidden.join(", "))
        );
    }
    if let Some(summary) = &view.run.summary {
        let _ = writeln!(
            text,
            "  No identifier crossed the wire: {} received were blinded elements, proofs, tags and sealed labels.",
            bytes(summary.received_bytes)
        );
    }
    text.push('\n');
}
