//! Callers of the exchange listener that keep to no rule: each is bounded and shed, and the node answers a good partner afterwards.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails; sockets are real, and so is time"
)]

mod node_support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    StreamExt as _,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use node_support::{TestNode, eventually, pair_with, reason, rogue::Rogue};
use overlap_proto::{
    exchange::v1::{
        CollectRequest, DeliverRequest, FetchAssetRequest, FetchAssetResponse, Frame, PairRequest,
        RunRequest,
    },
    v1::{
        AssetHeader, AssetKind, DeleteCustomersRequest, RevokePartnershipRequest,
        ShareAssetRequest, UnshareAssetRequest, UploadAssetRequest,
        asset_service_client::AssetServiceClient, customer_service_client::CustomerServiceClient,
        upload_asset_request::Part,
    },
};
use overlap_server::{
    config::Span,
    error::Error,
    exchange::{Link, open_run},
    node::{Node, Registry},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Request, Status, Streaming};

/// Sends one frame, then whatever it gets back.
async fn echo(_: Arc<Node>, mut link: Link) -> Result<(), Error> {
    let hello = Frame {
        payload: link.run_id.to_vec().into(),
        ..Frame::default()
    };
    if link.outgoing.send(hello).await.is_err() {
        return Ok(());
    }
    while let Some(frame) = link.incoming.recv().await {
        if link.outgoing.send(frame?).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn registry() -> Registry {
    let mut registry = Registry::standard();
    registry.on_run(echo);
    registry
}

/// A node with short patience and few places.
async fn small(organization: &str) -> TestNode {
    TestNode::start_configured(organization, registry, |config| {
        config.limits.max_exchange_connections = 24;
        config.limits.max_api_connections = 8;
        config.limits.handshake_timeout = Span::milliseconds(300);
        config.limits.max_request_bytes = 64 << 10;
        config.limits.max_frame_bytes = 64 << 10;
    })
    .await
}

/// A small node and two partners of it.
async fn three() -> (TestNode, TestNode, TestNode) {
    let victim = small("Acme").await;
    let bad = TestNode::start_with("Globex", registry).await;
    bad.accept(&victim.invite().await).await.unwrap();
    let good = TestNode::start_with("Initech", registry).await;
    good.accept(&victim.invite().await).await.unwrap();
    (victim, bad, good)
}

/// The node still answers: a run opens, and its first frame comes.
async fn answers(from: &TestNode, partner: &'static str) -> bool {
    let to = from.known(partner).await;
    let attempt = async {
        let mut link = open_run(from.node(), &to).await.ok()?;
        link.incoming.recv().await?.ok()
    };
    matches!(timeout(Duration::from_secs(5), attempt).await, Ok(Some(_)))
}

async fn still_answers(from: &TestNode) {
    eventually("the node answers a good partner", || answers(from, "Acme")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_make_room_again() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(rogue.tcp().await);
    }
    still_answers(&good).await;
    // Each was closed, not kept for good.
    for mut connection in silent {
        let mut byte = [0];
        let closed = timeout(Duration::from_secs(10), connection.read(&mut byte)).await;
        assert!(!matches!(closed, Err(_) | Ok(Ok(1))), "{closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_drops_is_cut_off() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    let mut connection = rogue.tcp().await;
    let began = Instant::now();
    // The header of a record that would hold a long ClientHello, a byte at a time.
    let mut sent = 0;
    let header = [0x16, 0x03, 0x01, 0x3f, 0xff];
    while began.elapsed() < Duration::from_secs(10) {
        let byte = header.get(sent).copied().unwrap_or(1);
        if connection.write_all(&[byte]).await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{sent} bytes");
    still_answers(&good).await;
}

/// The handshake is done, and then nothing comes: neither a partner nor a stranger with an invitation in sight keeps a place so.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_does_not_keep_its_place() {
    let (victim, bad, good) = three().await;
    let _ = victim.invite().await;
    for rogue in [Rogue::partner(&victim, &bad), Rogue::stranger(&victim)] {
        let mut mute = rogue.tls().await.unwrap();
        let mut buffer = [0; 64];
        let closed = timeout(Duration::from_secs(10), mute.read(&mut buffer)).await;
        assert!(closed.is_ok(), "the connection stays open");
        let mut other = rogue.tls().await.unwrap();
        other
            .write_all(b"GET / HTTP/1.1\r\n\r\n\r\n\r\n\r\n\r\n")
            .await
            .unwrap();
        let closed = timeout(Duration::from_secs(10), other.read(&mut buffer)).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    }
    still_answers(&good).await;
}

/// One partner may not take every place, however well it behaves on each.
#[tokio::test(flavor = "multi_thread")]
async fn one_partner_cannot_take_every_connection() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    let mut held = Vec::new();
    for _ in 0..40 {
        let Ok(channel) = rogue.channel().await else {
            continue;
        };
        let mut client =
            overlap_proto::exchange::v1::exchange_service_client::ExchangeServiceClient::new(
                channel,
            );
        if client.collect(CollectRequest::default()).await.is_ok() {
            held.push(client);
        }
    }
    assert_eq!(held.len(), 16, "places of one partner");
    assert!(answers(&good, "Acme").await, "at once");
    drop(held);
    still_answers(&bad).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_place_of_messages_is_refused() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    for path in [
        "/overlap.exchange.v1.ExchangeService/Pair",
        "/overlap.exchange.v1.ExchangeService/Deliver",
        "/overlap.exchange.v1.ExchangeService/Collect",
        "/overlap.exchange.v1.ExchangeService/Run",
        "/overlap.v1.AdminService/CreateToken",
        "/x",
    ] {
        for bytes in [
            vec![0xff; 300],
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            // Groups within groups.
            vec![0x0b; 5_000],
            vec![0; 1 << 20],
        ] {
            let status = rogue.raw_call(path, bytes).await;
            assert_ne!(status.code(), Code::Ok);
            let text = format!("{status:?}");
            assert!(!text.contains("panicked"), "{text}");
        }
    }
    still_answers(&good).await;
}

/// 128 random bits against an invitation: every guess gets the same answer, and none spoils the invitation.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_do_not_spoil_an_invitation() {
    let victim = small("Acme").await;
    let invite = victim.invite().await;
    let id: Vec<u8> = victim
        .node()
        .store
        .read(
            |connection| Ok(connection.query_row("SELECT id FROM invites", [], |row| row.get(0))?),
        )
        .await
        .unwrap();
    let rogue = Rogue::stranger(&victim);
    let mut client = rogue.client().await;
    for guess in 0..200_u8 {
        let request = PairRequest {
            // Even the invitation's right name.
            invite_id: if guess % 2 == 0 {
                id.clone()
            } else {
                vec![guess; 16]
            },
            proof: vec![guess; 32],
            organization: "Mallory".to_owned(),
            organization_key: vec![guess; 32],
            endpoint: String::new(),
            protocol_version: overlap_server::exchange::PROTOCOL_VERSION.to_owned(),
            signature: vec![guess; 64],
        };
        let status = client.pair(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVITE_INVALID");
        assert_eq!(status.message(), "the invitation is not one of this node's");
    }
    // A stranger may do nothing else.
    let status = client.collect(CollectRequest::default()).await.unwrap_err();
    assert_eq!(reason(&status), "PEER_UNKNOWN");
    let good = TestNode::start_with("Initech", registry).await;
    good.accept(&invite).await.unwrap();
    // Without an invitation in sight a stranger does not get past the handshake.
    let refused = rogue.channel().await;
    let refused = match refused {
        Err(_) => true,
        Ok(channel) => {
            overlap_proto::exchange::v1::exchange_service_client::ExchangeServiceClient::new(
                channel,
            )
            .collect(CollectRequest::default())
            .await
            .is_err()
        }
    };
    assert!(refused);
    still_answers(&good).await;
}

fn run_message(run: u8, payload: Option<usize>) -> RunRequest {
    RunRequest {
        run_id: vec![run; 16],
        frame: payload.map(|length| Frame {
            payload: vec![7; length].into(),
            ..Frame::default()
        }),
        resumes: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_another_run_and_too_large_ones_end_the_run() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    for (messages, expected) in [
        (
            vec![run_message(1, None), run_message(2, Some(8))],
            "PEER_FAULT",
        ),
        (vec![run_message(1, Some(8))], "PEER_FAULT"),
        (
            vec![RunRequest {
                run_id: vec![1; 15],
                frame: None,
                resumes: false,
            }],
            "PEER_FAULT",
        ),
        (
            vec![run_message(1, None), run_message(1, Some((64 << 10) + 1))],
            "PEER_FAULT",
        ),
        (
            vec![run_message(1, None), run_message(1, Some(1 << 20))],
            "PARTNER_UNREACHABLE",
        ),
    ] {
        let mut client = rogue.client().await;
        let stream = stream::iter(messages).chain(stream::pending());
        let status = match client.run(stream).await {
            Err(status) => status,
            Ok(responses) => {
                let mut responses = responses.into_inner();
                loop {
                    match timeout(Duration::from_secs(5), responses.message())
                        .await
                        .expect("the run ends")
                    {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("the run ended well"),
                        Err(status) => break status,
                    }
                }
            }
        };
        assert_eq!(reason(&status), expected, "{status:?}");
    }
    still_answers(&good).await;
}

/// Sends frames for ever and reads no answer: the node takes what its windows hold, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_whose_answers_nobody_reads_is_stopped() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let messages = stream::iter([run_message(3, None)]).chain(stream::repeat_with(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        run_message(3, Some(60 << 10))
    }));
    let mut client = rogue.client().await;
    let responses = client.run(messages).await.unwrap();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        if now == before {
            break;
        }
        before = now;
        assert!(now < 1_000, "{now} frames of 60 KiB went in");
    }
    assert!(answers(&good, "Acme").await);
    drop(responses);
    still_answers(&good).await;
}

/// A caller that opens runs and drops them at once is held to its allowance by what it began, not by what it listens to.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_runs_count_until_their_work_has_ended() {
    fn stubborn() -> Registry {
        let mut registry = Registry::standard();
        registry.on_run(|_, link| async move {
            if link.outgoing.send(Frame::default()).await.is_ok() {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        registry
    }
    let (victim, bad) = pair_with(stubborn).await;
    let rogue = Rogue::partner(&victim, &bad);
    let mut refused = 0;
    for run in 0..10 {
        let mut client = rogue.client().await;
        let messages = stream::iter([run_message(run, None)]).chain(stream::pending());
        if let Err(status) = client.run(messages).await {
            assert_eq!(reason(&status), "QUOTA_EXHAUSTED");
            refused += 1;
        }
    }
    assert_eq!(refused, 7);
}

/// More than the windows of a connection hold.
const FILE_BYTES: usize = 6 << 20;

/// A file of the node that is shared with Globex.
async fn shared_file(victim: &TestNode) -> (String, Vec<u8>) {
    let content: Vec<u8> = (0..FILE_BYTES).map(|at| (at >> 8) as u8).collect();
    let header = AssetHeader {
        kind: AssetKind::CaseStudy.into(),
        file_name: "study.pdf".to_owned(),
        sha256: hex::encode(Sha256::digest(&content)),
        ..AssetHeader::default()
    };
    let chunks = content
        .chunks(32 << 10)
        .map(|chunk| Part::Chunk(chunk.to_vec()));
    let parts: Vec<_> = [Part::Header(header)]
        .into_iter()
        .chain(chunks)
        .map(|part| UploadAssetRequest { part: Some(part) })
        .collect();
    let mut assets = AssetServiceClient::new(victim.api().await);
    let response = assets.upload_asset(stream::iter(parts)).await.unwrap();
    let id = response.into_inner().asset.unwrap().id;
    share_file(victim, &id).await;
    (id, content)
}

async fn share_file(victim: &TestNode, id: &str) {
    let request = ShareAssetRequest {
        partner: "Globex".to_owned(),
        id: id.to_owned(),
        ..ShareAssetRequest::default()
    };
    let mut assets = AssetServiceClient::new(victim.api().await);
    assets.share_asset(request).await.unwrap();
}

/// What comes until the stream ends, and how it ends.
async fn rest(mut chunks: Streaming<FetchAssetResponse>) -> (Vec<u8>, Option<Status>) {
    let mut content = Vec::new();
    loop {
        match timeout(Duration::from_secs(10), chunks.message())
            .await
            .expect("the fetch ends")
        {
            Ok(Some(message)) => content.extend(message.chunk),
            Ok(None) => return (content, None),
            Err(status) => return (content, Some(status)),
        }
    }
}

/// More fetches than the runtime has threads for blocking work, and nobody reads them: the store still has threads, and what
/// is no longer shared stops.
#[tokio::test(flavor = "multi_thread")]
async fn p26_z06_fetches_that_nobody_reads_hold_no_thread() {
    let victim = TestNode::start_configured("Acme", registry, |config| {
        config.limits.call_timeout = Span::seconds(4);
    })
    .await;
    let bad = TestNode::start_with("Globex", registry).await;
    bad.accept(&victim.invite().await).await.unwrap();
    let (id, content) = shared_file(&victim).await;
    let rogue = Rogue::partner(&victim, &bad);
    let request = FetchAssetRequest {
        id: id.clone(),
        offset: 0,
    };
    let mut calls = Vec::new();
    for _ in 0..13 {
        let client = rogue.client().await;
        for _ in 0..40 {
            let (mut client, request) = (client.clone(), request.clone());
            calls.push(async move { client.fetch_asset(request).await });
        }
    }
    assert!(calls.len() > 512);
    let calls = tokio::spawn(join_all(calls));
    for _ in 0..8 {
        let answer = timeout(Duration::from_secs(5), victim.partnership("Globex")).await;
        answer.expect("the API answers").unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (mut stalled, mut refused) = (Vec::new(), 0);
    for answer in calls.await.unwrap() {
        match answer {
            Ok(chunks) => stalled.push(chunks.into_inner()),
            Err(status) => {
                assert_eq!(reason(&status), "QUOTA_EXHAUSTED", "{status:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((stalled.len(), refused), (4, 516));

    // A reader that goes makes room for one that reads.
    drop(stalled.pop());
    let mut client = rogue.client().await;
    let fetched = client.fetch_asset(request.clone()).await.unwrap();
    let (read, end) = rest(fetched.into_inner()).await;
    assert!(end.is_none() && read == content, "{end:?}");

    let mut assets = AssetServiceClient::new(victim.api().await);
    let taken_back = UnshareAssetRequest {
        partner: "Globex".to_owned(),
        id: id.clone(),
    };
    assets.unshare_asset(taken_back).await.unwrap();
    let (read, end) = rest(stalled.pop().unwrap()).await;
    assert!(read.len() < FILE_BYTES, "{}", read.len());
    assert_eq!(reason(&end.unwrap()), "NOT_FOUND");

    share_file(&victim, &id).await;
    // Those that came upon the end have made room.
    drop(stalled);
    let mut client = rogue.client().await;
    let held = client.fetch_asset(request).await.unwrap();
    let revocation = RevokePartnershipRequest {
        partner: "Globex".to_owned(),
    };
    let mut partners = victim.partners().await;
    partners.revoke_partnership(revocation).await.unwrap();
    let (read, end) = rest(held.into_inner()).await;
    assert!(read.len() < FILE_BYTES, "{}", read.len());
    // The file is no longer shared in the same moment: whichever is seen first.
    let ended = reason(&end.unwrap());
    assert!(["PEER_UNKNOWN", "NOT_FOUND"].contains(&&*ended), "{ended}");
}

/// Notices of every kind with bodies of no kind, numbers from the ends of their range, over and over.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_notices_changes_nothing() {
    let (victim, bad, good) = three().await;
    let rogue = Rogue::partner(&victim, &bad);
    let mut client = rogue.client().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 8] = [
        b"",
        b"null",
        b"{}",
        b"{\"generation\":18446744073709551615}",
        b"{\"generation\":-1,\"generation\":1}",
        b"\xff\xfe",
        b"{\"organization\":\"x\",\"endpoint\":\"::::\",\"more\":1}",
        deep.as_bytes(),
    ];
    let before = victim.partnership("Globex").await.unwrap();
    let mut refusals = std::collections::BTreeMap::<String, usize>::new();
    for kind in [
        "",
        "nothing",
        "partnership.profile",
        "sharing.proposed",
        "sharing.accepted",
        "sharing.tightened",
        "sharing.declined",
        "sharing.ended",
    ] {
        for body in bodies {
            for sequence in [1_000_000, u64::MAX >> 1, u64::MAX] {
                let notice = DeliverRequest {
                    notice_id: "n".to_owned(),
                    kind: kind.to_owned(),
                    body: body.to_vec(),
                    sequence,
                };
                let status = client.deliver(notice).await.unwrap_err();
                *refusals.entry(reason(&status)).or_default() += 1;
                assert!(status.message().len() < 200, "{status:?}");
            }
        }
    }
    let reasons: Vec<&str> = refusals.keys().map(String::as_str).collect();
    assert_eq!(reasons, ["PEER_FAULT", "PEER_VERSION"], "{refusals:?}");
    for notice in [
        DeliverRequest {
            body: vec![0; (512 << 10) + 1],
            kind: "sharing.proposed".to_owned(),
            sequence: 1_000_000,
            ..DeliverRequest::default()
        },
        DeliverRequest {
            kind: "k".repeat(65),
            sequence: 1_000_000,
            ..DeliverRequest::default()
        },
        DeliverRequest {
            kind: "sharing.proposed".to_owned(),
            sequence: 0,
            ..DeliverRequest::default()
        },
    ] {
        assert!(client.deliver(notice).await.is_err());
    }
    // Everything there is, however much it says it has.
    client
        .collect(CollectRequest {
            acknowledged: u64::MAX,
        })
        .await
        .unwrap();
    assert_eq!(victim.partnership("Globex").await.unwrap(), before);
    still_answers(&good).await;
    // The partner's true notices still arrive.
    still_answers(&bad).await;
}

/// The API listener keeps no place for who says nothing either.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_close_the_api() {
    let victim = small("Acme").await;
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(TcpStream::connect(victim.api_addr()).await.unwrap());
    }
    let began = Instant::now();
    victim.invite().await;
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// An upload keeps a thread for as long as it lasts, so that only so many may last.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_say_nothing_leave_the_store_its_threads() {
    let victim = small("Acme").await;
    let mut calls = FuturesUnordered::new();
    for _ in 0..2 {
        let client = CustomerServiceClient::new(victim.channel().await);
        for _ in 0..40 {
            let (mut client, token) = (client.clone(), victim.admin_token());
            calls.push(async move {
                let mut request = Request::new(stream::pending());
                let header = format!("Bearer {token}").parse().unwrap();
                request.metadata_mut().insert("authorization", header);
                client.delete_customers(request).await
            });
        }
    }
    let mut refused = 0;
    while let Ok(Some(answer)) = timeout(Duration::from_secs(2), calls.next()).await {
        assert_eq!(reason(&answer.unwrap_err()), "QUOTA_EXHAUSTED");
        refused += 1;
    }
    assert_eq!(refused, 16);
    let answer = timeout(Duration::from_secs(5), victim.invite()).await;
    answer.expect("the API answers");
    // Those that go make room.
    drop(calls);
    eventually("an upload is taken", || async {
        let last = DeleteCustomersRequest {
            last: true,
            ..DeleteCustomersRequest::default()
        };
        CustomerServiceClient::new(victim.api().await)
            .delete_customers(stream::iter([last]))
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_api_request_is_refused() {
    let victim = small("Acme").await;
    let request = overlap_proto::v1::AcceptInviteRequest {
        invite: "x".repeat(1 << 20),
        endpoint: String::new(),
    };
    let status = victim
        .partners()
        .await
        .accept_invite(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    // No token, no call, whatever the size.
    let mut anonymous =
        overlap_proto::v1::partnership_service_client::PartnershipServiceClient::new(
            victim.channel().await,
        );
    let status = anonymous
        .list_partnerships(overlap_proto::v1::ListPartnershipsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    victim.invite().await;
}
