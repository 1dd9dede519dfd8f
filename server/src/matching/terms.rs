//! The agreed sharing permissions in the protocol's form (PROTOCOL.md "Terms").

use overlap_crypto::{
    context::OrganizationId,
    terms::{Category, Padding, SideTerms, Stage as TermsStage, Terms, Tier},
};

use super::{failure::misused, local_customers::StageTiers};
use crate::{
    error::{Error, Reason},
    sharing::policy::{Agreement, Policy, StageCategory},
};

/// What both sides have to do alike to compare keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRules {
    /// The version of the rules that normalise keys.
    pub normaliser_version: u16,
    /// The public suffix list that finds registrable domains.
    pub suffix_list: String,
}

/// Stands for the stages of a side that hides them all: terms name at least one.
const NO_STAGE: &str = "-";

/// An epoch lasts at most this many days.
const EPOCH_DAYS: u16 = 30;

/// Both sides' stages and the protocol's terms. A stage's number on the wire is its position among its side's disclosed stages.
pub struct RunTerms {
    /// The protocol's form, which both sides hash.
    pub terms: Terms,
    /// My stages.
    pub mine: StageTiers,
    /// The partner's stages.
    pub theirs: StageTiers,
    /// The fields the partner discloses, in the order of its labels.
    pub their_fields: Vec<String>,
}

impl RunTerms {
    /// The terms of an agreement.
    ///
    /// # Errors
    /// `NO_KEYS_AGREED`; `FAILED_PRECONDITION` or `FIELDS_DO_NOT_FIT` if the protocol cannot express them.
    pub fn new(
        agreement: &Agreement,
        me: OrganizationId,
        partner: OrganizationId,
        rules: &KeyRules,
    ) -> Result<Self, Error> {
        let mine = StageTiers::mine(agreement)?;
        let theirs = StageTiers::theirs(agreement)?;
        let terms = Terms::new(
            side(me, &agreement.mine, &mine)?,
            side(partner, &agreement.theirs, &theirs)?,
            rules.normaliser_version,
            rules.suffix_list.clone(),
            Terms::DEFAULT_CHUNK_ELEMENTS,
        )
        .map_err(misused)?;
        if terms.key_types().is_empty() {
            return Err(Error::new(
                Reason::NoKeysAgreed,
                "the two policies have no key type in common: agree on at least one in [keys] match_on",
            ));
        }
        Ok(Self {
            terms,
            mine,
            theirs,
            their_fields: agreement.theirs.shared_fields.clone(),
        })
    }
}

fn side(
    organization: OrganizationId,
    policy: &Policy,
    tiers: &StageTiers,
) -> Result<SideTerms, Error> {
    let mut stages: Vec<TermsStage> = tiers
        .iter()
        .filter(|(_, _, tier)| *tier != Tier::Hidden)
        .map(|(_, stage, tier)| TermsStage {
            id: stage.id.clone(),
            label: if stage.label.is_empty() {
                stage.id.clone()
            } else {
                stage.label.clone()
            },
            ordinal: stage.ordinal,
            category: match stage.category {
                StageCategory::Open => Category::Open,
                StageCategory::Customer => Category::Customer,
                StageCategory::Lost => Category::Lost,
                StageCategory::Churned => Category::Churned,
            },
            tier,
        })
        .collect();
    if stages.is_empty() {
        stages.push(TermsStage {
            id: NO_STAGE.to_owned(),
            label: NO_STAGE.to_owned(),
            ordinal: 0,
            category: Category::Open,
            tier: Tier::Hidden,
        });
    }
    Ok(SideTerms {
        organization,
        stages,
        fields: policy.shared_fields.clone(),
        timeline: policy.timeline,
        key_types: policy.match_on.iter().copied().collect(),
        domain_from_email: policy.domain_from_email,
        min_count: policy.min_count.max(1),
        count_by_count: policy.count_by_count,
        label_field_bytes: label_field_bytes(policy)?,
        padding: match policy.padding {
            0 => Padding::None,
            step => Padding::Multiple(step),
        },
        max_queries: policy.max_evaluations_per_epoch,
        max_tags: policy.max_evaluations_per_epoch,
        epoch_days: EPOCH_DAYS,
        min_interval_s: u64::from(policy.min_interval_s),
    })
}

fn label_field_bytes(policy: &Policy) -> Result<u16, Error> {
    if policy.shared_fields.is_empty() {
        return Ok(0);
    }
    u16::try_from(policy.label_field_bytes).map_err(|_| {
        Error::new(
            Reason::FieldsDoNotFit,
            "label_field_bytes exceeds what a label can hold",
        )
    })
}
