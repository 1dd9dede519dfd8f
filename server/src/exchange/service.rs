//! What partners' nodes may call.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use overlap_proto::exchange::v1::{
    CollectRequest, CollectResponse, DeliverRequest, DeliverResponse, FetchAssetRequest,
    FetchAssetResponse, PairRequest, PairResponse, RunRequest, RunResponse,
    exchange_service_server::{ExchangeService, ExchangeServiceServer},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::{
    Request, Response, Status, Streaming,
    service::{Routes, interceptor::InterceptedService},
};

use super::{
    Frame, Link, Peer, for_peer,
    link::{self, QUEUED_FRAMES},
    listener::Connection,
    unknown_peer,
};
use crate::{
    assets,
    error::{Error, Reason},
    node::Node,
    notices, partnership,
    partnership::Partnership,
};

/// The exchange listener's services.
pub(crate) fn routes(node: &Arc<Node>) -> Routes {
    // Runs check their frames' own limit; a notice may be larger than a small one.
    let limit = link::max_message_bytes(node).max(notices::MAX_BODY_BYTES + 1024);
    let service = ExchangeServiceServer::new(Exchange {
        node: Arc::clone(node),
    })
    .max_decoding_message_size(limit)
    .max_encoding_message_size(limit);
    let resolving = Arc::clone(node);
    Routes::new(InterceptedService::new(service, move |request| {
        resolve(&resolving, request)
    }))
}

/// Finds out who calls, anew for every request: a partnership may have ended since the connection was made.
fn resolve(node: &Node, mut request: Request<()>) -> Result<Request<()>, Status> {
    let connection = request.extensions_mut().remove::<Connection>();
    let Some(Connection(Some(mut peer))) = connection else {
        return Err(unknown_peer().into());
    };
    peer.partnership_id = node.partners.partnership_id(&peer.certificate_sha256);
    request.extensions_mut().insert(peer);
    Ok(request)
}

struct Exchange {
    node: Arc<Node>,
}

impl Exchange {
    async fn caller<T>(&self, request: &Request<T>) -> Result<(Peer, Partnership), Error> {
        let peer = Peer::of(request)?;
        let id = peer.partnership_id()?.to_owned();
        let partnership = self
            .node
            .store
            .read(move |connection| partnership::connected(connection, &id))
            .await?;
        Ok((peer, partnership))
    }

    async fn accept_run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Responses, Error> {
        let (peer, partnership) = self.caller(&request).await?;
        let permit = self
            .node
            .partners
            .run_streams(&peer.certificate_sha256)
            .ok_or_else(unknown_peer)?
            .try_acquire_owned()
            .map_err(|_| Error::new(Reason::QuotaExhausted, "too many run streams"))?;
        let mut messages = request.into_inner();
        let broke = |_: Status| Error::new(Reason::PartnerUnreachable, "the stream broke");
        // The first message names the run.
        let opening = timeout(
            self.node.config.limits.call_timeout.duration(),
            messages.message(),
        )
        .await
        .map_err(|_| Error::new(Reason::DeadlineExceeded, "no run was named"))?
        .map_err(broke)?;
        let (run_id, resumes): ([u8; 16], bool) = match opening {
            Some(RunRequest {
                run_id,
                frame: None,
                resumes,
            }) => {
                let run_id = run_id
                    .try_into()
                    .map_err(|_| Error::new(Reason::PeerFault, "a run id of the wrong length"))?;
                (run_id, resumes)
            }
            _ => {
                return Err(Error::new(
                    Reason::PeerFault,
                    "a run that does not begin with its name",
                ));
            }
        };
        let (outgoing, frames) = mpsc::channel(QUEUED_FRAMES);
        let (queue, incoming) = mpsc::channel(QUEUED_FRAMES);
        let (end, verdict) = oneshot::channel();
        let certificate_sha256 = peer.certificate_sha256;
        let messages = messages.map(move |message| {
            message
                .map(|message| (message.run_id, message.frame))
                .map_err(broke)
        });
        tokio::spawn(link::pump(
            Arc::clone(&self.node),
            certificate_sha256,
            run_id,
            queue,
            messages,
        ));
        let link = Link {
            partnership,
            exporter: peer.exporter,
            initiator: false,
            run_id,
            resumes,
            incoming,
            outgoing,
        };
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            // Held by the work, not by the stream: a caller that drops streams has not ended what they began.
            let _permit = permit;
            // Nobody listens if the stream broke.
            let _ = end.send(node.accept_run(link).await);
        });
        Ok(Box::pin(responses(
            run_id,
            link::with_keep_alive(&self.node, frames),
            verdict,
            link::cut(&self.node, &certificate_sha256),
        )))
    }

    /// One of a few fetches of this partner; the others wait for a while.
    async fn fetch(&self, request: Request<FetchAssetRequest>) -> Result<Chunks, Error> {
        let (peer, partnership) = self.caller(&request).await?;
        let places = self
            .node
            .partners
            .fetches(&peer.certificate_sha256)
            .ok_or_else(unknown_peer)?;
        // The partner's node gives up on a call that takes all of this.
        let patience = self.node.config.limits.call_timeout.duration() / 2;
        let permit = timeout(patience, places.acquire_owned())
            .await
            .map_err(|_| Error::new(Reason::QuotaExhausted, "too many fetches of files"))?
            .map_err(|_| unknown_peer())?;
        let chunks = assets::serve(&self.node, &partnership, request.into_inner()).await?;
        let cut = link::cut(&self.node, &peer.certificate_sha256);
        let state = (Box::pin(chunks), Box::pin(cut), permit);
        // The stream holds the place: a reader that stalls keeps one of its own.
        Ok(Box::pin(futures::stream::unfold(
            Some(state),
            |state| async {
                let (mut chunks, mut cut, permit) = state?;
                let next = tokio::select! {
                    biased;
                    error = &mut cut => Err(error),
                    next = chunks.next() => next.transpose(),
                };
                match next {
                    Ok(None) => None,
                    Ok(Some(chunk)) => Some((Ok(chunk), Some((chunks, cut, permit)))),
                    Err(error) => Some((Err(for_peer(&error)), None)),
                }
            },
        )))
    }
}

type Chunks = std::pin::Pin<Box<dyn Stream<Item = Result<FetchAssetResponse, Status>> + Send>>;

type Responses = std::pin::Pin<Box<dyn Stream<Item = Result<RunResponse, Status>> + Send>>;

/// A run's frames, and at the end how it went.
fn responses(
    run_id: [u8; 16],
    frames: impl Stream<Item = Option<Frame>> + Send + 'static,
    verdict: oneshot::Receiver<Result<(), Error>>,
    cut: impl Future<Output = Error> + Send + 'static,
) -> impl Stream<Item = Result<RunResponse, Status>> + Send {
    let state = (Box::pin(frames), verdict, Box::pin(cut));
    futures::stream::unfold(Some(state), move |state| async move {
        let (mut frames, mut verdict, mut cut) = state?;
        let next = async {
            if let Some(frame) = frames.next().await {
                return Ok(Some(frame));
            }
            match (&mut verdict).await {
                Ok(result) => result.map(|()| None),
                Err(_) => Err(Error::internal("a run ended abnormally")),
            }
        };
        let next = tokio::select! {
            biased;
            error = &mut cut => Err(error),
            next = next => next,
        };
        match next {
            Ok(None) => None,
            Ok(Some(frame)) => {
                let response = RunResponse {
                    run_id: run_id.to_vec(),
                    frame,
                };
                Some((Ok(response), Some((frames, verdict, cut))))
            }
            Err(error) => Some((Err(for_peer(&error)), None)),
        }
    })
}

#[tonic::async_trait]
impl ExchangeService for Exchange {
    async fn pair(&self, request: Request<PairRequest>) -> Result<Response<PairResponse>, Status> {
        let peer = Peer::of(&request)?;
        partnership::redeem(&self.node, &peer, request.into_inner())
            .await
            .map(Response::new)
            .map_err(|error| partnership::pairing_error_for_peer(&error))
    }

    async fn deliver(
        &self,
        request: Request<DeliverRequest>,
    ) -> Result<Response<DeliverResponse>, Status> {
        let deliver = async {
            let (_, partnership) = self.caller(&request).await?;
            notices::receive(&self.node, partnership, request.into_inner()).await
        };
        deliver
            .await
            .map(|seen| Response::new(DeliverResponse { seen }))
            .map_err(|error| for_peer(&error))
    }

    async fn collect(
        &self,
        request: Request<CollectRequest>,
    ) -> Result<Response<CollectResponse>, Status> {
        let collect = async {
            let peer = Peer::of(&request)?;
            let id = peer
                .partnership_id
                .or_else(|| self.node.partners.leaving(&peer.certificate_sha256))
                .ok_or_else(unknown_peer)?;
            notices::collected(&self.node, id, request.into_inner().acknowledged).await
        };
        collect
            .await
            .map(|notices| Response::new(CollectResponse { notices }))
            .map_err(|error| for_peer(&error))
    }

    type RunStream = Responses;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        self.accept_run(request)
            .await
            .map(Response::new)
            .map_err(|error| for_peer(&error))
    }

    type FetchAssetStream = Chunks;

    async fn fetch_asset(
        &self,
        request: Request<FetchAssetRequest>,
    ) -> Result<Response<Self::FetchAssetStream>, Status> {
        self.fetch(request)
            .await
            .map(Response::new)
            .map_err(|error| for_peer(&error))
    }
}
