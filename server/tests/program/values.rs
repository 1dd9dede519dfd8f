//! Records and answers of the program's tests.
#![allow(dead_code, reason = "each test file uses a part")]

use overlap_proto::v1::{
    self, DealOrigination as Origination, DealOutcome as Outcome, RegistrationStatus as Status,
    metric_quantity::Quantity, record::Content,
};
use overlap_server::auth::Role;

use super::support::*;

pub(crate) fn quarter() -> Option<v1::ProgramFilter> {
    period("2026-01-01", "2026-04-01")
}

pub(crate) async fn metrics(
    node: &Node,
    filter: Option<v1::ProgramFilter>,
    ids: &[&str],
) -> Vec<v1::Metric> {
    node.program(Role::PartnerManager)
        .get_metrics(v1::GetMetricsRequest {
            filter,
            metrics: ids.iter().map(|&id| id.to_owned()).collect(),
        })
        .await
        .expect("metrics")
        .into_inner()
        .metrics
}

pub(crate) async fn metric(node: &Node, id: &str) -> v1::Metric {
    metrics(node, quarter(), &[id]).await.remove(0)
}

/// Whole units by currency.
pub(crate) fn amounts(metric: &v1::Metric) -> Vec<(&str, i64)> {
    metric
        .values
        .iter()
        .map(|value| {
            let Some(Quantity::Money(money)) = value
                .numerator
                .as_ref()
                .and_then(|one| one.quantity.as_ref())
            else {
                panic!("not money: {value:?}");
            };
            assert_eq!(money.currency_code, value.currency_code);
            (value.currency_code.as_str(), money.units)
        })
        .collect()
}

pub(crate) fn count(quantity: Option<&v1::MetricQuantity>) -> i64 {
    match quantity.and_then(|one| one.quantity.as_ref()) {
        Some(Quantity::Count(count)) => *count,
        other => panic!("not a count: {other:?}"),
    }
}

/// Numerator, denominator, value.
pub(crate) fn ratio(metric: &v1::Metric) -> (i64, i64, Option<f64>) {
    let [value] = metric.values.as_slice() else {
        panic!("not one value: {metric:?}");
    };
    (
        count(value.numerator.as_ref()),
        count(value.denominator.as_ref()),
        value.value,
    )
}

pub(crate) fn note(metric: &v1::Metric, name: &str) -> i64 {
    metric
        .notes
        .iter()
        .find(|note| note.name == name)
        .map_or(0, |note| note.count)
}

pub(crate) fn sourced(deal: &mut v1::DealRecord, partner: &str, units: i64) {
    deal.origination = Origination::Sourced as i32;
    partner.clone_into(&mut deal.partner);
    deal.amount = euros(units);
}

pub(crate) fn closed(deal: &mut v1::DealRecord, outcome: Outcome, on: &str) {
    deal.outcome = outcome as i32;
    deal.closed_at = day(on);
}

pub(crate) fn registered(
    deal: &mut v1::DealRecord,
    on: &str,
    status: Status,
    decided: Option<&str>,
) {
    deal.registration = Some(v1::DealRegistration {
        submitted_at: day(on),
        decided_at: decided.and_then(day),
        status: status as i32,
    });
}

pub(crate) fn influenced(deal: &mut v1::DealRecord, partners: &[&str]) {
    deal.influencing_partners = partners.iter().map(|&partner| partner.to_owned()).collect();
}

pub(crate) fn training(
    id: &str,
    partner: &str,
    assigned: &str,
    completed: Option<&str>,
) -> v1::Record {
    record(
        id,
        Content::Training(v1::TrainingRecord {
            partner: partner.to_owned(),
            course: "Basics".to_owned(),
            assigned_at: day(assigned),
            completed_at: completed.and_then(day),
            ..Default::default()
        }),
    )
}

pub(crate) fn managed(
    id: &str,
    partner: &str,
    customer: &str,
    from: &str,
    to: Option<&str>,
) -> v1::Record {
    record(
        id,
        Content::ManagedAccount(v1::ManagedAccountRecord {
            partner: partner.to_owned(),
            customer: customer.to_owned(),
            from: day(from),
            to: to.and_then(day),
        }),
    )
}

pub(crate) fn target(
    id: &str,
    partner: &str,
    metric: &str,
    goal: v1::target_record::Goal,
    end: &str,
) -> v1::Record {
    record(
        id,
        Content::Target(v1::TargetRecord {
            metric: metric.to_owned(),
            partner: partner.to_owned(),
            period_start: day("2026-01-01"),
            period_end: day(end),
            goal: Some(goal),
        }),
    )
}
