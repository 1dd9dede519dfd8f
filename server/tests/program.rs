//! Program numbers over the API. Expected values are computed by hand from the few records each test sends.
//!
//! Unless a test says otherwise, P is the first quarter of 2026 and as_of is 2026-03-31 12:00 UTC.

#[path = "records/support.rs"]
mod support;
#[path = "program/values.rs"]
mod values;

use overlap_proto::v1::{
    self, DealOutcome as Outcome, MetricDimension as Dimension, PartnerType,
    RegistrationStatus as Status, record::Content,
};
use overlap_server::auth::Role;
use support::*;
use tonic::Code;
use values::*;

const NOW: &str = "2026-03-31T12:00:00Z";

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
