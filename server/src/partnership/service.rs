//! PartnershipService.

use std::sync::Arc;

use jiff::SignedDuration;
use overlap_proto::v1::{
    AcceptInviteRequest, AcceptInviteResponse, CreateInviteRequest, CreateInviteResponse,
    GetPartnershipRequest, GetPartnershipResponse, ListPartnershipsRequest,
    ListPartnershipsResponse, RevokePartnershipRequest, RevokePartnershipResponse,
    partnership_service_server::PartnershipService,
};
use tonic::{Request, Response, Status};

use super::{find, pairing, revoke, rows};
use crate::{
    auth::{Caller, Role},
    convert::{Page, timestamp},
    error::{Error, Reason},
    node::Node,
};

/// PartnershipService over a node.
pub struct Service(Arc<Node>);

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

const DEFAULT_VALID_HOURS: u32 = 72;
const MAX_VALID_HOURS: u32 = 24 * 30;

#[tonic::async_trait]
impl PartnershipService for Service {
    async fn create_invite(
        &self,
        request: Request<CreateInviteRequest>,
    ) -> Result<Response<CreateInviteResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&[Role::Admin])?;
        let request = request.into_inner();
        let hours = match request.valid_hours {
            0 => DEFAULT_VALID_HOURS,
            hours @ 1..=MAX_VALID_HOURS => hours,
            _ => {
                return Err(Error::invalid(
                    "valid_hours",
                    format!("must be at most {MAX_VALID_HOURS}"),
                )
                .into());
            }
        };
        let endpoint = match Some(request.endpoint).filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => endpoint,
            None => self.0.exchange_endpoint().ok_or_else(|| {
                Error::new(
                    Reason::FailedPrecondition,
                    "no endpoint is configured at which the partner reaches this node: set exchange.endpoint, or name one",
                )
            })?,
        };
        let node = Arc::clone(&self.0);
        let (invite, expires_at, record) = self
            .0
            .store
            .write(move |tx| {
                let valid = SignedDuration::from_hours(i64::from(hours));
                pairing::invite(&node, tx, &endpoint, valid, &caller.token_id)
            })
            .await?;
        self.0.follow_partners().await?;
        Ok(Response::new(CreateInviteResponse {
            invite,
            fingerprint: self.0.identity.fingerprint(),
            expires_at: Some(timestamp(expires_at)),
            partnership: Some(record.to_proto()),
        }))
    }

    async fn accept_invite(
        &self,
        request: Request<AcceptInviteRequest>,
    ) -> Result<Response<AcceptInviteResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&[Role::Admin])?;
        let request = request.into_inner();
        let endpoint = match Some(request.endpoint).filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => endpoint,
            None => self.0.exchange_endpoint().unwrap_or_default(),
        };
        let record = pairing::accept(&self.0, &request.invite, endpoint, caller.token_id).await?;
        Ok(Response::new(AcceptInviteResponse {
            partnership: Some(record.to_proto()),
        }))
    }

    async fn list_partnerships(
        &self,
        request: Request<ListPartnershipsRequest>,
    ) -> Result<Response<ListPartnershipsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = format!("partnerships/{}", request.connected_only);
        let page = Page::of(request.page_size, &request.page_token, &filter)?;
        // A partner's user without a partnership sees none.
        let only = (caller.role == Role::Partner).then(|| caller.partner.unwrap_or_default());
        let records = self
            .0
            .store
            .read(move |connection| {
                rows::list(
                    connection,
                    request.connected_only,
                    only.as_deref(),
                    page.offset,
                    page.size + 1,
                )
            })
            .await?;
        let (records, next_page_token) = page.cut(records, &filter);
        Ok(Response::new(ListPartnershipsResponse {
            partnerships: records.iter().map(rows::Record::to_proto).collect(),
            next_page_token,
        }))
    }

    async fn get_partnership(
        &self,
        request: Request<GetPartnershipRequest>,
    ) -> Result<Response<GetPartnershipResponse>, Status> {
        let caller = Caller::of(&request)?;
        let partner = request.into_inner().partner;
        let record = self
            .0
            .store
            .read(move |connection| {
                // One answer for what does not exist and what the caller may not know of.
                find(connection, &partner)
                    .ok()
                    .filter(|record| caller.may_see(&record.id))
                    .ok_or_else(|| Error::not_found("partner", &partner))
            })
            .await?;
        Ok(Response::new(GetPartnershipResponse {
            partnership: Some(record.to_proto()),
        }))
    }

    async fn revoke_partnership(
        &self,
        request: Request<RevokePartnershipRequest>,
    ) -> Result<Response<RevokePartnershipResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&[Role::Admin])?;
        let partner = request.into_inner().partner;
        let node = Arc::clone(&self.0);
        let record = self
            .0
            .store
            .write(move |tx| {
                let record = find(tx, &partner)?;
                revoke(&node, tx, &record, &caller.token_id)?;
                find(tx, &record.id)
            })
            .await?;
        self.0.follow_partners().await?;
        Ok(Response::new(RevokePartnershipResponse {
            partnership: Some(record.to_proto()),
        }))
    }
}
