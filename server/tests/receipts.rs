//! Z-09: receipts and recordings of a real run, through the programs: listed, exported, verified with no node, and audited
//! frame by frame.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod e2e;
mod oracle;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{
    Node, agree, connect, describe,
    expected::{policy_file, text},
    overlap, refusal, run_match, wait,
};
use oracle::{
    Tier,
    world::{Dice, all, csv, rows},
};
use overlap_client::{ReceiptFile, Verdict};
use serde_json::Value;

/// A node that records its runs.
fn recording(organization: &str) -> Node {
    let mut node = Node::init(organization);
    let path = node.dir().join("overlapd.toml");
    let config = fs::read_to_string(&path).unwrap();
    assert!(config.contains("record_frames = false"), "off by default");
    fs::write(
        &path,
        config.replace("record_frames = false", "record_frames = true"),
    )
    .unwrap();
    node.start();
    node
}

/// The one recording of a node.
fn recordings(node: &Node) -> Vec<PathBuf> {
    let Ok(partners) = fs::read_dir(node.dir().join("recordings")) else {
        return Vec::new();
    };
    partners
        .flat_map(|partner| fs::read_dir(partner.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

/// `overlap receipts verify`, with nothing that leads to a node.
fn verify(file: &Path, keys: [&str; 2], frames: Option<&Path>) -> Command {
    let mut command = overlap();
    command.args(["receipts", "verify"]).arg(file);
    command.args(["--my-key", keys[0], "--partner-key", keys[1]]);
    if let Some(frames) = frames {
        command.arg("--frames").arg(frames);
    }
    command
}

fn accepted(command: &mut Command) -> Value {
    let output = command.args(["--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn export(node: &Node) -> (PathBuf, Value) {
    let listed = node.json(["receipts", "list"]);
    let receipt = listed[0].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&receipt["my_signature"], &receipt["their_signature"]),
        (&"VALID".into(), &"VALID".into())
    );
    assert_eq!(receipt["full"], true);
    let file = node.write("receipt.json", "");
    let run = text(&receipt["run"]);
    node.run(["receipts", "export", &run, "--file", file.to_str().unwrap()]);
    (file, receipt)
}

#[test]
fn z09_receipts_of_a_run_are_verified_offline_and_its_frames_audited() {
    let mut dice = Dice::new(5);
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    // Both flows, and reports.
    side_a.tiers.insert("Lead".to_owned(), Tier::Count);
    side_b.tiers.insert("Deal".to_owned(), Tier::Count);
    side_a.rows = rows(&mut dice, "a", 90, 80);
    side_b.rows = rows(&mut dice, "b", 120, 80);
    let (mut a, mut b) = (recording("Acme"), recording("Globex"));
    connect(&a, &b);
    a.import(&csv(&side_a.rows));
    b.import(&csv(&side_b.rows));
    agree((&a, &policy_file(&side_a)), (&b, &policy_file(&side_b)));
    run_match(&a, &b);

    let ((file_a, of_a), (file_b, of_b)) = (export(&a), export(&b));
    // Both nodes state the same, each from its side.
    for (mine, theirs) in [("mine", "theirs"), ("my_key", "their_key")] {
        assert_eq!(of_a[mine], of_b[theirs]);
        assert_eq!(of_a[theirs], of_b[mine]);
    }
    assert_eq!(of_a["session"], of_b["session"]);
    assert_eq!(
        (&of_a["initiated_here"], &of_b["initiated_here"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        a.run(["receipts", "list", "Globex"]).lines().count(),
        2,
        "a header and the run"
    );
    p_roles_other_than_administrators_are_refused(&a, &text(&of_a["run"]));
    let kept = [recordings(&a), recordings(&b)].concat();
    assert_eq!(kept.len(), 2);
    let copies: Vec<PathBuf> = kept
        .iter()
        .enumerate()
        .map(|(index, path)| {
            owner_only(path);
            let copy = file_a.with_file_name(format!("frames-{index}"));
            fs::copy(path, &copy).unwrap();
            copy
        })
        .collect();
    for node in [&mut a, &mut b] {
        node.kill();
    }

    let (key_a, key_b) = (text(&of_a["my_key"]), text(&of_b["my_key"]));
    let queries = |side: &Value| {
        side["list_queries"].as_u64().unwrap() + side["count_queries"].as_u64().unwrap()
    };
    for (file, keys, frames) in [
        (&file_a, [&*key_a, &*key_b], &copies[0]),
        (&file_b, [&*key_b, &*key_a], &copies[1]),
        // Either side's recording is of the same run.
        (&file_a, [&*key_a, &*key_b], &copies[1]),
    ] {
        let verdict = accepted(&mut verify(file, keys, None));
        assert_eq!(verdict["statement"]["session"], of_a["session"]);
        let verdict = accepted(&mut verify(file, keys, Some(frames)));
        let checked = &verdict["frames"];
        let (mine, theirs) = (
            &verdict["statement"]["mine"],
            &verdict["statement"]["theirs"],
        );
        // Each side queries its count tier, and one of them its list tier as well.
        let count = |side: &Value| side["count_queries"].as_u64().unwrap();
        let elements = checked["elements"].as_u64().unwrap();
        assert!(
            [queries(mine) + count(theirs), count(mine) + queries(theirs)].contains(&elements),
            "{verdict}"
        );
        let frames = |side: &Value| side["frames"].as_u64().unwrap();
        assert_eq!(checked["frames"], frames(mine) + frames(theirs));
        assert_eq!(checked["chunks"], 2);
        assert_eq!(checked["reports"], 2);
        assert_eq!(checked["slices"], 2);
    }
    let line = refusal(&mut verify(&file_a, [&key_b, &key_a], None));
    assert!(line.contains("wrong key"), "{line}");
    let line = refusal(&mut verify(&file_a, [&key_a, &key_b], Some(&file_a)));
    assert!(line.contains("none of a run's frames"), "{line}");

    z09_whatever_is_changed_in_a_recording_is_noticed(
        &fs::read_to_string(&file_a).unwrap(),
        &fs::read(&copies[0]).unwrap(),
        [&key_a, &key_b],
    );

    // Recordings go with the permissions they were made under; receipts stay.
    a.start();
    b.start();
    a.run(["sharing", "revoke", "Globex", "--yes"]);
    wait("recordings go", || recordings(&a).is_empty());
    wait("the partner's recordings go", || recordings(&b).is_empty());
    export(&a);
}

fn p_roles_other_than_administrators_are_refused(node: &Node, run: &str) {
    let address = text(&node.addresses()["api"]);
    for role in ["PARTNER_MANAGER", "MEMBER", "PARTNER_ADMIN"] {
        let token = node.json(["token", "create", role, "--role", role]);
        let file = node.write("token", text(&token["secret"]));
        for arguments in [
            vec!["receipts", "list"],
            vec!["receipts", "export", run, "--file", "-"],
        ] {
            let mut command = overlap();
            command
                .args(["--node", &format!("http://{address}")])
                .args(["--token-file", file.to_str().unwrap()])
                .args(arguments);
            if role == "PARTNER_ADMIN" {
                assert!(command.output().unwrap().status.success());
            } else {
                assert!(refusal(&mut command).ends_with("[ROLE_NOT_ALLOWED]"));
            }
        }
    }
}

fn owner_only(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
}

/// The entries of a recording.
fn entries(recording: &[u8]) -> Vec<Range<usize>> {
    let mut entries = Vec::new();
    let mut at = 8;
    while at < recording.len() {
        let length = u32::from_be_bytes(recording[at + 11..at + 15].try_into().unwrap());
        let end = at + 15 + length as usize;
        entries.push(at..end);
        at = end;
    }
    assert_eq!(at, recording.len());
    entries
}

fn z09_whatever_is_changed_in_a_recording_is_noticed(
    file: &str,
    recording: &[u8],
    keys: [&str; 2],
) {
    let file = ReceiptFile::parse(file).unwrap();
    let keys = keys.map(|key| <[u8; 32]>::try_from(hex::decode(key).unwrap()).unwrap());
    let audit = |recording: &[u8]| -> Verdict {
        file.verify_frames(&keys[0], &keys[1], recording).unwrap()
    };
    assert!(audit(recording).valid);
    let entries = entries(recording);
    let kind = |entry: &Range<usize>| recording[entry.start + 2];
    // Acknowledgements are outside the chains and bind nobody.
    const ACK: u8 = 7;
    const RECEIPT: u8 = 4;
    for entry in entries.iter().filter(|entry| kind(entry) != ACK) {
        let body = entry.start + 15;
        // Sender, flow, kind, number; the first, a middle and the last byte of the body.
        let last = entry.end - 1;
        let mut places = vec![0, 1, 2, 10, body - entry.start, last - entry.start];
        places.push((body + last) / 2 - entry.start);
        for place in places {
            let mut changed = recording.to_vec();
            changed[entry.start + place] ^= 1;
            let verdict = audit(&changed);
            assert!(!verdict.valid, "kind {}, byte {place}", kind(entry));
        }
        let without = [&recording[..entry.start], &recording[entry.end..]].concat();
        assert!(!audit(&without).valid, "kind {} left out", kind(entry));
        let twice = [&recording[..entry.end], &recording[entry.start..]].concat();
        // A connection that is named twice changes nothing, nor does what a side says after its receipt.
        assert_eq!(
            audit(&twice).valid,
            [0, RECEIPT].contains(&kind(entry)),
            "kind {}",
            kind(entry)
        );
    }
    for cut in [0, 4, 8, 20, recording.len() / 2, recording.len() - 1] {
        assert!(!audit(&recording[..cut]).valid, "cut at {cut}");
    }
    // What is wrong is named.
    let tampered = |wanted: u8| {
        let entry = entries.iter().find(|entry| kind(entry) == wanted).unwrap();
        let mut changed = recording.to_vec();
        changed[entry.start + 15 + 40] ^= 1;
        audit(&changed).problems.join("; ")
    };
    for (kind, problem) in [
        (2, "SIGNATURE_INVALID"),
        (3, "SIGNATURE_INVALID"),
        (19, "COMMITMENT_MISMATCH"),
        (20, "transcript root is not that of the receipts"),
    ] {
        let found = tampered(kind);
        assert!(found.contains(problem), "kind {kind}: {found}");
    }
    // An element of an answer for another: each is one, so that only the proof shows it.
    let entry = entries.iter().find(|entry| kind(entry) == 17).unwrap();
    let mut swapped = recording.to_vec();
    let first = entry.start + 15 + 8;
    for offset in 0..32 {
        swapped.swap(first + offset, first + 32 + offset);
    }
    let found = audit(&swapped).problems.join("; ");
    assert!(found.contains("PROOF_INVALID"), "{found}");
}

/// A recording that reaches its limit says so, and the run goes on.
#[test]
fn z09_a_recording_is_bounded_and_old_ones_go() {
    let mut dice = Dice::new(6);
    let (mut side_a, mut side_b) = (all(Tier::List), all(Tier::List));
    side_a.rows = rows(&mut dice, "a", 40, 40);
    side_b.rows = rows(&mut dice, "b", 40, 40);
    let mut a = Node::init("Acme");
    let path = a.dir().join("overlapd.toml");
    let config = fs::read_to_string(&path).unwrap();
    let config = config
        .replace("record_frames = false", "record_frames = true")
        .replace(
            "max_recording_bytes = 1073741824",
            "max_recording_bytes = 2000",
        )
        .replace("keep_recordings = 10", "keep_recordings = 2");
    fs::write(&path, &config).unwrap();
    assert!(config.contains("= 2000") && config.contains("keep_recordings = 2"));
    a.start();
    let b = Node::new("Globex");
    connect(&a, &b);
    a.import(&csv(&side_a.rows));
    b.import(&csv(&side_b.rows));
    agree((&a, &policy_file(&side_a)), (&b, &policy_file(&side_b)));
    for _ in 0..3 {
        run_match(&a, &b);
    }
    wait("two recordings are kept", || recordings(&a).len() == 2);
    assert_eq!(recordings(&b), [""; 0].map(PathBuf::from));
    let newest = text(&a.json(["runs", "Globex"])[0]["id"]);
    let frames = recordings(&a)
        .into_iter()
        .find(|path| path.file_stem().unwrap() == newest.as_str())
        .unwrap();
    assert!(fs::metadata(&frames).unwrap().len() <= 2000);
    let file = a.write("receipt.json", "");
    a.run([
        "receipts",
        "export",
        &newest,
        "--file",
        file.to_str().unwrap(),
    ]);
    let receipt = &a.json(["receipts", "list"])[0];
    let keys = [text(&receipt["my_key"]), text(&receipt["their_key"])];
    let line = refusal(&mut verify(&file, [&keys[0], &keys[1]], Some(&frames)));
    assert!(line.contains("the recording stops early"), "{line}");
}
