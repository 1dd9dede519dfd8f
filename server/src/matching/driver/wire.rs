//! Frames in and out: numbering, transcript, and which flow a frame is for.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use overlap_crypto::{
    fault::Fault,
    plan::Role,
    transcript::{Chain, Inbound, Outbound, payload_digest},
    wire::{AbortBody, Flow, Frame as WireFrame, FrameKind},
};
use overlap_proto::exchange::v1::Frame;
use tokio::sync::mpsc;

use super::{Run, RunLink, lock};
use crate::{
    error::Error,
    matching::{compute::Pool, failure::Failure},
};

/// Frames of one flow that may wait to be read; more than any honest partner's window.
const INBOX_FRAMES: usize = 64;
/// Payloads beyond this are hashed on the pool.
const SMALL_BYTES: usize = 4096;
/// How long the end of a failed run waits to tell the partner.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);
/// What a frame takes on the wire besides its payload, roughly.
const FRAME_BYTES: u64 = 32;

/// The sending side, shared by the flows: frames get their numbers in the order they leave.
pub(super) struct Outgoing {
    pool: Pool,
    inner: tokio::sync::Mutex<Inner>,
    sent_bytes: AtomicU64,
}

struct Inner {
    frames: Option<mpsc::Sender<Frame>>,
    outbound: Outbound,
}

impl Outgoing {
    pub(super) fn new(pool: &Pool, frames: mpsc::Sender<Frame>, outbound: Outbound) -> Self {
        Self {
            pool: pool.clone(),
            inner: tokio::sync::Mutex::new(Inner {
                frames: Some(frames),
                outbound,
            }),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// Sends a frame, waiting while the link is busy.
    pub(super) async fn send(
        &self,
        flow: Flow,
        kind: FrameKind,
        payload: Vec<u8>,
    ) -> Result<(), Failure> {
        let payload = Bytes::from(payload);
        let digest = digest(&self.pool, &payload).await?;
        let mut inner = self.inner.lock().await;
        let frame = inner
            .outbound
            .frame_digested(flow, kind, &payload, &digest)?;
        let frame = Frame {
            flow: frame.flow.code().into(),
            kind: frame.kind.code().into(),
            sequence: frame.sequence,
            payload: payload.clone(),
        };
        let frames = inner.frames.as_ref().ok_or_else(closed)?;
        frames.send(frame).await.map_err(|_| closed())?;
        self.sent_bytes
            .fetch_add(payload.len() as u64 + FRAME_BYTES, Ordering::Relaxed);
        Ok(())
    }

    /// The transcript of everything sent so far.
    pub(super) async fn chain(&self) -> Chain {
        self.inner.lock().await.outbound.chain().clone()
    }

    /// Ends this side's direction once everything is sent.
    pub(super) async fn close(&self) {
        self.inner.lock().await.frames = None;
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

fn closed() -> Failure {
    Failure::network("the connection to the partner's node ended")
}

async fn digest(pool: &Pool, payload: &Bytes) -> Result<[u8; 64], Failure> {
    if payload.len() <= SMALL_BYTES {
        return Ok(payload_digest(payload));
    }
    let payload = payload.clone();
    pool.run(move || Ok(payload_digest(&payload))).await
}

/// A frame before the session has numbers: a hello.
pub(super) fn hello_frame(payload: Vec<u8>) -> Frame {
    Frame {
        flow: Flow::Session.code().into(),
        kind: FrameKind::Hello.code().into(),
        sequence: 0,
        payload: payload.into(),
    }
}

/// Tells the partner that the run is over, if it can still be told.
pub(super) async fn send_abort(frames: &mpsc::Sender<Frame>, code: u16) {
    let frame = Frame {
        flow: Flow::Session.code().into(),
        kind: FrameKind::Abort.code().into(),
        sequence: 0,
        payload: AbortBody { code }.encode().into(),
    };
    let _ = tokio::time::timeout(ABORT_PATIENCE, frames.send(frame)).await;
}

/// A frame for a flow.
pub(super) struct Incoming {
    pub(super) kind: FrameKind,
    pub(super) payload: Bytes,
}

/// The frames of one flow, in order.
pub(super) struct Inbox {
    frames: mpsc::Receiver<Incoming>,
    idle_s: u64,
}

impl Inbox {
    /// The next frame.
    pub(super) async fn next(&mut self) -> Result<Incoming, Failure> {
        let wait = Duration::from_secs(self.idle_s);
        tokio::time::timeout(wait, self.frames.recv())
            .await
            .map_err(|_| Failure::deadline("a frame", self.idle_s))?
            .ok_or_else(closed)
    }

    /// The payload of the next frame, which has to be of this kind.
    pub(super) async fn expect(&mut self, kind: FrameKind) -> Result<Bytes, Failure> {
        let frame = self.next().await?;
        if frame.kind == kind {
            Ok(frame.payload)
        } else {
            Err(Fault::UnexpectedFrame.into())
        }
    }
}

/// The inboxes of a run.
pub(super) struct Inboxes {
    pub(super) session: Inbox,
    pub(super) receiving: Inbox,
    pub(super) evaluating: Inbox,
    pub(super) count: Inbox,
}

/// What was received: the transcript, and how many bytes.
pub(super) struct Received {
    inbound: Mutex<Inbound>,
    /// The transcript before the partner's receipt.
    before_receipt: Mutex<Option<Chain>>,
    bytes: AtomicU64,
}

impl Received {
    /// The transcript of everything the partner sent before its receipt.
    pub(super) fn chain(&self) -> Chain {
        lock(&self.before_receipt)
            .clone()
            .unwrap_or_else(|| lock(&self.inbound).chain().clone())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Sorts incoming frames by flow.
pub(super) struct Demux {
    run_id: [u8; 16],
    pool: Pool,
    received: Arc<Received>,
    /// By the flow's number.
    inboxes: [mpsc::Sender<Incoming>; 4],
}

impl Demux {
    pub(super) fn new(
        run: &Run,
        link: &RunLink,
        inbound: Inbound,
    ) -> (Self, Inboxes, Arc<Received>) {
        let inbox = || {
            let (sender, frames) = mpsc::channel(INBOX_FRAMES);
            let inbox = Inbox {
                frames,
                idle_s: run.settings.idle_s,
            };
            (sender, inbox)
        };
        let ((session, session_inbox), (count, count_inbox)) = (inbox(), inbox());
        let ((first, first_inbox), (second, second_inbox)) = (inbox(), inbox());
        let role = if link.initiator {
            Role::Initiator
        } else {
            Role::Acceptor
        };
        let (receiving, evaluating) = match role.querying_flow() {
            Flow::InitiatorQueries => (first_inbox, second_inbox),
            _ => (second_inbox, first_inbox),
        };
        let received = Arc::new(Received {
            inbound: Mutex::new(inbound),
            before_receipt: Mutex::new(None),
            bytes: AtomicU64::new(0),
        });
        let demux = Self {
            run_id: link.run_id,
            pool: run.pool.clone(),
            received: Arc::clone(&received),
            inboxes: [session, first, second, count],
        };
        let inboxes = Inboxes {
            session: session_inbox,
            receiving,
            evaluating,
            count: count_inbox,
        };
        (demux, inboxes, received)
    }

    /// Moves frames until the link ends. An end of the link is not an error here: whoever still waits for a frame finds out.
    pub(super) async fn run(
        self,
        link: &mut mpsc::Receiver<Result<Frame, Error>>,
    ) -> Result<(), Failure> {
        while let Some(frame) = link.recv().await {
            let frame = frame.map_err(Failure::link)?;
            let wire = WireFrame::from_raw(frame.flow, frame.kind, frame.sequence, &frame.payload)?;
            if wire.kind == FrameKind::Abort {
                return Err(aborted(&frame.payload));
            }
            let digest = digest(&self.pool, &frame.payload).await?;
            {
                let mut inbound = lock(&self.received.inbound);
                if wire.kind == FrameKind::Receipt {
                    lock(&self.received.before_receipt)
                        .get_or_insert_with(|| inbound.chain().clone());
                }
                inbound.admit_digested(&self.run_id, &wire, &digest)?;
            }
            self.received
                .bytes
                .fetch_add(frame.payload.len() as u64 + FRAME_BYTES, Ordering::Relaxed);
            let (flow, kind) = (wire.flow, wire.kind);
            let incoming = Incoming {
                kind,
                payload: frame.payload,
            };
            // The flow is over for whoever dropped its inbox: nothing may come any more.
            self.inboxes[usize::from(flow.code())]
                .send(incoming)
                .await
                .map_err(|_| Fault::UnexpectedFrame)?;
        }
        Ok(())
    }
}

/// What an ABORT frame says.
pub(super) fn aborted(payload: &[u8]) -> Failure {
    match AbortBody::decode(payload) {
        Ok(body) => Failure::told(body.code),
        Err(fault) => fault.into(),
    }
}
