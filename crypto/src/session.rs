//! The order of a whole run: list flows, reports, the count flow, receipts (PROTOCOL.md §6.5).
//!
//! Each phase is a type that the next one is made from, so that a run cannot skip a step or take it twice. Frames that have no
//! place in a phase are [`Fault::UnexpectedFrame`]: see [`allowed`].

use crate::{
    count::CountMatrix,
    fault::{Fault, Misuse},
    handshake::Session,
    list::{Releasing, SlicesComplete},
    receipt::{Receipt, SignedReceipt},
    report::{Report, SignedReport},
    signature::Signer,
    terms::{Terms, Tier},
    transcript::Chain,
    wire::FrameKind,
};

/// The phases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Hellos and confirmations.
    Handshake,
    /// The list flows, side by side.
    Lists,
    /// Reports.
    Reports,
    /// The count flow.
    Count,
    /// Receipts.
    Receipts,
}

impl Phase {
    /// The phase that the numbered frames of this kind belong to. Each side goes through the phases in their order, so that
    /// none of its frames belongs to an earlier phase than the frame before.
    #[must_use]
    pub const fn of(kind: FrameKind) -> Option<Self> {
        match kind {
            FrameKind::Hello | FrameKind::Confirm => Some(Self::Handshake),
            FrameKind::Query
            | FrameKind::Evaluation
            | FrameKind::Commitments
            | FrameKind::Slice
            | FrameKind::Claims
            | FrameKind::Removals
            | FrameKind::EarlierClaims
            | FrameKind::Withdrawals => Some(Self::Lists),
            FrameKind::Report => Some(Self::Reports),
            FrameKind::CountCommit
            | FrameKind::CountOpen
            | FrameKind::CountElements
            | FrameKind::CountReturns => Some(Self::Count),
            FrameKind::Receipt => Some(Self::Receipts),
            FrameKind::Abort | FrameKind::Ack | FrameKind::Resume => None,
        }
    }
}

/// Whether a frame of this kind may come in this phase.
///
/// # Errors
/// [`Fault::UnexpectedFrame`].
pub const fn allowed(phase: Phase, kind: FrameKind) -> Result<(), Fault> {
    let allowed = match (Phase::of(kind), kind) {
        (Some(its), _) => its as u8 == phase as u8,
        (None, FrameKind::Ack) => !matches!(phase, Phase::Handshake),
        (None, FrameKind::Resume) => !matches!(phase, Phase::Handshake | Phase::Count),
        (None, _) => true,
    };
    if allowed {
        Ok(())
    } else {
        Err(Fault::UnexpectedFrame)
    }
}

/// The list flows are running.
#[derive(Debug)]
pub struct ListPhase {
    session: Session,
}

impl ListPhase {
    /// The first phase of a confirmed session.
    #[must_use]
    pub const fn new(session: Session) -> Self {
        Self { session }
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Goes on when every list flow of the run is complete: the one in which this side queries by its token, the one in
    /// which it evaluates by its last claims.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`].
    pub fn finish(
        self,
        received: Option<&SlicesComplete>,
        released: Option<Releasing>,
    ) -> Result<ReportPhase, Misuse> {
        let complete = received.is_some() == self.session.receiving().is_some()
            && released.is_some() == self.session.evaluating().is_some()
            && released.is_none_or(|released| released.is_complete());
        if !complete {
            return Err(Misuse::OutOfOrder);
        }
        let plan = self.session.plan();
        let role = self.session.role();
        let reports = |role| plan.queries(role).is_some_and(|queries| queries.count);
        Ok(ReportPhase {
            to_send: reports(role),
            to_receive: reports(role.peer()),
            session: self.session,
        })
    }
}

/// Reports go out and come in.
#[derive(Debug)]
pub struct ReportPhase {
    session: Session,
    to_send: bool,
    to_receive: bool,
}

impl ReportPhase {
    /// Whether this side still owes a report.
    #[must_use]
    pub const fn owes(&self) -> bool {
        self.to_send
    }

    /// Whether the peer still owes a report.
    #[must_use]
    pub const fn awaits(&self) -> bool {
        self.to_receive
    }

    /// The body of the REPORT frame.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if this side owes none.
    pub fn send(
        &mut self,
        report: Report,
        signer: &(impl Signer + ?Sized),
    ) -> Result<Vec<u8>, Misuse> {
        if !std::mem::take(&mut self.to_send) {
            return Err(Misuse::OutOfOrder);
        }
        let signed = report.sign(&self.session.id(), self.session.role(), signer);
        Ok(signed.encode())
    }

    /// Takes the peer's report: signed, for the terms' cells, none under the peer's threshold.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`], [`Fault::SignatureInvalid`] or [`Fault::ReportInvalid`].
    pub fn admit(&mut self, report: &SignedReport, terms: &Terms) -> Result<(), Fault> {
        if !std::mem::take(&mut self.to_receive) {
            return Err(Fault::UnexpectedFrame);
        }
        let session = &self.session;
        report.verify(
            &session.id(),
            session.role().peer(),
            session.peer_organization_key(),
        )?;
        let (Some(own), Some(peer)) = (
            terms.side(&session.own().sender),
            terms.side(&session.peer().sender),
        ) else {
            return Err(Fault::TermsDiffer);
        };
        report.check(
            peer.stages_of(Tier::Count),
            own.stages_of(Tier::List),
            peer.min_count,
        )
    }

    /// Goes on when all reports are exchanged.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`].
    pub fn finish(self) -> Result<AfterReports, Misuse> {
        if self.to_send || self.to_receive {
            return Err(Misuse::OutOfOrder);
        }
        Ok(if self.session.plan().count {
            AfterReports::Count(CountPhase {
                session: self.session,
            })
        } else {
            AfterReports::Receipts(ReceiptPhase {
                session: self.session,
            })
        })
    }
}

/// What follows the reports.
#[derive(Debug)]
pub enum AfterReports {
    /// The count flow.
    Count(CountPhase),
    /// The receipts.
    Receipts(ReceiptPhase),
}

/// The count flow is running.
#[derive(Debug)]
pub struct CountPhase {
    session: Session,
}

impl CountPhase {
    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// Goes on with the flow's result.
    #[must_use]
    pub fn finish(self, _result: &CountMatrix) -> ReceiptPhase {
        ReceiptPhase {
            session: self.session,
        }
    }
}

/// Every result is in.
#[derive(Debug)]
pub struct ReceiptPhase {
    session: Session,
}

impl ReceiptPhase {
    /// Signs this side's receipt: the body of the RECEIPT frame. Before it is sent and before a further frame of the peer's
    /// is admitted, so that both chains end where the peer's do.
    #[must_use]
    pub fn sign(
        self,
        outbound: &Chain,
        inbound: &Chain,
        result: [u8; 32],
        signer: &(impl Signer + ?Sized),
    ) -> (Vec<u8>, AwaitingReceipt) {
        let own = Receipt::new(&self.session, outbound, inbound, result).sign(signer);
        (
            own.encode(),
            AwaitingReceipt {
                session: self.session,
                own,
            },
        )
    }
}

/// This side has signed.
#[derive(Debug)]
pub struct AwaitingReceipt {
    session: Session,
    own: SignedReceipt,
}

impl AwaitingReceipt {
    /// Takes the peer's receipt: both, to be kept.
    ///
    /// # Errors
    /// [`Fault::SignatureInvalid`] or [`Fault::ReceiptDiffers`].
    pub fn receive(self, peer: SignedReceipt) -> Result<Completed, Fault> {
        peer.verify(self.session.peer_organization_key())?;
        self.own.receipt.agrees_with(&peer.receipt)?;
        // The peer's number may be the last one there is.
        if Some(peer.receipt.run_counter) != self.session.peer().run_counter.checked_add(1)
            || peer.receipt.previous != self.session.peer().receipt_head
        {
            return Err(Fault::ReceiptDiffers);
        }
        Ok(Completed {
            own: self.own,
            peer,
        })
    }
}

/// A completed run's two receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// This side's receipt.
    pub own: SignedReceipt,
    /// The peer's.
    pub peer: SignedReceipt,
}
