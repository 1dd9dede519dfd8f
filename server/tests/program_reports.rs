//! Reports, exports and use of the dashboard. Expected values are computed by hand.

#[path = "records/support.rs"]
mod support;

use overlap_proto::v1::{
    self, DealOrigination as Origination, DealOutcome as Outcome, MetricDimension as Dimension,
    PartnerType, record::Content,
};
use overlap_server::auth::Role;
use support::*;

const NOW: &str = "2026-03-31T12:00:00Z";

fn quarter() -> Option<v1::ProgramFilter> {
    period("2026-01-01", "2026-04-01")
}

fn won(id: &str, partner: &str, units: i64, on: &str) -> v1::Record {
    deal(id, |deal| {
        deal.origination = Origination::Sourced as i32;
        partner.clone_into(&mut deal.partner);
        deal.amount = euros(units);
        deal.opened_at = day("2025-06-01");
        deal.outcome = Outcome::Won as i32;
        deal.closed_at = day(on);
    })
}

fn value(metric: &v1::Metric) -> Option<f64> {
    metric.values.first().and_then(|value| value.value)
}

fn certification(id: &str, partner: &str, expires: Option<&str>) -> v1::Record {
    record(
        id,
        Content::Certification(v1::CertificationRecord {
            partner: partner.to_owned(),
            name: "Expert".to_owned(),
            issued_at: day("2025-01-01"),
            expires_at: expires.and_then(day),
            ..Default::default()
        }),
    )
}

fn incentive(
    id: &str,
    partner: &str,
    kind: v1::IncentiveKind,
    used: i64,
    ready: bool,
) -> v1::Record {
    record(
        id,
        Content::Incentive(v1::IncentiveRecord {
            partner: partner.to_owned(),
            kind: kind as i32,
            available: euros(100),
            used: euros(used),
            period_start: day("2026-01-01"),
            period_end: day("2026-04-01"),
            payout_ready: ready,
            ..Default::default()
        }),
    )
}

/// K-23: partners by tier, status, specialisation, business model and engagement level.
#[tokio::test]
async fn k23_segmentation() {
    let node = Node::start(NOW).await;
    let partner = |id: &str, tier: &str, specialisations: &[&str]| {
        profile_with(id, PartnerType::Reseller, "2025-01-01", |profile| {
            tier.clone_into(&mut profile.tier);
            profile.specialisations = specialisations.iter().map(|&one| one.to_owned()).collect();
        })
    };
    node.ingest(vec![
        partner("p1", "gold", &["cloud", "data"]),
        partner("p2", "gold", &["cloud"]),
        partner("p3", "", &[]),
        view("e1", "p1", "u1", "2026-03-10T09:00:00Z"),
        view("e2", "p1", "u1", "2026-03-11T09:00:00Z"),
        view("e3", "p2", "u2", "2026-03-11T09:00:00Z"),
    ])
    .await
    .expect("stored");
    for (dimension, expected, multi_valued) in [
        (
            Dimension::Tier,
            vec![("UNKNOWN", 1.0), ("gold", 2.0)],
            false,
        ),
        (
            Dimension::Specialisation,
            vec![("UNKNOWN", 1.0), ("cloud", 2.0), ("data", 1.0)],
            true,
        ),
        (
            Dimension::EngagementLevel,
            vec![("LOW", 1.0), ("MEDIUM", 1.0), ("NONE", 1.0)],
            false,
        ),
        (Dimension::BusinessModel, vec![("UNKNOWN", 3.0)], false),
    ] {
        let answer = node
            .program(Role::PartnerManager)
            .get_metric_breakdown(v1::GetMetricBreakdownRequest {
                filter: quarter(),
                metrics: vec!["enrolled_partners".to_owned()],
                dimension: dimension as i32,
                ..Default::default()
            })
            .await
            .expect("groups")
            .into_inner();
        let found: Vec<_> = answer
            .groups
            .iter()
            .map(|group| (group.value.as_str(), value(&group.metrics[0]).expect("set")))
            .collect();
        assert_eq!(found, expected, "{dimension:?}");
        assert_eq!(answer.multi_valued, multi_valued);
    }
}

/// K-24, K-25, K-26: enablement figures, certified against not, funded against not.
#[tokio::test]
async fn k24_k25_k26_enablement() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        profile("p1", PartnerType::Reseller, "2025-01-01"),
        profile("p2", PartnerType::Reseller, "2025-01-01"),
        profile("p3", PartnerType::Reseller, "2025-01-01"),
        certification("c1", "p1", None),
        certification("c2", "p2", Some("2026-03-31")),
        incentive("i1", "p1", v1::IncentiveKind::Mdf, 50, false),
        incentive("i2", "p2", v1::IncentiveKind::Mdf, 0, false),
        incentive("i3", "p3", v1::IncentiveKind::Rebate, 25, false),
        incentive("i4", "p3", v1::IncentiveKind::Payout, 0, true),
        incentive("i5", "p3", v1::IncentiveKind::Payout, 0, false),
        record(
            "g1",
            Content::Campaign(v1::CampaignRecord {
                partner: "p1".to_owned(),
                name: "Spring".to_owned(),
                starts_at: day("2026-03-01"),
                leads: 12,
                ..Default::default()
            }),
        ),
        won("d1", "p1", 100, "2026-02-01"),
        won("d2", "p2", 30, "2026-02-01"),
        won("d3", "p3", 10, "2026-02-01"),
    ])
    .await
    .expect("stored");
    let answer = node
        .program(Role::Admin)
        .get_enablement(v1::GetEnablementRequest { filter: quarter() })
        .await
        .expect("enablement")
        .into_inner();
    let found: Vec<_> = answer
        .metrics
        .iter()
        .map(|metric| (metric.id.as_str(), value(metric)))
        .collect();
    assert_eq!(
        found,
        [
            ("training_completion", None),
            ("certified_partner_rate", Some(1.0 / 3.0)),
            ("mdf_utilisation", Some(0.25)),
            ("rebate_utilisation", Some(0.25)),
            ("payout_readiness", Some(0.5)),
            ("campaign_leads", Some(12.0)),
        ]
    );
    let cohorts: Vec<_> = answer
        .cohorts
        .iter()
        .map(|cohort| {
            (
                cohort.id.as_str(),
                cohort.partners,
                value(&cohort.metrics[0]),
            )
        })
        .collect();
    assert_eq!(
        cohorts,
        [
            ("not_certified", 2, Some(40.0)),
            ("certified", 1, Some(100.0)),
            ("not_funded", 2, Some(40.0)),
            ("funded", 1, Some(100.0)),
        ]
    );
}

/// K-26, K-34: sums of numbers of any size do not wrap.
#[tokio::test]
async fn k26_k34_sums_stay_within_their_type() {
    let node = Node::start(NOW).await;
    let campaign = |id: &str| {
        record(
            id,
            Content::Campaign(v1::CampaignRecord {
                partner: "p1".to_owned(),
                name: "Spring".to_owned(),
                starts_at: day("2026-03-01"),
                leads: u64::MAX,
                ..Default::default()
            }),
        )
    };
    let usage = |id: &str| {
        record(
            id,
            Content::EcosystemEvent(v1::EcosystemEventRecord {
                partner: "p1".to_owned(),
                r#type: v1::EcosystemEventType::Usage as i32,
                quantity: u64::MAX,
                at: day("2026-03-01"),
                ..Default::default()
            }),
        )
    };
    node.ingest(vec![
        campaign("g1"),
        campaign("g2"),
        usage("e1"),
        usage("e2"),
    ])
    .await
    .expect("stored");
    let enablement = node
        .program(Role::Admin)
        .get_enablement(v1::GetEnablementRequest { filter: quarter() })
        .await
        .expect("enablement")
        .into_inner();
    let leads = enablement
        .metrics
        .iter()
        .find(|metric| metric.id == "campaign_leads");
    assert_eq!(value(leads.expect("leads")), Some(i64::MAX as f64));
    let answer = node
        .program(Role::Admin)
        .get_ecosystem_signals(v1::GetEcosystemSignalsRequest { filter: quarter() })
        .await
        .expect("signals")
        .into_inner();
    assert_eq!(answer.signals[0].quantity, u64::MAX);
}

/// K-28: metrics as CSV and NDJSON; numerators exact, unset is empty or null.
#[tokio::test]
async fn k28_export() {
    let node = Node::start(NOW).await;
    node.ingest(vec![won("d1", "p1", 100, "2026-02-01")])
        .await
        .expect("stored");
    let ask = async |format: v1::ExportFormat, dimension: Dimension| -> String {
        let mut stream = node
            .program(Role::PartnerManager)
            .export_metrics(v1::ExportMetricsRequest {
                filter: quarter(),
                metrics: vec![
                    "sourced_closed_revenue".to_owned(),
                    "registration_win_rate".to_owned(),
                ],
                dimension: dimension as i32,
                format: format as i32,
            })
            .await
            .expect("a stream")
            .into_inner();
        let mut file = Vec::new();
        while let Some(message) = stream.message().await.expect("a chunk") {
            file.extend(message.chunk);
        }
        String::from_utf8(file).expect("text")
    };
    let tail =
        "1,2026-01-01T00:00:00Z,2026-04-01T00:00:00Z,2026-03-31T12:00:00Z,2026-01-01T00:00:00Z";
    assert_eq!(
        ask(v1::ExportFormat::Csv, Dimension::Partner).await,
        format!(
            "day,dimension_value,metric,unit,currency,value,numerator,denominator,definition_version,period_start,period_end,as_of,data_through,notes\n\
             ,p1,sourced_closed_revenue,MONEY,EUR,100.0,100,,{tail},\n\
             ,p1,registration_win_rate,RATIO,,,0,0,{tail},pending=0\n"
        )
    );
    let lines = ask(v1::ExportFormat::Ndjson, Dimension::Unspecified).await;
    let first: serde_json::Value =
        serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["metric"], "sourced_closed_revenue");
    assert_eq!(first["numerator"], "100");
    assert_eq!(first["denominator"], serde_json::Value::Null);
    assert_eq!(lines.lines().count(), 2);
}

/// K-31: one row a day and metric, each as of the end of its day; no row for days to come.
#[tokio::test]
async fn k31_daily_feed() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        won("d1", "p1", 100, "2026-03-29"),
        won("d2", "p1", 7, "2026-03-31"),
    ])
    .await
    .expect("stored");
    let mut stream = node
        .program(Role::Admin)
        .export_daily_feed(v1::ExportDailyFeedRequest {
            days: Some(v1::DateRange {
                first_day: "2026-03-29".to_owned(),
                last_day: "2026-04-02".to_owned(),
            }),
            time_zone: String::new(),
            format: v1::ExportFormat::Ndjson as i32,
            metrics: vec![
                "sourced_closed_revenue".to_owned(),
                "sourced_pipeline".to_owned(),
            ],
        })
        .await
        .expect("a stream")
        .into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.expect("a chunk") {
        file.extend(message.chunk);
    }
    let rows: Vec<(String, String, serde_json::Value)> = String::from_utf8(file)
        .expect("text")
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("day"), text("metric"), row["value"].clone())
        })
        .collect();
    let row = |day: &str, metric: &str, value: serde_json::Value| {
        (format!("2026-03-{day}"), metric.to_owned(), value)
    };
    let none = serde_json::Value::Null;
    // On the 29th and 30th the second deal was still open.
    assert_eq!(
        rows,
        [
            row("29", "sourced_closed_revenue", 100.0.into()),
            row("29", "sourced_pipeline", 7.0.into()),
            row("30", "sourced_closed_revenue", none.clone()),
            row("30", "sourced_pipeline", 7.0.into()),
            row("31", "sourced_closed_revenue", 7.0.into()),
            row("31", "sourced_pipeline", none),
        ]
    );
}

/// K-32: share 120 of 160; the quarter to date against as many days of the last one; top, at risk, mix, trend.
#[tokio::test]
async fn k32_executive_view() {
    let node = Node::start("2026-02-10T00:00:00Z").await;
    node.ingest(vec![
        profile("p1", PartnerType::Referral, "2025-01-01"),
        profile("p2", PartnerType::Reseller, "2025-01-01"),
        view("e1", "p1", "u1", "2026-02-01T09:00:00Z"),
        won("d1", "p1", 90, "2026-02-01"),
        won("d2", "p2", 30, "2026-02-01"),
        deal("direct", |deal| {
            deal.amount = euros(40);
            deal.outcome = Outcome::Won as i32;
            deal.closed_at = day("2026-02-01");
        }),
        // 41 days of the quarter have begun, so 41 of the last one count: to 2025-11-10.
        won("d3", "p1", 80, "2025-11-10"),
        won("d4", "p1", 1000, "2025-11-11"),
        won("d5", "p2", 5, "2025-07-01"),
    ])
    .await
    .expect("stored");
    let answer = node
        .program(Role::Admin)
        .get_executive_view(v1::GetExecutiveViewRequest::default())
        .await
        .expect("a view")
        .into_inner();
    assert_eq!(value(&answer.partner_share.expect("set")), Some(0.75));
    let revenue = &answer.quarter_over_quarter[0];
    assert_eq!(revenue.current.as_ref().and_then(value), Some(120.0));
    assert_eq!(revenue.previous.as_ref().and_then(value), Some(80.0));
    assert_eq!(revenue.change[0].value, Some(0.5));
    let top: Vec<_> = answer
        .top
        .iter()
        .map(|one| {
            (
                one.partner.as_str(),
                one.revenue.as_ref().and_then(|one| one.value),
            )
        })
        .collect();
    assert_eq!(top, [("p1", Some(90.0)), ("p2", Some(30.0))]);
    let risk: Vec<_> = answer
        .at_risk
        .iter()
        .map(|one| (one.partner.as_str(), one.reasons.join(",")))
        .collect();
    assert_eq!(risk, [("p2", "NO_PORTAL_ACTIVITY".to_owned())]);
    let mix: Vec<_> = answer
        .mix
        .iter()
        .map(|group| (group.value.as_str(), value(&group.metrics[0])))
        .collect();
    assert_eq!(mix, [("REFERRAL", Some(90.0)), ("RESELLER", Some(30.0))]);
    let trend: Vec<_> = answer
        .trend
        .iter()
        .map(|entry| (entry.label.as_str(), value(&entry.metrics[0])))
        .collect();
    assert_eq!(
        trend,
        [
            ("2025-Q2", None),
            ("2025-Q3", Some(5.0)),
            ("2025-Q4", Some(1080.0)),
            ("2026-Q1", Some(120.0)),
        ]
    );
}

/// K-34: ecosystem events of P by type.
#[tokio::test]
async fn k34_ecosystem() {
    use v1::EcosystemEventType as Type;
    let node = Node::start(NOW).await;
    let event = |id: &str, kind: Type, partner: &str, customer: &str, quantity: u64, on: &str| {
        record(
            id,
            Content::EcosystemEvent(v1::EcosystemEventRecord {
                partner: partner.to_owned(),
                r#type: kind as i32,
                at: day(on),
                customer: customer.to_owned(),
                quantity,
                amount: None,
            }),
        )
    };
    node.ingest(vec![
        event("e1", Type::Install, "p1", "c1", 0, "2026-02-01"),
        event("e2", Type::Install, "p2", "c1", 0, "2026-02-02"),
        event("e3", Type::Install, "p2", "c2", 0, "2025-02-02"),
        event("e4", Type::Usage, "p1", "", 250, "2026-02-01"),
    ])
    .await
    .expect("stored");
    let answer = node
        .program(Role::Admin)
        .get_ecosystem_signals(v1::GetEcosystemSignalsRequest { filter: quarter() })
        .await
        .expect("signals")
        .into_inner();
    let found: Vec<_> = answer
        .signals
        .iter()
        .map(|one| {
            (
                one.r#type(),
                one.events,
                one.quantity,
                one.partners,
                one.customers,
            )
        })
        .collect();
    assert_eq!(
        found,
        [(Type::Install, 2, 2, 2, 1), (Type::Usage, 1, 250, 1, 0)]
    );
    assert_eq!(answer.data_through, day("2026-02-02"));
}

/// K-22, K-32: metrics by month, clipped to P, each month seen from its end.
#[tokio::test]
async fn k22_series() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        won("d1", "p1", 1, "2026-01-31"),
        won("d2", "p1", 2, "2026-02-01"),
        won("d3", "p1", 4, "2026-03-20"),
    ])
    .await
    .expect("stored");
    let entries = node
        .program(Role::Admin)
        .get_metric_series(v1::GetMetricSeriesRequest {
            filter: period("2026-01-15", "2026-03-20"),
            metrics: vec![
                "sourced_closed_revenue".to_owned(),
                "sourced_pipeline".to_owned(),
            ],
            period: v1::EngagementPeriod::Month as i32,
        })
        .await
        .expect("a series")
        .into_inner()
        .entries;
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.label.as_str(),
                value(&entry.metrics[0]),
                value(&entry.metrics[1]),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("2026-01", Some(1.0), Some(6.0)),
            ("2026-02", Some(2.0), Some(4.0)),
            ("2026-03", None, Some(4.0)),
        ]
    );
    assert_eq!(entries[0].interval.expect("set").start, day("2026-01-15"));
}

/// K-09, K-22: who was engaged is seen from the end of each month, as everything else of a series: p1 was active on two days of
/// March, p2 on two of January.
#[tokio::test]
async fn k09_k22_a_series_sees_the_sessions_of_its_time() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        profile("p1", PartnerType::Reseller, "2025-01-01"),
        profile("p2", PartnerType::Reseller, "2025-01-01"),
        profile("p3", PartnerType::Reseller, "2025-01-01"),
        profile("p4", PartnerType::Reseller, "2025-01-01"),
        view("e1", "p1", "u1", "2026-03-10T09:00:00Z"),
        view("e2", "p1", "u1", "2026-03-11T09:00:00Z"),
        view("e3", "p2", "u2", "2026-01-20T09:00:00Z"),
        view("e4", "p2", "u2", "2026-01-21T09:00:00Z"),
        view("e5", "p3", "u3", "2026-03-11T09:00:00Z"),
        view("e6", "p3", "u3", "2026-03-12T09:00:00Z"),
    ])
    .await
    .expect("stored");
    let entries = node
        .program(Role::Admin)
        .get_metric_series(v1::GetMetricSeriesRequest {
            filter: quarter(),
            metrics: vec!["engaged_partner_rate".to_owned()],
            period: v1::EngagementPeriod::Month as i32,
        })
        .await
        .expect("a series")
        .into_inner()
        .entries;
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.label.as_str(), value(&entry.metrics[0])))
        .collect();
    // The thirty days that end with the 28th of February begin with the 30th of January.
    assert_eq!(
        found,
        [
            ("2026-01", Some(0.25)),
            ("2026-02", Some(0.0)),
            ("2026-03", Some(0.5)),
        ]
    );
}

/// I-12: a segment narrows every figure; a tier takes its segment.
#[tokio::test]
async fn i12_segments_and_tiers() {
    let node = Node::start(NOW).await;
    let partner = |id: &str, segment: &str, tier: &str| {
        profile_with(id, PartnerType::Reseller, "2025-01-01", |profile| {
            segment.clone_into(&mut profile.segment);
            tier.clone_into(&mut profile.tier);
        })
    };
    node.ingest(vec![
        partner("p1", "enterprise", "gold"),
        partner("p2", "enterprise", "silver"),
        partner("p3", "commercial", "bronze"),
        won("d1", "p1", 1, "2026-02-01"),
        won("d2", "p2", 2, "2026-02-01"),
        won("d3", "p3", 4, "2026-02-01"),
    ])
    .await
    .expect("stored");
    let ask = async |segments: &[&str], tiers: &[&str]| {
        let mut filter = quarter().expect("set");
        filter.segments = segments.iter().map(|&one| one.to_owned()).collect();
        filter.tiers = tiers.iter().map(|&one| one.to_owned()).collect();
        node.program(Role::PartnerManager)
            .get_metrics(v1::GetMetricsRequest {
                filter: Some(filter),
                metrics: vec![
                    "sourced_closed_revenue".to_owned(),
                    "enrolled_partners".to_owned(),
                ],
            })
            .await
            .map(|answer| {
                let metrics = answer.into_inner().metrics;
                (value(&metrics[0]), value(&metrics[1]))
            })
    };
    assert_eq!(
        ask(&["enterprise"], &[]).await.expect("found"),
        (Some(3.0), Some(2.0))
    );
    assert_eq!(
        ask(&["Enterprise"], &["gold"]).await.expect("found"),
        (Some(1.0), Some(1.0))
    );
    for (segments, tiers) in [(&[][..], &["gold"][..]), (&["enterprise"], &["bronze"])] {
        let refused = ask(segments, tiers).await.expect_err("refused");
        assert_eq!(reason(&refused), "INVALID_ARGUMENT");
        assert_eq!(violations(&refused)[0].0, "filter.tiers");
    }
}
