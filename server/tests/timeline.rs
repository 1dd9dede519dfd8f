//! Events of shared customers between two nodes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attribution_support;

use attribution_support::{
    count, delivered, ingest,
    node_support::{TestNode, eventually, reason},
    outbox, partners, policy, proto_time, say, set, set_policy, text_time, timelines, token,
};
use overlap_proto::v1::{
    ActionSegment, DisclosureState, GetActionSegmentsRequest, GetPartnerOverviewRequest,
    GetReferralConversionRequest, GetStageMovementsRequest, GetTimelineRequest,
    GetTimelineResponse, LifecycleEventRecord, LifecycleEventType, ListActionSegmentRequest,
    PartnerProfileRecord, ReferralRecord, ReferralStatus, RevokeSharingRequest, Role, TimelineSide,
    program_service_client::ProgramServiceClient, record::Content,
};
use serde_json::json;
use tonic::{Code, Status};

async fn event(
    node: &TestNode,
    id: &str,
    customer: &str,
    kind: LifecycleEventType,
    at: &str,
    label: &str,
    partner: &str,
) {
    let content = Content::LifecycleEvent(LifecycleEventRecord {
        customer: customer.to_owned(),
        r#type: kind.into(),
        at: proto_time(at),
        label: label.to_owned(),
        partner: partner.to_owned(),
    });
    ingest(node, id, content).await;
}

async fn try_timeline(
    node: &TestNode,
    partner: &str,
    customer: &str,
) -> Result<GetTimelineResponse, Status> {
    let request = GetTimelineRequest {
        partner: partner.to_owned(),
        customer: customer.to_owned(),
    };
    Ok(timelines(node)
        .await
        .get_timeline(request)
        .await?
        .into_inner())
}

/// Time, side and label of every event.
async fn timeline(
    node: &TestNode,
    partner: &str,
    customer: &str,
) -> Vec<(String, TimelineSide, String)> {
    let response = try_timeline(node, partner, customer).await.unwrap();
    let entry = |event: &overlap_proto::v1::TimelineEvent| {
        (text_time(event.at), event.side(), event.label.clone())
    };
    response.events.iter().map(entry).collect()
}

fn entry(at: &str, side: TimelineSide, label: &str) -> (String, TimelineSide, String) {
    (at.to_owned(), side, label.to_owned())
}

const DAY1: &str = "2026-02-01T00:00:00Z";
const DAY2: &str = "2026-02-02T00:00:00Z";
const DAY3: &str = "2026-02-03T00:00:00Z";

#[tokio::test]
async fn p17_p18_both_sides_events_in_order_where_the_partner_shares_its_own() {
    use LifecycleEventType::{
        AppInstalled, FirstEngagement, Milestone, StageChanged, SubscriptionStarted,
    };
    // Acme discloses its events, Globex does not.
    let (a, b) = partners(true, false).await;
    event(&a, "e3", "a1", SubscriptionStarted, DAY3, "Gold", "").await;
    event(
        &a,
        "e1",
        "a1",
        FirstEngagement,
        DAY1,
        "Met at a fair",
        "globex",
    )
    .await;
    event(&a, "e2", "a1", AppInstalled, DAY2, "", "").await;
    event(&b, "f1", "b1", Milestone, DAY2, "100 seats", "").await;
    // Not for the partner: with somebody else, in a stage that is not listed, of a customer that is not shared.
    event(
        &a,
        "e4",
        "a1",
        FirstEngagement,
        DAY1,
        "With Initech",
        "initech",
    )
    .await;
    event(&a, "e5", "a1", StageChanged, DAY2, "Deal", "").await;
    event(&a, "e6", "a9", Milestone, DAY1, "secret", "").await;
    // An identifier in a label stays here.
    event(
        &a,
        "e7",
        "a1",
        Milestone,
        DAY3,
        "signed by ada@acme.example",
        "",
    )
    .await;
    use TimelineSide::{Mine, Partner};
    eventually("events arrive", || async {
        timeline(&b, "Acme", "b1").await.len() == 5
    })
    .await;
    assert_eq!(
        timeline(&b, "Acme", "b1").await,
        [
            entry(DAY1, Partner, "Met at a fair"),
            entry(DAY2, Mine, "100 seats"),
            entry(DAY2, Partner, ""),
            entry(
                DAY3,
                Partner,
                if first_alias_is_gold(&b).await {
                    "Gold"
                } else {
                    ""
                }
            ),
            entry(
                DAY3,
                Partner,
                if first_alias_is_gold(&b).await {
                    ""
                } else {
                    "Gold"
                }
            ),
        ]
    );
    let there = try_timeline(&b, "Acme", "b1").await.unwrap();
    assert_eq!(there.partner_timeline(), DisclosureState::Shared);
    let here = try_timeline(&a, "Globex", "a1").await.unwrap();
    assert_eq!(here.partner_timeline(), DisclosureState::NotShared);
    let ids: Vec<_> = here.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["e1", "e4", "e2", "e5", "e3", "e7"]);
    delivered(&b).await;
    assert_eq!(count(&a, "SELECT count(*) FROM partner_events").await, 0);
    let absent = try_timeline(&a, "Globex", "a9").await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
}

/// K-27, P-18: a partner that gives itself the name of another company of the program remains the company it was.
#[tokio::test]
async fn k27_p18_a_new_name_gives_a_partner_nothing_of_another_company() {
    use LifecycleEventType::Milestone;
    let (a, b) = partners(true, false).await;
    for (id, name) in [("p3", "Globex"), ("p7", "Initech")] {
        let profile = PartnerProfileRecord {
            name: name.to_owned(),
            ..Default::default()
        };
        ingest(&a, id, Content::PartnerProfile(profile)).await;
    }
    let theirs = token(&a, "ann", Role::Partner, "Globex").await;
    let rename =
        json!({"organization": "Initech", "endpoint": b.node().exchange_endpoint().unwrap()});
    say(&b, "partnership.profile", rename).await;
    eventually("the new name is known", || async {
        a.partnership("Initech").await.is_ok()
    })
    .await;
    let request = GetPartnerOverviewRequest::default();
    let overview = ProgramServiceClient::new(a.api_as(&theirs).await)
        .get_partner_overview(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(overview.partner, "p3");
    for (id, label, partner) in [
        ("e1", "by their name", "Initech"),
        ("e2", "by their profile", "p7"),
        ("e3", "by its name", "Globex"),
        ("e4", "by its profile", "p3"),
    ] {
        event(&a, id, "a1", Milestone, DAY1, label, partner).await;
    }
    eventually("events arrive", || async {
        timeline(&b, "Acme", "b1").await.len() >= 2
    })
    .await;
    delivered(&a).await;
    let mut labels: Vec<_> = timeline(&b, "Acme", "b1")
        .await
        .into_iter()
        .map(|(_, _, label)| label)
        .collect();
    labels.sort();
    assert_eq!(labels, ["by its name", "by its profile"]);
    // Nor does anybody else get the name that the partner was paired with.
    let c = TestNode::start("Globex").await;
    let refused = c.accept(&a.invite().await).await.unwrap_err();
    assert_eq!(reason(&refused), "ALREADY_EXISTS");
}

async fn first_alias_is_gold(b: &TestNode) -> bool {
    count(
        b,
        "SELECT (SELECT label FROM partner_events WHERE at_us = (SELECT max(at_us) FROM partner_events) ORDER BY id LIMIT 1) = 'Gold'",
    )
    .await
        == 1
}

#[tokio::test]
async fn p18_only_handles_cross_and_only_of_customers_whose_own_tier_is_list() {
    use LifecycleEventType::Milestone;
    let (a, mut b) = partners(true, false).await;
    set(&a, |found| _ = found.count_tier.insert("a2".to_owned()));
    b.stop().await;
    event(&a, "record-1", "a1", Milestone, DAY1, "one", "").await;
    event(&a, "record-2", "a2", Milestone, DAY1, "two", "").await;
    eventually("events wait", || async {
        outbox(&a).await.contains("timeline.events")
    })
    .await;
    let wire = outbox(&a).await;
    assert!(
        wire.contains("\"aa1\"") && wire.contains("\"one\""),
        "{wire}"
    );
    for absent in ["\"aa2\"", "\"a2\"", "two", "record-1", "\"a1\""] {
        assert!(!wire.contains(absent), "{absent} in {wire}");
    }
    b.resume().await;
    eventually("events arrive", || async {
        timeline(&b, "Acme", "b1").await.len() == 1
    })
    .await;
    // A customer that leaves the list tier takes its events with it.
    set(&a, |found| _ = found.count_tier.insert("a1".to_owned()));
    a.clock.advance(jiff::SignedDuration::from_secs(60));
    eventually("events are withdrawn", || async {
        timeline(&b, "Acme", "b1").await.is_empty()
    })
    .await;
    assert_eq!(count(&b, "SELECT count(*) FROM partner_events").await, 0);
}

#[tokio::test]
async fn p17_events_are_delivered_once_across_restarts_and_new_handles() {
    use LifecycleEventType::Milestone;
    let (mut a, mut b) = partners(true, false).await;
    event(&a, "e1", "a1", Milestone, DAY1, "one", "").await;
    eventually("it arrives", || async {
        timeline(&b, "Acme", "b1").await.len() == 1
    })
    .await;
    a.restart().await;
    b.restart().await;
    event(&a, "e2", "a1", Milestone, DAY2, "two", "").await;
    eventually("it arrives", || async {
        timeline(&b, "Acme", "b1").await.len() == 2
    })
    .await;
    // A new epoch gives the customer a new handle on both sides.
    set(&a, |found| {
        found.shared[0].handle = "new1".to_owned();
        found.run = Some("run2".to_owned());
    });
    set(&b, |found| {
        found.their_handles.remove("aa1");
        found
            .their_handles
            .insert("new1".to_owned(), "b1".to_owned());
        found.run = Some("run2".to_owned());
    });
    eventually("events carry the new handle", || async {
        count(
            &b,
            "SELECT count(*) FROM partner_events WHERE handle = 'new1' AND customer = 'b1'",
        )
        .await
            == 2
    })
    .await;
    assert_eq!(count(&b, "SELECT count(*) FROM partner_events").await, 2);
    assert_eq!(timeline(&b, "Acme", "b1").await.len(), 2);
    // Malformed events, and events nobody may send.
    let wire = |handle: &str, id: &str| json!({"customers": {handle: [{"id": id, "at_us": 1, "type": "MILESTONE", "label": "x"}]}});
    say(&a, "timeline.events", wire("no handle", "1")).await;
    say(&a, "timeline.events", wire("new1", "")).await;
    say(&b, "timeline.events", wire("bb1", "1")).await;
    delivered(&a).await;
    delivered(&b).await;
    assert_eq!(count(&b, "SELECT count(*) FROM partner_events").await, 2);
    assert_eq!(count(&a, "SELECT count(*) FROM partner_events").await, 0);
}

#[tokio::test]
async fn z06_events_go_when_the_timeline_or_sharing_is_revoked() {
    use LifecycleEventType::Milestone;
    let (a, b) = partners(true, false).await;
    event(&a, "e1", "a1", Milestone, DAY1, "one", "").await;
    eventually("it arrives", || async {
        timeline(&b, "Acme", "b1").await.len() == 1
    })
    .await;
    // Less is shared, but this is still permitted: it is removed and sent again.
    let mut less = policy(true);
    less.stages.remove("Churned");
    set_policy(&a, "Globex", less.clone()).await;
    eventually("what hung on the old terms is gone", || async {
        count(&b, "SELECT count(*) FROM changes WHERE kind = 14").await == 1
    })
    .await;
    eventually("it is there again", || async {
        timeline(&b, "Acme", "b1").await.len() == 1
    })
    .await;
    less.timeline = false;
    set_policy(&a, "Globex", less).await;
    eventually("it is gone", || async {
        count(&b, "SELECT count(*) FROM partner_events").await == 0
    })
    .await;
    eventually("the partner knows", || async {
        try_timeline(&b, "Acme", "b1")
            .await
            .unwrap()
            .partner_timeline()
            == DisclosureState::NotShared
    })
    .await;
    assert_eq!(count(&a, "SELECT count(*) FROM timeline_sent").await, 0);
    let revoke = RevokeSharingRequest {
        partner: "Globex".to_owned(),
    };
    a.sharing().await.revoke_sharing(revoke).await.unwrap();
    let refused = try_timeline(&a, "Globex", "a1").await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "SHARING_NOT_ACTIVE")
    );
}

#[tokio::test]
async fn p28_movements_of_both_sides() {
    use LifecycleEventType::StageChanged;
    let (a, b) = partners(false, true).await;
    event(
        &a,
        "e1",
        "a2",
        StageChanged,
        "2025-12-05T00:00:00Z",
        "Lead",
        "",
    )
    .await;
    event(
        &a,
        "e2",
        "a2",
        StageChanged,
        "2026-02-05T00:00:00Z",
        "Customer",
        "",
    )
    .await;
    event(
        &a,
        "e3",
        "a9",
        StageChanged,
        "2026-02-05T00:00:00Z",
        "Customer",
        "",
    )
    .await;
    event(
        &b,
        "f1",
        "b1",
        StageChanged,
        "2026-01-05T00:00:00Z",
        "Prospect",
        "",
    )
    .await;
    event(
        &b,
        "f2",
        "b1",
        StageChanged,
        "2026-01-06T00:00:00Z",
        "Customer",
        "",
    )
    .await;
    event(
        &b,
        "f3",
        "b2",
        StageChanged,
        "2026-02-06T00:00:00Z",
        "Customer",
        "",
    )
    .await;
    eventually("events arrive", || async {
        count(&a, "SELECT count(*) FROM partner_events").await == 3
    })
    .await;
    let request = GetStageMovementsRequest {
        partner: "Globex".to_owned(),
        start: proto_time("2026-01-01T00:00:00Z"),
        end: proto_time("2026-03-01T00:00:00Z"),
        time_zone: String::new(),
    };
    let response = timelines(&a)
        .await
        .get_stage_movements(request)
        .await
        .unwrap()
        .into_inner();
    let list = |movements: &[overlap_proto::v1::StageMovement]| -> Vec<_> {
        movements
            .iter()
            .map(|one| (one.side(), one.from.clone(), one.to.clone(), one.count))
            .collect()
    };
    let movement = |side, from: &str, to: &str| (side, from.to_owned(), to.to_owned(), 1);
    use TimelineSide::{Mine, Partner};
    assert_eq!(
        list(&response.movements),
        [
            movement(Mine, "Lead", "Customer"),
            movement(Partner, "", "Customer"),
            movement(Partner, "", "Prospect"),
            movement(Partner, "Prospect", "Customer"),
        ]
    );
    assert_eq!(response.months.len(), 2);
    assert_eq!(
        list(&response.months[1].movements),
        [
            movement(Mine, "Lead", "Customer"),
            movement(Partner, "", "Customer")
        ]
    );
    assert_eq!(response.partner_timeline(), DisclosureState::Shared);
}

#[tokio::test]
async fn p29_conversion_of_referred_prospects_is_unset_without_referrals() {
    use LifecycleEventType::StageChanged;
    let (a, _b) = partners(false, false).await;
    let conversion = || async {
        let request = GetReferralConversionRequest {
            partner: "Globex".to_owned(),
            ..Default::default()
        };
        let response = timelines(&a)
            .await
            .get_referral_conversion(request)
            .await
            .unwrap();
        let response = response.into_inner();
        (response.referred, response.converted, response.conversion)
    };
    assert_eq!(conversion().await, (0, 0, None));
    let referral = |customer: &str, partner: &str, at: &str| {
        Content::Referral(ReferralRecord {
            partner: partner.to_owned(),
            customer: customer.to_owned(),
            referred_at: proto_time(at),
            status: ReferralStatus::Accepted.into(),
            decided_at: None,
            deal: String::new(),
        })
    };
    ingest(&a, "r1", referral("c1", "Globex", "2026-01-10T00:00:00Z")).await;
    ingest(&a, "r2", referral("c1", "globex", "2026-02-10T00:00:00Z")).await;
    ingest(&a, "r3", referral("c2", "globex", "2026-01-10T00:00:00Z")).await;
    ingest(&a, "r4", referral("c3", "initech", "2026-01-10T00:00:00Z")).await;
    ingest(&a, "r5", referral("c4", "globex", "2024-01-10T00:00:00Z")).await;
    ingest(&a, "r6", referral("c5", "globex", "2026-02-01T00:00:00Z")).await;
    ingest(&a, "r7", referral("", "globex", "2026-02-01T00:00:00Z")).await;
    event(
        &a,
        "e1",
        "c1",
        StageChanged,
        "2026-02-01T00:00:00Z",
        "Customer",
        "",
    )
    .await;
    set(&a, |found| {
        _ = found.stages.insert("c5".to_owned(), "Lead".to_owned())
    });
    // c1, c2, c5 and one nobody knows; c1 became a customer.
    assert_eq!(conversion().await, (4, 1, Some(0.25)));
}

#[tokio::test]
async fn p30_action_segments_and_their_customers() {
    use LifecycleEventType::{AppInstalled, AppUninstalled, SubscriptionCancelled};
    // Shared: a1 Prospect x Customer, a2 Customer x Customer, a3 Lead x Customer, a4 Customer x Prospect (new).
    let (a, b) = partners(false, true).await;
    event(&a, "e1", "a1", AppUninstalled, DAY2, "", "").await;
    event(&a, "e2", "a1", AppInstalled, DAY3, "", "").await;
    event(&a, "e3", "a3", AppUninstalled, DAY3, "", "").await;
    event(&b, "f1", "b2", SubscriptionCancelled, DAY3, "", "").await;
    eventually("events arrive", || async {
        count(&a, "SELECT count(*) FROM partner_events").await == 1
    })
    .await;
    let request = GetActionSegmentsRequest {
        partner: "Globex".to_owned(),
    };
    let response = timelines(&a)
        .await
        .get_action_segments(request)
        .await
        .unwrap()
        .into_inner();
    let counts: Vec<_> = response
        .segments
        .iter()
        .map(|one| (one.segment(), one.count))
        .collect();
    use ActionSegment::{
        AtRisk, ComplementaryStages, MutualCustomers, MyProspectsTheirCustomers, NewlyShared,
        OneSolution,
    };
    assert_eq!(
        counts,
        [
            (MutualCustomers, 1),
            (MyProspectsTheirCustomers, 2),
            (ComplementaryStages, 3),
            (OneSolution, 3),
            (NewlyShared, 1),
            (AtRisk, 2),
        ]
    );
    let node = &a;
    let list = |segment: ActionSegment, page_token: String| async move {
        let request = ListActionSegmentRequest {
            partner: "Globex".to_owned(),
            segment: segment.into(),
            page_size: 1,
            page_token,
        };
        timelines(node).await.list_action_segment(request).await
    };
    let first = list(AtRisk, String::new()).await.unwrap().into_inner();
    assert_eq!(
        (first.total_size, first.customers[0].id.as_str()),
        (2, "a2")
    );
    assert_eq!(
        first.customers[0].last_event.as_ref().unwrap().side(),
        TimelineSide::Partner
    );
    let second = list(AtRisk, first.next_page_token.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            second.customers[0].id.as_str(),
            second.next_page_token.as_str()
        ),
        ("a3", "")
    );
    let refused = list(NewlyShared, first.next_page_token).await.unwrap_err();
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    assert_eq!(
        list(ActionSegment::Unspecified, String::new())
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
}
