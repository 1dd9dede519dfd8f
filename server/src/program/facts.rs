//! The program's records as the metrics see them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use overlap_proto::v1::{self, record::Content};
use rusqlite::Connection;

use crate::{
    error::Error,
    records::{
        kind::Kind,
        money::Money,
        store,
        times::{self, Nanos},
    },
};

pub use v1::{DealOutcome, DealType, IncentiveKind, RegistrationStatus};

/// A partner's claim to a deal.
#[derive(Clone, Copy, Debug)]
pub struct Registration {
    /// When it was made.
    pub submitted: Nanos,
    /// When it was decided.
    pub decided: Option<Nanos>,
    /// What was decided.
    pub status: RegistrationStatus,
}

/// A deal.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of overlap.v1.DealRecord")]
pub struct Deal {
    pub id: String,
    pub partner: String,
    pub customer: String,
    pub stage: String,
    pub amount: Money,
    pub sourced: bool,
    pub influencing_partners: Vec<String>,
    pub kind: DealType,
    pub registration: Option<Registration>,
    pub opened: Nanos,
    pub last_activity: Option<Nanos>,
    pub closed: Option<Nanos>,
    pub outcome: DealOutcome,
    pub region: String,
    pub territory: String,
    pub industry: String,
    pub product: String,
    pub gross_margin: Option<Money>,
    pub probability_bp: Option<u32>,
    pub stage_changes: Vec<(String, Nanos)>,
}

/// A partner.
#[derive(Clone, Debug)]
pub struct Partner {
    /// The platform's id.
    pub id: String,
    /// Everything else.
    pub profile: v1::PartnerProfileRecord,
    /// When it joined.
    pub enrolled: Option<Nanos>,
    /// When it left.
    pub left: Option<Nanos>,
}

/// An account that a partner looks after.
#[derive(Clone, Debug)]
pub struct ManagedAccount {
    /// Who.
    pub partner: String,
    /// Whose account.
    pub customer: String,
    /// From when.
    pub from: Nanos,
    /// Until when.
    pub to: Option<Nanos>,
}

impl ManagedAccount {
    /// Whether the partner looks after it at an instant.
    #[must_use]
    pub fn covers(&self, at: Nanos) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

/// A course assigned.
#[derive(Clone, Debug)]
pub struct Training {
    /// To whose person.
    pub partner: String,
    /// When.
    pub assigned: Nanos,
    /// When it was completed.
    pub completed: Option<Nanos>,
}

/// A certification.
#[derive(Clone, Debug)]
pub struct Certification {
    /// The platform's id.
    pub id: String,
    /// Whose.
    pub partner: String,
    /// What for.
    pub name: String,
    /// From when.
    pub issued: Nanos,
    /// Until when.
    pub expires: Option<Nanos>,
}

impl Certification {
    /// Whether it is valid at an instant.
    #[must_use]
    pub fn is_valid(&self, at: Nanos) -> bool {
        self.issued <= at && self.expires.is_none_or(|expires| at < expires)
    }
}

/// An incentive or payout.
#[derive(Clone, Debug)]
pub struct Incentive {
    /// Whose.
    pub partner: String,
    /// What it is.
    pub kind: IncentiveKind,
    /// What may be drawn.
    pub available: Money,
    /// What was drawn.
    pub used: Option<Money>,
    /// Its period's start.
    pub start: Nanos,
    /// Its period's end.
    pub end: Nanos,
    /// Whether nothing stands in the payout's way.
    pub ready: bool,
}

/// A cost of the channel.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Who caused it, or empty.
    pub partner: String,
    /// How much.
    pub amount: Money,
    /// When.
    pub incurred: Nanos,
}

/// What a metric should reach.
#[derive(Clone, Debug)]
pub struct Target {
    /// The platform's id.
    pub id: String,
    /// The metric's id.
    pub metric: String,
    /// Whose, or empty.
    pub partner: String,
    /// From when.
    pub start: Nanos,
    /// Until when.
    pub end: Nanos,
    /// How much.
    pub goal: Goal,
}

/// What is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// An amount.
    Money(Money),
    /// A count, or a ratio in ten-thousandths.
    Number(i64),
}

/// A campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Whose.
    pub partner: String,
    /// When it started.
    pub starts: Nanos,
    /// Leads it brought.
    pub leads: u64,
}

/// A partner's latest analysis.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// When.
    pub at: Nanos,
    /// What was found.
    pub record: v1::PartnerAnalysisRecord,
}

/// Everything the metrics read.
#[derive(Default)]
#[expect(
    missing_docs,
    reason = "each field holds the records of its name, by id where nothing else is said"
)]
pub struct Facts {
    pub partners: Vec<Partner>,
    pub deals: Vec<Deal>,
    /// By customer.
    pub managed: Vec<ManagedAccount>,
    pub trainings: Vec<Training>,
    pub certifications: Vec<Certification>,
    pub incentives: Vec<Incentive>,
    pub costs: Vec<Cost>,
    pub targets: Vec<Target>,
    pub campaigns: Vec<Campaign>,
    /// By partner.
    pub analyses: BTreeMap<String, Analysis>,
    /// The latest record of each kind, portal events aside.
    pub through: HashMap<Kind, Nanos>,
}

impl Facts {
    /// Reads everything.
    ///
    /// # Errors
    /// What the store reports.
    pub fn load(connection: &Connection) -> Result<Self, Error> {
        let mut facts = Self::default();
        for kind in [
            Kind::PartnerProfile,
            Kind::Deal,
            Kind::ManagedAccount,
            Kind::Training,
            Kind::Certification,
            Kind::Incentive,
            Kind::ChannelCost,
            Kind::Target,
            Kind::Campaign,
            Kind::PartnerAnalysis,
        ] {
            store::scan(connection, kind, &mut |id, version, content| {
                let latest = facts.through.entry(kind).or_insert(version);
                *latest = (*latest).max(version);
                facts.take(id, content).ok_or_else(|| {
                    Error::internal("a stored record misses what validation requires")
                })
            })?;
        }
        let managed = &mut facts.managed;
        managed.sort_by(|one, other| one.customer.cmp(&other.customer));
        Ok(facts)
    }

    fn take(&mut self, id: String, content: Content) -> Option<()> {
        match content {
            Content::PartnerProfile(profile) => self.partners.push(Partner {
                id,
                enrolled: nanos(profile.enrolled_at),
                left: nanos(profile.left_at),
                profile,
            }),
            Content::Deal(record) => self.deals.push(deal(id, record)?),
            Content::ManagedAccount(record) => self.managed.push(ManagedAccount {
                partner: record.partner,
                customer: record.customer,
                from: nanos(record.from)?,
                to: nanos(record.to),
            }),
            Content::Training(record) => self.trainings.push(Training {
                partner: record.partner,
                assigned: nanos(record.assigned_at)?,
                completed: nanos(record.completed_at),
            }),
            Content::Certification(record) => self.certifications.push(Certification {
                id,
                partner: record.partner,
                name: record.name,
                issued: nanos(record.issued_at)?,
                expires: nanos(record.expires_at),
            }),
            Content::Incentive(record) => self.incentives.push(Incentive {
                kind: record.kind(),
                available: money(record.available.as_ref())?,
                used: money(record.used.as_ref()),
                start: nanos(record.period_start)?,
                end: nanos(record.period_end)?,
                ready: record.payout_ready,
                partner: record.partner,
            }),
            Content::ChannelCost(record) => self.costs.push(Cost {
                amount: money(record.amount.as_ref())?,
                incurred: nanos(record.incurred_at)?,
                partner: record.partner,
            }),
            Content::Target(record) => self.targets.push(Target {
                id,
                goal: match record.goal? {
                    v1::target_record::Goal::Money(amount) => Goal::Money(money(Some(&amount))?),
                    v1::target_record::Goal::Number(number) => Goal::Number(number),
                },
                start: nanos(record.period_start)?,
                end: nanos(record.period_end)?,
                metric: record.metric,
                partner: record.partner,
            }),
            Content::Campaign(record) => self.campaigns.push(Campaign {
                starts: nanos(record.starts_at)?,
                leads: record.leads,
                partner: record.partner,
            }),
            Content::PartnerAnalysis(record) => {
                let at = nanos(record.analyzed_at)?;
                // Records come by id, so of two analyses of one instant the one of the greater id counts.
                let latest = self.analyses.get(&record.partner);
                if latest.is_none_or(|known| known.at <= at) {
                    self.analyses
                        .insert(record.partner.clone(), Analysis { at, record });
                }
            }
            _ => {}
        }
        Some(())
    }
}

fn deal(id: String, record: v1::DealRecord) -> Option<Deal> {
    Some(Deal {
        id,
        amount: money(record.amount.as_ref())?,
        sourced: record.origination() == v1::DealOrigination::Sourced,
        kind: record.r#type(),
        outcome: record.outcome(),
        registration: match &record.registration {
            None => None,
            Some(registration) => Some(Registration {
                submitted: nanos(registration.submitted_at)?,
                decided: nanos(registration.decided_at),
                status: registration.status(),
            }),
        },
        opened: nanos(record.opened_at)?,
        last_activity: nanos(record.last_activity_at),
        closed: nanos(record.closed_at),
        gross_margin: money(record.gross_margin.as_ref()),
        probability_bp: record.probability_bp,
        stage_changes: record
            .stage_changes
            .into_iter()
            .map(|change| Some((change.stage, nanos(change.at)?)))
            .collect::<Option<_>>()?,
        partner: record.partner,
        customer: record.customer,
        stage: record.stage,
        influencing_partners: record.influencing_partners,
        region: record.region,
        territory: record.territory,
        industry: record.industry,
        product: record.product,
    })
}

fn nanos(time: Option<prost_types::Timestamp>) -> Option<Nanos> {
    times::to_nanos(&time?)
}

fn money(money: Option<&v1::Money>) -> Option<Money> {
    Money::parse(money?).ok()
}

/// Facts read once for every state of the records.
#[derive(Clone, Default)]
pub struct FactsCache(Arc<Mutex<Option<Cached>>>);

struct Cached {
    /// Of all records but portal events, when they were read.
    revision: i64,
    facts: Arc<Facts>,
}

impl FactsCache {
    /// The facts of the snapshot that `connection` reads.
    ///
    /// # Errors
    /// What the store reports.
    pub fn load(&self, connection: &Connection) -> Result<Arc<Facts>, Error> {
        let revision = store::facts_revision(connection)?;
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = &*lock()
            && cached.revision == revision
        {
            return Ok(cached.facts.clone());
        }
        let facts = Arc::new(Facts::load(connection)?);
        *lock() = Some(Cached {
            revision,
            facts: facts.clone(),
        });
        Ok(facts)
    }
}
