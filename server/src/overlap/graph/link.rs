//! One of my customers and one of the partner's, and the keys that match between them.

use overlap_crypto::terms::{KeyType, Tier};

use super::{
    Component, Edge, EdgeKey, HANDLE_BYTES, Handle, KeyTypes,
    edge::{from_type_byte, type_byte},
};
use crate::{
    error::Error,
    matching::{local_customers::StageTiers, spool::Sorter},
};

/// Bytes of a link before the keys.
const HEAD_BYTES: usize = 4 + 4 + 1 + 1 + 1 + 1 + 2 * HANDLE_BYTES;
/// Bytes of a key in a link: number, type.
const KEY_BYTES: usize = 5;
/// Keys that a link lists, in bytes: more make another link of the same two customers.
pub(super) const MAX_LINK_KEYS: usize = 4096 * KEY_BYTES;

/// Takes the links of shared customers: the position of the shared customer, and the link in the form of [`Link::parse`].
pub type LinkSink<'a> = dyn FnMut(u32, &[u8]) -> Result<(), Error> + 'a;

/// One of my customers and one of the partner's: what all keys that match between them make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// My customer.
    pub customer: u32,
    /// The partner's customer: its position by ascending handle.
    pub(super) partner: u32,
    /// Whether the partner's customer matches others of mine too.
    pub(super) is_shared: bool,
    /// My stage of it.
    pub mine: u8,
    /// The partner's stage of it.
    pub theirs: u8,
    /// The kinds of the keys.
    pub key_types: KeyTypes,
    /// My handle for it; zeros unless it is listed.
    pub my_handle: Handle,
    /// The partner's handle for it.
    pub handle: Handle,
}

impl Link {
    pub(super) fn push_to(
        &self,
        sorter: &mut Sorter,
        keys: &[u8],
        fields: &[u8],
    ) -> Result<(), Error> {
        let mut head = [0; HEAD_BYTES + 2];
        head[..4].copy_from_slice(&self.customer.to_be_bytes());
        head[4..8].copy_from_slice(&self.partner.to_be_bytes());
        head[8] = self.is_shared.into();
        head[9] = self.mine;
        head[10] = self.theirs;
        head[11] = self.key_types.bits();
        head[12..28].copy_from_slice(&self.my_handle);
        head[28..HEAD_BYTES].copy_from_slice(&self.handle);
        let length = u16::try_from(keys.len()).expect("a link lists few keys");
        head[HEAD_BYTES..].copy_from_slice(&length.to_be_bytes());
        sorter.push(&[&head, keys, fields])
    }

    /// A link, its keys for [`Link::keys`], and the partner's fields.
    ///
    /// # Errors
    /// `INTERNAL` if the record is malformed.
    pub fn parse(record: &[u8]) -> Result<(Self, &[u8], &[u8]), Error> {
        let (head, rest) = record
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or_else(malformed)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (keys, fields) = rest
            .split_at_checked(u16::from_be_bytes(*length).into())
            .ok_or_else(malformed)?;
        let number =
            |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let link = Self {
            customer: number(0),
            partner: number(4),
            is_shared: head[8] != 0,
            mine: head[9],
            theirs: head[10],
            key_types: KeyTypes::from_bits(head[11]),
            my_handle: head[12..28].try_into().expect("sixteen bytes"),
            handle: head[28..].try_into().expect("sixteen bytes"),
        };
        Ok((link, keys, fields))
    }

    /// The keys of a link.
    pub fn keys(keys: &[u8]) -> impl Iterator<Item = Result<(EdgeKey, KeyType), Error>> {
        keys.as_chunks::<KEY_BYTES>()
            .0
            .iter()
            .map(|[number @ .., kind]| {
                from_type_byte(u32::from_be_bytes(*number), *kind).ok_or_else(malformed)
            })
    }

    /// The same record of another customer's number, and other numbers of keys.
    ///
    /// # Errors
    /// `INTERNAL` if the record is malformed or a number unknown.
    pub fn renumber(
        record: &mut [u8],
        customer: u32,
        key: &dyn Fn(u32) -> Option<u32>,
    ) -> Result<(), Error> {
        record
            .first_chunk_mut()
            .map(|number: &mut [u8; 4]| *number = customer.to_be_bytes())
            .ok_or_else(malformed)?;
        let (length, rest) = record
            .get_mut(HEAD_BYTES..)
            .and_then(|rest| rest.split_first_chunk_mut())
            .ok_or_else(malformed)?;
        let keys = rest
            .get_mut(..u16::from_be_bytes(*length).into())
            .ok_or_else(malformed)?;
        for [number @ .., _] in keys.as_chunks_mut::<KEY_BYTES>().0 {
            let now = key(u32::from_be_bytes(*number)).ok_or_else(malformed)?;
            *number = now.to_be_bytes();
        }
        Ok(())
    }

    /// The link that one edge makes.
    pub(crate) fn of_edge(edge: &Edge<'_>) -> Self {
        let mut key_types = KeyTypes::default();
        key_types.insert(edge.key_type);
        Self {
            customer: edge.customer,
            partner: 0,
            is_shared: false,
            mine: edge.my_stage,
            theirs: edge.their_stage,
            key_types,
            my_handle: edge.my_handle,
            handle: edge.handle,
        }
    }

    /// The edge that one of the keys makes.
    #[must_use]
    pub const fn edge<'a>(&self, key: EdgeKey, key_type: KeyType, fields: &'a [u8]) -> Edge<'a> {
        Edge {
            handle: self.handle,
            their_stage: self.theirs,
            customer: self.customer,
            my_stage: self.mine,
            my_handle: self.my_handle,
            key_type,
            key,
            fields,
        }
    }

    /// The shared customer that the link makes if it shares no customer with another link.
    pub(super) fn component(&self, tiers: &StageTiers) -> Component {
        Component {
            customer: self.customer,
            mine: self.mine,
            theirs: self.theirs,
            key_types: self.key_types,
            // Every link leads to a listed customer of the partner's, so mine being listed makes it mutual.
            mutual: tiers.tier(self.mine) == Tier::List,
        }
    }
}

/// Adds a key to those of a link.
pub(super) fn push_key(keys: &mut Vec<u8>, key: EdgeKey, key_type: KeyType) {
    keys.extend_from_slice(&key.number.to_be_bytes());
    keys.push(type_byte(key_type, key));
}

fn malformed() -> Error {
    Error::internal("a link record is malformed")
}
