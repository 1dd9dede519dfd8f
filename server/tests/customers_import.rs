//! Importing customer files: what is accepted, and what every mistake says.

#[path = "customers_import/mistakes.rs"]
mod mistakes;
#[path = "customers_import/own_stages.rs"]
mod own_stages;

use std::{fs, path::PathBuf};

use jiff::{SignedDuration, Timestamp};
use overlap_crypto::terms::KeyType;
use overlap_server::{
    clock::MockClock,
    customers::{
        files::Format,
        import::{ImportOptions, ImportSummary, Progress, import_file},
        normalize::{Outcome, Region},
        rows, stages,
    },
    error::{Error, Reason},
    sharing::policy::{Stage, StageCategory},
    storage::Store,
};

struct Node {
    directory: tempfile::TempDir,
    store: Store,
    clock: MockClock,
}

impl Node {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a new store opens");
        let clock = MockClock::new("2026-03-01T00:00:00Z".parse().expect("a valid time"));
        Self {
            directory,
            store,
            clock,
        }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).expect("a temporary file is written");
        path
    }

    fn import_with(
        &self,
        name: &str,
        content: impl AsRef<[u8]>,
        options: &ImportOptions,
    ) -> Result<ImportSummary, Error> {
        let path = self.file(name, content);
        import_file(&self.store, &self.clock, &path, None, options, &mut |_| ())
    }

    fn import(&self, name: &str, content: impl AsRef<[u8]>) -> Result<ImportSummary, Error> {
        self.import_with(name, content, &ImportOptions::default())
    }

    fn details(&self, id: &str) -> Option<rows::Details> {
        self.store
            .read_blocking(|connection| Ok(rows::fetch(connection, &[id])?.remove(0)))
            .expect("the store is read")
    }

    fn count(&self) -> u64 {
        self.store
            .read_blocking(rows::count)
            .expect("the store is read")
    }

    fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        self.store
            .read_blocking(|connection| {
                let mut statement = connection.prepare("SELECT id FROM customer ORDER BY id")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    ids.push(row.get(0)?);
                }
                Ok(())
            })
            .expect("the store is read");
        ids
    }
}

fn counts(summary: &ImportSummary) -> [u64; 4] {
    [
        summary.inserted,
        summary.updated,
        summary.unchanged,
        summary.deleted,
    ]
}

#[test]
fn a_csv_file_with_everything() {
    let node = Node::new();
    let text = "\u{feff}id,Stage,email,phone,domain,external_id,name,owner,industry,region,private,Plan,Notes\r\n\
        c-1,Customer,Ann@Acme.example; bob@acme.example;,+1 650-253-0000,https://www.acme.example/x,A 1,\"Acme, \"\"Inc.\"\"\",Eve,Tools,EMEA,no,gold,\"two\r\nlines\"\r\n\
        \r\n\
        ,,,,,,,,,,,,\r\n\
        c-2, Lead ,not an address,12,gmail.com,,,,,,YES,,\r\n";
    let summary = node.import("customers.csv", text).unwrap();
    assert_eq!(counts(&summary), [2, 0, 0, 0]);
    assert_eq!(summary.field_columns, ["Plan", "Notes"]);
    assert_eq!(
        summary.unusable_identifiers.into_iter().collect::<Vec<_>>(),
        [
            ("FREE_MAIL_DOMAIN", 1),
            ("NO_COUNTRY_CODE", 1),
            ("UNPARSABLE", 1)
        ]
    );
    let first = node.details("c-1").unwrap();
    assert_eq!(first.stage, "Customer");
    assert_eq!(first.name, "Acme, \"Inc.\"");
    assert_eq!(first.field("owner"), Some("Eve"));
    assert_eq!(first.field("region"), Some("EMEA"));
    assert_eq!(first.field("industry"), Some("Tools"));
    assert_eq!(first.field("Notes"), Some("two\r\nlines"));
    assert_eq!(first.field("Plan"), Some("gold"));
    assert_eq!(first.field("plan"), None);
    assert!(!first.private);
    assert_eq!(
        first.updated_at,
        "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap()
    );
    let identifiers: Vec<_> = first
        .identifiers
        .iter()
        .map(|identifier| {
            (
                identifier.key_type,
                identifier.raw.as_str(),
                identifier.key.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        identifiers,
        [
            (KeyType::Email, "Ann@Acme.example", Ok("ann@acme.example")),
            (KeyType::Email, "bob@acme.example", Ok("bob@acme.example")),
            (KeyType::Phone, "+1 650-253-0000", Ok("+16502530000")),
            (
                KeyType::Domain,
                "https://www.acme.example/x",
                Ok("acme.example")
            ),
            (KeyType::ExternalId, "A 1", Ok("A 1")),
        ]
    );
    let second = node.details("c-2").unwrap();
    assert!(second.private);
    assert!(second.fields.is_empty());
    let outcomes: Vec<_> = second
        .identifiers
        .iter()
        .map(|identifier| identifier.key.clone().unwrap_err())
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Unparsable,
            Outcome::NoCountryCode,
            Outcome::FreeMailDomain
        ]
    );
}

#[test]
fn an_ndjson_file_with_everything() {
    let node = Node::new();
    let text = concat!(
        r#"{"id":"c-1","stage":"Customer","email":["a;b@x.example","Ann@Acme.example"],"phone":"+1 650-253-0000; +41446681800","name":"Ac\u006de","private":true,"Plan":"gold","seats":12.50,"trial":false,"gone":null}"#,
        "\r\n\n",
        r#" {"stage":"Lead","id":7,"domain":null,"external_id":["4"]} "#,
    );
    let summary = node.import("customers.ndjson", text).unwrap();
    assert_eq!(counts(&summary), [2, 0, 0, 0]);
    let first = node.details("c-1").unwrap();
    assert_eq!((first.name.as_str(), first.private), ("Acme", true));
    assert_eq!(
        first.of_type(KeyType::Email).collect::<Vec<_>>(),
        ["a;b@x.example", "Ann@Acme.example"]
    );
    assert_eq!(
        first.of_type(KeyType::Phone).collect::<Vec<_>>(),
        ["+1 650-253-0000", "+41446681800"]
    );
    let fields: Vec<_> = first
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        fields,
        [("Plan", "gold"), ("seats", "12.50"), ("trial", "false")]
    );
    let second = node.details("7").unwrap();
    assert_eq!(
        second.of_type(KeyType::ExternalId).collect::<Vec<_>>(),
        ["4"]
    );
}

#[test]
fn importing_again_changes_only_what_changed() {
    let node = Node::new();
    let first = "id,stage,email\na,Lead,a@x.example\nb,Lead,b@x.example\nc,Lead,c@x.example\n";
    assert_eq!(counts(&node.import("f.csv", first).unwrap()), [3, 0, 0, 0]);
    node.clock.advance(SignedDuration::from_secs(60));
    assert_eq!(counts(&node.import("f.csv", first).unwrap()), [0, 0, 3, 0]);
    let second = "email,id,stage\nc@x.example,c,Deal\nd@x.example,d,Lead\na@x.example,a,Lead\n";
    assert_eq!(counts(&node.import("f.csv", second).unwrap()), [1, 1, 1, 0]);
    assert_eq!(node.ids(), ["a", "b", "c", "d"]);
    assert_eq!(
        node.details("a").unwrap().updated_at,
        "2026-03-01T00:00:00Z".parse().unwrap()
    );
    assert_eq!(
        node.details("c").unwrap().updated_at,
        "2026-03-01T00:01:00Z".parse().unwrap()
    );
    let replace = ImportOptions {
        replace_all: true,
        ..ImportOptions::default()
    };
    assert_eq!(
        counts(&node.import_with("f.csv", second, &replace).unwrap()),
        [0, 0, 3, 1]
    );
    assert_eq!(node.ids(), ["a", "c", "d"]);
    let error = node
        .import_with("f.csv", "id,stage\n", &replace)
        .unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv: the file has no customers, and replacing all would delete every one: delete them by id if that is meant"
    );
    assert_eq!(
        counts(&node.import("f.csv", "id,stage\n").unwrap()),
        [0, 0, 0, 0]
    );
    assert_eq!(node.count(), 3);
}

/// Replacing looks at the stored customers page by page while it writes between them.
#[test]
fn replacing_leaves_exactly_what_the_file_has() {
    let node = Node::new();
    let file = |numbers: &mut dyn Iterator<Item = u32>| {
        numbers.fold("id,stage\n".to_owned(), |text, number| {
            text + &format!("{number:06},Lead\n")
        })
    };
    node.import("f.csv", file(&mut (0..9000).step_by(3)))
        .unwrap();
    let replace = ImportOptions {
        replace_all: true,
        ..ImportOptions::default()
    };
    let summary = node
        .import_with("f.csv", file(&mut (0..9000).step_by(2)), &replace)
        .unwrap();
    // Multiples of 3 were there, multiples of 2 are now: multiples of 6 stay.
    assert_eq!(counts(&summary), [4500 - 1500, 0, 1500, 3000 - 1500]);
    let expected: Vec<String> = (0..9000)
        .step_by(2)
        .map(|number| format!("{number:06}"))
        .collect();
    assert_eq!(node.ids(), expected);
}

#[test]
fn errors_and_progress_of_a_file_of_many_chunks() {
    let node = Node::new();
    let mut text = "id,stage,name\n".to_owned();
    for number in 0..60_000u32 {
        text += &format!(
            "{},Lead,\"a name, number {number}\"\n",
            number.wrapping_mul(0x9e37_79b1)
        );
    }
    let path = node.file("f.csv", &text);
    let mut last = Progress {
        rows: 0,
        bytes: 0,
        total_bytes: None,
        written: 0,
    };
    let mut reports = 0;
    let summary = import_file(
        &node.store,
        &node.clock,
        &path,
        None,
        &ImportOptions::default(),
        &mut |progress| {
            assert!(
                progress.rows >= last.rows
                    && progress.bytes >= last.bytes
                    && progress.written >= last.written
            );
            last = progress;
            reports += 1;
        },
    )
    .unwrap();
    assert_eq!(summary.inserted, 60_000);
    let size = text.len() as u64;
    assert_eq!(
        last,
        Progress {
            rows: 60_000,
            bytes: size,
            total_bytes: Some(size),
            written: 60_000
        }
    );
    assert!(reports > 4, "{reports}");
    assert!(node.ids().is_sorted());
    let error = node
        .import("f.csv", format!("{text}x,Nowhere,y\n"))
        .unwrap_err();
    assert!(
        error
            .message()
            .starts_with("f.csv, line 60002, column 2 (stage): unknown stage \"Nowhere\""),
        "{error}"
    );
    let error = node
        .import("f.csv", format!("{text}0,Lead,y\n"))
        .unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 60002: the id \"0\" is on line 2 already: remove one of the two"
    );
}

#[test]
fn a_full_disk_changes_nothing() {
    let node = Node::new();
    node.import("f.csv", "id,stage\nkept,Lead\n").unwrap();
    node.store
        .write_blocking(|transaction| {
            let pages: i64 = transaction.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            transaction.query_row(
                &format!("PRAGMA max_page_count = {}", pages + 2),
                [],
                |_| Ok(()),
            )?;
            Ok(())
        })
        .unwrap();
    let mut text = "id,stage\n".to_owned();
    for number in 0..10_000 {
        text += &format!("c{number},Lead\n");
    }
    let error = node.import("f.csv", &text).unwrap_err();
    assert_eq!(error.reason(), Reason::DiskFull);
    assert_eq!(
        error.message(),
        "the store's disk is full: free some space and try again; nothing was changed"
    );
    assert_eq!(node.ids(), ["kept"]);
}

#[test]
fn the_default_region_reads_national_numbers() {
    let node = Node::new();
    let options = ImportOptions {
        default_region: Region::parse("CH", "region").unwrap(),
        ..ImportOptions::default()
    };
    node.import_with("f.csv", "id,stage,phone\na,Lead,044 668 18 00\n", &options)
        .unwrap();
    assert_eq!(
        node.details("a").unwrap().identifiers[0].key.as_deref(),
        Ok("+41446681800")
    );
}
