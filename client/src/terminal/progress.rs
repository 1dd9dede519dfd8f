//! One line on a terminal that keeps up with what goes on; silent anywhere else.

use std::io::{self, IsTerminal as _, Write as _};

use super::{
    figures::bar,
    table::{grouped, one_line},
};
use crate::{Progress, Run, RunState};

/// The line.
pub struct Meter {
    shown: bool,
    terminal: bool,
}

impl Meter {
    /// Nothing shown yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shown: false,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Replaces the line.
    pub fn show(&mut self, text: &str) {
        if self.terminal {
            self.shown = true;
            // A line that wraps could not be taken back.
            let text: String = one_line(text).chars().take(79).collect();
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K{text}");
            let _ = stderr.flush();
        }
    }

    /// Takes the line back.
    pub fn clear(&mut self) {
        if self.shown {
            self.shown = false;
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K");
            let _ = stderr.flush();
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What a run is doing, in a line.
#[must_use]
pub fn run_line(run: &Run) -> String {
    let mut line = run.state.name().to_lowercase();
    // The nodes agree on it in the handshake.
    if !matches!(run.state, RunState::Planned | RunState::Handshake) {
        line.push_str(if run.full { " · full" } else { " · changes" });
    }
    if let Some(progress) = &run.progress {
        if !progress.phase.is_empty() && !progress.phase.eq_ignore_ascii_case(run.state.name()) {
            line.push_str(&format!(" · {}", progress.phase));
        }
        line.push_str(&amounts(progress));
    }
    line
}

fn amounts(progress: &Progress) -> String {
    let mut text = String::new();
    if progress.items_total > 0 {
        text.push_str(&format!(
            "  {} / {}  {}%",
            grouped(progress.items_done),
            grouped(progress.items_total),
            percent(progress.items_done, progress.items_total)
        ));
    } else if progress.items_done > 0 {
        text.push_str(&format!("  {}", grouped(progress.items_done)));
    }
    if progress.items_per_s >= 1.0 {
        text.push_str(&format!("  {}/s", grouped(progress.items_per_s as u64)));
    }
    if let Some(eta) = progress.eta_s.filter(|eta| eta.is_finite() && *eta >= 0.0) {
        text.push_str(&format!("  {} left", clock(eta.ceil() as u64)));
    }
    text
}

/// How far an upload is, in a line.
#[must_use]
pub fn bytes_line(sent: u64, total: u64) -> String {
    if total == 0 {
        return format!("sending  {}", bytes(sent));
    }
    if sent >= total {
        return format!("{} sent, the node is working", bytes(total));
    }
    format!(
        "sending  {} / {}  {}%  {}",
        bytes(sent),
        bytes(total),
        percent(sent, total),
        bar(sent as f64, total as f64, 20)
    )
}

fn percent(done: u64, total: u64) -> u64 {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    u64::try_from(percent).unwrap_or(100).min(100)
}

/// A number of bytes as people read it.
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    // 999.95 would round to four digits.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A duration as minutes and seconds, or hours where there are any.
#[must_use]
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, bytes_line, clock, percent, run_line};
    use crate::{Progress, Run, RunState};

    #[test]
    fn a_run_says_whether_it_matches_changes_only_once_that_is_agreed() {
        let line = |state, full| {
            run_line(&Run {
                id: "run_1".to_owned(),
                partner: "Globex".to_owned(),
                state,
                full,
                initiated_here: true,
                started_at: None,
                ended_at: None,
                progress: Some(Progress {
                    phase: "claims".to_owned(),
                    items_done: 5,
                    items_total: 10,
                    ..Progress::default()
                }),
                failure: None,
                summary: None,
            })
        };
        assert_eq!(
            line(RunState::Claims, false),
            "claims · changes  5 / 10  50%"
        );
        assert_eq!(
            line(RunState::Tags, true),
            "tags · full · claims  5 / 10  50%"
        );
        // What was asked for is not yet what is agreed.
        assert_eq!(
            line(RunState::Handshake, false),
            "handshake · claims  5 / 10  50%"
        );
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(clock(5), "0:05");
        assert_eq!(clock(3_661), "1:01:01");
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        assert_eq!(
            bytes_line(500, 2_000),
            "sending  500 B / 2.0 kB  25%  █████"
        );
        assert_eq!(bytes_line(2_000, 2_000), "2.0 kB sent, the node is working");
    }
}
