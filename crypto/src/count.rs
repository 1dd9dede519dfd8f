//! The count flow: commutative Diffie-Hellman for count x count cells (PROTOCOL.md §9).
//!
//! **Semi-honest.** A peer that deviates (another exponent for each element, a stage of one customer) can identify members
//! of a cell. What is checked here catches mistakes and garbage, not that.

mod exchange;

pub use exchange::{
    Committed, CountMatrix, Exchanged, Exchanging, PeerChunk, Reblinded, Returning,
};

use rand_core::CryptoRng;

use crate::{
    backend::{Backend, Encoded, Messages, RistrettoPoint, Scalar},
    context::{PairId, SessionId},
    fault::Misuse,
    handshake::Session,
    item::{derivation_prefix, value_prefix},
    plan::Role,
    secrets::Secrets,
    suite::COUNT_HASH_TO_GROUP_DST,
    terms::{KeyType, Terms, Tier},
    voprf::{SecretKey, random_scalars},
};

/// The most groups of a side.
pub const MAX_GROUPS: usize = 16;

/// The most elements of a side, all groups together: the count flow holds them in memory, at about 200 bytes each.
pub const MAX_ELEMENTS: u32 = 1 << 22;

/// The fewest padding elements a side puts into each of its groups, so that garbage in the returns is noticed.
pub const MIN_PADDING: usize = 16;

/// What both sides know about the count flow of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountFlow {
    session: SessionId,
    role: Role,
    pair: PairId,
    normaliser_version: u16,
    key_type: KeyType,
    own_groups: Vec<u8>,
    peer_groups: Vec<u8>,
}

impl CountFlow {
    /// The count flow of a session.
    ///
    /// # Errors
    /// [`Misuse::Terms`] if the terms have none, or a side has more than [`MAX_GROUPS`] count-tier stages.
    pub fn new(session: &Session, terms: &Terms) -> Result<Self, Misuse> {
        let (own, peer) = (session.own().sender, session.peer().sender);
        let groups = |organization| {
            let side = terms
                .side(organization)
                .ok_or(Misuse::Terms("an organisation is no side of the terms"))?;
            let groups: Vec<u8> = side.stages_of(Tier::Count).iter().collect();
            if groups.len() > MAX_GROUPS {
                return Err(Misuse::Terms("the count flow has at most 16 groups a side"));
            }
            Ok(groups)
        };
        let (own_groups, peer_groups) = (groups(&own)?, groups(&peer)?);
        let key_type = terms.key_types().first().copied();
        match key_type {
            Some(key_type) if session.plan().count => Ok(Self {
                session: session.id(),
                role: session.role(),
                pair: PairId::new(&own, &peer),
                normaliser_version: terms.normaliser_version(),
                key_type,
                own_groups,
                peer_groups,
            }),
            _ => Err(Misuse::Terms("the terms have no count flow")),
        }
    }

    /// The one key type that is counted: the first of the agreed order.
    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// This side's groups: its count-tier stages by index.
    #[must_use]
    pub fn own_groups(&self) -> &[u8] {
        &self.own_groups
    }

    /// The peer's groups: its count-tier stages by index.
    #[must_use]
    pub fn peer_groups(&self) -> &[u8] {
        &self.peer_groups
    }

    /// The hash that stands for a common element of `owner`'s group.
    fn return_hashes(
        &self,
        backend: Backend,
        owner: Role,
        group: u8,
        elements: &[Encoded],
    ) -> Vec<[u8; 16]> {
        let fields: [&[u8]; 3] = [&self.session.0, &[owner.code()], &[group]];
        let prefix = derivation_prefix("OVL1/count/return", &fields, 32);
        backend
            .sha512_after(&prefix, elements.iter())
            .iter()
            .map(|hash| {
                let (truncated, _) = hash.split_first_chunk().expect("64 bytes begin with 16");
                *truncated
            })
            .collect()
    }
}

/// A batch of items to be counted.
pub struct CountItems {
    pair: PairId,
    normaliser_version: u16,
    key_type: KeyType,
    inputs: Messages,
}

impl CountItems {
    /// An empty batch with room for `count` items.
    #[must_use]
    pub fn with_capacity(flow: &CountFlow, count: usize) -> Self {
        Self {
            pair: flow.pair,
            normaliser_version: flow.normaliser_version,
            key_type: flow.key_type,
            inputs: Messages::with_capacity(count, 64),
        }
    }

    /// Appends one normalised key of the flow's key type.
    ///
    /// # Errors
    /// [`Misuse::ValueLength`].
    pub fn push(&mut self, value: &[u8]) -> Result<(), Misuse> {
        let prefix = value_prefix(self.key_type, self.normaliser_version, value)?;
        self.inputs
            .push(&[b"OVL1/count/item", &self.pair.0, &prefix, value]);
        Ok(())
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

/// One side with its exponent of this run. Never stored: the count flow is never resumed.
pub struct Party {
    backend: Backend,
    flow: CountFlow,
    exponent: SecretKey,
}

impl Party {
    /// A side with a fresh exponent.
    pub fn new(backend: Backend, flow: CountFlow, rng: &mut impl CryptoRng) -> Self {
        Self {
            backend,
            flow,
            exponent: SecretKey::random(rng),
        }
    }

    /// The flow.
    #[must_use]
    pub const fn flow(&self) -> &CountFlow {
        &self.flow
    }

    /// `H(x)^a` of each item.
    #[must_use]
    pub fn blind(&self, items: &CountItems) -> Vec<Encoded> {
        let points = self
            .backend
            .hash_to_group(COUNT_HASH_TO_GROUP_DST, &items.inputs);
        self.backend
            .multiply_encode(self.exponent.scalar(), &points)
    }

    /// Elements that belong to nobody, whose way back can be checked: `(z*G)^a` with known `z`.
    pub fn padding(&self, count: usize, rng: &mut impl CryptoRng) -> PaddingElements {
        let mut scalars = random_scalars(rng, count);
        for scalar in scalars.iter_mut() {
            *scalar *= self.exponent.scalar();
        }
        let elements = scalars
            .iter()
            .map(|scalar| RistrettoPoint::mul_base(scalar).compress().to_bytes())
            .collect();
        PaddingElements { scalars, elements }
    }
}

/// Padding of one group: `a*z` and `(a*z)*G`.
pub struct PaddingElements {
    scalars: Secrets<Scalar>,
    elements: Vec<Encoded>,
}

/// One group of this side, ready to be sent.
pub struct Group {
    /// The elements of its items.
    pub elements: Vec<Encoded>,
    /// Its padding, at least [`MIN_PADDING`] elements.
    pub padding: PaddingElements,
}
