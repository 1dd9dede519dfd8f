//! The client and the command line against a node that gives answers chosen by hand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod canned;
mod collaboration;
mod errors;
mod fake;
mod fake_collaboration;
mod fake_program;
mod help;
mod library;
mod numbers;
mod reading;
mod receipts;
mod runs;
mod writing;

use std::process::{Command, Stdio};

use fake::FakeNode;

/// What a run of the command line left behind.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Standard output of a run that went well and had nothing to complain about.
    fn done(self) -> String {
        assert_eq!(self.stderr, "");
        assert_eq!(self.code, Some(0));
        self.stdout
    }

    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// The one line on standard error of a run that failed.
    fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

/// The command line without anything from this environment.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlap"));
    for variable in [
        "OVERLAP_DIR",
        "OVERLAP_NODE",
        "OVERLAP_TOKEN",
        "OVERLAP_TOKEN_FILE",
        "OVERLAP_TLS_CA",
        "NO_COLOR",
    ] {
        command.env_remove(variable);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the command line on a node's directory.
fn overlap(node: &FakeNode, arguments: &[&str]) -> Outcome {
    outcome(command(arguments).arg("--dir").arg(node.dir()))
}

/// What a command prints for people.
fn text(arguments: &[&str]) -> String {
    overlap(&FakeNode::start(), arguments).done()
}

fn json_of(arguments: &[&str]) -> serde_json::Value {
    overlap(&FakeNode::start(), &[arguments, &["-o", "json"]].concat()).json()
}

fn csv_of(arguments: &[&str]) -> Vec<Vec<String>> {
    let text = text(&[arguments, &["-o", "csv"]].concat());
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes());
    reader
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect()
}
