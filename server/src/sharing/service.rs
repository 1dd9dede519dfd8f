//! SharingService.

use std::sync::Arc;

use overlap_proto::v1::{
    self, ApproveProposalRequest, ApproveProposalResponse, DeclineProposalRequest,
    DeclineProposalResponse, GetSharingRequest, GetSharingResponse, RevokeSharingRequest,
    RevokeSharingResponse, SetPolicyRequest, SetPolicyResponse, Sharing,
    sharing_service_server::SharingService,
};
use rusqlite::{Connection, Transaction};
use tonic::{Request, Response, Status};

use super::{
    actions,
    ledger::{Ended, Ledger, Stated},
    policy::{Policy, Stage},
};
use crate::{
    auth::{Caller, Role},
    convert::timestamp,
    error::Error,
    node::Node,
    partnership::{self, Partnership},
};

/// SharingService over a node.
pub struct Service(Arc<Node>);

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    /// Runs an action of the caller's on the ledger with a partner.
    async fn act(
        &self,
        caller: Caller,
        partner: String,
        action: impl FnOnce(&Node, &Transaction<'_>, &Partnership, &str) -> Result<Ledger, Error>
        + Send
        + 'static,
    ) -> Result<Option<Sharing>, Error> {
        caller.require(&Role::ADMINS)?;
        let node = Arc::clone(&self.0);
        self.0
            .store
            .write(move |tx| {
                let partnership = partnership::connected(tx, &partner)?;
                let ledger = action(&node, tx, &partnership, &caller.token_id)?;
                to_proto(&node, tx, &partnership, &ledger).map(Some)
            })
            .await
    }
}

#[tonic::async_trait]
impl SharingService for Service {
    async fn set_policy(
        &self,
        request: Request<SetPolicyRequest>,
    ) -> Result<Response<SetPolicyResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::ADMINS)?;
        let request = request.into_inner();
        let policy = request
            .policy
            .ok_or_else(|| Error::invalid("policy", "must be given"))?;
        let policy = Policy::from_proto(&policy)?;
        let sharing = self
            .act(caller, request.partner, |node, tx, partnership, actor| {
                actions::set(node, tx, partnership, policy, actor)
            })
            .await?;
        Ok(Response::new(SetPolicyResponse { sharing }))
    }

    async fn approve_proposal(
        &self,
        request: Request<ApproveProposalRequest>,
    ) -> Result<Response<ApproveProposalResponse>, Status> {
        let caller = Caller::of(&request)?;
        let partner = request.into_inner().partner;
        let sharing = self.act(caller, partner, actions::approve).await?;
        Ok(Response::new(ApproveProposalResponse { sharing }))
    }

    async fn decline_proposal(
        &self,
        request: Request<DeclineProposalRequest>,
    ) -> Result<Response<DeclineProposalResponse>, Status> {
        let caller = Caller::of(&request)?;
        let partner = request.into_inner().partner;
        let sharing = self.act(caller, partner, actions::decline).await?;
        Ok(Response::new(DeclineProposalResponse { sharing }))
    }

    async fn revoke_sharing(
        &self,
        request: Request<RevokeSharingRequest>,
    ) -> Result<Response<RevokeSharingResponse>, Status> {
        let caller = Caller::of(&request)?;
        let partner = request.into_inner().partner;
        let sharing = self.act(caller, partner, actions::revoke).await?;
        Ok(Response::new(RevokeSharingResponse { sharing }))
    }

    async fn get_sharing(
        &self,
        request: Request<GetSharingRequest>,
    ) -> Result<Response<GetSharingResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let partner = request.into_inner().partner;
        let node = Arc::clone(&self.0);
        let sharing = self
            .0
            .store
            .read(move |connection| {
                let partnership = partnership::connected(connection, &partner)?;
                let ledger = Ledger::load(connection, &partnership.id)?;
                to_proto(&node, connection, &partnership, &ledger)
            })
            .await?;
        Ok(Response::new(GetSharingResponse {
            sharing: Some(sharing),
        }))
    }
}

fn to_proto(
    node: &Node,
    connection: &Connection,
    partnership: &Partnership,
    ledger: &Ledger,
) -> Result<Sharing, Error> {
    let policy = |stated: &Option<Stated>| {
        stated
            .as_ref()
            .map(|stated| stated.document.policy.to_proto())
    };
    let state = match (
        ledger.terms(),
        &ledger.theirs.open,
        &ledger.mine.open,
        ledger.ended,
    ) {
        (Some(_), ..) => v1::SharingState::Active,
        (None, Some(_), ..) => v1::SharingState::AwaitingMyDecision,
        (None, None, Some(_), _) => v1::SharingState::Proposed,
        (None, None, None, Some(Ended::Declined)) => v1::SharingState::Declined,
        (None, None, None, Some(Ended::Revoked)) => v1::SharingState::Revoked,
        (None, None, None, None) => v1::SharingState::None,
    };
    let stages = |stages: &[Stage]| stages.iter().map(Stage::to_proto).collect();
    let hash = ledger.terms_hash(
        &node.identity.organization_key(),
        &partnership.organization_key,
    )?;
    Ok(Sharing {
        partner: partnership.id.clone(),
        state: state.into(),
        mine: policy(&ledger.mine.effective).or_else(|| policy(&ledger.mine.open)),
        theirs: policy(&ledger.theirs.effective).or_else(|| policy(&ledger.theirs.open)),
        their_stages: stages(&ledger.theirs.stages),
        my_stages: stages(&node.stages(connection)?),
        terms_hash: hash.map(hex::encode).unwrap_or_default(),
        updated_at: ledger.updated_at.map(timestamp),
        my_proposal: policy(&ledger.mine.open),
        their_proposal: policy(&ledger.theirs.open),
        version: ledger.version(),
    })
}
