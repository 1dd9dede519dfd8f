//! What one side discloses to the other, and what both sides agreed on.

use std::collections::BTreeMap;

use overlap_crypto::terms::{KeyType, Tier};
use rusqlite::Connection;

use crate::error::{Error, Reason};

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

/// What one side discloses to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tier by stage id; a stage that is not named is hidden.
    pub tiers: BTreeMap<String, Tier>,
    /// Fields disclosed with listed customers, in the order of the policy.
    pub shared_fields: Vec<String>,
    /// Whether listed customers' lifecycle events are disclosed.
    pub timeline: bool,
    /// Key types this side is willing to match on.
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
    let _ = connection;
    Err(Error::new(
        Reason::SharingNotActive,
        format!(
            "no sharing permissions are agreed with \"{partnership_id}\": set them with `overlap sharing set`"
        ),
    ))
}
