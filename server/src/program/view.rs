//! Which records a call is about: the filter, resolved, and the facts it leaves.

use std::{collections::HashSet, rc::Rc, sync::Arc};

use jiff::tz::TimeZone;
use overlap_proto::v1::{self, program_filter::Period as FilterPeriod};
use rusqlite::Connection;

use super::{
    activity::Activity,
    definitions::MetricId,
    facts::{
        Campaign, Certification, Cost, Deal, Facts, Incentive, ManagedAccount, Partner, Training,
    },
    settings::Settings,
};
use crate::{
    auth::{Caller, Role},
    error::{Error, Reason},
    partnership::{self, Record},
    records::{
        calendar::{self, Days, Unit},
        times::{self, Nanos},
        validate::TIMES,
    },
};

/// The longest P.
const LONGEST_PERIOD: Nanos = 36_500 * times::DAY;

/// P = [start, end), and the instant everything is seen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Belongs to P.
    pub start: Nanos,
    /// Does not belong to P.
    pub end: Nanos,
    /// Nothing after it counts.
    pub as_of: Nanos,
}

impl Period {
    /// Whether an instant lies in P and is not later than as_of.
    #[must_use]
    pub const fn has(&self, at: Nanos) -> bool {
        self.start <= at && at < self.end && at <= self.as_of
    }

    /// Whether an optional instant lies in P.
    #[must_use]
    pub fn has_some(&self, at: Option<Nanos>) -> bool {
        at.is_some_and(|at| self.has(at))
    }

    /// Whether a span [start, end) has an instant in common with P, or begins where an empty P does.
    #[must_use]
    pub const fn overlaps(&self, start: Nanos, end: Nanos) -> bool {
        (start < self.end || start == self.start) && end > self.start
    }

    /// The end of P, or as_of if that is earlier.
    #[must_use]
    pub fn last(&self) -> Nanos {
        self.end.min(self.as_of)
    }

    /// The same as seen over another span.
    #[must_use]
    pub const fn over(self, start: Nanos, end: Nanos) -> Self {
        Self {
            start,
            end,
            as_of: self.as_of,
        }
    }

    /// Another span as it was seen then: from its last instant, if as_of is later.
    #[must_use]
    pub fn as_then(self, start: Nanos, end: Nanos) -> Self {
        Self {
            start,
            end,
            as_of: self.as_of.min(end - 1),
        }
    }

    /// The message.
    #[must_use]
    pub fn to_proto(self) -> v1::TimeInterval {
        v1::TimeInterval {
            start: Some(times::to_proto(self.start)),
            end: Some(times::to_proto(self.end)),
        }
    }
}

/// Partners whose doing counts.
#[derive(Clone, Debug)]
pub enum Scope<'a> {
    /// Everyone's, known or not.
    All,
    /// Only these partners'.
    Only(Rc<HashSet<&'a str>>),
}

impl Scope<'_> {
    /// Whether a partner's doing counts; an empty name is nobody.
    #[must_use]
    pub fn has(&self, partner: &str) -> bool {
        !partner.is_empty()
            && match self {
                Self::All => true,
                Self::Only(partners) => partners.contains(partner),
            }
    }
}

/// The facts that a filter leaves.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field holds the records of its name")]
pub struct View<'a> {
    pub facts: &'a Facts,
    /// What its reader may be told.
    pub metrics: &'static [MetricId],
    pub scope: Scope<'a>,
    /// Whether deals are left out for what they have: then no goal for all of them can be judged.
    pub is_part_of_deals: bool,
    pub partners: Vec<&'a Partner>,
    pub deals: Vec<&'a Deal>,
    /// By customer. Groups of deals share them.
    pub managed: Rc<Vec<&'a ManagedAccount>>,
    pub trainings: Vec<&'a Training>,
    pub certifications: Vec<&'a Certification>,
    pub incentives: Vec<&'a Incentive>,
    pub costs: Vec<&'a Cost>,
    pub campaigns: Vec<&'a Campaign>,
    /// What portal sessions say of partners.
    pub activity: Arc<Activity>,
}

impl<'a> View<'a> {
    /// Everything.
    #[must_use]
    pub fn all(facts: &'a Facts, activity: Arc<Activity>) -> Self {
        Self {
            facts,
            metrics: MetricId::ALL,
            scope: Scope::All,
            is_part_of_deals: false,
            partners: facts.partners.iter().collect(),
            deals: facts.deals.iter().collect(),
            managed: Rc::new(facts.managed.iter().collect()),
            trainings: facts.trainings.iter().collect(),
            certifications: facts.certifications.iter().collect(),
            incentives: facts.incentives.iter().collect(),
            costs: facts.costs.iter().collect(),
            campaigns: facts.campaigns.iter().collect(),
            activity,
        }
    }

    /// The same without records, for a group that is given its own.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self {
            facts: self.facts,
            metrics: self.metrics,
            scope: self.scope.clone(),
            is_part_of_deals: self.is_part_of_deals,
            partners: Vec::new(),
            deals: Vec::new(),
            managed: Rc::default(),
            trainings: Vec::new(),
            certifications: Vec::new(),
            incentives: Vec::new(),
            costs: Vec::new(),
            campaigns: Vec::new(),
            activity: Arc::clone(&self.activity),
        }
    }

    /// What some partners had to do with.
    #[must_use]
    pub fn of_partners(&self, partners: HashSet<&'a str>) -> Self {
        let scope = Scope::Only(Rc::new(partners));
        Self {
            facts: self.facts,
            metrics: self.metrics,
            is_part_of_deals: self.is_part_of_deals,
            partners: kept(&self.partners, |partner| scope.has(&partner.id)),
            deals: kept(&self.deals, |deal| {
                scope.has(&deal.partner)
                    || deal
                        .influencing_partners
                        .iter()
                        .any(|partner| scope.has(partner))
            }),
            managed: Rc::new(kept(&self.managed, |link| scope.has(&link.partner))),
            trainings: kept(&self.trainings, |training| scope.has(&training.partner)),
            certifications: kept(&self.certifications, |one| scope.has(&one.partner)),
            incentives: kept(&self.incentives, |incentive| scope.has(&incentive.partner)),
            costs: kept(&self.costs, |cost| scope.has(&cost.partner)),
            campaigns: kept(&self.campaigns, |campaign| scope.has(&campaign.partner)),
            activity: Arc::clone(&self.activity),
            scope,
        }
    }
}

fn kept<'a, T>(all: &[&'a T], keep: impl Fn(&T) -> bool) -> Vec<&'a T> {
    all.iter().copied().filter(|&one| keep(one)).collect()
}

/// A filter, resolved but for the facts.
pub struct Filter {
    /// P.
    pub period: Period,
    /// Where days begin.
    pub zone: TimeZone,
    message: v1::ProgramFilter,
    /// For role PARTNER: its own company.
    own: Option<String>,
}

impl Filter {
    /// Resolves what does not take the facts; `own` is the only company the caller sees, for role PARTNER.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a wrong period or zone.
    pub fn resolve(
        message: Option<&v1::ProgramFilter>,
        own: Option<String>,
        now: Nanos,
    ) -> Result<Self, Error> {
        let message = message.cloned().unwrap_or_default();
        let zone = calendar::zone("filter.time_zone", &message.time_zone)?;
        let as_of = match &message.as_of {
            None => now,
            Some(as_of) => times::to_nanos(as_of)
                .filter(|&as_of| as_of <= now && TIMES.contains(&as_of))
                .ok_or_else(|| {
                    Error::invalid("filter.as_of", "must be a time from 1900 up to now")
                })?,
        };
        let (start, end) = match &message.period {
            None => {
                let day = Unit::Quarter.first_day(calendar::date(as_of, &zone));
                (calendar::start_of_day(day, &zone)?, as_of)
            }
            Some(FilterPeriod::QuickRange(range)) => {
                let range = v1::QuickRange::try_from(*range)
                    .map_err(|_| Error::invalid("filter.quick_range", "is not known"))?;
                let span = Days::quick(range, as_of, &zone)?.span()?;
                (span.start, span.end)
            }
            Some(FilterPeriod::Interval(interval)) => {
                let part = |time: &Option<prost_types::Timestamp>, part: &str| {
                    time.as_ref()
                        .and_then(times::to_nanos)
                        .filter(|at| TIMES.contains(at))
                        .ok_or_else(|| {
                            Error::invalid(
                                format!("filter.interval.{part}"),
                                "must be a time between 1900 and 2200",
                            )
                        })
                };
                let (start, end) = (part(&interval.start, "start")?, part(&interval.end, "end")?);
                if end < start || end.saturating_sub(start) > LONGEST_PERIOD {
                    return Err(Error::invalid(
                        "filter.interval.end",
                        "must not come before start, nor 100 years or more after it",
                    ));
                }
                (start, end)
            }
        };
        Ok(Self {
            period: Period { start, end, as_of },
            zone,
            message,
            own,
        })
    }

    /// For role PARTNER: its own company, as records name it.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        self.own.as_deref()
    }

    /// The same over another period.
    #[must_use]
    pub fn with_period(&self, period: Period) -> Self {
        Self {
            period,
            zone: self.zone.clone(),
            message: self.message.clone(),
            own: self.own.clone(),
        }
    }

    /// The facts the filter leaves.
    ///
    /// # Errors
    /// `NOT_FOUND` for a partner that does not exist or that the caller may not see; `INVALID_ARGUMENT` for a wrong type or
    /// tier.
    pub fn view<'a>(
        &self,
        facts: &'a Facts,
        settings: &Settings,
        activity: Arc<Activity>,
    ) -> Result<View<'a>, Error> {
        let mut view = View::all(facts, activity);
        if self.own.is_some() {
            view.metrics = MetricId::known_to(Role::Partner);
        }
        self.check(facts, settings)?;
        if let Some(partners) = self.partners(facts) {
            view = view.of_partners(partners);
        }
        let filter = &self.message;
        if [
            &filter.regions,
            &filter.territories,
            &filter.products,
            &filter.industries,
        ]
        .iter()
        .any(|values| !values.is_empty())
        {
            view.is_part_of_deals = true;
            view.deals.retain(|deal| {
                accepts(&filter.regions, [&deal.region])
                    && accepts(&filter.territories, [&deal.territory])
                    && accepts(&filter.products, [&deal.product])
                    && accepts(&filter.industries, [&deal.industry])
            });
        }
        Ok(view)
    }

    fn check(&self, facts: &Facts, settings: &Settings) -> Result<(), Error> {
        let filter = &self.message;
        for partner in &filter.partners {
            let visible = match &self.own {
                Some(own) => own == partner,
                None => is_known(facts, partner),
            };
            if !visible {
                return Err(Error::not_found("partner", partner));
            }
        }
        let enabled = settings.enabled_types();
        if let Some(kind) = filter.types().find(|kind| !enabled.contains(kind)) {
            return Err(Error::invalid(
                "filter.types",
                format!("{} is not an available partner type", kind.as_str_name()),
            ));
        }
        if filter.tiers.is_empty() {
            return Ok(());
        }
        if filter.segments.is_empty() {
            return Err(Error::invalid(
                "filter.tiers",
                "a tier takes its segment: set segments too",
            ));
        }
        for tier in &filter.tiers {
            let occurs = facts.partners.iter().any(|partner| {
                same(&partner.profile.tier, tier)
                    && accepts(&filter.segments, [&partner.profile.segment])
            });
            if !occurs {
                return Err(Error::invalid(
                    "filter.tiers",
                    format!("\"{tier}\" is not a tier of the selected segments"),
                ));
            }
        }
        Ok(())
    }

    /// The partners the filter selects; unset if it selects all, known or not.
    fn partners<'a>(&self, facts: &'a Facts) -> Option<HashSet<&'a str>> {
        let filter = &self.message;
        let by_profile = !(filter.types.is_empty()
            && filter.segments.is_empty()
            && filter.tiers.is_empty()
            && filter.verticals.is_empty());
        if self.own.is_none() && filter.partners.is_empty() && !by_profile {
            return None;
        }
        let named = |partner: &str| {
            self.own.as_deref().is_none_or(|own| own == partner)
                && (filter.partners.is_empty() || filter.partners.iter().any(|one| one == partner))
        };
        let mut selected: HashSet<&str> = facts
            .partners
            .iter()
            .filter(|partner| {
                let profile = &partner.profile;
                named(&partner.id)
                    && (filter.types.is_empty() || filter.types.contains(&profile.r#type))
                    && accepts(&filter.segments, [&profile.segment])
                    && accepts(&filter.tiers, [&profile.tier])
                    && accepts(&filter.verticals, &profile.verticals)
            })
            .map(|partner| partner.id.as_str())
            .collect();
        if !by_profile {
            // Partners that no profile describes are known by their records alone.
            selected.extend(facts.partner_ids().filter(|partner| named(partner)));
        }
        Some(selected)
    }
}

/// For role PARTNER: the only company the caller sees (K-27), as records name it. Its token names a partnership; records name
/// the partner by that, by the organisation's name as of its pairing, or by the id of a profile of that name. A name that the partner
/// gives itself later names no records: it could be another's.
///
/// # Errors
/// `ROLE_NOT_ALLOWED` if the token names none; `PARTNERSHIP_NOT_CONNECTED` if that has ended (P-01); what the store reports.
pub fn own_partner(
    caller: &Caller,
    connection: &Connection,
    facts: &Facts,
) -> Result<Option<String>, Error> {
    if caller.role != Role::Partner {
        return Ok(None);
    }
    let Some(partnership) = caller.partner.clone() else {
        return Err(Error::new(
            Reason::RoleNotAllowed,
            "this token has role PARTNER but names no partner: make a new one",
        ));
    };
    let record = partnership::by_id(connection, &partnership)?;
    let record = record.map(Record::into_connected).transpose()?;
    if is_known(facts, &partnership) {
        return Ok(Some(partnership));
    }
    let named = record.map(|record| record.known_as).and_then(|name| {
        let mut profiles = facts.partners.iter();
        profiles
            .find(|partner| same(&partner.profile.name, &name))
            .map(|partner| partner.id.clone())
            .or_else(|| is_known(facts, &name).then_some(name))
    });
    Ok(Some(named.unwrap_or(partnership)))
}

/// Whether any record is about a partner.
#[must_use]
pub fn is_known(facts: &Facts, partner: &str) -> bool {
    facts.partners.iter().any(|known| known.id == partner)
        || facts.partner_ids().any(|known| known == partner)
}

impl Facts {
    /// The partners that records other than profiles name.
    fn partner_ids(&self) -> impl Iterator<Item = &str> {
        let deals = self
            .deals
            .iter()
            .flat_map(|deal| std::iter::once(&deal.partner).chain(&deal.influencing_partners));
        deals
            .chain(self.managed.iter().map(|one| &one.partner))
            .chain(self.trainings.iter().map(|one| &one.partner))
            .chain(self.certifications.iter().map(|one| &one.partner))
            .chain(self.incentives.iter().map(|one| &one.partner))
            .chain(self.costs.iter().map(|one| &one.partner))
            .chain(self.campaigns.iter().map(|one| &one.partner))
            .filter(|partner| !partner.is_empty())
            .map(String::as_str)
    }
}

/// Case-folded equality.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// Whether a filter field accepts a record that has `values`.
fn accepts<'v>(wanted: &[String], values: impl IntoIterator<Item = &'v String>) -> bool {
    wanted.is_empty()
        || values
            .into_iter()
            .any(|value| wanted.iter().any(|wanted| same(wanted, value)))
}
