//! Bytes of files of a partner that cannot be called: this node asks by a notice, and the partner's node, which calls, brings
//! the file in notices of bounded pieces. What has arrived is remembered, so both nodes go on after a restart where they were.
//!
//! Nothing arrives that was not asked for; a piece that comes again changes nothing.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    fetch::{Chunks, not_as_announced, try_read},
    files,
    rows::{self, Asset, Shared},
};
use crate::{
    audit,
    collaboration::peer_id,
    error::{Error, Reason},
    node::{Node, Registry},
    notices::{self, Incoming},
    partnership::Partnership,
};

const WANTED: &str = "asset.wanted";
const PIECE: &str = "asset.piece";
/// Bytes of a piece; a notice holds them in base64.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for a partner at once; other notices wait behind them.
const MOST_PIECES: u64 = 16;
/// Files that may be on their way from or to one partner.
const MOST_FILES: u64 = 64;
/// After how long without a piece the partner is asked again.
const ASK_AGAIN_US: i64 = 60_000_000;
/// How often a call that waits for a file looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedBody {
    id: String,
    offset: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceBody {
    id: String,
    offset: u64,
    /// Base64.
    bytes: String,
}

/// Registers what partners may say.
pub(super) fn register(registry: &mut Registry) {
    registry.on_notice(WANTED, wanted);
    registry.on_notice(PIECE, piece);
}

/// The bytes of a file of a partner that cannot be called: of the copy here, or asked for and awaited.
///
/// # Errors
/// `PARTNER_UNREACHABLE` if nothing arrives for as long as a call may take; `QUOTA_EXHAUSTED`; `NOT_FOUND` if the partner takes
/// it back meanwhile; `PEER_FAULT` if what it sends is not what it announced.
pub(super) async fn await_file(
    node: &Arc<Node>,
    partnership: &Partnership,
    shared: &Shared,
    place: String,
) -> Result<Chunks, Error> {
    let (asking, id) = (Arc::clone(node), partnership.id.clone());
    let asset = shared.asset.clone();
    let ask = move |tx: &Transaction<'_>| ask(&asking, tx, &id, &asset);
    node.store.write(ask).await?;
    let patience = node.config.limits.call_timeout.duration();
    let (mut arrived, mut waited) = (0, Duration::ZERO);
    loop {
        let (id, asset) = (partnership.id.clone(), shared.asset.clone());
        let progress = node
            .store
            .read(move |connection| {
                let known = rows::find_from_partner(connection, &id, &asset.id)?;
                if known.is_none_or(|known| known.asset.sha256 != asset.sha256) {
                    return Err(Error::not_found("asset", &asset.id));
                }
                received(connection, &id, &asset.id)
            })
            .await?;
        if let Some(chunks) = try_read(node, place.clone(), shared.asset.bytes).await? {
            return Ok(chunks);
        }
        let Some(progress) = progress else {
            return Err(not_as_announced());
        };
        if progress != arrived {
            (arrived, waited) = (progress, Duration::ZERO);
        }
        if waited >= patience {
            return Err(Error::new(
                Reason::PartnerUnreachable,
                "the partner's node cannot be called: it has been asked for the file and brings it when it calls: try again",
            )
            .with("received_bytes", progress)
            .with("size_bytes", shared.asset.bytes));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

/// Asks for a file, unless that was done and is not long ago.
fn ask(node: &Node, tx: &Transaction<'_>, partnership: &str, asset: &Asset) -> Result<(), Error> {
    let now_us = node.now().as_microsecond();
    let known: Option<(u64, i64)> = tx
        .prepare_cached(
            "SELECT received, asked_us FROM asset_wanted WHERE partnership = ? AND asset = ?",
        )?
        .query_row([partnership, &asset.id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let offset = match known {
        Some((_, asked_us)) if now_us - asked_us < ASK_AGAIN_US => return Ok(()),
        Some((received, _)) => received,
        None => {
            limit(tx, "asset_wanted", partnership)?;
            0
        }
    };
    put_wanted(tx, partnership, &asset.id, offset, now_us)?;
    tell_wanted(node, tx, partnership, &asset.id, offset)
}

fn tell_wanted(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &str,
    id: &str,
    offset: u64,
) -> Result<(), Error> {
    let id = id.to_owned();
    notices::enqueue(node, tx, partnership, WANTED, &WantedBody { id, offset })?;
    Ok(())
}

fn limit(connection: &Connection, table: &str, partnership: &str) -> Result<(), Error> {
    let count: u64 = connection.query_row(
        &format!("SELECT count(*) FROM {table} WHERE partnership = ?"),
        [partnership],
        |row| row.get(0),
    )?;
    if count < MOST_FILES {
        return Ok(());
    }
    Err(Error::new(
        Reason::QuotaExhausted,
        format!("{MOST_FILES} files are on their way already: try again when they have arrived"),
    ))
}

/// How much of a file that was asked for has arrived; nothing if it was not asked for.
fn received(connection: &Connection, partnership: &str, id: &str) -> Result<Option<u64>, Error> {
    Ok(connection
        .prepare_cached("SELECT received FROM asset_wanted WHERE partnership = ? AND asset = ?")?
        .query_row([partnership, id], |row| row.get(0))
        .optional()?)
}

fn put_wanted(
    tx: &Transaction<'_>,
    partnership: &str,
    id: &str,
    received: u64,
    now_us: i64,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO asset_wanted (partnership, asset, received, asked_us) VALUES (?, ?, ?, ?)",
    )?
    .execute(params![partnership, id, received, now_us])?;
    Ok(())
}

/// Asks for a file no more, and drops what has arrived.
pub(super) fn give_up(tx: &Transaction<'_>, partnership: &str, id: &str) -> Result<(), Error> {
    let dropped = tx
        .prepare_cached("DELETE FROM asset_wanted WHERE partnership = ? AND asset = ?")?
        .execute([partnership, id])?;
    if dropped > 0 {
        files::abandon(tx, &files::pieces(partnership, id))?;
    }
    Ok(())
}

/// Sends a file no more.
pub(super) fn stop_sending(tx: &Transaction<'_>, partnership: &str, id: &str) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM asset_sending WHERE partnership = ? AND asset = ?")?
        .execute([partnership, id])?;
    Ok(())
}

/// Forgets what is on its way from and to a partner.
pub(super) fn forget(tx: &Transaction<'_>, partnership: &str) -> Result<(), Error> {
    for table in ["asset_wanted", "asset_sending"] {
        tx.execute(
            &format!("DELETE FROM {table} WHERE partnership = ?"),
            [partnership],
        )?;
    }
    files::abandon(tx, &files::all_pieces(partnership))
}

/// The partner asks for a file of mine, from an offset on.
fn wanted(notice: &Incoming<'_>) -> Result<(), Error> {
    let body: WantedBody = notice.body()?;
    peer_id("asset", "ast", &body.id)?;
    let (tx, partnership) = (notice.tx, &notice.partnership.id);
    match rows::share_of(tx, partnership, &body.id)? {
        None => {
            return Err(Error::new(
                Reason::PeerFault,
                "the partner asks for a file that it was never given",
            ));
        }
        // It was taken back, and the partner did not know yet.
        Some((_, false, _, _)) => return Ok(()),
        Some(_) => {}
    }
    let asset = rows::find(tx, &body.id)?;
    if body.offset > asset.bytes {
        return Err(Error::new(
            Reason::PeerFault,
            "an offset behind the end of the file",
        ));
    }
    stop_sending(tx, partnership, &body.id)?;
    limit(tx, "asset_sending", partnership)?;
    tx.prepare_cached("INSERT INTO asset_sending (partnership, asset, sent) VALUES (?, ?, ?)")?
        .execute(params![partnership, body.id, body.offset])?;
    if body.offset == 0 {
        audit::record(
            tx,
            notice.at,
            &audit::partner(partnership),
            "asset.fetched",
            Some(partnership),
            &[("asset", &body.id)],
        )?;
    }
    Ok(())
}

/// Hands the next pieces of what a partner asked for to the delivery of notices, as many as may wait. Blocks.
///
/// # Errors
/// What the store or the file system reports.
pub(crate) fn send(node: &Node, partnership: &str) -> Result<(), Error> {
    let is_any = node.store.read_blocking(|connection| {
        Ok(connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM asset_sending WHERE partnership = ?)")?
            .query_row([partnership], |row| row.get::<_, bool>(0))?)
    })?;
    if !is_any {
        return Ok(());
    }
    node.store.write_blocking(|tx| {
        let waiting: u64 = tx
            .prepare_cached("SELECT count(*) FROM notices_out WHERE partnership = ? AND kind = ?")?
            .query_row([partnership, PIECE], |row| row.get(0))?;
        for _ in waiting..MOST_PIECES {
            let next: Option<(String, u64)> = tx
                .prepare_cached(
                    "SELECT asset, sent FROM asset_sending WHERE partnership = ? ORDER BY asset LIMIT 1",
                )?
                .query_row([partnership], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((id, offset)) = next else {
                return Ok(());
            };
            send_piece(node, tx, partnership, &id, offset)?;
        }
        Ok(())
    })
}

fn send_piece(
    node: &Node,
    tx: &Transaction<'_>,
    partnership: &str,
    id: &str,
    offset: u64,
) -> Result<(), Error> {
    let asset = rows::find(tx, id)?;
    let place = files::own(&asset.sha256);
    let Some(mut file) = files::open(node, &place, asset.bytes)? else {
        tracing::error!(asset = %id, "the file is missing from the node's directory: upload it again");
        return stop_sending(tx, partnership, id);
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| file.take(PIECE_BYTES as u64).read_to_end(&mut bytes))
        .map_err(|error| files::failed(&files::path(node, &place), &error))?;
    let sent = offset + bytes.len() as u64;
    let body = PieceBody {
        id: id.to_owned(),
        offset,
        bytes: STANDARD.encode(bytes),
    };
    notices::enqueue(node, tx, partnership, PIECE, &body)?;
    if sent >= asset.bytes {
        return stop_sending(tx, partnership, id);
    }
    tx.prepare_cached("UPDATE asset_sending SET sent = ? WHERE partnership = ? AND asset = ?")?
        .execute(params![sent, partnership, id])?;
    Ok(())
}

fn sha256_of(file: &mut File) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE_BYTES];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// The partner brings a piece of a file that was asked for.
fn piece(notice: &Incoming<'_>) -> Result<(), Error> {
    let fault = |problem: &str| Err(Error::new(Reason::PeerFault, problem));
    let body: PieceBody = notice.body()?;
    peer_id("asset", "ast", &body.id)?;
    let (node, tx, partnership) = (notice.node, notice.tx, &notice.partnership.id);
    let Some(shared) = rows::find_from_partner(tx, partnership, &body.id)? else {
        return fault("a piece of a file that is not shared");
    };
    let Some(before) = received(tx, partnership, &body.id)? else {
        // It was asked for twice, and is complete.
        return Ok(());
    };
    let asset = shared.asset;
    let bytes = match STANDARD.decode(&body.bytes) {
        Ok(bytes) if bytes.len() <= PIECE_BYTES && bytes.is_empty() == (asset.bytes == 0) => bytes,
        _ => return fault("the bytes of a piece are malformed"),
    };
    let end = body.offset.saturating_add(bytes.len() as u64);
    if end > asset.bytes || body.offset > before {
        return fault("a piece that does not continue the file");
    }
    if end < before {
        return Ok(());
    }
    let path = files::path(node, &files::pieces(partnership, &body.id));
    let failed = |error: std::io::Error| files::failed(&path, &error);
    files::create_parent(&path)?;
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    if file.metadata().map_err(failed)?.len() < body.offset {
        // What had arrived is gone, by no fault of the partner's.
        put_wanted(tx, partnership, &body.id, 0, notice.at.as_microsecond())?;
        return tell_wanted(node, tx, partnership, &body.id, 0);
    }
    // Durable before the store says so; written again if the store does not get to say so.
    file.seek(SeekFrom::Start(body.offset))
        .and_then(|_| file.write_all(&bytes))
        .and_then(|()| file.set_len(end))
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    if end < asset.bytes {
        return put_wanted(tx, partnership, &body.id, end, notice.at.as_microsecond());
    }
    if sha256_of(&mut file).map_err(failed)? == asset.sha256 {
        files::settle(
            &path,
            &files::path(node, &files::from_partner(partnership, &asset.sha256)),
        )?;
    } else {
        // An error would keep what arrived; the call that waits for the file says what happened.
        audit::record(
            tx,
            notice.at,
            &audit::partner(partnership),
            "asset.refused",
            Some(partnership),
            &[("asset", &body.id), ("reason", Reason::PeerFault.name())],
        )?;
    }
    give_up(tx, partnership, &body.id)
}
