//! The gRPC service of customers, over a loopback socket.

#[path = "customers_api/rows.rs"]
mod rows;

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
