//! The hash chain over each direction, frame numbers, and resuming (PROTOCOL.md §6.4 and §10).

use crate::{
    context::{RunId, SessionId},
    fault::{Fault, Misuse},
    handshake::Session,
    plan::Role,
    session::Phase,
    signature::{Signer, verify},
    suite::{derive, derive_truncated},
    wire::{Flow, Frame, FrameKind, ResumeBody},
};

/// SHA-256 of a payload.
pub type PayloadDigest = [u8; 32];

/// Hashes a payload: wherever it is at hand, so that the chain itself stays short.
#[must_use]
pub fn payload_digest(payload: &[u8]) -> PayloadDigest {
    let mut digest = PayloadDigest::default();
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, payload).as_ref());
    digest
}

/// The frames of one direction after its hello: how many, of which flows, and the hash chain over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The flow of each frame and the head after it; the first is the head before any.
    links: Vec<(u8, [u8; 32])>,
    next: [u64; 4],
}

impl Chain {
    /// The chain of what `sender` sends in a session.
    #[must_use]
    pub fn new(session: &SessionId, sender: Role) -> Self {
        let start = derive_truncated("OVL1/chain/start", &[&session.0, &[sender.code()]]);
        Self {
            links: vec![(0, start)],
            // The hello was frame 0 of the session flow; the session's id covers it.
            next: [1, 0, 0, 0],
        }
    }

    /// The number of the next frame of a flow.
    #[must_use]
    pub fn next_sequence(&self, flow: Flow) -> u64 {
        self.next[usize::from(flow.code())]
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.links.len() as u64 - 1
    }

    /// The head after the last frame.
    #[must_use]
    pub fn head(&self) -> [u8; 32] {
        self.links[self.links.len() - 1].1
    }

    /// The head after `frames` frames.
    #[must_use]
    pub fn head_after(&self, frames: u64) -> Option<[u8; 32]> {
        let index = usize::try_from(frames).ok()?;
        self.links.get(index).map(|link| link.1)
    }

    /// Forgets every frame after the first `frames`, of which there are as many.
    pub(crate) fn rewind(&mut self, frames: u64) {
        let keep = usize::try_from(frames)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        while self.links.len() > keep {
            if let Some((flow, _)) = self.links.pop() {
                self.next[usize::from(flow)] -= 1;
            }
        }
    }

    /// Adds a frame.
    pub(crate) fn absorb(
        &mut self,
        flow: Flow,
        kind: FrameKind,
        sequence: u64,
        digest: &PayloadDigest,
    ) {
        let head = derive_truncated(
            "OVL1/chain",
            &[
                &self.head(),
                &[flow.code()],
                &[kind.code()],
                &sequence.to_be_bytes(),
                digest,
            ],
        );
        self.links.push((flow.code(), head));
        self.next[usize::from(flow.code())] += 1;
    }
}

/// Numbers outgoing frames.
#[derive(Clone, Debug)]
pub struct Outbound {
    chain: Chain,
}

impl Outbound {
    /// The frames this side sends after its hello.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        Self {
            chain: Chain::new(&session.id(), session.role()),
        }
    }

    /// The frame of a payload.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if the kind does not belong to the flow.
    pub fn frame<'a>(
        &mut self,
        flow: Flow,
        kind: FrameKind,
        payload: &'a [u8],
    ) -> Result<Frame<'a>, Misuse> {
        self.frame_digested(flow, kind, payload, &payload_digest(payload))
    }

    /// [`Outbound::frame`] with the payload's digest already computed.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if the kind does not belong to the flow.
    pub fn frame_digested<'a>(
        &mut self,
        flow: Flow,
        kind: FrameKind,
        payload: &'a [u8],
        digest: &PayloadDigest,
    ) -> Result<Frame<'a>, Misuse> {
        if !kind.belongs_to(flow) {
            return Err(Misuse::OutOfOrder);
        }
        let sequence = self.chain.next_sequence(flow);
        self.chain.absorb(flow, kind, sequence, digest);
        Ok(Frame {
            flow,
            kind,
            sequence,
            payload,
        })
    }

    /// The chain so far.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }
}

/// Checks the numbers of incoming frames.
#[derive(Clone, Debug)]
pub struct Inbound {
    run: RunId,
    flows: [bool; 4],
    /// The phase of the newest frame.
    phase: Phase,
    chain: Chain,
}

impl Inbound {
    /// The frames the peer sends after its hello.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let plan = session.plan();
        let mut flows = [false; 4];
        for flow in Flow::ALL {
            flows[usize::from(flow.code())] = plan.has(*flow);
        }
        Self {
            run: session.run(),
            flows,
            phase: Phase::Handshake,
            chain: Chain::new(&session.id(), session.role().peer()),
        }
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`Fault::WrongRun`], [`Fault::WrongFlow`], [`Fault::UnexpectedFrame`] for a second hello, for kinds outside the chain,
    /// for a frame of an earlier phase than the last and for any after the receipt, [`Fault::OutOfOrder`] for a gap and [`Fault::ReplayedFrame`] for a repetition.
    pub fn admit(&mut self, run: &[u8], frame: &Frame<'_>) -> Result<(), Fault> {
        self.admit_digested(run, frame, &payload_digest(frame.payload))
    }

    /// [`Inbound::admit`] with the payload's digest already computed.
    ///
    /// # Errors
    /// As [`Inbound::admit`].
    pub fn admit_digested(
        &mut self,
        run: &[u8],
        frame: &Frame<'_>,
        digest: &PayloadDigest,
    ) -> Result<(), Fault> {
        if run != self.run.0 {
            return Err(Fault::WrongRun);
        }
        if !self.flows[usize::from(frame.flow.code())] || !frame.kind.belongs_to(frame.flow) {
            return Err(Fault::WrongFlow);
        }
        match frame.sequence.cmp(&self.chain.next_sequence(frame.flow)) {
            std::cmp::Ordering::Less => return Err(Fault::ReplayedFrame),
            std::cmp::Ordering::Greater => return Err(Fault::OutOfOrder),
            std::cmp::Ordering::Equal => {}
        }
        if matches!(
            frame.kind,
            FrameKind::Hello | FrameKind::Resume | FrameKind::Ack
        ) {
            return Err(Fault::UnexpectedFrame);
        }
        // The chain of a receipt ends before it: what came after would be signed by nobody.
        if let Some(phase) = Phase::of(frame.kind) {
            if phase < self.phase || self.phase == Phase::Receipts {
                return Err(Fault::UnexpectedFrame);
            }
            self.phase = phase;
        }
        self.chain
            .absorb(frame.flow, frame.kind, frame.sequence, digest);
        Ok(())
    }

    /// The chain so far.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }
}

/// The body of the RESUME frame that each side sends first on a new connection of a session.
pub fn resume(
    session: &Session,
    exporter: &[u8; 32],
    outbound: &Chain,
    inbound: &Chain,
    signer: &(impl Signer + ?Sized),
) -> ResumeBody {
    let mut body = ResumeBody {
        session: session.id().0,
        received: inbound.frames(),
        received_head: inbound.head(),
        sent: outbound.frames(),
        sent_head: outbound.head(),
        signature: [0; 64],
    };
    body.signature = signer.sign(&resume_message(&body, session.role(), exporter));
    body
}

pub(crate) fn resume_message(body: &ResumeBody, role: Role, exporter: &[u8; 32]) -> [u8; 64] {
    derive(
        "OVL1/resume",
        &[
            &body.session,
            &[role.code()],
            exporter,
            &body.received.to_be_bytes(),
            &body.received_head,
            &body.sent.to_be_bytes(),
            &body.sent_head,
        ],
    )
}

/// Takes the peer's RESUME: how many frames of `outbound` the peer holds. Every later one is void, and is sent again on the
/// new connection.
///
/// # Errors
/// [`Fault::WrongRun`] for another session, [`Fault::SignatureInvalid`], and [`Fault::ResumeInvalid`] if the peer's heads
/// are not those this side knows.
pub fn admit_resume(
    session: &Session,
    exporter: &[u8; 32],
    outbound: &Chain,
    inbound: &Chain,
    body: &ResumeBody,
) -> Result<u64, Fault> {
    if body.session != session.id().0 {
        return Err(Fault::WrongRun);
    }
    let message = resume_message(body, session.role().peer(), exporter);
    verify(session.peer_organization_key(), &message, &body.signature)?;
    let agreed = outbound.head_after(body.received) == Some(body.received_head)
        && body.sent >= inbound.frames()
        && (body.sent > inbound.frames() || body.sent_head == inbound.head());
    if agreed {
        Ok(body.received)
    } else {
        Err(Fault::ResumeInvalid)
    }
}
