//! The node itself and who may call it.

use std::{collections::BTreeMap, fmt};

use futures::stream::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Page, PageRequest,
    convert::{present, time},
    paging::entries,
    v1,
};

named_enum! {
    /// What a caller may do.
    Role of v1::Role {
        /// Everything.
        Admin = "ADMIN",
        /// Partnerships, permissions, customers, runs, engagement.
        PartnerAdmin = "PARTNER_ADMIN",
        /// Runs, attribution, program numbers.
        PartnerManager = "PARTNER_MANAGER",
        /// Reads the overlap and works with attribution.
        Member = "MEMBER",
        /// A partner's own user: its own company's numbers only.
        Partner = "PARTNER",
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Node {
    /// Whose it is.
    pub organization: String,
    /// Its software.
    pub version: String,
    /// The protocol it speaks.
    pub protocol_version: String,
    /// The engine that does its curve arithmetic.
    pub backend: String,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    /// Where partners reach it.
    pub exchange_endpoint: String,
}

/// A bearer token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Token {
    /// Its identifier, which the audit log names.
    pub id: String,
    /// Who uses it.
    pub user: String,
    /// What it allows.
    pub role: Role,
    /// For [`Role::Partner`]: the partner whose numbers it may read.
    pub partner: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}

impl From<v1::Token> for Token {
    fn from(token: v1::Token) -> Self {
        Self {
            id: token.id,
            user: token.user,
            role: Role::from_proto(token.role),
            partner: token.partner,
            created_at: time(token.created_at),
            expires_at: time(token.expires_at),
            revoked_at: time(token.revoked_at),
        }
    }
}

/// A token to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewToken {
    /// Who will use it.
    pub user: String,
    /// What it allows.
    pub role: Role,
    /// For [`Role::Partner`]: the partner whose numbers it may read.
    pub partner: Option<String>,
    /// How long it works; for ever if unset.
    pub valid_hours: Option<u32>,
}

/// A new token; its secret is never shown again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenWithSecret {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// What the caller sends.
    pub secret: String,
}

impl fmt::Debug for TokenWithSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenWithSecret")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Who did what, when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEvent {
    /// Its place in the log.
    pub sequence: u64,
    /// When.
    pub at: Option<Timestamp>,
    /// Token id, `system` or `partner:ID`.
    pub actor: String,
    /// E.g. `sharing.policy_set`.
    pub action: String,
    /// The partnership concerned, if any.
    pub partner: String,
    /// Facts by name.
    pub details: BTreeMap<String, String>,
}

impl From<v1::AuditEvent> for AuditEvent {
    fn from(event: v1::AuditEvent) -> Self {
        Self {
            sequence: event.sequence,
            at: time(event.at),
            actor: event.actor,
            action: event.action,
            partner: event.partner,
            details: event.details.into_iter().collect(),
        }
    }
}

impl Client {
    /// What the node is.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn node(&self) -> Result<Node, Error> {
        let answer = ask!(self.admin_api().get_node(v1::GetNodeRequest {})).await?;
        Ok(Node {
            organization: answer.organization,
            version: answer.version,
            protocol_version: answer.protocol_version,
            backend: answer.backend,
            fingerprint: answer.fingerprint,
            exchange_endpoint: answer.exchange_endpoint,
        })
    }

    /// Makes a bearer token.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn create_token(&self, token: NewToken) -> Result<TokenWithSecret, Error> {
        let answer = ask!(self.admin_api().create_token(v1::CreateTokenRequest {
            user: token.user,
            role: token.role.to_proto(),
            partner: token.partner.unwrap_or_default(),
            valid_hours: token.valid_hours.unwrap_or_default(),
        }))
        .await?;
        Ok(TokenWithSecret {
            token: present(answer.token, "the token")?.into(),
            secret: answer.secret,
        })
    }

    /// One page of tokens.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_tokens(&self, page: PageRequest) -> Result<Page<Token>, Error> {
        let answer = ask!(self.admin_api().list_tokens(v1::ListTokensRequest {
            page_size: page.size(),
            page_token: page.token,
        }))
        .await?;
        Ok(Page::new(answer.tokens, answer.next_page_token))
    }

    /// Every token.
    pub fn tokens(&self) -> impl Stream<Item = Result<Token, Error>> + Send + '_ {
        entries(move |page| self.list_tokens(page))
    }

    /// Ends a token.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn revoke_token(&self, id: &str) -> Result<Token, Error> {
        let answer = ask!(
            self.admin_api()
                .revoke_token(v1::RevokeTokenRequest { id: id.to_owned() })
        )
        .await?;
        Ok(present(answer.token, "the token")?.into())
    }

    /// One page of the audit log, of one partnership if `partner` is set.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_audit_events(
        &self,
        partner: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<AuditEvent>, Error> {
        let answer = ask!(
            self.admin_api()
                .list_audit_events(v1::ListAuditEventsRequest {
                    page_size: page.size(),
                    page_token: page.token,
                    partner: partner.unwrap_or_default().to_owned(),
                })
        )
        .await?;
        Ok(Page::new(answer.events, answer.next_page_token))
    }

    /// The audit log, newest first.
    pub fn audit_events<'a>(
        &'a self,
        partner: Option<&'a str>,
    ) -> impl Stream<Item = Result<AuditEvent, Error>> + Send + 'a {
        entries(move |page| self.list_audit_events(partner, page))
    }
}
