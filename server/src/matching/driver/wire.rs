//! Frames out and in: numbering, transcript, what is kept until the partner holds it, and which flow a frame is for.
//!
//! [`Line`](super::resume::Line) moves the frames; what is here outlives a connection.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use overlap_crypto::{
    fault::Fault,
    plan::Role,
    transcript::{Chain, Inbound, Outbound, PayloadDigest, payload_digest},
    wire::{AbortBody, AckBody, Flow, Frame as WireFrame, FrameKind},
};
use overlap_proto::exchange::v1::Frame;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::lock;
use crate::matching::{compute::Pool, failure::Failure};

/// Frames of one flow that may wait to be read; more than any honest partner's window.
const INBOX_FRAMES: usize = 64;
/// Payloads beyond this are hashed on the pool.
const SMALL_BYTES: usize = 4096;
/// How long the end of a failed run waits to tell the partner.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);
/// What a frame takes on the wire besides its payload, roughly.
const FRAME_BYTES: u64 = 32;
/// Frames and bytes that may be kept until the partner acknowledges them; with more, sending waits. Each must be more than
/// what a partner holds back an acknowledgement for.
const KEPT_FRAMES: usize = 64;
const KEPT_BYTES: usize = 8 << 20;
/// After so many frames or bytes (PROTOCOL.md §6.4), or a receipt, a side acknowledges at once.
const ACK_FRAMES: u64 = 8;
const ACK_BYTES: usize = 1 << 20;

/// The sending side, shared by the flows: frames get their numbers in the order they leave.
pub(super) struct Outgoing {
    pool: Pool,
    inner: Mutex<Sent>,
    /// Wakes the line: there is something to write, or nothing more will come.
    pub(super) due: Notify,
    /// Wakes senders: the partner acknowledged frames.
    room: Notify,
    counting: Arc<AtomicBool>,
    sent_bytes: AtomicU64,
}

struct Sent {
    outbound: Outbound,
    /// The frames that the partner has not acknowledged, oldest first, as they were sent.
    kept: VecDeque<Frame>,
    kept_bytes: usize,
    /// How many of them the present connection has taken.
    written: usize,
    /// This side's receipt is among what was sent: it is the last frame.
    receipt: bool,
    /// The run's result is in force.
    closing: bool,
}

impl Sent {
    /// How many frames of the chain the partner is known to hold.
    fn held(&self) -> u64 {
        self.outbound.chain().frames() - self.kept.len() as u64
    }

    /// Forgets what the partner holds.
    fn forget(&mut self, held: u64) -> Option<()> {
        let count = usize::try_from(held.checked_sub(self.held())?).ok()?;
        if count > self.kept.len() {
            return None;
        }
        for frame in self.kept.drain(..count) {
            self.kept_bytes -= frame.payload.len();
        }
        self.written = self.written.saturating_sub(count);
        Some(())
    }
}

impl Outgoing {
    pub(super) fn new(pool: &Pool, outbound: Outbound, received: &Received) -> Self {
        Self {
            pool: pool.clone(),
            inner: Mutex::new(Sent {
                outbound,
                kept: VecDeque::new(),
                kept_bytes: 0,
                written: 0,
                receipt: false,
                closing: false,
            }),
            due: Notify::new(),
            room: Notify::new(),
            counting: Arc::clone(&received.counting),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// Sends a frame, waiting while the partner owes too many acknowledgements. A connection that breaks is no error here: the
    /// frame is kept and sent again.
    pub(super) async fn send(
        &self,
        flow: Flow,
        kind: FrameKind,
        payload: Vec<u8>,
    ) -> Result<(), Failure> {
        let payload = Bytes::from(payload);
        let digest = digest(&self.pool, &payload).await?;
        loop {
            // Made before the look, so that room made in between wakes it.
            let room = self.room.notified();
            {
                let mut inner = lock(&self.inner);
                if inner.kept.len() < KEPT_FRAMES && inner.kept_bytes < KEPT_BYTES {
                    let frame = inner
                        .outbound
                        .frame_digested(flow, kind, &payload, &digest)?;
                    let frame = Frame {
                        flow: frame.flow.code().into(),
                        kind: frame.kind.code().into(),
                        sequence: frame.sequence,
                        payload: payload.clone(),
                    };
                    note_phase(&self.counting, flow, kind);
                    inner.receipt |= kind == FrameKind::Receipt;
                    inner.kept_bytes += payload.len();
                    inner.kept.push_back(frame);
                    break;
                }
            }
            room.await;
        }
        self.due.notify_one();
        self.sent_bytes
            .fetch_add(payload.len() as u64 + FRAME_BYTES, Ordering::Relaxed);
        Ok(())
    }

    /// The transcript of everything sent so far.
    pub(super) fn chain(&self) -> Chain {
        lock(&self.inner).outbound.chain().clone()
    }

    /// Lets the line end this side's direction once the partner holds everything.
    pub(super) fn close(&self) {
        lock(&self.inner).closing = true;
        self.due.notify_one();
    }

    /// Whether a frame waits to be written.
    pub(super) fn is_due(&self) -> bool {
        let inner = lock(&self.inner);
        inner.written < inner.kept.len()
    }

    /// The next frame to write.
    pub(super) fn take_due(&self) -> Option<Frame> {
        let mut inner = lock(&self.inner);
        let frame = inner.kept.get(inner.written)?.clone();
        inner.written += 1;
        Some(frame)
    }

    /// Whether the partner holds everything up to this side's receipt.
    pub(super) fn is_settled(&self) -> bool {
        let inner = lock(&self.inner);
        inner.receipt && inner.kept.is_empty()
    }

    /// Whether the result is in force and the partner holds everything.
    pub(super) fn is_done(&self) -> bool {
        let inner = lock(&self.inner);
        inner.closing && inner.kept.is_empty()
    }

    /// How many frames the partner is known to hold, unless it holds all that were written.
    pub(super) fn outstanding(&self) -> Option<u64> {
        let inner = lock(&self.inner);
        (inner.written > 0).then(|| inner.held())
    }

    /// The partner holds this many frames. "More than were sent, or fewer than before, is WRONG_COUNT."
    pub(super) fn acknowledged(&self, received: u64) -> Result<(), Fault> {
        {
            let mut inner = lock(&self.inner);
            if received > inner.held() + inner.written as u64 {
                return Err(Fault::WrongCount);
            }
            inner.forget(received).ok_or(Fault::WrongCount)?;
        }
        self.room.notify_waiters();
        self.due.notify_one();
        Ok(())
    }

    /// Goes back to what the partner holds: everything later is written again, byte for byte. "It cannot go back behind what
    /// it acknowledged" (RESUME_INVALID).
    pub(super) fn rewind(&self, received: u64) -> Result<(), Fault> {
        {
            let mut inner = lock(&self.inner);
            inner.forget(received).ok_or(Fault::ResumeInvalid)?;
            inner.written = 0;
        }
        self.room.notify_waiters();
        self.due.notify_one();
        Ok(())
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }
}

/// "The count flow is never resumed": it lasts from the first of its frames to the first receipt, either way.
fn note_phase(counting: &AtomicBool, flow: Flow, kind: FrameKind) {
    if flow == Flow::Count {
        counting.store(true, Ordering::Relaxed);
    } else if kind == FrameKind::Receipt {
        counting.store(false, Ordering::Relaxed);
    }
}

pub(super) fn closed() -> Failure {
    Failure::network("the connection to the partner's node ended")
}

async fn digest(pool: &Pool, payload: &Bytes) -> Result<PayloadDigest, Failure> {
    if payload.len() <= SMALL_BYTES {
        return Ok(payload_digest(payload));
    }
    let payload = payload.clone();
    pool.run(move || Ok(payload_digest(&payload))).await
}

/// A frame of the session flow that has no number: hello, resume, acknowledgement, abort.
pub(super) fn unnumbered(kind: FrameKind, payload: Vec<u8>) -> Frame {
    Frame {
        flow: Flow::Session.code().into(),
        kind: kind.code().into(),
        sequence: 0,
        payload: payload.into(),
    }
}

/// Tells the partner that the run is over, if it can still be told.
pub(super) async fn send_abort(frames: &mpsc::Sender<Frame>, code: u16) {
    let frame = unnumbered(FrameKind::Abort, AbortBody { code }.encode());
    let _ = tokio::time::timeout(ABORT_PATIENCE, frames.send(frame)).await;
}

/// What an ABORT frame says.
pub(super) fn aborted(payload: &[u8]) -> Failure {
    match AbortBody::decode(payload) {
        Ok(body) => Failure::told(body.code),
        Err(fault) => fault.into(),
    }
}

/// A frame for a flow.
pub(super) struct Incoming {
    pub(super) kind: FrameKind,
    pub(super) payload: Bytes,
}

/// The frames of one flow, in order.
pub(super) struct Inbox(mpsc::Receiver<Incoming>);

impl Inbox {
    /// The next frame. That it comes in time is for the line to see to.
    pub(super) async fn next(&mut self) -> Result<Incoming, Failure> {
        self.0.recv().await.ok_or_else(closed)
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

/// Where the line puts frames, by the flow's number.
pub(super) type Senders = [mpsc::Sender<Incoming>; 4];

/// The inboxes of a side with this role.
pub(super) fn inboxes(role: Role) -> (Senders, Inboxes) {
    let inbox = || {
        let (sender, frames) = mpsc::channel(INBOX_FRAMES);
        (sender, Inbox(frames))
    };
    let ((to_session, session), (to_count, count)) = (inbox(), inbox());
    let ((to_first, first), (to_second, second)) = (inbox(), inbox());
    let (receiving, evaluating) = match role.querying_flow() {
        Flow::InitiatorQueries => (first, second),
        _ => (second, first),
    };
    let inboxes = Inboxes {
        session,
        receiving,
        evaluating,
        count,
    };
    ([to_session, to_first, to_second, to_count], inboxes)
}

/// What was received: the transcript, what of it is not acknowledged, and how many bytes.
pub(super) struct Received {
    run_id: [u8; 16],
    pool: Pool,
    inner: Mutex<Admitted>,
    counting: Arc<AtomicBool>,
    bytes: AtomicU64,
}

struct Admitted {
    inbound: Inbound,
    /// The transcript before the partner's receipt.
    before_receipt: Option<Chain>,
    /// Frames and bytes since the last acknowledgement, and since when.
    frames: u64,
    frame_bytes: usize,
    since: Option<Instant>,
    /// An acknowledgement is to leave at once.
    wanted: bool,
}

impl Received {
    pub(super) fn new(pool: &Pool, run_id: [u8; 16], inbound: Inbound) -> Self {
        Self {
            run_id,
            pool: pool.clone(),
            inner: Mutex::new(Admitted {
                inbound,
                before_receipt: None,
                frames: 0,
                frame_bytes: 0,
                since: None,
                wanted: false,
            }),
            counting: Arc::new(AtomicBool::new(false)),
            bytes: AtomicU64::new(0),
        }
    }

    /// Takes the next frame of the transcript: which flow it is for. It counts as received from here on.
    pub(super) async fn admit(&self, frame: Frame) -> Result<(usize, Incoming), Failure> {
        let wire = WireFrame::from_raw(frame.flow, frame.kind, frame.sequence, &frame.payload)?;
        let digest = digest(&self.pool, &frame.payload).await?;
        {
            let mut inner = lock(&self.inner);
            if wire.kind == FrameKind::Receipt && inner.before_receipt.is_none() {
                inner.before_receipt = Some(inner.inbound.chain().clone());
            }
            inner.inbound.admit_digested(&self.run_id, &wire, &digest)?;
            inner.frames += 1;
            inner.frame_bytes += frame.payload.len();
            inner.since.get_or_insert_with(Instant::now);
            inner.wanted |= wire.kind == FrameKind::Receipt
                || inner.frames >= ACK_FRAMES
                || inner.frame_bytes >= ACK_BYTES;
        }
        note_phase(&self.counting, wire.flow, wire.kind);
        self.bytes
            .fetch_add(frame.payload.len() as u64 + FRAME_BYTES, Ordering::Relaxed);
        let (flow, kind) = (usize::from(wire.flow.code()), wire.kind);
        let payload = frame.payload;
        Ok((flow, Incoming { kind, payload }))
    }

    /// The transcript of everything the partner sent before its receipt.
    pub(super) fn chain(&self) -> Chain {
        let inner = lock(&self.inner);
        inner
            .before_receipt
            .clone()
            .unwrap_or_else(|| inner.inbound.chain().clone())
    }

    /// The whole transcript.
    pub(super) fn full_chain(&self) -> Chain {
        lock(&self.inner).inbound.chain().clone()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the partner's receipt is here: it is its last frame.
    pub(super) fn is_settled(&self) -> bool {
        lock(&self.inner).before_receipt.is_some()
    }

    /// Whether an acknowledgement is to leave at once.
    pub(super) fn wants_ack(&self) -> bool {
        lock(&self.inner).wanted
    }

    /// Lets an acknowledgement leave, whether or not anything came.
    pub(super) fn want_ack(&self) {
        lock(&self.inner).wanted = true;
    }

    /// Since when a frame waits to be acknowledged.
    pub(super) fn unacknowledged_since(&self) -> Option<Instant> {
        lock(&self.inner).since
    }

    /// The acknowledgement that is to leave, if any.
    pub(super) fn take_ack(&self) -> Option<Frame> {
        let mut inner = lock(&self.inner);
        if !inner.wanted {
            return None;
        }
        inner.acknowledged();
        let received = inner.inbound.chain().frames();
        Some(unnumbered(FrameKind::Ack, AckBody { received }.encode()))
    }

    /// The partner was told otherwise how much this side holds.
    pub(super) fn acknowledged(&self) {
        lock(&self.inner).acknowledged();
    }

    /// Whether the run is in its count flow.
    pub(super) fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }
}

impl Admitted {
    fn acknowledged(&mut self) {
        (self.frames, self.frame_bytes) = (0, 0);
        (self.since, self.wanted) = (None, false);
    }
}
