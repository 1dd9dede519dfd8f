//! What needs attention (K-29).

use overlap_proto::v1::{self, AlertKind};

use super::{
    breakdown,
    context::Context,
    definitions::MetricId,
    metrics::{self, Quantity, Value},
    settings::Settings,
    targets,
    view::{Period, View},
};
use crate::{
    error::Error,
    records::times::{self, DAY, Nanos},
};

/// Metrics whose swings are worth a look: those that count what happens in P.
const SWINGING: [MetricId; 5] = [
    MetricId::SourcedClosedRevenue,
    MetricId::InfluencedRevenue,
    MetricId::RegistrationsSubmitted,
    MetricId::SourcedOpportunities,
    MetricId::WonDeals,
];

/// The alerts over P, by kind and id.
///
/// # Errors
/// What the store reports.
pub fn alerts(context: &Context<'_>, view: &View<'_>) -> Result<Vec<v1::Alert>, Error> {
    let (period, settings) = (&context.filter.period, context.settings);
    let mut alerts = stalled_deals(view, period, settings);
    alerts.extend(expiring_certifications(view, period, settings));
    alerts.extend(missed_targets(context, view)?);
    alerts.extend(swings(view, period, settings));
    alerts.extend(approval_drops(view, period, settings));
    alerts.sort_by_cached_key(position);
    Ok(alerts)
}

/// Where an alert stands among the others.
#[must_use]
pub fn position(alert: &v1::Alert) -> String {
    format!("{:02} {}", alert.kind, alert.id)
}

fn alert(
    kind: AlertKind,
    partner: &str,
    subject: &str,
    since: Nanos,
    message: String,
) -> v1::Alert {
    let name = kind.as_str_name().trim_start_matches("ALERT_KIND_");
    v1::Alert {
        id: format!("{}:{subject}", name.to_lowercase()),
        kind: kind as i32,
        partner: partner.to_owned(),
        subject: subject.to_owned(),
        message,
        since: Some(times::to_proto(since)),
    }
}

fn stalled_deals(view: &View<'_>, period: &Period, settings: &Settings) -> Vec<v1::Alert> {
    let now = period.as_of;
    let patience = settings.stalled_after();
    view.deals
        .iter()
        .filter(|deal| view.scope.has(&deal.partner) && deal.is_open(now))
        .filter_map(|deal| {
            let moved = deal
                .stage_changes
                .iter()
                .map(|&(_, when)| when)
                .chain(deal.last_activity)
                .filter(|&when| when <= now)
                .chain([deal.opened])
                .max()?;
            (now - moved >= patience).then(|| {
                let days = (now - moved) / DAY;
                let message = format!("deal \"{}\" has not moved for {days} days", deal.id);
                alert(
                    AlertKind::StalledDeal,
                    &deal.partner,
                    &deal.id,
                    moved,
                    message,
                )
            })
        })
        .collect()
}

fn expiring_certifications(
    view: &View<'_>,
    period: &Period,
    settings: &Settings,
) -> Vec<v1::Alert> {
    let now = period.as_of;
    view.certifications
        .iter()
        .filter(|one| one.is_valid(now))
        .filter_map(|one| {
            let expires = one.expires?;
            (expires - now <= settings.expiring_within()).then(|| {
                let days = (expires - now) / DAY;
                alert(
                    AlertKind::ExpiringCertification,
                    &one.partner,
                    &one.id,
                    expires - settings.expiring_within(),
                    format!("certification \"{}\" expires in {days} days", one.name),
                )
            })
        })
        .collect()
}

fn missed_targets(context: &Context<'_>, view: &View<'_>) -> Result<Vec<v1::Alert>, Error> {
    let as_of = context.filter.period.as_of;
    let over = targets::attainments(context, view, |target, _| target.end <= as_of)?;
    Ok(over
        .into_iter()
        .filter(|attainment| attainment.is_missed() == Some(true))
        .map(|attainment| {
            let target = attainment.target;
            let label = attainment.metric.definition().label;
            alert(
                AlertKind::MissedTarget,
                &target.partner,
                &target.id,
                target.end,
                format!("{label} missed target \"{}\"", target.id),
            )
        })
        .collect())
}

/// P before P, of the same length.
#[must_use]
pub fn previous(period: &Period) -> Period {
    period.over(period.start - (period.end - period.start), period.start)
}

const fn size(value: &Value) -> Option<i128> {
    match value.numerator {
        Quantity::Count(count) => Some(count as i128),
        Quantity::Money(money) => Some(money.amount),
        Quantity::Duration(_) => None,
    }
}

fn swings(view: &View<'_>, period: &Period, settings: &Settings) -> Vec<v1::Alert> {
    let before = previous(period);
    let mut alerts = Vec::new();
    for metric in SWINGING {
        let now = metrics::read(metric, view, period);
        for old in metrics::read(metric, view, &before).values {
            let Some(was) = size(&old).filter(|&was| was > 0) else {
                continue;
            };
            let is = now
                .values
                .iter()
                .find(|value| value.currency == old.currency)
                .and_then(size)
                .unwrap_or(0);
            if (is - was).abs() * 100 > was * i128::from(settings.swing_percent()) {
                let subject = match old.currency {
                    Some(currency) => format!("{}:{}", metric.name(), currency.code()),
                    None => metric.name().to_owned(),
                };
                let percent = (is - was) * 100 / was;
                alerts.push(alert(
                    AlertKind::Swing,
                    "",
                    &subject,
                    period.start,
                    format!("{} changed by {percent}%", metric.definition().label),
                ));
            }
        }
    }
    alerts
}

fn approval_drops(view: &View<'_>, period: &Period, settings: &Settings) -> Vec<v1::Alert> {
    let before = previous(period);
    let rate = |view: &View<'_>, period: &Period| {
        let reading = metrics::read(MetricId::RegistrationApprovalRate, view, period);
        match reading
            .values
            .first()
            .map(|one| (one.numerator, one.denominator))
        {
            Some((Quantity::Count(part), Some(Quantity::Count(whole)))) if whole > 0 => {
                Some((i128::from(part), i128::from(whole)))
            }
            _ => None,
        }
    };
    breakdown::groups(view, v1::MetricDimension::Region)
        .into_iter()
        .filter_map(|group| {
            let (was, was_of) = rate(&group.view, &before)?;
            let (is, is_of) = rate(&group.view, period)?;
            let drop = 100 * (was * is_of - is * was_of);
            (drop > i128::from(settings.approval_drop_points()) * was_of * is_of).then(|| {
                let points = drop / (was_of * is_of);
                alert(
                    AlertKind::ApprovalRateDrop,
                    "",
                    &group.value,
                    period.start,
                    format!(
                        "the approval rate in region \"{}\" dropped by {points} points",
                        group.value
                    ),
                )
            })
        })
        .collect()
}
