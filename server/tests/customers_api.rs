//! The gRPC service of customers, over a loopback socket.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use overlap_proto::v1::{
    Customer, DeleteCustomersRequest, ImportCustomersRequest, ImportCustomersStart,
    ListCustomersRequest, ListStagesRequest, Stage, StageCategory, UpsertCustomersRequest,
    UpsertStagesRequest, customer_service_client::CustomerServiceClient,
    customer_service_server::CustomerServiceServer, import_customers_request::Part,
};
use overlap_server::{
    auth::{Caller, Role},
    clock::MockClock,
    customers::{normalize::Region, service::Customers},
    storage::Store,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Server},
};
use tonic_types::StatusExt as _;

type Client = CustomerServiceClient<Channel>;

struct Node {
    directory: tempfile::TempDir,
    client: Client,
}

/// A node whose callers have the role that the request's metadata names, ADMIN if it names none.
async fn node() -> Node {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path()).expect("a new store opens");
    let clock = MockClock::new("2026-03-01T00:00:00Z".parse().expect("a valid time"));
    let region = Region::parse("CH", "region").expect("a region");
    let service = CustomerServiceServer::with_interceptor(
        Customers::new(store, Arc::new(clock), region),
        |mut request: Request<()>| {
            let role = request
                .metadata()
                .get("role")
                .and_then(|role| role.to_str().ok())
                .unwrap_or("ADMIN");
            if let Some(role) = Role::from_name(role) {
                let caller = Caller {
                    token_id: "t".into(),
                    user: "u".into(),
                    role,
                    partner: None,
                };
                request.extensions_mut().insert(caller);
            }
            Ok(request)
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let client = Client::connect(format!("http://{address}"))
        .await
        .expect("the node answers");
    Node { directory, client }
}

fn customer(id: &str, stage: &str) -> Customer {
    Customer {
        id: id.into(),
        stage: stage.into(),
        ..Customer::default()
    }
}

fn upsert(customers: Vec<Customer>) -> UpsertCustomersRequest {
    UpsertCustomersRequest {
        customers,
        ..UpsertCustomersRequest::default()
    }
}

/// Messages of a stream, the last of which says that it is.
trait Upload {
    fn set_last(&mut self);
}

impl Upload for UpsertCustomersRequest {
    fn set_last(&mut self) {
        self.last = true;
    }
}

impl Upload for DeleteCustomersRequest {
    fn set_last(&mut self) {
        self.last = true;
    }
}

impl Upload for ImportCustomersRequest {
    fn set_last(&mut self) {
        self.last = true;
    }
}

fn complete<T: Upload>(
    messages: impl IntoIterator<Item = T>,
) -> stream::Iter<std::vec::IntoIter<T>> {
    let mut messages: Vec<T> = messages.into_iter().collect();
    if let Some(message) = messages.last_mut() {
        message.set_last();
    }
    stream::iter(messages)
}

fn with_role<T>(message: T, role: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("role", role.parse().expect("ASCII"));
    request
}

async fn ids(client: &mut Client) -> Vec<String> {
    let response = client
        .list_customers(ListCustomersRequest::default())
        .await
        .expect("a list")
        .into_inner();
    assert_eq!(response.total_size as usize, response.customers.len());
    response
        .customers
        .into_iter()
        .map(|customer| customer.id)
        .collect()
}

/// The field, the message number and the sentence of an error.
fn violation(status: &Status) -> (String, String, String) {
    let field = status
        .get_details_bad_request()
        .map(|details| {
            details
                .field_violations
                .iter()
                .map(|violation| violation.field.clone())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .unwrap_or_default();
    let info = status
        .get_details_error_info()
        .expect("every error has a reason");
    let message = info.metadata.get("message").cloned().unwrap_or_default();
    (field, message, status.message().to_owned())
}

#[tokio::test]
async fn customers_come_back_as_they_were_sent() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let full = Customer {
        emails: vec!["Ann@Acme.example".into(), "b'c@acme.example".into()],
        phones: vec!["044 668 18 00".into()],
        domains: vec!["gmail.com".into()],
        external_ids: vec!["X;1".into()],
        name: "Acme".into(),
        owner: "Eve".into(),
        industry: "Tools".into(),
        region: "EMEA".into(),
        private: true,
        fields: [
            ("plan".to_owned(), "gold".to_owned()),
            ("empty".to_owned(), " ".to_owned()),
        ]
        .into(),
        ..customer("c-1", "Lead")
    };
    let response = client
        .upsert_customers(complete([
            upsert(vec![full.clone()]),
            upsert(vec![customer("c-0", "Deal")]),
        ]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            response.inserted,
            response.updated,
            response.unchanged,
            response.deleted
        ),
        (2, 0, 0, 0)
    );
    assert_eq!(
        response.unusable_identifiers,
        [("FREE_MAIL_DOMAIN".to_owned(), 1)].into()
    );
    let listed = client
        .list_customers(ListCustomersRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.total_size, 2);
    assert_eq!(listed.next_page_token, "");
    assert_eq!(listed.customers[0].id, "c-0");
    let mut expected = full.clone();
    expected.fields.remove("empty");
    // 2026-03-01T00:00:00Z
    expected.updated_at = Some(prost_types::Timestamp {
        seconds: 1_772_323_200,
        nanos: 0,
    });
    assert_eq!(listed.customers[1], expected);
    let again = client
        .upsert_customers(complete([upsert(vec![full])]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((again.inserted, again.updated, again.unchanged), (0, 0, 1));
}

#[tokio::test]
async fn a_wrong_customer_is_named_and_nothing_is_stored() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let good = || customer("good", "Lead");
    let field = |name: &str| Customer {
        fields: [(name.to_owned(), "x\u{7}".to_owned())].into(),
        ..good()
    };
    let stages = "Prospect, Lead, Deal, Customer, Lost, Churned";
    let cases = [
        (
            vec![good(), customer("a", "Nope")],
            "customers[1].stage",
            format!(
                "customers[1].stage: unknown stage \"Nope\": the stages are {stages}; define a new one before customers use it"
            ),
        ),
        (
            vec![customer("", "Lead")],
            "customers[0].id",
            "customers[0].id: the id is missing".to_owned(),
        ),
        (
            vec![Customer {
                emails: vec!["a@b.example".into(), "x".repeat(1025)],
                ..good()
            }],
            "customers[0].emails[1]",
            "customers[0].emails[1]: 1025 bytes long: at most 1024 are allowed".to_owned(),
        ),
        (
            vec![Customer {
                owner: "x".repeat(1025),
                ..good()
            }],
            "customers[0].owner",
            "customers[0].owner: 1025 bytes long: at most 1024 are allowed".to_owned(),
        ),
        (
            vec![field("plan")],
            "customers[0].fields[\"plan\"]",
            "customers[0].fields[\"plan\"]: it contains a control character: remove it".to_owned(),
        ),
        (
            vec![field("")],
            "customers[0].fields",
            "customers[0].fields: a further field has no name".to_owned(),
        ),
        (
            vec![good(), customer("first", "Lead")],
            "customers[1].id",
            "customers[1].id: \"first\" is customers[0] of message 1 already".to_owned(),
        ),
        (
            vec![good(); 10_001],
            "customers",
            "customers: 10001 in one message: at most 10000 are allowed".to_owned(),
        ),
    ];
    for (customers, field, sentence) in cases {
        let messages = [upsert(vec![customer("first", "Lead")]), upsert(customers)];
        let status = client
            .upsert_customers(complete(messages))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            violation(&status),
            (field.to_owned(), "2".to_owned(), sentence)
        );
        assert_eq!(ids(&mut client).await, [""; 0], "all or nothing");
    }
    let late = UpsertCustomersRequest {
        default_region: "DE".into(),
        ..UpsertCustomersRequest::default()
    };
    let status = client
        .upsert_customers(complete([upsert(vec![]), late]))
        .await
        .unwrap_err();
    assert_eq!(
        violation(&status).2,
        "default_region: only the first message of a stream may set it"
    );
    let region = UpsertCustomersRequest {
        default_region: "XX".into(),
        ..UpsertCustomersRequest::default()
    };
    let status = client
        .upsert_customers(complete([region]))
        .await
        .unwrap_err();
    assert_eq!(violation(&status).0, "default_region");
}

#[tokio::test]
async fn replacing_all_and_deleting() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let all = |ids: &[&str]| {
        ids.iter()
            .map(|id| customer(id, "Lead"))
            .collect::<Vec<_>>()
    };
    client
        .upsert_customers(complete([upsert(all(&["d", "a", "c", "b"]))]))
        .await
        .unwrap();
    let replace = UpsertCustomersRequest {
        replace_all: true,
        ..upsert(all(&["b", "e"]))
    };
    let response = client
        .upsert_customers(complete([replace, upsert(all(&["d"]))]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (response.inserted, response.unchanged, response.deleted),
        (1, 2, 2)
    );
    assert_eq!(ids(&mut client).await, ["b", "d", "e"]);
    let nothing = UpsertCustomersRequest {
        replace_all: true,
        ..upsert(vec![])
    };
    let status = client
        .upsert_customers(complete([nothing]))
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "replace_all: the stream has no customers, so every customer would be deleted: use DeleteCustomers if that is meant"
    );
    let delete = |ids: &[&str]| DeleteCustomersRequest {
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        ..DeleteCustomersRequest::default()
    };
    let status = client
        .delete_customers(complete([delete(&["b"]), delete(&["d", " "])]))
        .await
        .unwrap_err();
    assert_eq!(
        violation(&status),
        (
            "ids[1]".to_owned(),
            "2".to_owned(),
            "ids[1]: the id is missing".to_owned()
        )
    );
    assert_eq!(ids(&mut client).await, ["b", "d", "e"], "all or nothing");
    let response = client
        .delete_customers(complete([delete(&["e", "unknown"]), delete(&["b", "e"])]))
        .await
        .unwrap();
    assert_eq!(response.into_inner().deleted, 2);
    assert_eq!(ids(&mut client).await, ["d"]);
}

/// A client that goes away before it ends its stream leaves no trace.
#[tokio::test]
async fn a_broken_stream_changes_nothing() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let start = ImportCustomersRequest {
        part: Some(Part::Start(ImportCustomersStart {
            file_name: "f.csv".into(),
            ..ImportCustomersStart::default()
        })),
        ..ImportCustomersRequest::default()
    };
    let chunk = ImportCustomersRequest {
        part: Some(Part::Chunk(b"id,stage\na,Lead\n".to_vec())),
        ..ImportCustomersRequest::default()
    };
    let mut other = client.clone();
    let import = tokio::spawn(async move {
        other
            .import_customers(stream::iter([start, chunk]).chain(stream::pending()))
            .await
    });
    let mut other = client.clone();
    let upsert = tokio::spawn(async move {
        let messages = stream::iter([upsert(vec![customer("b", "Lead")])]);
        other
            .upsert_customers(messages.chain(stream::pending()))
            .await
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    import.abort();
    upsert.abort();
    assert!(import.await.unwrap_err().is_cancelled() && upsert.await.unwrap_err().is_cancelled());
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(ids(&mut client).await, [""; 0]);
}

/// The transport may report a stream that was reset as one that ended, so the end has to be said: without it, a cut-off
/// `replace_all` would delete what it had not come to yet.
#[tokio::test]
async fn a_stream_without_its_last_message_changes_nothing() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let all = ["a", "b", "c"].map(|id| customer(id, "Lead")).to_vec();
    client
        .upsert_customers(complete([upsert(all)]))
        .await
        .unwrap();
    let replace = UpsertCustomersRequest {
        replace_all: true,
        ..upsert(vec![customer("a", "Deal")])
    };
    let start = |size_bytes| ImportCustomersRequest {
        part: Some(Part::Start(ImportCustomersStart {
            file_name: "f.csv".into(),
            replace_all: true,
            size_bytes,
            ..ImportCustomersStart::default()
        })),
        ..ImportCustomersRequest::default()
    };
    let chunk = ImportCustomersRequest {
        part: Some(Part::Chunk(b"id,stage\na,Deal\n".to_vec())),
        ..ImportCustomersRequest::default()
    };
    let delete = DeleteCustomersRequest {
        ids: vec!["a".into()],
        ..DeleteCustomersRequest::default()
    };
    let refusals = [
        client
            .upsert_customers(stream::iter([replace.clone()]))
            .await
            .unwrap_err(),
        client.upsert_customers(stream::empty()).await.unwrap_err(),
        client
            .delete_customers(stream::iter([delete.clone()]))
            .await
            .unwrap_err(),
        client
            .import_customers(stream::iter([start(None), chunk.clone()]))
            .await
            .unwrap_err(),
        client
            .import_customers(stream::iter([start(Some(16)), chunk.clone()]))
            .await
            .unwrap_err(),
    ];
    for status in refusals {
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "STREAM_INCOMPLETE"
        );
        assert_eq!(status.code(), Code::Aborted);
    }
    // Nor does anything come after the end.
    let closing = UpsertCustomersRequest {
        last: true,
        ..replace
    };
    let status = client
        .upsert_customers(stream::iter([closing, upsert(vec![customer("z", "Lead")])]))
        .await
        .unwrap_err();
    assert_eq!(violation(&status).0, "last");
    // An import without its first message, or with an empty one in between.
    let empty = ImportCustomersRequest::default();
    for messages in [vec![empty.clone()], vec![start(None), empty, chunk]] {
        let status = client
            .import_customers(complete(messages))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(ids(&mut client).await, ["a", "b", "c"]);
}

/// A client that drops its call while the stream is open: RST_STREAM on the wire, many times, with the reset landing anywhere.
#[tokio::test]
async fn a_dropped_call_never_replaces_anything() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let all = ["a", "b", "c"].map(|id| customer(id, "Lead")).to_vec();
    client
        .upsert_customers(complete([upsert(all)]))
        .await
        .unwrap();
    for delay_us in (0..40).map(|step| step * 150) {
        let mut other = client.clone();
        let call = tokio::spawn(async move {
            let replace = UpsertCustomersRequest {
                replace_all: true,
                ..upsert(vec![customer("a", "Lead")])
            };
            let messages = stream::iter([replace]).chain(stream::pending());
            other.upsert_customers(messages).await
        });
        let mut other = client.clone();
        let delete = tokio::spawn(async move {
            let ids = DeleteCustomersRequest {
                ids: vec!["b".into()],
                ..DeleteCustomersRequest::default()
            };
            other
                .delete_customers(stream::iter([ids]).chain(stream::pending()))
                .await
        });
        tokio::time::sleep(std::time::Duration::from_micros(delay_us)).await;
        call.abort();
        delete.abort();
        let _ = (call.await, delete.await);
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(ids(&mut client).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn pages_and_filters() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let many: Vec<Customer> = (0..25)
        .map(|number| Customer {
            name: format!("Company {number}"),
            domains: vec![format!("www.c{number}.example")],
            ..customer(
                &format!("id-{number:02}"),
                if number % 2 == 0 { "Lead" } else { "Deal" },
            )
        })
        .collect();
    client
        .upsert_customers(complete([upsert(many)]))
        .await
        .unwrap();
    let list = |stage: &str, search: &str, token: &str| ListCustomersRequest {
        page_size: 10,
        page_token: token.into(),
        stage: stage.into(),
        search: search.into(),
    };
    for (stage, search, expected) in [
        ("", "", 25),
        ("Lead", "", 13),
        ("", "COMPANY 1", 11),
        ("Deal", "c1", 6),
        ("", "none", 0),
    ] {
        let mut found: Vec<String> = Vec::new();
        let mut token = String::new();
        loop {
            let page = client
                .list_customers(list(stage, search, &token))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(page.total_size, expected, "{stage} {search}");
            assert!(page.customers.len() <= 10);
            found.extend(page.customers.into_iter().map(|customer| customer.id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(found.len() as u64, expected, "{stage} {search}");
        assert!(found.is_sorted_by(|left, right| left < right));
    }
    let token = client
        .list_customers(list("", "", ""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    for (stage, token) in [("Lead", token.as_str()), ("", "nonsense")] {
        let status = client
            .list_customers(list(stage, "", token))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "PAGE_TOKEN_INVALID"
        );
    }
    let status = client
        .list_customers(list("Nope", "", ""))
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "stage: unknown stage \"Nope\": the stages are Prospect, Lead, Deal, Customer, Lost, Churned"
    );
    let status = client
        .list_customers(ListCustomersRequest {
            page_size: -1,
            ..list("", "", "")
        })
        .await
        .unwrap_err();
    assert_eq!(status.message(), "page_size: must not be negative");
    let status = client
        .list_customers(list("", &"x".repeat(257), ""))
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "search: 257 bytes long: at most 256 are allowed"
    );
}

#[tokio::test]
async fn an_imported_file_is_read_by_the_node() {
    let Node {
        mut client,
        directory,
    } = node().await;
    let start = |file_name: &str, format: &str| {
        Part::Start(ImportCustomersStart {
            file_name: file_name.into(),
            format: format.into(),
            ..ImportCustomersStart::default()
        })
    };
    let chunk = |text: &str| Part::Chunk(text.as_bytes().to_vec());
    let messages = |parts: Vec<Part>| {
        complete(parts.into_iter().map(|part| ImportCustomersRequest {
            part: Some(part),
            ..ImportCustomersRequest::default()
        }))
    };
    let response = client
        .import_customers(messages(vec![
            start("/home/me/f.csv", ""),
            chunk("id,sta"),
            chunk(""),
            chunk("ge,phone,plan\na,Lead,044 668 18 00,gold\n"),
        ]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (response.inserted, response.field_columns),
        (1, vec!["plan".to_owned()])
    );
    assert!(response.unusable_identifiers.is_empty());
    assert_eq!(ids(&mut client).await, ["a"]);
    let sized = |size_bytes| {
        Part::Start(ImportCustomersStart {
            file_name: "f.csv".into(),
            size_bytes: Some(size_bytes),
            ..ImportCustomersStart::default()
        })
    };
    let row = "id,stage\na,Lead\n";
    let unchanged = client
        .import_customers(messages(vec![sized(16), chunk(row)]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((unchanged.unchanged, unchanged.updated), (0, 1));
    for (parts, sentence) in [
        (
            vec![
                start("/home/me/f.csv", ""),
                chunk("id,stage\nb,Lead\nc"),
                chunk("\n"),
            ],
            "f.csv, line 3: 1 values, where the header has 2 columns",
        ),
        (
            vec![start("f.txt", "")],
            "format: f.txt: the ending does not say the format: give one of csv, ndjson, parquet",
        ),
        (
            vec![start("f.txt", "xlsx")],
            "format: \"xlsx\" is not one of csv, ndjson, parquet",
        ),
        (vec![start("f.csv", "")], "f.csv: the file is empty"),
        (
            vec![start("", "csv")],
            "start.file_name: give a name of 1 to 256 bytes without control characters",
        ),
        (
            vec![chunk("id,stage\n")],
            "start: the first message of the stream says what the file is",
        ),
        (
            vec![start("f.csv", ""), start("f.csv", "")],
            "chunk: every message after the first, but an empty last one, carries bytes of the file",
        ),
        (
            vec![start("f.txt", "ndjson"), chunk("{}")],
            "f.txt, line 1: the id is missing",
        ),
        (
            vec![sized(17), chunk(row)],
            "start.size_bytes: the stream carried 16 bytes, not 17: nothing was changed",
        ),
        (
            vec![sized(3), chunk(row)],
            "start.size_bytes: the stream carried more than 3 bytes: nothing was changed",
        ),
    ] {
        let status = client.import_customers(messages(parts)).await.unwrap_err();
        assert_eq!(status.message(), sentence);
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(ids(&mut client).await, ["a"]);
    let mut left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["overlap.db", "overlap.db-shm", "overlap.db-wal"],
        "no spool file stays behind"
    );
}

#[tokio::test]
async fn p08_custom_stages_through_the_api() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    let stage = |id: &str, ordinal, category: StageCategory| Stage {
        id: id.into(),
        label: String::new(),
        ordinal,
        category: category.into(),
    };
    let request = UpsertStagesRequest {
        stages: vec![stage("Pilot", 35, StageCategory::Open)],
    };
    let upserted = client
        .upsert_stages(request)
        .await
        .unwrap()
        .into_inner()
        .stages;
    let listed = client
        .list_stages(ListStagesRequest {})
        .await
        .unwrap()
        .into_inner()
        .stages;
    assert_eq!(upserted, listed);
    let names: Vec<&str> = listed.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(
        names,
        [
            "Prospect", "Lead", "Deal", "Pilot", "Customer", "Lost", "Churned"
        ]
    );
    client
        .upsert_customers(complete([upsert(vec![customer("a", "Pilot")])]))
        .await
        .unwrap();
    let request = UpsertStagesRequest {
        stages: vec![
            stage("A", 1, StageCategory::Lost),
            stage("B", 2, StageCategory::Unspecified),
        ],
    };
    let status = client.upsert_stages(request).await.unwrap_err();
    assert_eq!(
        status.message(),
        "stages[1].category: give one of OPEN, CUSTOMER, LOST, CHURNED"
    );
    assert_eq!(
        client
            .list_stages(ListStagesRequest {})
            .await
            .unwrap()
            .into_inner()
            .stages
            .len(),
        7
    );
}

#[tokio::test]
async fn roles() {
    let Node {
        mut client,
        directory: _directory,
    } = node().await;
    for role in Role::ALL {
        let writes = Role::ADMINS.contains(&role);
        let reads = Role::STAFF.contains(&role);
        let check = |result: Result<(), Status>, allowed: bool| match result {
            Ok(()) => assert!(allowed, "{role:?}"),
            Err(status) => {
                assert!(!allowed, "{role:?}: {status:?}");
                assert_eq!(status.code(), Code::PermissionDenied);
                assert_eq!(
                    status.get_details_error_info().unwrap().reason,
                    "ROLE_NOT_ALLOWED"
                );
            }
        };
        let name = role.name();
        let message = upsert(vec![customer("a", "Lead")]);
        check(
            client
                .upsert_customers(with_role(complete([message]), name))
                .await
                .map(|_| ()),
            writes,
        );
        check(
            client
                .delete_customers(with_role(
                    complete([DeleteCustomersRequest::default()]),
                    name,
                ))
                .await
                .map(|_| ()),
            writes,
        );
        check(
            client
                .upsert_stages(with_role(UpsertStagesRequest::default(), name))
                .await
                .map(|_| ()),
            writes,
        );
        check(
            client
                .list_customers(with_role(ListCustomersRequest::default(), name))
                .await
                .map(|_| ()),
            reads,
        );
        check(
            client
                .list_stages(with_role(ListStagesRequest {}, name))
                .await
                .map(|_| ()),
            reads,
        );
        let import = client
            .import_customers(with_role(stream::iter([]), name))
            .await
            .unwrap_err();
        assert_eq!(
            import.code(),
            if writes {
                Code::Aborted
            } else {
                Code::PermissionDenied
            }
        );
    }
    let status = client
        .list_stages(with_role(ListStagesRequest {}, "nobody"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}
