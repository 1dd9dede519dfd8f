//! Decoders that are private to the node, for the fuzz targets under `fuzz/`. Built with the feature `fuzzing` only.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use overlap_proto::{exchange::v1::DeliverRequest, v1};
use prost::Message as _;
use rusqlite::params;

use crate::{
    audit,
    auth::{Caller, Role},
    clock::Clock,
    collaboration::paging::PageRequest,
    error::{Error, Reason},
    node::{self, InitOptions, Node},
    notices::{self, Incoming},
    paging::Listing,
    partnership::{self, Partnership},
    records, sharing,
};

/// The partner of [`partnered`].
const PARTNER: &str = "prt_fuzz";

/// A node with a connected partner and terms in force, and the body of the proposal that led to them.
///
/// # Errors
/// What the file system or the store reports.
pub async fn partnered(
    directory: &Path,
    clock: Arc<dyn Clock>,
    policy: v1::SharingPolicy,
) -> Result<(Arc<Node>, Partnership, Vec<u8>), Error> {
    let options = InitOptions {
        organization: "Acme".to_owned(),
        ..InitOptions::default()
    };
    node::init(directory, options, &*clock)?;
    let node = Node::open(directory, clock)?;
    let now = node.now().as_microsecond();
    node.store.write_blocking(|tx| {
        tx.execute(
            "INSERT INTO partnerships (id, state, organization, known_as, organization_folded, endpoint, certificate_sha256, \
             organization_key, created_us, connected_us) VALUES (?, 'CONNECTED', 'Globex', 'Globex', 'globex', 'globex.example:1', ?, ?, ?, ?)",
            params![PARTNER, [1_u8; 32], [2_u8; 32], now, now],
        )?;
        Ok(())
    })?;
    let mut request = tonic::Request::new(v1::SetPolicyRequest {
        partner: PARTNER.to_owned(),
        policy: Some(policy),
    });
    request.extensions_mut().insert(Caller {
        token_id: audit::SYSTEM.to_owned(),
        user: "fuzz".to_owned(),
        role: Role::Admin,
        partner: None,
    });
    let service = sharing::Service::new(Arc::clone(&node));
    v1::sharing_service_server::SharingService::set_policy(&service, request)
        .await
        .map_err(|status| Error::internal(status.message().to_owned()))?;
    let (partnership, proposal) = node.store.read_blocking(|connection| {
        let proposed: Vec<u8> =
            connection.query_row("SELECT body FROM notices_out", [], |row| row.get(0))?;
        Ok((partnership::connected(connection, PARTNER)?, proposed))
    })?;
    let body: serde_json::Value =
        serde_json::from_slice(&proposal).map_err(|error| Error::internal(error.to_string()))?;
    let accepted = serde_json::json!({
        "generation": body["generation"], "approves": body["number"], "number": 1, "document": body["document"],
    });
    node.store.write_blocking(|tx| {
        take(
            &node,
            tx,
            &partnership,
            "sharing.accepted",
            accepted.to_string().as_bytes(),
        )
    })?;
    Ok((node, partnership, proposal))
}

fn take(
    node: &Node,
    tx: &rusqlite::Transaction<'_>,
    partnership: &Partnership,
    kind: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let handler = node
        .notice_handlers()
        .get(kind)
        .ok_or_else(|| Error::new(Reason::PeerVersion, "unknown"))?;
    handler(&Incoming {
        node,
        tx,
        at: node.now(),
        partnership,
        kind,
        bytes,
    })
}

/// Every kind of notice that a node takes.
#[must_use]
pub fn notice_kinds(node: &Node) -> Vec<&'static str> {
    node.notice_handlers().kinds()
}

/// Gives the notices of `deliveries`, each an encoded `DeliverRequest`, their effects one after the other, and undoes all of it.
///
/// # Errors
/// The first refusal.
pub fn deliver(node: &Node, partnership: &Partnership, deliveries: &[&[u8]]) -> Result<(), Error> {
    let mut outcome = Ok(());
    let undone = node.store.write_blocking(|tx| {
        for delivery in deliveries {
            outcome = DeliverRequest::decode(*delivery)
                .map_err(|error| Error::new(Reason::PeerFault, error.to_string()))
                .and_then(|notice| {
                    notices::check(&notice)?;
                    take(node, tx, partnership, &notice.kind, &notice.body)
                });
            if outcome.is_err() {
                break;
            }
        }
        Err::<(), _>(Error::new(Reason::Cancelled, "undone"))
    });
    debug_assert!(undone.is_err());
    outcome
}

/// Reads a file of records of `kind` and forgets them; says in how many fields it is wrong.
///
/// # Errors
/// What else is wrong with it.
pub fn records(
    now: Timestamp,
    kind: v1::RecordKind,
    format: v1::RecordFileFormat,
    file: &[u8],
) -> Result<usize, Error> {
    let now = records::times::of(now);
    let kind = records::kind::Kind::from_proto(kind);
    match records::import::fuzz(now, kind, format, file) {
        Ok(()) => Ok(0),
        Err(records::Refusals::Fields(refused)) => Ok(refused.len()),
        Err(records::Refusals::Other(error)) => Err(error),
    }
}

/// Reads the positions of page tokens of every form of listing: tokens carry no secret, so a caller can make any position.
pub fn positions(position: &[u8]) {
    let token = Listing::new("fuzz", &["filter"]).token(position);
    if let Ok(page) = PageRequest::read("fuzz", &["filter"], 1, &token) {
        assert_eq!(page.after.as_deref().map(str::as_bytes), Some(position));
        let _ = page.after_newest();
    }
    records::paging::fuzz_position(position);
}

/// Reads a text as each of the tokens that callers hand back.
pub fn token(text: &str) {
    let _ = PageRequest::read("fuzz", &["filter"], 1, text);
    let _ = crate::convert::Page::of(1, text, "filter");
    crate::changes::fuzz_cursor(text);
    partnership::fuzz_invitation(text);
}
