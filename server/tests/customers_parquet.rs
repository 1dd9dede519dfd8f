//! Parquet files, where they are built in.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs::File, path::Path, sync::Arc};

use jiff::Timestamp;
use overlap_crypto::terms::KeyType;
use overlap_server::{
    clock::MockClock,
    customers::{
        import::{ImportOptions, ImportSummary, import_file},
        rows,
    },
    error::Error,
    storage::Store,
};
use parquet::{
    basic::{Compression, Encoding},
    data_type::{BoolType, ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::{WriterProperties, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};

type Customer<'a> = (&'a str, &'a str, &'a [&'a str], i64, bool);

/// A file of `id`, `stage`, `email` (a list), `seats` and `private`.
fn write(path: &Path, rows: &[Customer<'_>]) {
    write_as(path, &[rows], WriterProperties::default());
}

/// The same, of several row groups.
fn write_as(path: &Path, groups: &[&[Customer<'_>]], properties: WriterProperties) {
    let schema = "message customer {
        required binary id (UTF8);
        required binary stage (UTF8);
        optional group email (LIST) { repeated group list { optional binary element (UTF8); } }
        required int64 seats;
        required boolean private;
    }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = File::create(path).expect("a new file");
    let mut writer =
        SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("a writer");
    for rows in groups {
        write_group(&mut writer, rows);
    }
    writer.close().expect("a whole file");
}

fn write_group(writer: &mut SerializedFileWriter<File>, rows: &[Customer<'_>]) {
    let mut group = writer.next_row_group().expect("a row group");
    let texts = |pick: &dyn Fn(usize) -> String| -> Vec<ByteArray> {
        (0..rows.len())
            .map(|row| ByteArray::from(pick(row).into_bytes()))
            .collect()
    };
    for column in 0..5 {
        let mut column_writer = group
            .next_column()
            .expect("a column")
            .expect("five columns");
        match column {
            0 | 1 => {
                let values = texts(&|row| {
                    if column == 0 {
                        rows[row].0.to_owned()
                    } else {
                        rows[row].1.to_owned()
                    }
                });
                column_writer
                    .typed::<ByteArrayType>()
                    .write_batch(&values, None, None)
                    .expect("texts");
            }
            2 => {
                let (mut values, mut definitions, mut repetitions) =
                    (Vec::new(), Vec::new(), Vec::new());
                for (_, _, emails, ..) in rows {
                    if emails.is_empty() {
                        definitions.push(0);
                        repetitions.push(0);
                    }
                    for (index, email) in emails.iter().enumerate() {
                        values.push(ByteArray::from(*email));
                        definitions.push(3);
                        repetitions.push(i16::from(index > 0));
                    }
                }
                column_writer
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&definitions), Some(&repetitions))
                    .expect("lists");
            }
            3 => {
                let values: Vec<i64> = rows.iter().map(|row| row.3).collect();
                column_writer
                    .typed::<Int64Type>()
                    .write_batch(&values, None, None)
                    .expect("numbers");
            }
            _ => {
                let values: Vec<bool> = rows.iter().map(|row| row.4).collect();
                column_writer
                    .typed::<BoolType>()
                    .write_batch(&values, None, None)
                    .expect("truth values");
            }
        }
        column_writer.close().expect("a whole column");
    }
    group.close().expect("a whole row group");
}

fn import(store: &Store, path: &Path) -> Result<ImportSummary, Error> {
    let start: Timestamp = "2026-03-01T00:00:00Z".parse().expect("a valid time");
    import_file(
        store,
        &MockClock::new(start),
        path,
        None,
        &ImportOptions::default(),
        &mut |_| (),
    )
}

#[test]
fn a_parquet_file_is_imported() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = directory.path().join("f.parquet");
    write(
        &path,
        &[
            ("b", "Lead", &["A@x.example", "b@x.example"], 7, false),
            ("a", "Deal", &[], -1, true),
        ],
    );
    let summary = import(&store, &path).unwrap();
    assert_eq!(
        (summary.inserted, summary.field_columns),
        (2, vec!["seats".to_owned()])
    );
    let details = store
        .read_blocking(|connection| rows::fetch(connection, &["a", "b"]))
        .unwrap();
    let [a, b] = details.try_into().unwrap();
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(
        (a.stage.as_str(), a.private, a.field("seats")),
        ("Deal", true, Some("-1"))
    );
    assert_eq!(
        b.of_type(KeyType::Email).collect::<Vec<_>>(),
        ["A@x.example", "b@x.example"]
    );
    assert_eq!(b.identifiers[0].key.as_deref(), Ok("a@x.example"));
}

/// Each encoding, compression and form of page that writers choose from has the same customers.
#[test]
fn all_encodings_are_read() {
    const ROWS: usize = 3000;
    let ids: Vec<String> = (0..ROWS).map(|row| format!("c{row:05}")).collect();
    let emails: Vec<Vec<String>> = (0..ROWS)
        .map(|row| {
            (0..row % 4)
                .map(|at| format!("u{row}.{at}@x.example"))
                .collect()
        })
        .collect();
    let emails: Vec<Vec<&str>> = emails
        .iter()
        .map(|emails| emails.iter().map(String::as_str).collect())
        .collect();
    let customers: Vec<Customer<'_>> = (0..ROWS)
        .map(|row| {
            let stage = ["Lead", "Deal", "Customer"][row % 3];
            let seats = row as i64 * 7919 - 1_000_000;
            (ids[row].as_str(), stage, &*emails[row], seats, row % 5 == 0)
        })
        .collect();
    let groups: Vec<_> = customers.chunks(1700).collect();
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    let delta = |text| {
        let properties = plain().set_column_encoding("seats".into(), Encoding::DELTA_BINARY_PACKED);
        let properties = properties.set_column_encoding("id".into(), text);
        properties.set_column_encoding("email.list.element".into(), text)
    };
    let version_2 = WriterVersion::PARQUET_2_0;
    for (name, properties) in [
        ("plain", plain()),
        ("dictionaries", WriterProperties::builder()),
        (
            "dictionaries given up",
            WriterProperties::builder().set_dictionary_page_size_limit(2000),
        ),
        (
            "small pages",
            plain()
                .set_data_page_row_count_limit(7)
                .set_write_batch_size(7),
        ),
        ("lengths", delta(Encoding::DELTA_LENGTH_BYTE_ARRAY)),
        ("texts", delta(Encoding::DELTA_BYTE_ARRAY)),
        (
            "streams",
            plain().set_column_encoding("seats".into(), Encoding::BYTE_STREAM_SPLIT),
        ),
        ("version 2", plain().set_writer_version(version_2)),
        ("snappy", plain().set_compression(Compression::SNAPPY)),
        (
            "gzip",
            plain().set_compression(Compression::GZIP(Default::default())),
        ),
        (
            "zstd, version 2",
            plain()
                .set_compression(Compression::ZSTD(Default::default()))
                .set_writer_version(version_2),
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let path = directory.path().join("f.parquet");
        write_as(&path, &groups, properties.build());
        assert_eq!(
            import(&store, &path).unwrap().inserted,
            ROWS as u64,
            "{name}"
        );
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let details = store
            .read_blocking(|connection| rows::fetch(connection, &ids))
            .unwrap();
        for (stored, (id, stage, emails, seats, private)) in details.iter().zip(&customers) {
            let stored = stored.as_ref().unwrap();
            assert_eq!(
                (stored.stage.as_str(), stored.private, stored.field("seats")),
                (*stage, *private, Some(seats.to_string().as_str())),
                "{name}, {id}"
            );
            assert_eq!(&stored.of_type(KeyType::Email).collect::<Vec<_>>(), emails);
        }
    }
}

#[test]
fn mistakes_in_a_parquet_file_have_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let path = directory.path().join("f.parquet");
    write(
        &path,
        &[("a", "Lead", &[], 0, false), ("b", "Nope", &[], 0, false)],
    );
    assert_eq!(
        import(&store, &path).unwrap_err().message(),
        "f.parquet, row 2, column 2 (stage): unknown stage \"Nope\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned; define a new one before customers use it"
    );
    write(
        &path,
        &[("a", "Lead", &[], 0, false), ("a", "Lead", &[], 0, false)],
    );
    assert_eq!(
        import(&store, &path).unwrap_err().message(),
        "f.parquet, row 2: the id \"a\" is on row 1 already: remove one of the two"
    );
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = import(&store, &path).unwrap_err();
    assert!(
        error
            .message()
            .starts_with("f.parquet: not a whole Parquet file: "),
        "{error}"
    );
    std::fs::write(&path, "").unwrap();
    assert_eq!(
        import(&store, &path).unwrap_err().message(),
        "f.parquet: the file is empty"
    );
    assert_eq!(store.read_blocking(rows::count).unwrap(), 0);
}
