//! Bytes of files between the nodes: the partner's node fetches them when somebody wants them, from where a broken stream ended.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
    time::Duration,
};

use futures::Stream;
use overlap_proto::exchange::v1::{FetchAssetRequest, FetchAssetResponse};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

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
/// Chunks that wait for a slow reader.
const QUEUED_CHUNKS: usize = 4;

/// The bytes of a file, in chunks.
pub(super) type Chunks = ReceiverStream<Result<Vec<u8>, Error>>;

/// Gives a partner's node the bytes of a file that is shared with it.
///
/// # Errors
/// `NOT_FOUND` if it is not shared with it; what the store or the file system reports.
pub(crate) async fn serve(
    node: &Arc<Node>,
    partnership: &Partnership,
    request: FetchAssetRequest,
) -> Result<impl Stream<Item = Result<FetchAssetResponse, Error>> + Send + use<>, Error> {
    let (id, partnership) = (request.id.clone(), partnership.id.clone());
    let reader = Arc::clone(node);
    let asset = node
        .store
        .write(move |tx| {
            let is_shared = rows::share_of(tx, &partnership, &id)?
                .is_some_and(|(_, is_shared, _, _)| is_shared);
            if !is_shared {
                return Err(Error::not_found("asset", &id));
            }
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
    let chunks = read(node, files::own(&asset.sha256), asset.bytes, request.offset).await?;
    Ok(futures::StreamExt::map(chunks, |chunk| {
        chunk.map(|chunk| FetchAssetResponse { chunk })
    }))
}

/// Reads the file at a place.
///
/// # Errors
/// `STORAGE_FAILED` if it is not there.
pub(super) async fn read(
    node: &Arc<Node>,
    place: String,
    bytes: u64,
    offset: u64,
) -> Result<Chunks, Error> {
    try_read(node, place, bytes, offset).await?.ok_or_else(|| {
        Error::new(
            Reason::StorageFailed,
            "the file is missing from the node's directory: upload it again",
        )
    })
}

/// Reads the file at a place, if it is there.
pub(super) async fn try_read(
    node: &Arc<Node>,
    place: String,
    bytes: u64,
    offset: u64,
) -> Result<Option<Chunks>, Error> {
    let node = Arc::clone(node);
    let path = files::path(&node, &place);
    let Some(mut file) = blocking(move || files::open(&node, &place, bytes)).await? else {
        return Ok(None);
    };
    let (queue, chunks) = mpsc::channel(QUEUED_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let failed = |error: std::io::Error| files::failed(&path, &error);
        if let Err(error) = file.seek(SeekFrom::Start(offset)) {
            // Nobody listens if the call was given up.
            let _ = queue.blocking_send(Err(failed(error)));
            return;
        }
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = file
                .by_ref()
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk);
            let item = match read {
                Ok(0) => return,
                Ok(_) => Ok(chunk),
                Err(error) => Err(failed(error)),
            };
            let is_last = item.is_err();
            if queue.blocking_send(item).is_err() || is_last {
                return;
            }
        }
    });
    Ok(Some(ReceiverStream::new(chunks)))
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
    if let Some(chunks) = try_read(node, place.clone(), shared.asset.bytes, 0).await? {
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
                return read(node, place, shared.asset.bytes, 0).await;
            }
            (Some(incoming), Err(error)) => (incoming, error),
            (None, Err(error)) => return Err(error),
        };
        let is_passing = matches!(
            error.reason(),
            Reason::PartnerUnreachable | Reason::DeadlineExceeded
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
