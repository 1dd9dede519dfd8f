//! K-35: the same records give the same numbers, whatever the order, the number of calls, the versions that come late and the
//! duplicates; and those numbers are the ones a slow, readable model gives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, sync::Arc};

use overlap_proto::v1::{
    self, DealOrigination as Origination, DealOutcome as Outcome, record::Content,
};
use overlap_server::{
    program::{
        answer,
        definitions::MetricId,
        facts::Facts,
        metrics::{self, Quantity},
        reports,
        view::{Period, Scope, View},
    },
    records::{
        Batch,
        times::{self, DAY, Nanos},
    },
    storage::Store,
};
use proptest::prelude::*;

/// 2026-01-01; P is the 30 days from then on, seen from their end.
const START: Nanos = 20_454 * DAY;
const P: Period = Period {
    start: START,
    end: START + 30 * DAY,
    as_of: START + 30 * DAY,
};
const NOW: Nanos = START + 40 * DAY;

/// What a version of a record says, in small numbers that are made into the messages of every kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    id: u8,
    /// When it was changed or, for events, when it happened: days after START.
    stamp: u8,
    deleted: bool,
    units: i64,
    /// 0 open, 1 won, 2 lost; closed on `day`.
    outcome: u8,
    sourced: bool,
    day: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Deal,
    Training,
    Cost,
    Event,
}

const KINDS: [What; 4] = [What::Deal, What::Training, What::Cost, What::Event];

fn at(day: u8) -> Option<prost_types::Timestamp> {
    Some(times::to_proto(START + Nanos::from(day) * DAY))
}

impl Version {
    fn record(&self, what: What) -> v1::Record {
        let partner = format!("p{}", self.id % 2);
        let money = Some(v1::Money {
            currency_code: "EUR".to_owned(),
            units: self.units,
            nanos: 0,
        });
        let content = match what {
            What::Deal => Content::Deal(v1::DealRecord {
                partner,
                amount: money,
                origination: if self.sourced {
                    Origination::Sourced
                } else {
                    Origination::Direct
                }
                .into(),
                r#type: v1::DealType::New.into(),
                opened_at: at(0),
                closed_at: if self.outcome == 0 {
                    None
                } else {
                    at(self.day)
                },
                outcome: [Outcome::Open, Outcome::Won, Outcome::Lost][usize::from(self.outcome)]
                    .into(),
                ..Default::default()
            }),
            What::Training => Content::Training(v1::TrainingRecord {
                partner,
                course: "Basics".to_owned(),
                assigned_at: at(self.day),
                completed_at: if self.outcome == 1 {
                    at(self.day)
                } else {
                    None
                },
                ..Default::default()
            }),
            What::Cost => Content::ChannelCost(v1::ChannelCostRecord {
                partner,
                category: "events".to_owned(),
                amount: money,
                incurred_at: at(self.day),
            }),
            What::Event => Content::EcosystemEvent(v1::EcosystemEventRecord {
                partner,
                r#type: v1::EcosystemEventType::Install.into(),
                at: at(self.stamp),
                quantity: self.units.unsigned_abs(),
                ..Default::default()
            }),
        };
        v1::Record {
            id: format!("r{}", self.id),
            updated_at: at(self.stamp),
            deleted: self.deleted && what != What::Event,
            content: Some(content),
        }
    }
}

fn versions() -> impl Strategy<Value = Vec<Version>> {
    let version = (
        0_u8..5,
        0_u8..9,
        0_u8..8,
        1_i64..100,
        0_u8..3,
        any::<bool>(),
        0_u8..35,
    );
    let version = version.prop_map(
        |(id, stamp, deleted, units, outcome, sourced, day)| Version {
            id,
            stamp,
            deleted: deleted == 0,
            units,
            outcome,
            sourced,
            day,
        },
    );
    prop::collection::vec(version, 1..40)
}

type Answers = (Vec<v1::Metric>, v1::GetEcosystemSignalsResponse);

fn answers(calls: &[&[(What, Version)]]) -> (Answers, BTreeMap<&'static str, (i128, i128)>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for call in calls {
        let mut batch = Batch::new(NOW);
        for (what, version) in *call {
            let record = version.record(*what);
            batch.push(record, |_, field| field.to_owned()).unwrap();
        }
        batch.store(&store).unwrap();
    }
    store
        .read_blocking(|connection| {
            let facts = Facts::load(connection)?;
            let view = View::all(&facts, Arc::default());
            let signals = reports::ecosystem(connection, &Scope::All, &P)?;
            let mut found = BTreeMap::new();
            for (name, metric) in [
                ("sourced_pipeline", MetricId::SourcedPipeline),
                ("sourced_closed_revenue", MetricId::SourcedClosedRevenue),
                ("won_deals", MetricId::WonDeals),
                ("training_completion", MetricId::TrainingCompletion),
                ("channel_return", MetricId::ChannelReturn),
            ] {
                let size = |quantity| match quantity {
                    Quantity::Count(count) => i128::from(count),
                    Quantity::Money(money) => money.amount / 1_000_000_000,
                    Quantity::Duration(nanos) => nanos,
                };
                let value = metrics::read(metric, &view, &P).values.first().copied();
                let numerator = value.map_or(0, |value| size(value.numerator));
                let denominator = value.and_then(|value| value.denominator).map_or(0, size);
                found.insert(name, (numerator, denominator));
            }
            let events = signals.signals.first().map_or(0, |signal| signal.quantity);
            found.insert("installs", (events.into(), 0));
            let metrics = answer::metrics(MetricId::ALL, &view, &P);
            Ok(((metrics, signals), found))
        })
        .unwrap()
}

/// The rules as one would read them aloud.
fn model(versions: &[Version]) -> BTreeMap<&'static str, (i128, i128)> {
    let mut latest: BTreeMap<u8, &Version> = BTreeMap::new();
    let mut earliest = latest.clone();
    for version in versions {
        let late = latest.entry(version.id).or_insert(version);
        if version.stamp > late.stamp {
            *late = version;
        }
        let early = earliest.entry(version.id).or_insert(version);
        if version.stamp < early.stamp {
            *early = version;
        }
    }
    let (mut pipeline, mut closed, mut won) = (0, 0, 0);
    let (mut assigned, mut completed) = (0, 0);
    let (mut cost, mut revenue) = (0, 0);
    for version in latest.values().filter(|version| !version.deleted) {
        let units = i128::from(version.units);
        let in_p = version.day < 30;
        // Opened on the first day; open unless closed by the end of P, which is as_of.
        let is_open = version.outcome == 0 || version.day > 30;
        if version.sourced && is_open {
            pipeline += units;
        }
        if version.outcome == 1 && in_p {
            won += 1;
            if version.sourced {
                closed += units;
                revenue += units;
            }
        }
        if in_p {
            assigned += 1;
            completed += i128::from(version.outcome == 1);
            cost += units;
        }
    }
    let installs = earliest.values().map(|event| i128::from(event.units)).sum();
    BTreeMap::from([
        ("sourced_pipeline", (pipeline, 0)),
        ("sourced_closed_revenue", (closed, 0)),
        ("won_deals", (won, 0)),
        ("training_completion", (completed, assigned)),
        ("channel_return", (revenue, cost)),
        ("installs", (installs, 0)),
    ])
}

/// Every version of every kind, in an order that a seed decides, a quarter of them twice.
fn shuffled(versions: &[Version], seed: u64) -> Vec<(What, Version)> {
    let mut all: Vec<_> = KINDS
        .iter()
        .flat_map(|&what| versions.iter().map(move |version| (what, version.clone())))
        .collect();
    all.extend_from_within(..all.len() / 4);
    let mut state = seed | 1;
    for at in (1..all.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        all.swap(at, (state >> 33) as usize % (at + 1));
    }
    all
}

fn in_calls(all: &[(What, Version)], calls: usize) -> Vec<&[(What, Version)]> {
    all.chunks(all.len().div_ceil(calls)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Versions of one id differ in when they were made.
    #[test]
    fn k35_late_duplicate_and_unordered_versions_give_the_numbers_of_the_model(
        versions in versions(),
        seed in any::<u64>(),
        calls in 1_usize..6,
    ) {
        let mut distinct: BTreeMap<(u8, u8), Version> = BTreeMap::new();
        for version in versions {
            distinct.entry((version.id, version.stamp)).or_insert(version);
        }
        let distinct: Vec<Version> = distinct.into_values().collect();
        let all = shuffled(&distinct, seed);
        let (_, found) = answers(&in_calls(&all, calls));
        prop_assert_eq!(found, model(&distinct));
    }

    /// Even of versions made at one instant, which one counts does not depend on the order.
    #[test]
    fn k35_order_and_calls_do_not_matter(
        versions in versions(),
        seeds in any::<[u64; 2]>(),
        calls in 1_usize..6,
    ) {
        let [one, other] = seeds.map(|seed| shuffled(&versions, seed));
        prop_assert_eq!(answers(&[&one]), answers(&in_calls(&other, calls)));
    }
}
