//! Making, redeeming and accepting invitations.
//!
//! The secret proves that the caller was invited, the TLS exporter that the proof belongs to this connection, the certificates'
//! hashes that nobody sits in between, and the signature that each side holds the organisation key it names.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use overlap_proto::exchange::v1::{PairRequest, PairResponse};
use rusqlite::{OptionalExtension as _, Transaction, params};
use tokio::time::timeout;
use tonic::Status;

use super::{
    Record,
    invite::{Invite, Secret, Side, Statement},
    profile,
    rows::{by_id, fold, is_taken},
    same_version,
};
use crate::{
    audit,
    config::{check_endpoint, check_organization},
    convert::{stored_time, stored_time_opt},
    error::{Blame, Error, Reason},
    exchange::{self, Peer},
    identity::{new_id, random, verify},
    node::Node,
};

const PROOF_KEY_PURPOSE: &str = "partnership/proof-key";
/// Invitations that may be outstanding at once.
const MAX_OUTSTANDING: u32 = 100;

/// Makes an invitation: its line of text, until when it can be used, and the pending partnership.
pub(super) fn invite(
    node: &Node,
    tx: &Transaction<'_>,
    endpoint: &str,
    valid: SignedDuration,
    actor: &str,
) -> Result<(String, Timestamp, Record), Error> {
    check_endpoint(endpoint).map_err(|problem| Error::invalid("endpoint", problem))?;
    let now = node.now();
    let outstanding: u32 = tx.query_row(
        "SELECT count(*) FROM invites WHERE used_us IS NULL AND expires_us > ?",
        [now.as_microsecond()],
        |row| row.get(0),
    )?;
    if outstanding >= MAX_OUTSTANDING {
        return Err(Error::new(
            Reason::QuotaExhausted,
            format!(
                "{MAX_OUTSTANDING} invitations are outstanding: withdraw some with `overlap partner revoke ID`"
            ),
        ));
    }
    // The invitation carries whole seconds.
    let expires_at = now
        .checked_add(valid)
        .and_then(|at| Timestamp::from_second(at.as_second()))
        .map_err(|_| Error::invalid("valid_hours", "is out of range"))?;
    let secret = Secret::new(random()?);
    let id = new_id("prt")?;
    tx.execute(
        "INSERT INTO partnerships (id, state, organization, organization_folded, created_us) VALUES (?, 'PENDING', '', '', ?)",
        params![id, now.as_microsecond()],
    )?;
    tx.execute(
        "INSERT INTO invites (id, partnership, sealed_key, expires_us) VALUES (?, ?, ?, ?)",
        params![
            secret.invite_id(),
            id,
            node.vault.seal(PROOF_KEY_PURPOSE, &*secret.proof_key())?,
            expires_at.as_microsecond()
        ],
    )?;
    audit::record(
        tx,
        now,
        actor,
        "partnership.invited",
        Some(&id),
        &[("expires_at", &expires_at.to_string())],
    )?;
    let line = Invite {
        endpoint: endpoint.to_owned(),
        organization: node.config.organization.clone(),
        certificate_sha256: node.identity.certificate_sha256(),
        organization_key: node.identity.organization_key(),
        secret,
        expires_at,
    }
    .to_line()?;
    Ok((line, expires_at, must_exist(tx, &id)?))
}

/// Answers a caller that redeems an invitation of this node.
pub(crate) async fn redeem(
    node: &Arc<Node>,
    peer: &Peer,
    request: PairRequest,
) -> Result<PairResponse, Error> {
    same_version(&request.protocol_version)?;
    let (writer, peer) = (Arc::clone(node), peer.clone());
    let response = node
        .store
        .write(move |tx| redeem_in(&writer, tx, &peer, &request))
        .await;
    node.follow_partners().await?;
    response
}

/// The error as a caller that redeems an invitation may know it: it has to know what to do, and has nothing to learn from it.
pub(crate) fn pairing_error_for_peer(error: &Error) -> Status {
    match error.reason().blame() {
        Blame::Environment | Blame::Bug => exchange::for_peer(error),
        Blame::Caller | Blame::Peer | Blame::PeerVersion => {
            tracing::info!(reason = error.reason().name(), detail = %error, "a pairing was refused");
            error.clone().into()
        }
    }
}

fn redeem_in(
    node: &Node,
    tx: &Transaction<'_>,
    peer: &Peer,
    request: &PairRequest,
) -> Result<PairResponse, Error> {
    let refused = |problem: &str| Error::new(Reason::InviteInvalid, problem);
    // One answer for an id that does not exist and a proof that is wrong.
    let unknown = || refused("the invitation is not one of this node's");
    let found = tx
        .prepare_cached(
            "SELECT partnership, sealed_key, expires_us, used_us FROM invites WHERE id = ?",
        )?
        .query_row([&request.invite_id], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                stored_time(row, 2),
                stored_time_opt(row, 3),
            ))
        })
        .optional()?;
    let (id, sealed, expires_at, used_at) = found.ok_or_else(unknown)?;
    let (expires_at, used_at) = (expires_at?, used_at?);
    let mut key = [0; 32];
    let opened = node.vault.unseal(PROOF_KEY_PURPOSE, &sealed)?;
    if opened.len() != key.len() {
        return Err(Error::internal("a proof key of the wrong length"));
    }
    key.copy_from_slice(&opened);
    let key = zeroize::Zeroizing::new(key);
    let own_certificate = node.identity.certificate_sha256();
    let statement = Statement {
        side: Side::Caller,
        exporter: &peer.exporter,
        inviter_certificate: &own_certificate,
        caller_certificate: &peer.certificate_sha256,
        organization: &request.organization,
        organization_key: &request.organization_key,
        endpoint: &request.endpoint,
    };
    if !statement.proved(&key, &request.proof) {
        return Err(unknown());
    }
    let fault = |problem: String| Error::new(Reason::PeerFault, problem);
    let organization_key: [u8; 32] = request
        .organization_key
        .as_slice()
        .try_into()
        .map_err(|_| fault("an organisation key of the wrong length".to_owned()))?;
    if !verify(&organization_key, &statement.bytes(), &request.signature) {
        return Err(fault(
            "the organisation key's signature is wrong".to_owned(),
        ));
    }
    check_organization(&request.organization)
        .map_err(|problem| fault(format!("the organisation's name {problem}")))?;
    let endpoint = Some(request.endpoint.as_str()).filter(|endpoint| !endpoint.is_empty());
    if let Some(endpoint) = endpoint {
        check_endpoint(endpoint).map_err(|problem| fault(format!("the endpoint {problem}")))?;
    }
    let own_key = node.identity.organization_key();
    if peer.certificate_sha256 == own_certificate || organization_key == own_key {
        return Err(refused("a node cannot pair with itself"));
    }
    let now = node.now();
    let record = must_exist(tx, &id)?;
    if used_at.is_some() {
        // The answer to the first try may have been lost.
        let again = record.state == super::State::Connected
            && record.certificate_sha256 == Some(peer.certificate_sha256)
            && record.organization_key == Some(organization_key);
        if !again {
            return Err(refused(
                "the invitation has been used or withdrawn: ask for a new one",
            ));
        }
    } else if now >= expires_at {
        return Err(refused("the invitation has expired: ask for a new one"));
    } else {
        tx.execute(
            "UPDATE invites SET used_us = ? WHERE id = ?",
            params![now.as_microsecond(), request.invite_id],
        )?;
        connect(
            node,
            tx,
            &id,
            &Partner {
                organization: &request.organization,
                endpoint,
                certificate_sha256: peer.certificate_sha256,
                organization_key,
            },
            &audit::partner(&id),
        )?;
    }
    let statement = Statement {
        side: Side::Inviter,
        organization: &node.config.organization,
        organization_key: &own_key,
        // The invitation carries the one that counts.
        endpoint: "",
        ..statement
    };
    Ok(PairResponse {
        organization: node.config.organization.clone(),
        organization_key: own_key.to_vec(),
        proof: statement.prove(&key),
        protocol_version: exchange::PROTOCOL_VERSION.to_owned(),
        signature: node.identity.sign(&statement.bytes()).to_vec(),
    })
}

/// Connects to the node that made an invitation.
pub(super) async fn accept(
    node: &Arc<Node>,
    line: &str,
    endpoint: String,
    actor: String,
) -> Result<Record, Error> {
    if !endpoint.is_empty() {
        check_endpoint(&endpoint).map_err(|problem| Error::invalid("endpoint", problem))?;
    }
    let invite = Invite::from_line(line)?;
    let refused = |problem: &str| Error::new(Reason::InviteInvalid, problem);
    if node.now() >= invite.expires_at {
        return Err(refused("the invitation has expired: ask for a new one"));
    }
    let own_key = node.identity.organization_key();
    let own_certificate = node.identity.certificate_sha256();
    if invite.certificate_sha256 == own_certificate || invite.organization_key == own_key {
        return Err(refused(
            "the invitation is this node's own: it is for the partner",
        ));
    }
    let mut call = exchange::connect(node, &invite.endpoint, invite.certificate_sha256).await?;
    let exporter = call.exporter;
    let key = invite.secret.proof_key();
    let statement = Statement {
        side: Side::Caller,
        exporter: &exporter,
        inviter_certificate: &invite.certificate_sha256,
        caller_certificate: &own_certificate,
        organization: &node.config.organization,
        organization_key: &own_key,
        endpoint: &endpoint,
    };
    let request = PairRequest {
        invite_id: invite.secret.invite_id().to_vec(),
        proof: statement.prove(&key),
        organization: node.config.organization.clone(),
        organization_key: own_key.to_vec(),
        endpoint: endpoint.clone(),
        protocol_version: exchange::PROTOCOL_VERSION.to_owned(),
        signature: node.identity.sign(&statement.bytes()).to_vec(),
    };
    let response = timeout(
        node.config.limits.call_timeout.duration(),
        call.client.pair(request),
    )
    .await
    .map_err(|_| call.silent())?
    .map_err(|status| call.explain(&status))?
    .into_inner();
    same_version(&response.protocol_version)?;
    let answer = Statement {
        side: Side::Inviter,
        organization: &response.organization,
        organization_key: &response.organization_key,
        endpoint: "",
        ..statement
    };
    if !answer.proved(&key, &response.proof)
        || response.organization_key != invite.organization_key
        || !verify(
            &invite.organization_key,
            &answer.bytes(),
            &response.signature,
        )
    {
        return Err(Error::new(
            Reason::PeerFault,
            "the node that answered did not prove that it made the invitation: tell whoever sent it",
        ));
    }
    check_organization(&response.organization).map_err(|problem| {
        Error::new(Reason::PeerFault, format!("the partner's name {problem}"))
    })?;
    let writer = Arc::clone(node);
    let record = node
        .store
        .write(move |tx| {
            let node = &*writer;
            let partner = Partner {
                organization: &response.organization,
                endpoint: Some(&invite.endpoint),
                certificate_sha256: invite.certificate_sha256,
                organization_key: invite.organization_key,
            };
            if let Some(record) = connected_already(tx, &partner)? {
                return Ok(record);
            }
            let id = new_id("prt")?;
            tx.execute(
                "INSERT INTO partnerships (id, state, organization, organization_folded, created_us) \
                 VALUES (?, 'PENDING', '', '', ?)",
                params![id, node.now().as_microsecond()],
            )?;
            connect(node, tx, &id, &partner, &actor)?;
            must_exist(tx, &id)
        })
        .await?;
    node.follow_partners().await?;
    Ok(record)
}

/// What a pairing pins.
struct Partner<'a> {
    organization: &'a str,
    endpoint: Option<&'a str>,
    certificate_sha256: [u8; 32],
    organization_key: [u8; 32],
}

/// The partnership that pins exactly this already.
fn connected_already(tx: &Transaction<'_>, partner: &Partner<'_>) -> Result<Option<Record>, Error> {
    let id: Option<String> = tx
        .query_row(
            "SELECT id FROM partnerships WHERE state = 'CONNECTED' AND certificate_sha256 = ? AND organization_key = ?",
            params![partner.certificate_sha256, partner.organization_key],
            |row| row.get(0),
        )
        .optional()?;
    id.map(|id| must_exist(tx, &id)).transpose()
}

/// Turns a pending partnership into a connected one.
fn connect(
    node: &Node,
    tx: &Transaction<'_>,
    id: &str,
    partner: &Partner<'_>,
    actor: &str,
) -> Result<(), Error> {
    let folded = fold(partner.organization);
    let taken: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM partnerships WHERE state = 'CONNECTED' \
         AND (certificate_sha256 = ?1 OR organization_key = ?2))",
        params![partner.certificate_sha256, partner.organization_key],
        |row| row.get(0),
    )?;
    if taken || is_taken(tx, partner.organization, id)? {
        return Err(Error::new(
            Reason::AlreadyExists,
            format!(
                "a partnership with \"{}\" is connected already: revoke it before pairing again",
                partner.organization
            ),
        ));
    }
    if folded == fold(&node.config.organization) {
        return Err(Error::new(
            Reason::AlreadyExists,
            "both organisations have the same name: change one in its configuration",
        ));
    }
    let now = node.now();
    tx.execute(
        "UPDATE partnerships SET state = 'CONNECTED', organization = ?1, known_as = ?1, organization_folded = ?2, \
         endpoint = ?3, certificate_sha256 = ?4, organization_key = ?5, connected_us = ?6, announced = ?7 WHERE id = ?8",
        params![
            partner.organization,
            folded,
            partner.endpoint,
            partner.certificate_sha256,
            partner.organization_key,
            now.as_microsecond(),
            profile::current(node)?,
            id
        ],
    )?;
    audit::record(
        tx,
        now,
        actor,
        "partnership.connected",
        Some(id),
        &[
            ("organization", partner.organization),
            ("certificate", &hex::encode(partner.certificate_sha256)),
        ],
    )
}

fn must_exist(tx: &Transaction<'_>, id: &str) -> Result<Record, Error> {
    by_id(tx, id)?.ok_or_else(|| Error::internal("a partnership that was just there is gone"))
}
