//! Matches of one key, listed to me.

use overlap_crypto::{
    list::{Label, fields},
    terms::{KeyType, Tier},
};

use super::{HANDLE_BYTES, Handle};
use crate::{
    error::Error,
    matching::{local_customers::KeyRef, spool::Sorter, terms::RunTerms},
};

/// Bytes of an edge before the fields.
const EDGE_BYTES: usize = HANDLE_BYTES + 1 + 4 + 1 + 1 + HANDLE_BYTES + 4;
/// Marks the type of a key whose match the partner claimed.
const CLAIMED: u8 = 0x80;

/// The key that an edge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeKey {
    /// Its number.
    pub number: u32,
    /// Whether the partner claimed the match; else I found it.
    pub claimed: bool,
}

/// One match that is listed to me.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge<'a> {
    /// The partner's handle for its customer.
    pub handle: Handle,
    /// The partner's stage of it.
    pub their_stage: u8,
    /// My local customer.
    pub customer: u32,
    /// The stage of my local customer.
    pub my_stage: u8,
    /// My handle for it; zeros unless it is listed.
    pub my_handle: Handle,
    /// The kind of the key that matched.
    pub key_type: KeyType,
    /// The key that matched.
    pub key: EdgeKey,
    /// What the partner discloses of its customer, as it sent it.
    pub fields: &'a [u8],
}

impl<'a> Edge<'a> {
    /// Adds the edge to a sorter that brings the edges of one partner customer together.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn push_to(&self, sorter: &mut Sorter) -> Result<(), Error> {
        let mut head = [0; EDGE_BYTES];
        head[..16].copy_from_slice(&self.handle);
        head[16] = self.their_stage;
        head[17..21].copy_from_slice(&self.customer.to_be_bytes());
        head[21] = type_byte(self.key_type, self.key);
        head[22] = self.my_stage;
        head[23..39].copy_from_slice(&self.my_handle);
        head[39..].copy_from_slice(&self.key.number.to_be_bytes());
        sorter.push(&[&head, self.fields])
    }

    /// What a label, or a claim, says of the key that matched; `None` if it does not parse or names a stage that is not listed.
    #[must_use]
    pub fn from_label(
        terms: &RunTerms,
        key: &KeyRef,
        label: &Label<'a>,
        claimed: bool,
    ) -> Option<Self> {
        let their_stage = terms.theirs.from_wire_code(label.stage)?;
        if terms.theirs.tier(their_stage) != Tier::List {
            return None;
        }
        let parses = label.fields.is_empty()
            || fields::decode(label.fields, terms.their_fields.len()).is_some();
        parses.then(|| Self {
            handle: label.pseudonym,
            their_stage,
            customer: key.customer,
            my_stage: key.stage,
            my_handle: key.handle,
            key_type: key.key_type,
            key: EdgeKey {
                number: key.index,
                claimed,
            },
            fields: without_filler(label.fields),
        })
    }

    pub(super) fn parse(record: &'a [u8]) -> Result<Self, Error> {
        let malformed = || Error::internal("an edge record is malformed");
        let (head, fields) = record
            .split_first_chunk::<EDGE_BYTES>()
            .ok_or_else(malformed)?;
        let number = u32::from_be_bytes(head[39..].try_into().expect("four bytes"));
        let (key, key_type) = from_type_byte(number, head[21]).ok_or_else(malformed)?;
        Ok(Self {
            handle: head[..16].try_into().expect("sixteen bytes"),
            their_stage: head[16],
            customer: u32::from_be_bytes(head[17..21].try_into().expect("four bytes")),
            key,
            key_type,
            my_stage: head[22],
            my_handle: head[23..39].try_into().expect("sixteen bytes"),
            fields,
        })
    }
}

/// A key's type, and who found the match, in a byte.
pub(super) const fn type_byte(key_type: KeyType, key: EdgeKey) -> u8 {
    key_type.code() | if key.claimed { CLAIMED } else { 0 }
}

/// Reads [`type_byte`].
pub(super) fn from_type_byte(number: u32, byte: u8) -> Option<(EdgeKey, KeyType)> {
    let key = EdgeKey {
        number,
        claimed: byte & CLAIMED != 0,
    };
    Some((key, KeyType::from_code(byte & !CLAIMED)?))
}

/// A fields area without the zeros it was filled up with.
fn without_filler(area: &[u8]) -> &[u8] {
    let used = area
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    &area[..used]
}
