//! Files and texts that people and programs hand to a node: any of them is taken or refused with a reason, none makes it panic.
//!
//! Longer with `PROPTEST_CASES=100000 cargo test --release -p overlap-server --test hostile_inputs`.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use overlap_server::{
    clock::MockClock,
    config::Config,
    convert::Page,
    customers::{
        files::Format,
        import::{ImportOptions, Source, import_reader},
    },
    error::{Blame, Error},
    storage::Store,
};
use proptest::prelude::*;

thread_local!(static STORE: (tempfile::TempDir, Store) = {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
});

/// Imports bytes as a file, over what was imported before.
fn import(format: Format, bytes: &[u8]) -> Result<(), Error> {
    let options = ImportOptions {
        default_region: None,
        replace_all: true,
    };
    let clock = MockClock::new("2026-03-01T12:00:00Z".parse().unwrap());
    STORE.with(|(_, store)| {
        import_reader(
            store,
            &clock,
            Source {
                file: "file",
                format,
                reader: &mut &*bytes,
                total_bytes: None,
            },
            &options,
            &mut |_| (),
        )
        .map(|_| ())
    })
}

fn check(result: Result<(), Error>) {
    if let Err(error) = result {
        let blame = error.reason().blame();
        assert!(
            matches!(blame, Blame::Caller | Blame::Environment),
            "{:?}: {error}",
            error.reason()
        );
        assert!(
            error.message().len() < 2_000,
            "{} bytes of error",
            error.message().len()
        );
    }
}

/// Pieces that files are made of, good and bad.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "id,stage,email,phone,domain,external_id,private,x\n",
            "a,Lead,a@b.example,+41446681800,b.example,X1,false,y\n",
            "a,Lead\n",
            "\"",
            "\"\"",
            ",",
            ";",
            "\r\n",
            "\n",
            "\r",
            "\u{feff}",
            "\0",
            "é",
            "\u{202e}",
            "{",
            "}",
            "[",
            "]",
            ":",
            "{\"id\":\"a\",\"stage\":\"Lead\"}\n",
            "{\"id\":1e999,\"stage\":[[[[]]]]}",
            "\"id\"",
            "\\ud800",
            "null",
            "true",
            "-0",
            "1e400",
            "a@xn--a.example",
            "+99999999999999999999",
            "https://[::1]:99999/",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..24),
        (any::<u8>(), 0_usize..3_000).prop_map(|(byte, times)| vec![byte; times]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn no_file_makes_an_import_panic(
        format in prop::sample::select(vec![Format::Csv, Format::Ndjson]),
        header in any::<bool>(),
        pieces in prop::collection::vec(piece(), 0..16),
    ) {
        let mut bytes = pieces.concat();
        if header && format == Format::Csv {
            bytes = [b"id,stage,email\n".as_slice(), &bytes].concat();
        }
        check(import(format, &bytes));
    }

    #[test]
    fn no_token_makes_a_listing_panic(size in any::<i32>(), token in "\\PC*|[0-9a-f]{32}", filter in "\\PC{0,8}") {
        check(Page::of(size, &token, &filter).map(|page| assert!(page.size <= 1000)));
        // A token of one's own making is a position in a listing that one may read anyway, or refused.
        let far = Page::token(u64::MAX, &filter);
        prop_assert!(Page::of(1, &far, &filter).is_err());
    }

    #[test]
    fn no_text_makes_a_configuration_or_policy_panic(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "organization = \"A\"\n", "[limits]\n", "max_frame_bytes = 1e9\n", "handshake_timeout = \"1h\"\n",
                    "[stages]\n", "Lead = \"list\"\n", "[match]\n", "on = [\"email\"]\n", "min_count = -1\n", "=", "[", "]", "\"",
                    "idle_timeout = \"18446744073709551615d\"\n",
                ]).prop_map(str::to_owned),
                "\\PC{0,12}",
            ],
            0..10,
        ),
    ) {
        let text = pieces.concat();
        check(Config::parse(&text, "file").map(|_| ()));
        let _ = overlap_proto::policy_file::parse(&text, "file");
    }
}

/// Nested far deeper than a parser's stack may go, and a record longer than any may be.
#[test]
fn deep_and_endless_records_are_refused() {
    let deep = format!("{{\"id\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    check(import(Format::Ndjson, deep.as_bytes()));
    assert!(import(Format::Ndjson, deep.as_bytes()).is_err());
    let endless = vec![b'x'; 3 << 20];
    for format in [Format::Csv, Format::Ndjson] {
        let error = import(format, &endless).unwrap_err();
        assert_eq!(error.reason().blame(), Blame::Caller, "{error}");
    }
    let open = [b"id,stage\n\"".as_slice(), &endless].concat();
    assert!(import(Format::Csv, &open).is_err());
}

/// Every test that a document names is there.
#[test]
fn documents_name_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pattern = regex::Regex::new(r"`([a-z0-9_/]+\.rs)(?:::([a-z0-9_]+))?`").unwrap();
    let mut named = 0;
    for document in [
        "docs/THREAT_MODEL.md",
        "docs/KEY_MANAGEMENT.md",
        "docs/OPERATIONS.md",
        "docs/PROTOCOL.md",
        "docs/CONSTANT_TIME.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for found in pattern.captures_iter(&text) {
            let path = root.join(&found[1]);
            let source = std::fs::read_to_string(&path)
                .unwrap_or_else(|_| panic!("{document} names {}", &found[1]));
            if let Some(test) = found.get(2) {
                let function = format!("fn {}(", test.as_str());
                assert!(source.contains(&function), "{document} names {}", &found[0]);
                named += 1;
            }
        }
    }
    assert!(named > 60, "{named} tests named");
}
