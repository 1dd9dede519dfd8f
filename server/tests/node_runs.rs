//! A run's stream between two nodes, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node_support;

use std::{sync::Arc, time::Duration};

use node_support::pair_with;
use overlap_proto::v1::RevokePartnershipRequest;
use overlap_server::{
    error::{Error, Reason},
    exchange::{Frame, Link, open_run, open_run_as},
    node::{Node, Registry},
};
use tokio::time::timeout;

fn frame(sequence: u64, payload: impl Into<Vec<u8>>) -> Frame {
    Frame {
        flow: 1,
        kind: 2,
        sequence,
        payload: payload.into().into(),
    }
}

/// Says who it is, then sends back what it gets, until it is told to fail or to wait.
async fn echo(_: Arc<Node>, mut link: Link) -> Result<(), Error> {
    assert!(!link.initiator);
    let hello = frame(0, [&link.exporter[..], &link.run_id[..]].concat());
    link.outgoing.send(hello).await.unwrap();
    while let Some(frame) = link.incoming.recv().await {
        let frame = frame?;
        match frame.payload.as_ref() {
            b"fail" => {
                return Err(Error::new(
                    Reason::TermsDiffer,
                    "a detail that stays here: secret.example",
                ));
            }
            b"wait" => std::future::pending().await,
            _ => {}
        }
        if link.outgoing.send(frame).await.is_err() {
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

#[tokio::test(flavor = "multi_thread")]
async fn frames_cross_in_order_and_the_stream_ends_well() {
    let (a, b) = pair_with(registry).await;
    for (from, name, other) in [(&a, "Globex", &b), (&b, "Acme", &a)] {
        let mut link = open_run_as(from.node(), &from.known(name).await, [7; 16])
            .await
            .unwrap();
        assert!(link.initiator && link.run_id == [7; 16]);
        // Both ends of the connection hold the same exporter.
        let hello = link.incoming.recv().await.unwrap().unwrap();
        assert_eq!(hello.payload[..32], link.exporter);
        assert_eq!(hello.payload[32..], link.run_id);
        let _ = other;
        let sender = link.outgoing;
        let sending = tokio::spawn(async move {
            for sequence in 1..=200 {
                sender
                    .send(frame(sequence, vec![sequence as u8; 60_000]))
                    .await
                    .unwrap();
            }
        });
        for sequence in 1..=200 {
            let echoed = link.incoming.recv().await.unwrap().unwrap();
            assert_eq!(echoed, frame(sequence, vec![sequence as u8; 60_000]));
        }
        sending.await.unwrap();
        assert!(link.incoming.recv().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_crosses_as_its_reason_alone() {
    let (a, _b) = pair_with(registry).await;
    let mut link = open_run(a.node(), &a.known("Globex").await).await.unwrap();
    link.outgoing.send(frame(1, *b"fail")).await.unwrap();
    assert!(link.incoming.recv().await.unwrap().is_ok());
    let error = link.incoming.recv().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::TermsDiffer);
    assert!(!error.message().contains("secret.example"), "{error}");
    assert!(link.incoming.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_have_a_limit() {
    let (a, _b) = pair_with(registry).await;
    let limit = a.config.limits.max_frame_bytes;
    let mut link = open_run(a.node(), &a.known("Globex").await).await.unwrap();
    assert!(link.incoming.recv().await.unwrap().is_ok());
    link.outgoing.send(frame(1, vec![0; limit])).await.unwrap();
    assert_eq!(
        link.incoming.recv().await.unwrap().unwrap().payload.len(),
        limit
    );
    link.outgoing
        .send(frame(2, vec![0; limit + 1]))
        .await
        .unwrap();
    let error = link.incoming.recv().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::PeerFault);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_does_not_read_stops_the_sender() {
    let (a, _b) = pair_with(registry).await;
    let link = open_run(a.node(), &a.known("Globex").await).await.unwrap();
    link.outgoing.send(frame(0, *b"wait")).await.unwrap();
    let mut sent = 0;
    while sent < 1000
        && timeout(
            Duration::from_millis(500),
            link.outgoing.send(frame(1, vec![0; 1 << 20])),
        )
        .await
        .is_ok()
    {
        sent += 1;
    }
    assert!(
        (1..40).contains(&sent),
        "{sent} frames of 1 MiB are under way"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn z06_revocation_cuts_a_run_under_way() {
    let (a, b) = pair_with(registry).await;
    let mut from_a = open_run(a.node(), &a.known("Globex").await).await.unwrap();
    let mut from_b = open_run(b.node(), &b.known("Acme").await).await.unwrap();
    for link in [&mut from_a, &mut from_b] {
        assert!(link.incoming.recv().await.unwrap().is_ok());
        link.outgoing.send(frame(0, *b"wait")).await.unwrap();
    }
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap();
    for link in [&mut from_a, &mut from_b] {
        let error = timeout(Duration::from_secs(5), link.incoming.recv())
            .await
            .unwrap()
            .unwrap()
            .unwrap_err();
        assert_eq!(error.reason(), Reason::PeerUnknown, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_ends_its_runs() {
    let (mut a, b) = pair_with(registry).await;
    let mut link = open_run(b.node(), &b.known("Acme").await).await.unwrap();
    assert!(link.incoming.recv().await.unwrap().is_ok());
    link.outgoing.send(frame(0, *b"wait")).await.unwrap();
    a.stop().await;
    let ended = timeout(Duration::from_secs(5), link.incoming.recv())
        .await
        .unwrap();
    assert!(matches!(ended, None | Some(Err(_))));
    // A call to a node that is away says so.
    let error = open_run(b.node(), &b.known("Acme").await)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::PartnerUnreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_has_so_many_streams_and_no_more() {
    let (a, _b) = pair_with(registry).await;
    let to = a.known("Globex").await;
    let mut links = Vec::new();
    let refused = loop {
        let mut link = match open_run(a.node(), &to).await {
            Ok(link) => link,
            Err(error) => break error,
        };
        match link.incoming.recv().await.unwrap() {
            Ok(_) => links.push(link),
            Err(error) => break error,
        }
        assert!(links.len() < 10);
    };
    assert_eq!(refused.reason(), Reason::QuotaExhausted);
    assert_eq!(links.len(), 3);
    // Ended streams make room.
    links.clear();
    node_support::eventually("there is room again", || async {
        match open_run(a.node(), &to).await {
            Ok(mut link) => link.incoming.recv().await.unwrap().is_ok(),
            Err(_) => false,
        }
    })
    .await;
}
