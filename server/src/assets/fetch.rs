//! Bytes of files between the nodes: the partner's node fetches them when somebody wants them, from where a broken stream ended.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use overlap_proto::exchange::v1::{FetchAssetRequest, FetchAssetResponse};
use rusqlite::Connection;
use tokio::time::timeout;

use super::{
    CHUNK_BYTES, MAX_BYTES,
    files::{self, Incoming},
    pieces,
    rows::{self, Shared},
};
use crate::{
    audit,
    error::{Error, Reason},
    exchange::connect,
    node::Node,
    partnership::{self, Partnership},
    storage::blocking,
};

/// How often a fetch is tried.
const ATTEMPTS: u32 = 4;
/// The first wait between two attempts; it doubles.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The bytes of a file, in chunks that are read when they are wanted: a reader that stalls holds a file open, and no thread.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Error>> + Send>>;
/// Looks before each chunk whether the reader may still have it.
type Permitted = Box<dyn Fn(&Connection) -> Result<(), Error> + Send>;

/// Gives a partner's node the bytes of a file that is shared with it.
///
/// # Errors
/// `NOT_FOUND` if it is not shared with it; what the store or the file system reports.
pub(crate) async fn serve(
    node: &Arc<Node>,
    partnership: &Partnership,
    request: FetchAssetRequest,
) -> Result<impl Stream<Item = Result<FetchAssetResponse, Error>> + Send + use<>, Error> {
    let (id, partnership) = (request.id, partnership.id.clone());
    let is_shared = {
        let (id, partnership) = (id.clone(), partnership.clone());
        move |connection: &Connection| match rows::share_of(connection, &partnership, &id)? {
            Some((_, true, _, _)) => Ok(()),
            _ => Err(Error::not_found("asset", &id)),
        }
    };
    let still_shared: Permitted = Box::new(is_shared.clone());
    let reader = Arc::clone(node);
    let asset = node
        .store
        .write(move |tx| {
            is_shared(tx)?;
            let asset = rows::find(tx, &id)?;
            if request.offset == 0 {
                audit::record(
                    tx,
                    reader.now(),
                    &audit::partner(&partnership),
                    "asset.fetched",
                    Some(&partnership),
                    &[("asset", &id)],
                )?;
            }
            Ok(asset)
        })
        .await?;
    if request.offset > asset.bytes {
        return Err(Error::new(
            Reason::PeerFault,
            "an offset behind the end of the file",
        ));
    }
    let place = files::own(&asset.sha256);
    let reading = Reading::open(node, place, asset.bytes, request.offset, Some(still_shared));
    let chunks = reading.await?.ok_or_else(missing)?.chunks();
    Ok(chunks.map(|chunk| chunk.map(|chunk| FetchAssetResponse { chunk })))
}

/// Reads the file at a place.
///
/// # Errors
/// `STORAGE_FAILED` if it is not there.
pub(super) async fn read(node: &Arc<Node>, place: String, bytes: u64) -> Result<Chunks, Error> {
    try_read(node, place, bytes).await?.ok_or_else(missing)
}

/// Reads the file at a place, if it is there.
pub(super) async fn try_read(
    node: &Arc<Node>,
    place: String,
    bytes: u64,
) -> Result<Option<Chunks>, Error> {
    let reading = Reading::open(node, place, bytes, 0, None).await?;
    Ok(reading.map(Reading::chunks))
}

fn missing() -> Error {
    Error::new(
        Reason::StorageFailed,
        "the file is missing from the node's directory: upload it again",
    )
}

/// A file that somebody reads.
struct Reading {
    node: Arc<Node>,
    path: PathBuf,
    file: File,
    permitted: Option<Permitted>,
}

impl Reading {
    /// Opens the file at a place from an offset on, if it is there in full length.
    async fn open(
        node: &Arc<Node>,
        place: String,
        bytes: u64,
        offset: u64,
        permitted: Option<Permitted>,
    ) -> Result<Option<Self>, Error> {
        let node = Arc::clone(node);
        blocking(move || {
            let path = files::path(&node, &place);
            let Some(mut file) = files::open(&node, &place, bytes)? else {
                return Ok(None);
            };
            file.seek(SeekFrom::Start(offset))
                .map_err(|error| files::failed(&path, &error))?;
            Ok(Some(Self {
                node,
                path,
                file,
                permitted,
            }))
        })
        .await
    }

    /// The next bytes; none at the end.
    fn next(&mut self) -> Result<Vec<u8>, Error> {
        if let Some(permitted) = &self.permitted {
            self.node.store.read_blocking(permitted)?;
        }
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        self.file
            .by_ref()
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            .map_err(|error| files::failed(&self.path, &error))?;
        Ok(chunk)
    }

    /// What there is, a chunk whenever one is asked for.
    fn chunks(self) -> Chunks {
        Box::pin(stream::unfold(Some(self), |reading| async {
            let mut reading = reading?;
            let read = blocking(move || {
                let chunk = reading.next()?;
                Ok((chunk, reading))
            });
            match read.await {
                Ok((chunk, _)) if chunk.is_empty() => None,
                Ok((chunk, reading)) => Some((Ok(chunk), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

/// The bytes of a partner's file: of the copy here, or fetched and verified; see [`pieces`] for a partner that cannot be called.
///
/// # Errors
/// `PARTNER_UNREACHABLE`; `NOT_FOUND` if the partner has taken it back; `PEER_FAULT` if what it
/// sends is not what it announced.
pub(super) async fn from_partner(
    node: &Arc<Node>,
    partnership: &Partnership,
    shared: &Shared,
) -> Result<Chunks, Error> {
    let place = files::from_partner(&partnership.id, &shared.asset.sha256);
    if let Some(chunks) = try_read(node, place.clone(), shared.asset.bytes).await? {
        return Ok(chunks);
    }
    if partnership.endpoint.is_none() {
        return pieces::await_file(node, partnership, shared, place).await;
    }
    let creating = Arc::clone(node);
    let mut incoming = blocking(move || Incoming::create(&creating)).await?;
    let mut retry = FIRST_RETRY;
    for attempt in 1.. {
        let error;
        (incoming, error) = match fetch(node, partnership, shared, incoming).await {
            (incoming, Ok(())) => {
                settle(node, partnership, shared, incoming).await?;
                return read(node, place, shared.asset.bytes).await;
            }
            (Some(incoming), Err(error)) => (incoming, error),
            (None, Err(error)) => return Err(error),
        };
        let is_passing = matches!(
            error.reason(),
            Reason::PartnerUnreachable | Reason::DeadlineExceeded | Reason::QuotaExhausted
        );
        if !is_passing || attempt >= ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(retry).await;
        retry *= 2;
    }
    unreachable!("the loop ends by returning")
}

/// Fetches what is missing.
async fn fetch(
    node: &Arc<Node>,
    partnership: &Partnership,
    shared: &Shared,
    mut incoming: Incoming,
) -> (Option<Incoming>, Result<(), Error>) {
    let limit = node.config.limits.call_timeout.duration();
    let opening = async {
        let mut call = connect(
            node,
            partnership.reachable()?,
            partnership.certificate_sha256,
        )
        .await?;
        let request = FetchAssetRequest {
            id: shared.asset.id.clone(),
            offset: incoming.bytes(),
        };
        let stream = timeout(limit, call.client.fetch_asset(request))
            .await
            .map_err(|_| call.silent())?
            .map_err(|status| call.explain(&status))?
            .into_inner();
        Ok((call, stream))
    };
    let (call, mut stream) = match opening.await {
        Ok(opened) => opened,
        Err(error) => return (Some(incoming), Err(error)),
    };
    loop {
        let message = match timeout(limit, stream.message()).await {
            Err(_) => return (Some(incoming), Err(call.silent())),
            Ok(Err(status)) => return (Some(incoming), Err(call.explain(&status))),
            Ok(Ok(None)) => return (Some(incoming), Ok(())),
            Ok(Ok(Some(message))) => message,
        };
        let announced = shared.asset.bytes.min(MAX_BYTES);
        if incoming.bytes() + message.chunk.len() as u64 > announced {
            return (None, Err(not_as_announced()));
        }
        let appended = blocking(move || {
            incoming.append(&message.chunk)?;
            Ok(incoming)
        })
        .await;
        incoming = match appended {
            Ok(incoming) => incoming,
            Err(error) => return (None, Err(error)),
        };
    }
}

/// Verifies a fetched file and puts it at its place, if the partner has not taken it back meanwhile.
async fn settle(
    node: &Arc<Node>,
    partnership: &Partnership,
    shared: &Shared,
    incoming: Option<Incoming>,
) -> Result<(), Error> {
    let mut incoming = incoming.ok_or_else(|| Error::internal("a fetch without a file"))?;
    let (node_here, id) = (Arc::clone(node), partnership.id.clone());
    let asset = shared.asset.clone();
    blocking(move || {
        let bytes = incoming.bytes();
        if incoming.finish()? != asset.sha256 || bytes != asset.bytes {
            return Err(not_as_announced());
        }
        node_here.store.write_blocking(|tx| {
            let partnership = partnership::connected(tx, &id)?;
            let now = rows::find_from_partner(tx, &partnership.id, &asset.id)?;
            if now.is_none_or(|now| now.asset.sha256 != asset.sha256) {
                return Err(Error::not_found("asset", &asset.id));
            }
            incoming.settle(
                &node_here,
                &files::from_partner(&partnership.id, &asset.sha256),
            )
        })
    })
    .await
}

pub(super) fn not_as_announced() -> Error {
    Error::new(
        Reason::PeerFault,
        "what the partner's node sent is not the file that it announced",
    )
}
