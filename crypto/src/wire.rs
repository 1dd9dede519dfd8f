//! Frames and their bodies, byte for byte (PROTOCOL.md §6).
//!
//! Decoding borrows from the payload and allocates nothing per item. Encodings of group elements are checked where they are
//! decoded: [`crate::list::Evaluator::evaluate`], [`crate::list::BlindedChunk::finish`] and [`crate::count`].

mod codec;
mod list;
mod session;

pub(crate) use codec::{Reader, Writer};
pub use list::{
    ClaimsBody, CommitmentsBody, EarlierClaimsBody, EvaluationBody, QueryBody, SliceBody, TagsBody,
};
pub use session::{
    AbortBody, AckBody, ConfirmBody, CountCommitBody, CountElementsBody, CountOpenBody,
    CountReturnsBody, ResumeBody,
};

use crate::fault::Fault;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident $unknown:ident { $($code:literal $variant:ident $text:literal $variant_doc:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $(#[doc = $variant_doc] $variant,)* }

        impl $name {
            /// Every variant in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The name in logs and documents.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The variant with this number.
            ///
            /// # Errors
            /// If there is none.
            pub fn from_code(code: u32) -> Result<Self, Fault> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|variant| u32::from(variant.code()) == code)
                    .ok_or(Fault::$unknown)
            }
        }
    };
}

codes! {
    /// The parallel conversations of a run.
    Flow UnknownFlow {
        0 Session "session" "Handshake, reports, receipts, abort.";
        1 InitiatorQueries "initiator_queries" "The list flow in which the run's initiator queries.";
        2 AcceptorQueries "acceptor_queries" "The list flow in which the run's acceptor queries.";
        3 Count "count" "The count flow.";
    }
}

codes! {
    /// What a frame's payload is.
    FrameKind UnknownKind {
        1 Hello "HELLO" "Both sides' first frame.";
        2 Confirm "CONFIRM" "The organisation key's signature over the session.";
        3 Report "REPORT" "Signed counts of the cells that the sender reports.";
        4 Receipt "RECEIPT" "The sender's signed receipt.";
        5 Resume "RESUME" "Continues the session on another connection.";
        6 Abort "ABORT" "The sender stops, with a code.";
        7 Ack "ACK" "How many of the peer's frames the sender holds.";
        16 Query "QUERY" "A chunk of blinded elements.";
        17 Evaluation "EVALUATION" "The evaluated elements of a chunk and their proof.";
        18 Commitments "COMMITMENTS" "The hash of every slice.";
        19 Slice "SLICE" "Tags with sealed labels.";
        20 Claims "CLAIMS" "The receiver's list-tier matches of a slice.";
        21 Removals "REMOVALS" "Tags that are void from now on (delta runs).";
        22 Withdrawals "WITHDRAWALS" "Tags whose claims are void from now on (delta runs).";
        23 EarlierClaims "EARLIER_CLAIMS" "Claims on tags of earlier runs of the epoch (delta runs).";
        32 CountCommit "COUNT_COMMIT" "A commitment to all elements of the sender.";
        33 CountOpen "COUNT_OPEN" "What opens the commitment, apart from the elements.";
        34 CountElements "COUNT_ELEMENTS" "Blinded elements of one group.";
        35 CountReturns "COUNT_RETURNS" "Hashes of the peer's elements of one group, re-blinded.";
    }
}

impl Flow {
    /// Whether it is one of the two list flows.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(self, Self::InitiatorQueries | Self::AcceptorQueries)
    }
}

impl FrameKind {
    /// Whether frames of this kind belong to `flow`.
    #[must_use]
    pub const fn belongs_to(self, flow: Flow) -> bool {
        match self.code() {
            0..16 => matches!(flow, Flow::Session),
            16..32 => flow.is_list(),
            _ => matches!(flow, Flow::Count),
        }
    }
}

/// One frame, its payload borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The conversation it belongs to.
    pub flow: Flow,
    /// What the payload is.
    pub kind: FrameKind,
    /// Its number in its direction of its flow, from 0.
    pub sequence: u64,
    /// The body.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame from the numbers of the transport's message.
    ///
    /// # Errors
    /// [`Fault::UnknownFlow`], [`Fault::UnknownKind`] or [`Fault::WrongFlow`].
    pub fn from_raw(flow: u32, kind: u32, sequence: u64, payload: &'a [u8]) -> Result<Self, Fault> {
        let (flow, kind) = (Flow::from_code(flow)?, FrameKind::from_code(kind)?);
        if !kind.belongs_to(flow) {
            return Err(Fault::WrongFlow);
        }
        Ok(Self {
            flow,
            kind,
            sequence,
            payload,
        })
    }
}

/// A decoded payload.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant is the body of the frame kind of its name"
)]
pub enum Message<'a> {
    Hello(Box<crate::handshake::Hello>),
    Confirm(ConfirmBody),
    Report(crate::report::SignedReport),
    Receipt(Box<crate::receipt::SignedReceipt>),
    Resume(ResumeBody),
    Abort(AbortBody),
    Ack(AckBody),
    Query(QueryBody<'a>),
    Evaluation(EvaluationBody<'a>),
    Commitments(CommitmentsBody<'a>),
    Slice(SliceBody<'a>),
    Claims(ClaimsBody<'a>),
    Removals(TagsBody<'a>),
    Withdrawals(TagsBody<'a>),
    EarlierClaims(EarlierClaimsBody<'a>),
    CountCommit(CountCommitBody),
    CountOpen(CountOpenBody),
    CountElements(CountElementsBody<'a>),
    CountReturns(CountReturnsBody<'a>),
}

impl<'a> Message<'a> {
    /// Decodes the payload of a frame.
    ///
    /// # Errors
    /// The fault of the body's codec.
    pub fn decode(kind: FrameKind, payload: &'a [u8]) -> Result<Self, Fault> {
        Ok(match kind {
            FrameKind::Hello => Self::Hello(Box::new(crate::handshake::Hello::decode(payload)?)),
            FrameKind::Confirm => Self::Confirm(ConfirmBody::decode(payload)?),
            FrameKind::Report => Self::Report(crate::report::SignedReport::decode(payload)?),
            FrameKind::Receipt => {
                Self::Receipt(Box::new(crate::receipt::SignedReceipt::decode(payload)?))
            }
            FrameKind::Resume => Self::Resume(ResumeBody::decode(payload)?),
            FrameKind::Abort => Self::Abort(AbortBody::decode(payload)?),
            FrameKind::Ack => Self::Ack(AckBody::decode(payload)?),
            FrameKind::Query => Self::Query(QueryBody::decode(payload)?),
            FrameKind::Evaluation => Self::Evaluation(EvaluationBody::decode(payload)?),
            FrameKind::Commitments => Self::Commitments(CommitmentsBody::decode(payload)?),
            FrameKind::Slice => Self::Slice(SliceBody::decode(payload)?),
            FrameKind::Claims => Self::Claims(ClaimsBody::decode(payload)?),
            FrameKind::Removals => Self::Removals(TagsBody::decode(payload)?),
            FrameKind::Withdrawals => Self::Withdrawals(TagsBody::decode(payload)?),
            FrameKind::EarlierClaims => Self::EarlierClaims(EarlierClaimsBody::decode(payload)?),
            FrameKind::CountCommit => Self::CountCommit(CountCommitBody::decode(payload)?),
            FrameKind::CountOpen => Self::CountOpen(CountOpenBody::decode(payload)?),
            FrameKind::CountElements => Self::CountElements(CountElementsBody::decode(payload)?),
            FrameKind::CountReturns => Self::CountReturns(CountReturnsBody::decode(payload)?),
        })
    }

    /// The payload that decodes to this.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(body) => body.encode(),
            Self::Confirm(body) => body.encode(),
            Self::Report(body) => body.encode(),
            Self::Receipt(body) => body.encode(),
            Self::Resume(body) => body.encode(),
            Self::Abort(body) => body.encode(),
            Self::Ack(body) => body.encode(),
            Self::Query(body) => body.encode(),
            Self::Evaluation(body) => body.encode(),
            Self::Commitments(body) => body.encode(),
            Self::Slice(body) => body.payload.to_vec(),
            Self::Claims(body) => body.encode(),
            Self::Removals(body) | Self::Withdrawals(body) => body.encode(),
            Self::EarlierClaims(body) => body.encode(),
            Self::CountCommit(body) => body.encode(),
            Self::CountOpen(body) => body.encode(),
            Self::CountElements(body) => body.encode(),
            Self::CountReturns(body) => body.encode(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Flow, Frame, FrameKind};
    use crate::fault::Fault;

    #[test]
    fn every_flow_and_kind_has_its_own_number() {
        for &flow in Flow::ALL {
            assert_eq!(Flow::from_code(flow.code().into()), Ok(flow));
        }
        for &kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_code(kind.code().into()), Ok(kind));
        }
    }

    #[test]
    fn z05_unknown_and_swapped_flows_are_refused() {
        let fault = |flow, kind| Frame::from_raw(flow, kind, 0, &[]).unwrap_err();
        assert_eq!(fault(4, 16), Fault::UnknownFlow);
        assert_eq!(fault(256, 16), Fault::UnknownFlow);
        assert_eq!(fault(1, 99), Fault::UnknownKind);
        assert_eq!(fault(0, 16), Fault::WrongFlow);
        assert_eq!(fault(3, 19), Fault::WrongFlow);
        assert_eq!(fault(1, 1), Fault::WrongFlow);
    }
}
