//! The metrics over the API. Expected values are computed by hand from the few records each test sends.
//!
//! Unless a test says otherwise, P is the first quarter of 2026 and as_of is 2026-03-31 12:00 UTC.

#[path = "records/support.rs"]
mod support;
#[path = "program/values.rs"]
mod values;

use overlap_proto::v1::{
    self, DealOutcome as Outcome, DealType, MetricDimension as Dimension, PartnerType,
    RegistrationStatus as Status, record::Content,
};
use overlap_server::auth::Role;
use support::*;
use values::*;

const NOW: &str = "2026-03-31T12:00:00Z";

/// K-01: SOURCED and open at as_of, by currency; seen from the past, what closed since was open.
#[tokio::test]
async fn k01_sourced_pipeline() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        deal("open", |deal| sourced(deal, "p1", 100)),
        deal("dollars", |deal| {
            sourced(deal, "p1", 0);
            deal.amount = money(7, "USD");
        }),
        deal("direct", |deal| deal.partner = "p1".to_owned()),
        deal("won", |deal| {
            sourced(deal, "p1", 1000);
            closed(deal, Outcome::Won, "2026-03-01");
        }),
        deal("later", |deal| {
            sourced(deal, "p1", 5000);
            deal.opened_at = day("2026-03-02");
        }),
    ])
    .await
    .expect("stored");
    let now = metric(&node, "sourced_pipeline").await;
    assert_eq!(amounts(&now), [("EUR", 5100), ("USD", 7)]);
    assert_eq!(now.as_of, Some(time(NOW)));
    assert_eq!(now.definition_version, 1);
    // K-37: data through the latest deal record.
    assert_eq!(now.data_through, day("2026-01-01"));
    let mut before = quarter().expect("set");
    before.as_of = day("2026-02-28");
    let before = metrics(&node, Some(before), &["sourced_pipeline"]).await;
    assert_eq!(amounts(&before[0]), [("EUR", 1100), ("USD", 7)]);
}

/// K-02, K-03: P is half-open; an influenced deal counts once in totals and in full for each partner.
#[tokio::test]
async fn k02_k03_revenue() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        deal("start", |deal| {
            sourced(deal, "p1", 100);
            closed(deal, Outcome::Won, "2026-01-10");
        }),
        deal("before", |deal| {
            sourced(deal, "p1", 10_000);
            closed(deal, Outcome::Won, "2025-12-31");
        }),
        deal("lost", |deal| {
            sourced(deal, "p1", 20_000);
            closed(deal, Outcome::Lost, "2026-02-01");
        }),
        deal("both", |deal| {
            influenced(deal, &["p1", "p2"]);
            deal.amount = euros(300);
            closed(deal, Outcome::Won, "2026-02-01");
        }),
        deal("sourced and influenced", |deal| {
            sourced(deal, "p1", 50);
            influenced(deal, &["p2"]);
            closed(deal, Outcome::Won, "2026-02-02");
        }),
    ])
    .await
    .expect("stored");
    let ids = [
        "sourced_closed_revenue",
        "influenced_revenue",
        "influenced_not_sourced_revenue",
        "won_revenue",
    ];
    let found = metrics(&node, quarter(), &ids).await;
    let found: Vec<_> = found.iter().map(|metric| amounts(metric)[0].1).collect();
    assert_eq!(found, [150, 350, 300, 450]);
    // The end does not belong to P, the start does.
    let found = metrics(&node, period("2025-12-31", "2026-01-10"), &ids[..1]).await;
    assert_eq!(amounts(&found[0]), [("EUR", 10_000)]);
    let found = metrics(&node, period("2026-01-10", "2026-01-11"), &ids[..1]).await;
    assert_eq!(amounts(&found[0]), [("EUR", 100)]);
    let groups = node
        .program(Role::Admin)
        .get_metric_breakdown(v1::GetMetricBreakdownRequest {
            filter: quarter(),
            metrics: vec![
                "influenced_revenue".to_owned(),
                "influenced_not_sourced_revenue".to_owned(),
            ],
            dimension: Dimension::Partner as i32,
            ..Default::default()
        })
        .await
        .expect("groups")
        .into_inner();
    assert!(groups.multi_valued);
    let found: Vec<_> = groups
        .groups
        .iter()
        .map(|group| {
            (
                group.value.as_str(),
                amounts(&group.metrics[0])[0].1,
                amounts(&group.metrics[1])[0].1,
            )
        })
        .collect();
    // p2 influenced both deals and sourced neither.
    assert_eq!(found, [("p1", 300, 300), ("p2", 350, 350)]);
}

/// K-04, K-05, K-06, K-07: four registrations in P (one pending, one rejected, two approved), one approved deal won.
#[tokio::test]
async fn k04_to_k07_registrations() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        deal("won", |deal| {
            sourced(deal, "p1", 1);
            registered(deal, "2026-01-01", Status::Approved, Some("2026-01-03"));
            // 30 days after the registration.
            closed(deal, Outcome::Won, "2026-01-31");
        }),
        deal("open", |deal| {
            sourced(deal, "p1", 1);
            registered(deal, "2026-02-01", Status::Approved, Some("2026-02-03"));
        }),
        deal("rejected", |deal| {
            sourced(deal, "p2", 1);
            registered(deal, "2026-02-01", Status::Rejected, Some("2026-02-03"));
        }),
        deal("pending", |deal| {
            sourced(deal, "p2", 1);
            registered(deal, "2026-03-01", Status::Pending, None);
        }),
        deal("approved earlier, lost", |deal| {
            sourced(deal, "p2", 1);
            registered(deal, "2025-12-30", Status::Approved, Some("2026-01-02"));
            closed(deal, Outcome::Lost, "2026-02-01");
        }),
        deal("not registered, won", |deal| {
            sourced(deal, "p2", 1);
            deal.opened_at = day("2026-01-01");
            closed(deal, Outcome::Won, "2026-01-11");
        }),
        deal("closed before it opened", |deal| {
            sourced(deal, "p2", 1);
            deal.opened_at = day("2026-02-01");
            closed(deal, Outcome::Won, "2026-01-11");
        }),
    ])
    .await
    .expect("stored");
    let submitted = metric(&node, "registrations_submitted").await;
    assert_eq!(submitted.values[0].value, Some(4.0));
    let approval = metric(&node, "registration_approval_rate").await;
    assert_eq!(ratio(&approval), (2, 4, Some(0.5)));
    assert_eq!(note(&approval, "pending"), 1);
    // Approved in P: won, open, and the one submitted before P.
    let win = metric(&node, "registration_win_rate").await;
    assert_eq!(ratio(&win), (1, 3, Some(1.0 / 3.0)));
    assert_eq!(note(&win, "pending"), 1);
    assert_eq!(
        ratio(&metric(&node, "registration_decided_win_rate").await),
        (1, 2, Some(0.5))
    );
    // (30 + 10) / 2 days; the negative one is an error.
    let cycle = metric(&node, "sales_cycle").await;
    assert_eq!(cycle.values[0].value, Some(20.0));
    assert_eq!(count(cycle.values[0].denominator.as_ref()), 2);
    assert_eq!(note(&cycle, "data_errors"), 1);
    // Zero denominators are unset, not 0.
    let empty = metrics(
        &node,
        period("2024-01-01", "2024-02-01"),
        &[
            "registration_approval_rate",
            "registration_win_rate",
            "sales_cycle",
        ],
    )
    .await;
    for metric in empty {
        assert_eq!(metric.values[0].value, None, "{}", metric.id);
    }
}

/// K-08, K-09, K-10: of five enrolled partners three were active, each in its own way; one left, one is not yet enrolled.
#[tokio::test]
async fn k08_k09_k10_partners() {
    let node = Node::start(NOW).await;
    let kind = PartnerType::Reseller;
    node.ingest(vec![
        profile("p1", kind, "2025-01-01"),
        profile("p2", kind, "2025-01-01"),
        profile("p3", kind, "2025-01-01"),
        profile("p4", kind, "2025-01-01"),
        profile("p5", kind, "2025-01-01"),
        profile_with("left", kind, "2025-01-01", |profile| {
            profile.left_at = day("2026-02-01")
        }),
        profile("later", kind, "2026-05-01"),
        deal("d1", |deal| {
            sourced(deal, "p1", 1);
            deal.opened_at = day("2025-12-01");
            registered(deal, "2026-01-01", Status::Pending, None);
        }),
        deal("d2", |deal| sourced(deal, "p2", 1)),
        deal("d3", |deal| sourced(deal, "left", 1)),
        training("t1", "p3", "2025-12-01", Some("2026-02-01")),
        training("t2", "p3", "2026-01-02", Some("2026-02-01")),
        training("t3", "p4", "2026-01-02", None),
        training("t4", "p4", "2026-01-02", Some("2026-04-15")),
        // p1 is on two days, p2 on one day twice, p3 on one day within and one before the 30 days.
        view("e1", "p1", "u1", "2026-03-02T00:00:00Z"),
        view("e2", "p1", "u1", "2026-03-31T11:00:00Z"),
        view("e3", "p2", "u2", "2026-03-10T00:00:00Z"),
        view("e4", "p2", "u2", "2026-03-10T10:00:00Z"),
        view("e5", "p3", "u3", "2026-03-01T23:59:59Z"),
        view("e6", "p3", "u3", "2026-03-10T10:00:00Z"),
    ])
    .await
    .expect("stored");
    assert_eq!(
        ratio(&metric(&node, "active_partner_rate").await),
        (3, 5, Some(0.6))
    );
    assert_eq!(
        ratio(&metric(&node, "engaged_partner_rate").await),
        (1, 5, Some(0.2))
    );
    // Assigned in P: t2, t3, t4; completed by as_of: t2.
    assert_eq!(
        ratio(&metric(&node, "training_completion").await),
        (1, 3, Some(1.0 / 3.0))
    );
}

/// K-11, K-12, K-13: renewals managed at close or influenced; expansions in managed accounts; retention of accounts.
#[tokio::test]
async fn k11_k12_k13_managed_accounts() {
    let node = Node::start(NOW).await;
    let won = |id: &str, kind: DealType, customer: &str, units: i64| {
        deal(id, |deal| {
            deal.r#type = kind as i32;
            customer.clone_into(&mut deal.customer);
            deal.amount = euros(units);
            closed(deal, Outcome::Won, "2026-02-01");
        })
    };
    let mut by_influence = won("r3", DealType::Renewal, "c9", 4);
    if let Some(Content::Deal(deal)) = &mut by_influence.content {
        influenced(deal, &["p1"]);
    }
    node.ingest(vec![
        managed("m1", "p1", "c1", "2025-01-01", None),
        // Ends at the close: no longer managed then.
        managed("m2", "p1", "c2", "2025-01-01", Some("2026-02-01")),
        // c3 changes hands and stays managed.
        managed("m3", "p1", "c3", "2025-01-01", Some("2026-02-01")),
        managed("m4", "p2", "c3", "2026-02-01", None),
        managed("m5", "p2", "c4", "2026-03-01", None),
        won("r1", DealType::Renewal, "c1", 1),
        won("r2", DealType::Renewal, "c2", 2),
        by_influence,
        won("r4", DealType::Renewal, "c3", 8),
        won("x1", DealType::Expansion, "c1", 16),
        won("x2", DealType::Expansion, "c2", 32),
        won("x3", DealType::New, "c1", 64),
    ])
    .await
    .expect("stored");
    assert_eq!(
        amounts(&metric(&node, "renewal_revenue").await),
        [("EUR", 13)]
    );
    assert_eq!(
        amounts(&metric(&node, "expansion_revenue").await),
        [("EUR", 16)]
    );
    // Managed at the start: c1, c2, c3; still: c1, c3.
    assert_eq!(
        ratio(&metric(&node, "managed_account_retention").await),
        (2, 3, Some(2.0 / 3.0))
    );
}

/// K-14, K-15: more than available is shown as it is; money is never summed across currencies.
#[tokio::test]
async fn k14_k15_incentives_and_return() {
    let node = Node::start(NOW).await;
    let incentive =
        |id: &str, kind: v1::IncentiveKind, available: i64, used: i64, currency: &str| {
            record(
                id,
                Content::Incentive(v1::IncentiveRecord {
                    partner: "p1".to_owned(),
                    kind: kind as i32,
                    available: money(available, currency),
                    used: money(used, currency),
                    period_start: day("2025-12-01"),
                    period_end: day("2026-01-02"),
                    ..Default::default()
                }),
            )
        };
    let cost = |id: &str, units: i64, currency: &str, on: &str| {
        record(
            id,
            Content::ChannelCost(v1::ChannelCostRecord {
                partner: "p1".to_owned(),
                amount: money(units, currency),
                incurred_at: day(on),
                ..Default::default()
            }),
        )
    };
    node.ingest(vec![
        incentive("i1", v1::IncentiveKind::Mdf, 100, 130, "EUR"),
        incentive("i2", v1::IncentiveKind::Rebate, 100, 20, "EUR"),
        incentive("i3", v1::IncentiveKind::Mdf, 10, 0, "USD"),
        incentive("i4", v1::IncentiveKind::Payout, 1000, 1000, "EUR"),
        cost("c1", 40, "EUR", "2026-02-01"),
        cost("c2", 1000, "EUR", "2025-12-31"),
        cost("c3", 5, "USD", "2026-02-01"),
        deal("sourced", |deal| {
            sourced(deal, "p1", 100);
            influenced(deal, &["p2"]);
            deal.gross_margin = euros(30);
            closed(deal, Outcome::Won, "2026-02-01");
        }),
        deal("direct", |deal| closed(deal, Outcome::Won, "2026-02-01")),
        deal("yen", |deal| {
            sourced(deal, "p1", 0);
            deal.amount = money(900, "JPY");
            closed(deal, Outcome::Won, "2026-02-01");
        }),
    ])
    .await
    .expect("stored");
    let value = |metric: &v1::Metric| -> Vec<(String, Option<f64>)> {
        metric
            .values
            .iter()
            .map(|value| (value.currency_code.clone(), value.value))
            .collect()
    };
    let eur = |value| ("EUR".to_owned(), value);
    let usd = |value| ("USD".to_owned(), value);
    let jpy = |value| ("JPY".to_owned(), value);
    assert_eq!(
        value(&metric(&node, "incentive_utilisation").await),
        [eur(Some(0.75)), usd(Some(0.0))]
    );
    assert_eq!(
        value(&metric(&node, "mdf_utilisation").await),
        [eur(Some(1.3)), usd(Some(0.0))]
    );
    // 100 / 40; no yen were spent, so that return is unset; no dollars were earned, so that one is 0.
    assert_eq!(
        value(&metric(&node, "channel_return").await),
        [eur(Some(2.5)), jpy(None), usd(Some(0.0))]
    );
    assert_eq!(
        value(&metric(&node, "channel_net").await),
        [eur(Some(60.0)), jpy(Some(900.0)), usd(Some(-5.0))]
    );
    let margin = metric(&node, "channel_margin_return").await;
    assert_eq!(value(&margin), [eur(Some(0.75)), usd(Some(0.0))]);
    assert_eq!(note(&margin, "data_errors"), 1);
    assert_eq!(
        value(&metric(&node, "channel_margin_net").await),
        [eur(Some(-10.0)), usd(Some(-5.0))]
    );
}

/// K-16: the scorecard's order, and its two choices. K-37: each metric says how far its data goes.
#[tokio::test]
async fn k16_scorecard() {
    let node = Node::start(NOW).await;
    node.ingest(vec![deal("d", |deal| sourced(deal, "p1", 1))])
        .await
        .expect("stored");
    let ask = async |retention: v1::RetentionMeasure, basis: v1::ReturnBasis| -> Vec<String> {
        let answer = node
            .program(Role::PartnerManager)
            .get_scorecard(v1::GetScorecardRequest {
                filter: quarter(),
                retention_measure: retention as i32,
                return_basis: basis as i32,
            })
            .await
            .expect("a scorecard")
            .into_inner();
        assert_eq!(answer.metrics[0].data_through, day("2026-01-01"));
        assert_eq!(answer.metrics[4].data_through, None);
        answer.metrics.into_iter().map(|metric| metric.id).collect()
    };
    assert_eq!(
        ask(
            v1::RetentionMeasure::Unspecified,
            v1::ReturnBasis::Unspecified
        )
        .await,
        [
            "sourced_pipeline",
            "sourced_closed_revenue",
            "registration_win_rate",
            "active_partner_rate",
            "training_completion",
            "renewal_revenue",
            "channel_return",
        ]
    );
    let other = ask(
        v1::RetentionMeasure::Expansion,
        v1::ReturnBasis::GrossMargin,
    )
    .await;
    assert_eq!(other[5..], ["expansion_revenue", "channel_margin_return"]);
}
