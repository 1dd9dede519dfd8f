//! Tokens and what this node says about itself.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use overlap_proto::v1::{
    AuditEvent, CreateTokenRequest, CreateTokenResponse, GetNodeRequest, GetNodeResponse,
    ListAuditEventsRequest, ListAuditEventsResponse, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest, RevokeTokenResponse, Token, admin_service_server::AdminService,
};
use tonic::{Request, Response, Status};

use crate::{
    audit,
    auth::{self, Caller, Role},
    convert::{Page, timestamp},
    error::Error,
    exchange::PROTOCOL_VERSION,
    node::Node,
    partnership,
};

/// AdminService over a node.
pub struct Service(Arc<Node>);

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

#[tonic::async_trait]
impl AdminService for Service {
    async fn get_node(
        &self,
        request: Request<GetNodeRequest>,
    ) -> Result<Response<GetNodeResponse>, Status> {
        Caller::of(&request)?;
        let node = &self.0;
        Ok(Response::new(GetNodeResponse {
            organization: node.config.organization.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_version: PROTOCOL_VERSION.to_owned(),
            backend: node
                .config
                .engine()
                .map_err(Error::internal)?
                .name()
                .to_owned(),
            fingerprint: node.identity.fingerprint(),
            exchange_endpoint: node.exchange_endpoint().unwrap_or_default(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&[Role::Admin])?;
        let request = request.into_inner();
        let role = Role::from_proto(request.role())
            .ok_or_else(|| Error::invalid("role", "must be given"))?;
        let user = request.user.trim().to_owned();
        if user.is_empty() || user.chars().count() > 200 || user.chars().any(char::is_control) {
            return Err(Error::invalid("user", "must have 1 to 200 characters").into());
        }
        match (role, request.partner.is_empty()) {
            (Role::Partner, true) => {
                return Err(Error::invalid("partner", "role PARTNER needs one").into());
            }
            (Role::Partner, false) | (_, true) => {}
            (_, false) => {
                return Err(Error::invalid("partner", "is for role PARTNER only").into());
            }
        }
        let node = Arc::clone(&self.0);
        let (token, secret) = self
            .0
            .store
            .write(move |tx| {
                let now = node.now();
                let partner = match role {
                    Role::Partner => Some(partnership::connected(tx, &request.partner)?.id),
                    _ => None,
                };
                let expires_at = match request.valid_hours {
                    0 => None,
                    hours => Some(
                        now.checked_add(SignedDuration::from_hours(i64::from(hours)))
                            .map_err(|_| Error::invalid("valid_hours", "is out of range"))?,
                    ),
                };
                auth::create(
                    tx,
                    now,
                    &caller.token_id,
                    &user,
                    role,
                    partner.as_deref(),
                    expires_at,
                )
            })
            .await?;
        self.0.follow_tokens().await?;
        Ok(Response::new(CreateTokenResponse {
            token: Some(to_proto(&token)),
            secret,
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        Caller::of(&request)?.require(&[Role::Admin])?;
        let request = request.into_inner();
        let page = Page::of(request.page_size, &request.page_token, "tokens")?;
        let tokens = self
            .0
            .store
            .read(move |connection| auth::list(connection, page.offset, page.size + 1))
            .await?;
        let (tokens, next_page_token) = page.cut(tokens, "tokens");
        Ok(Response::new(ListTokensResponse {
            tokens: tokens.iter().map(to_proto).collect(),
            next_page_token,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&[Role::Admin])?;
        let id = request.into_inner().id;
        let node = Arc::clone(&self.0);
        let token = self
            .0
            .store
            .write(move |tx| auth::revoke(tx, node.now(), &caller.token_id, &id))
            .await?;
        self.0.follow_tokens().await?;
        Ok(Response::new(RevokeTokenResponse {
            token: Some(to_proto(&token)),
        }))
    }

    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        Caller::of(&request)?.require(&[Role::Admin])?;
        let request = request.into_inner();
        let filter = format!("audit/{}", request.partner);
        // The offset is the sequence before which the page begins, so that new events do not shift pages.
        let page = Page::of(request.page_size, &request.page_token, &filter)?;
        let events = self
            .0
            .store
            .read(move |connection| {
                let partner = match request.partner.as_str() {
                    "" => None,
                    partner => Some(partnership::find(connection, partner)?.id),
                };
                let before = (page.offset > 0).then_some(page.offset);
                audit::list(connection, partner.as_deref(), before, page.size + 1)
            })
            .await?;
        let next = match events.get(page.size.wrapping_sub(1)) {
            Some(last) if events.len() > page.size => last.sequence,
            _ => 0,
        };
        let next_page_token = match next {
            0 => String::new(),
            before => Page::token(before, &filter),
        };
        Ok(Response::new(ListAuditEventsResponse {
            events: events
                .into_iter()
                .take(page.size)
                .map(|event| AuditEvent {
                    sequence: event.sequence,
                    at: Some(timestamp(event.at)),
                    actor: event.actor,
                    action: event.action,
                    partner: event.partner.unwrap_or_default(),
                    details: event.details.into_iter().collect(),
                })
                .collect(),
            next_page_token,
        }))
    }
}

fn to_proto(token: &auth::Token) -> Token {
    let time = |at: Option<Timestamp>| at.map(timestamp);
    Token {
        id: token.id.clone(),
        user: token.user.clone(),
        role: token.role.to_proto().into(),
        partner: token.partner.clone().unwrap_or_default(),
        created_at: time(Some(token.created_at)),
        expires_at: time(token.expires_at),
        revoked_at: time(token.revoked_at),
    }
}
