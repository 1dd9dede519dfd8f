//! Numbers by bucket, and filters that narrow them. Expected values are computed by hand from the few records each test sends.
//!
//! P is the first quarter of 2026 and as_of is 2026-03-31 12:00 UTC.

#[path = "records/support.rs"]
mod support;
#[path = "program/values.rs"]
mod values;

use std::{rc::Rc, sync::Arc};

use overlap_proto::v1::{
    self, DealOutcome as Outcome, MetricDimension as Dimension, PartnerType, record::Content,
};
use overlap_server::{
    auth::Role,
    program::{
        breakdown::{self, Group},
        facts::Facts,
        view::View,
    },
};
use support::*;
use values::*;

const NOW: &str = "2026-03-31T12:00:00Z";

/// Groups of a dimension by value, with the amounts of each metric; sums of nothing left out.
async fn groups(
    node: &Node,
    metrics: &[&str],
    dimension: Dimension,
) -> Vec<(String, Vec<Vec<(String, i64)>>)> {
    let answer = node
        .program(Role::Admin)
        .get_metric_breakdown(v1::GetMetricBreakdownRequest {
            filter: quarter(),
            metrics: metrics.iter().map(|&metric| metric.to_owned()).collect(),
            dimension: dimension as i32,
            ..Default::default()
        })
        .await
        .expect("groups")
        .into_inner();
    let whole = |metric: &v1::Metric| -> Vec<(String, i64)> {
        let amounts = amounts(metric).into_iter();
        amounts
            .filter(|&(_, units)| units != 0)
            .map(|(currency, units)| (currency.to_owned(), units))
            .collect()
    };
    let group = |group: &v1::MetricGroup| {
        (
            group.value.clone(),
            group.metrics.iter().map(whole).collect(),
        )
    };
    answer.groups.iter().map(group).collect()
}

/// I-10, I-11: won revenue of P by industry, and what is open at as_of by the same buckets; missing is UNKNOWN.
#[tokio::test]
async fn i10_i11_won_revenue_and_open_pipeline_by_industry() {
    let node = Node::start(NOW).await;
    let one =
        |id: &str, industry: &str, amount: Option<v1::Money>, closed: Option<(Outcome, &str)>| {
            deal(id, |deal| {
                industry.clone_into(&mut deal.industry);
                deal.amount = amount;
                if let Some((outcome, on)) = closed {
                    values::closed(deal, outcome, on);
                }
            })
        };
    let won = |on: &'static str| Some((Outcome::Won, on));
    node.ingest(vec![
        one("w1", "Energy", euros(100), won("2026-01-10")),
        one("w2", "Energy", euros(50), won("2026-03-30")),
        one("w3", "", euros(7), won("2026-02-01")),
        one("w4", "Energy", money(9, "USD"), won("2026-02-01")),
        // Not won, or not in P.
        one(
            "x1",
            "Energy",
            euros(1000),
            Some((Outcome::Lost, "2026-02-01")),
        ),
        deal("x2", |deal| {
            "Retail".clone_into(&mut deal.industry);
            deal.opened_at = day("2025-01-01");
            deal.amount = euros(20);
            closed(deal, Outcome::Won, "2025-12-31");
        }),
        one("o1", "Retail", euros(30), None),
        one("o2", "", euros(4), None),
        one("o3", "Energy", euros(8), None),
    ])
    .await
    .expect("stored");
    let found = groups(
        &node,
        &["won_revenue", "open_pipeline"],
        Dimension::Industry,
    )
    .await;
    let euro = |units: i64| ("EUR".to_owned(), units);
    assert_eq!(
        found,
        [
            (
                "Energy".to_owned(),
                vec![vec![euro(150), ("USD".to_owned(), 9)], vec![euro(8)]]
            ),
            ("Retail".to_owned(), vec![vec![], vec![euro(30)]]),
            ("UNKNOWN".to_owned(), vec![vec![euro(7)], vec![euro(4)]]),
        ]
    );
}

/// Two partners and three won deals: 100 and 50 by p1, 10 by p2.
fn three_deals() -> Vec<v1::Record> {
    let one = |id: &str, partner: &str, units: i64, attributes: [&str; 4], on: &str| {
        deal(id, |deal| {
            sourced(deal, partner, units);
            closed(deal, Outcome::Won, on);
            let [customer, territory, region, product] = attributes.map(str::to_owned);
            deal.customer = customer;
            deal.territory = territory;
            deal.region = region;
            deal.product = product;
        })
    };
    let texts =
        |values: &[&str]| -> Vec<String> { values.iter().map(|&text| text.to_owned()).collect() };
    vec![
        profile_with("p1", PartnerType::Reseller, "2025-01-01", |profile| {
            "ent".clone_into(&mut profile.segment);
            "gold".clone_into(&mut profile.tier);
            profile.regions = texts(&["EMEA", "AMER"]);
            profile.verticals = texts(&["Health"]);
            "producing".clone_into(&mut profile.lifecycle_stage);
        }),
        profile_with("p2", PartnerType::Referral, "2025-01-01", |profile| {
            "smb".clone_into(&mut profile.segment);
            "silver".clone_into(&mut profile.tier);
            profile.regions = texts(&["APAC"]);
            "recruited".clone_into(&mut profile.lifecycle_stage);
        }),
        one("d1", "p1", 100, ["c1", "T1", "EMEA", "A"], "2026-01-20"),
        one("d2", "p1", 50, ["c2", "T1", "AMER", "B"], "2026-02-20"),
        one("d3", "p2", 10, ["c1", "T2", "EMEA", ""], "2026-03-20"),
    ]
}

/// K-20, K-22: contribution by account, territory, region, product and whatever else; count and average size per partner.
#[tokio::test]
async fn k20_k22_contribution_by_every_dimension() {
    let node = Node::start(NOW).await;
    node.ingest(three_deals()).await.expect("stored");
    for (dimension, expected) in [
        (Dimension::Account, &[("c1", 110), ("c2", 50)][..]),
        (Dimension::Territory, &[("T1", 150), ("T2", 10)]),
        (Dimension::Region, &[("AMER", 50), ("EMEA", 110)]),
        (
            Dimension::Product,
            &[("A", 100), ("B", 50), ("UNKNOWN", 10)],
        ),
        (Dimension::DealType, &[("NEW", 160)]),
        (Dimension::Partner, &[("p1", 150), ("p2", 10)]),
        (Dimension::Type, &[("REFERRAL", 10), ("RESELLER", 150)]),
        (Dimension::Segment, &[("ent", 150), ("smb", 10)]),
        (Dimension::Tier, &[("gold", 150), ("silver", 10)]),
        // p1 is in both, so that groups do not add up.
        (
            Dimension::PartnerRegion,
            &[("AMER", 150), ("APAC", 10), ("EMEA", 150)],
        ),
        (Dimension::Vertical, &[("Health", 150), ("UNKNOWN", 10)]),
    ] {
        let found = groups(&node, &["won_revenue"], dimension).await;
        let found: Vec<(&str, i64)> = found
            .iter()
            .map(|(value, metrics)| (value.as_str(), metrics[0][0].1))
            .collect();
        assert_eq!(found, expected, "{dimension:?}");
    }
    let answer = node
        .program(Role::Admin)
        .get_metric_breakdown(v1::GetMetricBreakdownRequest {
            filter: quarter(),
            metrics: vec!["won_deals".to_owned(), "average_deal_size".to_owned()],
            dimension: Dimension::Partner as i32,
            ..Default::default()
        })
        .await
        .expect("groups")
        .into_inner();
    let sizes: Vec<_> = answer
        .groups
        .iter()
        .map(|group| {
            let value = |at: usize| group.metrics[at].values[0].value;
            (group.value.as_str(), value(0), value(1))
        })
        .collect();
    assert_eq!(
        sizes,
        [("p1", Some(2.0), Some(75.0)), ("p2", Some(1.0), Some(10.0)),]
    );
}

/// K-20: groups of deals take memory for the deals, not for the groups times everything else: of 500 accounts none has any of
/// the 2,000 trainings, and all have the same managed accounts. Renewals of managed accounts are found by group all the same.
#[tokio::test]
async fn k20_groups_of_deals_hold_deals_alone() {
    let node = Node::start(NOW).await;
    let account = |at: usize| format!("c{at:03}");
    let mut records: Vec<v1::Record> = (0..2000)
        .map(|at| training(&format!("t{at}"), "p1", "2026-01-02", None))
        .collect();
    for at in 0..500 {
        records.push(deal(&format!("d{at}"), |deal| {
            deal.customer = account(at);
            deal.region = if at < 250 { "EMEA" } else { "AMER" }.to_owned();
            deal.r#type = v1::DealType::Renewal as i32;
            deal.amount = euros(1);
            closed(deal, Outcome::Won, "2026-02-01");
        }));
    }
    // Every fifth account is managed, by two partners.
    for at in (0..500).step_by(5) {
        for partner in ["p1", "p2"] {
            let id = format!("{partner}-{at}");
            records.push(managed(&id, partner, &account(at), "2025-01-01", None));
        }
    }
    node.ingest(records).await.expect("stored");
    let facts = node.store.read(Facts::load).await.expect("facts");
    let view = View::all(&facts, Arc::default());
    for (dimension, count) in [
        (Dimension::Account, 500),
        (Dimension::Region, 2),
        (Dimension::DealType, 1),
    ] {
        let groups = breakdown::groups(&view, dimension);
        assert_eq!(groups.len(), count);
        let deals: usize = groups.iter().map(|group| group.view.deals.len()).sum();
        assert_eq!(deals, 500);
        for Group { view: group, .. } in &groups {
            assert!(group.trainings.is_empty());
            assert!(Rc::ptr_eq(&group.managed, &view.managed));
        }
    }
    let found = groups(&node, &["renewal_revenue"], Dimension::Region).await;
    let found: Vec<(&str, i64)> = found
        .iter()
        .map(|(value, metrics)| (value.as_str(), metrics[0][0].1))
        .collect();
    assert_eq!(found, [("AMER", 50), ("EMEA", 50)]);
}

/// G-19, K-20, K-29: groups and alerts are listed by key, so records that come between two pages skip and repeat nothing.
#[tokio::test]
async fn k20_k29_pages_by_key_go_on_after_the_last_one() {
    let node = Node::start(NOW).await;
    let open = |customer: &str| {
        deal(&format!("deal of {customer}"), |deal| {
            customer.clone_into(&mut deal.customer);
            sourced(deal, "p1", 1);
        })
    };
    node.ingest(vec![open("b"), open("d"), open("f")])
        .await
        .expect("stored");
    let mut client = node.program(Role::Admin);
    let mut groups = v1::GetMetricBreakdownRequest {
        filter: quarter(),
        dimension: Dimension::Account as i32,
        page_size: 2,
        ..Default::default()
    };
    let mut alerts = v1::ListAlertsRequest {
        filter: quarter(),
        kinds: vec![v1::AlertKind::StalledDeal as i32],
        page_size: 2,
        ..Default::default()
    };
    let mut pages: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for later in [&["a", "c", "e", "g"][..], &["bb"], &[]] {
        let found = client
            .get_metric_breakdown(groups.clone())
            .await
            .expect("groups")
            .into_inner();
        let stalled = client
            .list_alerts(alerts.clone())
            .await
            .expect("alerts")
            .into_inner();
        let values = found.groups.into_iter().map(|group| group.value);
        let subjects = stalled.alerts.into_iter().map(|alert| alert.subject);
        pages.push((values.collect(), subjects.collect()));
        groups.page_token = found.next_page_token;
        alerts.page_token = stalled.next_page_token;
        let later = later.iter().map(|customer| open(customer)).collect();
        node.ingest(later).await.expect("stored");
    }
    let page = |customers: &[&str]| {
        let customers: Vec<String> = customers.iter().map(|&one| one.to_owned()).collect();
        let deals = customers.iter().map(|one| format!("deal of {one}"));
        (customers.clone(), deals.collect())
    };
    assert_eq!(pages, [page(&["b", "d"]), page(&["e", "f"]), page(&["g"])]);
    assert_eq!((groups.page_token, alerts.page_token), Default::default());
}

/// K-22: drill-down by type, segment, region, vertical, product family, partner and period.
#[tokio::test]
async fn k22_filters_narrow() {
    let node = Node::start(NOW).await;
    node.ingest(three_deals()).await.expect("stored");
    let narrowed = |change: &dyn Fn(&mut v1::ProgramFilter)| {
        let mut filter = quarter().expect("set");
        change(&mut filter);
        Some(filter)
    };
    let text = |value: &str| vec![value.to_owned()];
    for (name, filter, expected) in [
        ("nothing", quarter(), 160),
        (
            "type",
            narrowed(&|one| one.types = vec![PartnerType::Reseller.into()]),
            150,
        ),
        ("segment", narrowed(&|one| one.segments = text("SMB")), 10),
        ("region", narrowed(&|one| one.regions = text("emea")), 110),
        (
            "territory",
            narrowed(&|one| one.territories = text("T2")),
            10,
        ),
        (
            "vertical",
            narrowed(&|one| one.verticals = text("health")),
            150,
        ),
        ("product", narrowed(&|one| one.products = text("B")), 50),
        ("partner", narrowed(&|one| one.partners = text("p2")), 10),
        ("period", period("2026-02-01", "2026-03-01"), 50),
        (
            "region and partner",
            narrowed(&|one| {
                one.regions = text("EMEA");
                one.partners = text("p1");
            }),
            100,
        ),
    ] {
        let found = metrics(&node, filter, &["won_revenue"]).await;
        assert_eq!(amounts(&found[0]), [("EUR", expected)], "{name}");
    }
}

/// I-12: a segment narrows every tile, not the numbers alone.
#[tokio::test]
async fn i12_a_segment_narrows_every_tile() {
    let node = Node::start(NOW).await;
    let analysis = |id: &str, partner: &str, strength: &str, capability: u32| {
        record(
            id,
            Content::PartnerAnalysis(v1::PartnerAnalysisRecord {
                partner: partner.to_owned(),
                analyzed_at: day("2026-02-01"),
                strengths: vec![v1::PartnerStrengthRecord {
                    label: strength.to_owned(),
                    description: String::new(),
                    score: 80,
                }],
                capability: Some(capability),
                ..Default::default()
            }),
        )
    };
    let mut records = three_deals();
    records.push(analysis("a1", "p1", "Reach", 10));
    records.push(analysis("a2", "p2", "Depth", 20));
    node.ingest(records).await.expect("stored");
    // Segment, partner, strength, score, lifecycle stage, tier, region that is a gap, won units.
    for (segment, partner, strength, score, stage, tier, gaps, units) in [
        (
            "ent",
            "p1",
            "Reach",
            10,
            "producing",
            "gold",
            &["APAC"][..],
            150.0,
        ),
        (
            "smb",
            "p2",
            "Depth",
            20,
            "recruited",
            "silver",
            &["EMEA", "AMER"],
            10.0,
        ),
    ] {
        let filter = {
            let mut filter = quarter().expect("set");
            filter.segments = vec![segment.to_owned()];
            Some(filter)
        };
        let mut tiles = node.intelligence(Role::PartnerManager, "ann");
        let cards = tiles
            .list_metric_cards(v1::ListMetricCardsRequest {
                filter: filter.clone(),
            })
            .await
            .expect("cards")
            .into_inner()
            .cards;
        let card = |id: &str| {
            let card = cards
                .iter()
                .find(|card| card.metric.as_ref().is_some_and(|metric| metric.id == id));
            let metric = card.and_then(|card| card.metric.as_ref()).expect("a card");
            metric.values[0].value
        };
        assert_eq!(card("enrolled_partners"), Some(1.0), "{segment}");
        assert_eq!(card("won_revenue"), Some(units), "{segment}");
        let strengths = tiles
            .list_partner_strengths(v1::ListPartnerStrengthsRequest {
                filter: filter.clone(),
            })
            .await
            .expect("strengths")
            .into_inner()
            .strengths;
        let strengths: Vec<_> = strengths
            .iter()
            .map(|one| (one.label.as_str(), one.partners))
            .collect();
        assert_eq!(strengths, [(strength, 1)]);
        let areas = tiles
            .list_areas_to_address(v1::ListAreasToAddressRequest {
                filter: filter.clone(),
                ..Default::default()
            })
            .await
            .expect("areas")
            .into_inner()
            .areas;
        let areas: Vec<_> = areas
            .iter()
            .map(|one| (one.partner.as_str(), one.value))
            .collect();
        assert_eq!(areas, [(partner, score)]);
        let lifecycle = tiles
            .get_partner_lifecycle(v1::GetPartnerLifecycleRequest {
                filter: filter.clone(),
            })
            .await
            .expect("a lifecycle")
            .into_inner();
        let stages: Vec<_> = lifecycle
            .stages
            .iter()
            .map(|card| (card.label.as_str(), card.partners, card.percent))
            .collect();
        assert_eq!(
            (stages.as_slice(), lifecycle.profiles),
            (&[(stage, 1, Some(100.0))][..], 1)
        );
        let coverage = tiles
            .get_partner_coverage(v1::GetPartnerCoverageRequest {
                filter: filter.clone(),
                dimension: v1::CoverageDimension::Region.into(),
            })
            .await
            .expect("coverage")
            .into_inner();
        assert!(coverage.entries.iter().all(|entry| entry.partners == 1));
        assert_eq!(coverage.profiles, 1);
        let found = tiles
            .list_coverage_gaps(v1::ListCoverageGapsRequest {
                filter: filter.clone(),
                dimension: v1::CoverageDimension::Region.into(),
                reference: ["EMEA", "APAC", "AMER"].map(str::to_owned).to_vec(),
                least_partners: 0,
            })
            .await
            .expect("gaps")
            .into_inner()
            .gaps;
        let found: Vec<_> = found.iter().map(|gap| gap.value.as_str()).collect();
        assert_eq!(found, gaps);
        let tiers = tiles
            .compare_partner_tiers(v1::ComparePartnerTiersRequest {
                filter: filter.clone(),
                ..Default::default()
            })
            .await
            .expect("tiers")
            .into_inner()
            .tiers;
        let tiers: Vec<_> = tiers
            .iter()
            .map(|one| (one.tier.as_str(), one.partners))
            .collect();
        assert_eq!(tiers, [(tier, 1)]);
        // I-09 to I-11: pipeline and revenue by bucket.
        let buckets = node
            .program(Role::PartnerManager)
            .get_metric_breakdown(v1::GetMetricBreakdownRequest {
                filter: filter.clone(),
                metrics: vec!["won_revenue".to_owned()],
                dimension: Dimension::Partner as i32,
                ..Default::default()
            })
            .await
            .expect("buckets")
            .into_inner()
            .groups;
        let buckets: Vec<_> = buckets
            .iter()
            .map(|group| (group.value.as_str(), group.metrics[0].values[0].value))
            .collect();
        assert_eq!(buckets, [(partner, Some(units))]);
        let forecast = node
            .program(Role::PartnerManager)
            .get_forecast(v1::GetForecastRequest { filter })
            .await
            .expect("a forecast")
            .into_inner()
            .forecasts;
        let won = forecast[0].won.as_ref().expect("set");
        assert_eq!(won.units as f64, units);
    }
}
