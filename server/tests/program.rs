//! Program numbers over the API. Expected values are computed by hand from the few records each test sends.
//!
//! Unless a test says otherwise, P is the first quarter of 2026 and as_of is 2026-03-31 12:00 UTC.

#[path = "records/support.rs"]
mod support;
#[path = "program/values.rs"]
mod values;

use overlap_proto::v1::{self, MetricDimension as Dimension, PartnerType, record::Content};
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

/// K-27: of my gross margin, which its deals leave out, a partner's user is told in no other way: the metrics of it are as
/// absent as one that does not exist.
#[tokio::test]
async fn k27_a_partner_is_told_nothing_of_margins() {
    use v1::target_record::Goal;
    let node = Node::start(NOW).await;
    node.ingest(vec![
        profile("p1", PartnerType::Reseller, "2025-01-01"),
        deal("d1", |deal| {
            sourced(deal, "p1", 100);
            closed(deal, v1::DealOutcome::Won, "2026-02-01");
            deal.gross_margin = euros(37);
        }),
        target(
            "of margin",
            "p1",
            "channel_margin_net",
            Goal::Money(euros(50).expect("set")),
            "2026-03-01",
        ),
        target("of deals", "p1", "won_deals", Goal::Number(2), "2026-03-01"),
    ])
    .await
    .expect("stored");
    let of_margin = ["channel_margin_return", "channel_margin_net"];
    // What a role is told: how many metrics of margins each list has; the targets compared, then the subjects of the alerts.
    let told = async |role: Role| {
        let mut client = node.program(role);
        let mut lists: Vec<Vec<String>> = Vec::new();
        let definitions = client
            .list_metric_definitions(v1::ListMetricDefinitionsRequest {})
            .await
            .expect("definitions")
            .into_inner()
            .definitions;
        lists.push(definitions.into_iter().map(|one| one.id).collect());
        let metrics = client
            .get_metrics(v1::GetMetricsRequest {
                filter: quarter(),
                metrics: Vec::new(),
            })
            .await
            .expect("metrics")
            .into_inner()
            .metrics;
        lists.push(metrics.into_iter().map(|one| one.id).collect());
        let overview = client
            .get_partner_overview(v1::GetPartnerOverviewRequest {
                partner: "p1".to_owned(),
                filter: quarter(),
            })
            .await
            .expect("an overview")
            .into_inner();
        lists.push(overview.metrics.into_iter().map(|one| one.id).collect());
        let mut intelligence = node.intelligence(role, "ann");
        let cards = intelligence
            .list_metric_cards(v1::ListMetricCardsRequest { filter: quarter() })
            .await
            .expect("cards")
            .into_inner()
            .cards;
        let id = |card: v1::MetricCard| card.metric.expect("set").id;
        lists.push(cards.into_iter().map(id).collect());
        let tiles = intelligence
            .get_view_preferences(v1::GetViewPreferencesRequest {
                view: "program".to_owned(),
            })
            .await
            .expect("tiles")
            .into_inner()
            .tiles;
        lists.push(tiles.into_iter().map(|one| one.tile).collect());
        let mut stream = client
            .export_metrics(v1::ExportMetricsRequest {
                filter: quarter(),
                format: v1::ExportFormat::Csv as i32,
                ..Default::default()
            })
            .await
            .expect("a file")
            .into_inner();
        let mut file = Vec::new();
        while let Some(message) = stream.message().await.expect("a chunk") {
            file.extend(message.chunk);
        }
        let file = String::from_utf8(file).expect("text");
        let id = |line: &str| line.split(',').nth(2).unwrap_or_default().to_owned();
        let ids: std::collections::BTreeSet<String> = file.lines().map(id).collect();
        lists.push(ids.into_iter().collect());
        let counts: Vec<usize> = lists
            .iter()
            .map(|ids| {
                assert!(ids.contains(&"channel_return".to_owned()));
                let of_margin = ids.iter().filter(|id| of_margin.contains(&id.as_str()));
                of_margin.count()
            })
            .collect();
        let targets = client
            .compare_metrics(v1::CompareMetricsRequest {
                filter: quarter(),
                ..Default::default()
            })
            .await
            .expect("a comparison")
            .into_inner()
            .targets;
        let mut ids: Vec<String> = targets.into_iter().map(|one| one.target).collect();
        ids.sort();
        ids.extend(overview.alerts.into_iter().map(|alert| alert.subject));
        (counts, ids)
    };
    let ids = |ids: &[&str]| -> Vec<String> { ids.iter().map(|&id| id.to_owned()).collect() };
    let (counts, targets) = told(Role::PartnerManager).await;
    assert_eq!(counts, [2; 6]);
    let both = ["of deals", "of margin", "of deals", "of margin"];
    assert_eq!(targets, ids(&both));
    let (counts, targets) = told(Role::Partner).await;
    assert_eq!(counts, [0; 6]);
    assert_eq!(targets, ids(&["of deals", "of deals"]));

    // By id.
    let mut client = node.program_of("p1");
    for id in of_margin {
        let mut messages = Vec::new();
        for id in [id, "no_such_metric"] {
            let metrics = vec![id.to_owned()];
            let dimension = Dimension::Partner as i32;
            let refusals = [
                client
                    .get_metrics(v1::GetMetricsRequest {
                        metrics: metrics.clone(),
                        ..Default::default()
                    })
                    .await
                    .err(),
                client
                    .get_metric_breakdown(v1::GetMetricBreakdownRequest {
                        metrics: metrics.clone(),
                        dimension,
                        ..Default::default()
                    })
                    .await
                    .err(),
                client
                    .get_metric_series(v1::GetMetricSeriesRequest {
                        metrics: metrics.clone(),
                        period: v1::EngagementPeriod::Month as i32,
                        ..Default::default()
                    })
                    .await
                    .err(),
                client
                    .compare_metrics(v1::CompareMetricsRequest {
                        metrics: metrics.clone(),
                        cohort_dimension: dimension,
                        ..Default::default()
                    })
                    .await
                    .err(),
                client
                    .export_metrics(v1::ExportMetricsRequest {
                        metrics: metrics.clone(),
                        format: v1::ExportFormat::Csv as i32,
                        ..Default::default()
                    })
                    .await
                    .err(),
                client
                    .export_daily_feed(v1::ExportDailyFeedRequest {
                        days: Some(v1::DateRange {
                            first_day: "2026-03-01".to_owned(),
                            last_day: "2026-03-02".to_owned(),
                        }),
                        format: v1::ExportFormat::Csv as i32,
                        metrics,
                        ..Default::default()
                    })
                    .await
                    .err(),
            ];
            messages.push(refusals.map(|refused| {
                let refused = refused.expect("refused");
                assert_eq!(refused.code(), Code::InvalidArgument);
                refused.message().replace(id, "?")
            }));
        }
        assert_eq!(messages[0], messages[1]);
    }
    let refused = client
        .get_scorecard(v1::GetScorecardRequest {
            return_basis: v1::ReturnBasis::GrossMargin as i32,
            ..Default::default()
        })
        .await
        .expect_err("refused");
    assert_eq!(violations(&refused)[0].0, "return_basis");
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

/// K-35: the definitions over the API are those the metrics carry.
#[tokio::test]
async fn k35_definitions() {
    let node = Node::start(NOW).await;
    let definitions = node
        .program(Role::PartnerManager)
        .list_metric_definitions(v1::ListMetricDefinitionsRequest {})
        .await
        .expect("definitions")
        .into_inner()
        .definitions;
    for metric in metrics(&node, quarter(), &[]).await {
        let found: Vec<_> = definitions
            .iter()
            .filter(|definition| definition.id == metric.id)
            .collect();
        assert_eq!(found.len(), 1, "{}", metric.id);
        assert_eq!(found[0].version, metric.definition_version);
        assert_eq!(found[0].unit, metric.unit);
    }
}

/// A period is refused with its field, and so is an as_of to come.
#[tokio::test]
async fn periods_are_checked() {
    let node = Node::start(NOW).await;
    let mut tomorrow = quarter().expect("set");
    tomorrow.as_of = day("2026-04-01");
    for (filter, field) in [
        (period("2026-02-01", "2026-01-01"), "filter.interval.end"),
        (period("1900-01-01", "2199-01-01"), "filter.interval.end"),
        (period("1899-01-01", "2026-01-01"), "filter.interval.start"),
        (Some(tomorrow), "filter.as_of"),
    ] {
        let refused = node
            .program(Role::Admin)
            .get_scorecard(v1::GetScorecardRequest {
                filter,
                ..Default::default()
            })
            .await
            .expect_err("refused");
        assert_eq!(violations(&refused)[0].0, field);
    }
}
