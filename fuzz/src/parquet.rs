//! Seeds of the target of Parquet files: small ones, in each encoding and compression that a node reads.

use std::sync::Arc;

use parquet::{
    basic::{Compression, Encoding},
    data_type::{BoolType, ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};

use crate::seeds::Seed;

const CUSTOMERS: &str = "message customer {
    required binary id (UTF8);
    required binary stage (UTF8);
    optional group email (LIST) { repeated group list { optional binary element (UTF8); } }
    optional binary name (UTF8);
    required int64 seats;
    required boolean private;
}";

/// Types whose text the parquet crate makes.
const TYPES: &str = "message customer {
    required binary id (UTF8);
    required binary stage (UTF8);
    required int64 seen (TIMESTAMP_MILLIS);
    required int64 time (TIME_MICROS);
    required int64 price (DECIMAL(9,2));
    required binary worth (DECIMAL(9,2));
    repeated binary domain (UTF8);
}";

const DEALS: &str = "message deal {
    required binary id (UTF8);
    required binary amount (UTF8);
    required binary outcome (UTF8);
    required binary origination (UTF8);
    required binary type (UTF8);
    required int64 opened_at (TIMESTAMP_MICROS);
}";

/// Values of a column, three rows.
enum Values {
    Texts([&'static str; 3]),
    /// One of them null.
    Optional([Option<&'static str>; 3]),
    Lists([&'static [&'static str]; 3]),
    /// Lists that are never null, of which none is empty.
    Repeated([&'static [&'static str]; 3]),
    Numbers([i64; 3]),
    Truths([bool; 3]),
}

fn customers() -> Vec<Values> {
    vec![
        Values::Texts(["a1", "a2", "b1"]),
        Values::Texts(["Lead", "Deal", "Lead"]),
        Values::Lists([&["a@x.example", "b@x.example"], &[], &["a@y.example"]]),
        Values::Optional([Some("Acme"), None, Some("Acme Ltd")]),
        Values::Numbers([7, -1, 1 << 40]),
        Values::Truths([false, true, false]),
    ]
}

fn types() -> Vec<Values> {
    vec![
        Values::Texts(["a1", "a2", "b1"]),
        Values::Texts(["Lead", "Deal", "Lead"]),
        Values::Numbers([1_767_571_200_000, -1, 0]),
        Values::Numbers([0, 1, 86_399_999_999]),
        Values::Numbers([12_345, -5, 0]),
        Values::Texts(["\x01\x02", "\x7f", ""]),
        Values::Repeated([&["x.example"], &["y.example", "z.example"], &["x.example"]]),
    ]
}

fn deals() -> Vec<Values> {
    vec![
        Values::Texts(["d1", "d2", "d3"]),
        Values::Texts(["1 EUR", "2.50 EUR", "3 USD"]),
        Values::Texts(["open", "won", "open"]),
        Values::Texts(["DEAL_ORIGINATION_DIRECT"; 3]),
        Values::Texts(["new"; 3]),
        Values::Numbers([1_767_571_200_000_000; 3]),
    ]
}

fn file(
    schema: &str,
    columns: &[Values],
    groups: usize,
    properties: WriterPropertiesBuilder,
) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = properties
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_created_by(String::new());
    let mut file = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut file, schema, Arc::new(properties.build())).unwrap();
    let bytes = |texts: &[&str]| -> Vec<ByteArray> {
        texts.iter().map(|text| ByteArray::from(*text)).collect()
    };
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        for values in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let written = match values {
                Values::Texts(texts) => {
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&bytes(texts), None, None)
                }
                Values::Optional(texts) => {
                    let there: Vec<&str> = texts.iter().flatten().copied().collect();
                    let levels = texts.map(|text| i16::from(text.is_some()));
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&bytes(&there), Some(&levels), None)
                }
                Values::Lists(lists) => {
                    let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
                    for list in lists {
                        definitions.extend(list.iter().map(|_| 3));
                        repetitions.extend((0..list.len()).map(|at| i16::from(at > 0)));
                        if list.is_empty() {
                            definitions.push(0);
                            repetitions.push(0);
                        }
                    }
                    column.typed::<ByteArrayType>().write_batch(
                        &bytes(&lists.concat()),
                        Some(&definitions),
                        Some(&repetitions),
                    )
                }
                Values::Repeated(lists) => {
                    let repetitions: Vec<i16> = lists
                        .iter()
                        .flat_map(|list| (0..list.len()).map(|at| i16::from(at > 0)))
                        .collect();
                    column.typed::<ByteArrayType>().write_batch(
                        &bytes(&lists.concat()),
                        Some(&vec![1; repetitions.len()]),
                        Some(&repetitions),
                    )
                }
                Values::Numbers(numbers) => {
                    column.typed::<Int64Type>().write_batch(numbers, None, None)
                }
                Values::Truths(truths) => {
                    column.typed::<BoolType>().write_batch(truths, None, None)
                }
            };
            written.unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

/// The files.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    let version_2 = || plain().set_writer_version(WriterVersion::PARQUET_2_0);
    let properties = [
        ("plain", plain()),
        ("dictionary", WriterProperties::builder()),
        (
            "delta-lengths",
            version_2().set_column_encoding("id".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ),
        ("version-2", version_2()),
        ("snappy", plain().set_compression(Compression::SNAPPY)),
        (
            "gzip",
            plain().set_compression(Compression::GZIP(Default::default())),
        ),
        (
            "zstd",
            version_2().set_compression(Compression::ZSTD(Default::default())),
        ),
        (
            "small-pages",
            plain()
                .set_data_page_row_count_limit(1)
                .set_write_batch_size(1),
        ),
    ];
    let mut seeds: Vec<Seed> = properties
        .into_iter()
        .map(|(name, properties)| {
            let file = file(CUSTOMERS, &customers(), 1, properties);
            (format!("customers-{name}"), file)
        })
        .collect();
    seeds.push((
        "customers-two-groups".to_owned(),
        file(CUSTOMERS, &customers(), 2, plain()),
    ));
    seeds.push((
        "customers-types".to_owned(),
        file(TYPES, &types(), 1, plain()),
    ));
    seeds.push(("deals".to_owned(), file(DEALS, &deals(), 1, plain())));
    seeds
}
