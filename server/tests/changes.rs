//! The stream of changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attribution_support;

use std::time::Duration;

use attribution_support::{
    attributions, changes, delivered, ingest,
    node_support::{TestNode, eventually, reason},
    partners, proto_time, set, token,
};
use overlap_proto::v1::{
    Change, ChangeKind, LifecycleEventRecord, LifecycleEventType, RequestAttributionRequest, Role,
    WatchChangesRequest, WatchChangesResponse, change_service_client::ChangeServiceClient,
    record::Content,
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

async fn request(node: &TestNode, customer: &str) -> String {
    let request = RequestAttributionRequest {
        partner: "Globex".to_owned(),
        customer: customer.to_owned(),
        details: "details".to_owned(),
        request_id: String::new(),
    };
    let response = attributions(node)
        .await
        .request_attribution(request)
        .await
        .unwrap();
    response.into_inner().attribution.unwrap().id
}

#[tokio::test]
async fn changes_are_followed_and_resumed_from_a_cursor_across_a_restart() {
    let (a, mut b) = partners(false, false).await;
    let kinds = only(&[ChangeKind::AttributionReceived]);
    let mut stream = watch(&b, kinds.clone()).await;
    let opening = next(&mut stream).await;
    assert!(opening.change.is_none() && !opening.cursor.is_empty());
    let first = request(&a, "a1").await;
    let (change, cursor) = next_change(&mut stream).await;
    assert_eq!(
        (change.kind(), change.subject.as_str()),
        (ChangeKind::AttributionReceived, first.as_str())
    );
    drop(stream);
    let second = request(&a, "a2").await;
    delivered(&a).await;
    b.restart().await;
    let third = request(&a, "a3").await;
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
