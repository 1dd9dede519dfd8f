//! Z-01: everything runs at the highest log level, and neither logs, errors, audit events, metrics, receipts, recordings, the partner's
//! node nor the wire carry what they must not: raw and normalised identifiers, keys, group elements and tags. What people write
//! to each other with attributions and assets is not for logs and audit events either.
//!
//! Frames are recorded in the clear, on their way through the node that hands them on; ciphertext by a relay in front of the other
//! node. Searched for as bytes, in both cases of hexadecimal, and in base64 at every alignment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod node_support;

use std::{
    collections::{BTreeSet, HashMap},
    io::Write,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use futures::TryStreamExt as _;
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

/// The forms in which a secret might show.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        secret.to_vec(),
        hex::encode(secret).into_bytes(),
        hex::encode_upper(secret).into_bytes(),
        // As `Debug` writes bytes.
        format!("{secret:?}")
            .trim_matches(['[', ']'])
            .as_bytes()
            .to_vec(),
        secret.escape_ascii().to_string().into_bytes(),
    ];
    for shift in 0..3 {
        let padded = [&[0; 3][..shift], secret].concat();
        let encoded = STANDARD_NO_PAD.encode(padded);
        // Characters that depend on the neighbours are cut off.
        let inner = &encoded[if shift == 0 { 0 } else { shift + 1 }..encoded.len() - 2];
        forms.push(inner.as_bytes().to_vec());
        forms.push(inner.replace('+', "-").replace('/', "_").into_bytes());
    }
    forms.dedup();
    forms
}

/// The names of the secrets that show in `place`: one pass, in which a table tells where a form may begin.
fn found(place: &[u8], secrets: &[(String, Vec<u8>)]) -> Vec<String> {
    const BITS: u32 = 24;
    let head = |bytes: &[u8]| {
        let (head, _) = bytes.split_first_chunk::<8>().expect("forms are longer");
        u64::from_le_bytes(*head)
    };
    let slot = |head: u64| (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize;
    let mut may_begin = vec![false; 1 << BITS];
    let mut by_head = HashMap::<u64, Vec<(usize, Vec<u8>)>>::new();
    for (index, (_, secret)) in secrets.iter().enumerate() {
        for form in forms(secret) {
            let head = head(&form);
            may_begin[slot(head)] = true;
            by_head.entry(head).or_default().push((index, form));
        }
    }
    let mut seen = BTreeSet::new();
    for (at, window) in place.windows(8).enumerate() {
        let head = head(window);
        if may_begin[slot(head)] {
            for (index, form) in by_head.get(&head).into_iter().flatten() {
                if place[at..].starts_with(form) {
                    seen.insert(*index);
                }
            }
        }
    }
    seen.into_iter()
        .map(|index| secrets[index].0.clone())
        .collect()
}

#[test]
fn the_search_finds_every_form() {
    let secret = b"ann.secret@acme-corp.example".to_vec();
    let secrets = [("it".to_owned(), secret.clone())];
    let around = |text: String| format!("before {text} after").into_bytes();
    for place in [
        around(String::from_utf8(secret.clone()).unwrap()),
        around(hex::encode(&secret)),
        around(hex::encode_upper(&secret)),
        around(format!("{secret:?}")),
        around(STANDARD_NO_PAD.encode([b"x".as_slice(), &secret, b"yz"].concat())),
        around(STANDARD_NO_PAD.encode([b"xx".as_slice(), &secret].concat())),
        around(STANDARD_NO_PAD.encode([b"xxx".as_slice(), &secret, b"y"].concat())),
    ] {
        assert_eq!(found(&place, &secrets), ["it"], "{}", place.escape_ascii());
    }
    assert!(found(b"ann.secret@acme-corp", &secrets).is_empty());
}

/// Raw forms of identifiers and what normalisation makes of them.
fn identifiers(company: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut push = |text: String| all.push((text.clone(), text.into_bytes()));
    for number in 0..40 {
        push(format!("  Person{number}.Leaky@Shared-Mail.example"));
        push(format!("person{number}.leaky@shared-mail.example"));
        push(format!("Own{number}.{company}@Only-{company}.example"));
        push(format!("own{number}.{company}@only-{company}.example"));
        push(format!(
            "044 668 {:02} {:02}",
            number / 10 + 10,
            number + 20
        ));
        push(format!("+4144668{:02}{:02}", number / 10 + 10, number + 20));
        push(format!("LEAK-EXT-{number:04}"));
        push(format!("https://www.Leaky-Company{number}.com/about"));
        push(format!("leaky-company{number}.com"));
        push(format!("Secret Name {number} {company}"));
        push(format!("row-{company}-{number:03}"));
    }
    all
}

fn csv(company: &str) -> String {
    let mut file = String::from("id,stage,name,email,phone,domain,external_id\n");
    for number in 0..40 {
        let stage = ["Customer", "Lead"][number % 2];
        file.push_str(&format!(
            "row-{company}-{number:03},{stage},Secret Name {number} {company},\
             \"  Person{number}.Leaky@Shared-Mail.example;Own{number}.{company}@Only-{company}.example\",\
             044 668 {:02} {:02},https://www.Leaky-Company{number}.com/about,LEAK-EXT-{number:04}\n",
            number / 10 + 10,
            number + 20,
        ));
    }
    file
}

fn import(node: &TestNode, company: &str) {
    let options = ImportOptions {
        default_region: overlap_server::customers::normalize::Region::parse("CH", "region")
            .unwrap(),
        replace_all: false,
    };
    import_reader(
        &node.node().store,
        &*node.node().clock,
        Source {
            file: "customers.csv",
            format: Format::Csv,
            reader: &mut csv(company).as_bytes(),
            total_bytes: None,
        },
        &options,
        &mut |_| (),
    )
    .unwrap();
}

fn policy() -> SharingPolicy {
    SharingPolicy {
        stages: [
            ("Customer".to_owned(), Tier::List.into()),
            ("Lead".to_owned(), Tier::Count.into()),
        ]
        .into(),
        match_on: [
            KeyType::ExternalId,
            KeyType::Email,
            KeyType::Phone,
            KeyType::Domain,
        ]
        .map(Into::into)
        .to_vec(),
        count_by_count: true,
        min_count: 1,
        ..SharingPolicy::default()
    }
}

async fn agree(a: &TestNode, b: &TestNode) {
    let set = |partner: &str| SetPolicyRequest {
        partner: partner.to_owned(),
        policy: Some(policy()),
    };
    a.sharing().await.set_policy(set("Globex")).await.unwrap();
    b.sharing().await.set_policy(set("Acme")).await.unwrap();
    eventually("sharing is active", || async {
        for (node, partner) in [(a, "Globex"), (b, "Acme")] {
            let request = ApproveProposalRequest {
                partner: partner.to_owned(),
            };
            // Whichever side has something to approve.
            let _ = node.sharing().await.approve_proposal(request).await;
        }
        let mut active = true;
        for (node, partner) in [(a, "Globex"), (b, "Acme")] {
            let id = node.partnership(partner).await.unwrap().id;
            active &= node
                .node()
                .store
                .read(move |c| overlap_server::sharing::policy::active_agreement(c, &id))
                .await
                .is_ok();
        }
        active
    })
    .await;
}

async fn match_once(node: &TestNode, partner: &str) -> Run {
    let mut matches = MatchServiceClient::new(node.api().await);
    let request = StartRunRequest {
        partner: partner.to_owned(),
        ..StartRunRequest::default()
    };
    let id = matches
        .start_run(request)
        .await
        .unwrap()
        .into_inner()
        .run
        .unwrap()
        .id;
    for _ in 0..1200 {
        let request = GetRunRequest { run: id.clone() };
        let run = matches
            .get_run(request)
            .await
            .unwrap()
            .into_inner()
            .run
            .unwrap();
        if run.ended_at.is_some() {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the run does not end");
}

/// 32-byte group elements, 16-byte tags and claims, out of the frames.
fn elements_and_tags() -> Vec<(String, Vec<u8>)> {
    use overlap_crypto::wire::{FrameKind, Message};
    let mut secrets = Vec::new();
    let mut push = |name: &str, bytes: &[u8]| secrets.push((name.to_owned(), bytes.to_vec()));
    for (kind, payload) in FRAMES.lock().unwrap().iter() {
        let Ok(kind) = FrameKind::from_code(*kind) else {
            continue;
        };
        match Message::decode(kind, payload).unwrap() {
            Message::Query(body) => {
                body.elements
                    .iter()
                    .for_each(|e| push("blinded element", e));
            }
            Message::Evaluation(body) => {
                body.elements
                    .iter()
                    .for_each(|e| push("evaluated element", e));
            }
            Message::Slice(body) => body.tags.iter().for_each(|tag| push("tag", tag)),
            Message::Claims(body) => body.claims.iter().for_each(|claim| push("claim", claim)),
            Message::CountElements(body) => {
                body.elements.iter().for_each(|e| push("count element", e));
            }
            Message::CountReturns(body) => body.hashes.iter().for_each(|h| push("return", h)),
            _ => {}
        }
    }
    secrets
}

/// Keys at rest, as the node reads them.
fn keys(node: &TestNode) -> Vec<(String, Vec<u8>)> {
    let mut secrets = vec![(
        "administrator's token".to_owned(),
        node.admin_token().into_bytes(),
    )];
    for path in &overlap_server::identity::Identity::files(node.path())[..2] {
        let pkcs8 = std::fs::read(path).unwrap();
        // Ed25519 and P-256 alike: the private scalar or seed is 32 bytes, which the whole holds somewhere.
        for (at, window) in pkcs8[5..].windows(34).enumerate() {
            if window[..2] == [0x04, 0x20] {
                secrets.push((format!("{} at {at}", path.display()), window[2..].to_vec()));
            }
        }
    }
    let partner = std::fs::read_dir(node.path().join("epochs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let epoch = matching::keys::load(&partner.path(), &node.node().vault)
        .unwrap()
        .unwrap();
    secrets.push(("VOPRF key".to_owned(), epoch.secret.to_vec()));
    assert!(
        secrets.len() >= 4,
        "two identity keys, a token, an epoch key"
    );
    secrets
}

/// The bytes of every file under a directory.
fn files(directory: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                all.extend(std::fs::read(path).unwrap());
            }
        }
    }
    all
}

/// What monitoring reads.
async fn metrics(node: &TestNode) -> String {
    let address = Addresses::read(node.path()).unwrap().metrics.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The receipts of a run as the API hands them out.
async fn export_receipts(node: &TestNode, run: &str) -> Vec<u8> {
    let request = GetReceiptRequest {
        run: run.to_owned(),
    };
    let mut receipts = ReceiptServiceClient::new(node.api().await);
    let answer = receipts.get_receipt(request).await.unwrap().into_inner();
    let mut all = format!("{:?}", answer.receipt).into_bytes();
    for part in [answer.my_receipt, answer.their_receipt, answer.result_salt] {
        all.extend(part);
    }
    all
}

/// An attribution that is decided and a file that is fetched. Returns what was written.
async fn collaborate(a: &TestNode, b: &TestNode) -> Vec<(String, Vec<u8>)> {
    let text = |what: &str| format!("what people write: {what}");
    let mut attributions = AttributionServiceClient::new(a.api().await);
    let request = RequestAttributionRequest {
        partner: "Globex".to_owned(),
        customer: "row-acme-000".to_owned(),
        details: text("details"),
        ..RequestAttributionRequest::default()
    };
    attributions.request_attribution(request).await.unwrap();
    let mut attributions = AttributionServiceClient::new(b.api().await);
    let list = || ListReceivedAttributionsRequest {
        partner: "Acme".to_owned(),
        ..ListReceivedAttributionsRequest::default()
    };
    let mut received = Vec::new();
    for _ in 0..400 {
        received = attributions
            .list_received_attributions(list())
            .await
            .unwrap()
            .into_inner()
            .attributions;
        if !received.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // It is told by its own name.
    assert_eq!(received[0].customer, "row-globex-000");
    let approval = ApproveAttributionRequest {
        partner: "Acme".to_owned(),
        id: received[0].id.clone(),
        comment: text("comment"),
        ..ApproveAttributionRequest::default()
    };
    attributions.approve_attribution(approval).await.unwrap();

    let content = text("content");
    let part = |part| UploadAssetRequest { part: Some(part) };
    let header = AssetHeader {
        kind: AssetKind::CaseStudy.into(),
        title: text("title"),
        file_name: "sheet.txt".to_owned(),
        sha256: hex::encode(Sha256::digest(&content)),
        ..AssetHeader::default()
    };
    let parts = [
        part(upload_asset_request::Part::Header(header)),
        part(upload_asset_request::Part::Chunk(
            content.clone().into_bytes(),
        )),
    ];
    let mut assets = AssetServiceClient::new(a.api().await);
    let uploaded = assets
        .upload_asset(futures::stream::iter(parts))
        .await
        .unwrap()
        .into_inner();
    let id = uploaded.asset.unwrap().id;
    let share = ShareAssetRequest {
        partner: "Globex".to_owned(),
        id: id.clone(),
        description: text("description"),
    };
    assets.share_asset(share).await.unwrap();
    let mut assets = AssetServiceClient::new(b.api().await);
    let mut fetched = Vec::new();
    for _ in 0..400 {
        let request = DownloadAssetRequest {
            partner: "Acme".to_owned(),
            id: id.clone(),
        };
        // The news of it takes a moment.
        if let Ok(parts) = assets.download_asset(request).await {
            let parts: Vec<_> = parts.into_inner().try_collect().await.unwrap();
            fetched = parts
                .into_iter()
                .filter_map(|part| match part.part {
                    Some(download_asset_response::Part::Chunk(chunk)) => Some(chunk),
                    _ => None,
                })
                .flatten()
                .collect();
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(fetched, content.as_bytes());
    ["details", "comment", "title", "description", "content"]
        .map(|what| (what.to_owned(), text(what).into_bytes()))
        .to_vec()
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
