//! Invitations, pairing, revocation.

mod invite;
mod pairing;
mod profile;
mod rows;
mod service;

use overlap_proto::v1;
use rusqlite::{Connection, Transaction, params};

use crate::{
    audit, auth,
    error::{Error, Reason, unless},
    exchange,
    identity::fingerprint,
    node::{Node, Registry},
    notices,
};

pub use rows::{Record, State, find};
pub use service::Service;

pub(crate) use pairing::{pairing_error_for_peer, redeem};
pub(crate) use profile::announce;
pub(crate) use rows::{
    all_connected, by_id, invites_until, leaving_certificates, pinned_certificates,
};

/// A connected partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partnership {
    /// Stable id on this node.
    pub id: String,
    /// The partner's name for people.
    pub organization: String,
    /// Its name as of the pairing, by which this organisation's records may name it. A new name of its own making changes nothing
    /// about whom records mean.
    pub known_as: String,
    /// host:port of the partner's exchange listener, if it has one.
    pub endpoint: Option<String>,
    /// SHA-256 of the partner's end-entity certificate.
    pub certificate_sha256: [u8; 32],
    /// The partner's Ed25519 organisation key.
    pub organization_key: [u8; 32],
}

impl Partnership {
    /// host:port of the partner's exchange listener.
    ///
    /// # Errors
    /// `PARTNER_HAS_NO_ENDPOINT`.
    pub fn reachable(&self) -> Result<&str, Error> {
        self.endpoint.as_deref().ok_or_else(|| {
            Error::new(
                Reason::PartnerHasNoEndpoint,
                format!(
                    "\"{}\" gave no endpoint at which its node can be reached: its node has to call this one",
                    self.organization
                ),
            )
        })
    }
}

/// The connected partnership that `partner` names by id or organisation (P-01).
///
/// # Errors
/// `NOT_FOUND` if there is none; `PARTNERSHIP_NOT_CONNECTED` if it is pending or revoked.
pub fn connected(connection: &Connection, partner: &str) -> Result<Partnership, Error> {
    find(connection, partner)?.into_connected()
}

/// [`connected`], or none where there is no such partnership or it is not connected.
///
/// # Errors
/// What the store reports.
pub(crate) fn if_connected(
    connection: &Connection,
    partner: &str,
) -> Result<Option<Partnership>, Error> {
    unless(
        connected(connection, partner),
        &[Reason::NotFound, Reason::PartnershipNotConnected],
    )
}

/// The notice by which one side tells the other that the partnership is over.
pub(crate) const REVOKED: &str = "partnership.revoked";

pub(crate) fn register(registry: &mut Registry) {
    profile::register(registry);
    registry.on_notice(REVOKED, |notice| {
        notice.body::<Revoked>()?;
        end(
            notice.node,
            notice.tx,
            &notice.partnership.id,
            &audit::partner(&notice.partnership.id),
        )
    });
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {}

/// Reads an invitation; one that is good says the same when it is written again.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_invitation(line: &str) {
    if let Ok(invite) = invite::Invite::from_line(line) {
        let again = invite
            .to_line()
            .expect("an invitation that was read can be written");
        assert!(invite::Invite::from_line(&again).is_ok_and(|read| read == invite));
    }
}

/// Ends a partnership from this side: everything derived from it goes, and the partner is told.
pub(crate) fn revoke(
    node: &Node,
    tx: &Transaction<'_>,
    record: &Record,
    actor: &str,
) -> Result<(), Error> {
    let connected = match record.state {
        State::Revoked => return Ok(()),
        State::Connected => true,
        State::Pending => false,
    };
    end(node, tx, &record.id, actor)?;
    if connected {
        notices::enqueue(node, tx, &record.id, REVOKED, &Revoked {})?;
    }
    Ok(())
}

/// Ends a partnership on this node: everything derived from it goes (Z-06). Ending it again changes nothing.
fn end(node: &Node, tx: &Transaction<'_>, id: &str, actor: &str) -> Result<(), Error> {
    let now = node.now().as_microsecond();
    let changed = tx.execute(
        "UPDATE partnerships SET state = 'REVOKED', revoked_us = ? WHERE id = ? AND state <> 'REVOKED'",
        params![now, id],
    )?;
    if changed == 0 {
        return Ok(());
    }
    tx.execute(
        "UPDATE invites SET used_us = ? WHERE partnership = ? AND used_us IS NULL",
        params![now, id],
    )?;
    // Nothing else is to be told any more.
    tx.execute("DELETE FROM notices_out WHERE partnership = ?", [id])?;
    node.partnership_ended(tx, id)?;
    auth::revoke_of_partnership(tx, node.now(), actor, id)?;
    audit::record(tx, node.now(), actor, REVOKED, Some(id), &[])
}

impl Node {
    /// Makes the listeners follow what the store says about partners and their users. To be called after every write that
    /// changes partnerships or invitations.
    pub(crate) async fn follow_partners(self: &std::sync::Arc<Self>) -> Result<(), Error> {
        let node = std::sync::Arc::clone(self);
        self.store
            .read(move |connection| node.reload_partners(connection))
            .await?;
        self.follow_tokens().await
    }

    fn reload_partners(&self, connection: &Connection) -> Result<(), Error> {
        self.partners
            .reload(connection, self.config.limits.max_runs_per_partner)
    }
}

impl Record {
    /// The record in the API's terms.
    #[must_use]
    pub fn to_proto(&self) -> v1::Partnership {
        v1::Partnership {
            id: self.id.clone(),
            organization: self.organization.clone(),
            state: match self.state {
                State::Pending => v1::PartnershipState::Pending,
                State::Connected => v1::PartnershipState::Connected,
                State::Revoked => v1::PartnershipState::Revoked,
            }
            .into(),
            endpoint: self.endpoint.clone().unwrap_or_default(),
            fingerprint: self
                .certificate_sha256
                .as_ref()
                .map(fingerprint)
                .unwrap_or_default(),
            created_at: Some(crate::convert::timestamp(self.created_at)),
            connected_at: self.connected_at.map(crate::convert::timestamp),
            revoked_at: self.revoked_at.map(crate::convert::timestamp),
        }
    }
}

/// What both sides put under the version of the protocol they speak.
fn same_version(theirs: &str) -> Result<(), Error> {
    if theirs == exchange::PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Error::new(
        Reason::PeerVersion,
        format!(
            "this node speaks {}, the other one another protocol: upgrade the older of the two",
            exchange::PROTOCOL_VERSION
        ),
    ))
}
