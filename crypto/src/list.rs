//! The list flow: a receiver queries, an evaluator discloses its list tier (PROTOCOL.md §7).
//!
//! Chunk computations ([`Receiver`], [`Evaluator`]) are pure and can run side by side. The small state types ([`Querying`],
//! [`AwaitingCommitments`], [`AwaitingSlices`]; [`Answering`], [`Committing`], [`Releasing`]) check order and counts.

mod claims;
mod evaluator;
mod label;
mod receiver;
mod slice;

pub use claims::{Claimed, Claims, EarlierClaims};
pub use evaluator::{Answering, Committing, Evaluator, Releasing};
pub use label::{Label, LabelFormat, Labels, LabelsOpened, OpenedMatch, StageSet, fields};
pub use receiver::{
    AwaitingCommitments, AwaitingSlices, BlindedChunk, Chunk, Querying, Receiver, SealedMatches,
    SliceDone, SliceOutcome, SliceTicket, SlicesComplete, shuffled,
};
pub(crate) use slice::commitment as slice_commitment;
pub use slice::{SealedSlice, SliceLayout};

use crate::{
    context::{Context, SessionId},
    handshake::Mode,
    voprf::{MAX_BATCH, PublicKey},
    wire::Flow,
};

/// The most elements of a chunk.
pub const MAX_CHUNK: usize = MAX_BATCH;

/// The most items of a set.
pub const MAX_SET: u64 = 1 << 26;

/// The number of tags a slice is laid out for, unless labels are long.
pub const SLICE_TAGS: u64 = 8_192;

/// The number of bytes a slice, and the claims on it, are laid out for: a random slice stays far below twice as many, so
/// that its frame fits 1 MiB.
pub const SLICE_BYTES: u64 = 512 << 10;

/// The most tags a slice may hold: uniform tags never come near it.
pub const MAX_SLICE_TAGS: usize = 16_384;

/// The most slices.
pub const MAX_SLICES: usize = 16_384;

/// The longest label, sealed or not.
pub const MAX_LABEL_BYTES: usize = 4_096;

/// How many slices may be released whose claims have not arrived.
pub const SLICE_WINDOW: u32 = 4;

/// What both sides know about one list flow of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListFlow {
    /// The session.
    pub session: SessionId,
    /// Whether the run covers everything or changes.
    pub mode: Mode,
    /// Which of the two list flows it is.
    pub flow: Flow,
    /// The context of the evaluator's key.
    pub context: Context,
    /// The evaluator's pinned key.
    pub public_key: PublicKey,
    /// Number of queries, padding included.
    pub queries: u64,
    /// Number of tags, padding included.
    pub tags: u64,
    /// Elements of every chunk but the last.
    pub chunk_elements: u32,
    /// The evaluator's labels.
    pub evaluator_labels: LabelFormat,
    /// The receiver's labels, in claims.
    pub receiver_labels: LabelFormat,
    /// The evaluator's list-tier stages.
    pub evaluator_stages: StageSet,
    /// The receiver's list-tier stages.
    pub receiver_stages: StageSet,
}

impl ListFlow {
    /// Number of query chunks.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.queries.div_ceil(self.chunk_elements as u64)
    }

    /// Number of elements of a chunk.
    fn chunk_count(&self, number: u32) -> usize {
        let chunk = u64::from(self.chunk_elements);
        let left = self.queries.saturating_sub(u64::from(number) * chunk);
        usize::try_from(left.min(chunk)).expect("a chunk is at most MAX_CHUNK")
    }

    /// How tags are cut into slices.
    #[must_use]
    pub const fn layout(&self) -> SliceLayout {
        let (sealed, claimed) = (
            self.evaluator_labels.sealed_bytes(),
            self.receiver_labels.sealed_bytes(),
        );
        let label_bytes = if sealed > claimed { sealed } else { claimed };
        SliceLayout::for_total(self.tags, label_bytes as u64)
    }
}
