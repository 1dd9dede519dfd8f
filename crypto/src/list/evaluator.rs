//! The evaluator's side of the list flow.

use rand_core::CryptoRng;

use super::{
    Claimed, Labels, ListFlow, SLICE_WINDOW, SealedSlice, SliceLayout,
    claims::{look_up, look_up_earlier},
};
use crate::{
    backend::{Backend, Encoded},
    fault::{Fault, Misuse},
    handshake::Mode,
    item::{Entry, Items},
    secrets::Secrets,
    voprf::{SecretKey, Statement, finalize, prove},
    wire::{ClaimsBody, CommitmentsBody, EarlierClaimsBody, EvaluationBody, QueryBody, TagsBody},
};

/// Everything an evaluator's chunk computations need. Shared by reference between threads.
pub struct Evaluator {
    backend: Backend,
    flow: ListFlow,
    key: SecretKey,
}

impl Evaluator {
    /// The evaluator of this flow.
    ///
    /// # Errors
    /// [`Misuse::StoredState`] if the secret key is not that of the flow's public key.
    pub fn new(backend: Backend, flow: ListFlow, key: SecretKey) -> Result<Self, Misuse> {
        if key.public_key() != flow.public_key {
            return Err(Misuse::StoredState);
        }
        Ok(Self { backend, flow, key })
    }

    /// The flow.
    #[must_use]
    pub const fn flow(&self) -> &ListFlow {
        &self.flow
    }

    /// Answers one chunk: the body of the EVALUATION frame. Debit the budget before.
    ///
    /// # Errors
    /// [`Fault::NonCanonicalElement`], [`Fault::IdentityElement`] or [`Fault::RepeatedElement`].
    pub fn evaluate(
        &self,
        query: &QueryBody<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Fault> {
        let blinded = self.backend.decode(query.elements)?;
        refuse_repeated(query.elements)?;
        let evaluated = self.backend.multiply_encode(self.key.scalar(), &blinded);
        let proof = prove(
            self.backend,
            &self.key,
            &self.flow.public_key,
            &blinded,
            Statement {
                blinded: query.elements,
                evaluated: &evaluated,
            },
            rng,
        );
        Ok(EvaluationBody {
            number: query.number,
            elements: &evaluated,
            proof,
        }
        .encode())
    }

    /// The keys of the evaluator's own items.
    ///
    /// # Errors
    /// [`Misuse::StoredState`] if the items were made for another context.
    pub fn derive(&self, items: &Items) -> Result<Secrets<Entry>, Misuse> {
        if items.context() != &self.flow.context {
            return Err(Misuse::StoredState);
        }
        let points = self
            .backend
            .hash_to_group(crate::suite::HASH_TO_GROUP_DST, items.inputs());
        let key = self.key.of_outputs();
        let evaluated = Secrets::new(self.backend.multiply_encode(&key, &points));
        let outputs = Secrets::new(finalize(self.backend, items.inputs(), &evaluated));
        Ok(items.entries(self.backend, &outputs))
    }

    /// Seals a slice: `labels[i]` is the label of `entries[i]`. The same input gives the same bytes.
    ///
    /// # Errors
    /// [`Misuse::EntriesUnsorted`] or [`Misuse::TooMany`].
    pub fn seal_slice(
        &self,
        index: u32,
        entries: &[Entry],
        labels: &Labels,
    ) -> Result<SealedSlice, Misuse> {
        if labels.format() != self.flow.evaluator_labels {
            return Err(Misuse::FieldsTooLong);
        }
        SealedSlice::new(
            self.backend,
            (&self.flow.session, self.flow.flow, &self.flow.context),
            self.flow.layout(),
            index,
            entries,
            labels,
        )
    }
}

/// "refuses a repetition within a chunk": a repeated element marks a customer without costing a query.
///
/// Sorted by their first bytes, and by the whole encoding only if some agree in these: such encodings are easy to make, and must
/// not be expensive.
fn refuse_repeated(elements: &[Encoded]) -> Result<(), Fault> {
    let mut heads: Vec<u64> = elements
        .iter()
        .map(|element| u64::from_le_bytes(element.as_chunks().0[0]))
        .collect();
    heads.sort_unstable();
    if heads.is_sorted_by(|one, other| one < other) {
        return Ok(());
    }
    let mut sorted = elements.to_vec();
    sorted.sort_unstable();
    if sorted.is_sorted_by(|one, other| one < other) {
        Ok(())
    } else {
        Err(Fault::RepeatedElement)
    }
}

/// Where a number that has to count up stands.
pub(super) fn in_turn(number: u32, expected: u32) -> Result<(), Fault> {
    match number.cmp(&expected) {
        std::cmp::Ordering::Less => Err(Fault::ReplayedFrame),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Fault::OutOfOrder),
    }
}

/// A series of frames with strictly increasing 16-byte values, of which delta runs have one and full runs none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Series16 {
    previous: Option<[u8; 16]>,
    complete: bool,
}

impl Series16 {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            previous: None,
            complete: mode == Mode::Full,
        }
    }

    pub(super) fn admit(&mut self, body: &TagsBody<'_>) -> Result<(), Fault> {
        self.admit_values(body.values, body.last)
    }

    pub(super) fn admit_values(&mut self, values: &[[u8; 16]], last: bool) -> Result<(), Fault> {
        if self.complete {
            return Err(Fault::UnexpectedFrame);
        }
        // Frames without values would make a series without end.
        if values.is_empty() && !last {
            return Err(Fault::WrongCount);
        }
        let continues = match (&self.previous, values.first()) {
            (Some(previous), Some(first)) => previous < first,
            _ => true,
        };
        if !continues || !values.is_sorted_by(|a, b| a < b) {
            return Err(Fault::TagsNotIncreasing);
        }
        self.previous = values.last().copied().or(self.previous);
        self.complete = last;
        Ok(())
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }
}

/// Queries are coming in.
#[derive(Debug)]
pub struct Answering {
    flow: ListFlow,
    admitted: u32,
    answered: u32,
}

impl Answering {
    /// The start of the flow.
    #[must_use]
    pub const fn new(flow: ListFlow) -> Self {
        Self {
            flow,
            admitted: 0,
            answered: 0,
        }
    }

    /// Checks a query's place and size. Evaluate it afterwards.
    ///
    /// # Errors
    /// [`Fault::OutOfOrder`], [`Fault::ReplayedFrame`] or [`Fault::WrongCount`].
    pub fn admit(&mut self, query: &QueryBody<'_>) -> Result<(), Fault> {
        if u64::from(self.admitted) == self.flow.chunks() {
            return Err(Fault::UnexpectedFrame);
        }
        in_turn(query.number, self.admitted)?;
        if query.elements.len() != self.flow.chunk_count(query.number) {
            return Err(Fault::WrongCount);
        }
        self.admitted += 1;
        Ok(())
    }

    /// Notes that the next answer was sent.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if there is no open query.
    pub const fn answered(&mut self) -> Result<(), Misuse> {
        if self.answered == self.admitted {
            return Err(Misuse::OutOfOrder);
        }
        self.answered += 1;
        Ok(())
    }

    /// Whether every query of the flow is admitted.
    #[must_use]
    pub fn all_admitted(&self) -> bool {
        u64::from(self.admitted) == self.flow.chunks()
    }

    /// Goes on to the slices.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if a query is missing or unanswered.
    pub fn finish(self) -> Result<Committing, Misuse> {
        if u64::from(self.answered) != self.flow.chunks() {
            return Err(Misuse::OutOfOrder);
        }
        Ok(Committing {
            flow: self.flow,
            removals: Series16::new(self.flow.mode),
        })
    }
}

/// Every query is answered; no slice may be sent before all are committed to.
#[derive(Debug)]
pub struct Committing {
    flow: ListFlow,
    removals: Series16,
}

impl Committing {
    /// The body of a REMOVALS frame of a delta run: tags published in this epoch that are void from now on.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] in a full run, after the last, or if the tags do not increase.
    pub fn remove(&mut self, tags: &[[u8; 16]], last: bool) -> Result<Vec<u8>, Misuse> {
        let body = TagsBody { last, values: tags };
        self.removals.admit(&body).map_err(|_| Misuse::OutOfOrder)?;
        Ok(body.encode())
    }

    /// The body of the COMMITMENTS frame.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if there is not one hash a slice.
    pub fn commit(self, hashes: &[[u8; 32]]) -> Result<(Vec<u8>, Releasing), Misuse> {
        let layout = self.flow.layout();
        if hashes.len() != layout.slices() as usize || !self.removals.is_complete() {
            return Err(Misuse::OutOfOrder);
        }
        let payload = CommitmentsBody {
            tags: self.flow.tags,
            prefix_bits: layout.prefix_bits(),
            hashes,
        }
        .encode();
        Ok((
            payload,
            Releasing {
                flow: self.flow,
                layout,
                released: 0,
                claimed: 0,
                earlier: Series16::new(self.flow.mode),
                withdrawals: Series16::new(self.flow.mode),
            },
        ))
    }
}

/// Slices go out, claims come in.
#[derive(Debug)]
pub struct Releasing {
    flow: ListFlow,
    layout: SliceLayout,
    released: u32,
    claimed: u32,
    earlier: Series16,
    withdrawals: Series16,
}

impl Releasing {
    /// Takes an EARLIER_CLAIMS frame of a delta run, after the claims of every slice; `entries` are those of the claimed tags
    /// that are published, in the order of tags.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`], [`Fault::WrongCount`], [`Fault::TagsNotIncreasing`], [`Fault::ClaimUnknown`],
    /// [`Fault::ClaimStage`] or [`Fault::LabelLength`].
    pub fn admit_earlier_claims<'a>(
        &mut self,
        body: &EarlierClaimsBody<'a>,
        entries: &[Entry],
    ) -> Result<Vec<Claimed<'a>>, Fault> {
        if self.claimed != self.layout.slices() {
            return Err(Fault::UnexpectedFrame);
        }
        self.earlier.admit_values(body.tags, body.last)?;
        look_up_earlier(
            self.flow.receiver_labels,
            self.flow.receiver_stages,
            body,
            entries,
        )
    }

    /// Takes a WITHDRAWALS frame of a delta run: tags of this epoch whose claims are void from now on. They come after the
    /// last claims; one that this side never accepted is ignored by whoever looks it up.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] or [`Fault::TagsNotIncreasing`].
    pub fn admit_withdrawals(&mut self, body: &TagsBody<'_>) -> Result<(), Fault> {
        if self.claimed != self.layout.slices() || !self.earlier.is_complete() {
            return Err(Fault::UnexpectedFrame);
        }
        self.withdrawals.admit(body)
    }

    /// The slice that may be sent now, if any: at most [`SLICE_WINDOW`] are out without their claims.
    pub fn release(&mut self) -> Option<u32> {
        let open = self.released - self.claimed;
        (self.released < self.layout.slices() && open < SLICE_WINDOW).then(|| {
            self.released += 1;
            self.released - 1
        })
    }

    /// The slice whose claims come next.
    #[must_use]
    pub const fn next_claims(&self) -> u32 {
        self.claimed
    }

    /// Checks the claims of the next slice; `entries` are those the slice was made of, in the same order.
    ///
    /// # Errors
    /// [`Fault::OutOfOrder`], [`Fault::ReplayedFrame`], [`Fault::ClaimUnknown`], [`Fault::ClaimRepeated`],
    /// [`Fault::ClaimStage`], [`Fault::LabelLength`] or [`Fault::WrongCount`].
    pub fn admit_claims<'a>(
        &mut self,
        body: &ClaimsBody<'a>,
        entries: &[Entry],
    ) -> Result<Vec<Claimed<'a>>, Fault> {
        in_turn(body.index, self.claimed)?;
        if self.claimed == self.released {
            return Err(Fault::UnexpectedFrame);
        }
        let claimed = look_up(
            self.flow.receiver_labels,
            self.flow.receiver_stages,
            body,
            entries,
        )?;
        self.claimed += 1;
        Ok(claimed)
    }

    /// Whether the claims of every slice have arrived, and the earlier claims and withdrawals of a delta run.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.all_claimed() && self.earlier.is_complete() && self.withdrawals.is_complete()
    }

    /// Whether the claims of every slice have arrived.
    #[must_use]
    pub const fn all_claimed(&self) -> bool {
        self.claimed == self.layout.slices()
    }

    /// Whether the last EARLIER_CLAIMS frame has come, or none is due.
    #[must_use]
    pub const fn earlier_claims_are_complete(&self) -> bool {
        self.earlier.is_complete()
    }
}

#[cfg(test)]
mod tests {
    use super::refuse_repeated;
    use crate::fault::Fault;

    #[test]
    fn a_repeated_element_is_refused_and_one_that_begins_alike_is_not() {
        let element = |number: u32, last: u8| {
            let mut element = [0; 32];
            element[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes());
            element[31] = last;
            element
        };
        let mut elements: Vec<_> = (0..16_384).map(|number| element(number, 0)).collect();
        assert_eq!(refuse_repeated(&elements), Ok(()));
        elements.extend((0..5_000).map(|number| element(number, 1)));
        assert_eq!(refuse_repeated(&elements), Ok(()));
        for (one, other) in [(0, 1), (3, 16_384 + 3), (21_000, 7)] {
            let mut repeated = elements.clone();
            repeated[one] = repeated[other];
            assert_eq!(refuse_repeated(&repeated), Err(Fault::RepeatedElement));
        }
        assert_eq!(refuse_repeated(&[]), Ok(()));
    }
}
