//! The stages of one side, with what the other may learn of each.

use overlap_crypto::terms::Tier;

use crate::{
    error::Error,
    sharing::policy::{Agreement, Policy, Stage},
};

/// More stages than any lifecycle has; a stage index fits a byte.
pub const MAX_STAGES: usize = 250;

/// My stages by ascending ordinal (ties: id), with what the partner may learn of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageTiers {
    stages: Vec<(Stage, Tier)>,
}

impl StageTiers {
    /// The stages of one side under its policy.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for more than [`MAX_STAGES`].
    pub fn new(stages: &[Stage], policy: &Policy) -> Result<Self, Error> {
        if stages.len() > MAX_STAGES {
            return Err(Error::invalid(
                "stages",
                format!("at most {MAX_STAGES} stages can be matched"),
            ));
        }
        let mut stages: Vec<(Stage, Tier)> = stages
            .iter()
            .map(|stage| (stage.clone(), policy.tier(&stage.id)))
            .collect();
        stages.sort_by(|(left, _), (right, _)| {
            (left.ordinal, &left.id).cmp(&(right.ordinal, &right.id))
        });
        Ok(Self { stages })
    }

    /// My side of an agreement.
    ///
    /// # Errors
    /// As [`StageTiers::new`].
    pub fn mine(agreement: &Agreement) -> Result<Self, Error> {
        Self::new(&agreement.my_stages, &agreement.mine)
    }

    /// The partner's side of an agreement.
    ///
    /// # Errors
    /// As [`StageTiers::new`].
    pub fn theirs(agreement: &Agreement) -> Result<Self, Error> {
        Self::new(&agreement.their_stages, &agreement.theirs)
    }

    /// Number of stages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there is no stage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stage at `index`, if there is one.
    #[must_use]
    pub fn stage(&self, index: u8) -> Option<&Stage> {
        self.stages.get(usize::from(index)).map(|(stage, _)| stage)
    }

    /// The tier of the stage at `index`; hidden if there is none.
    #[must_use]
    pub fn tier(&self, index: u8) -> Tier {
        self.stages
            .get(usize::from(index))
            .map_or(Tier::Hidden, |(_, tier)| *tier)
    }

    /// The index of the stage with this id.
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<u8> {
        let index = self.stages.iter().position(|(stage, _)| stage.id == id)?;
        u8::try_from(index).ok()
    }

    /// Every stage with its index and tier, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Stage, Tier)> {
        (0_u8..)
            .zip(&self.stages)
            .map(|(index, (stage, tier))| (index, stage, *tier))
    }

    /// The indexes of the stages with this tier.
    pub fn with_tier(&self, tier: Tier) -> impl Iterator<Item = u8> {
        self.iter()
            .filter(move |(_, _, own)| *own == tier)
            .map(|(index, _, _)| index)
    }

    /// The number by which a disclosed stage is named on the wire: its position among the disclosed stages.
    #[must_use]
    pub fn wire_code(&self, index: u8) -> Option<u8> {
        if self.tier(index) == Tier::Hidden {
            return None;
        }
        let before = self
            .iter()
            .filter(|(other, _, tier)| *other < index && *tier != Tier::Hidden)
            .count();
        u8::try_from(before).ok()
    }

    /// The stage that a number on the wire names.
    #[must_use]
    pub fn from_wire_code(&self, code: u8) -> Option<u8> {
        self.iter()
            .filter(|(_, _, tier)| *tier != Tier::Hidden)
            .nth(usize::from(code))
            .map(|(index, _, _)| index)
    }

    /// Whether any stage has this tier.
    #[must_use]
    pub fn has(&self, tier: Tier) -> bool {
        self.with_tier(tier).next().is_some()
    }

    /// The ids of the stages that are not hidden.
    #[must_use]
    pub fn disclosed(&self) -> Vec<&str> {
        self.iter()
            .filter(|(_, _, tier)| *tier != Tier::Hidden)
            .map(|(_, stage, _)| stage.id.as_str())
            .collect()
    }
}
