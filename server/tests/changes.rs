//! The stream of changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attribution_support;

use std::time::Duration;

use attribution_support::{
    changes, count, delivered, ingest,
    node_support::{TestNode, eventually, reason},
    partners, policy, proto_time,
    requests::request,
    set, set_policy, token,
};
use jiff::SignedDuration;
use overlap_proto::v1::{
    self, Change, ChangeKind, LifecycleEventRecord, LifecycleEventType, Role, WatchChangesRequest,
    WatchChangesResponse, change_service_client::ChangeServiceClient,
    program_service_client::ProgramServiceClient, record::Content,
    record_service_client::RecordServiceClient,
};
use tonic::{Code, Streaming};

async fn watch(node: &TestNode, request: WatchChangesRequest) -> Streaming<WatchChangesResponse> {
    changes(node)
        .await
        .watch_changes(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(stream: &mut Streaming<WatchChangesResponse>) -> WatchChangesResponse {
    tokio::time::timeout(Duration::from_secs(20), stream.message())
        .await
        .expect("a change in time")
        .unwrap()
        .unwrap()
}

async fn next_change(stream: &mut Streaming<WatchChangesResponse>) -> (Change, String) {
    loop {
        let response = next(stream).await;
        if let Some(change) = response.change {
            return (change, response.cursor);
        }
    }
}

fn only(kinds: &[ChangeKind]) -> WatchChangesRequest {
    WatchChangesRequest {
        kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn changes_are_followed_and_resumed_from_a_cursor_across_a_restart() {
    let (a, mut b) = partners(false, false).await;
    let kinds = only(&[ChangeKind::AttributionReceived]);
    let mut stream = watch(&b, kinds.clone()).await;
    let opening = next(&mut stream).await;
    assert!(opening.change.is_none() && !opening.cursor.is_empty());
    let first = request(&a, "a1").await.id;
    let (change, cursor) = next_change(&mut stream).await;
    assert_eq!(
        (change.kind(), change.subject.as_str()),
        (ChangeKind::AttributionReceived, first.as_str())
    );
    drop(stream);
    let second = request(&a, "a2").await.id;
    delivered(&a).await;
    b.restart().await;
    let third = request(&a, "a3").await.id;
    let resume = WatchChangesRequest { cursor, ..kinds };
    let mut stream = watch(&b, resume).await;
    assert_eq!(next_change(&mut stream).await.0.subject, second);
    assert_eq!(next_change(&mut stream).await.0.subject, third);
    // From the beginning, everything of one partner.
    let all = WatchChangesRequest {
        from_oldest: true,
        partner: "Acme".to_owned(),
        ..only(&[ChangeKind::AttributionReceived, ChangeKind::AttributionSent])
    };
    let mut stream = watch(&b, all).await;
    assert_eq!(next_change(&mut stream).await.0.subject, first);
}

#[tokio::test]
async fn a_run_tells_of_customers_that_are_newly_shared() {
    let (a, _b) = partners(false, false).await;
    let kinds = only(&[
        ChangeKind::SharedCustomersFound,
        ChangeKind::ResultsReplaced,
    ]);
    let mut stream = watch(
        &a,
        WatchChangesRequest {
            from_oldest: true,
            ..kinds
        },
    )
    .await;
    let (change, _) = next_change(&mut stream).await;
    assert_eq!(
        (change.kind(), change.subject.as_str()),
        (ChangeKind::ResultsReplaced, "run1")
    );
    let (change, _) = next_change(&mut stream).await;
    assert_eq!(change.kind(), ChangeKind::SharedCustomersFound);
    assert_eq!(change.details["count"], "4");
    set(&a, |found| {
        found.run = Some("run2".to_owned());
        found.shared.push(attribution_support::shared(
            "a5",
            "aa5",
            "Lead",
            "Lead",
            "2026-03-01T00:00:00Z",
        ));
    });
    assert_eq!(next_change(&mut stream).await.0.subject, "run2");
    let (change, _) = next_change(&mut stream).await;
    assert_eq!(
        (change.subject.as_str(), change.details["count"].as_str()),
        ("run2", "1")
    );
}

#[tokio::test]
async fn p30_a_customer_at_risk_raises_an_alert_on_both_sides() {
    let (a, b) = partners(true, false).await;
    let alerts = WatchChangesRequest {
        from_oldest: true,
        ..only(&[ChangeKind::Alert])
    };
    let mut here = watch(&a, alerts.clone()).await;
    let mut there = watch(&b, alerts).await;
    let uninstalled = Content::LifecycleEvent(LifecycleEventRecord {
        customer: "a2".to_owned(),
        r#type: LifecycleEventType::AppUninstalled.into(),
        at: proto_time("2026-02-25T00:00:00Z"),
        ..Default::default()
    });
    ingest(&a, "e1", uninstalled).await;
    let (change, _) = next_change(&mut here).await;
    assert_eq!(
        (change.subject.as_str(), change.details["side"].as_str()),
        ("at_risk:a2", "MINE")
    );
    let (change, _) = next_change(&mut there).await;
    assert_eq!(
        (change.subject.as_str(), change.details["side"].as_str()),
        ("at_risk:b2", "PARTNER")
    );
    assert_eq!(change.details["event"], "APP_UNINSTALLED");
}

/// P-18, Z-06: what may no longer be known of the partner's events is not to be read from alerts either.
#[tokio::test]
async fn p18_z06_alerts_about_the_partners_events_go_with_the_events() {
    let (a, b) = partners(true, false).await;
    let alerts = async || -> Vec<String> {
        let read = |connection: &rusqlite::Connection| {
            Ok(connection
                .prepare("SELECT subject FROM changes WHERE subject LIKE 'at_risk:%' ORDER BY 1")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?)
        };
        b.node().store.read(read).await.unwrap()
    };
    for (node, customer) in [(&a, "a1"), (&a, "a2"), (&b, "b3")] {
        let uninstalled = Content::LifecycleEvent(LifecycleEventRecord {
            customer: customer.to_owned(),
            r#type: LifecycleEventType::AppUninstalled.into(),
            at: proto_time("2026-02-25T00:00:00Z"),
            ..Default::default()
        });
        ingest(node, customer, uninstalled).await;
    }
    eventually("alerts of both sides' events", || async {
        alerts().await == ["at_risk:b1", "at_risk:b2", "at_risk:b3"]
    })
    .await;
    // One of them is withdrawn: its customer left the list tier.
    set(&a, |found| _ = found.count_tier.insert("a2".to_owned()));
    a.clock.advance(SignedDuration::from_secs(60));
    eventually("its alert is gone", || async {
        alerts().await == ["at_risk:b1", "at_risk:b3"]
    })
    .await;
    // Less is disclosed, but this still is: it is told again.
    let mut less = policy(true);
    less.stages.remove("Churned");
    set_policy(&a, "Globex", less.clone()).await;
    eventually("what hung on the old terms is gone", || async {
        count(&b, "SELECT count(*) FROM changes WHERE kind = 14").await == 1
    })
    .await;
    eventually("it is there again, once", || async {
        alerts().await == ["at_risk:b1", "at_risk:b3"]
    })
    .await;
    less.timeline = false;
    set_policy(&a, "Globex", less).await;
    eventually("alerts of my own events remain", || async {
        alerts().await == ["at_risk:b3"]
    })
    .await;
}

/// K-29: the program's alerts are among the changes, each once, across restarts, looks and settings.
#[tokio::test(flavor = "multi_thread")]
async fn k29_program_alerts_are_told_once_each() {
    let (mut a, _b) = partners(false, false).await;
    // The clock shows 2026-03-01T12:00Z.
    let deal = |id: &str, moved: &str, updated: &str| v1::Record {
        id: id.to_owned(),
        updated_at: proto_time(updated),
        deleted: false,
        content: Some(Content::Deal(v1::DealRecord {
            partner: "p".to_owned(),
            amount: Some(v1::Money {
                currency_code: "EUR".to_owned(),
                units: 1,
                nanos: 0,
            }),
            origination: v1::DealOrigination::Direct.into(),
            r#type: v1::DealType::New.into(),
            outcome: v1::DealOutcome::Open.into(),
            opened_at: proto_time("2026-02-01T00:00:00Z"),
            last_activity_at: proto_time(moved),
            ..Default::default()
        })),
    };
    let certification = v1::Record {
        id: "c".to_owned(),
        updated_at: proto_time("2026-02-01T00:00:00Z"),
        deleted: false,
        content: Some(Content::Certification(v1::CertificationRecord {
            partner: "p".to_owned(),
            name: "Basics".to_owned(),
            issued_at: proto_time("2025-03-20T00:00:00Z"),
            expires_at: proto_time("2026-03-20T00:00:00Z"),
            ..Default::default()
        })),
    };
    // 28 days without movement, 9 days, 19 days to the end.
    let records = vec![
        deal("still", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z"),
        deal("slow", "2026-02-20T00:00:00Z", "2026-02-20T00:00:00Z"),
        certification,
    ];
    take_in(&a, records.clone()).await;
    let from_oldest = WatchChangesRequest {
        from_oldest: true,
        ..only(&[ChangeKind::ProgramAlert])
    };
    let mut stream = watch(&a, from_oldest.clone()).await;
    let (first, cursor) = next_change(&mut stream).await;
    assert_eq!(
        (first.subject.as_str(), first.partner.as_str()),
        ("stalled_deal:still", "")
    );
    for (key, value) in [
        ("alert", "stalled_deal"),
        ("about", "still"),
        ("partner", "p"),
        ("since", "2026-02-01T00:00:00Z"),
        ("message", "deal \"still\" has not moved for 28 days"),
    ] {
        assert_eq!(first.details[key], value);
    }
    let (second, _) = next_change(&mut stream).await;
    assert_eq!(second.subject, "expiring_certification:c");
    drop(stream);

    // Looked at again: after a restart, with the same records, with other settings, later.
    a.restart().await;
    let resume = WatchChangesRequest {
        cursor,
        ..only(&[ChangeKind::ProgramAlert])
    };
    let mut stream = watch(&a, resume).await;
    let (again, _) = next_change(&mut stream).await;
    assert_eq!(again, second);
    take_in(&a, records).await;
    let mut program = ProgramServiceClient::new(a.api().await);
    let settings = v1::UpdateProgramSettingsRequest {
        settings: Some(v1::ProgramSettings {
            certification_expiry_days: Some(40),
            stalled_deal_days: Some(5),
            ..Default::default()
        }),
        update_mask: None,
    };
    program.update_program_settings(settings).await.unwrap();
    let (third, _) = next_change(&mut stream).await;
    assert_eq!(third.subject, "stalled_deal:slow");
    // A deal that has moved and stands still again is another alert, although its id is the same.
    let moved = deal("still", "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z");
    take_in(&a, vec![moved]).await;
    a.clock.advance(SignedDuration::from_hours(9 * 24));
    let (fourth, _) = next_change(&mut stream).await;
    assert_eq!(
        (fourth.subject.as_str(), fourth.details["since"].as_str()),
        ("stalled_deal:still", "2026-02-28T00:00:00Z")
    );
    drop(stream);
    a.restart().await;
    a.clock.advance(SignedDuration::from_mins(5));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = async |node: &TestNode| {
        attribution_support::count(node, "SELECT count(*) FROM changes WHERE kind = 15").await
    };
    assert_eq!(told(&a).await, 4);
    let listed = ProgramServiceClient::new(a.api().await)
        .list_alerts(v1::ListAlertsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .alerts;
    let listed: Vec<_> = listed.iter().map(|alert| alert.id.as_str()).collect();
    assert_eq!(
        listed,
        [
            "stalled_deal:slow",
            "stalled_deal:still",
            "expiring_certification:c"
        ]
    );

    // K-27: the program's numbers are not for members.
    let member = token(&a, "member", Role::Member, "").await;
    let mut member = ChangeServiceClient::new(a.api_as(&member).await);
    let refused = member.watch_changes(from_oldest).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    request(&a, "a1").await;
    let everything = WatchChangesRequest {
        from_oldest: true,
        ..Default::default()
    };
    let mut stream = member.watch_changes(everything).await.unwrap().into_inner();
    loop {
        let (change, _) = next_change(&mut stream).await;
        assert_ne!(change.kind(), ChangeKind::ProgramAlert);
        if change.kind() == ChangeKind::AttributionSent {
            break;
        }
    }
}

async fn take_in(node: &TestNode, records: Vec<v1::Record>) {
    let request = v1::IngestRecordsRequest {
        records,
        last: true,
    };
    RecordServiceClient::new(node.api().await)
        .ingest_records(tokio_stream::once(request))
        .await
        .unwrap();
}

#[tokio::test]
async fn cursors_that_are_too_old_or_wrong_have_a_stable_reason() {
    let (a, _b) = partners(false, false).await;
    let mut stream = watch(
        &a,
        WatchChangesRequest {
            from_oldest: true,
            ..Default::default()
        },
    )
    .await;
    let cursor = next(&mut stream).await.cursor;
    request(&a, "a1").await;
    request(&a, "a2").await;
    // As if the log had been cut.
    a.node()
        .store
        .write(|tx| {
            tx.execute(
                "DELETE FROM changes WHERE sequence < (SELECT max(sequence) FROM changes)",
                [],
            )?;
            Ok(())
        })
        .await
        .unwrap();
    let watch_from = |cursor: &str| WatchChangesRequest {
        cursor: cursor.to_owned(),
        ..Default::default()
    };
    let old = changes(&a)
        .await
        .watch_changes(watch_from(&cursor))
        .await
        .unwrap_err();
    assert_eq!(
        (old.code(), reason(&old).as_str()),
        (Code::OutOfRange, "CURSOR_TOO_OLD")
    );
    let wrong = changes(&a)
        .await
        .watch_changes(watch_from("?"))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let unkind = WatchChangesRequest {
        kinds: vec![0],
        ..Default::default()
    };
    let unkind = changes(&a).await.watch_changes(unkind).await.unwrap_err();
    assert_eq!(unkind.code(), Code::InvalidArgument);
    let guest = token(&a, "guest", Role::Partner, "Globex").await;
    let mut guest = ChangeServiceClient::new(a.api_as(&guest).await);
    let refused = guest
        .watch_changes(WatchChangesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_stopping_node_ends_the_stream() {
    let (mut a, _b) = partners(false, false).await;
    let mut stream = watch(&a, WatchChangesRequest::default()).await;
    next(&mut stream).await;
    a.stop().await;
    let ended = eventually_ended(&mut stream).await;
    assert_eq!(reason(&ended), "NODE_STOPPING");
    a.resume().await;
    eventually("it serves again", || async {
        a.partnership("Globex").await.is_ok()
    })
    .await;
}

async fn eventually_ended(stream: &mut Streaming<WatchChangesResponse>) -> tonic::Status {
    loop {
        if let Err(status) = stream.message().await {
            return status;
        }
    }
}
