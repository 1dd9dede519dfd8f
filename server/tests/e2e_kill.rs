//! Nodes that are killed in the middle: nothing that was acknowledged is lost, and the next run is right.
//!
//! `OVERLAP_KILLS=100 cargo test -p overlap-server --test e2e_kill` kills more often than the few times of every test run.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    Node, agree,
    expected::{assert_view, cells, policy_file, rows, text},
    pair, run_match, wait,
};
use oracle::{
    Row, Side, Tier,
    world::{Dice, all, csv, rows as random_rows},
};
use serde_json::Value;

fn kills() -> u64 {
    std::env::var("OVERLAP_KILLS").map_or(4, |number| number.parse().unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "when to kill depends on real time"
)]
fn now() -> Instant {
    Instant::now()
}

/// What the list and the matrix say, whichever run found it.
fn assert_same(found: &(Value, Value), wanted: &(Value, Value)) {
    assert_eq!(cells(&found.0), cells(&wanted.0));
    assert_eq!(rows(&found.1), rows(&wanted.1));
}

fn assert_customers(node: &Node, rows: &[Row]) {
    let customers = node.json(["customers", "list"]);
    let mut found: Vec<(String, String)> = customers
        .as_array()
        .unwrap()
        .iter()
        .map(|customer| (text(&customer["id"]), text(&customer["stage"])))
        .collect();
    found.sort();
    let wanted: Vec<(String, String)> = rows
        .iter()
        .map(|row| (row.id.clone(), row.stage.clone()))
        .collect();
    assert!(
        found == wanted,
        "customers are those that were acknowledged"
    );
}

fn start(node: &Node, arguments: &[&str]) -> Child {
    node.command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The newest run, once it has ended.
fn ended_run(node: &Node, partner: &str) -> Value {
    let mut run = Value::Null;
    wait("the run ends", || {
        run = node.json(["runs", partner, "--limit", "1"])[0].clone();
        ["DONE", "FAILED", "CANCELLED"].contains(&run["state"].as_str().unwrap())
    });
    run
}

/// Two versions of one company, so that every run has something new to find, and another company. In the second version one row of
/// `every` is in another stage.
fn versions(dice: &mut Dice, customers: u64, every: usize) -> ([Side; 2], Side) {
    let (mut first, mut other) = (all(Tier::List), all(Tier::List));
    // No counts: they change from run to run as the release rules say, which is another test's matter.
    first.tiers.insert("Lead".to_owned(), Tier::Hidden);
    first.rows = random_rows(dice, "a", customers, customers * 4 / 5);
    other.rows = random_rows(dice, "b", customers, customers * 4 / 5);
    let mut second = first.clone();
    for (number, row) in second.rows.iter_mut().enumerate() {
        if number % every == 0 {
            "Customer".clone_into(&mut row.stage);
        }
    }
    ([first, second], other)
}

#[test]
fn a_node_killed_during_a_run_keeps_its_customers_and_its_last_result() {
    // Too much changes for a delta run.
    kill_during_runs(&mut Dice::new(77), 1_000, 3, false);
}

/// Large enough that a delta run is less than a full one.
#[test]
fn a_node_killed_during_a_delta_run_keeps_its_customers_and_its_last_result() {
    kill_during_runs(&mut Dice::new(79), 4_000, 50, true);
}

/// Kills either node at any time of a run that either started: what is acknowledged and the last result stand, and the next run is
/// right.
fn kill_during_runs(dice: &mut Dice, customers: u64, every: usize, deltas: bool) {
    let (versions, other) = versions(dice, customers, every);
    let (a, b) = pair();
    let mut nodes = [a, b];
    nodes[1].import(&csv(&other.rows));
    agree(
        (&nodes[0], &policy_file(&versions[0])),
        (&nodes[1], &policy_file(&other)),
    );
    // What each version's run finds, checked once against the oracle.
    let mut took = Duration::ZERO;
    let right = versions.clone().map(|version| {
        nodes[0].import(&csv(&version.rows));
        let began = now();
        let run = run_match(&nodes[0], &nodes[1]);
        assert_eq!(run["full"], took == Duration::ZERO || !deltas, "{run}");
        took = began.elapsed();
        let found = (nodes[0].results("Globex"), nodes[1].results("Acme"));
        assert_view(&version, &other, &found.0);
        assert_view(&other, &version, &found.1);
        found
    });

    let (mut failed, mut changes) = (0, 0);
    for kill in 0..kills() {
        let which = usize::try_from(kill % 2).unwrap();
        let version = &versions[which];
        nodes[0].import(&csv(&version.rows));
        let before = [nodes[0].results("Globex"), nodes[1].results("Acme")];

        let victim = usize::from(dice.chance(50));
        let starter = usize::from(dice.chance(50));
        let partners = ["Globex", "Acme"];
        let mut command = start(&nodes[starter], &["match", partners[starter]]);
        let instant = took.mul_f64(dice.below(1000) as f64 / 1000.0);
        thread::sleep(instant);
        nodes[victim].kill();
        nodes[victim].start();
        command.wait().unwrap();
        eprintln!("kill {kill}: node {victim} after {instant:?} of a run that {starter} started");

        assert_customers(&nodes[0], &version.rows);
        assert_customers(&nodes[1], &other.rows);
        let wanted = [&right[which].0, &right[which].1];
        for (side, node) in nodes.iter().enumerate() {
            let run = ended_run(node, partners[side]);
            let found = node.results(partners[side]);
            changes += u32::from(run["full"] == false);
            if run["state"] == "DONE" {
                // This run's result, or the last one's if the kill came before the run began.
                if found != before[side] {
                    assert_same(&found, wanted[side]);
                }
            } else {
                failed += 1;
                assert_eq!(run["state"], "FAILED", "{run}");
                let reason = run["failure"]["reason"].as_str().unwrap();
                assert!(
                    !reason.is_empty() && reason != "INTERNAL" && reason != "UNKNOWN",
                    "{run}"
                );
                eprintln!("  node {side}: {reason}");
                assert_eq!(found, before[side], "the last result stands");
            }
        }

        run_match(&nodes[starter], &nodes[1 - starter]);
        for (side, node) in nodes.iter().enumerate() {
            assert_same(&node.results(partners[side]), wanted[side]);
        }
    }
    eprintln!("{failed} failed runs, {changes} of changes");
    assert_eq!(changes > 0, deltas, "what was killed were delta runs");
}

#[test]
fn a_node_killed_during_an_import_has_all_of_the_file_or_nothing() {
    let mut dice = Dice::new(78);
    let mut node = Node::new("Acme");
    let versions = ["Lead", "Customer"].map(|stage| {
        let mut rows = random_rows(&mut dice, "a", 6000, 6000);
        for row in &mut rows {
            stage.clone_into(&mut row.stage);
        }
        rows
    });
    let files = [0, 1].map(|version: usize| {
        let path = node.write(&format!("{version}.csv"), csv(&versions[version]));
        path.to_str().unwrap().to_owned()
    });
    let import = |file: usize| ["customers", "import", "--replace", files[file].as_str()];
    let mut has = 0;
    node.run(import(0));
    let began = now();
    node.run(import(1));
    let took = began.elapsed();
    node.run(import(0));
    for kill in 0..kills() {
        let next = 1 - has;
        let mut command = start(&node, &import(next));
        let instant = took.mul_f64(dice.below(1200) as f64 / 1000.0);
        thread::sleep(instant);
        node.kill();
        let acknowledged = command.wait().unwrap().success();
        node.start();
        let customers = node.json(["customers", "list", "--limit", "1"]);
        let stage = customers[0]["stage"].as_str().unwrap();
        let found = usize::from(stage == "Customer");
        assert!(
            !acknowledged || found == next,
            "what was acknowledged stands"
        );
        assert_customers(&node, &versions[found]);
        eprintln!(
            "kill {kill}: after {instant:?}, acknowledged: {acknowledged}, imported: {}",
            found == next
        );
        has = found;
    }
    // And it still takes files.
    node.run(import(1));
    assert_customers(&node, &versions[1]);
}
