//! The lifecycle matrix as a grid.

use std::collections::HashMap;

use unicode_width::UnicodeWidthStr as _;

use super::{
    readable_time,
    table::{Paint, Tone, grouped, one_line, pad},
};
use crate::{Cell, CellState, Matrix};

/// What a cell looks like, and what that means.
fn appearance(cell: Option<&Cell>) -> (String, Tone) {
    let Some(cell) = cell else {
        return ("?".to_owned(), Tone::Bad);
    };
    let count = || cell.count.map_or_else(|| "?".to_owned(), grouped);
    match cell.state {
        CellState::Listed => match cell.count {
            Some(0) => ("0".to_owned(), Tone::Dim),
            _ => (count(), Tone::Good),
        },
        CellState::Counted => (format!("{}#", count()), Tone::Warning),
        CellState::Suppressed => ("<k".to_owned(), Tone::Dim),
        CellState::NotShared => ("–".to_owned(), Tone::Dim),
        CellState::Withheld => ("×".to_owned(), Tone::Dim),
        CellState::Disabled => ("off".to_owned(), Tone::Dim),
        _ => ("?".to_owned(), Tone::Bad),
    }
}

const LEGEND: [(CellState, &str, &str); 6] = [
    (
        CellState::Listed,
        "n",
        "shared customers, listed by \"overlap shared\"",
    ),
    (CellState::Counted, "n#", "number only, not who"),
    (
        CellState::Suppressed,
        "<k",
        "fewer than the reporter's threshold, maybe none, or held back",
    ),
    (CellState::NotShared, "–", "the partner hides this stage"),
    (CellState::Withheld, "×", "you hide this stage"),
    (
        CellState::Disabled,
        "off",
        "both sides allow counts only, and not both enabled count by count",
    ),
];

/// Draws the matrix with a legend of what occurs in it.
pub fn draw(paint: Paint, partner: &str, matrix: &Matrix) -> String {
    let mut text = format!("{}\n", paint.text(Tone::Bold, &title(partner, matrix)));
    if matrix.mine.is_empty() || matrix.theirs.is_empty() {
        text.push_str("No stages to compare yet.\n");
        return text;
    }
    let cells: HashMap<(&str, &str), &Cell> = matrix
        .cells
        .iter()
        .map(|cell| ((cell.mine.as_str(), cell.theirs.as_str()), cell))
        .collect();
    let corner = "mine \\ theirs";
    let rows: Vec<String> = matrix
        .mine
        .iter()
        .map(|stage| one_line(stage.title()))
        .collect();
    let first = rows
        .iter()
        .map(|title| title.width())
        .chain([corner.width()])
        .max()
        .unwrap_or_default();
    let columns: Vec<(String, Vec<(String, Tone)>)> = matrix
        .theirs
        .iter()
        .map(|theirs| {
            let entries = matrix.mine.iter().map(|mine| {
                let cell = cells.get(&(mine.id.as_str(), theirs.id.as_str()));
                appearance(cell.copied())
            });
            (one_line(theirs.title()), entries.collect())
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|(title, entries)| {
            let widest = entries.iter().map(|(text, _)| text.width()).max();
            title.width().max(widest.unwrap_or_default())
        })
        .collect();

    text.push('\n');
    text.push_str(&paint.text(Tone::Dim, &pad(corner, first, false)));
    for ((title, _), width) in columns.iter().zip(&widths) {
        text.push_str(" │ ");
        text.push_str(&paint.text(Tone::Bold, &pad(title, *width, true)));
    }
    text.push('\n');
    text.push_str(&"─".repeat(first));
    for width in &widths {
        text.push_str("─┼─");
        text.push_str(&"─".repeat(*width));
    }
    text.push('\n');
    for (row, title) in rows.iter().enumerate() {
        text.push_str(&paint.text(Tone::Bold, &pad(title, first, false)));
        for ((_, entries), width) in columns.iter().zip(&widths) {
            let (entry, tone) = &entries[row];
            text.push_str(" │ ");
            text.push_str(&paint.text(*tone, &pad(entry, *width, true)));
        }
        text.push('\n');
    }
    text.push('\n');
    match matrix.shared_customers {
        Some(1) => text.push_str("1 shared customer in visible cells\n"),
        Some(number) => {
            text.push_str(&format!(
                "{} shared customers in visible cells\n",
                grouped(number)
            ));
        }
        None => text.push_str("No cell shows a number.\n"),
    }
    for (_, symbol, meaning) in LEGEND
        .iter()
        .filter(|(state, ..)| matrix.cells.iter().any(|cell| cell.state == *state))
    {
        text.push_str(&paint.text(
            Tone::Dim,
            &format!("  {}  {meaning}", pad(symbol, 3, false)),
        ));
        text.push('\n');
    }
    text
}

/// `partner` is what the person calls the partner; the record may have its id.
fn title(partner: &str, matrix: &Matrix) -> String {
    let mut title = format!("Shared customers with {partner}");
    if !matrix.run.is_empty() {
        title.push_str(&format!(", run {}", matrix.run));
    }
    if let Some(time) = matrix.as_of {
        title.push_str(&format!(", {}", readable_time(time)));
    }
    one_line(&title)
}
