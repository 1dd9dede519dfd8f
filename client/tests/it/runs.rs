//! `overlap match`

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::{command, fake::FakeNode, overlap};

#[test]
fn a_run_is_followed_to_its_end() {
    let node = FakeNode::start();
    let text = overlap(&node, &["match", "Globex"]).done();
    let expected = "\
run               r_globex (changes)
state             DONE
took              1:23
shared customers  1,246
keys              2,000 mine, 3,000 theirs
traffic           120.0 kB sent, 98.0 kB received
flows             list: A queries B
engine            portable

Next: overlap matrix Globex; overlap shared Globex
";
    assert_eq!(text, expected);
    assert!(node.requests("start_run")[0].contains("full: false"));
}

#[test]
fn a_full_run_as_json() {
    let node = FakeNode::start();
    let run = overlap(&node, &["match", "Globex", "--full", "--output", "json"]).json();
    assert_eq!(run["state"], "DONE");
    assert_eq!(run["summary"]["shared_customers"], 1246);
    assert!(node.requests("start_run")[0].contains("full: true"));
}

#[test]
fn a_run_that_fails_is_one_line() {
    let node = FakeNode::start();
    let line = overlap(&node, &["match", "Broken"]).failed();
    assert_eq!(
        line,
        "error: run r_broken failed (the partner's side): chunk 3 holds a point that is not canonical [PEER_FAULT]"
    );
    // Programs get the run too.
    let outcome = overlap(&node, &["match", "Broken", "-o", "json"]);
    let run: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(run["failure"]["reason"], "PEER_FAULT");
    outcome.failed();
}

#[test]
fn watching_survives_a_break() {
    let node = FakeNode::start();
    let run = overlap(&node, &["match", "Shaky", "-o", "json"]).json();
    assert_eq!(run["state"], "DONE");
    assert_eq!(node.requests("watch_run").len(), 2);
}

#[cfg(unix)]
#[test]
fn an_interrupt_cancels_the_run() {
    let node = FakeNode::start();
    let child = command(&["match", "Slow", "--dir"])
        .arg(node.dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !node.is_watched() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: run r_slow was cancelled [CANCELLED]\n"
    );
    assert_eq!(output.stdout, b"");
    assert_eq!(node.requests("cancel_run").len(), 1);
}
