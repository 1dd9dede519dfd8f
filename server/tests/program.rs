//! Program numbers over the API. Expected values are computed by hand from the few records each test sends.
//!
//! Unless a test says otherwise, P is the first quarter of 2026 and as_of is 2026-03-31 12:00 UTC.

#[path = "records/support.rs"]
mod support;

use overlap_proto::v1::{
    self, DealOrigination as Origination, DealOutcome as Outcome, DealType,
    MetricDimension as Dimension, PartnerType, RegistrationStatus as Status,
    metric_quantity::Quantity, record::Content,
};
use overlap_server::auth::Role;
use support::*;
use tonic::Code;

const NOW: &str = "2026-03-31T12:00:00Z";

fn quarter() -> Option<v1::ProgramFilter> {
    period("2026-01-01", "2026-04-01")
}

async fn metrics(node: &Node, filter: Option<v1::ProgramFilter>, ids: &[&str]) -> Vec<v1::Metric> {
    node.program(Role::PartnerManager)
        .get_metrics(v1::GetMetricsRequest {
            filter,
            metrics: ids.iter().map(|&id| id.to_owned()).collect(),
        })
        .await
        .expect("metrics")
        .into_inner()
        .metrics
}

async fn metric(node: &Node, id: &str) -> v1::Metric {
    metrics(node, quarter(), &[id]).await.remove(0)
}

/// Whole units by currency.
fn amounts(metric: &v1::Metric) -> Vec<(&str, i64)> {
    metric
        .values
        .iter()
        .map(|value| {
            let Some(Quantity::Money(money)) = value
                .numerator
                .as_ref()
                .and_then(|one| one.quantity.as_ref())
            else {
                panic!("not money: {value:?}");
            };
            assert_eq!(money.currency_code, value.currency_code);
            (value.currency_code.as_str(), money.units)
        })
        .collect()
}

fn count(quantity: Option<&v1::MetricQuantity>) -> i64 {
    match quantity.and_then(|one| one.quantity.as_ref()) {
        Some(Quantity::Count(count)) => *count,
        other => panic!("not a count: {other:?}"),
    }
}

/// Numerator, denominator, value.
fn ratio(metric: &v1::Metric) -> (i64, i64, Option<f64>) {
    let [value] = metric.values.as_slice() else {
        panic!("not one value: {metric:?}");
    };
    (
        count(value.numerator.as_ref()),
        count(value.denominator.as_ref()),
        value.value,
    )
}

fn note(metric: &v1::Metric, name: &str) -> i64 {
    metric
        .notes
        .iter()
        .find(|note| note.name == name)
        .map_or(0, |note| note.count)
}

fn sourced(deal: &mut v1::DealRecord, partner: &str, units: i64) {
    deal.origination = Origination::Sourced as i32;
    partner.clone_into(&mut deal.partner);
    deal.amount = euros(units);
}

fn closed(deal: &mut v1::DealRecord, outcome: Outcome, on: &str) {
    deal.outcome = outcome as i32;
    deal.closed_at = day(on);
}

fn registered(deal: &mut v1::DealRecord, on: &str, status: Status, decided: Option<&str>) {
    deal.registration = Some(v1::DealRegistration {
        submitted_at: day(on),
        decided_at: decided.and_then(day),
        status: status as i32,
    });
}

fn influenced(deal: &mut v1::DealRecord, partners: &[&str]) {
    deal.influencing_partners = partners.iter().map(|&partner| partner.to_owned()).collect();
}

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

fn training(id: &str, partner: &str, assigned: &str, completed: Option<&str>) -> v1::Record {
    record(
        id,
        Content::Training(v1::TrainingRecord {
            partner: partner.to_owned(),
            course: "Basics".to_owned(),
            assigned_at: day(assigned),
            completed_at: completed.and_then(day),
            ..Default::default()
        }),
    )
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

fn managed(id: &str, partner: &str, customer: &str, from: &str, to: Option<&str>) -> v1::Record {
    record(
        id,
        Content::ManagedAccount(v1::ManagedAccountRecord {
            partner: partner.to_owned(),
            customer: customer.to_owned(),
            from: day(from),
            to: to.and_then(day),
        }),
    )
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

/// K-17, K-18, K-20, K-22, I-09, I-10, I-11: by partner, account, region, product, stage, industry; missing is UNKNOWN.
#[tokio::test]
async fn k17_to_k22_breakdowns() {
    let node = Node::start(NOW).await;
    let one = |id: &str, partner: &str, units: i64, industry: &str, stage: &str| {
        deal(id, |deal| {
            sourced(deal, partner, units);
            industry.clone_into(&mut deal.industry);
            stage.clone_into(&mut deal.stage);
        })
    };
    node.ingest(vec![
        profile_with("p1", PartnerType::Referral, "2025-01-01", |profile| {
            profile.verticals = vec!["Health".to_owned(), "Retail".to_owned()];
            profile.lifecycle_stage = "producing".to_owned();
        }),
        one("d1", "p1", 1, "Energy", "Qualified"),
        one("d2", "p1", 2, "", "Proposal"),
        one("d3", "p2", 4, "Energy", "Qualified"),
    ])
    .await
    .expect("stored");
    let ask = async |metric: &str, dimension: Dimension| {
        let answer = node
            .program(Role::Admin)
            .get_metric_breakdown(v1::GetMetricBreakdownRequest {
                filter: quarter(),
                metrics: vec![metric.to_owned()],
                dimension: dimension as i32,
                ..Default::default()
            })
            .await
            .expect("groups")
            .into_inner();
        let groups: Vec<(String, f64)> = answer
            .groups
            .into_iter()
            .map(|group| {
                let value = group.metrics[0].values[0].value.expect("set");
                (group.value, value)
            })
            .collect();
        (groups, answer.multi_valued)
    };
    let named = |groups: &[(&str, f64)]| -> Vec<(String, f64)> {
        groups
            .iter()
            .map(|(value, number)| ((*value).to_owned(), *number))
            .collect()
    };
    for (metric, dimension, groups, multi_valued) in [
        (
            "sourced_pipeline",
            Dimension::Partner,
            named(&[("p1", 3.0), ("p2", 4.0)]),
            false,
        ),
        (
            "sourced_opportunities",
            Dimension::Partner,
            named(&[("p1", 2.0), ("p2", 1.0)]),
            false,
        ),
        (
            "open_pipeline",
            Dimension::Industry,
            named(&[("Energy", 5.0), ("UNKNOWN", 2.0)]),
            false,
        ),
        (
            "open_pipeline",
            Dimension::DealStage,
            named(&[("Proposal", 2.0), ("Qualified", 5.0)]),
            false,
        ),
        (
            "sourced_pipeline",
            Dimension::PartnerStage,
            named(&[("UNKNOWN", 4.0), ("producing", 3.0)]),
            false,
        ),
        (
            "sourced_pipeline",
            Dimension::Vertical,
            named(&[("Health", 3.0), ("Retail", 3.0), ("UNKNOWN", 4.0)]),
            true,
        ),
        (
            "sourced_pipeline",
            Dimension::Type,
            named(&[("REFERRAL", 3.0), ("UNKNOWN", 4.0)]),
            false,
        ),
    ] {
        assert_eq!(
            ask(metric, dimension).await,
            (groups, multi_valued),
            "{metric} {dimension:?}"
        );
    }
    // A metric about partners takes no dimension of deals.
    let refused = node
        .program(Role::Admin)
        .get_metric_breakdown(v1::GetMetricBreakdownRequest {
            metrics: vec!["active_partner_rate".to_owned()],
            dimension: Dimension::Industry as i32,
            ..Default::default()
        })
        .await
        .expect_err("refused");
    assert_eq!(violations(&refused)[0].0, "dimension");
}

/// K-19: three deals entered Lead in P, two went on (one skipping a stage), one of the two that entered Proposal was won.
#[tokio::test]
async fn k19_stage_conversion() {
    let node = Node::start(NOW).await;
    let path = |id: &str, changes: &[(&str, &str)]| {
        deal(id, |deal| {
            deal.stage_changes = changes
                .iter()
                .map(|(stage, on)| v1::DealStageChange {
                    stage: (*stage).to_owned(),
                    at: day(on),
                })
                .collect();
        })
    };
    node.ingest(vec![
        path(
            "d1",
            &[
                ("Lead", "2026-01-01"),
                ("Proposal", "2026-01-05"),
                ("Signed", "2026-01-09"),
            ],
        ),
        path("d2", &[("Lead", "2026-01-01"), ("Signed", "2026-01-09")]),
        path("d3", &[("Lead", "2026-01-01")]),
        path("d4", &[("Lead", "2025-01-01"), ("Proposal", "2026-01-05")]),
    ])
    .await
    .expect("stored");
    let found = node
        .program(Role::Admin)
        .get_stage_conversion(v1::GetStageConversionRequest {
            filter: quarter(),
            stages: Vec::new(),
        })
        .await
        .expect("conversions")
        .into_inner()
        .conversions;
    let found: Vec<_> = found
        .iter()
        .map(|one| {
            let (part, whole, _) = ratio(one.conversion.as_ref().expect("set"));
            (one.from_stage.as_str(), one.to_stage.as_str(), part, whole)
        })
        .collect();
    assert_eq!(
        found,
        [("Lead", "Proposal", 2, 3), ("Proposal", "Signed", 1, 2)]
    );
}

fn target(
    id: &str,
    partner: &str,
    metric: &str,
    goal: v1::target_record::Goal,
    end: &str,
) -> v1::Record {
    record(
        id,
        Content::Target(v1::TargetRecord {
            metric: metric.to_owned(),
            partner: partner.to_owned(),
            period_start: day("2026-01-01"),
            period_end: day(end),
            goal: Some(goal),
        }),
    )
}

/// K-21: won 100 + 200 x 50% + 300 x 10% (by stage) = 230 against 460; a deal without a probability is counted.
#[tokio::test]
async fn k21_forecast() {
    use v1::target_record::Goal;
    let node = Node::start(NOW).await;
    node.program(Role::PartnerAdmin)
        .update_program_settings(v1::UpdateProgramSettingsRequest {
            settings: Some(v1::ProgramSettings {
                stage_probabilities: vec![v1::StageProbability {
                    stage: "Early".to_owned(),
                    probability_bp: 1000,
                }],
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["stage_probabilities".to_owned()],
            }),
        })
        .await
        .expect("updated");
    node.ingest(vec![
        deal("won", |deal| {
            sourced(deal, "p1", 100);
            closed(deal, Outcome::Won, "2026-02-01");
        }),
        deal("own", |deal| {
            sourced(deal, "p1", 200);
            deal.probability_bp = Some(5000);
        }),
        deal("by stage", |deal| {
            sourced(deal, "p1", 300);
            deal.stage = "Early".to_owned();
        }),
        deal("unknown", |deal| sourced(deal, "p1", 1000)),
        target(
            "t",
            "",
            "sourced_closed_revenue",
            Goal::Money(euros(460).expect("set")),
            "2026-04-01",
        ),
    ])
    .await
    .expect("stored");
    let answer = node
        .program(Role::PartnerManager)
        .get_forecast(v1::GetForecastRequest { filter: quarter() })
        .await
        .expect("a forecast")
        .into_inner();
    let forecast = &answer.forecasts[0];
    let units = |money: &Option<v1::Money>| money.as_ref().map(|money| money.units);
    assert_eq!(units(&forecast.won), Some(100));
    assert_eq!(units(&forecast.weighted_open), Some(130));
    assert_eq!(units(&forecast.forecast), Some(230));
    assert_eq!(units(&forecast.target), Some(460));
    assert_eq!(forecast.attainment, Some(0.5));
    assert_eq!(answer.deals_without_probability, 1);
}

/// K-36: targets of money, counts and ratios; cohorts by tier.
#[tokio::test]
async fn k36_targets_and_cohorts() {
    use v1::target_record::Goal;
    let node = Node::start(NOW).await;
    let tier = |id: &str, tier: &str| {
        profile_with(id, PartnerType::Reseller, "2025-01-01", |profile| {
            tier.clone_into(&mut profile.tier);
        })
    };
    node.ingest(vec![
        tier("p1", "gold"),
        tier("p2", "silver"),
        deal("d1", |deal| {
            sourced(deal, "p1", 100);
            closed(deal, Outcome::Won, "2026-02-01");
        }),
        deal("d2", |deal| {
            sourced(deal, "p2", 20);
            closed(deal, Outcome::Won, "2026-02-01");
        }),
        training("t1", "p1", "2026-01-02", Some("2026-01-03")),
        training("t2", "p2", "2026-01-02", None),
        target(
            "a",
            "",
            "sourced_closed_revenue",
            Goal::Money(euros(240).expect("set")),
            "2026-04-01",
        ),
        target(
            "b",
            "p2",
            "sourced_closed_revenue",
            Goal::Money(euros(10).expect("set")),
            "2026-04-01",
        ),
        target(
            "c",
            "",
            "training_completion",
            Goal::Number(8000),
            "2026-03-01",
        ),
        target("d", "p1", "won_deals", Goal::Number(4), "2026-03-01"),
    ])
    .await
    .expect("stored");
    let answer = node
        .program(Role::Admin)
        .compare_metrics(v1::CompareMetricsRequest {
            filter: quarter(),
            metrics: vec![],
            cohort_dimension: Dimension::Tier as i32,
        })
        .await
        .expect("a comparison")
        .into_inner();
    let found: Vec<_> = answer
        .targets
        .iter()
        .map(|one| (one.target.as_str(), one.attainment))
        .collect();
    // 120/240, 20/10, 0.5/0.8, 1/4.
    assert_eq!(
        found,
        [
            ("a", Some(0.5)),
            ("b", Some(2.0)),
            ("c", Some(0.625)),
            ("d", Some(0.25))
        ]
    );
    let tiers: Vec<_> = answer
        .cohorts
        .iter()
        .map(|group| group.value.as_str())
        .collect();
    assert_eq!(tiers, ["gold", "silver"]);
    // K-29: those whose time is over and that were missed.
    let alerts = node
        .program(Role::Admin)
        .list_alerts(v1::ListAlertsRequest {
            filter: quarter(),
            kinds: vec![v1::AlertKind::MissedTarget as i32],
            ..Default::default()
        })
        .await
        .expect("alerts")
        .into_inner()
        .alerts;
    let ids: Vec<_> = alerts.iter().map(|alert| alert.id.as_str()).collect();
    assert_eq!(ids, ["missed_target:c", "missed_target:d"]);
}

/// K-29: 21 days and 30 days exactly; a swing is over 50%, a drop over 20 points; the limits are settings.
#[tokio::test]
async fn k29_alerts() {
    let node = Node::start("2026-03-31T00:00:00Z").await;
    let certification = |id: &str, expires: &str| {
        record(
            id,
            Content::Certification(v1::CertificationRecord {
                partner: "p1".to_owned(),
                name: "Expert".to_owned(),
                issued_at: day("2025-01-01"),
                expires_at: day(expires),
                ..Default::default()
            }),
        )
    };
    let moved = |id: &str, on: &str| {
        deal(id, |deal| {
            sourced(deal, "p1", 1);
            deal.opened_at = day("2025-01-01");
            deal.last_activity_at = day(on);
        })
    };
    let mut records = vec![
        moved("still 21 days", "2026-03-10"),
        moved("still 20 days", "2026-03-11"),
        certification("in 30 days", "2026-04-30"),
        certification("in 31 days", "2026-05-01"),
        certification("over", "2026-03-30"),
    ];
    // Registrations in region N: 2 of 2 approved in February, 3 of 4 in March: 25 points less, and 100% more.
    for (id, on, status) in [
        ("f1", "2026-02-10", Status::Approved),
        ("f2", "2026-02-11", Status::Approved),
        ("m1", "2026-03-12", Status::Approved),
        ("m2", "2026-03-12", Status::Approved),
        ("m3", "2026-03-12", Status::Approved),
        ("m4", "2026-03-12", Status::Rejected),
    ] {
        records.push(deal(id, |deal| {
            deal.partner = "p1".to_owned();
            deal.region = "N".to_owned();
            deal.last_activity_at = day("2026-03-30");
            registered(deal, on, status, Some("2026-03-20"));
        }));
    }
    node.ingest(records).await.expect("stored");
    let ask = async || -> Vec<String> {
        node.program(Role::Admin)
            .list_alerts(v1::ListAlertsRequest {
                filter: period("2026-03-03", "2026-03-31"),
                ..Default::default()
            })
            .await
            .expect("alerts")
            .into_inner()
            .alerts
            .into_iter()
            .map(|alert| alert.id)
            .collect()
    };
    assert_eq!(
        ask().await,
        [
            "stalled_deal:still 21 days",
            "expiring_certification:in 30 days",
            "swing:registrations_submitted",
            "approval_rate_drop:N",
        ]
    );
    node.program(Role::Admin)
        .update_program_settings(v1::UpdateProgramSettingsRequest {
            settings: Some(v1::ProgramSettings {
                stalled_deal_days: Some(20),
                certification_expiry_days: Some(29),
                swing_percent: Some(100),
                approval_drop_points: Some(25),
                ..Default::default()
            }),
            update_mask: None,
        })
        .await
        .expect("updated");
    assert_eq!(
        ask().await,
        ["stalled_deal:still 20 days", "stalled_deal:still 21 days"]
    );
}

/// K-27, K-33: a partner's user sees its own company as if there were no other.
#[tokio::test]
async fn k27_k33_a_partner_sees_itself_alone() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        profile("p1", PartnerType::Reseller, "2025-01-01"),
        profile("p2", PartnerType::Reseller, "2025-01-01"),
        deal("d1", |deal| {
            sourced(deal, "p1", 1);
            influenced(deal, &["p1", "p2"]);
            deal.gross_margin = euros(1);
        }),
        deal("d2", |deal| sourced(deal, "p2", 2)),
        training("t2", "p2", "2026-01-02", None),
    ])
    .await
    .expect("stored");
    let own = |id: &str| v1::GetMetricsRequest {
        filter: quarter(),
        metrics: vec![id.to_owned()],
    };
    let found = node
        .program_of("p1")
        .get_metrics(own("sourced_pipeline"))
        .await
        .expect("metrics")
        .into_inner();
    assert_eq!(amounts(&found.metrics[0]), [("EUR", 1)]);
    let groups = node
        .program_of("p1")
        .get_metric_breakdown(v1::GetMetricBreakdownRequest {
            dimension: Dimension::Partner as i32,
            metrics: vec!["influenced_revenue".to_owned()],
            ..Default::default()
        })
        .await
        .expect("groups")
        .into_inner()
        .groups;
    assert_eq!(
        groups
            .iter()
            .map(|group| group.value.as_str())
            .collect::<Vec<_>>(),
        ["p1"]
    );
    // Another partner is as absent as one that does not exist.
    let mut messages = Vec::new();
    for partner in ["p2", "p9"] {
        let mut filter = quarter().expect("set");
        filter.partners = vec![partner.to_owned()];
        let refused = node
            .program_of("p1")
            .get_scorecard(v1::GetScorecardRequest {
                filter: Some(filter),
                ..Default::default()
            })
            .await
            .expect_err("refused");
        assert_eq!(refused.code(), Code::NotFound);
        messages.push(refused.message().replace(partner, "?"));
    }
    assert_eq!(messages[0], messages[1]);
    let overview = node
        .program_of("p1")
        .get_partner_overview(v1::GetPartnerOverviewRequest {
            partner: "p2".to_owned(),
            filter: quarter(),
        })
        .await
        .expect("its own")
        .into_inner();
    assert_eq!(overview.partner, "p1");
    assert_eq!(overview.deals.len(), 1);
    assert!(overview.trainings.is_empty());
    let Some(Content::Deal(deal)) = &overview.deals[0].content else {
        panic!("not a deal");
    };
    assert_eq!(deal.influencing_partners, ["p1"]);
    assert_eq!(deal.gross_margin, None);
    // Staff asks for anyone.
    let overview = node
        .program(Role::PartnerManager)
        .get_partner_overview(v1::GetPartnerOverviewRequest {
            partner: "p2".to_owned(),
            filter: quarter(),
        })
        .await
        .expect("theirs")
        .into_inner();
    assert_eq!(
        (overview.partner.as_str(), overview.trainings.len()),
        ("p2", 1)
    );
}

/// K-27: which role may call what.
#[tokio::test]
async fn k27_roles() {
    let node = Node::start(NOW).await;
    node.ingest(vec![profile("p1", PartnerType::Reseller, "2025-01-01")])
        .await
        .expect("stored");
    for role in Role::ALL {
        let mut client = node.program(role);
        let reads = role != Role::Member;
        let administers = matches!(role, Role::Admin | Role::PartnerAdmin);
        let manages = administers || role == Role::PartnerManager;
        macro_rules! calls {
            ($($call:ident $request:ident $may:ident,)*) => {$(
                let answer = client.$call(v1::$request::default()).await;
                let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
                assert_eq!(code == Code::PermissionDenied, !$may, "{role:?} {} {code:?}", stringify!($call));
            )*};
        }
        calls! {
            list_metric_definitions ListMetricDefinitionsRequest reads,
            get_scorecard GetScorecardRequest reads,
            get_metrics GetMetricsRequest reads,
            get_metric_breakdown GetMetricBreakdownRequest reads,
            get_metric_series GetMetricSeriesRequest reads,
            get_stage_conversion GetStageConversionRequest reads,
            get_forecast GetForecastRequest reads,
            compare_metrics CompareMetricsRequest reads,
            get_enablement GetEnablementRequest reads,
            list_alerts ListAlertsRequest reads,
            get_executive_view GetExecutiveViewRequest reads,
            get_partner_overview GetPartnerOverviewRequest reads,
            get_ecosystem_signals GetEcosystemSignalsRequest reads,
            export_metrics ExportMetricsRequest reads,
            export_daily_feed ExportDailyFeedRequest reads,
            get_program_settings GetProgramSettingsRequest manages,
            update_program_settings UpdateProgramSettingsRequest administers,
            get_dashboard_adoption GetDashboardAdoptionRequest administers,
        }
    }
}
