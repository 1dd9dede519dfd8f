//! The metrics, pure: from a view of the facts and a period to readings. What they mean: definitions.rs.

use std::collections::{BTreeMap, HashSet};

use super::{
    definitions::MetricId,
    facts::{Deal, DealOutcome, DealType, Incentive, IncentiveKind, Partner, RegistrationStatus},
    view::{Period, View},
};
use crate::records::{
    money::{Currency, Money, Purse},
    times::{DAY, Nanos},
};

/// A numerator or denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Things.
    Count(i64),
    /// An amount.
    Money(Money),
    /// Nanoseconds.
    Duration(i128),
}

impl Quantity {
    fn size(&self) -> f64 {
        match self {
            Self::Count(count) => *count as f64,
            Self::Money(money) => money.amount as f64 / 1e9,
            Self::Duration(nanos) => *nanos as f64 / DAY as f64,
        }
    }

    const fn is_zero(&self) -> bool {
        match self {
            Self::Count(count) => *count == 0,
            Self::Money(money) => money.amount == 0,
            Self::Duration(nanos) => *nanos == 0,
        }
    }
}

/// One value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// For metrics about money.
    pub currency: Option<Currency>,
    /// Always known.
    pub numerator: Quantity,
    /// Unset for counts and sums.
    pub denominator: Option<Quantity>,
}

impl Value {
    /// Numerator / denominator, or the numerator itself; unset if the denominator is zero.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        match &self.denominator {
            None => Some(self.numerator.size()),
            Some(denominator) if denominator.is_zero() => None,
            Some(denominator) => Some(self.numerator.size() / denominator.size()),
        }
    }
}

/// What a metric comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// One for each currency, or one.
    pub values: Vec<Value>,
    /// What else to know.
    pub notes: Vec<(&'static str, i64)>,
}

impl Reading {
    fn count(count: usize) -> Self {
        Self {
            values: vec![Value {
                currency: None,
                numerator: Quantity::Count(whole(count)),
                denominator: None,
            }],
            notes: Vec::new(),
        }
    }

    fn ratio(numerator: usize, denominator: usize) -> Self {
        Self {
            values: vec![Value {
                currency: None,
                numerator: Quantity::Count(whole(numerator)),
                denominator: Some(Quantity::Count(whole(denominator))),
            }],
            notes: Vec::new(),
        }
    }

    fn money(purse: &Purse) -> Self {
        Self {
            values: purse
                .0
                .iter()
                .map(|(&currency, &amount)| Value {
                    currency: Some(currency),
                    numerator: Quantity::Money(Money { currency, amount }),
                    denominator: None,
                })
                .collect(),
            notes: Vec::new(),
        }
    }

    /// Amounts over amounts, for every currency that occurs in either.
    fn purses(numerator: &Purse, denominator: &Purse) -> Self {
        let currencies: std::collections::BTreeSet<Currency> = numerator
            .0
            .keys()
            .chain(denominator.0.keys())
            .copied()
            .collect();
        let money = |purse: &Purse, currency| {
            Quantity::Money(Money {
                currency,
                amount: purse.of(currency),
            })
        };
        Self {
            values: currencies
                .into_iter()
                .map(|currency| Value {
                    currency: Some(currency),
                    numerator: money(numerator, currency),
                    denominator: Some(money(denominator, currency)),
                })
                .collect(),
            notes: Vec::new(),
        }
    }

    fn with(mut self, note: &'static str, count: usize) -> Self {
        self.notes.push((note, whole(count)));
        self
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Deal {
    /// Whether it is open at an instant.
    #[must_use]
    pub fn is_open(&self, at: Nanos) -> bool {
        self.opened <= at && self.closed.is_none_or(|closed| closed > at)
    }

    /// Whether it was won in P.
    #[must_use]
    pub fn is_won_in(&self, period: &Period) -> bool {
        self.outcome == DealOutcome::Won && period.has_some(self.closed)
    }

    fn ended(&self, outcome: DealOutcome, by: Nanos) -> bool {
        self.outcome == outcome && self.closed.is_some_and(|closed| closed <= by)
    }
}

impl Partner {
    /// Whether it is in the program at an instant.
    #[must_use]
    pub fn is_enrolled(&self, at: Nanos) -> bool {
        self.enrolled.is_none_or(|enrolled| enrolled < at)
            && self.left.is_none_or(|left| left >= at)
    }
}

/// What a metric comes to over P.
#[must_use]
pub fn read(metric: MetricId, view: &View<'_>, period: &Period) -> Reading {
    use MetricId as M;
    let deals = || Deals { view, period };
    match metric {
        M::SourcedPipeline => {
            deals().sum(|deal| deals().is_sourced(deal) && deal.is_open(period.as_of))
        }
        M::SourcedClosedRevenue => {
            deals().sum(|deal| deals().is_sourced(deal) && deal.is_won_in(period))
        }
        M::InfluencedRevenue => {
            deals().sum(|deal| deals().is_influenced(deal) && deal.is_won_in(period))
        }
        M::InfluencedNotSourcedRevenue => deals().sum(|deal| {
            deals().is_influenced(deal) && !deals().is_sourced(deal) && deal.is_won_in(period)
        }),
        M::RegistrationsSubmitted => Reading::count(deals().submitted().count()),
        M::RegistrationApprovalRate => deals().approval_rate(),
        M::RegistrationWinRate => deals().win_rate(),
        M::RegistrationDecidedWinRate => deals().decided_win_rate(),
        M::SalesCycle => deals().sales_cycle(),
        M::ActivePartnerRate => active_partner_rate(view, period),
        M::EngagedPartnerRate => {
            let enrolled = enrolled(view, period);
            let engaged = enrolled.iter().filter(|partner| {
                view.activity
                    .days
                    .get(**partner)
                    .is_some_and(|&days| days >= 2)
            });
            Reading::ratio(engaged.count(), enrolled.len())
        }
        M::TrainingCompletion => {
            let assigned = || view.trainings.iter().filter(|one| period.has(one.assigned));
            let completed = assigned()
                .filter(|one| one.completed.is_some_and(|at| at <= period.as_of))
                .count();
            Reading::ratio(completed, assigned().count())
        }
        M::RenewalRevenue => deals().sum(|deal| {
            deal.kind == DealType::Renewal
                && deal.is_won_in(period)
                && (deals().is_managed_at_close(deal) || deals().is_influenced(deal))
        }),
        M::ManagedAccountRetention => retention(view, period),
        M::ExpansionRevenue => deals().sum(|deal| {
            deal.kind == DealType::Expansion
                && deal.is_won_in(period)
                && deals().is_managed_at_close(deal)
        }),
        M::IncentiveUtilisation => utilisation(view, period, |kind| kind != IncentiveKind::Payout),
        M::MdfUtilisation => utilisation(view, period, |kind| kind == IncentiveKind::Mdf),
        M::RebateUtilisation => utilisation(view, period, |kind| kind == IncentiveKind::Rebate),
        M::PayoutReadiness => {
            let payouts = || {
                view.incentives
                    .iter()
                    .filter(|one| one.kind == IncentiveKind::Payout && overlaps(one, period))
            };
            Reading::ratio(payouts().filter(|one| one.ready).count(), payouts().count())
        }
        M::ChannelReturn => Reading::purses(&deals().channel_revenue(), &costs(view, period)),
        M::ChannelNet => Reading::money(&minus(deals().channel_revenue(), &costs(view, period))),
        M::ChannelMarginReturn => {
            let (margin, missing) = deals().channel_margin();
            Reading::purses(&margin, &costs(view, period)).with("data_errors", missing)
        }
        M::ChannelMarginNet => {
            let (margin, missing) = deals().channel_margin();
            Reading::money(&minus(margin, &costs(view, period))).with("data_errors", missing)
        }
        M::SourcedOpportunities => Reading::count(
            view.deals
                .iter()
                .filter(|deal| deals().is_sourced(deal) && period.has(deal.opened))
                .count(),
        ),
        M::WonDeals => Reading::count(deals().won().count()),
        M::AverageDealSize => {
            let mut sums: BTreeMap<Currency, (i128, i64)> = BTreeMap::new();
            for deal in deals().won() {
                let sum = sums.entry(deal.amount.currency).or_default();
                sum.0 += deal.amount.amount;
                sum.1 += 1;
            }
            Reading {
                values: sums
                    .into_iter()
                    .map(|(currency, (amount, count))| Value {
                        currency: Some(currency),
                        numerator: Quantity::Money(Money { currency, amount }),
                        denominator: Some(Quantity::Count(count)),
                    })
                    .collect(),
                notes: Vec::new(),
            }
        }
        M::WonRevenue => deals().sum(|deal| deal.is_won_in(period)),
        M::OpenPipeline => deals().sum(|deal| deal.is_open(period.as_of)),
        M::PartnerShare => {
            let won = deals().purse(|deal| deal.is_won_in(period));
            let sourced = deals().purse(|deal| deals().is_sourced(deal) && deal.is_won_in(period));
            Reading::purses(&sourced, &won)
        }
        M::EnrolledPartners => Reading::count(enrolled(view, period).len()),
        M::CertifiedPartnerRate => {
            let enrolled = enrolled(view, period);
            Reading::ratio(certified(view, period, &enrolled).len(), enrolled.len())
        }
        M::CampaignLeads => {
            let leads: u64 = view
                .campaigns
                .iter()
                .filter(|campaign| period.has(campaign.starts))
                .map(|campaign| campaign.leads)
                .fold(0, u64::saturating_add);
            Reading::count(usize::try_from(leads).unwrap_or(usize::MAX))
        }
    }
}

struct Deals<'v, 'a> {
    view: &'v View<'a>,
    period: &'v Period,
}

impl<'v, 'a> Deals<'v, 'a> {
    fn is_owned(&self, deal: &Deal) -> bool {
        self.view.scope.has(&deal.partner)
    }

    fn is_sourced(&self, deal: &Deal) -> bool {
        deal.sourced && self.is_owned(deal)
    }

    fn is_influenced(&self, deal: &Deal) -> bool {
        deal.influencing_partners
            .iter()
            .any(|partner| self.view.scope.has(partner))
    }

    /// Whether a partner managed the deal's customer when it closed.
    fn is_managed_at_close(&self, deal: &Deal) -> bool {
        let managed = &self.view.managed;
        let first = managed.partition_point(|link| link.customer < deal.customer);
        deal.closed.is_some_and(|closed| {
            managed[first..]
                .iter()
                .take_while(|link| link.customer == deal.customer)
                .any(|link| link.covers(closed))
        })
    }

    fn purse(&self, counts: impl Fn(&Deal) -> bool) -> Purse {
        self.view
            .deals
            .iter()
            .filter(|deal| counts(deal))
            .map(|deal| deal.amount)
            .collect()
    }

    fn sum(&self, counts: impl Fn(&Deal) -> bool) -> Reading {
        Reading::money(&self.purse(counts))
    }

    fn won(&self) -> impl Iterator<Item = &'a Deal> {
        self.view
            .deals
            .iter()
            .copied()
            .filter(|deal| deal.is_won_in(self.period))
    }

    /// Deals whose registration was submitted in P.
    fn submitted(&self) -> impl Iterator<Item = &'a Deal> {
        self.view.deals.iter().copied().filter(|deal| {
            self.is_owned(deal)
                && self
                    .period
                    .has_some(deal.registration.map(|registration| registration.submitted))
        })
    }

    /// Deals whose registration was approved in P.
    fn approved(&self) -> impl Iterator<Item = &'a Deal> {
        self.view.deals.iter().copied().filter(|deal| {
            self.is_owned(deal)
                && deal.registration.is_some_and(|registration| {
                    registration.status == RegistrationStatus::Approved
                        && self.period.has_some(registration.decided)
                })
        })
    }

    fn approval_rate(&self) -> Reading {
        let (mut approved, mut submitted, mut pending) = (0, 0, 0);
        for registration in self.submitted().filter_map(|deal| deal.registration) {
            submitted += 1;
            let decided = registration
                .decided
                .is_some_and(|decided| decided <= self.period.as_of);
            if !decided {
                pending += 1;
            } else if registration.status == RegistrationStatus::Approved {
                approved += 1;
            }
        }
        Reading::ratio(approved, submitted).with("pending", pending)
    }

    fn win_rate(&self) -> Reading {
        let by = self.period.as_of;
        let won = self
            .approved()
            .filter(|deal| deal.ended(DealOutcome::Won, by));
        let lost = self
            .approved()
            .filter(|deal| deal.ended(DealOutcome::Lost, by));
        let (won, lost, approved) = (won.count(), lost.count(), self.approved().count());
        Reading::ratio(won, approved).with("pending", approved - won - lost)
    }

    fn decided_win_rate(&self) -> Reading {
        let by = self.period.as_of;
        let ended = |outcome| {
            self.approved()
                .filter(|deal| deal.ended(outcome, by))
                .count()
        };
        let (won, lost) = (ended(DealOutcome::Won), ended(DealOutcome::Lost));
        Reading::ratio(won, won + lost)
    }

    fn sales_cycle(&self) -> Reading {
        let (mut total, mut deals, mut errors) = (0_i128, 0, 0);
        for deal in self.won().filter(|deal| self.is_owned(deal)) {
            let begun = deal
                .registration
                .map_or(deal.opened, |registration| registration.submitted);
            match deal.closed {
                Some(closed) if closed >= begun => {
                    total += i128::from(closed) - i128::from(begun);
                    deals += 1;
                }
                _ => errors += 1,
            }
        }
        Reading {
            values: vec![Value {
                currency: None,
                numerator: Quantity::Duration(total),
                denominator: Some(Quantity::Count(deals)),
            }],
            notes: Vec::new(),
        }
        .with("data_errors", errors)
    }

    /// Deals won in P that partners sourced or influenced.
    fn channel(&self) -> impl Iterator<Item = &'a Deal> {
        self.won()
            .filter(|deal| self.is_sourced(deal) || self.is_influenced(deal))
    }

    fn channel_revenue(&self) -> Purse {
        self.channel().map(|deal| deal.amount).collect()
    }

    fn channel_margin(&self) -> (Purse, usize) {
        let missing = self
            .channel()
            .filter(|deal| deal.gross_margin.is_none())
            .count();
        (
            self.channel()
                .filter_map(|deal| deal.gross_margin)
                .collect(),
            missing,
        )
    }
}

fn costs(view: &View<'_>, period: &Period) -> Purse {
    view.costs
        .iter()
        .filter(|cost| period.has(cost.incurred))
        .map(|cost| cost.amount)
        .collect()
}

fn minus(mut purse: Purse, other: &Purse) -> Purse {
    for (&currency, amount) in &other.0 {
        *purse.0.entry(currency).or_default() -= amount;
    }
    purse
}

/// Partners enrolled at the end of P.
#[must_use]
pub fn enrolled<'a>(view: &View<'a>, period: &Period) -> HashSet<&'a str> {
    view.partners
        .iter()
        .filter(|partner| partner.is_enrolled(period.last()))
        .map(|partner| partner.id.as_str())
        .collect()
}

/// Those of the enrolled partners that hold a certification.
#[must_use]
pub fn certified<'a>(
    view: &View<'a>,
    period: &Period,
    enrolled: &HashSet<&'a str>,
) -> HashSet<&'a str> {
    view.certifications
        .iter()
        .filter(|one| one.is_valid(period.as_of))
        .map(|one| one.partner.as_str())
        .filter(|partner| enrolled.contains(partner))
        .collect()
}

fn active_partner_rate(view: &View<'_>, period: &Period) -> Reading {
    let enrolled = enrolled(view, period);
    let mut active: HashSet<&str> = HashSet::new();
    let deals = Deals { view, period };
    active.extend(deals.submitted().map(|deal| deal.partner.as_str()));
    active.extend(
        view.deals
            .iter()
            .filter(|deal| deals.is_sourced(deal) && period.has(deal.opened))
            .map(|deal| deal.partner.as_str()),
    );
    active.extend(
        view.trainings
            .iter()
            .filter(|training| period.has_some(training.completed))
            .map(|training| training.partner.as_str()),
    );
    Reading::ratio(
        active
            .iter()
            .filter(|partner| enrolled.contains(*partner))
            .count(),
        enrolled.len(),
    )
}

fn retention(view: &View<'_>, period: &Period) -> Reading {
    let at = |instant| -> HashSet<&str> {
        view.managed
            .iter()
            .filter(|link| link.covers(instant))
            .map(|link| link.customer.as_str())
            .collect()
    };
    let (start, end) = (at(period.start), at(period.last()));
    Reading::ratio(start.intersection(&end).count(), start.len())
}

fn overlaps(incentive: &Incentive, period: &Period) -> bool {
    incentive.start < period.end && incentive.end > period.start && incentive.start <= period.as_of
}

fn utilisation(
    view: &View<'_>,
    period: &Period,
    counts: impl Fn(IncentiveKind) -> bool,
) -> Reading {
    let mut used = Purse::default();
    let mut available = Purse::default();
    for incentive in &view.incentives {
        if counts(incentive.kind) && overlaps(incentive, period) {
            available.add(incentive.available);
            used.extend(incentive.used);
        }
    }
    Reading::purses(&used, &available)
}
