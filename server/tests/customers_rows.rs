//! What matching and the readers of single customers see.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use overlap_crypto::terms::KeyType;
use overlap_server::{
    clock::MockClock,
    customers::{
        files::Format,
        import::{ImportOptions, Source, bring_keys_up_to_date, import_reader},
        rows::{self, Change, Disclosure},
    },
    error::{Error, Reason},
    storage::Store,
};

struct Node {
    _directory: tempfile::TempDir,
    store: Store,
    clock: MockClock,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a new store opens");
        let start: Timestamp = "2026-03-01T00:00:00Z".parse().expect("a valid time");
        Self {
            _directory: directory,
            store,
            clock: MockClock::new(start),
        }
    }

    fn import(&self, csv: &str, replace_all: bool) {
        let options = ImportOptions {
            replace_all,
            ..ImportOptions::default()
        };
        import_reader(
            &self.store,
            &self.clock,
            Source {
                file: "f.csv",
                format: Format::Csv,
                reader: &mut csv.as_bytes(),
                total_bytes: None,
            },
            &options,
            &mut |_| (),
        )
        .expect("the file is imported");
    }

    fn execute(&self, sql: &str) {
        self.store
            .write_blocking(|transaction| Ok(transaction.execute_batch(sql)?))
            .expect("the statement runs");
    }

    fn scan(&self, disclosure: &Disclosure<'_>) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        self.store.read_blocking(|connection| {
            rows::scan_disclosed(connection, disclosure, &mut |row| {
                let keys: Vec<String> = row
                    .keys
                    .iter()
                    .map(|(key_type, key)| format!("{}={key}", key_type.name()))
                    .collect();
                found.push(format!("{} {} {}", row.id, row.stage, keys.join(" ")));
                Ok(())
            })
        })?;
        Ok(found)
    }

    fn changes(&self, since: u64, stages: &[&str]) -> Result<(u64, Vec<String>), Error> {
        let (seq, found) = self.first_changes(usize::MAX, since, stages)?;
        Ok((seq.expect("the scan was not ended"), found))
    }

    /// The first changes, at most so many; the scan is ended by the last of them.
    fn first_changes(
        &self,
        most: usize,
        since: u64,
        stages: &[&str],
    ) -> Result<(Option<u64>, Vec<String>), Error> {
        let disclosure = Disclosure {
            stages,
            key_types: &KeyType::ALL,
            domain_from_email: false,
        };
        let mut found = Vec::new();
        let seq = self.store.read_blocking(|connection| {
            rows::scan_changes(connection, since, &disclosure, &mut |change| {
                found.push(match change {
                    Change::Disclosed(row) => {
                        format!("{} {} {}", row.id, row.stage, row.keys.len())
                    }
                    Change::Withdrawn(id) => format!("{id} withdrawn"),
                });
                Ok(if found.len() < most {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })
        })?;
        Ok((seq, found))
    }
}

const ALL_KEYS: Disclosure<'static> = Disclosure {
    stages: &["Lead", "Customer"],
    key_types: &KeyType::ALL,
    domain_from_email: false,
};

#[test]
fn disclosed_rows_come_in_order_of_id_with_their_keys() {
    let node = Node::new();
    node.import(
        "id,stage,email,phone,domain,external_id\n\
         b,Lead,Ann@Acme.example;ann@acme.example;nonsense,+16502530000,www.acme.example;gmail.com,\n\
         a,Customer,,,,X1\n\
         é,Lead,,,,\n\
         B,Lead,joe@shop.acme.example;joe@gmail.com,,acme.example,\n\
         z,Deal,z@z.example,,,\n",
        false,
    );
    assert_eq!(
        node.scan(&ALL_KEYS).unwrap(),
        [
            "B Lead email=joe@shop.acme.example email=joe@gmail.com domain=acme.example",
            "a Customer external_id=X1",
            "b Lead email=ann@acme.example phone=+16502530000 domain=acme.example",
            "é Lead ",
        ]
    );
    let from_email = Disclosure {
        key_types: &[KeyType::Domain],
        domain_from_email: true,
        ..ALL_KEYS
    };
    assert_eq!(
        node.scan(&from_email).unwrap(),
        [
            "B Lead domain=acme.example",
            "a Customer ",
            "b Lead domain=acme.example",
            "é Lead "
        ]
    );
    let only_email = Disclosure {
        key_types: &[KeyType::Email],
        domain_from_email: true,
        ..ALL_KEYS
    };
    assert_eq!(
        node.scan(&only_email).unwrap()[2],
        "b Lead email=ann@acme.example"
    );
    let none = Disclosure {
        stages: &["Nonsense"],
        ..ALL_KEYS
    };
    assert_eq!(node.scan(&none).unwrap(), [""; 0]);
}

/// The identifiers of withheld rows are replaced by bytes that cannot be read: whoever loads one fails.
#[test]
fn p10_hidden_rows_are_never_read() {
    let node = Node::new();
    node.import(
        "id,stage,email,private\na,Lead,a@x.example,\nb,Deal,b@x.example,\nc,Lead,c@x.example,yes\nd,Lead,d@x.example,no\n",
        false,
    );
    node.execute("UPDATE customer SET identifiers = x'ff', details = x'ff' WHERE id IN ('b', 'c')");
    assert_eq!(
        node.scan(&ALL_KEYS).unwrap(),
        ["a Lead email=a@x.example", "d Lead email=d@x.example"]
    );
    let (_, changes) = node.changes(0, &["Lead"]).unwrap();
    assert_eq!(
        changes,
        ["a Lead 1", "b withdrawn", "c withdrawn", "d Lead 1"]
    );
    let mut fields = Vec::new();
    node.store
        .read_blocking(|connection| {
            rows::scan_fields(connection, &["Lead"], &["name"], &mut |row| {
                fields.push(row.id.to_owned());
                Ok(())
            })
        })
        .unwrap();
    assert_eq!(fields, ["a", "d"]);
    // The poison works: once a row is disclosed, reading it fails.
    let disclosed = Disclosure {
        stages: &["Lead", "Deal"],
        ..ALL_KEYS
    };
    assert_eq!(
        node.scan(&disclosed).unwrap_err().reason(),
        Reason::StorageFailed
    );
    assert_eq!(
        node.changes(0, &["Deal"]).unwrap_err().reason(),
        Reason::StorageFailed
    );
    node.execute("UPDATE customer SET private = 0");
    assert_eq!(
        node.scan(&ALL_KEYS).unwrap_err().reason(),
        Reason::StorageFailed
    );
}

/// SQLite's own account: the query hands over disclosed rows only, and walks the table in its own order.
#[test]
fn p10_the_filter_is_in_the_query() {
    let node = Node::new();
    node.import("id,stage\na,Lead\nb,Deal\nc,Lead\n", false);
    node.store
        .read_blocking(|connection| {
            let plan: Vec<String> = connection
                .prepare("EXPLAIN QUERY PLAN SELECT id, stage, identifiers FROM customer WHERE private = 0 AND stage IN (2) ORDER BY id")?
                .query_map([], |row| row.get(3))?
                .collect::<Result<_, _>>()?;
            assert_eq!(plan, ["SCAN customer"], "no sorting, no other index");
            let changes: Vec<String> = connection
                .prepare("EXPLAIN QUERY PLAN SELECT id FROM customer WHERE changed_seq > 1 ORDER BY changed_seq, id")?
                .query_map([], |row| row.get(3))?
                .collect::<Result<_, _>>()?;
            assert_eq!(changes, ["SEARCH customer USING COVERING INDEX customer_changed (changed_seq>?)"]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn changes_since_a_number() {
    let node = Node::new();
    assert_eq!(node.changes(0, &["Lead"]).unwrap(), (0, vec![]));
    node.import(
        "id,stage,email\nb,Lead,b@x.example\na,Lead,a@x.example\nc,Deal,c@x.example\n",
        false,
    );
    let (first, changes) = node.changes(0, &["Lead"]).unwrap();
    assert_eq!(
        (first, changes),
        (
            1,
            vec!["a Lead 1".into(), "b Lead 1".into(), "c withdrawn".into()]
        )
    );
    assert_eq!(node.changes(first, &["Lead"]).unwrap(), (1, vec![]));
    // The same file again is no change.
    node.import("id,stage,email\na,Lead,a@x.example\n", false);
    assert_eq!(node.changes(first, &["Lead"]).unwrap(), (1, vec![]));
    // a moves to a hidden stage, b is deleted, d is new.
    node.import(
        "id,stage,email\na,Deal,a@x.example\nc,Deal,c@x.example\nd,Lead,\n",
        true,
    );
    let (second, changes) = node.changes(first, &["Lead"]).unwrap();
    assert_eq!(second, 2);
    assert_eq!(changes, ["a withdrawn", "d Lead 0", "b withdrawn"]);
    // Whoever has seen enough is shown no more, neither of rows nor of tombstones.
    for most in 1..=3 {
        let (end, first_changes) = node.first_changes(most, first, &["Lead"]).unwrap();
        assert_eq!((end, &first_changes[..]), (None, &changes[..most]));
    }
    // b returns: its tombstone is gone.
    node.import("id,stage\nb,Lead\n", false);
    assert_eq!(
        node.changes(first, &["Lead"]).unwrap().1,
        ["a withdrawn", "d Lead 0", "b Lead 0"]
    );
    assert_eq!(
        node.changes(second, &["Lead"]).unwrap(),
        (3, vec!["b Lead 0".into()])
    );
    assert_eq!(
        node.changes(4, &["Lead"]).unwrap_err().message(),
        "the changes since number 4 are not known: start a full run"
    );
}

#[test]
fn old_deletions_are_forgotten_and_asking_for_them_is_an_error() {
    let node = Node::new();
    node.import("id,stage\na,Lead\nb,Lead\nc,Lead\n", false);
    node.import("id,stage\na,Lead\nb,Lead\n", true);
    node.clock.advance(SignedDuration::from_hours(24 * 91));
    node.import("id,stage\na,Lead\n", true);
    assert_eq!(
        node.changes(1, &["Lead"]).unwrap_err().reason(),
        Reason::FailedPrecondition
    );
    assert_eq!(
        node.changes(2, &["Lead"]).unwrap(),
        (3, vec!["b withdrawn".into()])
    );
}

#[test]
fn other_rules_make_keys_anew() {
    let node = Node::new();
    node.import(
        "id,stage,email,phone\na,Lead,A@x.example,\nb,Lead,b@x.example,\n",
        false,
    );
    assert_eq!(bring_keys_up_to_date(&node.store, &node.clock).unwrap(), 0);
    // As an older version could have left it: another key for a, and its version.
    node.execute(
        "UPDATE customer SET identifiers = x'010000010b4140782e6578616d706c65036f6c64' WHERE id = 'a';
         UPDATE customer_state SET normalizer_version = 0",
    );
    let error = node.scan(&ALL_KEYS).unwrap_err();
    assert_eq!(
        error.message(),
        "the customers' keys were made by other normalisation rules: restart the node, which makes them anew"
    );
    assert_eq!(bring_keys_up_to_date(&node.store, &node.clock).unwrap(), 1);
    assert_eq!(
        node.scan(&ALL_KEYS).unwrap(),
        ["a Lead email=a@x.example", "b Lead email=b@x.example"]
    );
    assert_eq!(
        node.changes(1, &["Lead"]).unwrap(),
        (2, vec!["a Lead 1".into()])
    );
}

#[test]
fn shared_fields_come_in_the_order_asked_for() {
    let node = Node::new();
    node.import(
        "id,stage,name,owner,industry,region,plan,tier\na,Lead,Acme,Eve,Tools,EMEA,gold,1\nb,Lead,Beta,,,,,2\nc,Lead,,,,,,\nd,Deal,Delta,,,,,\n",
        false,
    );
    let mut found = Vec::new();
    node.store
        .read_blocking(|connection| {
            rows::scan_fields(
                connection,
                &["Lead"],
                &[
                    "tier", "name", "region", "plan", "nonsense", "owner", "industry",
                ],
                &mut |row| {
                    found.push(format!("{}:{}", row.id, row.values.join("|")));
                    Ok(())
                },
            )
        })
        .unwrap();
    assert_eq!(
        found,
        ["a:1|Acme|EMEA|gold||Eve|Tools", "b:2|Beta|||||", "c:||||||"]
    );
}

#[test]
fn p14_search_folds_case_over_id_name_and_domains() {
    let node = Node::new();
    node.import(
        "id,stage,name,domain,email\nC-1,Lead,Ärzte AG,https://www.BÜCHER.example/,\nC-2,Lead,Acme,,joe@hidden.example\n",
        false,
    );
    let search = |text: &str| {
        let mut found = Vec::new();
        node.store
            .read_blocking(|connection| {
                rows::searchable(
                    connection,
                    &mut ["C-1", "C-2", "C-3"].into_iter(),
                    &mut |row| {
                        if row.matches(&text.to_lowercase())? {
                            found.push(row.id.to_owned());
                        }
                        Ok(())
                    },
                )
            })
            .unwrap();
        found.join(" ")
    };
    for (text, expected) in [
        ("", "C-1 C-2"),
        ("c-", "C-1 C-2"),
        ("ÄRZTE", "C-1"),
        ("bücher", "C-1"),
        ("xn--bcher", "C-1"),
        ("ACM", "C-2"),
        ("hidden", ""),
    ] {
        assert_eq!(search(text), expected, "{text}");
    }
}
