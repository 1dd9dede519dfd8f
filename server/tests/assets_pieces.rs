//! P-26: files of a partner that has no endpoint, so that it cannot be called, and brings them in pieces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "assets/support.rs"]
mod support;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use overlap_proto::v1::{AssetKind, RevokePartnershipRequest};
use overlap_server::config::Span;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{
    attribution_support::{
        assets, audit, count, delivered,
        node_support::{TestNode, eventually, reason},
        partners, say,
    },
    content, download, files, header, share, unshare, upload,
};
use tonic::Code;

const WANTED: &str = "SELECT count(*) FROM asset_wanted";
const RECEIVED: &str = "SELECT ifnull(max(received), 0) FROM asset_wanted";
const SENDING: &str = "SELECT count(*) FROM asset_sending";

/// Acme, which Globex cannot call, and Globex, whose calls give up soon.
async fn without_endpoint() -> (TestNode, TestNode) {
    let (mut a, mut b) = partners(false, false).await;
    a.stop().await;
    // It listens where nobody is told.
    a.config.exchange.listen = "0.0.0.0:0".parse().unwrap();
    a.resume().await;
    eventually("the partner is known to have no endpoint", || async {
        b.partnership("Acme").await.unwrap().endpoint.is_empty()
    })
    .await;
    b.config.limits.call_timeout = Span::seconds(2);
    b.restart().await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_a_file_of_a_partner_that_cannot_be_called_arrives() {
    let (a, b) = without_endpoint().await;
    let mut client = assets(&a).await;
    // Whole pieces of 256 KiB, one byte more, less than one, nothing at all.
    for (name, size) in [("a", 2 << 18), ("b", (1 << 18) + 1), ("c", 7), ("d", 0)] {
        let bytes = content(size);
        let asset = upload(&mut client, header(AssetKind::Other, name, &bytes), &bytes)
            .await
            .unwrap();
        share(&mut client, &asset.id, "").await.unwrap();
        eventually("it is announced", || async {
            count(&b, "SELECT count(*) FROM partner_assets WHERE shared = 1").await == 1
        })
        .await;
        let (description, arrived) = download(&b, "Acme", &asset.id).await.unwrap();
        assert_eq!(description.sha256, hex::encode(Sha256::digest(&bytes)));
        assert!(arrived == bytes, "{name}");
        // The copy is there: the partner is not asked again.
        assert!(download(&b, "Acme", &asset.id).await.unwrap().1 == bytes);
        unshare(&mut client, &asset.id).await;
        eventually("it is taken back", || async {
            files(&b, "from") == 0 && count(&b, WANTED).await == 0
        })
        .await;
    }
    assert_eq!(audit(&a).await["asset.fetched"], 4);
    assert_eq!(files(&b, "pieces"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_pieces_are_resumed_after_restarts_of_both_sides() {
    let (mut a, mut b) = without_endpoint().await;
    let mut client = assets(&a).await;
    // 41 pieces, of which 16 may wait at once.
    let bytes = content(10 << 20 | 5);
    let asset = upload(&mut client, header(AssetKind::Other, "x", &bytes), &bytes)
        .await
        .unwrap();
    share(&mut client, &asset.id, "").await.unwrap();
    eventually("it is announced", || async {
        count(&b, "SELECT count(*) FROM partner_assets").await == 1
    })
    .await;
    a.stop().await;
    let away = download(&b, "Acme", &asset.id).await.unwrap_err();
    assert_eq!(
        (away.code(), reason(&away).as_str()),
        (Code::Unavailable, "PARTNER_UNREACHABLE")
    );
    // It has been asked for once, however often somebody wants it.
    download(&b, "Acme", &asset.id).await.unwrap_err();
    assert_eq!(
        count(
            &b,
            "SELECT count(*) FROM notices_out WHERE kind = 'asset.wanted'"
        )
        .await,
        1
    );
    a.resume().await;
    let some_has_arrived = async || {
        for _ in 0..10_000 {
            let received = count(&b, RECEIVED).await;
            if received > 0 {
                return received;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("nothing arrives");
    };
    let before = some_has_arrived().await;
    b.stop().await;
    a.restart().await;
    b.resume().await;
    assert!(count(&b, RECEIVED).await >= before || count(&b, WANTED).await == 0);
    eventually("it is complete", || async { count(&b, WANTED).await == 0 }).await;
    assert!(download(&b, "Acme", &asset.id).await.unwrap().1 == bytes);
    // Exactly once in effect: asked for once, sent from the beginning once, and nothing is left over.
    assert_eq!(audit(&a).await["asset.fetched"], 1);
    assert!(!audit(&a).await.contains_key("notice.refused"));
    assert_eq!((files(&b, "from"), files(&b, "pieces")), (1, 0));
    assert_eq!(count(&a, SENDING).await, 0);
}

/// Announces a file that only this test has.
async fn announce(a: &TestNode, id: &str, content: &[u8]) {
    let body = json!({
        "id": id, "revision": 1, "kind": "ASSET_KIND_OTHER", "title": "x", "file_name": "x", "media_type": "",
        "description": "", "bytes": content.len(), "sha256": hex::encode(Sha256::digest(content)), "created_us": 1,
        "shared_us": 1,
    });
    say(a, "asset.shared", body).await;
    delivered(a).await;
}

fn piece(id: &str, offset: u64, bytes: &[u8]) -> Value {
    json!({"id": id, "offset": offset, "bytes": STANDARD.encode(bytes)})
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_pieces_that_were_not_asked_for_or_do_not_fit_are_refused() {
    let (a, b) = without_endpoint().await;
    let id = "ast_0123456789abcdef";
    let whole = content(300_000);
    let refused = async || audit(&a).await.get("notice.refused").copied().unwrap_or(0);
    // Of a file that was never announced.
    say(&a, "asset.piece", piece(id, 0, &whole[..10])).await;
    delivered(&a).await;
    assert_eq!(refused().await, 1);
    announce(&a, id, &whole).await;
    // Announced and not asked for: nothing is kept.
    say(&a, "asset.piece", piece(id, 0, &whole[..10])).await;
    delivered(&a).await;
    assert_eq!(files(&b, "pieces"), 0);
    // Acme does not have it, so it refuses to send it; the test does in its place.
    download(&b, "Acme", id).await.unwrap_err();
    delivered(&b).await;
    assert_eq!(count(&a, SENDING).await, 0);
    for wrong in [
        // A gap; beyond the end; nothing; longer than a piece; not base64; an offset that overflows.
        piece(id, 5, &whole[5..10]),
        piece(id, 299_999, &whole[..10]),
        piece(id, 0, &[]),
        piece(id, 0, &whole[..(256 << 10) + 1]),
        json!({"id": id, "offset": 0, "bytes": "?"}),
        piece(id, u64::MAX, &whole[..10]),
    ] {
        let before = refused().await;
        say(&a, "asset.piece", wrong.clone()).await;
        delivered(&a).await;
        assert_eq!(refused().await, before + 1);
        assert_eq!(count(&b, RECEIVED).await, 0);
    }
    // Pieces of any length up to the limit, some of them twice.
    for (from, to) in [(0, 10), (0, 10), (10, 200_000), (0, 10), (10, 200_000)] {
        say(
            &a,
            "asset.piece",
            piece(id, from, &whole[from as usize..to]),
        )
        .await;
    }
    delivered(&a).await;
    assert_eq!(count(&b, RECEIVED).await, 200_000);
    say(&a, "asset.piece", piece(id, 200_000, &whole[200_000..])).await;
    delivered(&a).await;
    assert!(download(&b, "Acme", id).await.unwrap().1 == whole);

    // Bytes that are not those announced.
    let id = "ast_fedcba9876543210";
    announce(&a, id, &whole[..20]).await;
    let waiting = download(&b, "Acme", id);
    let sending = async {
        eventually("it is asked for", || async { count(&b, WANTED).await == 1 }).await;
        say(&a, "asset.piece", piece(id, 0, &whole[1..21])).await;
    };
    let (outcome, ()) = tokio::join!(waiting, sending);
    assert_eq!(reason(&outcome.unwrap_err()), "PEER_FAULT");
    assert_eq!(audit(&b).await["asset.refused"], 1);
    eventually("nothing of it is kept", || async {
        files(&b, "pieces") == 0
    })
    .await;
    assert_eq!(files(&b, "from"), 1);

    // What had arrived goes with the partnership.
    let id = "ast_00000000000000000";
    announce(&a, id, &content(300_001)).await;
    download(&b, "Acme", id).await.unwrap_err();
    say(&a, "asset.piece", piece(id, 0, &whole[..1_000])).await;
    delivered(&a).await;
    assert_eq!(files(&b, "pieces"), 1);
    let revoke = RevokePartnershipRequest {
        partner: "Acme".to_owned(),
    };
    b.partners().await.revoke_partnership(revoke).await.unwrap();
    eventually("copies and pieces are gone", || async {
        files(&b, "pieces") + files(&b, "from") == 0
    })
    .await;
    assert_eq!(count(&b, WANTED).await, 0);
}
