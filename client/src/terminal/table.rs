//! Aligned text: names in any script, colours only where a person looks.

use std::{ffi::OsStr, io::IsTerminal as _};

use unicode_width::UnicodeWidthStr as _;

/// Whether to colour what a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it comes.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// Good news.
    Good,
    /// Look twice.
    Warning,
    /// Bad news.
    Bad,
}

impl Paint {
    /// Colours on a terminal, unless the person asked for none.
    #[must_use]
    pub fn stdout() -> Self {
        Self(wants_colour(
            std::io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("TERM").as_deref(),
        ))
    }

    #[cfg(test)]
    pub(crate) const fn always() -> Self {
        Self(true)
    }

    #[cfg(test)]
    pub(crate) const fn never() -> Self {
        Self(false)
    }

    /// Text in a tone.
    #[must_use]
    pub fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.0 || text.is_empty() => return text.to_owned(),
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn wants_colour(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Text without control characters, which could move a terminal's cursor or end a line: names come from partners too.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            // Bidirectional overrides reorder what stands beside them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
            character if character.is_control() => ' ',
            character => character,
        })
        .collect()
}

/// Fills a text up to a width on the screen.
#[must_use]
pub fn pad(text: &str, width: usize, right: bool) -> String {
    let fill = " ".repeat(width.saturating_sub(text.width()));
    if right {
        format!("{fill}{text}")
    } else {
        format!("{text}{fill}")
    }
}

/// One entry of a table.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// What it says.
    pub text: String,
    /// How it looks.
    pub tone: Tone,
}

/// A table with a header line.
#[must_use]
pub fn columns(paint: Paint, header: &[String], right: &[bool], rows: &[Vec<Entry>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|entry| entry.text.width())
            .chain([header[column].width()])
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let header = header.iter().map(|text| Entry {
        text: text.clone(),
        tone: Tone::Bold,
    });
    let mut text = String::new();
    for row in std::iter::once(header.collect::<Vec<_>>()).chain(rows.iter().cloned()) {
        let mut line = String::new();
        for (index, entry) in row.iter().enumerate() {
            let right = right[index];
            // The last column needs no filling.
            let width = if index + 1 == row.len() && !right {
                0
            } else {
                widths[index]
            };
            let padded = pad(&entry.text, width, right);
            if index > 0 {
                line.push_str("  ");
            }
            line.push_str(&paint.text(entry.tone, &padded));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, one a line.
#[must_use]
pub fn properties(paint: Paint, indent: usize, lines: &[(String, Entry)]) -> String {
    let width = lines
        .iter()
        .map(|(name, _)| name.width())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, entry) in lines {
        let line = format!(
            "{}{}  {}",
            " ".repeat(indent),
            paint.text(Tone::Dim, &pad(name, width, false)),
            paint.text(entry.tone, &entry.text)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A whole number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, e.g. "1 deal", "1,200 deals".
#[must_use]
pub fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Entry, Paint, Tone, columns, grouped, one_line, pad, wants_colour};

    #[test]
    fn thousands_stand_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_048_576, "1,048,576"),
        ];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn wide_and_combining_characters_align() {
        assert_eq!(pad("東京", 6, false), "東京  ");
        assert_eq!(pad("e\u{301}", 3, true), "  e\u{301}");
        let entry = |text: &str| Entry {
            text: text.to_owned(),
            tone: Tone::Plain,
        };
        let table = columns(
            Paint::never(),
            &["NAME".to_owned(), "N".to_owned()],
            &[false, true],
            &[
                vec![entry("東京商事"), entry("7")],
                vec![entry("Ada"), entry("12")],
            ],
        );
        assert_eq!(table, "NAME       N\n東京商事   7\nAda       12\n");
    }

    #[test]
    fn a_partner_cannot_write_to_the_terminal() {
        assert_eq!(one_line("Evil\x1b[2J\nCo\u{202e}x"), "Evil [2J Co x");
    }

    #[test]
    fn colours_are_for_people() {
        let set = |value| Some(OsStr::new(value));
        assert!(wants_colour(true, None, set("xterm")));
        assert!(
            wants_colour(true, set(""), None),
            "NO_COLOR counts when it is not empty"
        );
        assert!(!wants_colour(true, set("1"), set("xterm")));
        assert!(!wants_colour(true, None, set("dumb")));
        assert!(!wants_colour(false, None, set("xterm")));
        assert_eq!(Paint::never().text(Tone::Bad, "no"), "no");
        assert_eq!(Paint::always().text(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
