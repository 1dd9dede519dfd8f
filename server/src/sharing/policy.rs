//! What one side discloses to the other, and what both sides agreed on.

use std::collections::{BTreeMap, BTreeSet};

use overlap_crypto::{
    list::LabelFormat,
    terms::{KeyType, Tier},
};
use overlap_proto::{
    policy_file::{self, DEFAULT_LABEL_BYTES, DEFAULT_MAX_EVALUATIONS, DEFAULT_MIN_COUNT},
    v1,
};
use rusqlite::Connection;

use super::ledger::Ledger;
use crate::error::{Error, Reason, unless};

/// Stages of one side.
pub const MAX_STAGES: usize = 64;
/// Fields that a policy may share.
pub const MAX_FIELDS: usize = 32;
/// Bytes of the shared fields in a label.
pub const MAX_LABEL_BYTES: u32 = LabelFormat::MAX_FIELD_BYTES as u32;
/// Characters of a stage's or field's name.
pub const MAX_NAME: usize = 100;
const MAX_MIN_COUNT: u32 = 1_000_000;
const MAX_PADDING: u32 = 1 << 20;
const MAX_EVALUATIONS: u64 = 1 << 40;

/// A lifecycle stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name customers' records use.
    pub id: String,
    /// The name people read.
    pub label: String,
    /// Position in the lifecycle, ascending.
    pub ordinal: u32,
    /// What it means for metrics.
    pub category: StageCategory,
}

impl Stage {
    /// The stages an organisation has before it defines its own.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        [
            ("Prospect", 10, StageCategory::Open),
            ("Lead", 20, StageCategory::Open),
            ("Deal", 30, StageCategory::Open),
            ("Customer", 40, StageCategory::Customer),
            ("Lost", 50, StageCategory::Lost),
            ("Churned", 60, StageCategory::Churned),
        ]
        .into_iter()
        .map(|(id, ordinal, category)| Self {
            id: id.to_owned(),
            label: id.to_owned(),
            ordinal,
            category,
        })
        .collect()
    }

    /// The stage in the API's terms.
    #[must_use]
    pub fn to_proto(&self) -> v1::Stage {
        v1::Stage {
            id: self.id.clone(),
            label: self.label.clone(),
            ordinal: self.ordinal,
            category: self.category.to_proto().into(),
        }
    }
}

/// What a stage means for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StageCategory {
    /// Not yet a customer.
    Open,
    /// A customer.
    Customer,
    /// Never became one.
    Lost,
    /// Was one.
    Churned,
}

impl StageCategory {
    /// Every category.
    pub const ALL: [Self; 4] = [Self::Open, Self::Customer, Self::Lost, Self::Churned];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Customer => "CUSTOMER",
            Self::Lost => "LOST",
            Self::Churned => "CHURNED",
        }
    }

    /// The category with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The category in the API's terms.
    #[must_use]
    pub const fn to_proto(self) -> v1::StageCategory {
        match self {
            Self::Open => v1::StageCategory::Open,
            Self::Customer => v1::StageCategory::Customer,
            Self::Lost => v1::StageCategory::Lost,
            Self::Churned => v1::StageCategory::Churned,
        }
    }

    /// The category that the API's terms name.
    #[must_use]
    pub fn from_proto(category: v1::StageCategory) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.to_proto() == category)
    }
}

/// A tier in the API's terms.
#[must_use]
pub const fn tier_to_proto(tier: Tier) -> v1::Tier {
    match tier {
        Tier::Hidden => v1::Tier::Hidden,
        Tier::Count => v1::Tier::Count,
        Tier::List => v1::Tier::List,
    }
}

/// The tier that the API's terms name.
#[must_use]
pub const fn tier_from_proto(tier: v1::Tier) -> Option<Tier> {
    match tier {
        v1::Tier::Unspecified => None,
        v1::Tier::Hidden => Some(Tier::Hidden),
        v1::Tier::Count => Some(Tier::Count),
        v1::Tier::List => Some(Tier::List),
    }
}

/// A key type in the API's terms.
#[must_use]
pub const fn key_type_to_proto(key_type: KeyType) -> v1::KeyType {
    match key_type {
        KeyType::ExternalId => v1::KeyType::ExternalId,
        KeyType::Email => v1::KeyType::Email,
        KeyType::Phone => v1::KeyType::Phone,
        KeyType::Domain => v1::KeyType::Domain,
    }
}

/// The key type that the API's terms name.
#[must_use]
pub fn key_type_from_proto(key_type: v1::KeyType) -> Option<KeyType> {
    KeyType::ALL
        .into_iter()
        .find(|known| key_type_to_proto(*known) == key_type)
}

/// What one side discloses to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tier by stage id; a stage that is not named is hidden.
    pub tiers: BTreeMap<String, Tier>,
    /// Fields disclosed with listed customers, in the order of the policy.
    pub shared_fields: Vec<String>,
    /// Whether listed customers' lifecycle events are disclosed.
    pub timeline: bool,
    /// Key types this side is willing to match on, in the agreed order.
    pub match_on: Vec<KeyType>,
    /// Whether the domain of an e-mail address acts as a domain key.
    pub domain_from_email: bool,
    /// Counts below this are suppressed.
    pub min_count: u32,
    /// Whether the semi-honest count x count flow may run.
    pub count_by_count: bool,
    /// Fixed length of the shared fields in a label.
    pub label_field_bytes: u32,
    /// Set sizes are padded to a multiple of this; 0 is no padding.
    pub padding: u32,
    /// Evaluations granted to the partner per epoch.
    pub max_evaluations_per_epoch: u64,
    /// Least seconds between two runs.
    pub min_interval_s: u32,
}

impl Policy {
    /// The tier of a stage.
    #[must_use]
    pub fn tier(&self, stage: &str) -> Tier {
        self.tiers.get(stage).copied().unwrap_or(Tier::Hidden)
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with file, line and column.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Self, Error> {
        let policy = policy_file::parse(text, file_name)
            .map_err(|error| Error::new(Reason::InvalidArgument, error.to_string()))?;
        Self::from_proto(&policy)
            .map_err(|error| Error::new(error.reason(), format!("{file_name}: {error}")))
    }

    /// The policy that the API's terms describe.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field.
    pub fn from_proto(policy: &v1::SharingPolicy) -> Result<Self, Error> {
        let mut tiers = BTreeMap::new();
        for (stage, tier) in &policy.stages {
            let tier = v1::Tier::try_from(*tier)
                .ok()
                .and_then(tier_from_proto)
                .ok_or_else(|| {
                    Error::invalid(format!("policy.stages[\"{stage}\"]"), "has no tier")
                })?;
            tiers.insert(stage.clone(), tier);
        }
        let mut match_on = Vec::new();
        for key_type in policy.match_on() {
            match_on.push(
                key_type_from_proto(key_type)
                    .ok_or_else(|| Error::invalid("policy.match_on", "has an unknown key type"))?,
            );
        }
        match_on.sort();
        match_on.dedup();
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let policy = Self {
            tiers,
            shared_fields: policy.shared_fields.clone(),
            timeline: policy.timeline,
            match_on,
            domain_from_email: policy.domain_from_email,
            min_count: or(policy.min_count, DEFAULT_MIN_COUNT),
            count_by_count: policy.count_by_count,
            label_field_bytes: if policy.shared_fields.is_empty() {
                0
            } else {
                or(policy.label_field_bytes, DEFAULT_LABEL_BYTES)
            },
            padding: policy.padding,
            max_evaluations_per_epoch: match policy.max_evaluations_per_epoch {
                0 => DEFAULT_MAX_EVALUATIONS,
                evaluations => evaluations,
            },
            min_interval_s: policy.min_interval_s,
        };
        policy.check()?;
        Ok(policy)
    }

    /// The policy in the API's terms.
    #[must_use]
    pub fn to_proto(&self) -> v1::SharingPolicy {
        v1::SharingPolicy {
            stages: self
                .tiers
                .iter()
                .map(|(stage, tier)| (stage.clone(), tier_to_proto(*tier).into()))
                .collect(),
            shared_fields: self.shared_fields.clone(),
            timeline: self.timeline,
            match_on: self
                .match_on
                .iter()
                .map(|key_type| key_type_to_proto(*key_type).into())
                .collect(),
            domain_from_email: self.domain_from_email,
            min_count: self.min_count,
            count_by_count: self.count_by_count,
            label_field_bytes: self.label_field_bytes,
            padding: self.padding,
            max_evaluations_per_epoch: self.max_evaluations_per_epoch,
            min_interval_s: self.min_interval_s,
        }
    }

    /// Refuses values out of range, whoever they come from.
    pub(super) fn check(&self) -> Result<(), Error> {
        let within = |field: &str, good: bool, problem: String| {
            if good {
                Ok(())
            } else {
                Err(Error::invalid(format!("policy.{field}"), problem))
            }
        };
        within(
            "stages",
            self.tiers.len() <= MAX_STAGES && self.tiers.keys().all(|name| is_name(name)),
            format!("must have at most {MAX_STAGES} names of at most {MAX_NAME} characters"),
        )?;
        let distinct: BTreeSet<_> = self.shared_fields.iter().collect();
        within(
            "shared_fields",
            self.shared_fields.len() <= MAX_FIELDS
                && distinct.len() == self.shared_fields.len()
                && self.shared_fields.iter().all(|name| is_name(name)),
            format!(
                "must have at most {MAX_FIELDS} different names of at most {MAX_NAME} characters"
            ),
        )?;
        within(
            "label_field_bytes",
            self.label_field_bytes <= MAX_LABEL_BYTES,
            format!("must be at most {MAX_LABEL_BYTES}"),
        )?;
        within(
            "match_on",
            !self.match_on.is_empty() && self.match_on.is_sorted_by(|a, b| a < b),
            "must name at least one of external_id, email, phone, domain".to_owned(),
        )?;
        within(
            "min_count",
            (1..=MAX_MIN_COUNT).contains(&self.min_count),
            format!("must be between 1 and {MAX_MIN_COUNT}"),
        )?;
        within(
            "padding",
            self.padding <= MAX_PADDING,
            format!("must be at most {MAX_PADDING}"),
        )?;
        within(
            "max_evaluations_per_epoch",
            (1..=MAX_EVALUATIONS).contains(&self.max_evaluations_per_epoch),
            format!("must be between 1 and {MAX_EVALUATIONS}"),
        )
    }

    /// Refuses a policy that names a stage there is not.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the stages there are.
    pub fn check_stages(&self, stages: &[Stage]) -> Result<(), Error> {
        for name in self.tiers.keys() {
            if !stages.iter().any(|stage| stage.id == *name) {
                let known: Vec<_> = stages.iter().map(|stage| stage.id.as_str()).collect();
                return Err(Error::invalid(
                    format!("policy.stages[\"{name}\"]"),
                    format!(
                        "is not a stage of this organisation: {} are",
                        known.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }

    /// What this side would disclose to give as much as `theirs` gives, as far as it has the stages.
    pub(super) fn mirror(theirs: &Self, stages: &[Stage]) -> Self {
        let mut mine = theirs.clone();
        mine.tiers
            .retain(|name, _| stages.iter().any(|stage| stage.id == *name));
        mine
    }

    /// Whether changing from `old` to this takes something away or nothing, and changes neither keys nor limits: such a change
    /// needs nobody's approval.
    pub(super) fn only_takes_away_from(&self, old: &Self) -> bool {
        self.tiers
            .iter()
            .all(|(stage, tier)| *tier <= old.tier(stage))
            && self
                .shared_fields
                .iter()
                .all(|field| old.shared_fields.contains(field))
            && self.timeline <= old.timeline
            && self.count_by_count <= old.count_by_count
            && self.label_field_bytes <= old.label_field_bytes
            && self.match_on == old.match_on
            && self.domain_from_email == old.domain_from_email
            && self.min_count == old.min_count
            && self.padding == old.padding
            && self.max_evaluations_per_epoch == old.max_evaluations_per_epoch
            && self.min_interval_s == old.min_interval_s
    }

    /// Whether everything that `old` discloses is still disclosed, so that results made under it may stay.
    pub(super) fn keeps_all_of(&self, old: &Self) -> bool {
        old.tiers
            .iter()
            .all(|(stage, tier)| *tier <= self.tier(stage))
            && old
                .shared_fields
                .iter()
                .all(|field| self.shared_fields.contains(field))
            && old.timeline <= self.timeline
            && old.count_by_count <= self.count_by_count
            && old.domain_from_email <= self.domain_from_email
            && old
                .match_on
                .iter()
                .all(|key_type| self.match_on.contains(key_type))
            && self.min_count <= old.min_count
    }
}

/// Whether a stage or field can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// Both sides' agreed policies, as matching uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What I disclose.
    pub mine: Policy,
    /// What the partner discloses.
    pub theirs: Policy,
    /// All my stages by ordinal.
    pub my_stages: Vec<Stage>,
    /// The partner's stages by ordinal, as it names them to me. Stages that it hides may be among them (the matrix shows them
    /// as NOT_SHARED) when it chooses to name them.
    pub their_stages: Vec<Stage>,
}

/// The agreement in force with a partner.
///
/// # Errors
/// `SHARING_NOT_ACTIVE` if both sides have not agreed.
pub fn active_agreement(connection: &Connection, partnership_id: &str) -> Result<Agreement, Error> {
    Ledger::load(connection, partnership_id)?.agreement(partnership_id)
}

/// [`active_agreement`], or none where there is no agreement.
///
/// # Errors
/// What the store reports.
pub(crate) fn agreement_if_active(
    connection: &Connection,
    partnership_id: &str,
) -> Result<Option<Agreement>, Error> {
    unless(
        active_agreement(connection, partnership_id),
        &[Reason::SharingNotActive],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::from_toml(text, "p.toml").unwrap()
    }

    #[test]
    fn p31_unknown_stages_are_refused_and_the_known_ones_named() {
        let error = policy("[stages]\nPropsect = \"list\"\n")
            .check_stages(&Stage::built_in())
            .unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArgument);
        assert!(
            error.message().contains(
                "\"Propsect\"]: is not a stage of this organisation: Prospect, Lead, Deal, Customer, Lost, Churned are"
            ),
            "{error}"
        );
    }

    /// A label has at most 4,096 bytes sealed: stage, pseudonym and seal take 33 of them.
    #[test]
    fn p31_more_field_bytes_than_a_label_holds_are_refused_with_the_policy() {
        let mut policy = policy("[stages]\nLead = \"list\"\n[fields]\nshare = [\"name\"]\n");
        policy.label_field_bytes = 4_096 - 33;
        policy.check().unwrap();
        policy.label_field_bytes += 1;
        let error = policy.check().unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArgument);
        assert!(error.message().contains("at most 4063"), "{error}");
    }

    #[test]
    fn what_takes_away_and_what_keeps() {
        let wide = policy(
            "[stages]\nLead = \"list\"\nDeal = \"count\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n",
        );
        for (text, takes_away, keeps) in [
            (
                "[stages]\nLead = \"list\"\nDeal = \"count\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n",
                true,
                true,
            ),
            (
                "[stages]\nLead = \"count\"\nDeal = \"count\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n",
                true,
                false,
            ),
            (
                "[stages]\nLead = \"list\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n",
                true,
                false,
            ),
            (
                "[stages]\nLead = \"list\"\nDeal = \"count\"\n[fields]\nshare = [\"name\"]\ntimeline = true\n",
                true,
                false,
            ),
            ("[stages]\nLead = \"list\"\nDeal = \"count\"\n", true, false),
            (
                "[stages]\nLead = \"list\"\nDeal = \"list\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n",
                false,
                true,
            ),
            (
                "[stages]\nLead = \"hidden\"\nDeal = \"list\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n",
                false,
                false,
            ),
            (
                "[stages]\nLead = \"list\"\nDeal = \"count\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n[keys]\nmatch_on = [\"email\"]\n",
                false,
                false,
            ),
            (
                "[stages]\nLead = \"list\"\nDeal = \"count\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n[limits]\nmin_count = 9\n",
                false,
                false,
            ),
            (
                "[stages]\nLead = \"list\"\nDeal = \"count\"\n[fields]\nshare = [\"name\", \"owner\"]\ntimeline = true\n[limits]\nmin_count = 3\n",
                false,
                true,
            ),
        ] {
            let changed = policy(text);
            assert_eq!(changed.only_takes_away_from(&wide), takes_away, "{text}");
            assert_eq!(changed.keeps_all_of(&wide), keeps, "{text}");
        }
    }

    #[test]
    fn the_api_form_round_trips() {
        let policy =
            policy("[stages]\nLead = \"list\"\n[keys]\nmatch_on = [\"domain\", \"email\"]\n");
        assert_eq!(policy.match_on, [KeyType::Email, KeyType::Domain]);
        assert_eq!(Policy::from_proto(&policy.to_proto()).unwrap(), policy);
        let mut bad = policy.to_proto();
        bad.shared_fields = vec!["name".to_owned(), "name".to_owned()];
        assert!(Policy::from_proto(&bad).is_err());
        bad = policy.to_proto();
        bad.match_on.clear();
        assert!(Policy::from_proto(&bad).is_err());
        bad = policy.to_proto();
        bad.stages.insert("Lead".to_owned(), 0);
        assert!(Policy::from_proto(&bad).is_err());
    }
}
