//! Match edges become shared customers (PROTOCOL.md "Shared customers").
//!
//! An edge joins one of my local customers and one of the partner's, known by its pseudonym. A shared customer is a component
//! of the graph that the edges listed to me make. One that has an edge listed to the partner too is mutual: the partner sees
//! who it is, so it is never counted in a report to the partner.

mod edge;
mod join;
mod link;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use overlap_crypto::terms::KeyType;

pub use edge::{Edge, EdgeKey};
pub use link::{Link, LinkSink};

use crate::{
    error::Error,
    matching::{
        bits::RankedBits,
        spool::{RecordFile, RecordReader, Sorted},
    },
};

/// Bytes of a pairwise handle.
pub const HANDLE_BYTES: usize = 16;
/// A pairwise handle: names one local customer to one partner during one epoch.
pub type Handle = [u8; HANDLE_BYTES];

/// Bytes of a component before handle and fields.
const COMPONENT_BYTES: usize = 8;

/// One shared customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// My local customer of highest stage (ties: smallest id), which names it.
    pub customer: u32,
    /// My highest stage in it.
    pub mine: u8,
    /// The partner's highest stage in it.
    pub theirs: u8,
    /// The key types that matched, one bit each.
    pub key_types: KeyTypes,
    /// Whether an edge of it is listed to the partner.
    pub mutual: bool,
}

impl Component {
    fn to_bytes(self) -> [u8; COMPONENT_BYTES] {
        let [a, b, c, d] = self.customer.to_be_bytes();
        [
            a,
            b,
            c,
            d,
            self.mine,
            self.theirs,
            self.key_types.0,
            self.mutual.into(),
        ]
    }

    const fn from_bytes(bytes: &[u8; COMPONENT_BYTES]) -> Self {
        let [a, b, c, d, mine, theirs, key_types, mutual] = *bytes;
        Self {
            customer: u32::from_be_bytes([a, b, c, d]),
            mine,
            theirs,
            key_types: KeyTypes(key_types),
            mutual: mutual != 0,
        }
    }
}

/// A set of key types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyTypes(u8);

impl KeyTypes {
    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// One bit a key type.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Adds a key type.
    pub const fn insert(&mut self, key_type: KeyType) {
        self.0 |= 1 << key_type.code();
    }

    /// The key types of either set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The key types in the agreed order.
    pub fn iter(self) -> impl Iterator<Item = KeyType> {
        KeyType::ALL
            .into_iter()
            .filter(move |key_type| self.0 & (1 << key_type.code()) != 0)
    }
}

/// The shared customers of a run.
pub struct Graph {
    /// In ascending order of the naming customer, that is of the id: component, my handle, the partner's fields.
    components: RecordFile,
    /// The naming customers.
    naming: RankedBits,
    /// The position of the shared customer of each customer of mine that shares it with another, or matched several of the
    /// partner's; by ascending customer.
    positions_of_knots: Vec<(u32, u32)>,
    /// The partner's handles and mine, each with the position of the shared customer; some more than once.
    handles: Sorted,
    cells: BTreeMap<(u8, u8), u64>,
    mutual_partners_by_stage: Vec<u64>,
    disagreeing: u64,
}

impl Graph {
    /// Number of shared customers.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.naming.count()
    }

    /// Whether nothing is shared.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of shared customers by my stage and the partner's.
    #[must_use]
    pub const fn cells(&self) -> &BTreeMap<(u8, u8), u64> {
        &self.cells
    }

    /// Streams the shared customers by ascending naming customer: their positions count from 0.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn components(&self) -> Result<ComponentReader, Error> {
        Ok(ComponentReader(self.components.reader()?))
    }

    /// Whether a local customer names a shared customer.
    #[must_use]
    pub fn is_naming(&self, customer: u32) -> bool {
        self.naming.contains(customer)
    }

    /// The position of the shared customer that a local customer is part of.
    #[must_use]
    pub fn of_customer(&self, customer: u32) -> Option<u32> {
        if self.naming.contains(customer) {
            return Some(self.naming.position(customer));
        }
        let place = self
            .positions_of_knots
            .binary_search_by_key(&customer, |(customer, _)| *customer);
        place.ok().map(|place| self.positions_of_knots[place].1)
    }

    /// The handles of shared customers, the partner's and mine, each with the position: sorted records of 20 bytes, some more
    /// than once.
    #[must_use]
    pub const fn handles(&self) -> &Sorted {
        &self.handles
    }

    /// How many of the partner's customers match a listed customer of mine, by the partner's stage.
    #[must_use]
    pub fn mutual_partners_by_stage(&self) -> &[u64] {
        &self.mutual_partners_by_stage
    }

    /// How many labels contradicted another label of the same customer and were left out.
    #[must_use]
    pub const fn disagreeing(&self) -> u64 {
        self.disagreeing
    }
}

/// A shared customer, my handle of its naming customer, and the partner's fields.
pub type Described<'a> = (Component, &'a Handle, &'a [u8]);

/// Streams shared customers.
pub struct ComponentReader(RecordReader);

impl ComponentReader {
    /// The next one with my handle of the naming customer and the partner's fields.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn next_component(&mut self) -> Result<Option<Described<'_>>, Error> {
        let Some(record) = self.0.next_record()? else {
            return Ok(None);
        };
        let malformed = || Error::internal("a component record is malformed");
        let (component, rest) = record.split_first_chunk().ok_or_else(malformed)?;
        let (handle, fields) = rest.split_first_chunk().ok_or_else(malformed)?;
        Ok(Some((Component::from_bytes(component), handle, fields)))
    }
}
