//! The sample customers of deploy/samples: they import, and overlap as described there.

use std::collections::{BTreeMap, HashMap};

use overlap_crypto::terms::KeyType;
use overlap_server::{
    clock::MockClock,
    customers::{
        import::{ImportOptions, ImportSummary, import_file},
        rows::{self, Disclosure},
    },
    storage::Store,
};

fn import(name: &str) -> (tempfile::TempDir, Store, ImportSummary) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path()).expect("a new store opens");
    let clock = MockClock::new("2026-03-01T00:00:00Z".parse().expect("a valid time"));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/samples")
        .join(name);
    let summary = import_file(
        &store,
        &clock,
        &path,
        None,
        &ImportOptions::default(),
        &mut |_| (),
    )
    .expect("the sample is imported");
    (directory, store, summary)
}

/// Every key with its row's id and stage.
fn keys(store: &Store) -> HashMap<(KeyType, String), (String, String)> {
    let disclosure = Disclosure {
        stages: &["Prospect", "Lead", "Deal", "Customer", "Lost", "Churned"],
        key_types: &KeyType::ALL,
        domain_from_email: false,
    };
    let mut keys = HashMap::new();
    store
        .read_blocking(|connection| {
            rows::scan_disclosed(connection, &disclosure, &mut |row| {
                for key in row.keys {
                    keys.insert(key.clone(), (row.id.to_owned(), row.stage.to_owned()));
                }
                Ok(())
            })
        })
        .expect("the store is read");
    keys
}

#[test]
fn the_samples_overlap_as_their_readme_says() {
    let (_a, aurora, summary) = import("aurora-customers.csv");
    assert_eq!(
        (summary.inserted, summary.field_columns),
        (86, vec!["plan".to_owned()])
    );
    assert_eq!(
        summary.unusable_identifiers,
        [("FREE_MAIL_DOMAIN", 1)].into()
    );
    let (_b, borealis, summary) = import("borealis-customers.csv");
    assert_eq!(
        (summary.inserted, summary.field_columns),
        (80, vec!["billing".to_owned()])
    );
    assert_eq!(
        summary.unusable_identifiers,
        [("DISPOSABLE_DOMAIN", 1)].into()
    );
    let theirs = keys(&borealis);
    let mut shared = BTreeMap::new();
    for (key, (id, mine)) in keys(&aurora) {
        if let Some((_, other)) = theirs.get(&key) {
            shared.insert(id, (mine, other.clone()));
        }
    }
    let mut cells: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for (mine, other) in shared.values() {
        *cells.entry((mine, other)).or_default() += 1;
    }
    let expected = [
        (("Customer", "Churned"), 2),
        (("Customer", "Customer"), 12),
        (("Customer", "Prospect"), 9),
        (("Deal", "Customer"), 3),
        (("Deal", "Lead"), 7),
        (("Lead", "Deal"), 6),
        (("Lost", "Customer"), 2),
        (("Prospect", "Customer"), 10),
        (("Prospect", "Prospect"), 5),
    ];
    assert_eq!(cells.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(shared.len(), 56);
}

#[test]
fn the_ndjson_sample_is_imported() {
    let (_directory, _store, summary) = import("customers.ndjson");
    assert_eq!(summary.inserted, 3);
    assert!(summary.unusable_identifiers.is_empty());
}
