//! Z-01: everything runs at the highest log level, and neither logs, errors, audit events, metrics, receipts, recordings, the partner's
//! node nor the wire carry what they must not: raw and normalised identifiers, keys, group elements and tags. What people write
//! to each other with attributions and assets is not for logs and audit events either.
//!
//! Frames are recorded in the clear, on their way through the node that hands them on; ciphertext by a relay in front of the other
//! node. Searched for as bytes, in both cases of hexadecimal, and in base64 at every alignment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "no_leaks/gathered.rs"]
mod gathered;
mod node_support;
#[path = "no_leaks/scenario.rs"]
mod scenario;
#[path = "no_leaks/search.rs"]
mod search;

use std::{
    collections::{BTreeSet, HashMap},
    io::Write,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use futures::TryStreamExt as _;
use gathered::{elements_and_tags, export_receipts, files, keys, metrics};
use node_support::{TestNode, eventually};
use overlap_proto::v1::{
    ApproveAttributionRequest, ApproveProposalRequest, AssetHeader, AssetKind,
    DownloadAssetRequest, GetReceiptRequest, GetRunRequest, KeyType, ListAuditEventsRequest,
    ListReceivedAttributionsRequest, RequestAttributionRequest, Run, RunState, SetPolicyRequest,
    ShareAssetRequest, SharingPolicy, StartRunRequest, Tier, UploadAssetRequest,
    asset_service_client::AssetServiceClient, attribution_service_client::AttributionServiceClient,
    download_asset_response, match_service_client::MatchServiceClient,
    receipt_service_client::ReceiptServiceClient, upload_asset_request,
};
use overlap_server::{
    customers::{
        files::Format,
        import::{ImportOptions, Source, import_reader},
    },
    exchange::Link,
    matching,
    node::Registry,
    serve::Addresses,
};
use scenario::{agree, collaborate, identifiers, import, match_once};
use search::found;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Everything logged in this process, whoever logs it.
static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
/// Every frame's payload, in the clear, with its kind.
static FRAMES: Mutex<Vec<(u32, Vec<u8>)>> = Mutex::new(Vec::new());

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn log() -> Vec<u8> {
    LOG.get().unwrap().lock().unwrap().clone()
}

fn listen_to_the_log() {
    let sink = Arc::new(Mutex::new(Vec::new()));
    LOG.set(Arc::clone(&sink)).unwrap();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace"))
        .with_writer(Sink(sink))
        .with_ansi(false)
        .init();
}

/// Answers runs as a node does, with a look at every frame in both directions.
fn watched() -> Registry {
    let mut registry = Registry::standard();
    registry.on_run(|node, mut link| async move {
        let (to_node, incoming) = mpsc::channel(4);
        let (outgoing, mut from_node) = mpsc::channel(4);
        let (mut arriving, leaving) = (link.incoming, link.outgoing);
        tokio::spawn(async move {
            while let Some(frame) = arriving.recv().await {
                if let Ok(frame) = &frame {
                    record(frame);
                }
                if to_node.send(frame).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(frame) = from_node.recv().await {
                record(&frame);
                if leaving.send(frame).await.is_err() {
                    break;
                }
            }
        });
        (link.incoming, link.outgoing) = (incoming, outgoing);
        matching::accept_run(node, Link { ..link }).await
    });
    registry
}

fn record(frame: &overlap_server::exchange::Frame) {
    FRAMES
        .lock()
        .unwrap()
        .push((frame.kind, frame.payload.to_vec()));
}

/// Relays TCP and keeps what passes.
async fn relay(to: std::net::SocketAddr) -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let captured = Arc::new(Mutex::new(Vec::new()));
    let capture = Arc::clone(&captured);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else {
                continue;
            };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            for (mut from, mut into) in [(near_in, far_out), (far_in, near_out)] {
                let capture = Arc::clone(&capture);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(length @ 1..) = from.read(&mut buffer).await {
                        capture.lock().unwrap().extend_from_slice(&buffer[..length]);
                        if into.write_all(&buffer[..length]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (address, captured)
}

#[tokio::test(flavor = "multi_thread")]
async fn z01_nothing_leaks_anywhere() {
    listen_to_the_log();
    let recorded = |config: &mut overlap_server::config::Config| {
        config.matching.record_frames = true;
        config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
    };
    let a = TestNode::start_configured("Acme", watched, recorded).await;
    let mut b = TestNode::start_configured("Globex", watched, recorded).await;
    b.accept(&a.invite().await).await.unwrap();
    // From here on, whoever calls B goes through the relay.
    let (front, captured) = relay(b.exchange_addr()).await;
    b.config.exchange.endpoint = Some(front.to_string());
    b.restart().await;
    eventually("A knows B's endpoint", || async {
        a.partnership("Globex").await.unwrap().endpoint == front.to_string()
    })
    .await;
    import(&a, "acme");
    import(&b, "globex");
    agree(&a, &b).await;
    let run = match_once(&a, "Globex").await;
    assert_eq!(run.state(), RunState::Done, "{run:?}");
    let summary_run = run.id.clone();
    let summary = run.summary.unwrap();
    assert!(
        summary.shared_customers > Some(10),
        "there is something to leak"
    );
    let written = collaborate(&a, &b).await;
    let exported = export_receipts(&a, &summary_run).await;
    // A run that fails, and errors of every sort on the way.
    let mut errors = String::new();
    let again = MatchServiceClient::new(a.api().await)
        .start_run(StartRunRequest {
            partner: "Nobody".to_owned(),
            ..StartRunRequest::default()
        })
        .await;
    errors.push_str(&format!("{again:?}"));
    b.stop().await;
    let failed = match_once(&a, "Globex").await;
    assert_eq!(failed.state(), RunState::Failed);
    errors.push_str(&format!("{failed:?}"));
    b.resume().await;

    let mut secrets = identifiers("acme");
    secrets.extend(identifiers("globex"));
    let keys = [keys(&a), keys(&b)].concat();
    let wire_secrets = [secrets.clone(), keys.clone()].concat();
    secrets.extend(keys);
    let elements = elements_and_tags();
    assert!(elements.len() > 200, "{} elements and tags", elements.len());
    secrets.extend(elements);

    secrets.extend(written);

    let log = log();
    assert!(log.len() > 100_000, "the log is on: {} bytes", log.len());
    assert_eq!(found(&log, &secrets), [""; 0], "in the log");

    let mut audit = String::new();
    for node in [&a, &b] {
        let request = ListAuditEventsRequest {
            page_size: 1000,
            ..ListAuditEventsRequest::default()
        };
        let events = node.admin().await.list_audit_events(request).await.unwrap();
        audit.push_str(&format!("{:?}", events.into_inner().events));
    }
    assert!(audit.contains("run."), "runs are audited");
    assert_eq!(
        found(audit.as_bytes(), &secrets),
        [""; 0],
        "in the audit log"
    );
    assert_eq!(found(errors.as_bytes(), &secrets), [""; 0], "in errors");
    for node in [&a, &b] {
        let numbers = metrics(node).await;
        assert!(numbers.ends_with("# EOF\n"), "{numbers}");
        assert_eq!(found(numbers.as_bytes(), &secrets), [""; 0], "in metrics");
    }

    let receipts: Vec<u8> = a
        .node()
        .store
        .read(|connection| {
            let mut statement = connection.prepare("SELECT * FROM matching_receipts")?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    let value = row.get_ref(column)?;
                    all.extend_from_slice(value.as_bytes().unwrap_or_default());
                }
            }
            Ok(all)
        })
        .await
        .unwrap();
    assert!(receipts.len() > 400, "{} bytes of receipts", receipts.len());
    assert_eq!(found(&receipts, &secrets), [""; 0], "in receipts");
    assert!(exported.len() > 400, "{} bytes exported", exported.len());
    assert_eq!(found(&exported, &secrets), [""; 0], "in exported receipts");

    for node in [&a, &b] {
        let recordings = files(&node.path().join("recordings"));
        assert!(recordings.len() > 10_000, "{} bytes", recordings.len());
        assert_eq!(found(&recordings, &wire_secrets), [""; 0], "in recordings");
    }
    // Everything that the partner's node keeps: store, results, recordings, assets.
    for (node, own, other) in [(&b, "globex", "acme"), (&a, "acme", "globex")] {
        let own: BTreeSet<String> = identifiers(own).into_iter().map(|(name, _)| name).collect();
        let mut foreign = identifiers(other);
        foreign.retain(|(name, _)| !own.contains(name));
        assert!(
            foreign.len() > 100,
            "the company has identifiers of its own"
        );
        let kept = files(node.path());
        assert!(kept.len() > 100_000, "{} bytes", kept.len());
        assert_eq!(found(&kept, &foreign), [""; 0], "kept of the partner's");
    }

    // The wire: ciphertext as captured, and every frame in the clear.
    let captured = captured.lock().unwrap().clone();
    assert!(captured.len() > 10_000, "{} bytes captured", captured.len());
    assert_eq!(found(&captured, &wire_secrets), [""; 0], "in ciphertext");
    let frames: Vec<u8> = FRAMES
        .lock()
        .unwrap()
        .iter()
        .flat_map(|(_, payload)| payload.clone())
        .collect();
    assert!(frames.len() > 10_000);
    assert_eq!(found(&frames, &wire_secrets), [""; 0], "in frames");
}
