//! What the two nodes say to each other about files.

use jiff::Timestamp;
use overlap_proto::v1;
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::{
    MAX_BYTES, MAX_FROM_PARTNER, MAX_MEDIA_TYPE_CHARS, MAX_NAME_CHARS, pieces,
    rows::{self, Asset, Shared},
};
use crate::{
    audit,
    changes::{self, Kind},
    collaboration::{peer_id, peer_line, peer_paragraph, peer_time},
    error::{Error, Reason},
    node::{Node, Registry},
    notices::{self, Incoming},
};

const SHARED: &str = "asset.shared";
const UNSHARED: &str = "asset.unshared";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedBody {
    id: String,
    revision: u64,
    kind: String,
    title: String,
    file_name: String,
    media_type: String,
    description: String,
    bytes: u64,
    sha256: String,
    created_us: i64,
    shared_us: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnsharedBody {
    id: String,
    revision: u64,
}

/// Registers what partners may say.
pub fn register(registry: &mut Registry) {
    registry.on_notice(SHARED, shared);
    registry.on_notice(UNSHARED, unshared);
    pieces::register(registry);
}

/// Tells the partner's node of a file.
pub(super) fn tell_shared(node: &Node, tx: &Transaction<'_>, share: &Shared) -> Result<(), Error> {
    let asset = &share.asset;
    let body = SharedBody {
        id: asset.id.clone(),
        revision: share.revision,
        kind: asset.kind.as_str_name().to_owned(),
        title: asset.title.clone(),
        file_name: asset.file_name.clone(),
        media_type: asset.media_type.clone(),
        description: share.description.clone(),
        bytes: asset.bytes,
        sha256: hex::encode(asset.sha256),
        created_us: asset.created_at.as_microsecond(),
        shared_us: share.shared_at.as_microsecond(),
    };
    notices::enqueue(node, tx, &share.partnership, SHARED, &body)?;
    Ok(())
}

/// Tells the partner's node that a file was taken back.
pub(super) fn tell_unshared(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &str,
    id: &str,
    revision: u64,
) -> Result<(), Error> {
    let body = UnsharedBody {
        id: id.to_owned(),
        revision,
    };
    notices::enqueue(node, tx, partnership, UNSHARED, &body)?;
    Ok(())
}

/// Whether what a revision says is news: revisions count up, whatever the order of arrival.
const fn is_news(known: u64, revision: u64) -> bool {
    revision > known
}

fn shared(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: SharedBody = notice.body()?;
    let share = parse(notice, body)?;
    let (tx, partnership) = (notice.tx, &share.partnership);
    let known = rows::partner_revision(tx, partnership, &share.asset.id)?;
    if !is_news(known, share.revision) {
        return Ok(());
    }
    if known == 0 && rows::count_from_partner(tx, partnership)? >= MAX_FROM_PARTNER {
        return Err(Error::new(
            Reason::PeerFault,
            "the partner shares too many files",
        ));
    }
    rows::put_from_partner(tx, &share, true)?;
    note(
        notice,
        Kind::AssetReceived,
        "asset.received",
        &share.asset.id,
    )
}

fn unshared(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: UnsharedBody = notice.body()?;
    peer_id("asset", "ast", &body.id)?;
    let (tx, partnership) = (notice.tx, &notice.partnership.id);
    let known = rows::partner_revision(tx, partnership, &body.id)?;
    if !is_news(known, body.revision) {
        return Ok(());
    }
    if known == 0 && rows::count_from_partner(tx, partnership)? >= MAX_FROM_PARTNER {
        return Err(Error::new(
            Reason::PeerFault,
            "the partner shared too many files",
        ));
    }
    // What remains keeps an older revision from bringing the file back.
    let tombstone = Shared {
        asset: Asset {
            id: body.id,
            kind: v1::AssetKind::Other,
            title: String::new(),
            file_name: String::new(),
            media_type: String::new(),
            bytes: 0,
            sha256: [0; 32],
            created_at: Timestamp::UNIX_EPOCH,
        },
        partnership: partnership.clone(),
        revision: body.revision,
        description: String::new(),
        shared_at: notice.at,
    };
    rows::put_from_partner(tx, &tombstone, false)?;
    note(
        notice,
        Kind::AssetUnshared,
        "asset.unshared",
        &tombstone.asset.id,
    )
}

fn parse(notice: &Incoming<'_>, body: SharedBody) -> Result<Shared, Error> {
    peer_id("asset", "ast", &body.id)?;
    peer_line("title", &body.title, MAX_NAME_CHARS)?;
    peer_line("file_name", &body.file_name, MAX_NAME_CHARS)?;
    if !is_plain_name(&body.file_name) {
        return Err(Error::new(Reason::PeerFault, "file_name has folders"));
    }
    peer_line("media_type", &body.media_type, MAX_MEDIA_TYPE_CHARS)?;
    peer_paragraph("description", &body.description)?;
    if body.bytes > MAX_BYTES {
        return Err(Error::new(Reason::PeerFault, "a file is over the limit"));
    }
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&body.sha256, &mut sha256)
        .map_err(|_| Error::new(Reason::PeerFault, "sha256 is malformed"))?;
    let kind = v1::AssetKind::from_str_name(&body.kind)
        .filter(|kind| *kind != v1::AssetKind::Unspecified)
        // Kinds that a newer version knows.
        .unwrap_or(v1::AssetKind::Other);
    Ok(Shared {
        asset: Asset {
            kind,
            title: body.title,
            file_name: body.file_name,
            media_type: body.media_type,
            bytes: body.bytes,
            sha256,
            created_at: peer_time("created_us", body.created_us, notice.at)?,
            id: body.id,
        },
        partnership: notice.partnership.id.clone(),
        revision: body.revision,
        description: body.description,
        shared_at: peer_time("shared_us", body.shared_us, notice.at)?,
    })
}

/// Whether a name names a file and no folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', ':']) && name != "." && name != ".."
}

fn note(notice: &Incoming<'_>, kind: Kind, action: &str, id: &str) -> Result<(), Error> {
    let partnership = &notice.partnership.id;
    changes::record(notice.tx, notice.at, kind, Some(partnership), id, &[])?;
    audit::record(
        notice.tx,
        notice.at,
        &audit::partner(partnership),
        action,
        Some(partnership),
        &[("asset", id)],
    )
}
