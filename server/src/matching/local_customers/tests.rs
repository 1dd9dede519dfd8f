use std::collections::BTreeMap;

use super::*;
use crate::{
    error::Reason,
    identity::Vault,
    matching::keys,
    sharing::policy::{Policy, Stage, StageCategory},
};

pub(crate) fn tiers() -> StageTiers {
    let stage = |id: &str, ordinal| Stage {
        id: id.to_owned(),
        label: String::new(),
        ordinal,
        category: StageCategory::Open,
    };
    let policy = Policy {
        tiers: BTreeMap::from([
            ("Prospect".to_owned(), Tier::List),
            ("Customer".to_owned(), Tier::Count),
        ]),
        shared_fields: Vec::new(),
        timeline: false,
        match_on: vec![KeyType::Email],
        domain_from_email: false,
        min_count: 5,
        count_by_count: false,
        label_field_bytes: 0,
        padding: 0,
        max_evaluations_per_epoch: 1,
        min_interval_s: 0,
    };
    StageTiers::new(
        &[
            stage("Customer", 40),
            stage("Prospect", 10),
            stage("Lost", 50),
        ],
        &policy,
    )
    .unwrap()
}

const LIMITS: SnapshotLimits = SnapshotLimits {
    max_keys: 1_000,
    sort_bytes: 1 << 16,
};

fn build(rows: &[(&str, &str, &[&str])]) -> (LocalCustomers, Vec<(u32, String)>) {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(tiers(), None, directory.path(), [7; 16], LIMITS).unwrap();
    for (id, stage, emails) in rows {
        let keys: Vec<_> = emails
            .iter()
            .map(|email| (KeyType::Email, (*email).to_owned()))
            .collect();
        builder.push(id, stage, &keys).unwrap();
    }
    let snapshot = builder.finish().unwrap();
    let mut keys = Vec::new();
    let mut reader = snapshot.keys().unwrap();
    while let Some(key) = reader.next_key().unwrap() {
        keys.push((key.customer, key.value.to_owned()));
    }
    drop(reader);
    keys.sort();
    (snapshot, keys)
}

#[test]
fn p06_rows_that_share_a_key_are_one_customer_of_the_highest_stage() {
    let (snapshot, keys) = build(&[
        ("a", "Prospect", &["x", "y"]),
        ("b", "Customer", &["y", "z"]),
        ("c", "Customer", &["z"]),
        ("d", "Prospect", &["w"]),
        ("e", "Prospect", &[]),
    ]);
    // a-b-c are one: b and c are of the highest stage, b is first.
    assert_eq!(
        (0..5).map(|row| snapshot.customer(row)).collect::<Vec<_>>(),
        [1, 1, 1, 3, 4]
    );
    let expected = [(1, "x"), (1, "y"), (1, "z"), (3, "w")];
    assert_eq!(keys, expected.map(|(c, v)| (c, v.to_owned())));
    assert_eq!(snapshot.tier(1), Tier::Count);
    assert_eq!(snapshot.key_counts(), KeyCounts { list: 1, count: 3 });
    // Prospect, Customer, Lost: the row without keys does not count.
    assert_eq!(snapshot.customers_by_stage(), [1, 1, 0]);
}

#[test]
fn p06_a_key_on_33_rows_is_not_used() {
    let ids: Vec<String> = (0..65).map(|i| format!("{i:02}")).collect();
    let rows: Vec<(&str, &str, &[&str])> = ids
        .iter()
        .enumerate()
        .map(|(i, id)| {
            let keys: &[&str] = if i < 32 { &["on32"] } else { &["on33"] };
            (id.as_str(), "Prospect", keys)
        })
        .collect();
    let (snapshot, keys) = build(&rows);
    assert_eq!(keys, [(0, "on32".to_owned())]);
    assert_eq!(snapshot.ambiguous_keys(), 1);
    assert_eq!(snapshot.customer(31), 0);
    assert_eq!(snapshot.customer(33), 33);
}

#[test]
fn p10_a_hidden_row_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(tiers(), None, directory.path(), [7; 16], LIMITS).unwrap();
    let error = builder.push("a", "Lost", &[]).unwrap_err();
    assert_eq!(error.reason(), Reason::Internal);
}

#[test]
fn a_set_over_the_limit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(tiers(), None, directory.path(), [7; 16], LIMITS).unwrap();
    let keys: Vec<_> = (0..1_001)
        .map(|i| (KeyType::Email, i.to_string()))
        .collect();
    let error = builder.push("a", "Prospect", &keys).unwrap_err();
    assert_eq!(error.reason(), Reason::SetTooLarge);
}

#[test]
fn a_key_carries_the_handle_of_the_row_that_names_its_customer() {
    let base = tempfile::tempdir().unwrap();
    let vault = Vault::sealing([9; 32]);
    let now = jiff::Timestamp::from_second(1_000).unwrap();
    let keys = keys::current_or_new(base.path(), &vault, &[1; 32], now, 0, || {
        Ok(zeroize::Zeroizing::new([1; 32]))
    })
    .unwrap();
    let handles = keys.handle_key();
    // a and b share y, and so do d and e share v; e is counted, and its stage is the higher.
    let rows = [
        ("a", "Prospect", &["x", "y"][..]),
        ("b", "Prospect", &["y", "z"]),
        ("c", "Prospect", &["w"]),
        ("d", "Prospect", &["u", "v"]),
        ("e", "Customer", &["v"]),
    ];
    let mut builder = Builder::new(tiers(), Some(&handles), base.path(), [7; 16], LIMITS).unwrap();
    for (id, stage, emails) in rows {
        let keys: Vec<_> = emails
            .iter()
            .map(|email| (KeyType::Email, (*email).to_owned()))
            .collect();
        builder.push(id, stage, &keys).unwrap();
    }
    let snapshot = builder.finish().unwrap();
    let mut found = BTreeMap::new();
    let mut previous = [0; GROUP_BYTES];
    let mut reader = snapshot.keys().unwrap();
    while let Some(key) = reader.next_key().unwrap() {
        assert_eq!(*key.hash, key_hash(&[7; 16], key.key_type, key.value));
        assert!(
            previous < *key.hash,
            "keys come in the order of their hashes"
        );
        previous = *key.hash;
        let reference = key.reference();
        assert_eq!(
            KeyRef::from_bytes(&reference.to_bytes()).unwrap(),
            reference
        );
        found.insert(key.value.to_owned(), (key.customer, key.stage, key.handle));
    }
    let (a, c) = (handles.handle("a"), handles.handle("c"));
    let expected = [
        ("u", (4, 1, [0; 16])),
        ("v", (4, 1, [0; 16])),
        ("w", (2, 0, c)),
        ("x", (0, 0, a)),
        ("y", (0, 0, a)),
        ("z", (0, 0, a)),
    ];
    assert_eq!(found, expected.map(|(v, k)| (v.to_owned(), k)).into());
}
