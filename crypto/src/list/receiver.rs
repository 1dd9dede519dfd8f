//! The receiver's side of the list flow.

use rand_core::{CryptoRng, Rng};

use super::{
    Claims, EarlierClaims, Label, LabelFormat, LabelsOpened, ListFlow, SliceLayout,
    evaluator::{Series16, in_turn},
    slice,
};
use crate::{
    backend::{Backend, Encoded, FixedBase, Points, Scalar},
    context::SessionId,
    fault::{Error, Fault, Misuse},
    item::{Entry, Items},
    secrets::Secrets,
    suite::HASH_TO_GROUP_DST,
    voprf::{Blinded, GENERATOR, Statement, finalize, random_scalars, verify},
    wire::{CommitmentsBody, EvaluationBody, QueryBody, SliceBody, TagsBody},
};

/// Everything a receiver's chunk computations need. Shared by reference between threads.
pub struct Receiver {
    backend: Backend,
    flow: ListFlow,
    generator: FixedBase,
    /// What a blind of `r*G` becomes in half an answer: `-2*pk` times `r`.
    unblinding: FixedBase,
}

impl Receiver {
    /// The receiver of this flow.
    #[must_use]
    pub fn new(backend: Backend, flow: ListFlow) -> Self {
        let point = flow.public_key.point();
        Self {
            backend,
            flow,
            generator: backend.fixed_base(&GENERATOR),
            unblinding: backend.fixed_base(&-(point + point)),
        }
    }

    /// The flow.
    #[must_use]
    pub const fn flow(&self) -> &ListFlow {
        &self.flow
    }

    /// Blinds a chunk with fresh randomness: `M = 2*(H(x) + r*G)`.
    ///
    /// # Errors
    /// [`Misuse::TooMany`] if it is longer than a chunk, [`Misuse::StoredState`] if the items are of another context.
    pub fn blind(&self, items: Items, rng: &mut impl CryptoRng) -> Result<BlindedChunk, Misuse> {
        if items.len() > super::MAX_CHUNK {
            return Err(Misuse::TooMany);
        }
        if items.context() != &self.flow.context {
            return Err(Misuse::StoredState);
        }
        let mut halves = self
            .backend
            .hash_to_group(HASH_TO_GROUP_DST, items.inputs());
        let blinds = random_scalars(rng, items.len());
        self.backend.offset(&mut halves, &self.generator, &blinds);
        let encoded = self.backend.double_encode(&halves);
        Ok(BlindedChunk {
            items,
            blinds,
            halves,
            encoded,
        })
    }
}

/// A chunk that was sent, with what it takes to use the answer.
pub struct BlindedChunk {
    items: Items,
    blinds: Secrets<Scalar>,
    halves: Points,
    encoded: Vec<Encoded>,
}

impl BlindedChunk {
    /// The blinded elements.
    #[must_use]
    pub fn elements(&self) -> &[Encoded] {
        &self.encoded
    }

    /// The body of the QUERY frame.
    #[must_use]
    pub fn encode(&self, number: u32) -> Vec<u8> {
        QueryBody {
            number,
            elements: &self.encoded,
        }
        .encode()
    }

    /// Verifies the answer and derives the keys of every item that is not padding, in the order of the items.
    ///
    /// The proof is verified before anything is unblinded: with `r*pk` subtracted, a wrong evaluation would otherwise
    /// become a function of the blinding scalar.
    ///
    /// # Errors
    /// [`Fault::WrongCount`], [`Fault::NonCanonicalElement`], [`Fault::IdentityElement`] or [`Fault::ProofInvalid`].
    pub fn finish(
        self,
        receiver: &Receiver,
        evaluation: &EvaluationBody<'_>,
    ) -> Result<Secrets<Entry>, Fault> {
        let backend = receiver.backend;
        if evaluation.elements.len() != self.encoded.len() {
            return Err(Fault::WrongCount);
        }
        let mut evaluated = backend.decode(evaluation.elements)?;
        verify(
            backend,
            &receiver.flow.public_key,
            Blinded::Halves(&self.halves),
            &evaluated,
            Statement {
                blinded: &self.encoded,
                evaluated: evaluation.elements,
            },
            &evaluation.proof,
        )?;
        backend.offset(&mut evaluated, &receiver.unblinding, &self.blinds);
        let unblinded = Secrets::new(backend.double_encode(&evaluated));
        let outputs = Secrets::new(finalize(backend, self.items.inputs(), &unblinded));
        Ok(self.items.entries(backend, &outputs))
    }
}

/// The numbers `0..count` in an order random per run, so that positions say nothing.
pub fn shuffled(count: u32, rng: &mut impl CryptoRng) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last as usize, below(last + 1, rng) as usize);
    }
    order
}

/// A uniform number below `bound` (Lemire's method, with rejection).
fn below(bound: u32, rng: &mut impl Rng) -> u32 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

/// The place of a chunk in the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, from 0.
    pub number: u32,
    /// How many elements it has to have.
    pub count: usize,
}

/// Queries go out, answers come in.
#[derive(Debug)]
pub struct Querying {
    flow: ListFlow,
    sent: u32,
    evaluated: u32,
}

impl Querying {
    /// The start of the flow.
    #[must_use]
    pub const fn new(flow: ListFlow) -> Self {
        Self {
            flow,
            sent: 0,
            evaluated: 0,
        }
    }

    /// The next chunk to send, or `None` when all are sent.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        (u64::from(self.sent) < self.flow.chunks()).then(|| {
            self.sent += 1;
            let number = self.sent - 1;
            Chunk {
                number,
                count: self.flow.chunk_count(number),
            }
        })
    }

    /// Checks an answer's place and size; it answers chunk `evaluation.number`.
    ///
    /// # Errors
    /// [`Fault::OutOfOrder`], [`Fault::ReplayedFrame`], [`Fault::UnexpectedFrame`] or [`Fault::WrongCount`].
    pub fn admit(&mut self, evaluation: &EvaluationBody<'_>) -> Result<(), Fault> {
        in_turn(evaluation.number, self.evaluated)?;
        if self.evaluated == self.sent {
            return Err(Fault::UnexpectedFrame);
        }
        if evaluation.elements.len() != self.flow.chunk_count(evaluation.number) {
            return Err(Fault::WrongCount);
        }
        self.evaluated += 1;
        Ok(())
    }

    /// Whether every chunk is answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        u64::from(self.evaluated) == self.flow.chunks()
    }

    /// Goes on when the first frame after the answers has come.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] if an answer is missing.
    pub fn finish(self) -> Result<AwaitingCommitments, Fault> {
        if !self.is_complete() {
            return Err(Fault::UnexpectedFrame);
        }
        Ok(AwaitingCommitments {
            flow: self.flow,
            removals: Series16::new(self.flow.mode),
        })
    }
}

/// Every query is answered.
#[derive(Debug)]
pub struct AwaitingCommitments {
    flow: ListFlow,
    removals: Series16,
}

impl AwaitingCommitments {
    /// Takes a REMOVALS frame of a delta run.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] in a full run and after the last, or [`Fault::TagsNotIncreasing`].
    pub fn admit_removals(&mut self, body: &TagsBody<'_>) -> Result<(), Fault> {
        self.removals.admit(body)
    }

    /// Takes the commitments.
    ///
    /// # Errors
    /// [`Fault::WrongCount`] if they are for another number of tags or slices, [`Fault::UnexpectedFrame`] before the last
    /// removals of a delta run.
    pub fn admit(self, commitments: &CommitmentsBody<'_>) -> Result<AwaitingSlices, Fault> {
        if !self.removals.is_complete() {
            return Err(Fault::UnexpectedFrame);
        }
        let layout = self.flow.layout();
        if commitments.tags != self.flow.tags || commitments.prefix_bits != layout.prefix_bits() {
            return Err(Fault::WrongCount);
        }
        Ok(AwaitingSlices {
            flow: self.flow,
            layout,
            commitments: commitments.hashes.to_vec(),
            admitted: 0,
            tags: 0,
            done: 0,
            earlier: Series16::new(self.flow.mode),
            withdrawals: Series16::new(self.flow.mode),
        })
    }
}

/// Slices come in, claims go out. No label can be opened yet.
#[derive(Debug)]
pub struct AwaitingSlices {
    flow: ListFlow,
    layout: SliceLayout,
    commitments: Vec<[u8; 32]>,
    admitted: u32,
    tags: u64,
    done: u32,
    earlier: Series16,
    withdrawals: Series16,
}

impl AwaitingSlices {
    /// How the tags are cut.
    #[must_use]
    pub const fn layout(&self) -> SliceLayout {
        self.layout
    }

    /// Checks a slice's place and size. The ticket does the work.
    ///
    /// # Errors
    /// [`Fault::OutOfOrder`], [`Fault::ReplayedFrame`], [`Fault::UnexpectedFrame`], [`Fault::LabelLength`] or
    /// [`Fault::WrongCount`].
    pub fn admit(&mut self, slice: &SliceBody<'_>) -> Result<SliceTicket, Fault> {
        if self.admitted == self.layout.slices() {
            return Err(Fault::UnexpectedFrame);
        }
        in_turn(slice.index, self.admitted)?;
        if usize::from(slice.label_bytes) != self.flow.evaluator_labels.sealed_bytes() {
            return Err(Fault::LabelLength);
        }
        self.tags += slice.tags.len() as u64;
        let last = self.admitted + 1 == self.layout.slices();
        if self.tags > self.flow.tags || (last && self.tags != self.flow.tags) {
            return Err(Fault::WrongCount);
        }
        let committed = self.commitments[self.admitted as usize];
        self.admitted += 1;
        Ok(SliceTicket {
            flow: self.flow,
            layout: self.layout,
            committed,
            index: slice.index,
        })
    }

    /// Notes that a slice is matched and its claims are on their way.
    pub const fn done(&mut self, done: SliceDone) {
        let SliceDone(()) = done;
        self.done += 1;
    }

    /// The token that lets labels be opened.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if a slice is missing.
    pub fn finish(self) -> Result<SlicesComplete, Misuse> {
        if self.is_complete() {
            Ok(SlicesComplete { flow: self.flow })
        } else {
            Err(Misuse::OutOfOrder)
        }
    }

    /// Whether every slice is matched, and a delta run has made its earlier claims and its withdrawals.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.all_matched() && self.earlier.is_complete() && self.withdrawals.is_complete()
    }

    /// Whether every slice is matched.
    #[must_use]
    pub const fn all_matched(&self) -> bool {
        self.done == self.layout.slices()
    }

    /// The body of an EARLIER_CLAIMS frame of a delta run, after the claims of every slice: claims on tags that earlier runs
    /// of the epoch published and that are in no slice of this run.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] in a full run, before the last slice, after the last frame, or if the tags do not increase.
    pub fn claim_earlier(&mut self, claims: &EarlierClaims, last: bool) -> Result<Vec<u8>, Misuse> {
        if !self.all_matched() {
            return Err(Misuse::OutOfOrder);
        }
        let body = claims.body(last);
        self.earlier
            .admit_values(body.tags, last)
            .map_err(|_| Misuse::OutOfOrder)?;
        Ok(body.encode())
    }

    /// The body of a WITHDRAWALS frame of a delta run, after the last earlier claims: tags whose claims, made in this epoch,
    /// are void from now on.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] in a full run, before the last claims, after the last frame, or if the tags do not increase.
    pub fn withdraw(&mut self, tags: &[[u8; 16]], last: bool) -> Result<Vec<u8>, Misuse> {
        if !self.all_matched() || !self.earlier.is_complete() {
            return Err(Misuse::OutOfOrder);
        }
        let body = TagsBody { last, values: tags };
        self.withdrawals
            .admit(&body)
            .map_err(|_| Misuse::OutOfOrder)?;
        Ok(body.encode())
    }
}

/// The right to match one slice.
#[derive(Debug)]
pub struct SliceTicket {
    flow: ListFlow,
    layout: SliceLayout,
    committed: [u8; 32],
    index: u32,
}

/// That a slice was matched.
#[derive(Debug)]
pub struct SliceDone(());

/// What a slice led to.
pub struct SliceOutcome {
    /// The body of the CLAIMS frame, to be sent whatever the labels turn out to say.
    pub claims: Vec<u8>,
    /// The matches with their sealed labels, for after the last slice.
    pub matches: SealedMatches,
    /// To be handed to [`AwaitingSlices::done`].
    pub done: SliceDone,
}

impl SliceTicket {
    /// Verifies the slice and matches it against `own`: the receiver's entries, sorted by tag, of this slice (others are
    /// skipped). `list_label` gives the label of an owner in the receiver's list tier, `None` for its count tier.
    ///
    /// What comes out depends on the tags and on `own` alone: no label of the slice is looked at.
    ///
    /// # Errors
    /// [`Fault::CommitmentMismatch`], [`Fault::TagsNotIncreasing`] or [`Fault::TagOutsideSlice`] by the peer,
    /// [`Misuse::EntriesUnsorted`] or [`Misuse::FieldsTooLong`] by the caller.
    pub fn match_own<'l>(
        self,
        slice: &SliceBody<'_>,
        own: &[Entry],
        mut list_label: impl FnMut(u32) -> Option<Label<'l>>,
    ) -> Result<SliceOutcome, Error> {
        if slice.index != self.index {
            return Err(Misuse::OutOfOrder.into());
        }
        slice::check(
            &self.flow.session,
            self.flow.flow,
            self.layout,
            &self.committed,
            slice,
        )?;
        if !own.is_sorted_by(|a, b| a.derived.tag <= b.derived.tag) {
            return Err(Misuse::EntriesUnsorted.into());
        }
        let mut claims = Claims::new(self.flow.receiver_labels);
        let mut matches = SealedMatches::with_capacity(
            self.flow.evaluator_labels,
            slice.tags.len().min(own.len()),
        );
        let sealed_bytes = self.flow.evaluator_labels.sealed_bytes();
        let mut own = own.iter().peekable();
        for (tag, sealed) in slice
            .tags
            .iter()
            .zip(slice.labels.chunks_exact(sealed_bytes))
        {
            while own.next_if(|entry| entry.derived.tag < *tag).is_some() {}
            let mut claimed = false;
            while let Some(entry) = own.next_if(|entry| entry.derived.tag == *tag) {
                matches.push(entry, sealed);
                if !claimed && let Some(label) = list_label(entry.owner) {
                    claims.push(&entry.derived.claim, &label)?;
                    claimed = true;
                }
            }
        }
        Ok(SliceOutcome {
            claims: claims.encode(self.index),
            matches,
            done: SliceDone(()),
        })
    }
}

/// Matches whose labels are still sealed: records of `owner(4) || tag(16) || master(32) || sealed label`, back to back.
pub struct SealedMatches {
    format: LabelFormat,
    bytes: Secrets<u8>,
}

impl SealedMatches {
    const HEAD_BYTES: usize = 4 + 16 + 32;

    /// No matches, with room for `count`.
    #[must_use]
    pub fn with_capacity(format: LabelFormat, count: usize) -> Self {
        Self {
            format,
            bytes: Secrets::with_capacity(count * (Self::HEAD_BYTES + format.sealed_bytes())),
        }
    }

    /// Reads what [`SealedMatches::as_bytes`] gave.
    ///
    /// # Errors
    /// [`Misuse::StoredState`] if it is not a whole number of records.
    pub fn from_bytes(format: LabelFormat, bytes: Secrets<u8>) -> Result<Self, Misuse> {
        let matches = Self { format, bytes };
        if matches.bytes.len().is_multiple_of(matches.stride()) {
            Ok(matches)
        } else {
            Err(Misuse::StoredState)
        }
    }

    /// The records, for a spool. They hold label masters: as secret as the identifiers.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of matches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.stride()
    }

    /// Whether nothing matched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The owners of the matches.
    pub fn owners(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(|index| self.at(index).0)
    }

    /// Bytes of one record.
    #[must_use]
    pub const fn stride(&self) -> usize {
        Self::HEAD_BYTES + self.format.sealed_bytes()
    }

    /// Appends the match of `entry` with its tag's sealed label.
    ///
    /// # Panics
    /// In debug builds, if the label has another length.
    pub fn push(&mut self, entry: &Entry, sealed: &[u8]) {
        debug_assert_eq!(sealed.len(), self.format.sealed_bytes());
        self.bytes.extend_from_slice(&entry.owner.to_be_bytes());
        self.bytes.extend_from_slice(&entry.derived.tag);
        self.bytes.extend_from_slice(&entry.derived.master);
        self.bytes.extend_from_slice(sealed);
    }

    fn head(&self, index: usize) -> (&[u8; 4], &[u8; 16], &[u8; 32], &[u8]) {
        let record = &self.bytes[index * self.stride()..(index + 1) * self.stride()];
        let (owner, record) = record.split_first_chunk().expect("a record has 52 bytes");
        let (tag, record) = record.split_first_chunk().expect("a record has 52 bytes");
        let (master, sealed) = record.split_first_chunk().expect("a record has 52 bytes");
        (owner, tag, master, sealed)
    }

    pub(super) fn at(&self, index: usize) -> (u32, &[u8; 16], &[u8]) {
        let (owner, tag, _, sealed) = self.head(index);
        (u32::from_be_bytes(*owner), tag, sealed)
    }

    pub(super) fn masters(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        (0..self.len()).map(|index| self.head(index).2)
    }
}

/// Every slice is matched and every claim made: labels may be opened now.
#[derive(Debug)]
pub struct SlicesComplete {
    flow: ListFlow,
}

impl SlicesComplete {
    /// Opens the labels of a batch of matches.
    ///
    /// # Errors
    /// [`Misuse::StoredState`] if the matches are of another label format.
    pub fn open(&self, backend: Backend, matches: &SealedMatches) -> Result<LabelsOpened, Misuse> {
        self.open_published(backend, &self.flow.session, matches)
    }

    /// Opens labels that `session`, an earlier one of the epoch, published.
    ///
    /// # Errors
    /// As [`SlicesComplete::open`].
    pub fn open_published(
        &self,
        backend: Backend,
        session: &SessionId,
        matches: &SealedMatches,
    ) -> Result<LabelsOpened, Misuse> {
        if matches.format != self.flow.evaluator_labels {
            return Err(Misuse::StoredState);
        }
        Ok(LabelsOpened::new(
            backend,
            &self.flow.context,
            session,
            self.flow.evaluator_labels,
            self.flow.evaluator_stages,
            matches,
        ))
    }
}
