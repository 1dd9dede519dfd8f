//! What each side of a partnership discloses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, KeyType, Stage,
    convert::{present, time},
    v1,
};

named_enum! {
    /// What a partner may learn about my customers in one stage.
    Tier of v1::Tier {
        /// Nothing: they never enter the protocol.
        Hidden = "hidden",
        /// How many, never who.
        Count = "count",
        /// Who, the stage and the permitted fields.
        List = "list",
    }
}

named_enum! {
    /// How far the agreement is.
    SharingState of v1::SharingState {
        /// Neither side has proposed anything.
        None = "NONE",
        /// I proposed, the partner has not decided.
        Proposed = "PROPOSED",
        /// The partner proposed, I have not decided.
        AwaitingMyDecision = "AWAITING_MY_DECISION",
        /// Both agreed.
        Active = "ACTIVE",
        /// One side said no.
        Declined = "DECLINED",
        /// One side withdrew.
        Revoked = "REVOKED",
    }
}

/// What one side discloses to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharingPolicy {
    /// Tier by stage id; a stage that is not named is hidden.
    pub stages: BTreeMap<String, Tier>,
    /// Fields disclosed with listed customers.
    pub shared_fields: Vec<String>,
    /// Whether listed customers' lifecycle events are disclosed.
    pub timeline: bool,
    /// Kinds of identifier to match on.
    pub match_on: Vec<KeyType>,
    /// Whether the domain of an e-mail address acts as a domain key.
    pub domain_from_email: bool,
    /// Counts below this are suppressed.
    pub min_count: u32,
    /// Whether the semi-honest count by count flow may run.
    pub count_by_count: bool,
    /// Length of the shared fields of one customer, in bytes.
    pub label_field_bytes: u32,
    /// Set sizes are padded to a multiple of this; 0 is no padding.
    pub padding: u32,
    /// Evaluations granted to the partner in 30 days.
    pub max_evaluations_per_epoch: u64,
    /// Least seconds between two runs.
    pub min_interval_s: u32,
}

impl From<v1::SharingPolicy> for SharingPolicy {
    fn from(policy: v1::SharingPolicy) -> Self {
        Self {
            stages: policy
                .stages
                .into_iter()
                .map(|(stage, tier)| (stage, Tier::from_proto(tier)))
                .collect(),
            shared_fields: policy.shared_fields,
            timeline: policy.timeline,
            match_on: policy
                .match_on
                .into_iter()
                .map(KeyType::from_proto)
                .collect(),
            domain_from_email: policy.domain_from_email,
            min_count: policy.min_count,
            count_by_count: policy.count_by_count,
            label_field_bytes: policy.label_field_bytes,
            padding: policy.padding,
            max_evaluations_per_epoch: policy.max_evaluations_per_epoch,
            min_interval_s: policy.min_interval_s,
        }
    }
}

impl From<SharingPolicy> for v1::SharingPolicy {
    fn from(policy: SharingPolicy) -> Self {
        Self {
            stages: policy
                .stages
                .into_iter()
                .map(|(stage, tier)| (stage, tier.to_proto()))
                .collect(),
            shared_fields: policy.shared_fields,
            timeline: policy.timeline,
            match_on: policy.match_on.into_iter().map(KeyType::to_proto).collect(),
            domain_from_email: policy.domain_from_email,
            min_count: policy.min_count,
            count_by_count: policy.count_by_count,
            label_field_bytes: policy.label_field_bytes,
            padding: policy.padding,
            max_evaluations_per_epoch: policy.max_evaluations_per_epoch,
            min_interval_s: policy.min_interval_s,
        }
    }
}

/// Both sides' policies and the state of the agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sharing {
    /// With whom.
    pub partner: String,
    /// How far the agreement is.
    pub state: SharingState,
    /// What I disclose.
    pub mine: Option<SharingPolicy>,
    /// What the partner discloses.
    pub theirs: Option<SharingPolicy>,
    /// My stages.
    pub my_stages: Vec<Stage>,
    /// The partner's stages that it does not hide.
    pub their_stages: Vec<Stage>,
    /// Hash of the agreed terms; empty unless active.
    pub terms_hash: String,
    /// When it last changed.
    pub updated_at: Option<Timestamp>,
}

impl From<v1::Sharing> for Sharing {
    fn from(sharing: v1::Sharing) -> Self {
        Self {
            partner: sharing.partner,
            state: SharingState::from_proto(sharing.state),
            mine: sharing.mine.map(SharingPolicy::from),
            theirs: sharing.theirs.map(SharingPolicy::from),
            my_stages: sharing.my_stages.into_iter().map(Stage::from).collect(),
            their_stages: sharing.their_stages.into_iter().map(Stage::from).collect(),
            terms_hash: sharing.terms_hash,
            updated_at: time(sharing.updated_at),
        }
    }
}

impl Client {
    /// Sets what I disclose and proposes it, or answers the partner's open proposal with it.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn set_policy(&self, partner: &str, policy: SharingPolicy) -> Result<Sharing, Error> {
        let answer = ask!(self.sharing_api().set_policy(v1::SetPolicyRequest {
            partner: partner.to_owned(),
            policy: Some(policy.into()),
        }))
        .await?;
        Ok(present(answer.sharing, "the sharing permissions")?.into())
    }

    /// Approves the partner's open proposal, keeping my policy, or mirroring the proposal if I have none.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn approve_proposal(&self, partner: &str) -> Result<Sharing, Error> {
        let answer = ask!(
            self.sharing_api()
                .approve_proposal(v1::ApproveProposalRequest {
                    partner: partner.to_owned(),
                })
        )
        .await?;
        Ok(present(answer.sharing, "the sharing permissions")?.into())
    }

    /// Declines the partner's open proposal.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn decline_proposal(&self, partner: &str) -> Result<Sharing, Error> {
        let answer = ask!(
            self.sharing_api()
                .decline_proposal(v1::DeclineProposalRequest {
                    partner: partner.to_owned(),
                })
        )
        .await?;
        Ok(present(answer.sharing, "the sharing permissions")?.into())
    }

    /// Withdraws my permissions, which ends sharing both ways and removes derived results.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn revoke_sharing(&self, partner: &str) -> Result<Sharing, Error> {
        let answer = ask!(self.sharing_api().revoke_sharing(v1::RevokeSharingRequest {
            partner: partner.to_owned(),
        }))
        .await?;
        Ok(present(answer.sharing, "the sharing permissions")?.into())
    }

    /// Both sides' policies and the state of the agreement.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn sharing(&self, partner: &str) -> Result<Sharing, Error> {
        let answer = ask!(self.sharing_api().get_sharing(v1::GetSharingRequest {
            partner: partner.to_owned(),
        }))
        .await?;
        Ok(present(answer.sharing, "the sharing permissions")?.into())
    }
}
