//! What profiles and analyses say about partners (I-02 to I-21).

use std::collections::{BTreeMap, HashSet};

use overlap_proto::v1::{self, CoverageDimension, MetricUnit, PartnerScore};

use super::{
    answer,
    breakdown::{self, UNKNOWN},
    definitions::MetricId,
    facts::Partner,
    view::{Period, View, same},
};
use crate::{convert::known, error::Error};

/// What people read while no partner was analysed (I-05).
pub const NO_STRENGTHS: &str = "No partner strengths have been analyzed yet";

/// What partners are good at (I-04, I-05).
#[must_use]
pub fn strengths(view: &View<'_>) -> v1::ListPartnerStrengthsResponse {
    // By folded label: label and description as the first partner (by id) has them, partners, sum of scores.
    let mut found: BTreeMap<String, (String, String, u64, u64)> = BTreeMap::new();
    for (partner, analysis) in &view.facts.analyses {
        if !view.scope.has(partner) {
            continue;
        }
        let mut seen = HashSet::new();
        for strength in &analysis.record.strengths {
            let folded = strength.label.to_lowercase();
            if !seen.insert(folded.clone()) {
                continue;
            }
            let entry = found
                .entry(folded)
                .or_insert_with(|| (strength.label.clone(), strength.description.clone(), 0, 0));
            entry.2 += 1;
            entry.3 += u64::from(strength.score);
        }
    }
    let mut strengths: Vec<_> = found.into_values().collect();
    strengths.sort_by(|one, other| {
        // Means as exact fractions.
        other
            .2
            .cmp(&one.2)
            .then_with(|| (other.3 * one.2).cmp(&(one.3 * other.2)))
            .then_with(|| one.0.cmp(&other.0))
    });
    let empty_reason = if strengths.is_empty() {
        NO_STRENGTHS
    } else {
        ""
    };
    v1::ListPartnerStrengthsResponse {
        strengths: strengths
            .into_iter()
            .map(
                |(label, description, partners, scores)| v1::PartnerStrength {
                    label,
                    description,
                    partners,
                    average_score: scores as f64 / partners as f64,
                },
            )
            .collect(),
        empty_reason: empty_reason.to_owned(),
    }
}

/// Scores of the four Cs below a limit, lowest first; a missing score is not one (I-07, I-08).
///
/// # Errors
/// `INVALID_ARGUMENT` for an unknown score or a limit above 100.
pub fn areas(
    view: &View<'_>,
    request: &v1::ListAreasToAddressRequest,
) -> Result<Vec<v1::AreaToAddress>, Error> {
    let below = request.below.unwrap_or(50);
    if below > 101 {
        return Err(Error::invalid("below", "must be at most 101"));
    }
    let wanted = known("scores", &request.scores, PartnerScore::as_str_name)?;
    let mut areas = Vec::new();
    for (partner, analysis) in &view.facts.analyses {
        if !view.scope.has(partner) {
            continue;
        }
        let record = &analysis.record;
        let name = view
            .partners
            .iter()
            .find(|known| known.id == *partner)
            .map_or(partner, |known| &known.profile.name);
        for (score, value) in [
            (PartnerScore::Capacity, record.capacity),
            (PartnerScore::Capability, record.capability),
            (PartnerScore::Commitment, record.commitment),
            (PartnerScore::CustomerAlignment, record.customer_alignment),
        ] {
            if let Some(value) = value.filter(|&value| value < below)
                && (wanted.is_empty() || wanted.contains(&score))
            {
                areas.push(v1::AreaToAddress {
                    partner: partner.clone(),
                    name: name.clone(),
                    score: score as i32,
                    value,
                });
            }
        }
    }
    areas.sort_by(|one, other| {
        (one.value, &one.partner, one.score).cmp(&(other.value, &other.partner, other.score))
    });
    Ok(areas)
}

fn percent(part: u64, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

/// Partners by lifecycle stage and status (I-14).
#[must_use]
pub fn lifecycle(view: &View<'_>) -> v1::GetPartnerLifecycleResponse {
    let cards = |value: fn(&Partner) -> &str| {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for partner in &view.partners {
            let value = value(partner);
            let value = if value.is_empty() { UNKNOWN } else { value };
            *counts.entry(value).or_default() += 1;
        }
        let mut cards: Vec<v1::LifecycleCard> = counts
            .into_iter()
            .map(|(label, partners)| v1::LifecycleCard {
                label: label.to_owned(),
                partners,
                percent: percent(partners, view.partners.len()),
            })
            .collect();
        // They come by label; the sort keeps that order among equals.
        cards.sort_by_key(|card| std::cmp::Reverse(card.partners));
        cards
    };
    v1::GetPartnerLifecycleResponse {
        stages: cards(|partner| &partner.profile.lifecycle_stage),
        statuses: cards(|partner| &partner.profile.status),
        profiles: view.partners.len() as u64,
    }
}

/// What a partner covers in a dimension.
fn covered(partner: &Partner, dimension: CoverageDimension) -> &[String] {
    let profile = &partner.profile;
    match dimension {
        CoverageDimension::Region => &profile.regions,
        CoverageDimension::Vertical => &profile.verticals,
        CoverageDimension::Offering => &profile.offerings,
        CoverageDimension::Subtype if !profile.subtype.is_empty() => {
            std::slice::from_ref(&profile.subtype)
        }
        CoverageDimension::Subtype | CoverageDimension::Unspecified => &[],
    }
}

/// The dimension the API means.
///
/// # Errors
/// `INVALID_ARGUMENT` if it names none.
pub fn coverage_dimension(code: i32) -> Result<CoverageDimension, Error> {
    CoverageDimension::try_from(code)
        .ok()
        .filter(|&dimension| dimension != CoverageDimension::Unspecified)
        .ok_or_else(|| Error::invalid("dimension", "must be REGION, SUBTYPE, VERTICAL or OFFERING"))
}

/// How many partners cover each value (I-15 to I-18).
#[must_use]
pub fn coverage(view: &View<'_>, dimension: CoverageDimension) -> v1::GetPartnerCoverageResponse {
    // By folded value, and by type where subtypes are counted: the value as first written, and the partners.
    let mut counts: BTreeMap<(String, i32), (String, u64)> = BTreeMap::new();
    for partner in &view.partners {
        let kind = match dimension {
            CoverageDimension::Subtype => partner.profile.r#type,
            _ => 0,
        };
        let mut seen = HashSet::new();
        for value in covered(partner, dimension) {
            let folded = value.to_lowercase();
            if seen.insert(folded.clone()) {
                counts
                    .entry((folded, kind))
                    .or_insert_with(|| (value.clone(), 0))
                    .1 += 1;
            }
        }
    }
    let mut entries: Vec<v1::CoverageEntry> = counts
        .into_iter()
        .map(|((_, kind), (value, partners))| v1::CoverageEntry {
            value,
            r#type: kind,
            partners,
            percent: percent(partners, view.partners.len()),
        })
        .collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.partners));
    v1::GetPartnerCoverageResponse {
        entries,
        multi_valued: dimension != CoverageDimension::Subtype,
        profiles: view.partners.len() as u64,
    }
}

/// Values of a reference list that too few partners cover (I-19).
#[must_use]
pub fn gaps(
    view: &View<'_>,
    dimension: CoverageDimension,
    request: &v1::ListCoverageGapsRequest,
) -> v1::ListCoverageGapsResponse {
    let least = request.least_partners.max(1);
    let mut partners: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for entry in coverage(view, dimension).entries {
        partners
            .entry(entry.value.to_lowercase())
            .or_insert_with(|| (entry.value, 0))
            .1 += entry.partners;
    }
    let mut seen = HashSet::new();
    let gaps = request
        .reference
        .iter()
        .filter(|value| seen.insert(value.to_lowercase()))
        .filter_map(|value| {
            let count = partners
                .get(&value.to_lowercase())
                .map_or(0, |known| known.1);
            (count < u64::from(least)).then(|| v1::CoverageGap {
                value: value.clone(),
                partners: count,
            })
        })
        .collect();
    let unlisted = partners
        .into_iter()
        .filter(|(folded, _)| !seen.contains(folded))
        .map(|(_, (value, _))| value)
        .collect();
    v1::ListCoverageGapsResponse { gaps, unlisted }
}

/// Tiers side by side (I-21).
#[must_use]
pub fn tiers(
    view: &View<'_>,
    period: &Period,
    request: &v1::ComparePartnerTiersRequest,
) -> v1::ComparePartnerTiersResponse {
    let stages = |chosen: &[String], default: [&str; 2]| -> Vec<String> {
        if chosen.is_empty() {
            default.map(str::to_owned).to_vec()
        } else {
            chosen.to_vec()
        }
    };
    let early = stages(&request.early_stages, ["recruited", "onboarding"]);
    let late = stages(&request.late_stages, ["producing", "mature"]);
    let sellers: HashSet<&str> = view
        .deals
        .iter()
        .filter(|deal| deal.is_won_in(period))
        .map(|deal| deal.partner.as_str())
        .collect();
    let tiers = breakdown::groups(view, v1::MetricDimension::Tier)
        .into_iter()
        .map(|group| {
            let in_stage = |stages: &[String]| -> Vec<&Partner> {
                let is_in = |partner: &&&Partner| {
                    stages
                        .iter()
                        .any(|stage| same(stage, &partner.profile.lifecycle_stage))
                };
                group.view.partners.iter().filter(is_in).copied().collect()
            };
            let partners = group.view.partners.len();
            let (early, late) = (in_stage(&early), in_stage(&late));
            let slow = late
                .iter()
                .filter(|partner| !sellers.contains(partner.id.as_str()))
                .count();
            v1::TierComparison {
                tier: group.value,
                partners: partners as u64,
                early_partners: early.len() as u64,
                late_partners: late.len() as u64,
                metrics: answer::metrics(
                    &[
                        MetricId::SourcedPipeline,
                        MetricId::SourcedClosedRevenue,
                        MetricId::RegistrationWinRate,
                        MetricId::ActivePartnerRate,
                    ],
                    &group.view,
                    period,
                ),
                early_stage_concentration: 2 * early.len() > partners,
                slow_late_stage_value: 2 * slow > late.len(),
            }
        })
        .collect();
    v1::ComparePartnerTiersResponse { tiers }
}

/// A metric as a card (I-02).
#[must_use]
pub fn card(id: MetricId, metric: v1::Metric) -> v1::MetricCard {
    use MetricId as M;
    let tone = match id {
        M::SourcedPipeline
        | M::OpenPipeline
        | M::SourcedOpportunities
        | M::RegistrationsSubmitted => v1::CardTone::Blue,
        M::SourcedClosedRevenue
        | M::InfluencedRevenue
        | M::InfluencedNotSourcedRevenue
        | M::RenewalRevenue
        | M::ExpansionRevenue
        | M::WonRevenue
        | M::WonDeals
        | M::AverageDealSize
        | M::PartnerShare => v1::CardTone::Green,
        M::ChannelReturn | M::ChannelNet | M::ChannelMarginReturn | M::ChannelMarginNet => {
            let at_a_loss = metric.values.iter().any(|value| {
                value.value.is_some_and(|value| match metric.unit() {
                    MetricUnit::Ratio => value < 1.0,
                    _ => value < 0.0,
                })
            });
            if at_a_loss {
                v1::CardTone::Red
            } else {
                v1::CardTone::Green
            }
        }
        M::IncentiveUtilisation
        | M::MdfUtilisation
        | M::RebateUtilisation
        | M::PayoutReadiness
        | M::SalesCycle => v1::CardTone::Orange,
        _ => v1::CardTone::Purple,
    };
    let definition = id.definition();
    v1::MetricCard {
        label: definition.label.to_owned(),
        value: text(&metric),
        description: definition.text.to_owned(),
        tone: tone as i32,
        metric: Some(metric),
    }
}

/// A metric as people read it; "n/a" where it is unset.
fn text(metric: &v1::Metric) -> String {
    let values: Vec<String> = metric
        .values
        .iter()
        .filter_map(|value| {
            let number = value.value?;
            let text = match metric.unit() {
                MetricUnit::Ratio => format!("{:.1}%", number * 100.0),
                MetricUnit::Days => format!("{number:.1} days"),
                MetricUnit::Seconds => format!("{number:.0} s"),
                MetricUnit::Money => grouped(number),
                _ => format!("{number:.0}"),
            };
            Some(match (value.currency_code.as_str(), metric.unit()) {
                ("", _) => text,
                (code, MetricUnit::Money) => format!("{text} {code}"),
                (code, _) => format!("{code}: {text}"),
            })
        })
        .collect();
    if values.is_empty() {
        "n/a".to_owned()
    } else {
        values.join(", ")
    }
}

/// Two decimals and commas between thousands.
fn grouped(number: f64) -> String {
    let plain = format!("{:.2}", number.abs());
    let (units, cents) = plain.split_once('.').unwrap_or((&plain, "00"));
    let mut text = String::new();
    for (at, digit) in units.chars().enumerate() {
        if at > 0 && (units.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{text}.{cents}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i02_money_reads_well() {
        assert_eq!(grouped(1_234_567.5), "1,234,567.50");
        assert_eq!(grouped(-999.0), "-999.00");
        assert_eq!(grouped(0.0), "0.00");
    }
}
