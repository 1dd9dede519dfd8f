//! Commands that change something.

use std::{fs, io::Write as _, process::Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::{command, fake::FakeNode, outcome, overlap};

fn file(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_of_customers_is_sent_whole() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    // More than one chunk, and not a whole number of them.
    let path = file(&dir, "mine.CSV", vec![b'x'; 700_001]);
    let text = overlap(&node, &["customers", "import", &path, "--replace"]).done();
    assert_eq!(
        text,
        format!(
            "{path}: 1,500 new, 2 changed, 3 unchanged, 0 deleted\n\
             Columns kept as fields: plan\n\
             Identifiers that are kept but cannot be matched:\n  UNPARSABLE  4\n"
        )
    );
    let request = &node.requests("import_customers")[0];
    for part in [
        "mine.CSV",
        "format: \"csv\"",
        "replace_all: true",
        " 700001",
    ] {
        assert!(request.contains(part), "{request}");
    }
    assert!(
        !request.contains(dir.path().to_str().unwrap()),
        "the node need not know where the file is"
    );
}

#[test]
fn the_extension_or_an_option_tells_the_format() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    for (name, option, format) in [
        ("a.ndjson", None, "ndjson"),
        ("a.jsonl", None, "ndjson"),
        ("a.parquet", None, "parquet"),
        ("a.txt", Some("csv"), "csv"),
        ("a.csv", Some("ndjson"), "ndjson"),
    ] {
        let path = file(&dir, name, "");
        let mut arguments = vec!["customers", "import", &path, "-o", "json"];
        arguments.extend(option.iter().flat_map(|option| ["--format", option]));
        let report = overlap(&node, &arguments).json();
        assert_eq!(report["inserted"], 1500);
        let requests = node.requests("import_customers");
        assert!(
            requests
                .last()
                .unwrap()
                .contains(&format!("format: {format:?}")),
            "{name}"
        );
    }
    let path = file(&dir, "a.xlsx", "");
    let line = overlap(&node, &["customers", "import", &path]).failed();
    assert!(
        line.ends_with("add --format csv, ndjson or parquet [INVALID_ARGUMENT]"),
        "{line}"
    );
}

#[test]
fn a_file_that_cannot_be_read_imports_nothing() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    let missing = dir.path().join("missing.csv");
    let line = overlap(&node, &["customers", "import", missing.to_str().unwrap()]).failed();
    assert!(line.contains("missing.csv: No such file"), "{line}");
    assert!(line.ends_with("[FILE_UNREADABLE]"), "{line}");
    assert!(node.requests("import_customers").is_empty());
}

#[test]
fn customers_are_deleted_by_id_or_by_file() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    let text = overlap(&node, &["customers", "delete", "k1", "nobody"]).done();
    assert_eq!(text, "1 of 2 customers deleted\n");
    let path = file(&dir, "ids", "k1\n\n k2 \n");
    let json = overlap(
        &node,
        &["customers", "delete", "--from", &path, "-o", "json"],
    )
    .json();
    assert_eq!(json, json!({"deleted": 2}));
}

#[test]
fn a_stage_keeps_what_is_not_said() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    let stages = overlap(
        &node,
        &["stages", "set", "Customer", "--ordinal", "9", "-o", "json"],
    )
    .json();
    assert_eq!(
        stages,
        json!([{"id": "Customer", "label": "Kunde", "ordinal": 9, "category": "CUSTOMER"}])
    );
    let stages = overlap(
        &node,
        &["stages", "set", "Trial", "--category", "open", "-o", "json"],
    )
    .json();
    assert_eq!(
        stages,
        json!([{"id": "Trial", "label": "", "ordinal": 4, "category": "OPEN"}]),
        "P-08: a custom stage comes last"
    );
    let path = file(
        &dir,
        "stages.toml",
        "[[stages]]\nid = \"A\"\n[[stages]]\nid = \"B\"\nlabel = \"Bee\"\ncategory = \"churned\"\n",
    );
    let text = overlap(&node, &["stages", "set", "--file", &path]).done();
    assert_eq!(
        text,
        "ID  LABEL  ORDINAL  CATEGORY\nA                1  OPEN\nB   Bee          2  CHURNED\n"
    );
}

#[test]
fn p_31_a_policy_file_is_proposed() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    let path = file(
        &dir,
        "policy.toml",
        "[stages]\nProspect = \"list\"\nCustomer = \"hidden\"\n",
    );
    let sharing = overlap(
        &node,
        &["sharing", "set", "Globex", "--file", &path, "-o", "json"],
    )
    .json();
    assert_eq!(sharing["state"], "PROPOSED");
    assert_eq!(sharing["mine"]["stages"]["Prospect"], "list");
    let path = file(&dir, "wrong.toml", "[stages]\nProspect = \"everything\"\n");
    let line = overlap(&node, &["sharing", "set", "Globex", "--file", &path]).failed();
    assert!(line.starts_with(&format!("error: {path}:2:")), "{line}");
    assert!(line.ends_with("[INVALID_ARGUMENT]"), "{line}");
    assert_eq!(node.requests("set_policy").len(), 1);
}

#[test]
fn p_31_a_proposal_is_decided() {
    let node = FakeNode::start();
    for (verb, state) in [
        ("approve", "ACTIVE"),
        ("decline", "DECLINED"),
        ("revoke", "REVOKED"),
    ] {
        let sharing = overlap(&node, &["sharing", verb, "Globex", "-o", "json"]).json();
        assert_eq!(sharing["state"], state);
    }
}

#[test]
fn an_invitation_goes_from_hand_to_hand() {
    let node = FakeNode::start();
    let text = overlap(&node, &["partner", "invite", "--endpoint", "a.example:1"]).done();
    assert_eq!(text.lines().next(), Some("overlap-invite:abc"));
    assert!(text.contains("ab12 cd34"), "{text}");
    let request = &node.requests("create_invite")[0];
    assert!(
        request.contains("a.example:1") && request.contains("valid_hours: 72"),
        "{request}"
    );

    let mut child = command(&["partner", "accept", "-", "-o", "json"])
        .arg("--dir")
        .arg(node.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"overlap-invite:abc\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let partnership: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(partnership["organization"], "Globex");
    assert!(node.requests("accept_invite")[0].contains("\"overlap-invite:abc\""));
}

#[test]
fn a_partnership_ends() {
    let node = FakeNode::start();
    let json = overlap(&node, &["partner", "revoke", "Globex", "-o", "json"]).json();
    assert_eq!(json["state"], "REVOKED");
}

#[test]
fn p_15_targets_are_marked_and_unmarked() {
    let node = FakeNode::start();
    let text = overlap(&node, &["target", "add", "Globex", "c1", "c2"]).done();
    assert_eq!(text, "2 marked as targets\n");
    let json = overlap(&node, &["target", "remove", "Globex", "c1", "-o", "json"]).json();
    assert_eq!(json, json!({"changed": 1}));
    let requests = node.requests("set_targets");
    assert!(requests[0].contains("target: true") && requests[1].contains("target: false"));
}

#[test]
fn a_token_is_shown_once_and_ended() {
    let node = FakeNode::start();
    let text = overlap(
        &node,
        &["token", "create", "ada", "--role", "partner_manager"],
    )
    .done();
    assert!(text.contains("\ns3cret\n"), "{text}");
    let json = overlap(
        &node,
        &["token", "create", "ada", "--role", "MEMBER", "-o", "json"],
    )
    .json();
    assert_eq!(
        (&json["id"], &json["secret"]),
        (&json!("t_1"), &json!("s3cret"))
    );
    let json = overlap(&node, &["token", "revoke", "t_1", "-o", "json"]).json();
    assert_eq!(json["revoked_at"], "2026-05-04T09:30:09Z");
    let bad =
        outcome(command(&["token", "create", "ada", "--role", "KING", "--dir"]).arg(node.dir()));
    assert_eq!(bad.code, Some(2));
}

/// A file that is never at its end, as far as this test is concerned, and an import of it that is under way.
#[cfg(unix)]
fn endless_import(node: &FakeNode, dir: &TempDir) -> (fs::File, std::process::Child) {
    let path = dir.path().join("endless.csv");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let child = command(&[
        "customers",
        "import",
        path.to_str().unwrap(),
        "--replace",
        "--dir",
    ])
    .arg(node.dir())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut pipe = fs::OpenOptions::new().write(true).open(&path).unwrap();
    pipe.write_all(&vec![b'x'; 600_000]).unwrap();
    while !node.is_watched() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    (pipe, child)
}

#[cfg(unix)]
#[test]
fn an_interrupted_import_does_not_look_finished() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    let (_pipe, child) = endless_import(&node, &dir);
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: the import was cancelled: nothing was changed [CANCELLED]\n"
    );
    assert!(node.requests("import_customers").is_empty());
}

#[cfg(unix)]
#[test]
fn a_killed_import_does_not_look_finished() {
    let (node, dir) = (FakeNode::start(), TempDir::new().unwrap());
    let (_pipe, mut child) = endless_import(&node, &dir);
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(node.requests("import_customers").is_empty());
}
