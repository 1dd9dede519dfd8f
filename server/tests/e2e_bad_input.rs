//! What goes wrong at a desk: one line on standard error, a stable exit code, and nothing changed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::{net::TcpListener, process::Command};

use e2e::{Node, OVERLAPD, connect, describe, expected::text, overlap, pair, refusal};
use serde_json::json;

const GOOD: &str = "id,stage,email\nc1,Lead,ada@one.example\nc2,Deal,bob@two.example\n";

fn assert_line(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
}

#[test]
fn broken_files_name_line_and_column_and_change_nothing() {
    let node = Node::new("Acme");
    node.import(GOOD);
    let before = node.json(["customers", "list"]);
    let row = |row: &str| format!("{GOOD}c3,Lead,eve@three.example\n{row}\n").into_bytes();
    let cases: [(Vec<u8>, &[&str]); 7] = [
        (
            row("c4,Leed,x@y.example"),
            &["line 5, column 2 (stage)", "\"Leed\"", "Prospect"],
        ),
        (row("c4,Lead"), &["line 5", "2 values", "3 columns"]),
        (
            row("c4,Lead,\"open"),
            &["line 5, column 3 (email)", "not closed"],
        ),
        (row(",Lead,x@y.example"), &["line 5, column 1 (id)"]),
        (
            b"id,stage,email\nc4,Lead,a\xffb\n".to_vec(),
            &["line 2, column 3 (email)", "UTF-8"],
        ),
        (
            b"id,email\nc4,x@y.example\n".to_vec(),
            &["line 1", "\"stage\""],
        ),
        (Vec::new(), &["the file is empty"]),
    ];
    for replace in [false, true] {
        for (content, wanted) in &cases {
            let file = node.write("broken.csv", content);
            let mut command = node.command(["customers", "import", file.to_str().unwrap()]);
            if replace {
                command.arg("--replace");
            }
            let line = refusal(&mut command);
            assert_line(&line, &["error: broken.csv", "[INVALID_ARGUMENT]"]);
            assert_line(&line, wanted);
            assert!(!line.contains("y.example"), "no identifier in {line:?}");
        }
    }
    let line = node.refusal(["customers", "import", "/nowhere/customers.csv"]);
    assert_line(&line, &["/nowhere/customers.csv", "[FILE_UNREADABLE]"]);
    let file = node.write("customers.xls", GOOD);
    let line = node.refusal(["customers", "import", file.to_str().unwrap()]);
    assert_line(&line, &["customers.xls", "--format"]);
    assert_eq!(node.json(["customers", "list"]), before);
}

#[test]
fn policies_that_are_wrong_name_the_place_and_change_nothing() {
    let (a, b) = pair();
    let set = |content: &str| {
        let file = a.write("policy.toml", content);
        a.refusal(["sharing", "set", "Globex", "--file", file.to_str().unwrap()])
    };
    let line = set("[stages]\nLead = \"list\"\nLeed = \"list\"\n");
    assert_line(&line, &["Leed", "Prospect", "[INVALID_ARGUMENT]"]);
    let line = set("[stages]\nLead = \"listed\"\n");
    assert_line(&line, &["policy.toml:2:8", "\"listed\"", "\"count\""]);
    let line = set("[stages\nLead = \"list\"\n");
    assert_line(&line, &["policy.toml:1:8"]);
    let line = set("[stages]\nLead = \"list\"\n[limits]\nmin_count = 0\n");
    assert_line(&line, &["policy.toml:4:13", "at least 1"]);
    let line = set("[stages]\nLead = \"list\"\n[limit]\nmin_count = 5\n");
    assert_line(&line, &["policy.toml:3:2", "limit"]);
    for (node, partner) in [(&a, "Globex"), (&b, "Acme")] {
        let sharing = node.json(["sharing", "show", partner]);
        assert_eq!(sharing["state"], "NONE");
        assert_eq!(sharing["mine"], json!(null));
    }
}

#[test]
fn p01_matching_needs_a_connected_partner_and_an_agreement() {
    let (a, b) = pair();
    for command in ["match", "matrix", "shared", "runs"] {
        let line = a.refusal([command, "Nobody"]);
        assert_line(&line, &["Nobody", "[NOT_FOUND]"]);
    }
    let line = a.refusal(["match", "Globex"]);
    assert_line(&line, &["[SHARING_NOT_ACTIVE]"]);
    // A proposal alone is no agreement, on neither side.
    let file = a.write("policy.toml", "[stages]\nLead = \"list\"\n");
    a.run(["sharing", "set", "Globex", "--file", file.to_str().unwrap()]);
    for (node, partner) in [(&a, "Globex"), (&b, "Acme")] {
        let line = node.refusal(["match", partner]);
        assert_line(&line, &["[SHARING_NOT_ACTIVE]"]);
        assert_eq!(node.json(["runs", partner]), json!([]));
    }
}

#[test]
fn an_invitation_serves_one_partner_and_only_in_time() {
    let (a, b, c) = (Node::new("Acme"), Node::new("Globex"), Node::new("Initech"));
    let invite = || text(&a.json(["partner", "invite"])["invite"]);
    let used = invite();
    b.run(["partner", "accept", &used]);
    // Nothing is open: a stranger does not even get a connection.
    let line = c.refusal(["partner", "accept", &used]);
    assert_line(&line, &["used or expired", "[PEER_UNKNOWN]"]);
    let open = invite();
    let line = c.refusal(["partner", "accept", &used]);
    assert_line(&line, &["[INVITE_INVALID]"]);
    for line in ["garbage", "overlap-invite-1.abc", &open[..open.len() - 9]] {
        let line = c.refusal(["partner", "accept", line]);
        assert_line(&line, &["[INVITE_INVALID]"]);
    }
    assert_eq!(c.json(["partner", "list"]), json!([]));
    let connected = a.json(["partner", "list", "--connected"]);
    assert_eq!(connected.as_array().unwrap().len(), 1);

    // Withdrawn before it was used.
    let partners = a.json(["partner", "list"]);
    let pending = partners
        .as_array()
        .unwrap()
        .iter()
        .find(|partner| partner["state"] == "PENDING")
        .unwrap();
    a.run([
        "partner",
        "revoke",
        pending["id"].as_str().unwrap(),
        "--yes",
    ]);
    let line = c.refusal(["partner", "accept", &open]);
    assert_line(&line, &["[PEER_UNKNOWN]"]);
    assert_eq!(c.json(["partner", "list", "--connected"]), json!([]));
    connect(&a, &c);
}

#[test]
fn calls_need_a_token_that_is_good_for_them() {
    let node = Node::new("Acme");
    let url = format!("http://{}", node.addresses()["api"].as_str().unwrap());
    let call = |token: &str, arguments: &[&str]| {
        let mut command = overlap();
        command.args(["--node", &url]).args(arguments);
        command.env("OVERLAP_TOKEN", token);
        command
    };
    for token in ["wrong", "ovl_00000000000000000000000000000000"] {
        let line = refusal(&mut call(token, &["partner", "list"]));
        assert_line(&line, &["[UNAUTHENTICATED]"]);
        assert!(!line.contains(token));
    }
    let made = node.json(["token", "create", "Mina", "--role", "member"]);
    let secret = made["secret"].as_str().unwrap();
    let output = call(secret, &["partner", "list"]).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    let line = refusal(&mut call(secret, &["partner", "invite"]));
    assert_line(&line, &["[ROLE_NOT_ALLOWED]"]);
    node.run(["token", "revoke", made["id"].as_str().unwrap()]);
    let line = refusal(&mut call(secret, &["partner", "list"]));
    assert_line(&line, &["[UNAUTHENTICATED]"]);

    // Wrong usage has a code of its own.
    for arguments in [&["matrix"][..], &["matrix", "Globex"], &["no-such-command"]] {
        let output = overlap().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", describe(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let mut node = Node::new("Acme");
    let serve = |node: &Node| {
        let mut command = Command::new(OVERLAPD);
        command.arg("serve").arg("--dir").arg(node.dir());
        // What is logged besides is for the operator's log.
        let output = command.env("RUST_LOG", "off").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", describe(&output));
        assert!(output.stdout.is_empty(), "{}", describe(&output));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    assert_line(&serve(&node), &["another overlapd serves this directory"]);
    let listener = node.addresses()["exchange"].as_str().unwrap().to_owned();
    node.kill();

    let taken = TcpListener::bind(&listener).unwrap();
    assert_line(
        &serve(&node),
        &["exchange.listen", &listener, "another process"],
    );
    drop(taken);

    let mut command = Command::new(OVERLAPD);
    command.args(["init", "--organization", "Other", "--dir"]);
    let line = refusal(command.arg(node.dir()));
    assert_line(&line, &["not empty"]);

    let store = rusqlite::Connection::open(node.dir().join("overlap.db")).unwrap();
    let version: u32 = store
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    store
        .pragma_update(None, "user_version", version + 1)
        .unwrap();
    assert_line(&serve(&node), &["overlap.db", "newer"]);
    store.pragma_update(None, "user_version", version).unwrap();
    drop(store);

    let config = std::fs::read_to_string(node.dir().join("overlapd.toml")).unwrap();
    std::fs::write(
        node.dir().join("overlapd.toml"),
        format!("oops = 1\n{config}"),
    )
    .unwrap();
    assert_line(&serve(&node), &["overlapd.toml", "oops"]);
    std::fs::write(node.dir().join("overlapd.toml"), config).unwrap();
    node.start();
    assert_eq!(node.json(["partner", "list"]), json!([]));
}
