//! Invitations, pairing, pinned certificates, revocation (P-01, P-02, Z-06), over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node_support;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use node_support::{TestNode, eventually, pair, reason};
use overlap_proto::v1::{
    CreateInviteRequest, ListPartnershipsRequest, PartnershipState, RevokePartnershipRequest,
};
use overlap_server::{
    error::Reason,
    exchange::{Link, open_run},
    partnership::{self, Partnership},
};
use tonic::Code;

/// The node as a stranger would address it who knows its address and certificate.
fn as_partnership(node: &TestNode) -> Partnership {
    Partnership {
        id: "prt_x".to_owned(),
        organization: node.config.organization.clone(),
        known_as: node.config.organization.clone(),
        endpoint: Some(node.config.exchange.listen.to_string()),
        certificate_sha256: node.node().identity.certificate_sha256(),
        organization_key: node.node().identity.organization_key(),
    }
}

/// Why a run with a node fails at once.
async fn refusal(from: &TestNode, to: &Partnership) -> overlap_server::error::Error {
    match open_run(from.node(), to).await {
        Err(error) => error,
        Ok(mut link) => link.incoming.recv().await.unwrap().unwrap_err(),
    }
}

/// Rewrites one value of an invitation.
fn forged(invite: &str, key: &str, value: serde_json::Value) -> String {
    let (prefix, body) = invite.split_once('.').unwrap();
    let json = URL_SAFE_NO_PAD.decode(body).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    json[key] = value;
    format!("{prefix}.{}", URL_SAFE_NO_PAD.encode(json.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn p02_pairing_pins_both_sides() {
    let (a, b) = pair().await;
    let at_a = a.known("globex").await;
    let at_b = b.known("ACME").await;
    assert_eq!(
        at_a.certificate_sha256,
        b.node().identity.certificate_sha256()
    );
    assert_eq!(
        at_b.certificate_sha256,
        a.node().identity.certificate_sha256()
    );
    assert_eq!(at_a.organization_key, b.node().identity.organization_key());
    assert_eq!(at_b.organization_key, a.node().identity.organization_key());
    assert_eq!(at_a.endpoint, Some(b.config.exchange.listen.to_string()));
    let seen = a.partnership("Globex").await.unwrap();
    assert_eq!(seen.state(), PartnershipState::Connected);
    assert_eq!(seen.fingerprint, b.node().identity.fingerprint());
    let listed = a
        .partners()
        .await
        .list_partnerships(ListPartnershipsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .partnerships;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0], seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn p01_unknown_and_pending_partners_are_told_apart() {
    let a = TestNode::start("Acme").await;
    let missing = a.partnership("Nobody").await.unwrap_err();
    assert_eq!(
        (missing.code(), reason(&missing).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
    let invited = a
        .partners()
        .await
        .create_invite(CreateInviteRequest::default())
        .await
        .unwrap()
        .into_inner();
    let pending = invited.partnership.unwrap();
    assert_eq!(pending.state(), PartnershipState::Pending);
    let id = pending.id.clone();
    let error = a
        .node()
        .store
        .read(move |connection| partnership::connected(connection, &id))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::PartnershipNotConnected);
    // The empty name of pending partnerships names none of them.
    assert_eq!(a.partnership("").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_works_once() {
    let a = TestNode::start("Acme").await;
    let b = TestNode::start("Globex").await;
    let c = TestNode::start("Initech").await;
    let invite = a.invite().await;
    let connected = b.accept(&invite).await.unwrap();
    // The same node may repeat itself: its answer may have been lost.
    assert_eq!(b.accept(&invite).await.unwrap(), connected);
    // With another invitation outstanding the stranger gets as far as the invitation itself.
    let _other = a.invite().await;
    let refused = c.accept(&invite).await.unwrap_err();
    assert_eq!(reason(&refused), "INVITE_INVALID");
    assert!(refused.message().contains("has been used"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_invitation_is_refused_on_both_sides() {
    let a = TestNode::start("Acme").await;
    let b = TestNode::start("Globex").await;
    let invite = a.invite().await;
    b.clock.advance(SignedDuration::from_hours(73));
    let refused = b.accept(&invite).await.unwrap_err();
    assert_eq!(reason(&refused), "INVITE_INVALID");
    assert!(refused.message().contains("expired"), "{refused}");
    // A caller whose clock is behind gets no further; a later invitation keeps the door open for it to be told.
    let c = TestNode::start("Initech").await;
    a.clock.advance(SignedDuration::from_hours(73));
    let _later = a.invite().await;
    let refused = c.accept(&invite).await.unwrap_err();
    assert_eq!(reason(&refused), "INVITE_INVALID");
    assert!(refused.message().contains("expired"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_invitation_is_refused() {
    let a = TestNode::start("Acme").await;
    let b = TestNode::start("Globex").await;
    let invited = a
        .partners()
        .await
        .create_invite(CreateInviteRequest::default())
        .await
        .unwrap()
        .into_inner();
    let partner = invited.partnership.unwrap().id;
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest { partner })
        .await
        .unwrap();
    // Nothing is outstanding: the handshake itself is refused.
    assert_eq!(
        reason(&b.accept(&invited.invite).await.unwrap_err()),
        "PEER_UNKNOWN"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_spends_nothing() {
    let a = TestNode::start("Acme").await;
    let b = TestNode::start("Globex").await;
    let invite = a.invite().await;
    let wrong = forged(&invite, "secret", "11".repeat(32).into());
    let refused = b.accept(&wrong).await.unwrap_err();
    assert_eq!(reason(&refused), "INVITE_INVALID");
    b.accept(&invite).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_another_node_is_refused() {
    let a = TestNode::start("Acme").await;
    let b = TestNode::start("Globex").await;
    let c = TestNode::start("Mallory").await;
    let invite = a.invite().await;
    // Another node at the endpoint.
    let elsewhere = c.config.exchange.listen.to_string();
    let refused = b
        .accept(&forged(&invite, "endpoint", elsewhere.into()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PEER_UNKNOWN");
    assert!(
        refused.message().contains("does not have the certificate"),
        "{refused}"
    );
    // The right node, an organisation key that is not its own.
    let refused = b
        .accept(&forged(&invite, "key", "22".repeat(32).into()))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "PEER_FAULT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_pair_with_itself_nor_twice() {
    let (a, b) = pair().await;
    assert_eq!(
        reason(&a.accept(&a.invite().await).await.unwrap_err()),
        "INVITE_INVALID"
    );
    let again = b.accept(&a.invite().await).await.unwrap_err();
    assert_eq!(reason(&again), "ALREADY_EXISTS");
    let c = TestNode::start("GLOBEX").await;
    let same_name = c.accept(&a.invite().await).await.unwrap_err();
    assert_eq!(reason(&same_name), "ALREADY_EXISTS");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_before_any_request() {
    let a = TestNode::start("Acme").await;
    let c = TestNode::start("Mallory").await;
    let error = refusal(&c, &as_partnership(&a)).await;
    assert_eq!(error.reason(), Reason::PeerUnknown, "{error}");
    // While an invitation is outstanding a stranger may redeem it and nothing else.
    let _invite = a.invite().await;
    let error = refusal(&c, &as_partnership(&a)).await;
    assert_eq!(error.reason(), Reason::PeerUnknown, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_by_both_sides() {
    let (a, b) = pair().await;
    a.clock.advance(SignedDuration::from_hours(24 * 366 * 6));
    let error = refusal(&a, &a.known("Globex").await).await;
    assert_eq!(error.reason(), Reason::CertificateExpired);
    assert!(error.message().contains("of the partner's node"), "{error}");
    let error = refusal(&b, &b.known("Acme").await).await;
    assert_eq!(error.reason(), Reason::CertificateExpired);
    assert!(
        error.message().contains("this node's certificate"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn z06_revocation_reaches_the_partner_and_closes_the_door() {
    let (a, b) = pair().await;
    let (to_a, to_b) = (b.known("Acme").await, a.known("Globex").await);
    let revoked = a
        .partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap()
        .into_inner()
        .partnership
        .unwrap();
    assert_eq!(revoked.state(), PartnershipState::Revoked);
    eventually("the partner learns of it", || async {
        b.partnership("Acme").await.unwrap().state() == PartnershipState::Revoked
    })
    .await;
    for (from, to) in [(&b, &to_a), (&a, &to_b)] {
        let error = refusal(from, to).await;
        assert_eq!(error.reason(), Reason::PeerUnknown, "{error}");
    }
    // Both sides recorded it, and the records hold together.
    for (node, actor) in [(&a, "tok_"), (&b, "partner:")] {
        let events = node.audit_events().await;
        let event = events
            .iter()
            .find(|event| event.action == "partnership.revoked")
            .unwrap();
        assert!(event.actor.starts_with(actor), "{event:?}");
        node.node()
            .store
            .read(overlap_server::audit::verify)
            .await
            .unwrap();
    }
    // They may pair again.
    b.accept(&a.invite().await).await.unwrap();
    assert_eq!(
        a.partnership("Globex").await.unwrap().state(),
        PartnershipState::Connected
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn z06_revocation_waits_for_a_partner_that_is_away() {
    let (a, mut b) = pair().await;
    b.stop().await;
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap();
    let mut a = a;
    a.restart().await;
    b.resume().await;
    eventually("the partner learns of it", || async {
        b.partnership("Acme").await.unwrap().state() == PartnershipState::Revoked
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_is_announced() {
    let (a, mut b) = pair().await;
    b.stop().await;
    b.config.exchange.listen = "127.0.0.1:0".parse().unwrap();
    b.config.organization = "Globex Corporation".to_owned();
    b.resume().await;
    eventually("the partner learns the address and the name", || async {
        a.partnership("globex corporation")
            .await
            .is_ok_and(|partnership| partnership.endpoint == b.config.exchange.listen.to_string())
    })
    .await;
    let _: Link = open_run(a.node(), &a.known("Globex Corporation").await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_without_an_endpoint_collects_what_waits_for_it() {
    let a = TestNode::start("Acme").await;
    let mut b = TestNode::start("Globex").await;
    b.accept(&a.invite().await).await.unwrap();
    // As if it had never had one: it listens where nobody is told.
    b.stop().await;
    b.config.exchange.listen = "0.0.0.0:0".parse().unwrap();
    b.resume().await;
    eventually("the partner is known to have none", || async {
        a.partnership("Globex").await.unwrap().endpoint.is_empty()
    })
    .await;
    let error = refusal(&a, &a.known("Globex").await).await;
    assert_eq!(error.reason(), Reason::PartnerHasNoEndpoint);
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap();
    eventually("the partner has collected that it is over", || async {
        b.partnership("Acme").await.unwrap().state() == PartnershipState::Revoked
    })
    .await;
    // Then the door is closed to it.
    eventually("the door is closed", || async {
        refusal(&b, &as_partnership(&a)).await.reason() == Reason::PeerUnknown
    })
    .await;
}

/// A node that cannot be called collects from its partners; one that stays silent must not keep notices to another waiting.
#[tokio::test(flavor = "multi_thread")]
async fn collecting_from_a_silent_partner_holds_up_no_notice_to_another() {
    let mut a = TestNode::start("Acme").await;
    let good = TestNode::start("Globex").await;
    let mut silent = TestNode::start("Initech").await;
    for partner in [&good, &silent] {
        a.accept(&partner.invite().await).await.unwrap();
    }
    a.stop().await;
    a.config.exchange.listen = "0.0.0.0:0".parse().unwrap();
    a.resume().await;
    for partner in [&good, &silent] {
        eventually("it is known that Acme has no endpoint", || async {
            partner
                .partnership("Acme")
                .await
                .unwrap()
                .endpoint
                .is_empty()
        })
        .await;
    }
    let address = silent.exchange_addr();
    silent.stop().await;
    let mut bound = None;
    // Its own sockets may take a moment to close.
    eventually("the address is free", || {
        bound = std::net::TcpListener::bind(address).ok();
        std::future::ready(bound.is_some())
    })
    .await;
    let listener = bound.unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    // A says nothing to it, so that what calls is what collects. Its hand-shake has ten seconds.
    let _silence = tokio::time::timeout(Duration::from_secs(5), listener.accept())
        .await
        .unwrap()
        .unwrap();
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap();
    let heard = eventually("the other partner hears that it is over", || async {
        good.partnership("Acme").await.unwrap().state() == PartnershipState::Revoked
    });
    tokio::time::timeout(Duration::from_secs(2), heard)
        .await
        .unwrap();
}
