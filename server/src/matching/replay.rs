//! A run between two drivers, written down with every secret, so that `docs/vectors/replay.py` can derive it anew from
//! docs/PROTOCOL.md. On generated data, and in the library's own tests only: nothing of it is in a program.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../tests/oracle/mod.rs"]
mod oracle;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use self::oracle::{
    Row, Side, Tier, Type,
    harness::{PARTNERSHIP, TestNode, links},
    world::{agreement, email, phone, row, side},
};
use super::{
    compute::noted_seeds,
    driver::drive,
    keys,
    recording::{self, RecordingRules},
    terms::RunTerms,
};
use crate::{identity::Vault, sharing::policy::Agreement};

/// Where the run is written to; `OVERLAP_REPLAY` names another file.
fn output() -> PathBuf {
    std::env::var_os("OVERLAP_REPLAY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/replay.json"),
        PathBuf::from,
    )
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

/// Every kind of cell: listed, reported, suppressed by itself and with its column, counted, withheld.
fn companies() -> (Side, Side) {
    let company = |tiers: [(&str, Tier); 4], rows: Vec<Vec<Row>>| Side {
        tiers: tiers.map(|(stage, tier)| (stage.to_owned(), tier)).into(),
        match_on: [Type::Email, Type::Phone].into(),
        min_count: 3,
        count_by_count: true,
        rows: rows.concat(),
        ..side()
    };
    let a = company(
        [
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
        [
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
    (a, b)
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
            let sql = "SELECT result_salt FROM matching_receipts";
            Ok(connection.query_row(sql, [], |row| row.get(0))?)
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

fn agreed(mine: &Side, theirs: &Side) -> Agreement {
    let mut agreement = agreement(mine, theirs);
    // So that there are padding queries and padding tags.
    agreement.mine.padding = 32;
    agreement.theirs.padding = 32;
    agreement
}

#[tokio::test(flavor = "multi_thread")]
async fn z09_a_run_with_its_secrets_for_another_implementation_to_replay() {
    let (side_a, side_b) = companies();
    let (mut a, mut b) = (TestNode::new(1), TestNode::new(2));
    for (node, side) in [(&mut a, &side_a), (&mut b, &side_b)] {
        node.import(&side.rows);
        node.settings.recording = Some(RecordingRules {
            max_bytes: 1 << 24,
            keep: 1,
        });
    }
    let (link_a, link_b) = links(7);
    let run_a = a.run(&b, agreed(&side_a, &side_b));
    let run_b = b.run(&a, agreed(&side_b, &side_a));
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
    done_a.unwrap().unwrap();
    done_b.unwrap().unwrap();
    assert_eq!(a.view(), oracle::view(&side_a, &side_b).without_hidden());
    assert_eq!(b.view(), oracle::view(&side_b, &side_a).without_hidden());
    let seeds: Vec<String> = noted_seeds().iter().map(hex::encode).collect();
    assert!(seeds.len() > 8, "every generator's seed is noted");
    let document = json!({
        "description": "A run of generated companies with every secret. Side 0 is the initiator, side 1 the acceptor.",
        "exporter": hex::encode([7; 32]),
        "clock": a.clock_now(),
        "terms": hex::encode(terms.terms.encode()),
        "generator_seeds": seeds,
        "sides": [side_json(&a, 1, &side_a), side_json(&b, 2, &side_b)],
    });
    let path = output();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, serde_json::to_string(&document).unwrap()).unwrap();
}
