//! Reports that put several metrics together (K-24 to K-26, K-32 to K-34, K-36).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::ToSpan as _;
use overlap_proto::v1::{self, MetricDimension as Dimension, record::Content};
use rusqlite::Connection;

use super::{
    alerts, answer, breakdown,
    context::Context,
    definitions::MetricId,
    facts::IncentiveKind,
    metrics::{self, Quantity},
    targets,
    view::{Filter, Period, Scope, View},
};
use crate::{
    error::Error,
    records::{
        calendar::{self, Unit},
        kind::Kind,
        money::Money,
        store, times,
    },
};

/// Most records of one kind in a partner's overview.
const OVERVIEW_RECORDS: usize = 1000;

/// Metrics against their targets, and cohorts side by side (K-36).
///
/// # Errors
/// `INVALID_ARGUMENT` for an unknown metric or dimension; what the store reports.
pub fn compare(
    context: &Context<'_>,
    view: &View<'_>,
    request: &v1::CompareMetricsRequest,
) -> Result<v1::CompareMetricsResponse, Error> {
    let wanted = answer::parse(&request.metrics, view.metrics, &[])?;
    let period = &context.filter.period;
    let targets = targets::attainments(context, view, |target, metric| {
        period.overlaps(target.start, target.end) && (wanted.is_empty() || wanted.contains(&metric))
    })?;
    let mut cohorts = Vec::new();
    if request.cohort_dimension != Dimension::Unspecified as i32 {
        let metrics = if wanted.is_empty() {
            let targeted: BTreeSet<MetricId> = targets.iter().map(|one| one.metric).collect();
            targeted.into_iter().collect()
        } else {
            wanted
        };
        let dimension =
            breakdown::dimension("cohort_dimension", request.cohort_dimension, &metrics)?;
        cohorts = breakdown::groups(view, dimension)
            .iter()
            .map(|group| breakdown::answer_group(group, &metrics, period))
            .collect();
    }
    Ok(v1::CompareMetricsResponse {
        targets: targets.iter().map(|one| one.to_proto(view)).collect(),
        cohorts,
    })
}

/// Training, certifications, funds, payouts, campaigns, and the cohorts they make (K-24 to K-26).
#[must_use]
pub fn enablement(view: &View<'_>, period: &Period) -> v1::GetEnablementResponse {
    use MetricId as M;
    let enrolled = metrics::enrolled(view, period);
    let certified = metrics::certified(view, period, &enrolled);
    let funded: HashSet<&str> = view
        .incentives
        .iter()
        .filter(|one| {
            one.kind == IncentiveKind::Mdf
                && one.used.is_some_and(|used| used.amount > 0)
                && one.start < period.end
                && one.end > period.start
        })
        .map(|one| one.partner.as_str())
        .filter(|partner| enrolled.contains(partner))
        .collect();
    let not_certified = enrolled.difference(&certified).copied().collect();
    let not_funded = enrolled.difference(&funded).copied().collect();
    let cohorts = [
        ("not_certified", not_certified),
        ("certified", certified),
        ("not_funded", not_funded),
        ("funded", funded),
    ];
    let compared = [
        M::SourcedClosedRevenue,
        M::RegistrationWinRate,
        M::AverageDealSize,
        M::SourcedOpportunities,
    ];
    v1::GetEnablementResponse {
        metrics: answer::metrics(
            &[
                M::TrainingCompletion,
                M::CertifiedPartnerRate,
                M::MdfUtilisation,
                M::RebateUtilisation,
                M::PayoutReadiness,
                M::CampaignLeads,
            ],
            view,
            period,
        ),
        cohorts: cohorts
            .into_iter()
            .map(|(id, partners): (_, HashSet<&str>)| v1::EnablementCohort {
                id: id.to_owned(),
                partners: partners.len() as u64,
                metrics: answer::metrics(&compared, &view.of_partners(partners), period),
            })
            .collect(),
    }
}

/// The executive view (K-32).
///
/// # Errors
/// `INVALID_ARGUMENT` if the calendar is left; what the store reports.
pub fn executive(
    context: &Context<'_>,
    view: &View<'_>,
) -> Result<v1::GetExecutiveViewResponse, Error> {
    use MetricId as M;
    let filter = context.filter;
    let period = &filter.period;
    let (current, before) = quarters(filter)?;
    let quarter_over_quarter = [
        M::SourcedClosedRevenue,
        M::InfluencedRevenue,
        M::WonRevenue,
        M::RegistrationsSubmitted,
        M::SourcedOpportunities,
        M::WonDeals,
    ]
    .into_iter()
    .map(|metric| {
        let now = answer::metric(metric, view, &current);
        let was = answer::metric(metric, view, &before);
        let change = was
            .values
            .iter()
            .map(|old| {
                let is = now
                    .values
                    .iter()
                    .find(|value| value.currency_code == old.currency_code)
                    .and_then(|value| value.value)
                    .unwrap_or(0.0);
                v1::MetricValue {
                    currency_code: old.currency_code.clone(),
                    value: old
                        .value
                        .filter(|&was| was != 0.0)
                        .map(|was| (is - was) / was),
                    numerator: None,
                    denominator: None,
                }
            })
            .collect();
        v1::QuarterComparison {
            current: Some(now),
            previous: Some(was),
            change,
        }
    })
    .collect();
    let quarter = |back: i64| {
        let first = Unit::Quarter.first_day(calendar::date(period.as_of, &filter.zone));
        calendar::start_of_day(Unit::Quarter.step(first, -back), &filter.zone)
    };
    let year = filter.with_period(Period {
        start: quarter(3)?,
        end: period.as_of.saturating_add(1),
        as_of: period.as_of,
    });
    Ok(v1::GetExecutiveViewResponse {
        partner_share: Some(answer::metric(M::PartnerShare, view, period)),
        quarter_over_quarter,
        top: top_partners(view, period),
        at_risk: partners_at_risk(context, view)?,
        mix: breakdown::groups(view, Dimension::Type)
            .iter()
            .map(|group| breakdown::answer_group(group, &[M::SourcedClosedRevenue], period))
            .collect(),
        trend: breakdown::series(
            &Context {
                filter: &year,
                ..context.clone()
            },
            view,
            &[
                M::SourcedClosedRevenue,
                M::InfluencedRevenue,
                M::PartnerShare,
            ],
            Unit::Quarter,
        )?,
    })
}

/// The quarter of as_of up to as_of, and as many days of the one before.
fn quarters(filter: &Filter) -> Result<(Period, Period), Error> {
    let as_of = filter.period.as_of;
    let today = calendar::date(as_of, &filter.zone);
    let first = Unit::Quarter.first_day(today);
    let before = Unit::Quarter.step(first, -1);
    let days = i64::from((today - first).get_days()) + 1;
    let start = |day| calendar::start_of_day(day, &filter.zone);
    let until = before.saturating_add(days.days()).min(first);
    let current = Period {
        start: start(first)?,
        end: as_of.saturating_add(1),
        as_of,
    };
    Ok((current, current.over(start(before)?, start(until)?)))
}

fn standing(
    name: &str,
    partner: &str,
    revenue: Option<v1::MetricValue>,
    reasons: Vec<String>,
) -> v1::PartnerStanding {
    v1::PartnerStanding {
        partner: partner.to_owned(),
        name: name.to_owned(),
        revenue,
        reasons,
    }
}

fn top_partners(view: &View<'_>, period: &Period) -> Vec<v1::PartnerStanding> {
    let mut by_currency: BTreeMap<_, Vec<(i128, String, String, v1::MetricValue)>> =
        BTreeMap::new();
    for group in breakdown::groups(view, Dimension::Partner) {
        let reading = metrics::read(MetricId::SourcedClosedRevenue, &group.view, period);
        for value in reading.values {
            if let (Some(currency), Quantity::Money(money)) = (value.currency, value.numerator) {
                by_currency.entry(currency).or_default().push((
                    money.amount,
                    group.value.clone(),
                    group.label.clone(),
                    value.to_proto(),
                ));
            }
        }
    }
    let mut top = Vec::new();
    for (_, mut partners) in by_currency {
        partners.sort_by(|one, other| (other.0, &one.1).cmp(&(one.0, &other.1)));
        for (_, id, name, value) in partners.into_iter().take(5) {
            top.push(standing(&name, &id, Some(value), Vec::new()));
        }
    }
    top
}

fn partners_at_risk(
    context: &Context<'_>,
    view: &View<'_>,
) -> Result<Vec<v1::PartnerStanding>, Error> {
    let mut reasons: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for alert in alerts::alerts(context, view)? {
        if !alert.partner.is_empty() {
            let kind = alert.kind().as_str_name().trim_start_matches("ALERT_KIND_");
            reasons
                .entry(alert.partner.clone())
                .or_default()
                .insert(kind.to_owned());
        }
    }
    for partner in metrics::enrolled(view, &context.filter.period) {
        if !view.activity.days.contains_key(partner) {
            reasons
                .entry(partner.to_owned())
                .or_default()
                .insert("NO_PORTAL_ACTIVITY".to_owned());
        }
    }
    Ok(reasons
        .into_iter()
        .map(|(id, reasons)| {
            let profile = view.partners.iter().find(|partner| partner.id == id);
            let name = profile.map_or(id.as_str(), |partner| partner.profile.name.as_str());
            standing(name, &id, None, reasons.into_iter().collect())
        })
        .collect())
}

/// Everything one partner may know of itself (K-33); `view` is that partner's.
///
/// # Errors
/// What the store reports.
pub fn overview(
    context: &Context<'_>,
    view: &View<'_>,
    partner: &str,
) -> Result<v1::GetPartnerOverviewResponse, Error> {
    let connection = context.connection;
    let records = |kind| store::page(connection, kind, partner, "", OVERVIEW_RECORDS);
    let profile = store::find(connection, Kind::PartnerProfile, partner)?;
    Ok(v1::GetPartnerOverviewResponse {
        partner: partner.to_owned(),
        profile: match profile.and_then(|record| record.content) {
            Some(Content::PartnerProfile(profile)) => Some(profile),
            _ => None,
        },
        metrics: answer::metrics(view.metrics, view, &context.filter.period),
        deals: without_others(records(Kind::Deal)?, partner),
        incentives: records(Kind::Incentive)?,
        trainings: records(Kind::Training)?,
        certifications: records(Kind::Certification)?,
        alerts: alerts::alerts(context, view)?,
    })
}

/// Deals without what other partners had to do with them, and without my own margin.
fn without_others(mut deals: Vec<v1::Record>, partner: &str) -> Vec<v1::Record> {
    for record in &mut deals {
        if let Some(Content::Deal(deal)) = &mut record.content {
            deal.influencing_partners.retain(|one| one == partner);
            deal.gross_margin = None;
        }
    }
    deals
}

/// Ecosystem events in P by type (K-34).
///
/// # Errors
/// What the store reports.
pub fn ecosystem(
    connection: &Connection,
    scope: &Scope<'_>,
    period: &Period,
) -> Result<v1::GetEcosystemSignalsResponse, Error> {
    #[derive(Default)]
    struct Sum {
        events: u64,
        quantity: u64,
        partners: HashSet<String>,
        customers: HashSet<String>,
        amounts: crate::records::money::Purse,
    }
    let mut sums: BTreeMap<i32, Sum> = BTreeMap::new();
    // P without what came after as_of, which itself still counts.
    let until = period.end.min(period.as_of.saturating_add(1));
    store::ecosystem_events(connection, period.start, until, &mut |event| {
        if scope.has(&event.partner) {
            let sum = sums.entry(event.r#type).or_default();
            sum.events += 1;
            sum.quantity = sum.quantity.saturating_add(event.quantity.max(1));
            sum.partners.insert(event.partner);
            if !event.customer.is_empty() {
                sum.customers.insert(event.customer);
            }
            let amount = event.amount.as_ref();
            sum.amounts
                .extend(amount.and_then(|money| Money::parse(money).ok()));
        }
        Ok(())
    })?;
    Ok(v1::GetEcosystemSignalsResponse {
        signals: sums
            .into_iter()
            .map(|(kind, sum)| v1::EcosystemSignal {
                r#type: kind,
                events: sum.events,
                quantity: sum.quantity,
                partners: sum.partners.len() as u64,
                customers: sum.customers.len() as u64,
                amounts: sum
                    .amounts
                    .0
                    .iter()
                    .map(|(&currency, &amount)| Money { currency, amount }.to_proto())
                    .collect(),
            })
            .collect(),
        as_of: Some(times::to_proto(period.as_of)),
        data_through: store::ecosystem_through(connection)?.map(times::to_proto),
    })
}
