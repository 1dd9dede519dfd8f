//! The steps of the count flow, each consuming the one before.

use curve25519_dalek::ristretto::RistrettoBasepointTable;
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};

use super::{Group, MAX_ELEMENTS, MIN_PADDING, Party};
use crate::{
    backend::{Encoded, RistrettoPoint, Scalar},
    fault::{Fault, Misuse},
    list::MAX_CHUNK,
    plan::Role,
    secrets::Secrets,
    suite::derive_truncated,
    voprf::decode_element,
    wire::{CountCommitBody, CountElementsBody, CountOpenBody, CountReturnsBody},
};

/// What a side commits to before it sees an element of the other's.
fn commitment(
    party: &Party,
    owner: Role,
    salt: &[u8; 32],
    exponent: &Encoded,
    sizes: &[u32],
    elements: &[Encoded],
) -> [u8; 32] {
    let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
    let digest = Sha512::digest(elements.as_flattened());
    derive_truncated(
        "OVL1/count/commit",
        &[
            &party.flow.session.0,
            &[owner.code()],
            salt,
            exponent,
            &sizes,
            &digest,
        ],
    )
}

/// This side's elements, sorted and committed to.
pub struct Committed {
    party: Party,
    salt: [u8; 32],
    exponent: Encoded,
    sizes: Vec<u32>,
    /// Every group's elements, group by group, sorted within each.
    elements: Vec<Encoded>,
    padding: Vec<Secrets<Scalar>>,
}

impl Committed {
    /// Sorts and commits. One group for each of the flow's own groups, in that order.
    ///
    /// # Errors
    /// [`Misuse::TooMany`], or [`Misuse::EntriesUnsorted`] if a group is missing, short of padding, or repeats an item.
    pub fn new(party: Party, groups: Vec<Group>, rng: &mut impl CryptoRng) -> Result<Self, Misuse> {
        if groups.len() != party.flow.own_groups.len() {
            return Err(Misuse::EntriesUnsorted);
        }
        let mut sizes = Vec::with_capacity(groups.len());
        let mut elements = Vec::new();
        let mut padding = Vec::with_capacity(groups.len());
        for group in groups {
            let start = elements.len();
            elements.extend(group.elements);
            elements.extend(group.padding.elements);
            elements[start..].sort_unstable();
            let size = u32::try_from(elements.len() - start).map_err(|_| Misuse::TooMany)?;
            if elements.len() > MAX_ELEMENTS as usize {
                return Err(Misuse::TooMany);
            }
            let repeats = !elements[start..].is_sorted_by(|a, b| a < b);
            if repeats || group.padding.scalars.len() < MIN_PADDING {
                return Err(Misuse::EntriesUnsorted);
            }
            sizes.push(size);
            padding.push(group.padding.scalars);
        }
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        let exponent = *party.exponent.public_key().encoded();
        Ok(Self {
            party,
            salt,
            exponent,
            sizes,
            elements,
            padding,
        })
    }

    /// The body of the COUNT_COMMIT frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        CountCommitBody {
            commitment: commitment(
                &self.party,
                self.party.flow.role,
                &self.salt,
                &self.exponent,
                &self.sizes,
                &self.elements,
            ),
            sizes: self.sizes.clone(),
        }
        .encode()
    }

    /// Takes the peer's commitment. Only then may the elements go out.
    ///
    /// # Errors
    /// [`Fault::GroupsDiffer`].
    pub fn receive(self, peer: CountCommitBody) -> Result<Exchanging, Fault> {
        if peer.sizes.len() != self.party.flow.peer_groups.len() {
            return Err(Fault::GroupsDiffer);
        }
        let mut own_sorted = self.elements.clone();
        own_sorted.sort_unstable();
        Ok(Exchanging {
            own: self,
            own_sorted,
            peer,
            open: None,
            received: Vec::new(),
            group: 0,
            in_group: 0,
        })
    }
}

/// Bodies of chunks of at most [`MAX_CHUNK`] items, group by group; an empty group has none.
fn chunked<'a, const N: usize>(
    sizes: &'a [u32],
    items: &'a [[u8; N]],
) -> impl Iterator<Item = (u8, &'a [[u8; N]])> {
    let mut start = 0;
    (0_u8..).zip(sizes).flat_map(move |(group, size)| {
        let items = &items[start..start + *size as usize];
        start += *size as usize;
        items.chunks(MAX_CHUNK).map(move |chunk| (group, chunk))
    })
}

/// Elements go out and come in.
pub struct Exchanging {
    own: Committed,
    own_sorted: Vec<Encoded>,
    peer: CountCommitBody,
    open: Option<CountOpenBody>,
    received: Vec<Encoded>,
    group: usize,
    in_group: u32,
}

impl Exchanging {
    /// The body of the COUNT_OPEN frame, before the elements.
    #[must_use]
    pub fn open_body(&self) -> Vec<u8> {
        CountOpenBody {
            salt: self.own.salt,
            exponent: self.own.exponent,
        }
        .encode()
    }

    /// The bodies of the COUNT_ELEMENTS frames.
    pub fn element_bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        chunked(&self.own.sizes, &self.own.elements)
            .map(|(group, elements)| CountElementsBody { group, elements }.encode())
    }

    /// Takes the peer's COUNT_OPEN.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] for a second one, [`Fault::ReflectedElement`], [`Fault::IdentityElement`] or
    /// [`Fault::NonCanonicalElement`].
    pub fn admit_open(&mut self, body: CountOpenBody) -> Result<(), Fault> {
        if self.open.is_some() {
            return Err(Fault::UnexpectedFrame);
        }
        if body.exponent == self.own.exponent {
            return Err(Fault::ReflectedElement);
        }
        decode_element(&body.exponent)?;
        self.open = Some(body);
        Ok(())
    }

    /// Takes a chunk of the peer's elements.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] before COUNT_OPEN, [`Fault::OutOfOrder`] for another group, [`Fault::WrongCount`],
    /// [`Fault::RepeatedElement`], [`Fault::ElementsNotIncreasing`] or [`Fault::ReflectedElement`].
    pub fn admit_elements(&mut self, body: &CountElementsBody<'_>) -> Result<(), Fault> {
        if self.open.is_none() {
            return Err(Fault::UnexpectedFrame);
        }
        self.skip_full_groups();
        let Some(size) = self.peer.sizes.get(self.group) else {
            return Err(Fault::WrongCount);
        };
        if usize::from(body.group) != self.group {
            return Err(Fault::OutOfOrder);
        }
        let count = u32::try_from(body.elements.len()).map_err(|_| Fault::SetTooLarge)?;
        if count == 0 || count > size - self.in_group {
            return Err(Fault::WrongCount);
        }
        let mut previous = match self.in_group {
            0 => None,
            _ => self.received.last(),
        };
        for element in body.elements {
            match previous.map(|previous| previous.cmp(element)) {
                Some(std::cmp::Ordering::Equal) => return Err(Fault::RepeatedElement),
                Some(std::cmp::Ordering::Greater) => return Err(Fault::ElementsNotIncreasing),
                Some(std::cmp::Ordering::Less) | None => {}
            }
            if self.own_sorted.binary_search(element).is_ok() {
                return Err(Fault::ReflectedElement);
            }
            previous = Some(element);
        }
        self.received.extend_from_slice(body.elements);
        self.in_group += count;
        Ok(())
    }

    fn skip_full_groups(&mut self) {
        while self.peer.sizes.get(self.group) == Some(&self.in_group) {
            self.group += 1;
            self.in_group = 0;
        }
    }

    /// Whether every element of the peer has arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let announced: u64 = self.peer.sizes.iter().map(|size| u64::from(*size)).sum();
        self.open.is_some() && self.received.len() as u64 == announced
    }

    /// Checks the peer's commitment, and that no element is in two groups. Only then may anything be returned.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] if elements are missing, [`Fault::CommitmentMismatch`] or [`Fault::RepeatedElement`].
    pub fn finish(self) -> Result<Exchanged, Fault> {
        let Some(open) = self.open.filter(|_| self.is_complete()) else {
            return Err(Fault::UnexpectedFrame);
        };
        let party = &self.own.party;
        let expected = commitment(
            party,
            party.flow.role.peer(),
            &open.salt,
            &open.exponent,
            &self.peer.sizes,
            &self.received,
        );
        if expected != self.peer.commitment {
            return Err(Fault::CommitmentMismatch);
        }
        let mut sorted = self.received.clone();
        sorted.sort_unstable();
        if !sorted.is_sorted_by(|a, b| a < b) {
            return Err(Fault::RepeatedElement);
        }
        Ok(Exchanged {
            own: self.own,
            peer_exponent: decode_element(&open.exponent)?,
            peer_sizes: self.peer.sizes,
            received: self.received,
        })
    }
}

/// A piece of the peer's elements to re-blind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerChunk {
    start: usize,
    end: usize,
}

/// A re-blinded piece.
pub struct Reblinded {
    start: usize,
    elements: Secrets<Encoded>,
}

/// Both sides hold the other's elements.
pub struct Exchanged {
    own: Committed,
    peer_exponent: RistrettoPoint,
    peer_sizes: Vec<u32>,
    received: Vec<Encoded>,
}

impl Exchanged {
    /// The pieces in which to compute.
    pub fn chunks(&self) -> impl Iterator<Item = PeerChunk> {
        let total = self.received.len();
        (0..total)
            .step_by(MAX_CHUNK / 2)
            .map(move |start| PeerChunk {
                start,
                end: total.min(start + MAX_CHUNK / 2),
            })
    }

    /// Re-blinds one piece. Pure: pieces can be computed side by side.
    ///
    /// # Errors
    /// [`Fault::NonCanonicalElement`] or [`Fault::IdentityElement`].
    pub fn reblind(&self, chunk: PeerChunk) -> Result<Reblinded, Fault> {
        let party = &self.own.party;
        let points = party
            .backend
            .decode(&self.received[chunk.start..chunk.end])?;
        Ok(Reblinded {
            start: chunk.start,
            elements: Secrets::new(
                party
                    .backend
                    .multiply_encode(party.exponent.scalar(), &points),
            ),
        })
    }

    /// Goes on with every piece re-blinded.
    ///
    /// # Errors
    /// [`Misuse::OutOfOrder`] if a piece is missing.
    pub fn finish(self, mut pieces: Vec<Reblinded>) -> Result<Returning, Misuse> {
        pieces.sort_by_key(|piece| piece.start);
        let mut common = Secrets::with_capacity(self.received.len());
        for piece in pieces {
            if piece.start != common.len() {
                return Err(Misuse::OutOfOrder);
            }
            common.extend_from_slice(&piece.elements);
        }
        if common.len() != self.received.len() {
            return Err(Misuse::OutOfOrder);
        }
        let party = &self.own.party;
        let mut returns = Vec::with_capacity(common.len());
        let mut start = 0;
        for (group, size) in (0_u8..).zip(&self.peer_sizes) {
            let elements = &common[start..start + *size as usize];
            start += *size as usize;
            let mut hashes =
                party
                    .flow
                    .return_hashes(party.backend, party.flow.role.peer(), group, elements);
            hashes.sort_unstable();
            returns.extend(hashes);
        }
        Ok(Returning {
            own: self.own,
            peer_exponent: self.peer_exponent,
            peer_sizes: self.peer_sizes,
            common,
            returns,
            returned: Vec::new(),
            group: 0,
            in_group: 0,
        })
    }
}

/// Returned hashes go out and come in.
pub struct Returning {
    own: Committed,
    peer_exponent: RistrettoPoint,
    peer_sizes: Vec<u32>,
    /// The peer's elements under both exponents: those of shared items are the same on both sides.
    common: Secrets<Encoded>,
    returns: Vec<[u8; 16]>,
    returned: Vec<[u8; 16]>,
    group: usize,
    in_group: u32,
}

impl Returning {
    /// The bodies of the COUNT_RETURNS frames.
    pub fn return_bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        chunked(&self.peer_sizes, &self.returns)
            .map(|(group, hashes)| CountReturnsBody { group, hashes }.encode())
    }

    /// Takes a chunk of what the peer returns for this side's elements.
    ///
    /// # Errors
    /// [`Fault::OutOfOrder`] for another group, [`Fault::WrongCount`] or [`Fault::ReturnsNotIncreasing`].
    pub fn admit_returns(&mut self, body: &CountReturnsBody<'_>) -> Result<(), Fault> {
        while self.own.sizes.get(self.group) == Some(&self.in_group) {
            self.group += 1;
            self.in_group = 0;
        }
        let Some(size) = self.own.sizes.get(self.group) else {
            return Err(Fault::WrongCount);
        };
        if usize::from(body.group) != self.group {
            return Err(Fault::OutOfOrder);
        }
        let count = u32::try_from(body.hashes.len()).map_err(|_| Fault::SetTooLarge)?;
        if count == 0 || count > size - self.in_group {
            return Err(Fault::WrongCount);
        }
        let continues = match (self.in_group, self.returned.last()) {
            (0, _) | (_, None) => true,
            (_, Some(last)) => *last < body.hashes[0],
        };
        if !continues || !body.hashes.is_sorted_by(|a, b| a < b) {
            return Err(Fault::ReturnsNotIncreasing);
        }
        self.returned.extend_from_slice(body.hashes);
        self.in_group += count;
        Ok(())
    }

    /// Whether every element of this side has come back.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.returned.len() == self.own.elements.len()
    }

    /// Checks that this side's padding came back re-blinded, and counts.
    ///
    /// # Errors
    /// [`Fault::UnexpectedFrame`] if hashes are missing, or [`Fault::PaddingNotReturned`].
    pub fn finish(self) -> Result<CountMatrix, Fault> {
        if !self.is_complete() {
            return Err(Fault::UnexpectedFrame);
        }
        let party = &self.own.party;
        let flow = &party.flow;
        let table = RistrettoBasepointTable::create(&self.peer_exponent);
        let mut counts = Vec::with_capacity(self.own.sizes.len());
        let mut start = 0;
        for ((group, size), padding) in (0_u8..).zip(&self.own.sizes).zip(&self.own.padding) {
            let returned = &self.returned[start..start + *size as usize];
            start += *size as usize;
            let mut own_padding = Secrets::with_capacity(padding.len());
            for scalar in padding.iter() {
                own_padding.push((&table * scalar).compress().to_bytes());
            }
            let expected = flow.return_hashes(party.backend, flow.role, group, &own_padding);
            if expected
                .iter()
                .any(|hash| returned.binary_search(hash).is_err())
            {
                return Err(Fault::PaddingNotReturned);
            }
            // The peer's elements under both exponents, as this side's group would show them.
            let candidates = flow.return_hashes(party.backend, flow.role, group, &self.common);
            let mut row = Vec::with_capacity(self.peer_sizes.len());
            let mut peer_start = 0;
            for peer_size in &self.peer_sizes {
                let candidates = &candidates[peer_start..peer_start + *peer_size as usize];
                peer_start += *peer_size as usize;
                let hits = candidates
                    .iter()
                    .filter(|hash| returned.binary_search(hash).is_ok())
                    .count();
                row.push(hits as u64);
            }
            counts.push(row);
        }
        Ok(CountMatrix { counts })
    }
}

/// How many items each of this side's groups shares with each of the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountMatrix {
    counts: Vec<Vec<u64>>,
}

impl CountMatrix {
    /// The count of own group `own` and peer group `peer`, by their places in [`super::CountFlow::own_groups`] and
    /// [`super::CountFlow::peer_groups`].
    #[must_use]
    pub fn at(&self, own: usize, peer: usize) -> Option<u64> {
        self.counts.get(own)?.get(peer).copied()
    }

    /// The rows: one for each own group.
    #[must_use]
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.counts
    }
}
