//! P-31 over the API and real sockets: propose, approve, change and approve, decline, revoke, with partners that are away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node_support;

use std::sync::atomic::{AtomicUsize, Ordering};

use node_support::{TestNode, eventually, pair, pair_with, reason};
use overlap_proto::{
    policy_file,
    v1::{
        ApproveProposalRequest, DeclineProposalRequest, GetSharingRequest,
        RevokePartnershipRequest, RevokeSharingRequest, SetPolicyRequest, Sharing, SharingPolicy,
        SharingState, Tier,
    },
};
use overlap_server::{
    error::{Error, Reason},
    node::Registry,
    sharing::policy::active_agreement,
};
use tonic::{Code, Status};

const NARROW: &str = "[stages]\nProspect = \"count\"\n";
const WIDE: &str =
    "[stages]\nProspect = \"list\"\nCustomer = \"list\"\n[fields]\nshare = [\"name\"]\n";

fn policy(text: &str) -> SharingPolicy {
    policy_file::parse(text, "policy.toml").unwrap()
}

async fn set(node: &TestNode, partner: &str, text: &str) -> Result<Sharing, Status> {
    let request = SetPolicyRequest {
        partner: partner.to_owned(),
        policy: Some(policy(text)),
    };
    let response = node.sharing().await.set_policy(request).await?;
    Ok(response.into_inner().sharing.unwrap())
}

async fn approve(node: &TestNode, partner: &str) -> Result<Sharing, Status> {
    let request = ApproveProposalRequest {
        partner: partner.to_owned(),
    };
    let response = node.sharing().await.approve_proposal(request).await?;
    Ok(response.into_inner().sharing.unwrap())
}

async fn get(node: &TestNode, partner: &str) -> Sharing {
    let request = GetSharingRequest {
        partner: partner.to_owned(),
    };
    let response = node.sharing().await.get_sharing(request).await.unwrap();
    response.into_inner().sharing.unwrap()
}

async fn reaches(node: &TestNode, partner: &str, state: SharingState) {
    eventually(&format!("{state:?}"), || async {
        get(node, partner).await.state() == state
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p31_propose_and_approve() {
    let (a, b) = pair().await;
    assert_eq!(get(&a, "Globex").await.state(), SharingState::None);
    let proposed = set(&a, "Globex", WIDE).await.unwrap();
    assert_eq!(proposed.state(), SharingState::Proposed);
    reaches(&b, "Acme", SharingState::AwaitingMyDecision).await;
    let waiting = get(&b, "Acme").await;
    assert_eq!(waiting.their_proposal, Some(policy(WIDE)));
    assert_eq!(waiting.their_stages.len(), 6);
    let approved = approve(&b, "Acme").await.unwrap();
    assert_eq!(approved.state(), SharingState::Active);
    assert_eq!(approved.mine, Some(policy(WIDE)), "mirrored");
    reaches(&a, "Globex", SharingState::Active).await;
    let (at_a, at_b) = (get(&a, "Globex").await, get(&b, "Acme").await);
    assert_eq!(at_a.terms_hash, at_b.terms_hash);
    assert_eq!(at_a.version, at_b.version);
    assert_eq!((&at_a.mine, &at_a.theirs), (&at_b.theirs, &at_b.mine));
    assert!(at_a.my_proposal.is_none() && at_a.their_proposal.is_none());
    let id = at_a.partner;
    let agreement = a
        .node()
        .store
        .read(move |connection| active_agreement(connection, &id))
        .await
        .unwrap();
    assert_eq!(agreement.mine.to_proto(), policy(WIDE));
}

#[tokio::test(flavor = "multi_thread")]
async fn p31_change_and_approve_with_restarts_in_between() {
    let (mut a, mut b) = pair().await;
    b.stop().await;
    set(&a, "Globex", WIDE).await.unwrap();
    a.restart().await;
    b.resume().await;
    reaches(&b, "Acme", SharingState::AwaitingMyDecision).await;
    a.stop().await;
    let answered = set(&b, "Acme", NARROW).await.unwrap();
    assert_eq!(answered.state(), SharingState::Active);
    b.restart().await;
    a.resume().await;
    reaches(&a, "Globex", SharingState::Active).await;
    let (at_a, at_b) = (get(&a, "Globex").await, get(&b, "Acme").await);
    assert_eq!(at_a.theirs, Some(policy(NARROW)));
    assert_eq!(at_a.terms_hash, at_b.terms_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn p31_decline_widen_tighten_and_revoke() {
    let (a, b) = pair().await;
    set(&a, "Globex", NARROW).await.unwrap();
    reaches(&b, "Acme", SharingState::AwaitingMyDecision).await;
    b.sharing()
        .await
        .decline_proposal(DeclineProposalRequest {
            partner: "Acme".to_owned(),
        })
        .await
        .unwrap();
    reaches(&a, "Globex", SharingState::Declined).await;
    set(&a, "Globex", NARROW).await.unwrap();
    reaches(&b, "Acme", SharingState::AwaitingMyDecision).await;
    approve(&b, "Acme").await.unwrap();
    reaches(&a, "Globex", SharingState::Active).await;
    // Wider: the old terms stay until it is approved.
    let before = get(&a, "Globex").await.terms_hash;
    let widened = set(&a, "Globex", WIDE).await.unwrap();
    assert_eq!(widened.terms_hash, before);
    assert_eq!(widened.mine, Some(policy(NARROW)));
    assert_eq!(widened.my_proposal, Some(policy(WIDE)));
    eventually("the proposal arrives", || async {
        get(&b, "Acme").await.their_proposal.is_some()
    })
    .await;
    approve(&b, "Acme").await.unwrap();
    eventually("the approval arrives", || async {
        get(&a, "Globex").await.mine == Some(policy(WIDE))
    })
    .await;
    // Narrower: at once.
    let tightened = set(&a, "Globex", NARROW).await.unwrap();
    assert_eq!(tightened.mine, Some(policy(NARROW)));
    eventually("the change arrives", || async {
        get(&b, "Acme").await.terms_hash == tightened.terms_hash
    })
    .await;
    b.sharing()
        .await
        .revoke_sharing(RevokeSharingRequest {
            partner: "Acme".to_owned(),
        })
        .await
        .unwrap();
    reaches(&a, "Globex", SharingState::Revoked).await;
    assert_eq!(
        reason(&approve(&a, "Globex").await.unwrap_err()),
        "FAILED_PRECONDITION"
    );
    // All of it is on record, on both sides, without gaps.
    for node in [&a, &b] {
        let events = node.audit_events().await;
        for action in [
            "sharing.proposed",
            "sharing.declined",
            "sharing.tightened",
            "sharing.revoked",
        ] {
            assert!(
                events.iter().any(|event| event.action == action),
                "{action}"
            );
        }
        node.node()
            .store
            .read(overlap_server::audit::verify)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p31_wrong_policies_are_refused_with_the_field() {
    let (a, _b) = pair().await;
    let unknown = set(&a, "Globex", "[stages]\nPropsect = \"list\"\n")
        .await
        .unwrap_err();
    assert_eq!(reason(&unknown), "INVALID_ARGUMENT");
    assert!(
        unknown.message().contains("Prospect, Lead, Deal"),
        "{unknown}"
    );
    let mut without_tier = policy(NARROW);
    without_tier
        .stages
        .insert("Lead".to_owned(), Tier::Unspecified.into());
    let request = SetPolicyRequest {
        partner: "Globex".to_owned(),
        policy: Some(without_tier),
    };
    let refused = a.sharing().await.set_policy(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    // P-01: whom it is with comes first.
    let nobody = set(&a, "Nobody", NARROW).await.unwrap_err();
    assert_eq!(reason(&nobody), "NOT_FOUND");
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap();
    let ended = set(&a, "Globex", NARROW).await.unwrap_err();
    assert_eq!(reason(&ended), "PARTNERSHIP_NOT_CONNECTED");
}

static ENDED: AtomicUsize = AtomicUsize::new(0);

/// A module whose clean-up fails until it has been tried three times.
fn failing() -> Registry {
    let mut registry = Registry::standard();
    registry.on_partnership_ended(|node, _, _| {
        if node.config.organization == "Globex" && ENDED.fetch_add(1, Ordering::SeqCst) < 3 {
            return Err(Error::new(Reason::StorageFailed, "not now"));
        }
        Ok(())
    });
    registry
}

#[tokio::test(flavor = "multi_thread")]
async fn z06_a_clean_up_that_fails_is_tried_again_and_never_skipped() {
    let (a, b) = pair_with(failing).await;
    a.partners()
        .await
        .revoke_partnership(RevokePartnershipRequest {
            partner: "Globex".to_owned(),
        })
        .await
        .unwrap();
    eventually("the partner has cleaned up", || async {
        b.partnership("Acme").await.unwrap().state() == overlap_proto::v1::PartnershipState::Revoked
    })
    .await;
    assert_eq!(ENDED.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_a_backup_loses_no_later_notice() {
    let (mut a, b) = pair().await;
    let store = a.path().join(overlap_server::storage::FILE_NAME);
    let backup = a.path().join("backup.db");
    rusqlite::Connection::open(&store)
        .unwrap()
        .execute("VACUUM INTO ?", [backup.to_str().unwrap()])
        .unwrap();
    for text in [NARROW, WIDE] {
        set(&a, "Globex", text).await.unwrap();
    }
    eventually("the proposals arrive", || async {
        get(&b, "Acme").await.their_proposal == Some(policy(WIDE))
    })
    .await;
    a.stop().await;
    for side in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{side}", store.display()));
    }
    std::fs::rename(backup, &store).unwrap();
    a.resume().await;
    // The partner has two proposals that this node has forgotten: its next word ends them, and they begin anew.
    set(&a, "Globex", NARROW).await.unwrap();
    reaches(&b, "Acme", SharingState::Revoked).await;
    assert_eq!(get(&a, "Globex").await.state(), SharingState::Revoked);
    set(&a, "Globex", NARROW).await.unwrap();
    reaches(&b, "Acme", SharingState::AwaitingMyDecision).await;
    approve(&b, "Acme").await.unwrap();
    reaches(&a, "Globex", SharingState::Active).await;
    assert_eq!(
        get(&a, "Globex").await.terms_hash,
        get(&b, "Acme").await.terms_hash
    );
    let events = a.audit_events().await;
    assert!(
        events
            .iter()
            .any(|event| event.action == "store.rolled_back")
    );
}
