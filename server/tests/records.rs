//! The ingestion API: idempotent by id, all or nothing, files.

#[path = "records/support.rs"]
mod support;

use overlap_proto::v1::{self, RecordFileFormat as Format, RecordKind as Kind, record::Content};
use overlap_server::auth::Role;
use support::*;
use tonic::Code;

const NOW: &str = "2026-03-01T12:00:00Z";

fn room(id: &str, title: &str, updated: &str) -> v1::Record {
    v1::Record {
        updated_at: day(updated),
        ..record(
            id,
            Content::Room(v1::RoomRecord {
                title: title.to_owned(),
            }),
        )
    }
}

async fn title(node: &Node, id: &str) -> Option<String> {
    let answer = node
        .records(Role::Admin)
        .get_record(v1::GetRecordRequest {
            kind: Kind::Room as i32,
            id: id.to_owned(),
        })
        .await
        .ok()?;
    match answer.into_inner().record?.content? {
        Content::Room(room) => Some(room.title),
        _ => None,
    }
}

fn counts(answer: v1::IngestRecordsResponse) -> (u64, u64, u64) {
    (answer.inserted, answer.updated, answer.unchanged)
}

/// K-35: ingestion is idempotent by id.
#[tokio::test]
async fn k35_a_record_sent_again_changes_nothing() {
    let node = Node::start(NOW).await;
    let records = vec![
        room("r1", "One", "2026-01-01"),
        view("e1", "p1", "u1", "2026-02-01T10:00:00Z"),
        deal("d1", |_| {}),
    ];
    let first = node.ingest(records.clone()).await.expect("stored");
    assert_eq!(counts(first), (3, 0, 0));
    let again = node.ingest(records).await.expect("stored");
    assert_eq!(counts(again), (0, 0, 3));
}

/// K-35: the version with the latest updated_at is kept, whatever the order of arrival; deletions are versions too.
#[tokio::test]
async fn k35_the_latest_version_wins_in_any_order() {
    let versions = [
        room("r1", "One", "2026-01-01"),
        room("r1", "Two", "2026-01-02"),
        room("r1", "Same time, greater", "2026-01-03"),
        room("r1", "Same time", "2026-01-03"),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let node = Node::start(NOW).await;
        for at in order {
            node.ingest(vec![versions[at].clone()])
                .await
                .expect("stored");
        }
        // Equal times are decided by the contents.
        assert_eq!(
            title(&node, "r1").await.as_deref(),
            Some("Same time, greater"),
            "{order:?}"
        );
        let gone = v1::Record {
            deleted: true,
            ..room("r1", "", "2026-01-04")
        };
        node.ingest(vec![gone]).await.expect("stored");
        assert_eq!(title(&node, "r1").await, None);
        node.ingest(vec![versions[0].clone()])
            .await
            .expect("stored");
        assert_eq!(title(&node, "r1").await, None, "a late version came back");
    }
}

/// Invalid records are refused with index, field and reason, and nothing of the call is stored.
#[tokio::test]
async fn invalid_records_are_named_and_nothing_is_stored() {
    let node = Node::start(NOW).await;
    let refused = node
        .ingest(vec![
            room("r1", "One", "2026-01-01"),
            deal("d1", |deal| {
                deal.amount = money(5, "euro");
                deal.outcome = v1::DealOutcome::Won as i32;
            }),
            record("", Content::Room(v1::RoomRecord::default())),
        ])
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(reason(&refused), "INVALID_ARGUMENT");
    let expected = [
        (
            "records[1].deal.amount.currency_code",
            "must be an ISO 4217 code of three capital letters",
        ),
        (
            "records[1].deal.closed_at",
            "must be set for a WON or LOST deal",
        ),
        ("records[2].id", "must not be empty"),
        ("records[2].room.title", "must not be empty"),
    ];
    assert_eq!(
        violations(&refused),
        expected.map(|(field, problem)| (field.to_owned(), problem.to_owned()))
    );
    assert_eq!(title(&node, "r1").await, None);
}

/// Every list of a record has a limit.
#[tokio::test]
async fn lists_of_a_record_are_bounded() {
    let node = Node::start(NOW).await;
    let profile = |contacts: usize| {
        let contact = v1::PartnerContactRecord {
            name: "Ada".to_owned(),
            ..Default::default()
        };
        record(
            "p1",
            Content::PartnerProfile(v1::PartnerProfileRecord {
                name: "One".to_owned(),
                r#type: v1::PartnerType::Reseller as i32,
                contacts: vec![contact; contacts],
                ..Default::default()
            }),
        )
    };
    let refused = node.ingest(vec![profile(1001)]).await.expect_err("refused");
    assert_eq!(
        violations(&refused),
        [(
            "records[0].partner_profile.contacts".to_owned(),
            "must have at most 1000 elements".to_owned()
        )]
    );
    node.ingest(vec![profile(1000)]).await.expect("stored");
}

/// G-07: an unknown kind of portal event is INVALID_ARGUMENT, as is an event from the future.
#[tokio::test]
async fn g07_unknown_kinds_are_refused() {
    let node = Node::start(NOW).await;
    let mut wrong = view("e1", "p1", "u1", "2026-03-03T00:00:00Z");
    if let Some(Content::PortalEvent(event)) = &mut wrong.content {
        event.kind = 99;
    }
    let refused = node.ingest(vec![wrong]).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        violations(&refused),
        [
            (
                "records[0].portal_event.kind".to_owned(),
                "99 is not a known value".to_owned()
            ),
            (
                "records[0].portal_event.at".to_owned(),
                "lies more than a day in the future".to_owned()
            ),
        ]
    );
}

/// Roles: ADMIN and PARTNER_ADMIN take records in, PARTNER_MANAGER reads them, others do neither.
#[tokio::test]
async fn records_by_role() {
    let node = Node::start(NOW).await;
    for role in Role::ALL {
        let stream = futures::stream::iter([v1::IngestRecordsRequest {
            records: Vec::new(),
            last: true,
        }]);
        let taken = node.records(role).ingest_records(stream).await;
        let may = matches!(role, Role::Admin | Role::PartnerAdmin);
        assert_eq!(taken.is_ok(), may, "{role:?}");
        let listed = node
            .records(role)
            .list_records(v1::ListRecordsRequest {
                kind: Kind::Deal as i32,
                ..Default::default()
            })
            .await;
        let code = listed.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = if may || role == Role::PartnerManager {
            Code::Ok
        } else {
            Code::PermissionDenied
        };
        assert_eq!(code, expected, "{role:?}");
    }
    let mut anonymous = v1::record_service_client::RecordServiceClient::new(node.anonymous());
    let refused = anonymous
        .get_record(v1::GetRecordRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// Page tokens continue their own listing and no other.
#[tokio::test]
async fn page_tokens_are_bound_to_the_listing() {
    let node = Node::start(NOW).await;
    let rooms = (0..5)
        .map(|at| room(&format!("r{at}"), "Room", "2026-01-01"))
        .collect();
    node.ingest(rooms).await.expect("stored");
    let mut request = v1::ListRecordsRequest {
        kind: Kind::Room as i32,
        page_size: 2,
        ..Default::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = node
            .records(Role::Admin)
            .list_records(request.clone())
            .await
            .expect("a page")
            .into_inner();
        assert!(page.records.len() <= 2);
        ids.extend(page.records.into_iter().map(|record| record.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let other = v1::ListRecordsRequest {
            kind: Kind::Deal as i32,
            ..request.clone()
        };
        let refused = node
            .records(Role::Admin)
            .list_records(other)
            .await
            .expect_err("refused");
        assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    }
    assert_eq!(ids, ["r0", "r1", "r2", "r3", "r4"]);
}

/// CSV: lists, money, enums, nested fields; an import is one call.
#[tokio::test]
async fn csv_files_are_taken_in() {
    let node = Node::start(NOW).await;
    let file = "id,updated_at,partner,amount,origination,type,outcome,opened_at,closed_at,influencing_partners,registration.submitted_at,registration.status\n\
        d1,2026-01-01T00:00:00Z,p1,1234.50 EUR,sourced,NEW,won,2026-01-02T00:00:00Z,2026-01-20T00:00:00+01:00,p2; p3,2026-01-01T00:00:00Z,PENDING\n\
        d2,,,-0.25 USD,DEAL_ORIGINATION_DIRECT,renewal,open,2026-01-02T00:00:00Z,,,,\n";
    let answer = node
        .import("deals.csv", Format::Csv, Kind::Deal, file)
        .await
        .expect("stored");
    assert_eq!(answer.inserted, 2);
    let found = node
        .records(Role::Admin)
        .get_record(v1::GetRecordRequest {
            kind: Kind::Deal as i32,
            id: "d1".to_owned(),
        })
        .await
        .expect("found")
        .into_inner()
        .record
        .expect("set");
    assert_eq!(found.updated_at, day("2026-01-01"));
    let Some(Content::Deal(deal)) = found.content else {
        panic!("not a deal");
    };
    assert_eq!(deal.influencing_partners, ["p2", "p3"]);
    let amount = deal.amount.expect("set");
    assert_eq!((amount.units, amount.nanos), (1234, 500_000_000));
    assert_eq!(deal.closed_at, Some(time("2026-01-19T23:00:00Z")));
    assert_eq!(
        deal.registration.expect("set").submitted_at,
        day("2026-01-01")
    );
}

/// CSV: errors name file, line and column, and nothing is stored.
#[tokio::test]
async fn csv_errors_name_file_line_and_column() {
    let node = Node::start(NOW).await;
    let file = "id,title,room\nx1,Good,\nx2,,a\nx3,\"two\nlines\",b\nx4,T\n";
    let refused = node
        .import("files/resources.csv", Format::Csv, Kind::Resource, file)
        .await
        .expect_err("refused");
    assert_eq!(
        violations(&refused),
        [
            (
                "files/resources.csv, line 3, column title".to_owned(),
                "must not be empty".to_owned()
            ),
            (
                "files/resources.csv, line 6".to_owned(),
                "must have 3 columns, has 2".to_owned()
            ),
        ]
    );
    let refused = node
        .import("r.csv", Format::Csv, Kind::Resource, "id,colour\nx,red\n")
        .await
        .expect_err("refused");
    assert_eq!(
        violations(&refused),
        [(
            "r.csv, line 1, column colour".to_owned(),
            "is not a column of resource records".to_owned()
        )]
    );
    let refused = node
        .import(
            "t.csv",
            Format::Csv,
            Kind::Training,
            "id,partner,course,assigned_at\nt,p1,C,yesterday\n",
        )
        .await
        .expect_err("refused");
    assert_eq!(
        violations(&refused)[0].0,
        "t.csv, line 2, column assigned_at"
    );
    let listed = node
        .records(Role::Admin)
        .list_records(v1::ListRecordsRequest {
            kind: Kind::Resource as i32,
            ..Default::default()
        })
        .await
        .expect("listed");
    assert!(listed.into_inner().records.is_empty());
}

/// CSV: a quotation mark that is not closed does not have the rest of the file gathered: after a mebibyte it is refused. The file
/// never ends here.
#[tokio::test]
async fn a_csv_record_without_end_is_refused() {
    use v1::import_records_request::Part;
    let node = Node::start(NOW).await;
    let header = v1::ImportRecordsHeader {
        file_name: "rooms.csv".to_owned(),
        format: Format::Csv as i32,
        kind: Kind::Room as i32,
    };
    let start = b"id,title\nr1,Good\nr2,\"not closed\n".to_vec();
    let rest = std::iter::repeat_with(|| Part::Chunk(b"r3,Good\n".repeat(1 << 13)));
    let parts = [Part::Header(header), Part::Chunk(start)];
    let parts = parts
        .into_iter()
        .chain(rest)
        .map(|part| v1::ImportRecordsRequest {
            part: Some(part),
            last: false,
        });
    let refused = node
        .records(Role::Admin)
        .import_records(futures::stream::iter(parts))
        .await
        .expect_err("refused");
    assert_eq!(
        violations(&refused),
        [(
            "rooms.csv, line 3".to_owned(),
            "the record that starts here is longer than 1048576 bytes: is a quotation mark not closed?"
                .to_owned()
        )]
    );
    // Where the file ends before that, the error is at the record that it belongs to.
    let refused = node
        .import(
            "r.csv",
            Format::Csv,
            Kind::Room,
            "id,title\nr1,Good\nr2,\"not closed\nr3,Good\n",
        )
        .await
        .expect_err("refused");
    assert_eq!(violations(&refused)[0].0, "r.csv, line 3, column title");
    assert_eq!(title(&node, "r1").await, None);
}

/// CSV: empty lines count as lines.
#[tokio::test]
async fn csv_errors_after_empty_lines_name_their_line() {
    let node = Node::start(NOW).await;
    let refused = node
        .import(
            "rooms.csv",
            Format::Csv,
            Kind::Room,
            "id,title\nr1,Good\n\n\nr2,\n\r\nr3,Good,more\n",
        )
        .await
        .expect_err("refused");
    let places: Vec<String> = violations(&refused).into_iter().map(|one| one.0).collect();
    assert_eq!(
        places,
        ["rooms.csv, line 5, column title", "rooms.csv, line 7"]
    );
}

/// CSV: lists come back as they were, whatever their values hold; what begins like JSON must be.
#[tokio::test]
async fn csv_lists_come_back_as_they_were() {
    use overlap_client::{Record, RecordColumns, RecordKind};
    let node = Node::start(NOW).await;
    let lists: [&[&str]; 6] = [
        &["p2", "p3"],
        &["a;b", "c"],
        &["[1]", "c"],
        &["say \"hi\"; or, not"],
        &["Zürich;"],
        &[],
    ];
    let columns = RecordColumns::of(RecordKind::Deal);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.names()).expect("a header");
    for (at, list) in lists.iter().enumerate() {
        let record = deal(&format!("d{at}"), |deal| {
            deal.partner = "p1".to_owned();
            deal.influencing_partners = list.iter().map(|&one| one.to_owned()).collect();
        });
        let cells = columns.cells(&Record(record)).expect("cells");
        writer.write_record(cells).expect("a row");
    }
    let file = String::from_utf8(writer.into_inner().expect("a file")).expect("text");
    node.import("deals.csv", Format::Csv, Kind::Deal, &file)
        .await
        .expect("stored");
    let listed = node
        .records(Role::Admin)
        .list_records(v1::ListRecordsRequest {
            kind: Kind::Deal as i32,
            ..Default::default()
        })
        .await
        .expect("listed")
        .into_inner()
        .records;
    let found: Vec<Vec<String>> = listed
        .into_iter()
        .map(|record| match record.content {
            Some(Content::Deal(deal)) => deal.influencing_partners,
            other => panic!("not a deal: {other:?}"),
        })
        .collect();
    assert_eq!(found, lists);

    let refused = node
        .import(
            "partners.csv",
            Format::Csv,
            Kind::PartnerProfile,
            "id,name,type,regions\np1,One,reseller,[EMEA\n",
        )
        .await
        .expect_err("refused");
    let (place, problem) = violations(&refused).remove(0);
    assert_eq!(place, "partners.csv, line 2, column regions");
    assert!(problem.contains("list of strings in JSON"), "{problem}");
}

/// NDJSON: whole records, or the fields of one kind; errors name file, line and column.
#[tokio::test]
async fn ndjson_files_are_taken_in() {
    let node = Node::start(NOW).await;
    let file = "{\"id\":\"r1\",\"room\":{\"title\":\"One\"}}\n\n\
        {\"id\":\"e1\",\"portalEvent\":{\"partner\":\"p1\",\"user\":\"u1\",\"at\":\"2026-02-01T10:00:00Z\",\"kind\":\"PORTAL_EVENT_KIND_PAGE_VIEW\"}}\n";
    let answer = node
        .import("mixed.ndjson", Format::Ndjson, Kind::Unspecified, file)
        .await
        .expect("stored");
    assert_eq!(answer.inserted, 2);
    let answer = node
        .import(
            "rooms.ndjson",
            Format::Ndjson,
            Kind::Room,
            "{\"id\":\"r2\",\"title\":\"Two\"}",
        )
        .await
        .expect("stored");
    assert_eq!(answer.inserted, 1);
    assert_eq!(title(&node, "r2").await.as_deref(), Some("Two"));
    let refused = node
        .import(
            "bad.ndjson",
            Format::Ndjson,
            Kind::Unspecified,
            "{\"id\":\"r3\",\"room\":{\"title\":\"Three\"}}\n{\"id\":\"r4\",}\n",
        )
        .await
        .expect_err("refused");
    let place = &violations(&refused)[0].0;
    assert!(place.starts_with("bad.ndjson, line 2, column 1"), "{place}");
    assert_eq!(title(&node, "r3").await, None);
}

/// A byte order mark is no part of a file's first record, whichever way the records are written, and stands nowhere else.
#[tokio::test]
async fn a_byte_order_mark_before_ndjson_is_passed_over() {
    let node = Node::start(NOW).await;
    let files = [
        (
            Kind::Unspecified,
            "\u{feff}{\"id\":\"r1\",\"room\":{\"title\":\"One\"}}\n",
            "r1",
        ),
        (
            Kind::Room,
            "\u{feff}{\"id\":\"r2\",\"title\":\"One\"}\n",
            "r2",
        ),
        (
            Kind::Room,
            "\u{feff}\n{\"id\":\"r3\",\"title\":\"One\"}\n",
            "r3",
        ),
    ];
    for (kind, file, id) in files {
        let answer = node
            .import("rooms.ndjson", Format::Ndjson, kind, file)
            .await
            .expect("stored");
        assert_eq!(answer.inserted, 1, "{id}");
        assert_eq!(title(&node, id).await.as_deref(), Some("One"), "{id}");
    }
    let refused = node
        .import(
            "rooms.ndjson",
            Format::Ndjson,
            Kind::Room,
            "{\"id\":\"r4\",\"title\":\"Four\"}\n\u{feff}{\"id\":\"r5\",\"title\":\"Five\"}\n",
        )
        .await
        .expect_err("refused");
    let place = &violations(&refused)[0].0;
    assert!(place.starts_with("rooms.ndjson, line 2"), "{place}");
}

/// A stream that breaks off stores nothing.
#[tokio::test]
async fn a_file_without_header_is_refused() {
    let node = Node::start(NOW).await;
    let parts = futures::stream::iter([v1::ImportRecordsRequest {
        part: Some(v1::import_records_request::Part::Chunk(b"id\n".to_vec())),
        last: true,
    }]);
    let refused = node
        .records(Role::Admin)
        .import_records(parts)
        .await
        .expect_err("refused");
    assert_eq!(violations(&refused)[0].0, "header");
}

/// A caller that goes away in the middle of a stream leaves nothing behind.
#[tokio::test]
async fn a_stream_that_breaks_off_stores_nothing() {
    let node = Node::start(NOW).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = node.records(Role::Admin);
    let call = tokio::spawn(async move {
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        client.ingest_records(stream).await
    });
    for at in 0..3 {
        let message = v1::IngestRecordsRequest {
            records: vec![room(&format!("r{at}"), "Room", "2026-01-01")],
            last: false,
        };
        sender.send(message).await.expect("taken");
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    call.abort();
    let _ = call.await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(title(&node, "r0").await, None);
}

/// A stream that ends without its last message was cut off on its way.
#[tokio::test]
async fn a_stream_without_its_last_message_stores_nothing() {
    let node = Node::start(NOW).await;
    let cut = v1::IngestRecordsRequest {
        records: vec![room("r0", "Room", "2026-01-01")],
        last: false,
    };
    let refused = node
        .records(Role::Admin)
        .ingest_records(futures::stream::iter([cut]))
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::Aborted);
    assert_eq!(title(&node, "r0").await, None);
    let header = v1::ImportRecordsHeader {
        file_name: "rooms.csv".to_owned(),
        format: v1::RecordFileFormat::Csv as i32,
        kind: Kind::Room as i32,
    };
    let cut = v1::ImportRecordsRequest {
        part: Some(v1::import_records_request::Part::Header(header)),
        last: false,
    };
    let refused = node
        .records(Role::Admin)
        .import_records(futures::stream::iter([cut]))
        .await
        .expect_err("refused");
    assert!(refused.message().contains("cut off"), "{refused}");
    assert_eq!(reason(&refused), "STREAM_INCOMPLETE");
}

/// Records are found by the customer they are about, for its timeline.
#[tokio::test]
async fn records_are_found_by_customer() {
    let node = Node::start(NOW).await;
    let event = |id: &str, customer: &str| {
        record(
            id,
            Content::LifecycleEvent(v1::LifecycleEventRecord {
                customer: customer.to_owned(),
                r#type: v1::LifecycleEventType::AppInstalled as i32,
                at: day("2026-02-01"),
                ..Default::default()
            }),
        )
    };
    node.ingest(vec![
        event("e1", "c1"),
        event("e2", "c2"),
        event("e3", "c1"),
    ])
    .await
    .expect("stored");
    let found = node
        .store
        .read_blocking(|connection| {
            overlap_server::records::store::of_customer(
                connection,
                overlap_server::records::kind::Kind::LifecycleEvent,
                "c1",
            )
        })
        .expect("read");
    let ids: Vec<_> = found.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["e1", "e3"]);
}
