//! Forecasts and targets (K-21, K-36).

use std::collections::{BTreeMap, HashSet};

use overlap_proto::v1;

use super::{
    answer,
    context::Context,
    definitions::{self, MetricId, Unit},
    facts::{Goal, Target},
    metrics::{self, Quantity, Reading, Value},
    settings::Settings,
    view::{Period, Scope, View},
};
use crate::{
    error::Error,
    records::{
        kind::Kind,
        money::{Currency, Money},
        times,
    },
};

/// Won plus weighted open deals against the target; partners' SOURCED deals.
#[must_use]
pub fn forecast(view: &View<'_>, period: &Period, settings: &Settings) -> v1::GetForecastResponse {
    let won = metrics::read(MetricId::SourcedClosedRevenue, view, period);
    // Won and weighted, by currency; weighted in ten-thousandths of billionths, so that nothing is rounded before the end.
    let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
    for value in &won.values {
        if let Quantity::Money(money) = value.numerator {
            sums.entry(money.currency).or_default().0 += money.amount;
        }
    }
    let mut unlikely = 0;
    let open = view
        .deals
        .iter()
        .filter(|deal| deal.sourced && view.scope.has(&deal.partner) && deal.is_open(period.as_of));
    for deal in open {
        match deal
            .probability_bp
            .or_else(|| settings.probability_bp(&deal.stage))
        {
            Some(chance) => {
                sums.entry(deal.amount.currency).or_default().1 +=
                    deal.amount.amount * i128::from(chance);
            }
            None => unlikely += 1,
        }
    }
    let targets = targets_of(view, MetricId::SourcedClosedRevenue, period);
    for &currency in targets.keys() {
        sums.entry(currency).or_default();
    }
    let forecasts = sums
        .into_iter()
        .map(|(currency, (won, weighted))| {
            let money = |amount| Money { currency, amount };
            let weighted = weighted.div_euclid(10_000);
            let target = targets.get(&currency).copied();
            v1::Forecast {
                currency_code: currency.code().to_owned(),
                won: Some(money(won).to_proto()),
                weighted_open: Some(money(weighted).to_proto()),
                forecast: Some(money(won + weighted).to_proto()),
                target: target.map(|target| money(target).to_proto()),
                attainment: target
                    .filter(|&target| target != 0)
                    .map(|target| (won + weighted) as f64 / target as f64),
            }
        })
        .collect();
    v1::GetForecastResponse {
        forecasts,
        as_of: Some(times::to_proto(period.as_of)),
        data_through: view
            .facts
            .through
            .get(&Kind::Deal)
            .copied()
            .map(times::to_proto),
        definition_version: definitions::DERIVED[1].version,
        deals_without_probability: unlikely,
    }
}

/// Money targets for a metric whose period overlaps P: the program's, or those of the partners selected.
fn targets_of(view: &View<'_>, metric: MetricId, period: &Period) -> BTreeMap<Currency, i128> {
    let mut sums = BTreeMap::new();
    for (target, of) in applicable(view) {
        let whole_program = target.partner.is_empty();
        if of != metric
            || !period.overlaps(target.start, target.end)
            || whole_program != matches!(view.scope, Scope::All)
        {
            continue;
        }
        if let Goal::Money(money) = target.goal {
            *sums.entry(money.currency).or_default() += money.amount;
        }
    }
    sums
}

/// The targets that a view can judge, with their metrics: with a selection of partners, theirs alone; with a part of the deals,
/// none that is made of deals; of those that its reader knows.
fn applicable<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Target, MetricId)> {
    let (scope, known, is_part) = (view.scope.clone(), view.metrics, view.is_part_of_deals);
    view.facts.targets.iter().filter_map(move |target| {
        let mut known = known.iter().copied();
        let metric = known.find(|metric| metric.name() == target.metric)?;
        let is_selected = matches!(scope, Scope::All) || scope.has(&target.partner);
        let is_measurable = !(is_part && metric.kinds().contains(&Kind::Deal));
        (is_selected && is_measurable).then_some((target, metric))
    })
}

/// What became of the targets of a view that are wanted, by id.
///
/// # Errors
/// What the store reports.
pub fn attainments<'a>(
    context: &Context<'_>,
    view: &View<'a>,
    is_wanted: impl Fn(&Target, MetricId) -> bool,
) -> Result<Vec<Attainment<'a>>, Error> {
    let mut wanted: Vec<_> = applicable(view)
        .filter(|&(target, metric)| is_wanted(target, metric))
        .collect();
    // Those that end together need the sessions of that time once.
    wanted.sort_by_key(|(target, _)| target.end);
    let mut view = view.clone();
    let mut found = Vec::with_capacity(wanted.len());
    for (target, metric) in wanted {
        let period = context.filter.period;
        let period = if metric.is_of_an_instant() {
            period.as_then(target.start, target.end)
        } else {
            period.over(target.start, target.end)
        };
        context.recall(&mut view, &[metric], period.as_of)?;
        found.push(Attainment::of(target, metric, &view, period));
    }
    found.sort_by(|one, other| one.target.id.cmp(&other.target.id));
    Ok(found)
}

/// A target and what became of it.
pub struct Attainment<'a> {
    /// The target.
    pub target: &'a Target,
    /// Its metric.
    pub metric: MetricId,
    /// What was reached over the target's period.
    pub reading: Reading,
    /// The value that the goal is compared with.
    pub value: Option<Value>,
    period: Period,
}

impl<'a> Attainment<'a> {
    fn of(target: &'a Target, metric: MetricId, view: &View<'a>, period: Period) -> Self {
        let reading = if target.partner.is_empty() {
            metrics::read(metric, view, &period)
        } else {
            let own = view.of_partners(HashSet::from([target.partner.as_str()]));
            metrics::read(metric, &own, &period)
        };
        let value = match target.goal {
            Goal::Money(goal) => Some(
                reading
                    .values
                    .iter()
                    .copied()
                    .find(|value| value.currency == Some(goal.currency))
                    .unwrap_or(Value {
                        currency: Some(goal.currency),
                        numerator: Quantity::Money(Money {
                            currency: goal.currency,
                            amount: 0,
                        }),
                        denominator: None,
                    }),
            ),
            Goal::Number(_) => reading.values.first().copied(),
        };
        Self {
            target,
            metric,
            reading,
            value,
            period,
        }
    }

    /// Whether the goal was not reached; unset if that cannot be said. Exact.
    #[must_use]
    pub fn is_missed(&self) -> Option<bool> {
        let value = self.value?;
        match (self.target.goal, value.numerator, value.denominator) {
            (Goal::Money(goal), Quantity::Money(actual), None) => Some(actual.amount < goal.amount),
            (Goal::Money(goal), Quantity::Money(actual), Some(Quantity::Count(count))) => {
                (count != 0).then(|| actual.amount < goal.amount * i128::from(count))
            }
            (Goal::Number(goal), Quantity::Count(actual), None) => Some(actual < goal),
            (Goal::Number(goal), Quantity::Count(actual), Some(Quantity::Count(of))) => {
                (of != 0).then(|| i128::from(actual) * 10_000 < i128::from(goal) * i128::from(of))
            }
            _ => value.ratio().and_then(|actual| match self.target.goal {
                Goal::Number(goal) => Some(actual < goal as f64),
                Goal::Money(_) => None,
            }),
        }
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self, view: &View<'_>) -> v1::TargetComparison {
        let goal = match self.target.goal {
            Goal::Money(money) => Quantity::Money(money),
            Goal::Number(number) => Quantity::Count(number),
        };
        let wanted = match self.target.goal {
            Goal::Money(money) => money.amount as f64 / 1e9,
            Goal::Number(number) if self.metric.definition().unit == Unit::Ratio => {
                number as f64 / 1e4
            }
            Goal::Number(number) => number as f64,
        };
        v1::TargetComparison {
            target: self.target.id.clone(),
            partner: self.target.partner.clone(),
            actual: Some(answer::message(
                &self.metric.definition(),
                self.metric.kinds(),
                view,
                &self.reading,
                &self.period,
            )),
            goal: Some(goal.to_proto()),
            attainment: self
                .value
                .and_then(|value| value.ratio())
                .filter(|_| wanted != 0.0)
                .map(|actual| actual / wanted),
        }
    }
}
