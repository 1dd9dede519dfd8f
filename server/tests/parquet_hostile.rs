//! Parquet files that are damaged, or that someone made to harm: each is refused with a reason, nothing is stored, no temporary
//! file is left, and the node goes on.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "parquet/handmade.rs"]
mod handmade;

use std::{io::Write as _, path::Path};

use handmade::*;
use overlap_server::{
    clock::MockClock,
    customers::{
        import::{ImportOptions, import_file},
        rows,
    },
    error::{Blame, Error, Reason},
    storage::Store,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct Node {
    directory: tempfile::TempDir,
    store: Store,
}

impl Node {
    fn new() -> Self {
        // What asks for more memory than this ends the test, as it would end a node on a smaller machine.
        let limit = Rlimit {
            current: Some(6 << 30),
            ..getrlimit(Resource::As)
        };
        setrlimit(Resource::As, limit).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        Self { directory, store }
    }

    fn import(&self, file: &[u8]) -> Result<u64, Error> {
        let path = self.directory.path().join("f.parquet");
        std::fs::write(&path, file).unwrap();
        let clock = MockClock::new("2026-03-01T00:00:00Z".parse().unwrap());
        let options = ImportOptions::default();
        import_file(&self.store, &clock, &path, None, &options, &mut |_| ())
            .map(|summary| summary.inserted)
    }

    fn left(&self) -> Vec<String> {
        fn walk(directory: &Path, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                names.push(path.display().to_string());
                if path.is_dir() {
                    walk(&path, names);
                }
            }
        }
        let mut names = Vec::new();
        walk(self.directory.path(), &mut names);
        names.sort();
        names
    }

    /// Imports a file that is to be refused, and returns what the caller reads after the file's name.
    fn refused(&self, file: &[u8]) -> String {
        let message = self.message(file);
        let problem = message.strip_prefix("f.parquet: ");
        problem.unwrap_or_else(|| panic!("{message}")).to_owned()
    }

    /// The same, for a file with a problem at a place.
    fn problem_at(&self, place: &str, file: &[u8]) -> String {
        let message = self.message(file);
        let problem = message.strip_prefix(&format!("f.parquet, {place}: "));
        problem.unwrap_or_else(|| panic!("{message}")).to_owned()
    }

    fn message(&self, file: &[u8]) -> String {
        let left = self.left();
        let error = self.import(file).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArgument, "{error}");
        assert_eq!(error.reason().blame(), Blame::Caller);
        let message = error.message();
        assert!(message.len() < 1000, "{message}");
        assert_eq!(self.store.read_blocking(rows::count).unwrap(), 0);
        if left.iter().any(|path| path.ends_with("f.parquet")) {
            assert_eq!(self.left(), left);
        }
        message.to_owned()
    }

    /// The same, for a file that is not what it should be.
    fn damaged(&self, file: &[u8]) -> String {
        let problem = self.refused(file);
        let reason = problem
            .strip_prefix("not a whole Parquet file: ")
            .and_then(|problem| problem.strip_suffix("; export it again"));
        reason.unwrap_or_else(|| panic!("{problem}")).to_owned()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What deltas start with: blocks of 128 in four parts, `count` values of which the first is `first`.
fn deltas(count: u64, first: i64) -> Vec<u8> {
    [vec![0x80, 1, 4], varint(count), zigzag(first)].concat()
}

/// The file that the others differ from is taken, so that they are refused for that difference.
#[test]
fn a_handmade_file_is_taken() {
    let node = Node::new();
    assert_eq!(node.import(&Handmade::customers().file()).unwrap(), 2);
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let node = Node::new();
    let body = texts(&["x", "y"]);
    let packed = gzip(&body);
    let file = Handmade::customers()
        .with(required(
            "notes",
            GZIP,
            2,
            vec![data(PLAIN, 2, body.len(), &packed)],
        ))
        .file();
    assert_eq!(node.refused(&[]), "the file is empty");
    for end in 1..file.len() {
        node.damaged(&file[..end]);
    }
    assert_eq!(node.import(&file).unwrap(), 2);
}

/// One changed byte anywhere: taken or refused, and never more rows than there were.
#[test]
fn no_changed_byte_harms() {
    const CHANGES: [u8; 4] = [0x01, 0x08, 0x80, 0xff];
    let node = Node::new();
    let stages = dictionary(2, 16, &texts(&["Lead", "Deal"]));
    let indexes = data(RLE_DICTIONARY, 2, 3, &[1, 3, 0b10]);
    let mut file = Handmade::customers();
    file.columns[1] = required("stage", PLAIN_BYTES, 2, vec![stages, indexes]);
    let file = file.file();
    let mut taken = 0;
    for place in 0..file.len() {
        for bits in CHANGES {
            let mut changed = file.clone();
            changed[place] ^= bits;
            match node.import(&changed) {
                Ok(_) => taken += 1,
                Err(error) => assert_eq!(error.reason().blame(), Blame::Caller, "{error}"),
            }
            // The ids have one byte: whatever was taken, they are few.
            assert!(node.store.read_blocking(rows::count).unwrap() <= 256);
        }
    }
    // Most bytes carry meaning.
    assert!(taken < CHANGES.len() * file.len() / 2, "{taken}");
}

#[test]
fn a_small_file_with_a_huge_page_is_refused() {
    let node = Node::new();
    let zeros = vec![0; 8 << 20];
    let packed = gzip(&zeros);
    assert!(packed.len() < 10_000);
    let with = |codec, size, body: &[u8]| {
        Handmade::customers()
            .with(required(
                "notes",
                codec,
                2,
                vec![data(PLAIN, 2, size, body)],
            ))
            .file()
    };
    // It decompresses to more than it says; it says what no page may have.
    for (codec, packed, problem) in [
        (
            GZIP,
            packed.clone(),
            "a page decompresses to more or less than 100 bytes",
        ),
        (
            ZSTD,
            zstd::bulk::compress(&zeros, 1).unwrap(),
            "a page cannot be decompressed: Destination buffer is too small",
        ),
        (
            SNAPPY,
            snap::raw::Encoder::new().compress_vec(&zeros).unwrap(),
            "a page cannot be decompressed: 8388608 bytes, not 100",
        ),
    ] {
        let reason = node.damaged(&with(codec, 100, &packed));
        assert!(
            reason.starts_with("column \"notes\", before byte "),
            "{reason}"
        );
        assert!(reason.ends_with(problem), "{reason}");
        let reason = node.refused(&with(codec, 0x7fff_ffff, &packed));
        assert!(
            reason.ends_with(
                "a page has 2147483647 bytes; 134217728 are the limit: write smaller pages"
            ),
            "{reason}"
        );
    }
    // Snappy's own length.
    let claims = [varint(0xffff_ffff), vec![0; 8]].concat();
    node.damaged(&with(SNAPPY, 100, &claims));
}

#[test]
fn many_columns_of_large_pages_are_refused() {
    let node = Node::new();
    let size = 100 << 20;
    let packed = zstd::bulk::compress(&vec![0; size], 1).unwrap();
    let mut file = Handmade::customers();
    for name in ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"] {
        file = file.with(required(name, ZSTD, 2, vec![data(PLAIN, 2, size, &packed)]));
    }
    let file = file.file();
    assert!(file.len() < 200_000);
    let reason = node.refused(&file);
    assert!(
        reason.contains("needs more than 536870912 bytes of memory"),
        "{reason}"
    );
}

/// As much as fits: the row is read, and refused for a value that no field may have.
#[test]
fn a_row_of_large_values_is_refused_for_them() {
    let node = Node::new();
    let size = 100 << 20;
    let mut value = ((size - 4) as u32).to_le_bytes().to_vec();
    value.resize(size, b'x');
    let packed = zstd::bulk::compress(&value, 1).unwrap();
    let column =
        |name, codec, size, body: &[u8]| required(name, codec, 1, vec![data(PLAIN, 1, size, body)]);
    let (id, stage) = (texts(&["a"]), texts(&["Lead"]));
    let mut file = Handmade {
        columns: vec![
            column("id", PLAIN_BYTES, id.len(), &id),
            column("stage", PLAIN_BYTES, stage.len(), &stage),
        ],
        rows: (1, 1),
    };
    for name in ["c1", "c2", "c3", "c4", "c5"] {
        file = file.with(column(name, ZSTD, size, &packed));
    }
    assert_eq!(
        node.problem_at("row 1, column 3 (c1)", &file.file()),
        "104857596 bytes long: at most 8192 are allowed"
    );
}

/// Pages of one large value each, of which reading ahead would gather hundreds.
#[test]
fn large_pages_one_after_the_other_are_refused() {
    let node = Node::new();
    let size = 100 << 20;
    let mut value = ((size - 4) as u32).to_le_bytes().to_vec();
    value.resize(size, b'x');
    let packed = zstd::bulk::compress(&value, 1).unwrap();
    let rows = 64;
    let mut file = Handmade::customers();
    for column in &mut file.columns {
        let body = texts(&["Lead"].repeat(rows));
        column.pages = vec![data(PLAIN, rows as i64, body.len(), &body)];
        column.values = rows as i64;
    }
    file.rows = (rows as i64, rows as i64);
    let pages = vec![data(PLAIN, 1, size, &packed); rows];
    let reason = node.refused(
        &file
            .with(required("notes", ZSTD, rows as i64, pages))
            .file(),
    );
    assert!(
        reason.contains("needs more than 536870912 bytes of memory"),
        "{reason}"
    );
}

#[test]
fn wrong_numbers_of_rows_are_refused() {
    let node = Node::new();
    for (rows, problem) in [
        ((3, 2), "its footer speaks of 3 rows, its row groups of 2"),
        ((2, 1), "column \"id\": 2 values in a group of 1 rows"),
        ((1, 1), "column \"id\": 2 values in a group of 1 rows"),
        (
            (1 << 40, 1 << 40),
            "column \"id\": 2 values in a group of 1099511627776 rows",
        ),
        ((-1, -1), "its parts contradict each other"),
    ] {
        let file = Handmade {
            rows,
            ..Handmade::customers()
        };
        assert_eq!(node.damaged(&file.file()), problem);
    }
    // Row group and columns lie together, the pages have more rows, or fewer.
    for (rows, problem) in [
        (1, "its pages have 2 values, not 1"),
        (3, "Unexpected end of column data"),
    ] {
        let mut file = Handmade {
            rows: (rows, rows),
            ..Handmade::customers()
        };
        for column in &mut file.columns {
            column.values = rows;
        }
        let reason = node.damaged(&file.file());
        assert!(reason.contains(problem), "{reason}");
    }
    // Each value is a page, and those after the first are not spoken of: they must not be lost.
    let mut file = Handmade {
        rows: (1, 1),
        ..Handmade::customers()
    };
    for (column, values) in file.columns.iter_mut().zip([["a", "b"], ["Lead", "Deal"]]) {
        let pages = values.map(|value| {
            let body = texts(&[value]);
            data(PLAIN, 1, body.len(), &body)
        });
        column.pages = pages.to_vec();
        column.values = 1;
    }
    let reason = node.damaged(&file.file());
    assert!(
        reason.ends_with("its pages have 2 values, not 1"),
        "{reason}"
    );
    // No row group where the footer speaks of rows.
    let reason = node.damaged(&Handmade::customers().changed(|footer| {
        footer[3].1 = Value::Structs(Vec::new());
    }));
    assert_eq!(reason, "its footer speaks of 2 rows, its row groups of 0");
    // Lists that go on over more rows than there are.
    let body = [&2_u32.to_le_bytes()[..], &[3 << 1, 0]].concat();
    let body = [
        &body[..],
        &2_u32.to_le_bytes(),
        &[3 << 1, 1],
        &texts(&["x", "y", "z"]),
    ]
    .concat();
    let emails = repeated("email", 3, vec![data(PLAIN, 3, body.len(), &body)]);
    let reason = node.damaged(&Handmade::customers().with(emails).file());
    assert_eq!(
        reason,
        "column \"email\" has 3 values in 3 rows, not 3 in 2"
    );
}

#[test]
fn a_dictionary_is_as_long_as_its_page() {
    let node = Node::new();
    let body = texts(&["Lead", "Deal"]);
    let indexes = [1, 3, 0b10];
    let stages = |count, indexes: &[u8]| {
        let pages = vec![
            dictionary(count, body.len(), &body),
            data(RLE_DICTIONARY, 2, indexes.len(), indexes),
        ];
        let mut file = Handmade::customers();
        file.columns[1] = required("stage", PLAIN_BYTES, 2, pages);
        file.file()
    };
    for count in [3, 0x7fff_ffff] {
        let reason = node.damaged(&stages(count, &indexes));
        assert!(
            reason.ends_with("its dictionary's values are cut short"),
            "{reason}"
        );
    }
    // An index past the end.
    node.damaged(&stages(2, &[8, 2 << 1, 200]));
    assert_eq!(node.import(&stages(2, &indexes)).unwrap(), 2);
}

#[test]
fn deltas_are_as_many_as_the_values() {
    let node = Node::new();
    let huge = deltas(0x7fff_ffff, 0);
    let prefixes = [deltas(2, 0), vec![0, 0, 0, 0, 0], huge.clone()].concat();
    for (encoding, body) in [
        (DELTA_BINARY_PACKED, &huge),
        (DELTA_LENGTH_BYTE_ARRAY, &huge),
        (DELTA_BYTE_ARRAY, &huge),
        (DELTA_BYTE_ARRAY, &prefixes),
    ] {
        let column = required(
            "notes",
            PLAIN_BYTES,
            2,
            vec![data(encoding, 2, body.len(), body)],
        );
        let reason = node.damaged(&Handmade::customers().with(column).file());
        assert!(
            reason.ends_with("it speaks of 2147483647 deltas where it has 2 values"),
            "{reason}"
        );
    }
}

/// Where all parts agree on 2³¹ - 1 values, only memory is the limit.
#[test]
fn deltas_of_no_bytes_are_bounded() {
    let node = Node::new();
    let rows = 0x7fff_ffff;
    for encoding in [DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY] {
        // One miniblock of 65536 a block: two bytes for as many.
        let mut body = [varint(65536), vec![1], varint(rows as u64), vec![0]].concat();
        body.extend([0, 0].repeat(1 << 15));
        let page = data(encoding, rows, body.len(), &body);
        let mut file = Handmade {
            rows: (rows, rows),
            ..Handmade::customers()
        };
        for column in &mut file.columns {
            column.values = rows;
        }
        let file = file.with(required("notes", PLAIN_BYTES, rows, vec![page]));
        let reason = node.refused(&file.file());
        assert!(
            reason.contains("needs more than 536870912 bytes of memory"),
            "{reason}"
        );
    }
}

/// Values that the crate writes as text only with a panic, or with as many digits as the file says.
#[test]
fn values_out_of_range_are_refused() {
    let node = Node::new();
    let numbers = |number: i64| [1_i64, number].map(i64::to_le_bytes).concat();
    let small = |number: i32| [1_i32, number].map(i32::to_le_bytes).concat();
    let out_of_range = "the value is out of range";
    let (int32, int64, text) = (1, 2, 6);
    let (decimal, date, time_millis, time_micros, millis, micros) = (5, 6, 7, 8, 9, 10);
    for (kind, body) in [
        ([int32, date, 0, 0], small(i32::MIN)),
        ([int32, time_millis, 0, 0], small(-1)),
        ([int64, time_micros, 0, 0], numbers(24 * 3_600_000_000)),
        ([int64, millis, 0, 0], numbers(i64::MAX)),
        ([int64, micros, 0, 0], numbers(i64::MIN)),
        (
            [text, decimal, 2, 0x7fff_fffe],
            texts(&[vec![1], vec![0x7f; 1 << 20]]),
        ),
    ] {
        let file = Handmade::customers().with(typed("notes", kind, &body));
        assert_eq!(
            node.problem_at("row 2, column 3 (notes)", &file.file()),
            out_of_range
        );
    }
    let scale = typed(
        "notes",
        [text, decimal, 0x7fff_fffd, 0x7fff_fffe],
        &texts(&[[1], [2]]),
    );
    let file = Handmade::customers().with(scale).file();
    assert_eq!(
        node.problem_at("row 1, column 3 (notes)", &file),
        out_of_range
    );
    // As they should be: 1970-01-02, then -0.05 of a decimal with two digits after the point.
    let file = Handmade::customers()
        .with(typed("seen", [int32, date, 0, 0], &small(-1)))
        .with(typed(
            "worth",
            [text, decimal, 2, 9],
            &texts(&[[1], [0xfb]]),
        ));
    assert_eq!(node.import(&file.file()).unwrap(), 2);
    let details = node
        .store
        .read_blocking(|connection| rows::fetch(connection, &["a", "b"]))
        .unwrap();
    let fields: Vec<_> = details
        .iter()
        .flatten()
        .map(|customer| (customer.field("seen"), customer.field("worth")))
        .collect();
    assert_eq!(
        fields,
        [
            (Some("1970-01-02"), Some("0.01")),
            (Some("1969-12-31"), Some("-0.05"))
        ]
    );
}

/// Each text goes on from the whole one before: 100 MiB a row in a page of 100 MiB, once packed a few KB.
#[test]
fn texts_that_repeat_each_other_are_bounded() {
    let node = Node::new();
    let (rows, length) = (200, 100 << 20);
    // First value, then one block of deltas: its least, four widths of 0.
    let flat = |count, first, least: i64| {
        let mut bytes = deltas(count, first);
        for _ in 0..2 {
            bytes.extend(zigzag(least));
            bytes.extend([0; 4]);
        }
        bytes
    };
    // Prefixes 0, length, length …: widths would be needed; instead each grows by as much as it may.
    let step = length / rows;
    let body = [
        flat(rows, 0, step as i64),
        flat(rows, step as i64, 0),
        vec![b'x'; length as usize],
    ]
    .concat();
    let packed = zstd::bulk::compress(&body, 1).unwrap();
    let mut file = Handmade::customers();
    for column in &mut file.columns {
        let plain = texts(&["Lead"].repeat(rows as usize));
        column.pages = vec![data(PLAIN, rows as i64, plain.len(), &plain)];
        column.values = rows as i64;
    }
    file.rows = (rows as i64, rows as i64);
    let page = data(DELTA_BYTE_ARRAY, rows as i64, body.len(), &packed);
    let file = file
        .with(required("notes", ZSTD, rows as i64, vec![page]))
        .file();
    assert!(file.len() < 100_000, "{}", file.len());
    let reason = node.refused(&file);
    assert!(
        reason.contains("needs more than 536870912 bytes of memory"),
        "{reason}"
    );
}

#[test]
fn a_list_is_bounded() {
    let node = Node::new();
    let stored = texts(&["x@x.example"]);
    let emails = |count: u64, stored: &[u8]| {
        // Two rows, the first of `count - 1` values.
        let levels = [vec![2, 0], varint((count - 2) << 1), vec![1, 2, 0]].concat();
        let definitions = [varint(count << 1), vec![1]].concat();
        let indexes = [vec![1], varint(count << 1), vec![0]].concat();
        let body = [
            &(levels.len() as u32).to_le_bytes()[..],
            &levels,
            &(definitions.len() as u32).to_le_bytes(),
            &definitions,
            &indexes,
        ]
        .concat();
        let pages = vec![
            dictionary(1, stored.len(), stored),
            data(RLE_DICTIONARY, count as i64, body.len(), &body),
        ];
        Handmade::customers()
            .with(repeated("email", count as i64, pages))
            .file()
    };
    let reason = node.damaged(&emails(0x7fff_ffff, &stored));
    assert!(
        reason.ends_with("row 1 of its row group has a list of more than 1024 values"),
        "{reason}"
    );
    // What the list may have, but of long texts.
    let long = texts(&["x".repeat(1 << 20)]);
    let reason = node.damaged(&emails(1000, &long));
    assert!(
        reason.ends_with("it has lists of values of 1048576 bytes; 8192 are the limit"),
        "{reason}"
    );
    assert_eq!(node.import(&emails(5, &stored)).unwrap(), 2);
}

#[test]
fn schemas_are_bounded() {
    let node = Node::new();
    let group = |name: &str, children| {
        vec![
            (3, Value::I32(0)),
            (4, Value::Text(name.into())),
            (5, Value::I32(children)),
        ]
    };
    let with = |elements: Vec<Fields>| {
        Handmade::customers().changed(|footer| {
            if let Value::Structs(schema) = &mut footer[1].1 {
                schema[0][1].1 = Value::I32(3);
                schema.extend(elements);
            }
        })
    };
    // The crate recurses as deep as a schema goes.
    let deep: Vec<Fields> = (0..1500).map(|_| group("g", 1)).collect();
    assert_eq!(
        node.refused(&with(deep)),
        "the Parquet file's columns are nested too deep: give each column plain values or a list of plain values"
    );
    let many: Vec<Fields> = (0..100_000).map(|_| group("g", 1)).collect();
    assert_eq!(
        node.damaged(&with(many)),
        "in its footer its schema has too many columns"
    );
    for wrong in [-1, 0x7fff_ffff] {
        assert_eq!(
            node.damaged(&with(vec![group("g", wrong)])),
            "its schema contradicts itself"
        );
    }
}

/// A list of 2³¹ truth values has no bytes to read: a reader that counts to it does not return for a long time.
#[test]
fn empty_numbers_of_things_take_no_time() {
    let node = Node::new();
    let truths = [vec![0xf1], varint(0x7fff_ffff)].concat();
    let file = Handmade::customers().changed(|footer| {
        footer.extend((20..2000).map(|id| (id, Value::Raw(9, truths.clone()))));
    });
    assert_eq!(node.damaged(&file), "in its footer a list has truth values");
    let mut file = Handmade::customers();
    file.columns[0].pages[0]
        .header
        .push((9, Value::Raw(9, truths)));
    let reason = node.damaged(&file.file());
    assert!(
        reason.ends_with("in a page's header a list has truth values"),
        "{reason}"
    );
}

/// Contradictions that the parquet crate answers with a panic.
#[test]
fn what_panics_in_the_crate_is_refused() {
    let node = Node::new();
    // A LIST whose only child does not repeat.
    let body = texts(&["x", "y"]);
    let mut column = required(
        "notes",
        PLAIN_BYTES,
        2,
        vec![data(PLAIN, 2, body.len(), &body)],
    );
    let mut list = vec![
        (3, Value::I32(0)),
        (4, Value::Text(b"notes".to_vec())),
        (5, Value::I32(1)),
        (6, Value::I32(3)),
    ];
    column.schema.insert(0, std::mem::take(&mut list));
    column.path = vec!["notes", "notes"];
    let file = Handmade::customers().with(column).file();
    assert_eq!(node.damaged(&file), "its parts contradict each other");
    // The node goes on.
    assert_eq!(node.import(&Handmade::customers().file()).unwrap(), 2);
}

#[test]
fn checksums_are_checked() {
    let node = Node::new();
    let mut crc = flate2::Crc::new();
    let mut file = Handmade::customers();
    crc.update(&file.columns[0].pages[0].body);
    let page = &mut file.columns[0].pages[0];
    page.header
        .insert(3, (4, Value::I32(i64::from(crc.sum() as i32))));
    let whole = file.file();
    let id = b"\x01\0\0\0a\x01\0\0\0b";
    let at = whole
        .windows(id.len())
        .position(|window| window == id)
        .unwrap();
    let mut changed = whole.clone();
    changed[at + 4] = b'c';
    let reason = node.damaged(&changed);
    assert!(
        reason.ends_with("a page's checksum is not that of its bytes"),
        "{reason}"
    );
    assert_eq!(node.import(&whole).unwrap(), 2);
}
