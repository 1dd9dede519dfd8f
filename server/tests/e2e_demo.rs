//! `overlapd demo`: what two companies have after a year, what they did together, and that every command it names works.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use e2e::{OVERLAP, OVERLAPD, describe, overlap, wait};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Ends with the value.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn demo_has_a_year_of_numbers_and_names_commands_that_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let child = Command::new(OVERLAPD)
        .args(["demo", "--serve", "--output", "json", "--dir"])
        .arg(path("demo"))
        .stdin(Stdio::null())
        .stdout(File::create(path("stdout")).unwrap())
        .stderr(File::create(path("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    wait("the demo is up", || {
        let said = fs::read_to_string(path("stderr")).unwrap();
        assert!(demo.0.try_wait().unwrap().is_none(), "{said}");
        said.contains("Ctrl-C stops them") && said.contains("as Beacon Billing")
    });
    let shown: Value = serde_json::from_slice(&fs::read(path("stdout")).unwrap()).unwrap();
    for (name, dir) in [("a", path("demo/A")), ("b", path("demo/B"))] {
        k16_closed_revenue_is_the_sum_of_the_deals(&shown[name], &dir);
        g15_leaderboard(&shown[name]);
    }
    p19_p25_together(&shown);
    named_commands_work(&fs::read_to_string(path("stderr")).unwrap());
}

fn k16_closed_revenue_is_the_sum_of_the_deals(side: &Value, dir: &Path) {
    let metrics = side["scorecard"]["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), 7);
    let revenue = &metrics[1];
    assert_eq!(revenue["id"], "sourced_closed_revenue");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (start, end) = (
        text(&revenue["period"]["start"]),
        text(&revenue["period"]["end"]),
    );
    let output = overlap()
        .arg("--dir")
        .arg(dir)
        .args(["records", "export", "deals"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (amount, closed) = (column("amount"), column("closed_at"));
    let (origination, outcome) = (column("origination"), column("outcome"));
    let mut sum = 0;
    for deal in reader.records() {
        let deal = deal.unwrap();
        // Times in UTC compare as text.
        let within = start.as_str() <= &deal[closed] && &deal[closed] < end.as_str();
        if &deal[origination] == "SOURCED" && &deal[outcome] == "WON" && within {
            let (units, _) = deal[amount].split_once(' ').unwrap();
            sum += units.parse::<u64>().unwrap();
        }
    }
    assert!(sum > 0);
    let values = revenue["values"].as_array().unwrap();
    assert_eq!(values.len(), 1, "one currency");
    assert_eq!(values[0]["numerator"]["money"]["units"], sum);
}

fn g15_leaderboard(side: &Value) {
    let rows = side["leaderboard"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 8);
    let scores: Vec<f64> = rows
        .iter()
        .map(|row| row["score"].as_f64().unwrap())
        .collect();
    assert!(scores.is_sorted_by(|one, next| one >= next), "{scores:?}");
    assert!(scores[0] > 0.0);
    // One partner never came, and is listed.
    assert_eq!(rows[7]["figures"]["sessions"], 0);
    assert_eq!(rows[7]["figures"]["average_duration"], Value::Null);
    let sum: u64 = rows
        .iter()
        .map(|row| row["figures"]["sessions"].as_u64().unwrap())
        .sum();
    assert_eq!(side["leaderboard"]["totals"]["sessions"], sum);
}

fn p19_p25_together(shown: &Value) {
    let (sent, received) = (&shown["a"]["attribution"], &shown["b"]["attribution"]);
    assert_eq!(sent["id"], received["id"]);
    assert_eq!(sent["ref"], received["ref"]);
    assert_eq!(
        (&sent["state"], &received["state"]),
        (&"APPROVED".into(), &"APPROVED".into())
    );
    assert_eq!(sent["direction"], "SENT");
    assert_eq!(sent["comment"], received["comment"]);
    let shared = |side: &str, id: &Value| {
        let rows = shown[side]["shared"].as_array().unwrap();
        rows.iter()
            .find(|row| row["ids"].as_array().unwrap().contains(id))
            .map(|row| row["ref"].clone())
    };
    // Each side has a row of the customer in its list, and one of the two handles names it.
    let (of_a, of_b) = (
        shared("a", &sent["customer"]).unwrap(),
        shared("b", &received["customer"]).unwrap(),
    );
    assert!(
        [&of_a, &of_b].contains(&&sent["ref"]),
        "{of_a} {of_b} {sent}"
    );

    let saved = shown["asset_saved_to"].as_str().unwrap();
    let content = fs::read(saved).unwrap();
    assert_eq!(
        shown["asset"]["sha256"],
        hex::encode(Sha256::digest(&content))
    );
    assert_eq!(shown["asset"]["size_bytes"], content.len());
    let original = fs::read(saved.replace("B-files", "A-files")).unwrap();
    assert_eq!(content, original);
}

fn named_commands_work(said: &str) {
    let commands: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("  overlap "))
        .collect();
    assert!(commands.len() > 20, "{said}");
    for arguments in commands {
        // One waits for what will happen, the other matches again.
        let limit = match arguments {
            _ if arguments.contains("changes watch") => " --limit 1",
            _ if arguments.contains(" match ") => continue,
            _ => "",
        };
        let line = format!("{} {arguments}{limit}", OVERLAP.display());
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", describe(&output));
        assert!(!output.stdout.is_empty(), "{line} says nothing");
    }
}
