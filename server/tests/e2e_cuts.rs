//! Nodes whose connection is cut at any instant, with the built programs over real sockets: the run goes on, and finds what the
//! oracle finds.
//!
//! `OVERLAP_CUTS=50 cargo test -p overlap-server --test e2e_cuts` cuts in more runs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::{
    Node, agree, connect,
    expected::{assert_view, policy_file},
    proxy::Proxy,
    run_match, wait,
};
use oracle::{
    Side, Tier,
    world::{Dice, all, csv, rows as random_rows},
};
use serde_json::Value;

fn runs() -> u64 {
    std::env::var("OVERLAP_CUTS").map_or(4, |number| number.parse().unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "when to cut depends on real time"
)]
fn now() -> Instant {
    Instant::now()
}

/// Two partners; whatever the first sends to the second goes through a proxy.
fn pair_through_a_proxy() -> (Node, Node, Proxy) {
    let a = Node::new("Acme");
    let mut b = Node::new("Globex");
    let proxy = Proxy::to(b.addresses()["exchange"].as_str().unwrap().parse().unwrap());
    b.kill();
    let path = b.dir().join("overlapd.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let endpoint = format!("[exchange]\nendpoint = \"{}\"\n", proxy.address);
    assert_eq!(config.matches("[exchange]\n").count(), 1, "{config}");
    std::fs::write(&path, config.replace("[exchange]\n", &endpoint)).unwrap();
    b.start();
    connect(&a, &b);
    (a, b, proxy)
}

fn sides(seed: u64, customers: u64) -> (Side, Side) {
    let mut dice = Dice::new(seed);
    let (mut mine, mut theirs) = (all(Tier::List), all(Tier::List));
    // No counts: they change from run to run as the release rules say, which is another test's matter.
    mine.tiers.insert("Lead".to_owned(), Tier::Hidden);
    mine.rows = random_rows(&mut dice, "a", customers, customers * 3 / 4);
    theirs.rows = random_rows(&mut dice, "b", customers, customers * 3 / 4);
    (mine, theirs)
}

fn newest(node: &Node, partner: &str) -> Value {
    node.json(["runs", partner, "--limit", "1"])[0].clone()
}

fn start_match(node: &Node) -> Child {
    node.command(["match", "Globex"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The newest run, once it is past its handshake and before it is done.
fn past_handshake(node: &Node) -> Value {
    let mut run = Value::Null;
    wait("the run is past its handshake", || {
        run = newest(node, "Globex");
        let state = run["state"].as_str().unwrap_or_default();
        ["EVALUATING", "TAGS", "CLAIMS", "REPORTS", "RECEIPT"].contains(&state)
    });
    run
}

#[test]
fn a_run_goes_on_over_connections_that_are_cut_at_any_instant() {
    let (mine, theirs) = sides(5, 4000);
    let (a, b, proxy) = pair_through_a_proxy();
    a.import(&csv(&mine.rows));
    b.import(&csv(&theirs.rows));
    agree((&a, &policy_file(&mine)), (&b, &policy_file(&theirs)));
    let began = now();
    run_match(&a, &b);
    let took = began.elapsed();
    let before = proxy.carried();
    let mut dice = Dice::new(6);
    for run in 0..runs() {
        let mut command = start_match(&a);
        for _ in 0..=dice.below(3) {
            thread::sleep(took.mul_f64(dice.below(1000) as f64 / 1500.0));
            proxy.cut();
        }
        let outcome = command.wait().unwrap();
        let found = newest(&a, "Globex");
        assert!(outcome.success(), "run {run}: {found}");
        assert_eq!(found["state"], "DONE", "run {run}: {found}");
        wait("the partner ends the run", || {
            ["DONE", "FAILED"].contains(&newest(&b, "Acme")["state"].as_str().unwrap())
        });
        assert_eq!(newest(&b, "Acme")["state"], "DONE", "run {run}");
        assert_view(&mine, &theirs, &a.results("Globex"));
        assert_view(&theirs, &mine, &b.results("Acme"));
    }
    eprintln!(
        "{} connections for {} runs of {took:?}",
        proxy.carried() - before,
        runs()
    );
}

/// The cable stays out for a while.
#[test]
fn a_run_waits_for_a_partner_that_cannot_be_reached_for_a_while() {
    let (mine, theirs) = sides(7, 6000);
    let (a, b, proxy) = pair_through_a_proxy();
    a.import(&csv(&mine.rows));
    b.import(&csv(&theirs.rows));
    agree((&a, &policy_file(&mine)), (&b, &policy_file(&theirs)));
    let mut command = start_match(&a);
    past_handshake(&a);
    proxy.refuse(true);
    thread::sleep(Duration::from_secs(2));
    proxy.refuse(false);
    assert!(
        command.wait().unwrap().success(),
        "{}",
        newest(&a, "Globex")
    );
    assert_view(&mine, &theirs, &a.results("Globex"));
}

/// A node that is killed goes on with the run that it had opened; one whose partner is killed begins the run again with it.
#[test]
fn a_run_survives_a_restart_of_either_node() {
    let (mine, theirs) = sides(8, 4000);
    let (a, b) = e2e::pair();
    a.import(&csv(&mine.rows));
    b.import(&csv(&theirs.rows));
    agree((&a, &policy_file(&mine)), (&b, &policy_file(&theirs)));
    let mut nodes = [a, b];
    for victim in [0, 1] {
        let mut command = start_match(&nodes[0]);
        let run = past_handshake(&nodes[0])["id"].clone();
        nodes[victim].kill();
        nodes[victim].start();
        wait("the run ends", || {
            let state = newest(&nodes[0], "Globex")["state"].clone();
            ["DONE", "FAILED", "CANCELLED"].contains(&state.as_str().unwrap())
        });
        let found = newest(&nodes[0], "Globex");
        assert_eq!(found["state"], "DONE", "{found}");
        assert_eq!(found["id"], run, "it is the same run");
        // It fails if it was its node that was killed.
        command.wait().unwrap();
        assert_view(&mine, &theirs, &nodes[0].results("Globex"));
        wait("the partner's side ends", || {
            newest(&nodes[1], "Acme")["state"] == "DONE"
        });
        assert_view(&theirs, &mine, &nodes[1].results("Acme"));
    }
    // The partner says what became of its part of the run that it lost.
    let runs = nodes[1].json(["runs", "Acme"]);
    let reasons: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["state"] == "FAILED")
        .map(|run| run["failure"]["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["RUN_INTERRUPTED", "RUN_INTERRUPTED"], "{runs}");
}
