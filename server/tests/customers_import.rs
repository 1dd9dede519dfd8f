//! Importing customer files: what is accepted, and what every mistake says.

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
                rows::scan_searchable(connection, &mut |row| {
                    ids.push(row.id.to_owned());
                    Ok(true)
                })
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
fn every_mistake_in_a_csv_file_has_its_message() {
    let long_id = "x".repeat(257);
    let long_name = "n".repeat(1025);
    let long_email = "e".repeat(1025);
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "f.csv: the file is empty"),
        (
            "only a byte order mark",
            b"\xef\xbb\xbf",
            "f.csv: the file is empty",
        ),
        ("only empty lines", b"\n\r\n", "f.csv: the file is empty"),
        (
            "UTF-16",
            b"\xff\xfei\0d\0",
            "f.csv: the file is in UTF-16: save it as UTF-8",
        ),
        (
            "no id",
            b"name,stage\na,Lead\n",
            "f.csv, line 1: the header has no column \"id\"",
        ),
        (
            "no stage",
            b"\nid,name\na,b\n",
            "f.csv, line 2: the header has no column \"stage\"",
        ),
        (
            "semicolons",
            b"id;stage\na;Lead\n",
            "f.csv, line 1: the header has no column \"id\": separate the values by commas",
        ),
        (
            "column twice",
            b"id,stage,Plan,Plan\n",
            "f.csv, line 1, column 4 (Plan): column 3 has this name too: rename or remove one",
        ),
        (
            "known column twice",
            b"id,stage,email,EMAIL\n",
            "f.csv, line 1, column 4 (EMAIL): column 3 has this name too: rename or remove one",
        ),
        (
            "column without a name",
            b"id,stage,,x\n",
            "f.csv, line 1, column 3 (header): the column has no name",
        ),
        (
            "header not UTF-8",
            b"id,stage,\xe9\n",
            "f.csv, line 1, column 3 (header): the text is not UTF-8: save the file as UTF-8",
        ),
        (
            "line break inside an id",
            b"id,stage\na,Lead\n\"b\nb\",Lead\nc,customer\n",
            "f.csv, line 3, column 1 (id): it contains a control character: remove it",
        ),
        (
            "unknown stage after a value of two lines",
            b"id,stage\na,Lead\n\"b\n\",Lead\nc,customer\n",
            "f.csv, line 5, column 2 (stage): unknown stage \"customer\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
        (
            "unknown stage",
            b"id,stage\na,Lead\nc,customer\n",
            "f.csv, line 3, column 2 (stage): unknown stage \"customer\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
        (
            "no stage given",
            b"stage,id\n ,a\n",
            "f.csv, line 2, column 1 (stage): the stage is missing: give one of Prospect, Lead, Deal, Customer, Lost, Churned",
        ),
        (
            "no id given",
            b"id,stage\n \xc2\xa0,Lead\n",
            "f.csv, line 2, column 1 (id): the id is missing",
        ),
        (
            "too few values",
            b"id,stage,name\na,Lead\n",
            "f.csv, line 2: 2 values, where the header has 3 columns",
        ),
        (
            "too many values",
            b"id,stage\r\na,Lead\r\nb,Lead,\r\n",
            "f.csv, line 3: 3 values, where the header has 2 columns",
        ),
        (
            "not UTF-8",
            b"id,name,stage\na,Caf\xe9,Lead\n",
            "f.csv, line 2, column 2 (name): the text is not UTF-8: save the file as UTF-8",
        ),
        (
            "field not UTF-8",
            b"id,plan,stage\na,Caf\xe9,Lead\n",
            "f.csv, line 2, column 2 (plan): the text is not UTF-8: save the file as UTF-8",
        ),
        (
            "id twice",
            b"id,stage\nb,Lead\na,Lead\n\nb,Deal\n",
            "f.csv, line 5: the id \"b\" is on line 2 already: remove one of the two",
        ),
        (
            "quotation mark not closed",
            b"id,stage,name\na,Lead,\"Acme\nb,Lead,Beta\n",
            "f.csv, line 2, column 3 (name): the quotation mark at the value's start is not closed",
        ),
        (
            "text after a quotation mark",
            b"id,stage,name\na,Lead,\"Acme\" Inc.\n",
            "f.csv, line 2, column 3 (name): \" Inc.\" follows the closing quotation mark: write quotation marks inside a value twice",
        ),
        (
            "old line ends",
            b"id,stage\ra,Lead\r",
            "f.csv, line 1, column 2 (header): a carriage return without a line feed: save the file with LF or CRLF line ends",
        ),
        (
            "private",
            b"id,stage,private\na,Lead,maybe\n",
            "f.csv, line 2, column 3 (private): \"maybe\" is neither true nor false",
        ),
        (
            "control character",
            b"id,stage,plan\na,Lead,\x1b[31m\n",
            "f.csv, line 2, column 3 (plan): it contains a control character: remove it",
        ),
        (
            "control character",
            b"id,stage,name\na,Lead,\x00\n",
            "f.csv, line 2, column 3 (name): it contains a control character: remove it",
        ),
    ];
    for (case, content, expected) in cases {
        let node = Node::new();
        node.import("good.csv", "id,stage\nkept,Lead\n").unwrap();
        let error = node.import("f.csv", content).unwrap_err();
        assert_eq!(error.message(), *expected, "{case}");
        assert_eq!(error.reason(), Reason::InvalidArgument, "{case}");
        assert_eq!(node.ids(), ["kept"], "{case}: all or nothing");
    }
    for (column, value, expected) in [
        (
            "id",
            &long_id,
            "f.csv, line 2, column 1 (id): 257 bytes long: at most 256 are allowed",
        ),
        (
            "name",
            &long_name,
            "f.csv, line 2, column 1 (name): 1025 bytes long: at most 1024 are allowed",
        ),
        (
            "email",
            &long_email,
            "f.csv, line 2, column 1 (email): 1025 bytes long: at most 1024 are allowed",
        ),
    ] {
        let rest = if column == "id" {
            "stage\n"
        } else {
            "stage,id\n"
        };
        let values = if column == "id" { "Lead\n" } else { "Lead,a\n" };
        let error = Node::new()
            .import("f.csv", format!("{column},{rest}{value},{values}"))
            .unwrap_err();
        assert_eq!(error.message(), expected);
    }
    let many = vec!["a@b.example"; 257].join(";");
    let error = Node::new()
        .import("f.csv", format!("id,stage,email\na,Lead,{many}\n"))
        .unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 2: 257 identifiers: a customer has at most 256"
    );
    let record = format!(
        "id,stage,name\na,Lead,ok\nb,Lead,\"{}\n",
        "n\n".repeat(1 << 20)
    );
    let error = Node::new().import("f.csv", record).unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 3: the record that starts here is longer than 1048576 bytes: is a quotation mark not closed?"
    );
}

#[test]
fn every_mistake_in_an_ndjson_file_has_its_message() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "f.ndjson: the file is empty"),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\"}\n{\"id\":\"b\"\n",
            "f.ndjson, line 2, column 9 (JSON): not a JSON object: EOF while parsing an object",
        ),
        (
            b"[1]\n",
            "f.ndjson, line 1, column 0 (JSON): not a JSON object: invalid type: sequence, expected an object",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Leads\"}",
            "f.ndjson, line 1, column 19 (stage): unknown stage \"Leads\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
        (
            b"{\"id\":\"a\"}",
            "f.ndjson, line 1: the stage is missing: give one of Prospect, Lead, Deal, Customer, Lost, Churned",
        ),
        (
            b"\n{\"stage\":\"Lead\"}",
            "f.ndjson, line 2: the id is missing",
        ),
        (
            b"{\"id\":\"a\",\"id\":\"b\",\"stage\":\"Lead\"}",
            "f.ndjson, line 1, column 16 (id): this member occurs twice: remove one",
        ),
        (
            b"{\"id\":\"a\",\"plan\":1,\"plan\":2,\"stage\":\"Lead\"}",
            "f.ndjson, line 1, column 27 (plan): this member occurs twice: remove one",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\",\"plan\":{\"x\":1}}",
            "f.ndjson, line 1, column 33 (plan): a text is wanted here, not {\"x\":1}",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\",\"email\":[[\"x\"]]}",
            "f.ndjson, line 1, column 34 (email): a text is wanted here, not [\"x\"]",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\",\"private\":\"perhaps\"}",
            "f.ndjson, line 1, column 36 (private): \"perhaps\" is neither true nor false",
        ),
        (
            b"{\"id\":\"\xe9\"}",
            "f.ndjson, line 1: the text is not UTF-8: save the file as UTF-8",
        ),
        (
            b"{\"id\":\"a\",\"stage\":\"Lead\"}\n{\"id\":\"a\",\"stage\":\"Lead\"}\n",
            "f.ndjson, line 2: the id \"a\" is on line 1 already: remove one of the two",
        ),
        (
            b"{\"name\":\"\xc3\xa9\",\"stage\":\"Leads\",\"id\":\"a\"}",
            "f.ndjson, line 1, column 21 (stage): unknown stage \"Leads\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it",
        ),
    ];
    for (content, expected) in cases {
        let node = Node::new();
        let error = node.import("f.ndjson", content).unwrap_err();
        assert_eq!(
            error.message(),
            expected
                .replace("{\"x\":1}", "{\\\"x\\\":1}")
                .replace("not [\"x\"]", "not [\\\"x\\\"]")
        );
        assert_eq!(node.count(), 0);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let node = Node::new();
    let missing = node.directory.path().join("none.csv");
    let import = |path: &std::path::Path, format| {
        import_file(
            &node.store,
            &node.clock,
            path,
            format,
            &ImportOptions::default(),
            &mut |_| (),
        )
        .unwrap_err()
    };
    let error = import(&missing, None);
    assert_eq!(error.reason(), Reason::FileUnreadable);
    assert_eq!(
        error.message(),
        format!(
            "{}: cannot be read: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let error = import(node.directory.path(), Some(Format::Csv));
    assert_eq!(error.reason(), Reason::FileUnreadable);
    assert!(
        error
            .message()
            .ends_with(": cannot be read: Is a directory (os error 21)"),
        "{error}"
    );
    let error = import(&node.file("customers.xlsx", "x"), None);
    assert_eq!(
        error.message(),
        "format: customers.xlsx: the ending does not say the format: give one of csv, ndjson, parquet"
    );
    #[cfg(not(feature = "parquet"))]
    assert_eq!(
        import(&node.file("f.parquet", "PAR1"), None).message(),
        "f.parquet: this node was built without Parquet: export the customers as CSV or NDJSON, or build it with `--features parquet`"
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
fn p08_custom_stages() {
    let node = Node::new();
    let text = "id,stage\na,Pilot\n";
    let error = node.import("f.csv", text).unwrap_err();
    assert_eq!(
        error.message(),
        "f.csv, line 2, column 2 (stage): unknown stage \"Pilot\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it"
    );
    let pilot = Stage {
        id: "Pilot".into(),
        label: "In pilot".into(),
        ordinal: 35,
        category: StageCategory::Open,
    };
    let all = node
        .store
        .write_blocking(|transaction| stages::upsert(transaction, &[pilot]))
        .unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|stage| (stage.id.as_str(), stage.ordinal, stage.category))
        .collect();
    assert_eq!(
        shown,
        [
            ("Prospect", 10, StageCategory::Open),
            ("Lead", 20, StageCategory::Open),
            ("Deal", 30, StageCategory::Open),
            ("Pilot", 35, StageCategory::Open),
            ("Customer", 40, StageCategory::Customer),
            ("Lost", 50, StageCategory::Lost),
            ("Churned", 60, StageCategory::Churned),
        ]
    );
    assert_eq!(all[3].label, "In pilot");
    assert_eq!(all[4].label, "Customer", "the id where there is no label");
    assert_eq!(counts(&node.import("f.csv", text).unwrap()), [1, 0, 0, 0]);
    assert_eq!(node.details("a").unwrap().stage, "Pilot");
}

#[test]
fn p08_stages_that_make_no_sense_are_refused() {
    let node = Node::new();
    let stage = |id: &str, ordinal| Stage {
        id: id.into(),
        label: String::new(),
        ordinal,
        category: StageCategory::Open,
    };
    let many: Vec<Stage> = (0..59)
        .map(|number| stage(&format!("s{number}"), 100 + number))
        .collect();
    for (new, expected) in [
        (
            vec![stage("", 1)],
            "stages[0].id: the stage's id is missing",
        ),
        (
            vec![stage(" x", 1)],
            "stages[0].id: \" x\" has space around it or a control character in it: remove it",
        ),
        (
            vec![stage(&"s".repeat(65), 1)],
            "stages[0].id: 65 bytes long: at most 64 are allowed",
        ),
        (
            vec![stage("x", 1), stage("x", 2)],
            "stages[1].id: \"x\" is stages[0] already",
        ),
        (
            vec![stage("lead", 1)],
            "stages[0].id: \"lead\" differs from the stage \"Lead\" in case only",
        ),
        (
            vec![stage("x", 20)],
            "stages[0].ordinal: 20 is the ordinal of the stage \"Lead\": give another",
        ),
        (many, "stages: 65 stages: at most 64 are allowed"),
    ] {
        let error = node
            .store
            .write_blocking(|transaction| stages::upsert(transaction, &new))
            .unwrap_err();
        assert_eq!(error.message(), expected);
    }
    // Two stages may swap their places.
    let all = node
        .store
        .write_blocking(|transaction| {
            stages::upsert(transaction, &[stage("Lead", 10), stage("Prospect", 20)])
        })
        .unwrap();
    assert_eq!(
        [all[0].id.as_str(), all[1].id.as_str()],
        ["Lead", "Prospect"]
    );
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
