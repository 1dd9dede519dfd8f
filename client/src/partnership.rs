//! Pairing with partners.

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
    /// How far a partnership is.
    PartnershipState of v1::PartnershipState {
        /// Invited, not yet accepted.
        Pending = "PENDING",
        /// Both nodes know each other.
        Connected = "CONNECTED",
        /// Ended.
        Revoked = "REVOKED",
    }
}

/// A partner organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Partnership {
    /// Stable identifier.
    pub id: String,
    /// Its name, which may be used instead of the id.
    pub organization: String,
    /// How far it is.
    pub state: PartnershipState,
    /// Where its node listens for ours; empty if only it calls.
    pub endpoint: String,
    /// SHA-256 of its certificate, to be compared out of band.
    pub fingerprint: String,
    /// When it was invited.
    pub created_at: Option<Timestamp>,
    /// When the nodes met.
    pub connected_at: Option<Timestamp>,
    /// When it ended.
    pub revoked_at: Option<Timestamp>,
}

impl From<v1::Partnership> for Partnership {
    fn from(partnership: v1::Partnership) -> Self {
        Self {
            id: partnership.id,
            organization: partnership.organization,
            state: PartnershipState::from_proto(partnership.state),
            endpoint: partnership.endpoint,
            fingerprint: partnership.fingerprint,
            created_at: time(partnership.created_at),
            connected_at: time(partnership.connected_at),
            revoked_at: time(partnership.revoked_at),
        }
    }
}

/// A single-use invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Invite {
    /// One line to hand to the partner over a trusted channel; it carries a secret.
    pub invite: String,
    /// This node's fingerprint, for reading out.
    pub fingerprint: String,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Invite")
            .field("fingerprint", &self.fingerprint)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes an invitation. `endpoint` is where the partner reaches this node, `valid_hours` how long it lasts; the
    /// node's defaults if unset.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn create_invite(
        &self,
        endpoint: Option<&str>,
        valid_hours: Option<u32>,
    ) -> Result<Invite, Error> {
        let answer = ask!(
            self.partnership_api()
                .create_invite(v1::CreateInviteRequest {
                    endpoint: endpoint.unwrap_or_default().to_owned(),
                    valid_hours: valid_hours.unwrap_or_default(),
                })
        )
        .await?;
        Ok(Invite {
            invite: answer.invite,
            fingerprint: answer.fingerprint,
            expires_at: time(answer.expires_at),
        })
    }

    /// Connects to the node that made an invitation.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn accept_invite(
        &self,
        invite: &str,
        endpoint: Option<&str>,
    ) -> Result<Partnership, Error> {
        let answer = ask!(
            self.partnership_api()
                .accept_invite(v1::AcceptInviteRequest {
                    invite: invite.trim().to_owned(),
                    endpoint: endpoint.unwrap_or_default().to_owned(),
                })
        )
        .await?;
        Ok(present(answer.partnership, "the partnership")?.into())
    }

    /// One page of partnerships.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_partnerships(
        &self,
        connected_only: bool,
        page: PageRequest,
    ) -> Result<Page<Partnership>, Error> {
        let answer = ask!(
            self.partnership_api()
                .list_partnerships(v1::ListPartnershipsRequest {
                    page_size: page.size(),
                    page_token: page.token,
                    connected_only,
                })
        )
        .await?;
        Ok(Page::new(answer.partnerships, answer.next_page_token))
    }

    /// Every partnership, connected ones first.
    pub fn partnerships(
        &self,
        connected_only: bool,
    ) -> impl Stream<Item = Result<Partnership, Error>> + Send + '_ {
        entries(move |page| self.list_partnerships(connected_only, page))
    }

    /// One partnership, by id or name.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn partnership(&self, partner: &str) -> Result<Partnership, Error> {
        let answer = ask!(
            self.partnership_api()
                .get_partnership(v1::GetPartnershipRequest {
                    partner: partner.to_owned(),
                })
        )
        .await?;
        Ok(present(answer.partnership, "the partnership")?.into())
    }

    /// Ends a partnership and removes everything derived from it.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn revoke_partnership(&self, partner: &str) -> Result<Partnership, Error> {
        let answer = ask!(self.partnership_api().revoke_partnership(
            v1::RevokePartnershipRequest {
                partner: partner.to_owned(),
            }
        ))
        .await?;
        Ok(present(answer.partnership, "the partnership")?.into())
    }
}
