//! Metrics by dimension, by calendar period, by stage (K-17 to K-20, K-22, K-23, I-09 to I-11).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use overlap_proto::v1::{self, MetricDimension as Dimension};

use super::{
    answer,
    context::Context,
    definitions::{self, MetricId},
    facts::{Deal, Partner},
    metrics::{Quantity, Reading, Value},
    view::{Filter, Period, Scope, View},
};
use crate::{
    error::Error,
    records::{
        calendar::{self, Days, Unit},
        kind::Kind,
        times::Nanos,
    },
};

/// What stands for a value that a record does not have.
pub const UNKNOWN: &str = "UNKNOWN";

/// The part of a view that has one value of a dimension.
pub struct Group<'a> {
    /// The value.
    pub value: String,
    /// What people read.
    pub label: String,
    /// The part.
    pub view: View<'a>,
}

/// The dimension the API means.
///
/// # Errors
/// `INVALID_ARGUMENT` if it names none, or a deal's for a metric that is not about deals.
pub fn dimension(field: &str, code: i32, metrics: &[MetricId]) -> Result<Dimension, Error> {
    let dimension = Dimension::try_from(code)
        .ok()
        .filter(|&dimension| dimension != Dimension::Unspecified)
        .ok_or_else(|| Error::invalid(field, "must be set to a known dimension"))?;
    if is_of_deals(dimension)
        && let Some(metric) = metrics.iter().find(|metric| !metric.is_about_deals())
    {
        return Err(Error::invalid(
            field,
            format!(
                "{} is not about deals alone, so it takes a dimension of partners",
                metric.name()
            ),
        ));
    }
    Ok(dimension)
}

/// Whether one record may be in several groups: by a partner's values, or as a deal that several partners influenced.
#[must_use]
pub fn is_multi_valued(dimension: Dimension, metrics: &[MetricId]) -> bool {
    use MetricId as M;
    let by_values = matches!(
        dimension,
        Dimension::PartnerRegion | Dimension::Vertical | Dimension::Specialisation
    );
    let by_influence = |metric: &MetricId| {
        matches!(
            metric,
            M::InfluencedRevenue
                | M::InfluencedNotSourcedRevenue
                | M::RenewalRevenue
                | M::ChannelReturn
                | M::ChannelNet
                | M::ChannelMarginReturn
                | M::ChannelMarginNet
                | M::WonRevenue
                | M::WonDeals
                | M::AverageDealSize
                | M::OpenPipeline
                | M::PartnerShare
        )
    };
    by_values || (!is_of_deals(dimension) && metrics.iter().any(by_influence))
}

const fn is_of_deals(dimension: Dimension) -> bool {
    matches!(
        dimension,
        Dimension::Account
            | Dimension::DealStage
            | Dimension::Region
            | Dimension::Territory
            | Dimension::Industry
            | Dimension::Product
            | Dimension::DealType
    )
}

/// A view, split by a dimension, by value.
#[must_use]
pub fn groups<'a>(view: &View<'a>, dimension: Dimension) -> Vec<Group<'a>> {
    if is_of_deals(dimension) {
        return deal_groups(view, dimension);
    }
    let mut members: BTreeMap<String, (String, HashSet<&'a str>)> = BTreeMap::new();
    let mut described = HashSet::new();
    for partner in &view.partners {
        described.insert(partner.id.as_str());
        for value in partner_values(view, partner, dimension) {
            let label = match dimension {
                Dimension::Partner => partner.profile.name.clone(),
                _ => value.clone(),
            };
            members
                .entry(value)
                .or_insert_with(|| (label, HashSet::new()))
                .1
                .insert(&partner.id);
        }
    }
    // Partners that no profile describes.
    for deal in &view.deals {
        for partner in std::iter::once(&deal.partner).chain(&deal.influencing_partners) {
            if view.scope.has(partner) && described.insert(partner) {
                let value = match dimension {
                    Dimension::Partner => partner.clone(),
                    _ => UNKNOWN.to_owned(),
                };
                members
                    .entry(value.clone())
                    .or_insert_with(|| (value, HashSet::new()))
                    .1
                    .insert(partner);
            }
        }
    }
    split(view, members)
}

fn or_unknown(value: &str) -> String {
    if value.is_empty() { UNKNOWN } else { value }.to_owned()
}

fn partner_values(view: &View<'_>, partner: &Partner, dimension: Dimension) -> Vec<String> {
    let profile = &partner.profile;
    let several = |values: &[String]| -> Vec<String> {
        let mut values = values.to_vec();
        values.sort();
        values.dedup();
        if values.is_empty() {
            values.push(UNKNOWN.to_owned());
        }
        values
    };
    vec![match dimension {
        Dimension::Partner => partner.id.clone(),
        Dimension::Type => type_name(profile.r#type()).to_owned(),
        Dimension::Segment => or_unknown(&profile.segment),
        Dimension::Tier => or_unknown(&profile.tier),
        Dimension::Status => or_unknown(&profile.status),
        Dimension::PartnerStage => or_unknown(&profile.lifecycle_stage),
        Dimension::BusinessModel => or_unknown(&profile.business_model),
        Dimension::EngagementLevel => match view.activity.days.get(&partner.id) {
            None | Some(0) => "NONE",
            Some(1) => "LOW",
            Some(2..=4) => "MEDIUM",
            Some(_) => "HIGH",
        }
        .to_owned(),
        Dimension::PartnerRegion => return several(&profile.regions),
        Dimension::Vertical => return several(&profile.verticals),
        _ => return several(&profile.specialisations),
    }]
}

/// What people read for a partner type.
#[must_use]
pub const fn type_name(kind: v1::PartnerType) -> &'static str {
    match kind {
        v1::PartnerType::Referral => "REFERRAL",
        v1::PartnerType::Reseller => "RESELLER",
        v1::PartnerType::Unspecified => UNKNOWN,
    }
}

/// One pass over the records, whatever the number of groups.
fn split<'a>(
    view: &View<'a>,
    members: BTreeMap<String, (String, HashSet<&'a str>)>,
) -> Vec<Group<'a>> {
    let mut of_partner: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (at, (value, (label, partners))) in members.into_iter().enumerate() {
        for &partner in &partners {
            of_partner.entry(partner).or_default().push(at);
        }
        groups.push(Group {
            value,
            label,
            view: View {
                scope: Scope::Only(Rc::new(partners)),
                ..view.emptied()
            },
        });
    }
    let of = |partner: &str| of_partner.get(partner).map_or(&[][..], Vec::as_slice);
    macro_rules! hand_out {
        ($field:ident, $partner:ident) => {
            for &record in &view.$field {
                for &group in of(&record.$partner) {
                    groups[group].view.$field.push(record);
                }
            }
        };
    }
    hand_out!(partners, id);
    hand_out!(trainings, partner);
    hand_out!(certifications, partner);
    hand_out!(incentives, partner);
    hand_out!(costs, partner);
    hand_out!(campaigns, partner);
    for &link in view.managed.iter() {
        for &group in of(&link.partner) {
            Rc::make_mut(&mut groups[group].view.managed).push(link);
        }
    }
    for &deal in &view.deals {
        for partner in std::iter::once(&deal.partner).chain(&deal.influencing_partners) {
            for &group in of(partner) {
                // Of one group, several partners may have to do with a deal: it is one deal.
                let deals = &mut groups[group].view.deals;
                if deals.last().is_none_or(|last| !std::ptr::eq(*last, deal)) {
                    deals.push(deal);
                }
            }
        }
    }
    groups
}

/// Groups of deals have what metrics about deals are made of, and nothing else: each deal is in one, all share the accounts.
fn deal_groups<'a>(view: &View<'a>, dimension: Dimension) -> Vec<Group<'a>> {
    let mut deals: BTreeMap<String, Vec<&'a Deal>> = BTreeMap::new();
    for &deal in &view.deals {
        let value = match dimension {
            Dimension::Account => &deal.customer,
            Dimension::DealStage => &deal.stage,
            Dimension::Region => &deal.region,
            Dimension::Territory => &deal.territory,
            Dimension::Industry => &deal.industry,
            Dimension::Product => &deal.product,
            _ => deal.kind.as_str_name(),
        };
        let value = value.strip_prefix("DEAL_TYPE_").unwrap_or(value);
        deals.entry(or_unknown(value)).or_default().push(deal);
    }
    deals
        .into_iter()
        .map(|(value, deals)| Group {
            label: value.clone(),
            value,
            view: View {
                is_part_of_deals: true,
                deals,
                managed: Rc::clone(&view.managed),
                ..view.emptied()
            },
        })
        .collect()
}

/// A group and its metrics.
#[must_use]
pub fn answer_group(group: &Group<'_>, metrics: &[MetricId], period: &Period) -> v1::MetricGroup {
    v1::MetricGroup {
        value: group.value.clone(),
        label: group.label.clone(),
        metrics: answer::metrics(metrics, &group.view, period),
    }
}

/// The calendar periods of P, clipped to it, with their labels.
///
/// # Errors
/// `INVALID_ARGUMENT` if there are too many.
pub fn calendar_periods(filter: &Filter, unit: Unit) -> Result<Vec<(String, Range<Nanos>)>, Error> {
    let period = &filter.period;
    if period.end <= period.start {
        return Ok(Vec::new());
    }
    let days = Days {
        first: calendar::date(period.start, &filter.zone),
        last: calendar::date(period.end - 1, &filter.zone),
        zone: filter.zone.clone(),
    };
    let pieces = days.cut(unit);
    if pieces.len() > 240 {
        return Err(Error::invalid("period", "gives more than 240 entries"));
    }
    pieces
        .into_iter()
        .map(|piece| {
            let span = piece.span()?;
            let clipped = span.start.max(period.start)..span.end.min(period.end);
            Ok((unit.label(piece.first), clipped))
        })
        .collect()
}

/// Metrics over successive calendar periods.
///
/// # Errors
/// `INVALID_ARGUMENT` if there are too many; what the store reports.
pub fn series(
    context: &Context<'_>,
    view: &View<'_>,
    metrics: &[MetricId],
    unit: Unit,
) -> Result<Vec<v1::MetricSeriesEntry>, Error> {
    let mut view = view.clone();
    calendar_periods(context.filter, unit)?
        .into_iter()
        .map(|(label, span)| {
            let period = context.filter.period.as_then(span.start, span.end);
            context.recall(&mut view, metrics, period.as_of)?;
            Ok(v1::MetricSeriesEntry {
                label,
                interval: Some(period.to_proto()),
                metrics: answer::metrics(metrics, &view, &period),
            })
        })
        .collect()
}

/// Of the deals that entered a stage in P, how many entered the next one, or any later one, by as_of (K-19).
#[must_use]
pub fn conversions(
    view: &View<'_>,
    period: &Period,
    stages: &[String],
) -> Vec<v1::StageConversion> {
    let stages = if stages.is_empty() {
        stages_in_order(view)
    } else {
        stages.to_vec()
    };
    let rank: HashMap<&str, usize> = stages
        .iter()
        .enumerate()
        .map(|(at, stage)| (stage.as_str(), at))
        .collect();
    stages
        .windows(2)
        .enumerate()
        .map(|(at, pair)| {
            let (mut entered, mut went_on) = (0_i64, 0_i64);
            for deal in &view.deals {
                let first = deal
                    .stage_changes
                    .iter()
                    .filter(|(stage, _)| *stage == pair[0])
                    .map(|&(_, when)| when)
                    .min();
                let Some(first) = first.filter(|&when| period.has(when)) else {
                    continue;
                };
                entered += 1;
                let converted = deal.stage_changes.iter().any(|(stage, when)| {
                    rank.get(stage.as_str()).is_some_and(|&rank| rank > at)
                        && *when >= first
                        && *when <= period.as_of
                });
                went_on += i64::from(converted);
            }
            let reading = Reading {
                values: vec![Value {
                    currency: None,
                    numerator: Quantity::Count(went_on),
                    denominator: Some(Quantity::Count(entered)),
                }],
                notes: Vec::new(),
            };
            let conversion = answer::message(
                &definitions::DERIVED[0],
                &[Kind::Deal],
                view,
                &reading,
                period,
            );
            v1::StageConversion {
                from_stage: pair[0].clone(),
                to_stage: pair[1].clone(),
                conversion: Some(conversion),
            }
        })
        .collect()
}

/// Stages by the mean position in the deals' histories, ties by name.
fn stages_in_order(view: &View<'_>) -> Vec<String> {
    let mut positions: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for deal in &view.deals {
        let mut changes: Vec<_> = deal.stage_changes.iter().collect();
        changes.sort_by_key(|(_, when)| *when);
        for (at, (stage, _)) in (0_u64..).zip(changes) {
            let position = positions.entry(stage).or_default();
            position.0 += at;
            position.1 += 1;
        }
    }
    let mut stages: Vec<_> = positions.into_iter().collect();
    // Means as exact fractions.
    stages.sort_by(|(_, one), (_, other)| (one.0 * other.1).cmp(&(other.0 * one.1)));
    stages
        .into_iter()
        .map(|(stage, _)| stage.to_owned())
        .collect()
}
