//! Runs between two drivers, written down with every secret, so that `docs/vectors/replay.py` can derive them anew from
//! docs/PROTOCOL.md: a full one with every flow, and a full one with the delta runs that go on from it. On generated data, and in the library's own tests only: nothing of it is in a program.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../tests/oracle/mod.rs"]
mod oracle;

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::SignedDuration;
use overlap_crypto::{
    audit::Audit,
    backend::Backend,
    handshake::Mode,
    receipt::SignedReceipt,
    recording::{EntryHeader, HEADER_BYTES, MAGIC},
    signature::Signer as _,
};
use serde_json::{Value, json};

use self::oracle::{
    Row, Side, Tier, Type,
    harness::{PARTNERSHIP, TestNode, links},
    world::{agreement, email, phone, row, side},
};
use super::{
    compute::noted_seeds,
    driver::{Completed, DeltaRule, drive},
    keys,
    recording::{self, RecordingRules},
    terms::RunTerms,
};
use crate::{identity::Vault, sharing::policy::Agreement};

/// Writes a document where the replay looks for it; `OVERLAP_REPLAY` names another folder than `target`.
fn write(name: &str, document: &Value) {
    let folder = std::env::var_os("OVERLAP_REPLAY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_string(document).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

/// One row a number, with an e-mail address, and each third with a telephone number as well.
fn people(prefix: &str, stage: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<Row> {
    let keys = |number: u64| {
        let mut keys = vec![email(number)];
        if number.is_multiple_of(3) {
            keys.push(phone(number));
        }
        keys
    };
    numbers
        .into_iter()
        .map(|number| row(&format!("{prefix}{number}"), stage, &keys(number)))
        .collect()
}

fn company(tiers: &[(&str, Tier)], rows: Vec<Vec<Row>>) -> Side {
    Side {
        tiers: tiers
            .iter()
            .map(|(stage, tier)| ((*stage).to_owned(), *tier))
            .collect(),
        match_on: [Type::Email, Type::Phone].into(),
        min_count: 3,
        rows: rows.concat(),
        ..side()
    }
}

/// Every kind of cell: listed, reported, suppressed by itself and with its column, counted, withheld.
fn companies() -> [Side; 2] {
    let a = company(
        &[
            ("Customer", Tier::List),
            ("Lead", Tier::List),
            ("Prospect", Tier::Count),
            ("Lost", Tier::Hidden),
        ],
        vec![
            people("a", "Customer", 0..20),
            people("a", "Lead", 300..340),
            people("a", "Prospect", 100..130),
            people("a", "Lost", 500..510),
        ],
    );
    let b = company(
        &[
            ("Customer", Tier::List),
            ("Lead", Tier::Count),
            ("Deal", Tier::Count),
            ("Churned", Tier::Hidden),
        ],
        vec![
            people("b", "Customer", 10..25),
            people("b", "Customer", 100..110),
            people("b", "Customer", 200..240),
            people("b", "Lead", 310..312),
            people("b", "Deal", 0..6),
            people("b", "Deal", 300..304),
            people("b", "Deal", 120..140),
            people("b", "Churned", 330..335),
        ],
    );
    [a, b].map(|side| Side {
        count_by_count: true,
        ..side
    })
}

/// Takes these customers out.
fn remove(side: &mut Side, ids: &[&str]) {
    let before = side.rows.len();
    side.rows.retain(|row| !ids.contains(&row.id.as_str()));
    assert_eq!(before - side.rows.len(), ids.len(), "{ids:?}");
}

/// Moves these customers to another stage.
fn restage(side: &mut Side, stage: &str, ids: &[&str]) {
    for id in ids {
        let row = side.rows.iter_mut().find(|row| row.id == *id).unwrap();
        stage.clone_into(&mut row.stage);
    }
}

/// Gives a customer other keys.
fn rekey(side: &mut Side, id: &str, number: u64) {
    let row = side.rows.iter_mut().find(|row| row.id == id).unwrap();
    row.keys = [email(number)].into();
}

/// Two companies as they are at a full run and at the delta runs after it. Without the count flow, which is never a delta. Large
/// enough that most labels are not said anew.
fn changing_companies() -> [[Side; 2]; 3] {
    let mut a = company(
        &[
            ("Customer", Tier::List),
            ("Lead", Tier::List),
            ("Prospect", Tier::Count),
            ("Lost", Tier::Hidden),
        ],
        vec![
            people("a", "Customer", 0..40),
            people("a", "Lead", 300..330),
            people("a", "Lead", 10_000..11_300),
            people("a", "Prospect", 100..130),
            people("a", "Lost", 400..405),
        ],
    );
    let mut b = company(
        &[
            ("Customer", Tier::List),
            ("Deal", Tier::List),
            ("Lead", Tier::Count),
        ],
        vec![
            people("b", "Customer", 10..60),
            people("b", "Customer", 100..112),
            people("b", "Customer", 11_200..12_600),
            people("b", "Deal", 200..230),
            people("b", "Lead", 310..325),
            people("b", "Lead", 0..8),
        ],
    );
    let first = [a.clone(), b.clone()];

    // Customers that go, come, move within the list tier and between the tiers, out of sight, and change their keys.
    remove(&mut a, &["a12", "a13"]);
    a.rows.extend(people("a", "Customer", 205..209));
    restage(&mut a, "Lead", &["a14", "a15"]);
    restage(&mut a, "Prospect", &["a16"]);
    restage(&mut a, "Customer", &["a100"]);
    restage(&mut a, "Lost", &["a18"]);
    restage(&mut a, "Customer", &["a11200", "a11201", "a11202"]);
    restage(&mut a, "Prospect", &["a11203"]);
    a.rows.extend(people("a", "Lead", 11_900..11_940));
    rekey(&mut a, "a17", 217);
    remove(&mut b, &["b20", "b21"]);
    b.rows.extend(people("b", "Customer", 305..308));
    restage(&mut b, "Deal", &["b22", "b23"]);
    restage(&mut b, "Lead", &["b24"]);
    restage(&mut b, "Customer", &["b311"]);
    rekey(&mut b, "b25", 1000);
    let second = [a.clone(), b.clone()];

    // Some of it back, and more; enough prospects that the reported counts may change.
    a.rows.extend(people("a", "Customer", [12]));
    restage(&mut a, "Customer", &["a14", "a16"]);
    restage(&mut a, "Prospect", &["a100"]);
    restage(&mut a, "Customer", &["a18", "a11203", "a11204"]);
    remove(&mut a, &["a11205", "a11901"]);
    a.rows.extend(people("a", "Prospect", [40, 41, 42, 43]));
    b.rows.extend(people("b", "Deal", [20]));
    restage(&mut b, "Customer", &["b24"]);
    restage(&mut b, "Lead", &["b311", "b305"]);
    b.rows.extend(people("b", "Customer", 2_000..2_010));
    remove(&mut b, &["b205", "b101"]);
    rekey(&mut b, "b25", 25);
    [first, second, [a, b]]
}

fn side_json(node: &TestNode, seed: u8, side: &Side) -> Value {
    let folder = node.directory.path();
    let keys = keys::load(&keys::directory(folder, PARTNERSHIP), &Vault::plain())
        .unwrap()
        .unwrap();
    let handles = keys.handle_key();
    let (record, _) = node.open_result();
    let salt: [u8; 32] = node
        .store
        .read_blocking(|connection| {
            let sql = "SELECT result_salt FROM matching_receipts WHERE run_id = ?";
            Ok(connection.query_row(sql, [&record.run_id], |row| row.get(0))?)
        })
        .unwrap();
    let customers: Vec<Value> = side
        .rows
        .iter()
        .map(|row| {
            let keys: Vec<Value> = row
                .keys
                .iter()
                .map(|(key_type, value)| json!([*key_type as u8 + 1, value]))
                .collect();
            json!({
                "id": row.id,
                "stage": row.stage,
                "keys": keys,
                "pseudonym": hex::encode(handles.handle(&row.id)),
            })
        })
        .collect();
    let view = node.view();
    let cells: Vec<Value> = view
        .cells
        .iter()
        .map(|((mine, theirs), (state, count))| json!([mine, theirs, state, count]))
        .collect();
    let shared: Vec<Value> = view
        .shared
        .iter()
        .map(|shared| json!([shared.id, shared.mine, shared.theirs]))
        .collect();
    let frames = fs::read(recording::path(folder, PARTNERSHIP, &record.run_id)).unwrap();
    json!({
        "ed25519_seed": hex::encode([seed; 32]),
        "epoch": keys.epoch,
        "voprf_secret_key": hex::encode(keys.secret.as_ref()),
        "customers": customers,
        "recording": hex::encode(frames),
        "result_salt": hex::encode(salt),
        "result": hex::encode(record.committed_bytes().unwrap()),
        "cells": cells,
        "shared": shared,
        "shared_customers": view.shared_customers,
    })
}

/// The recording of the result in force passes the audit against both receipts, which say as the frames do whether it is of a
/// delta run.
fn assert_audited(node: &TestNode, partner: &TestNode, delta: bool) {
    let (record, _) = node.open_result();
    let receipts: [Vec<u8>; 2] =
        node.store
            .read_blocking(|connection| {
                let sql = "SELECT own, peer FROM matching_receipts WHERE run_id = ?";
                Ok(connection
                    .query_row(sql, [&record.run_id], |row| Ok([row.get(0)?, row.get(1)?]))?)
            })
            .unwrap();
    let [own, theirs] = receipts.map(|bytes| SignedReceipt::decode(&bytes).unwrap());
    let mut sides = [
        (own, node.signer.public_key()),
        (theirs, partner.signer.public_key()),
    ];
    sides.sort_by_key(|(receipt, _)| receipt.receipt.signer.code());
    for (receipt, key) in &sides {
        receipt.verify(key).unwrap();
        assert_eq!(receipt.receipt.mode == Mode::Delta, delta);
    }
    let path = recording::path(node.directory.path(), PARTNERSHIP, &record.run_id);
    let file = fs::read(path).unwrap();
    let mut rest = file.strip_prefix(MAGIC).unwrap();
    let mut audit = Audit::new(
        Backend::detect(),
        sides.map(|(_, key)| key),
        sides.map(|(receipt, _)| receipt),
    );
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let header = EntryHeader::decode(header).unwrap();
        let (body, after) = after.split_at(header.body_bytes as usize);
        audit.entry(&header.kind, body);
        rest = after;
    }
    let report = audit.finish();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.delta, delta);
}

fn agreed(mine: &Side, theirs: &Side) -> Agreement {
    let mut agreement = agreement(mine, theirs);
    // So that there are padding queries and padding tags.
    agreement.mine.padding = 32;
    agreement.theirs.padding = 32;
    agreement
}

/// Two nodes that record their runs; the first is organisation 1.
fn nodes() -> [TestNode; 2] {
    [1, 2].map(|number| {
        let mut node = TestNode::new(number);
        node.settings.deltas = DeltaRule::Always;
        node.settings.recording = Some(RecordingRules {
            max_bytes: 1 << 24,
            keep: 1,
        });
        node
    })
}

/// Runs, and describes the run with every secret. `order` has the initiator first.
async fn recorded(
    nodes: &[TestNode; 2],
    sides: &[Side; 2],
    order: [usize; 2],
    number: u8,
) -> (Value, [Completed; 2]) {
    let [one, other] = order;
    let before = noted_seeds().len();
    let (link_a, link_b) = links(number);
    let run_a = nodes[one].run(&nodes[other], agreed(&sides[one], &sides[other]));
    let run_b = nodes[other].run(&nodes[one], agreed(&sides[other], &sides[one]));
    let terms = RunTerms::new(
        &run_a.agreement,
        run_a.parties.me(),
        run_a.parties.partner(),
        &run_a.settings.rules,
    )
    .unwrap();
    let (done_a, done_b) = tokio::join!(
        tokio::spawn(drive(run_a, link_a)),
        tokio::spawn(drive(run_b, link_b))
    );
    let done = [done_a.unwrap().unwrap(), done_b.unwrap().unwrap()];
    let seeds: Vec<String> = noted_seeds()[before..].iter().map(hex::encode).collect();
    assert!(seeds.len() > 8, "every generator's seed is noted");
    let party = |at: usize| side_json(&nodes[at], u8::try_from(at).unwrap() + 1, &sides[at]);
    let document = json!({
        "exporter": hex::encode([number; 32]),
        "clock": nodes[0].clock_now(),
        "release_interval_s": nodes[0].settings.releases.cell_s,
        "terms": hex::encode(terms.terms.encode()),
        "generator_seeds": seeds,
        "sides": [party(one), party(other)],
    });
    (document, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn z09_a_run_with_its_secrets_for_another_implementation_to_replay() {
    let (nodes, sides) = (nodes(), companies());
    for (node, side) in nodes.iter().zip(&sides) {
        node.import(&side.rows);
    }
    let (document, _) = recorded(&nodes, &sides, [0, 1], 7).await;
    for (mine, theirs) in [(0, 1), (1, 0)] {
        let expected = oracle::view(&sides[mine], &sides[theirs]).without_hidden();
        assert_eq!(nodes[mine].view(), expected);
    }
    write("replay.json", &json!({ "runs": [document] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn z09_delta_runs_with_their_secrets_for_another_implementation_to_replay() {
    let nodes = nodes();
    let mut documents = Vec::new();
    // Started by one side, by the other, and again by the one. A week lies before the last: its reports may change.
    for ((number, sides), (order, days)) in
        (1..)
            .zip(changing_companies())
            .zip([([0, 1], 0), ([1, 0], 1), ([0, 1], 8)])
    {
        for (node, side) in nodes.iter().zip(&sides) {
            node.import(&side.rows);
            node.clock.advance(SignedDuration::from_hours(24 * days));
        }
        let (document, done) = recorded(&nodes, &sides, order, number).await;
        for completed in &done {
            assert_eq!(completed.full, number == 1, "run {number}");
        }
        for (mine, theirs) in [(0, 1), (1, 0)] {
            let expected = oracle::view(&sides[mine], &sides[theirs]).without_hidden();
            assert_eq!(nodes[mine].view().shared, expected.shared, "run {number}");
            assert_audited(&nodes[mine], &nodes[theirs], number > 1);
        }
        documents.push(document);
    }
    write("replay-delta.json", &json!({ "runs": documents }));
}
