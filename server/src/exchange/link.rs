//! The two directions of one run's stream.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use tokio::{
    sync::mpsc::{Receiver, Sender},
    time::timeout,
};

use super::{Frame, unknown_peer};
use crate::{
    error::{Error, Reason},
    node::Node,
    partnership::Partnership,
};

/// Frames that wait in each direction: with more, the sender waits.
pub(super) const QUEUED_FRAMES: usize = 4;

/// Bytes of a message around its frame's payload.
const ENVELOPE_BYTES: usize = 1024;

/// One run's stream, already admitted: mutually authenticated, of one run, frames bounded, back-pressure both ways.
///
/// Dropping `outgoing` ends this side's direction; the other side then reads an end of `incoming`.
pub struct Link {
    /// With whom.
    pub partnership: Partnership,
    /// The connection's TLS exporter, the same on both sides.
    pub exporter: [u8; 32],
    /// Whether this side opened it.
    pub initiator: bool,
    /// The run, as the initiator named it.
    pub run_id: [u8; 16],
    /// Whether it goes on with a run under way whose last connection broke.
    pub resumes: bool,
    /// The partner's frames in the order it sent them; the end, or one error and then the end.
    pub incoming: Receiver<Result<Frame, Error>>,
    /// Frames for the partner, none with more payload than the configured limit.
    pub outgoing: Sender<Frame>,
}

/// The largest message of a run's stream.
pub(super) fn max_message_bytes(node: &Node) -> usize {
    node.config.limits.max_frame_bytes + ENVELOPE_BYTES
}

/// The frames of a link as they leave, and `None` when there was none for a while: a message that keeps the stream alive.
pub(super) fn with_keep_alive(
    node: &Node,
    frames: Receiver<Frame>,
) -> impl Stream<Item = Option<Frame>> + Send + use<> {
    let beat = node.config.limits.idle_timeout.duration() / 2;
    futures::stream::unfold(frames, move |mut frames| async move {
        match timeout(beat, frames.recv()).await {
            Ok(frame) => frame.map(|frame| (Some(frame), frames)),
            Err(_) => Some((None, frames)),
        }
    })
}

/// A stream's messages: run id and frame.
pub(super) type Message = Result<(Vec<u8>, Option<Frame>), Error>;

/// Moves a stream's messages into a link's queue until the stream, the link, the partnership or the node ends.
pub(super) async fn pump(
    node: Arc<Node>,
    certificate_sha256: [u8; 32],
    run_id: [u8; 16],
    queue: Sender<Result<Frame, Error>>,
    mut messages: impl Stream<Item = Message> + Unpin + Send,
) {
    let limits = &node.config.limits;
    let mut cut = pin!(cut(&node, &certificate_sha256));
    loop {
        let message = tokio::select! {
            biased;
            error = &mut cut => Err(error),
            () = queue.closed() => return,
            message = timeout(limits.idle_timeout.duration(), messages.next()) => match message {
                Ok(message) => message.transpose(),
                Err(_) => Err(Error::new(
                    Reason::DeadlineExceeded,
                    format!("the partner's node sent nothing for {}", limits.idle_timeout),
                )),
            },
        };
        let frame = match message {
            Ok(None) => return,
            Ok(Some((id, _))) if id != run_id => {
                Err(Error::new(Reason::PeerFault, "a frame of another run"))
            }
            // A message without a frame keeps the stream alive and says nothing.
            Ok(Some((_, None))) => continue,
            Ok(Some((_, Some(frame)))) if frame.payload.len() > limits.max_frame_bytes => {
                Err(Error::new(Reason::PeerFault, "a frame over the limit"))
            }
            Ok(Some((_, Some(frame)))) => Ok(frame),
            Err(error) => Err(error),
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                // The connection goes first: whoever drives the run may be stuck sending.
                drop(messages);
                let _ = queue.send(Err(error)).await;
                return;
            }
        };
        let error = tokio::select! {
            sent = queue.send(Ok(frame)) => match sent {
                Ok(()) => continue,
                Err(_) => return,
            },
            error = &mut cut => error,
        };
        drop(messages);
        let _ = queue.send(Err(error)).await;
        return;
    }
}

/// Resolves when a link has to end from outside, with the reason.
pub(super) fn cut(
    node: &Arc<Node>,
    certificate_sha256: &[u8; 32],
) -> impl Future<Output = Error> + Send + use<> {
    let unpinned = node.partners.unpinned(certificate_sha256);
    let stopping = node.stopping();
    let drain: Duration = node.config.limits.drain_timeout.duration();
    async move {
        tokio::select! {
            () = unpinned => unknown_peer(),
            () = async { stopping.await; tokio::time::sleep(drain).await } => {
                Error::new(Reason::NodeStopping, "the node is stopping")
            }
        }
    }
}
