//! Record files as Parquet, where it is built in.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "parquet/handmade.rs"]
mod handmade;
#[path = "records/support.rs"]
mod support;

use std::sync::Arc;

use handmade::{Handmade, PLAIN, PLAIN_BYTES, Value, data, required, texts};
use overlap_proto::v1::{self, RecordFileFormat::Parquet, RecordKind, record::Content};
use overlap_server::auth::Role;
use parquet::{
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use support::*;

/// A file of deals: id, amount, outcome, origination, type, influencing partners (a list) and when they were opened (a Parquet time).
fn deals(rows: &[(&str, &str, &[&str], i64)]) -> Vec<u8> {
    let schema = "message deal {
        required binary id (UTF8);
        required binary amount (UTF8);
        required binary outcome (UTF8);
        required binary origination (UTF8);
        required binary type (UTF8);
        optional group influencing_partners (LIST) { repeated group list { optional binary element (UTF8); } }
        required int64 opened_at (TIMESTAMP_MICROS);
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in 0..7 {
        let mut column_writer = group.next_column().unwrap().unwrap();
        let texts = |pick: &dyn Fn(usize) -> &'static str| -> Vec<ByteArray> {
            (0..rows.len())
                .map(|row| ByteArray::from(pick(row)))
                .collect()
        };
        let values: Vec<ByteArray> = match column {
            0 => rows.iter().map(|row| ByteArray::from(row.0)).collect(),
            1 => rows.iter().map(|row| ByteArray::from(row.1)).collect(),
            2 => texts(&|_| "open"),
            3 => texts(&|_| "DEAL_ORIGINATION_DIRECT"),
            4 => texts(&|_| "new"),
            5 => {
                let mut values = Vec::new();
                let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
                for (_, _, partners, _) in rows {
                    for (at, partner) in partners.iter().enumerate() {
                        values.push(ByteArray::from(*partner));
                        definitions.push(3);
                        repetitions.push(i16::from(at > 0));
                    }
                    if partners.is_empty() {
                        definitions.push(0);
                        repetitions.push(0);
                    }
                }
                column_writer
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&definitions), Some(&repetitions))
                    .unwrap();
                column_writer.close().unwrap();
                continue;
            }
            _ => {
                let times: Vec<i64> = rows.iter().map(|row| row.3).collect();
                column_writer
                    .typed::<Int64Type>()
                    .write_batch(&times, None, None)
                    .unwrap();
                column_writer.close().unwrap();
                continue;
            }
        };
        column_writer
            .typed::<ByteArrayType>()
            .write_batch(&values, None, None)
            .unwrap();
        column_writer.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    file
}

/// A file with a list whose values do not repeat, at which the parquet crate panics.
fn contradiction() -> Vec<u8> {
    let column = |name| {
        let body = texts(&["a", "b"]);
        required(
            name,
            PLAIN_BYTES,
            2,
            vec![data(PLAIN, 2, body.len(), &body)],
        )
    };
    let mut list = column("influencing_partners");
    let fields = [
        (3, Value::I32(0)),
        (4, Value::Text(b"influencing_partners".to_vec())),
        (5, Value::I32(1)),
        (6, Value::I32(3)),
    ];
    list.schema.insert(0, fields.to_vec());
    list.path = vec!["influencing_partners"; 2];
    Handmade {
        columns: vec![column("id"), list],
        rows: (2, 2),
    }
    .file()
}

/// 2026-01-05T00:00:00Z.
const OPENED: i64 = 1_767_571_200_000_000;

/// K-35: a Parquet file is taken in like any other, all or nothing, and again without effect.
#[tokio::test]
async fn k35_parquet_files_are_taken_in() {
    let node = Node::start("2026-03-31T12:00:00Z").await;
    let file = deals(&[
        ("d1", "1234.50 EUR", &["p1", "p;2"], OPENED),
        ("d2", "7 USD", &[], OPENED),
    ]);
    let import = async |file: &[u8]| {
        node.import_bytes("deals.parquet", Parquet, RecordKind::Deal, file)
            .await
    };
    let answer = import(&file).await.unwrap();
    assert_eq!(
        (answer.inserted, answer.updated, answer.unchanged),
        (2, 0, 0)
    );
    let again = import(&file).await.unwrap();
    assert_eq!((again.inserted, again.updated, again.unchanged), (0, 0, 2));
    let record = node
        .records(Role::Admin)
        .get_record(v1::GetRecordRequest {
            kind: RecordKind::Deal.into(),
            id: "d1".to_owned(),
        })
        .await
        .unwrap()
        .into_inner()
        .record
        .unwrap();
    let Some(Content::Deal(deal)) = record.content else {
        panic!("not a deal");
    };
    assert_eq!(deal.influencing_partners, ["p1", "p;2"]);
    assert_eq!(deal.opened_at, day("2026-01-05"));
    let amount = deal.amount.unwrap();
    assert_eq!(
        (amount.currency_code.as_str(), amount.units, amount.nanos),
        ("EUR", 1234, 500_000_000)
    );
    // A wrong cell is named, and nothing is stored.
    let wrong = deals(&[("d3", "5 EUR", &[], OPENED), ("d4", "five", &[], OPENED)]);
    let refused = import(&wrong).await.unwrap_err();
    assert_eq!(
        violations(&refused),
        [(
            "deals.parquet, row 2, column amount".to_owned(),
            "must be an amount and a currency, e.g. 1234.50 EUR".to_owned()
        )]
    );
    for broken in [&file[..file.len() - 5], &file[5..], b"", &contradiction()] {
        let refused = import(broken).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_ARGUMENT");
        let message = refused.message();
        assert!(
            message.starts_with("deals.parquet: not a whole Parquet file: "),
            "{message}"
        );
    }
    let listed = node
        .records(Role::Admin)
        .list_records(v1::ListRecordsRequest {
            kind: RecordKind::Deal.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .records;
    let ids: Vec<_> = listed.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["d1", "d2"]);
}
