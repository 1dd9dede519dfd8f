//! Attribution and timelines of customers that a real run has matched: nothing is set by the test but the two customer files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attribution_support;

use attribution_support::{
    attributions, changes, count, ingest,
    node_support::{Authorized, TestNode, eventually, pair, reason},
    outbox, policy, proto_time,
    requests::{approve, deny, get, received, request, try_request},
    set_policy, sharing_state, timelines,
};
use overlap_proto::v1::{
    ActionSegment, AttributionState, ChangeKind, Customer, DeleteCustomersRequest, DisclosureState,
    GetActionSegmentsRequest, GetTimelineRequest, LifecycleEventRecord, LifecycleEventType,
    RunState, SharingPolicy, SharingState, StartRunRequest, Tier, TimelineSide,
    UpsertCustomersRequest, WatchChangesRequest, WatchRunRequest,
    customer_service_client::CustomerServiceClient, match_service_client::MatchServiceClient,
    record::Content,
};
use tonic::Code;

/// Stores customers: one a line, as id, stage, name, e-mail.
async fn import(node: &TestNode, lines: &str) {
    let customers = lines
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            Customer {
                id: fields[0].to_owned(),
                stage: fields[1].to_owned(),
                name: fields[2].to_owned(),
                emails: vec![fields[3].to_owned()],
                ..Customer::default()
            }
        })
        .collect();
    let message = UpsertCustomersRequest {
        customers,
        last: true,
        ..UpsertCustomersRequest::default()
    };
    CustomerServiceClient::<Authorized>::new(node.api().await)
        .upsert_customers(futures::stream::iter([message]))
        .await
        .unwrap();
}

async fn run(node: &TestNode, partner: &str) {
    let mut client = MatchServiceClient::<Authorized>::new(node.api().await);
    let request = StartRunRequest {
        partner: partner.to_owned(),
        ..Default::default()
    };
    let run = client
        .start_run(request)
        .await
        .unwrap()
        .into_inner()
        .run
        .unwrap();
    let mut watch = client
        .watch_run(WatchRunRequest { run: run.id })
        .await
        .unwrap()
        .into_inner();
    let mut last = None;
    while let Some(message) = watch.message().await.unwrap() {
        last = message.run;
    }
    let last = last.unwrap();
    assert_eq!(last.state(), RunState::Done, "{last:?}");
}

/// Permissions with these of Acme's in force.
async fn share(a: &TestNode, b: &TestNode, acmes: SharingPolicy) {
    set_policy(a, "Globex", acmes).await;
    eventually("the proposal arrives", || async {
        sharing_state(b, "Acme").await == SharingState::AwaitingMyDecision
    })
    .await;
    set_policy(b, "Acme", policy(false)).await;
    eventually("sharing is active", || async {
        sharing_state(a, "Globex").await == SharingState::Active
            && sharing_state(b, "Acme").await == SharingState::Active
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p19_p17_z01_from_two_customer_files_to_a_decision() {
    let (a, mut b) = pair().await;
    import(
        &a,
        "a1,Prospect,Umbrella,ceo@umbrella.example\n\
         a2,Customer,Hooli,info@hooli.example\n\
         a3,Lead,Stark,tony@stark.example\n\
         a4,Customer,Only Ours,x@only-ours.example\n",
    )
    .await;
    import(
        &b,
        "b1,Customer,Umbrella Corp,CEO@umbrella.example\n\
         b2,Customer,Hooli XYZ,info@hooli.example\n\
         b3,Customer,Stark Industries,tony@stark.example\n",
    )
    .await;
    // Leads are counted, never named.
    let mut mine = policy(true);
    mine.stages.insert("Lead".to_owned(), Tier::Count.into());
    share(&a, &b, mine).await;
    let event = |at: &str, label: &str| {
        Content::LifecycleEvent(LifecycleEventRecord {
            customer: "a1".to_owned(),
            r#type: LifecycleEventType::Milestone.into(),
            at: proto_time(at),
            label: label.to_owned(),
            partner: String::new(),
        })
    };
    ingest(&a, "e1", event("2026-02-01T00:00:00Z", "Pilot")).await;
    run(&a, "Globex").await;

    // Who is not shared, and who may not be named.
    assert_eq!(
        try_request(
            &mut attributions(&a).await,
            "a4",
            "We made the introduction"
        )
        .await
        .unwrap_err()
        .code(),
        Code::NotFound
    );
    let counted = try_request(
        &mut attributions(&a).await,
        "a3",
        "We made the introduction",
    )
    .await
    .unwrap_err();
    assert_eq!(
        (counted.code(), reason(&counted).as_str()),
        (Code::FailedPrecondition, "OWN_TIER_COUNTS_ONLY")
    );

    eventually("the event arrives", || async {
        count(
            &b,
            "SELECT count(*) FROM partner_events WHERE customer = 'b1'",
        )
        .await
            == 1
    })
    .await;
    b.stop().await;
    let asked = try_request(
        &mut attributions(&a).await,
        "a1",
        "We made the introduction",
    )
    .await
    .unwrap();
    let wire = outbox(&a).await;
    for identifier in ["umbrella", "Umbrella", "\"a1\"", "ceo"] {
        assert!(!wire.contains(identifier), "{identifier} in {wire}");
    }
    assert!(wire.contains(&asked.r#ref) && asked.r#ref.len() == 32);
    b.resume().await;
    eventually("the request arrives", || async {
        received(&b).await.len() == 1
    })
    .await;
    let there = received(&b).await.remove(0);
    assert_eq!(
        (there.customer.as_str(), &there.r#ref),
        ("b1", &asked.r#ref)
    );
    let approve = overlap_proto::v1::ApproveAttributionRequest {
        partner: "Acme".to_owned(),
        id: there.id,
        ..Default::default()
    };
    let approved = attributions(&b)
        .await
        .approve_attribution(approve)
        .await
        .unwrap();
    assert_eq!(
        approved.into_inner().attribution.unwrap().state(),
        AttributionState::Approved
    );

    let timeline = GetTimelineRequest {
        partner: "Acme".to_owned(),
        customer: "b1".to_owned(),
    };
    let timeline = timelines(&b)
        .await
        .get_timeline(timeline)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(timeline.partner_timeline(), DisclosureState::Shared);
    assert_eq!(timeline.events.len(), 1);
    assert_eq!(
        (timeline.events[0].side(), timeline.events[0].label.as_str()),
        (TimelineSide::Partner, "Pilot")
    );

    let segments = GetActionSegmentsRequest {
        partner: "Globex".to_owned(),
    };
    let segments = timelines(&a)
        .await
        .get_action_segments(segments)
        .await
        .unwrap()
        .into_inner();
    let counts: Vec<_> = segments
        .segments
        .iter()
        .map(|one| (one.segment(), one.count))
        .collect();
    assert_eq!(counts[0], (ActionSegment::MutualCustomers, 1));
    assert_eq!(counts[1], (ActionSegment::MyProspectsTheirCustomers, 2));
    assert_eq!(counts[4], (ActionSegment::NewlyShared, 3));

    let watch = WatchChangesRequest {
        from_oldest: true,
        kinds: vec![ChangeKind::SharedCustomersFound.into()],
        ..Default::default()
    };
    let mut watch = changes(&a)
        .await
        .watch_changes(watch)
        .await
        .unwrap()
        .into_inner();
    let found = loop {
        if let Some(change) = watch.message().await.unwrap().unwrap().change {
            break change;
        }
    };
    assert_eq!(found.details["count"], "3");

    // A customer that moves to a stage that is not in the list tier may not be named any more, though the last run could.
    import(&a, "a2,Lead,Hooli,info@hooli.example\n").await;
    let moved = try_request(
        &mut attributions(&a).await,
        "a2",
        "We made the introduction",
    )
    .await
    .unwrap_err();
    assert_eq!(reason(&moved), "OWN_TIER_COUNTS_ONLY");
}

/// The row that a request named on its arrival may go while the customer stays shared by another one.
#[tokio::test(flavor = "multi_thread")]
async fn p19_a_request_is_decided_after_its_row_of_the_customer_has_gone() {
    let (a, b) = pair().await;
    import(
        &a,
        "a1,Prospect,Umbrella,ceo@umbrella.example\na2,Prospect,Hooli,info@hooli.example\n",
    )
    .await;
    import(
        &b,
        "c1,Customer,Umbrella,ceo@umbrella.example\nc2,Customer,Umbrella 2,ceo@umbrella.example\n\
         d1,Customer,Hooli,info@hooli.example\nd2,Customer,Hooli 2,info@hooli.example\n",
    )
    .await;
    share(&a, &b, policy(false)).await;
    run(&a, "Globex").await;
    let (first, second) = (request(&a, "a1").await, request(&a, "a2").await);
    eventually("the requests arrive with their customers", || async {
        let mut there: Vec<String> = received(&b)
            .await
            .into_iter()
            .map(|request| request.customer)
            .collect();
        there.sort();
        there == ["c1", "d1"]
    })
    .await;

    let gone = DeleteCustomersRequest {
        ids: vec!["c1".to_owned(), "d1".to_owned()],
        last: true,
    };
    CustomerServiceClient::<Authorized>::new(b.api().await)
        .delete_customers(futures::stream::iter([gone]))
        .await
        .unwrap();
    run(&a, "Globex").await;
    eventually("the other rows name the customers", || async {
        get(&b, "Acme", &first.id).await.unwrap().customer == "c2"
            && get(&b, "Acme", &second.id).await.unwrap().customer == "d2"
    })
    .await;
    eventually("that is stored", || async {
        let stored = "SELECT count(*) FROM attributions WHERE customer IN ('c2', 'd2')";
        count(&b, stored).await == 2
    })
    .await;
    let approved = approve(&b, &first.id, "").await.unwrap();
    assert_eq!(
        (approved.state(), approved.customer.as_str()),
        (AttributionState::Approved, "c2")
    );
    let denied = deny(&b, &second.id, "").await.unwrap();
    assert_eq!(
        (denied.state(), denied.customer.as_str()),
        (AttributionState::Denied, "d2")
    );
}
