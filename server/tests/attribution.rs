//! Attribution between two nodes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attribution_support;

use attribution_support::{
    attributions, audit, count, delivered,
    node_support::{TestNode, eventually, reason},
    outbox, partners, policy, proto_time,
    requests::{
        approve, arrives, becomes, cancel, deny, get, received, request, request_with_id, sent,
        try_request,
    },
    say, set, set_policy, sharing_state, token,
};
use jiff::SignedDuration;
use overlap_proto::v1::{
    ApproveAttributionRequest, Attribution, AttributionDirection, AttributionState,
    CancelAttributionRequest, GetAttributionMetricsRequest, ListReceivedAttributionsRequest,
    ListSentAttributionsRequest, RequestAttributionRequest, RevokePartnershipRequest,
    RevokeSharingRequest, Role, SharingState, attribution_service_client::AttributionServiceClient,
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn p19_a_request_names_the_customer_by_its_handle_and_nothing_else() {
    let (a, mut b) = partners(false, false).await;
    b.stop().await;
    let mut client = attributions(&a).await;
    let asked = try_request(&mut client, "a1", "  We made the introduction\n")
        .await
        .unwrap();
    assert_eq!(asked.customer, "a1");
    assert_eq!(asked.r#ref, "aa1");
    assert_eq!(asked.details, "We made the introduction");
    assert_eq!(asked.direction(), AttributionDirection::Sent);
    assert_eq!(asked.state(), AttributionState::Pending);
    let wire = outbox(&a).await;
    assert!(wire.starts_with("attribution.requested {"), "{wire}");
    assert!(
        wire.contains("\"ref\":\"aa1\"") && !wire.contains("\"a1\""),
        "{wire}"
    );
    b.resume().await;
    arrives(&b, &asked.id).await;
    let there = get(&b, "Acme", &asked.id).await.unwrap();
    assert_eq!(there.customer, "b1");
    assert_eq!(there.r#ref, "aa1");
    assert_eq!(there.details, "We made the introduction");
    assert_eq!(there.direction(), AttributionDirection::Received);
    assert_eq!(there.requested_at, asked.requested_at);
    assert_eq!(audit(&a).await["attribution.requested"], 1);
    assert_eq!(audit(&b).await["attribution.received"], 1);
}

#[tokio::test]
async fn p19_requests_that_must_not_be_are_refused() {
    let (a, _b) = partners(false, false).await;
    set(&a, |found| _ = found.count_tier.insert("a2".to_owned()));
    let mut client = attributions(&a).await;
    let counted = try_request(&mut client, "a2", "details").await.unwrap_err();
    assert_eq!(counted.code(), Code::FailedPrecondition);
    assert_eq!(reason(&counted), "OWN_TIER_COUNTS_ONLY");
    let absent = try_request(&mut client, "a9", "details").await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    let empty = try_request(&mut client, "a1", " \n").await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let long = try_request(&mut client, "a1", &"x".repeat(4_001))
        .await
        .unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    let unknown = client
        .request_attribution(RequestAttributionRequest {
            partner: "Initech".to_owned(),
            customer: "a1".to_owned(),
            details: "details".to_owned(),
            request_id: String::new(),
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    // A partner's own user has no part in this.
    let partner = token(&a, "guest", Role::Partner, "Globex").await;
    let mut guest = AttributionServiceClient::new(a.api_as(&partner).await);
    let refused = try_request(&mut guest, "a1", "details").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(count(&a, "SELECT count(*) FROM attributions").await, 0);
}

#[tokio::test]
async fn p20_delivery_survives_restarts_of_either_side_and_happens_once() {
    let (mut a, mut b) = partners(false, false).await;
    b.stop().await;
    let mut client = attributions(&a).await;
    let first = request_with_id(&mut client, "a1", "details", "r-1")
        .await
        .unwrap();
    let again = request_with_id(&mut client, "a1", "details", "r-1")
        .await
        .unwrap();
    assert_eq!(first.id, again.id, "a repeated call asks once");
    let other = request_with_id(&mut client, "a1", "other", "r-1")
        .await
        .unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument);
    let second = request(&a, "a2").await;
    a.restart().await;
    b.resume().await;
    b.restart().await;
    arrives(&b, &second.id).await;
    delivered(&a).await;
    let ids: Vec<_> = received(&b).await.into_iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&first.id) && ids.contains(&second.id));
    assert_eq!(sent(&a).await.len(), 2);
    // A sender that says it all again, as after a lost acknowledgement.
    say(
        &a,
        "attribution.requested",
        json!({"id": first.id, "ref": "aa1", "details": "changed", "requested_us": 1}),
    )
    .await;
    delivered(&a).await;
    assert_eq!(get(&b, "Acme", &first.id).await.unwrap().details, "details");
    assert_eq!(count(&b, "SELECT count(*) FROM attributions").await, 2);
}

#[tokio::test]
async fn p21_p22_a_decision_reaches_the_requester_and_is_final() {
    let (a, b) = partners(false, false).await;
    let approved = request(&a, "a1").await;
    let denied = request(&a, "a2").await;
    arrives(&b, &denied.id).await;
    let own = approve_own(&a, &approved.id).await;
    assert_eq!(
        (own.code(), reason(&own).as_str()),
        (Code::PermissionDenied, "OWN_REQUEST")
    );
    b.clock.advance(SignedDuration::from_mins(90));
    approve(&b, &approved.id, "Thank you").await.unwrap();
    deny(&b, &denied.id, "").await.unwrap();
    becomes(&a, "Globex", &approved.id, AttributionState::Approved).await;
    becomes(&a, "Globex", &denied.id, AttributionState::Denied).await;
    let (here, there) = (
        get(&a, "Globex", &approved.id).await.unwrap(),
        get(&b, "Acme", &approved.id).await.unwrap(),
    );
    assert_eq!(
        (here.comment.as_str(), there.comment.as_str()),
        ("Thank you", "Thank you")
    );
    assert_eq!(
        here.decided_at,
        proto_time("2026-03-01T13:30:00Z"),
        "by the receiver's clock"
    );
    assert_eq!(here.decided_at, there.decided_at);
    for again in [
        approve(&b, &approved.id, "").await.unwrap_err(),
        deny(&b, &approved.id, "").await.unwrap_err(),
        approve(&b, &denied.id, "").await.unwrap_err(),
        cancel(&a, &approved.id).await.unwrap_err(),
    ] {
        assert_eq!(again.code(), Code::FailedPrecondition);
        assert_eq!(reason(&again), "ALREADY_DECIDED");
    }
    assert_eq!(
        approve(&b, "atr_0", "").await.unwrap_err().code(),
        Code::NotFound
    );
    // Members ask, managers decide.
    let open = request(&a, "a3").await;
    arrives(&b, &open.id).await;
    let member = token(&b, "mia", Role::Member, "").await;
    let mut client = AttributionServiceClient::new(b.api_as(&member).await);
    let refused = client
        .approve_attribution(ApproveAttributionRequest {
            partner: "Acme".to_owned(),
            id: open.id.clone(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(audit(&b).await["attribution.approved"], 1);
    assert_eq!(audit(&a).await["attribution.approved"], 1);
}

async fn approve_own(a: &TestNode, id: &str) -> Status {
    let request = ApproveAttributionRequest {
        partner: "Globex".to_owned(),
        id: id.to_owned(),
        ..Default::default()
    };
    attributions(a)
        .await
        .approve_attribution(request)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn p22_a_pending_duplicate_is_refused_until_the_first_has_ended() {
    let (a, b) = partners(false, false).await;
    set(&a, |found| found.shared[0].ids.push("a1x".to_owned()));
    let first = request(&a, "a1").await;
    let mut client = attributions(&a).await;
    // By another of my rows of the same customer, too.
    for row in ["a1", "a1x"] {
        let duplicate = try_request(&mut client, row, "details").await.unwrap_err();
        assert_eq!(duplicate.code(), Code::AlreadyExists);
    }
    // Also after a run that found another row of the customer in a higher stage, which names it from then on.
    set(&a, |found| found.shared[0].id = "a1x".to_owned());
    for row in ["a1", "a1x"] {
        let duplicate = try_request(&mut client, row, "details").await.unwrap_err();
        assert_eq!(duplicate.code(), Code::AlreadyExists);
        let details = duplicate.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.metadata["attribution"], first.id);
    }
    arrives(&b, &first.id).await;
    deny(&b, &first.id, "").await.unwrap();
    becomes(&a, "Globex", &first.id, AttributionState::Denied).await;
    request(&a, "a1x").await;
}

#[tokio::test]
async fn requests_are_listed_by_any_row_of_the_customer() {
    let (a, b) = partners(false, false).await;
    set(&a, |found| found.shared[0].ids.push("a1x".to_owned()));
    set(&b, |found| found.shared[0].ids.push("b1x".to_owned()));
    let asked = request(&a, "a1x").await;
    let other = request(&a, "a2").await;
    arrives(&b, &asked.id).await;
    arrives(&b, &other.id).await;
    let ids = |found: Vec<Attribution>| -> Vec<String> {
        found.into_iter().map(|request| request.id).collect()
    };
    for (row, expected) in [("a1", &asked), ("a1x", &asked), ("a2", &other)] {
        let list = ListSentAttributionsRequest {
            partner: "Globex".to_owned(),
            customer: row.to_owned(),
            ..Default::default()
        };
        let list = attributions(&a).await.list_sent_attributions(list).await;
        let list = list.unwrap().into_inner();
        assert_eq!(list.total_size, 1, "{row}");
        assert_eq!(ids(list.attributions), [expected.id.as_str()], "{row}");
    }
    for (row, expected) in [("b1", &asked), ("b1x", &asked), ("b2", &other)] {
        let list = ListReceivedAttributionsRequest {
            partner: "Acme".to_owned(),
            customer: row.to_owned(),
            ..Default::default()
        };
        let list = attributions(&b)
            .await
            .list_received_attributions(list)
            .await;
        let list = list.unwrap().into_inner();
        assert_eq!(list.total_size, 1, "{row}");
        assert_eq!(ids(list.attributions), [expected.id.as_str()], "{row}");
    }
}

#[tokio::test]
async fn p22_the_requester_cancels_and_both_sides_see_it() {
    let (a, b) = partners(false, false).await;
    let asked = request(&a, "a1").await;
    arrives(&b, &asked.id).await;
    let refused = {
        let request = CancelAttributionRequest {
            partner: "Acme".to_owned(),
            id: asked.id.clone(),
            request_id: String::new(),
        };
        attributions(&b)
            .await
            .cancel_attribution(request)
            .await
            .unwrap_err()
    };
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "NOT_THE_REQUESTER")
    );
    // Another member's request is not a member's to cancel.
    let member = token(&a, "mia", Role::Member, "").await;
    let mut client = AttributionServiceClient::new(a.api_as(&member).await);
    let foreign = CancelAttributionRequest {
        partner: "Globex".to_owned(),
        id: asked.id.clone(),
        request_id: String::new(),
    };
    let foreign = client.cancel_attribution(foreign).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    let cancelled = cancel(&a, &asked.id).await.unwrap();
    assert_eq!(cancelled.state(), AttributionState::Cancelled);
    assert_eq!(
        get(&b, "Acme", &asked.id).await.unwrap().state(),
        AttributionState::Cancelled
    );
    let late = approve(&b, &asked.id, "").await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    assert_eq!(audit(&b).await["attribution.cancelled"], 1);
}

#[tokio::test]
async fn p22_a_decision_made_before_the_cancellation_arrives_wins_on_both_sides() {
    let (mut a, mut b) = partners(false, false).await;
    let asked = request(&a, "a1").await;
    arrives(&b, &asked.id).await;
    b.stop().await;
    let waiting = cancel(&a, &asked.id).await.unwrap();
    assert_eq!(waiting.state(), AttributionState::Pending);
    assert!(waiting.cancel_requested_at.is_some());
    a.stop().await;
    b.resume().await;
    approve(&b, &asked.id, "").await.unwrap();
    a.resume().await;
    becomes(&a, "Globex", &asked.id, AttributionState::Approved).await;
    delivered(&a).await;
    delivered(&b).await;
    let (here, there) = (
        get(&a, "Globex", &asked.id).await.unwrap(),
        get(&b, "Acme", &asked.id).await.unwrap(),
    );
    assert_eq!(here.state(), AttributionState::Approved);
    assert_eq!(there.state(), AttributionState::Approved);
    assert_eq!(here.cancel_requested_at, None);
}

#[tokio::test]
async fn p20_notices_out_of_order_or_out_of_line_do_no_harm() {
    let (a, b) = partners(false, false).await;
    let id = "atr_00000000000000000000000000000001";
    say(&a, "attribution.cancel", json!({"id": id})).await;
    let requested = json!({"id": id, "ref": "aa1", "details": "late", "requested_us": 1});
    say(&a, "attribution.requested", requested).await;
    delivered(&a).await;
    assert_eq!(
        count(
            &b,
            "SELECT count(*) FROM attributions WHERE state = 'CANCELLED'"
        )
        .await,
        1
    );
    assert_eq!(
        received(&b).await,
        [],
        "what was withdrawn before it arrived is not shown"
    );
    // A decision of what nobody asked, a second one, and malformed words.
    let ended = |outcome: &str, id: &str| json!({"id": id, "outcome": outcome, "comment": "", "decided_us": 1});
    say(
        &b,
        "attribution.ended",
        ended("APPROVED", "atr_00000000000000000000000000000002"),
    )
    .await;
    let asked = request(&a, "a1").await;
    arrives(&b, &asked.id).await;
    say(&b, "attribution.ended", ended("DENIED", &asked.id)).await;
    say(&b, "attribution.ended", ended("APPROVED", &asked.id)).await;
    say(
        &b,
        "attribution.ended",
        json!({"id": asked.id, "outcome": "MAYBE"}),
    )
    .await;
    say(&b, "attribution.cancel", json!({"id": asked.id})).await;
    say(
        &a,
        "attribution.requested",
        json!({"id": "x", "ref": "aa1", "details": "d", "requested_us": 1}),
    )
    .await;
    delivered(&b).await;
    delivered(&a).await;
    assert_eq!(
        get(&a, "Globex", &asked.id).await.unwrap().state(),
        AttributionState::Denied
    );
    assert_eq!(audit(&b).await["notice.refused"], 3);
    assert_eq!(audit(&a).await["notice.refused"], 1);
}

/// P-20: requests and cancellations in every order, each twice, end the same; so do decisions, of which the first counts.
#[tokio::test]
async fn p20_words_in_every_order_and_twice_end_the_same() {
    let (a, b) = partners(false, false).await;
    for (number, order) in ["RRCC", "RCRC", "RCCR", "CRRC", "CRCR", "CCRR"]
        .iter()
        .enumerate()
    {
        let id = format!("atr_000000000000000000000000000001{number:02}");
        for word in order.chars() {
            match word {
                'R' => {
                    let body = json!({"id": id, "ref": "aa1", "details": "d", "requested_us": 1});
                    say(&a, "attribution.requested", body).await;
                }
                _ => say(&a, "attribution.cancel", json!({"id": id})).await,
            }
        }
        delivered(&a).await;
    }
    const CANCELLED: &str = "SELECT count(*) FROM attributions WHERE state = 'CANCELLED'";
    assert_eq!(count(&b, CANCELLED).await, 6);
    assert_eq!(count(&b, "SELECT count(*) FROM attributions").await, 6);
    // Three of them were there before they were withdrawn.
    let shown = received(&b).await;
    assert!(
        shown
            .iter()
            .all(|one| one.state() == AttributionState::Cancelled)
    );
    assert_eq!(shown.len(), 3);

    let orders = [
        (
            "a1",
            ["APPROVED", "APPROVED", "DENIED"],
            AttributionState::Approved,
        ),
        (
            "a2",
            ["APPROVED", "DENIED", "APPROVED"],
            AttributionState::Approved,
        ),
        (
            "a3",
            ["DENIED", "APPROVED", "APPROVED"],
            AttributionState::Denied,
        ),
    ];
    for (customer, outcomes, expected) in orders {
        let asked = request(&a, customer).await;
        arrives(&b, &asked.id).await;
        for outcome in outcomes {
            let body = json!({"id": asked.id, "outcome": outcome, "comment": "", "decided_us": 1});
            say(&b, "attribution.ended", body).await;
        }
        delivered(&b).await;
        assert_eq!(
            get(&a, "Globex", &asked.id).await.unwrap().state(),
            expected
        );
    }
    // P-23: each approval counts once.
    let metrics = attributions(&a)
        .await
        .get_attribution_metrics(GetAttributionMetricsRequest {
            partner: "Globex".to_owned(),
            start: proto_time("1970-01-01T00:00:00Z"),
            end: proto_time("1970-02-01T00:00:00Z"),
            time_zone: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(metrics.sent_approved, 2);
}

#[tokio::test]
async fn p19_a_customer_that_the_receiver_finds_later_is_filled_in() {
    let (a, b) = partners(false, false).await;
    let handles = {
        let mut known = Default::default();
        set(&b, |found| known = std::mem::take(&mut found.their_handles));
        known
    };
    let asked = request(&a, "a1").await;
    arrives(&b, &asked.id).await;
    assert_eq!(get(&b, "Acme", &asked.id).await.unwrap().customer, "");
    set(&b, |found| {
        found.their_handles = handles;
        found.run = Some("run2".to_owned());
    });
    assert_eq!(get(&b, "Acme", &asked.id).await.unwrap().customer, "b1");
    eventually("it is stored", || async {
        count(
            &b,
            "SELECT count(*) FROM attributions WHERE customer = 'b1'",
        )
        .await
            == 1
    })
    .await;
}

#[tokio::test]
async fn p23_p27_approved_requests_alone_count_by_month_of_decision() {
    let (a, b) = partners(false, false).await;
    let month = SignedDuration::from_hours(31 * 24);
    let asked = [
        request(&a, "a1").await,
        request(&a, "a2").await,
        request(&a, "a3").await,
    ];
    request(&a, "a4").await;
    arrives(&b, &asked[2].id).await;
    approve(&b, &asked[0].id, "").await.unwrap();
    deny(&b, &asked[1].id, "").await.unwrap();
    // 2026-04-01.
    b.clock.advance(month);
    a.clock.advance(month);
    approve(&b, &asked[2].id, "").await.unwrap();
    becomes(&a, "Globex", &asked[2].id, AttributionState::Approved).await;
    becomes(&a, "Globex", &asked[0].id, AttributionState::Approved).await;
    let metrics = |node, partner: &'static str| async move {
        let request = GetAttributionMetricsRequest {
            partner: partner.to_owned(),
            ..Default::default()
        };
        let response = attributions(node)
            .await
            .get_attribution_metrics(request)
            .await
            .unwrap();
        response.into_inner()
    };
    let here = metrics(&a, "Globex").await;
    assert_eq!((here.sent_approved, here.received_approved), (2, 0));
    assert_eq!(here.months.len(), 12);
    assert_eq!(
        (here.months[0].month.as_str(), here.months[0].sent_approved),
        ("2025-05", 0)
    );
    assert_eq!(
        (
            here.months[10].month.as_str(),
            here.months[10].sent_approved
        ),
        ("2026-03", 1)
    );
    assert_eq!(
        (
            here.months[11].month.as_str(),
            here.months[11].sent_approved
        ),
        ("2026-04", 1)
    );
    let there = metrics(&b, "Acme").await;
    assert_eq!((there.sent_approved, there.received_approved), (0, 2));
    assert_eq!(there.months[10].received_approved, 1);
}

#[tokio::test]
async fn p20_listings_page_newest_first_and_tokens_belong_to_their_filter() {
    let (a, _b) = partners(false, false).await;
    let mut ids = Vec::new();
    for customer in ["a1", "a2", "a3"] {
        ids.push(request(&a, customer).await.id);
        a.clock.advance(SignedDuration::from_secs(1));
    }
    let mut client = attributions(&a).await;
    let first = ListSentAttributionsRequest {
        partner: "Globex".to_owned(),
        page_size: 2,
        ..Default::default()
    };
    let page = client
        .list_sent_attributions(first.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.total_size, 3);
    let found: Vec<_> = page.attributions.iter().map(|one| one.id.clone()).collect();
    assert_eq!(found, [ids[2].clone(), ids[1].clone()]);
    let rest = ListSentAttributionsRequest {
        page_token: page.next_page_token.clone(),
        ..first.clone()
    };
    let rest = client
        .list_sent_attributions(rest)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(rest.attributions[0].id, ids[0]);
    assert_eq!(rest.next_page_token, "");
    let other = ListSentAttributionsRequest {
        page_token: page.next_page_token,
        state: AttributionState::Approved.into(),
        ..first
    };
    let refused = client.list_sent_attributions(other).await.unwrap_err();
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn z06_revocation_removes_requests_on_both_sides() {
    let (a, b) = partners(false, false).await;
    let asked = request(&a, "a1").await;
    arrives(&b, &asked.id).await;
    let revoke = RevokeSharingRequest {
        partner: "Acme".to_owned(),
    };
    b.sharing().await.revoke_sharing(revoke).await.unwrap();
    eventually("sharing has ended", || async {
        sharing_state(&a, "Globex").await == SharingState::Revoked
    })
    .await;
    for node in [&a, &b] {
        assert_eq!(count(node, "SELECT count(*) FROM attributions").await, 0);
    }
    // What was on its way is not heard any more.
    say(
        &a,
        "attribution.requested",
        json!({"id": asked.id, "ref": "aa1", "details": "d", "requested_us": 1}),
    )
    .await;
    delivered(&a).await;
    assert_eq!(count(&b, "SELECT count(*) FROM attributions").await, 0);
    // Agreed anew, revoked altogether.
    set_policy(&a, "Globex", policy(false)).await;
    let revoke = RevokePartnershipRequest {
        partner: "Acme".to_owned(),
    };
    b.partners().await.revoke_partnership(revoke).await.unwrap();
    let refused = get(&b, "Acme", &asked.id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}
