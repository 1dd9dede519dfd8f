//! Program intelligence over the API. Expected values are computed by hand.

#[path = "records/support.rs"]
mod support;

use overlap_proto::v1::{
    self, CoverageDimension, PartnerScore, PartnerType, TilePreference, record::Content,
};
use overlap_server::auth::Role;
use support::*;
use tonic::Code;

const NOW: &str = "2026-03-31T12:00:00Z";

fn analysis(
    id: &str,
    partner: &str,
    on: &str,
    strengths: &[(&str, u32)],
    scores: [Option<u32>; 4],
) -> v1::Record {
    record(
        id,
        Content::PartnerAnalysis(v1::PartnerAnalysisRecord {
            partner: partner.to_owned(),
            analyzed_at: day(on),
            strengths: strengths
                .iter()
                .map(|&(label, score)| v1::PartnerStrengthRecord {
                    label: label.to_owned(),
                    description: format!("About {label}"),
                    score,
                })
                .collect(),
            capacity: scores[0],
            capability: scores[1],
            commitment: scores[2],
            customer_alignment: scores[3],
        }),
    )
}

/// I-04, I-05: by partners, then average score, then label; the latest analysis of each partner counts.
#[tokio::test]
async fn i04_i05_strengths() {
    let node = Node::start(NOW).await;
    let ask = async || {
        node.intelligence(Role::PartnerManager, "ann")
            .list_partner_strengths(v1::ListPartnerStrengthsRequest::default())
            .await
            .expect("strengths")
            .into_inner()
    };
    let none = ask().await;
    assert!(none.strengths.is_empty());
    assert_eq!(
        none.empty_reason,
        "No partner strengths have been analyzed yet"
    );
    node.ingest(vec![
        analysis("a0", "p1", "2026-01-01", &[("Forgotten", 100)], [None; 4]),
        analysis(
            "a1",
            "p1",
            "2026-02-01",
            &[("Reach", 80), ("Depth", 60), ("Speed", 70)],
            [None; 4],
        ),
        analysis(
            "a2",
            "p2",
            "2026-02-01",
            &[("reach", 71), ("Alliances", 70)],
            [None; 4],
        ),
    ])
    .await
    .expect("stored");
    let found = ask().await;
    let rows: Vec<_> = found
        .strengths
        .iter()
        .map(|one| (one.label.as_str(), one.partners, one.average_score))
        .collect();
    assert_eq!(
        rows,
        [
            ("Reach", 2, 75.5),
            ("Alliances", 1, 70.0),
            ("Speed", 1, 70.0),
            ("Depth", 1, 60.0),
        ]
    );
    assert_eq!(found.strengths[0].description, "About Reach");
    assert_eq!(found.empty_reason, "");
}

/// I-06: a request for new analyses is an event for the platform; the same request id asks once.
#[tokio::test]
async fn i06_refresh() {
    let node = Node::start(NOW).await;
    node.ingest(vec![profile("p1", PartnerType::Referral, "2025-01-01")])
        .await
        .expect("stored");
    let mut client = node.intelligence(Role::PartnerManager, "ann");
    for _ in 0..2 {
        client
            .request_analysis_refresh(v1::RequestAnalysisRefreshRequest {
                partner: "p1".to_owned(),
                request_id: "once".to_owned(),
            })
            .await
            .expect("asked");
    }
    client
        .request_analysis_refresh(v1::RequestAnalysisRefreshRequest::default())
        .await
        .expect("asked");
    let refused = client
        .request_analysis_refresh(v1::RequestAnalysisRefreshRequest {
            partner: "p9".to_owned(),
            ..Default::default()
        })
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::NotFound);
    let mut list = async |after_sequence| {
        client
            .list_analysis_refresh_requests(v1::ListAnalysisRefreshRequestsRequest {
                after_sequence,
                page_size: 0,
            })
            .await
            .expect("listed")
            .into_inner()
            .requests
    };
    let all = list(0).await;
    let partners: Vec<_> = all.iter().map(|one| one.partner.as_str()).collect();
    assert_eq!(partners, ["p1", ""]);
    assert_eq!(all[0].requested_by, "ann");
    assert_eq!(all[0].requested_at, Some(time(NOW)));
    assert_eq!(list(all[0].sequence).await.len(), 1);
}

/// I-07, I-08: scores below 50, lowest first; 50 is not below, a missing score is not 0.
#[tokio::test]
async fn i07_i08_areas() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        analysis(
            "a1",
            "p1",
            "2026-02-01",
            &[],
            [Some(49), Some(50), None, Some(10)],
        ),
        analysis(
            "a2",
            "p2",
            "2026-02-01",
            &[],
            [None, Some(10), Some(30), None],
        ),
    ])
    .await
    .expect("stored");
    let ask = async |scores: &[PartnerScore]| -> Vec<(String, PartnerScore, u32)> {
        node.intelligence(Role::Admin, "ann")
            .list_areas_to_address(v1::ListAreasToAddressRequest {
                scores: scores.iter().map(|&score| score as i32).collect(),
                ..Default::default()
            })
            .await
            .expect("areas")
            .into_inner()
            .areas
            .into_iter()
            .map(|area| (area.partner.clone(), area.score(), area.value))
            .collect()
    };
    let row = |partner: &str, score, value| (partner.to_owned(), score, value);
    assert_eq!(
        ask(&[]).await,
        [
            row("p1", PartnerScore::CustomerAlignment, 10),
            row("p2", PartnerScore::Capability, 10),
            row("p2", PartnerScore::Commitment, 30),
            row("p1", PartnerScore::Capacity, 49),
        ]
    );
    assert_eq!(
        ask(&[PartnerScore::Capability, PartnerScore::Commitment]).await,
        [
            row("p2", PartnerScore::Capability, 10),
            row("p2", PartnerScore::Commitment, 30),
        ]
    );
}

/// I-13: to role PARTNER the lifecycle is worded exactly as a view that does not exist; MEMBER is denied; nobody without a
/// token is told anything.
#[tokio::test]
async fn i13_lifecycle_by_role() {
    let node = Node::start(NOW).await;
    let mut absent = node
        .intelligence(Role::Admin, "ann")
        .get_view_preferences(v1::GetViewPreferencesRequest {
            view: "no-such-view".to_owned(),
        })
        .await
        .expect_err("absent")
        .message()
        .to_owned();
    absent = absent.replace("no-such-view", "partner-lifecycle");
    for role in Role::ALL {
        let mut client = node.intelligence(role, "ann");
        macro_rules! calls {
            ($($call:ident $request:ident,)*) => {$(
                let answer = client.$call(v1::$request::default()).await;
                match role {
                    Role::Admin | Role::PartnerAdmin | Role::PartnerManager => {
                        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
                        assert!(matches!(code, Code::Ok | Code::InvalidArgument), "{role:?} {code:?}");
                    }
                    Role::Member => {
                        assert_eq!(answer.expect_err("refused").code(), Code::PermissionDenied);
                    }
                    Role::Partner => {
                        let refused = answer.expect_err("refused");
                        assert_eq!(refused.code(), Code::NotFound);
                        assert_eq!(refused.message(), absent, "{}", stringify!($call));
                        assert_eq!(reason(&refused), "NOT_FOUND");
                    }
                }
            )*};
        }
        calls! {
            get_partner_lifecycle GetPartnerLifecycleRequest,
            get_partner_coverage GetPartnerCoverageRequest,
            list_coverage_gaps ListCoverageGapsRequest,
            compare_partner_tiers ComparePartnerTiersRequest,
            list_partner_strengths ListPartnerStrengthsRequest,
            list_areas_to_address ListAreasToAddressRequest,
            request_analysis_refresh RequestAnalysisRefreshRequest,
            list_analysis_refresh_requests ListAnalysisRefreshRequestsRequest,
        }
    }
    let refused = node
        .intelligence(Role::Partner, "bob")
        .get_view_preferences(v1::GetViewPreferencesRequest {
            view: "partner-lifecycle".to_owned(),
        })
        .await
        .expect_err("absent");
    assert_eq!(refused.message(), absent);
    let mut anonymous =
        v1::program_intelligence_service_client::ProgramIntelligenceServiceClient::new(
            node.anonymous(),
        );
    let refused = anonymous
        .get_partner_lifecycle(v1::GetPartnerLifecycleRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

fn three_profiles() -> Vec<v1::Record> {
    let owned =
        |values: &[&str]| -> Vec<String> { values.iter().map(|&value| value.to_owned()).collect() };
    vec![
        profile_with("p1", PartnerType::Reseller, "2025-01-01", |profile| {
            "recruited".clone_into(&mut profile.lifecycle_stage);
            "active".clone_into(&mut profile.status);
            "VAR".clone_into(&mut profile.subtype);
            "gold".clone_into(&mut profile.tier);
            profile.regions = owned(&["EMEA", "emea", "APAC"]);
            profile.offerings = owned(&["Services"]);
        }),
        profile_with("p2", PartnerType::Referral, "2025-01-01", |profile| {
            "recruited".clone_into(&mut profile.lifecycle_stage);
            "active".clone_into(&mut profile.status);
            "var".clone_into(&mut profile.subtype);
            "gold".clone_into(&mut profile.tier);
            profile.regions = owned(&["Emea"]);
        }),
        profile_with("p3", PartnerType::Reseller, "2025-01-01", |profile| {
            "producing".clone_into(&mut profile.lifecycle_stage);
            "var".clone_into(&mut profile.subtype);
            "silver".clone_into(&mut profile.tier);
        }),
    ]
}

/// I-14: per stage and status, with the percentage of all profiles.
#[tokio::test]
async fn i14_lifecycle() {
    let node = Node::start(NOW).await;
    node.ingest(three_profiles()).await.expect("stored");
    let answer = node
        .intelligence(Role::PartnerManager, "ann")
        .get_partner_lifecycle(v1::GetPartnerLifecycleRequest::default())
        .await
        .expect("cards")
        .into_inner();
    let rows = |cards: &[v1::LifecycleCard]| -> Vec<(String, u64, i64)> {
        cards
            .iter()
            .map(|card| {
                let percent = card.percent.expect("set");
                (card.label.clone(), card.partners, percent.round() as i64)
            })
            .collect()
    };
    assert_eq!(
        rows(&answer.stages),
        [
            ("recruited".to_owned(), 2, 67),
            ("producing".to_owned(), 1, 33)
        ]
    );
    assert_eq!(
        rows(&answer.statuses),
        [("active".to_owned(), 2, 67), ("UNKNOWN".to_owned(), 1, 33)]
    );
    assert_eq!(answer.profiles, 3);
}

/// I-15 to I-19: coverage, case-folded, subtypes within their type; gaps against a reference list.
#[tokio::test]
async fn i15_to_i19_coverage() {
    let node = Node::start(NOW).await;
    node.ingest(three_profiles()).await.expect("stored");
    let mut client = node.intelligence(Role::Admin, "ann");
    let mut ask = async |dimension: CoverageDimension| {
        let answer = client
            .get_partner_coverage(v1::GetPartnerCoverageRequest {
                filter: None,
                dimension: dimension as i32,
            })
            .await
            .expect("coverage")
            .into_inner();
        let rows: Vec<(String, PartnerType, u64)> = answer
            .entries
            .iter()
            .map(|entry| (entry.value.clone(), entry.r#type(), entry.partners))
            .collect();
        (rows, answer.multi_valued)
    };
    let any = PartnerType::Unspecified;
    assert_eq!(
        ask(CoverageDimension::Region).await,
        (
            vec![("EMEA".to_owned(), any, 2), ("APAC".to_owned(), any, 1)],
            true
        )
    );
    assert_eq!(
        ask(CoverageDimension::Subtype).await,
        (
            vec![
                ("VAR".to_owned(), PartnerType::Reseller, 2),
                ("var".to_owned(), PartnerType::Referral, 1)
            ],
            false
        )
    );
    assert_eq!(ask(CoverageDimension::Vertical).await, (vec![], true));
    assert_eq!(
        ask(CoverageDimension::Offering).await,
        (vec![("Services".to_owned(), any, 1)], true)
    );
    let gaps = client
        .list_coverage_gaps(v1::ListCoverageGapsRequest {
            filter: None,
            dimension: CoverageDimension::Region as i32,
            reference: ["emea", "LATAM"].map(str::to_owned).to_vec(),
            least_partners: 0,
        })
        .await
        .expect("gaps")
        .into_inner();
    assert_eq!(
        gaps.gaps,
        [v1::CoverageGap {
            value: "LATAM".to_owned(),
            partners: 0
        }]
    );
    assert_eq!(gaps.unlisted, ["APAC"]);
}

/// I-21: gold is all early; silver's one late partner closed nothing in P.
#[tokio::test]
async fn i21_tiers() {
    let node = Node::start(NOW).await;
    node.ingest(three_profiles()).await.expect("stored");
    let ask = async || {
        let tiers = node
            .intelligence(Role::Admin, "ann")
            .compare_partner_tiers(v1::ComparePartnerTiersRequest {
                filter: period("2026-01-01", "2026-04-01"),
                ..Default::default()
            })
            .await
            .expect("tiers")
            .into_inner()
            .tiers;
        tiers
            .into_iter()
            .map(|tier| {
                (
                    tier.tier,
                    tier.partners,
                    tier.early_stage_concentration,
                    tier.slow_late_stage_value,
                )
            })
            .collect::<Vec<_>>()
    };
    let row = |tier: &str, partners, early, slow| (tier.to_owned(), partners, early, slow);
    assert_eq!(
        ask().await,
        [row("gold", 2, true, false), row("silver", 1, false, true)]
    );
    node.ingest(vec![deal("d", |deal| {
        "p3".clone_into(&mut deal.partner);
        deal.outcome = v1::DealOutcome::Won as i32;
        deal.closed_at = day("2026-02-01");
    })])
    .await
    .expect("stored");
    assert_eq!(ask().await[1], row("silver", 1, false, false));
}

fn tile(tile: &str, visible: bool) -> TilePreference {
    TilePreference {
        tile: tile.to_owned(),
        visible,
    }
}

/// I-03, I-20: a user's choice is its own; an administrator's holds for those who did not choose.
#[tokio::test]
async fn i03_i20_preferences() {
    let node = Node::start(NOW).await;
    let update = async |role: Role, user: &str, tile: TilePreference, everyone: bool| {
        node.intelligence(role, user)
            .update_view_preferences(v1::UpdateViewPreferencesRequest {
                view: "program".to_owned(),
                tiles: vec![tile],
                everyone,
            })
            .await
    };
    let sees = async |user: &str, wanted: &str| -> bool {
        let tiles = node
            .intelligence(Role::PartnerManager, user)
            .get_view_preferences(v1::GetViewPreferencesRequest {
                view: "program".to_owned(),
            })
            .await
            .expect("tiles")
            .into_inner()
            .tiles;
        tiles
            .into_iter()
            .find(|tile| tile.tile == wanted)
            .expect("a tile")
            .visible
    };
    let metric = "sales_cycle";
    update(Role::PartnerManager, "ann", tile(metric, false), false)
        .await
        .expect("updated");
    assert!(!sees("ann", metric).await);
    assert!(sees("bob", metric).await);
    // The clock stands still, and still the later choice wins.
    update(Role::PartnerManager, "ann", tile(metric, true), false)
        .await
        .expect("updated");
    assert!(sees("ann", metric).await);
    update(Role::Admin, "root", tile(metric, false), true)
        .await
        .expect("updated");
    assert!(sees("ann", metric).await);
    assert!(!sees("bob", metric).await);
    let refused = update(Role::PartnerAdmin, "eve", tile(metric, true), true)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = update(Role::Admin, "root", tile("weather", true), false)
        .await
        .expect_err("refused");
    assert_eq!(violations(&refused)[0].0, "tiles[0].tile");
    // The platform's own records are choices too; the latest counts.
    node.ingest(vec![v1::Record {
        updated_at: Some(time("2026-03-31T13:00:00Z")),
        ..record(
            "pushed",
            Content::ViewPreference(v1::ViewPreferenceRecord {
                user: "bob".to_owned(),
                view: "program".to_owned(),
                tile: metric.to_owned(),
                visible: true,
            }),
        )
    }])
    .await
    .expect("stored");
    assert!(sees("bob", metric).await);
}

/// I-02: a card has a label, a value, a description and a tone; hidden ones are left out; a loss is red.
#[tokio::test]
async fn i02_cards() {
    let node = Node::start(NOW).await;
    node.ingest(vec![
        deal("d", |deal| {
            deal.origination = v1::DealOrigination::Sourced as i32;
            "p1".clone_into(&mut deal.partner);
            deal.amount = euros(1250);
            deal.outcome = v1::DealOutcome::Won as i32;
            deal.closed_at = day("2026-02-01");
        }),
        record(
            "c",
            Content::ChannelCost(v1::ChannelCostRecord {
                amount: euros(2500),
                incurred_at: day("2026-02-01"),
                ..Default::default()
            }),
        ),
    ])
    .await
    .expect("stored");
    node.intelligence(Role::PartnerManager, "ann")
        .update_view_preferences(v1::UpdateViewPreferencesRequest {
            view: "program".to_owned(),
            tiles: vec![tile("won_deals", false)],
            everyone: false,
        })
        .await
        .expect("updated");
    let cards = node
        .intelligence(Role::PartnerManager, "ann")
        .list_metric_cards(v1::ListMetricCardsRequest {
            filter: period("2026-01-01", "2026-04-01"),
        })
        .await
        .expect("cards")
        .into_inner()
        .cards;
    let card = |id: &str| {
        cards
            .iter()
            .find(|card| card.metric.as_ref().is_some_and(|metric| metric.id == id))
    };
    let revenue = card("sourced_closed_revenue").expect("a card");
    assert_eq!(
        (
            revenue.label.as_str(),
            revenue.value.as_str(),
            revenue.tone()
        ),
        ("Closed revenue", "1,250.00 EUR", v1::CardTone::Green)
    );
    assert!(!revenue.description.is_empty());
    let channel = card("channel_return").expect("a card");
    assert_eq!(
        (channel.value.as_str(), channel.tone()),
        ("EUR: 50.0%", v1::CardTone::Red)
    );
    assert_eq!(card("registration_win_rate").expect("a card").value, "n/a");
    assert!(card("won_deals").is_none());
}
