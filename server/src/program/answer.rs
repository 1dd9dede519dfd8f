//! Readings in the API's terms.

use overlap_proto::v1::{self, metric_quantity};

use super::{
    definitions::{Definition, MetricId},
    metrics::{self, Quantity, Reading, Value},
    view::{Period, View},
};
use crate::{
    error::Error,
    records::{kind::Kind, times},
};

/// A metric over P.
#[must_use]
pub fn metric(metric: MetricId, view: &View<'_>, period: &Period) -> v1::Metric {
    let reading = metrics::read(metric, view, period);
    message(&metric.definition(), metric.kinds(), view, &reading, period)
}

/// Several metrics over P.
#[must_use]
pub fn metrics(metrics: &[MetricId], view: &View<'_>, period: &Period) -> Vec<v1::Metric> {
    metrics.iter().map(|&id| metric(id, view, period)).collect()
}

/// Those of the `known` metrics that have these ids; `default` if there is no id.
///
/// # Errors
/// `INVALID_ARGUMENT` for an unknown id.
pub fn parse(
    ids: &[String],
    known: &[MetricId],
    default: &[MetricId],
) -> Result<Vec<MetricId>, Error> {
    if ids.is_empty() {
        return Ok(default.to_vec());
    }
    (0..)
        .zip(ids)
        .map(|(at, id): (usize, _)| {
            let mut known = known.iter().copied();
            known.find(|metric| metric.name() == id).ok_or_else(|| {
                Error::invalid(
                    format!("metrics[{at}]"),
                    format!("\"{id}\" is not the id of a metric: call ListMetricDefinitions"),
                )
            })
        })
        .collect()
}

/// A reading as a message.
#[must_use]
pub fn message(
    definition: &Definition,
    kinds: &[Kind],
    view: &View<'_>,
    reading: &Reading,
    period: &Period,
) -> v1::Metric {
    let through = kinds
        .iter()
        .filter_map(|kind| match kind {
            Kind::PortalEvent => view.activity.through,
            kind => view.facts.through.get(kind).copied(),
        })
        .max();
    v1::Metric {
        id: definition.id.to_owned(),
        label: definition.label.to_owned(),
        unit: definition.unit.to_proto() as i32,
        definition_version: definition.version,
        values: reading.values.iter().map(Value::to_proto).collect(),
        notes: reading
            .notes
            .iter()
            .map(|&(name, count)| v1::MetricNote {
                name: name.to_owned(),
                count,
            })
            .collect(),
        as_of: Some(times::to_proto(period.as_of)),
        data_through: through.map(times::to_proto),
        period: Some(period.to_proto()),
    }
}

impl Quantity {
    /// The message.
    #[must_use]
    pub fn to_proto(self) -> v1::MetricQuantity {
        v1::MetricQuantity {
            quantity: Some(match self {
                Self::Count(count) => metric_quantity::Quantity::Count(count),
                Self::Money(money) => metric_quantity::Quantity::Money(money.to_proto()),
                Self::Duration(nanos) => {
                    metric_quantity::Quantity::Duration(times::duration(nanos))
                }
            }),
        }
    }
}

impl Value {
    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::MetricValue {
        v1::MetricValue {
            currency_code: self
                .currency
                .map(|currency| currency.code().to_owned())
                .unwrap_or_default(),
            value: self.ratio(),
            numerator: Some(self.numerator.to_proto()),
            denominator: self.denominator.map(Quantity::to_proto),
        }
    }
}
