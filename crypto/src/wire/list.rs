//! Bodies of the list flow (PROTOCOL.md §6.2).

use super::{Reader, Writer};
use crate::{
    backend::Encoded,
    fault::Fault,
    list::{MAX_CHUNK, MAX_LABEL_BYTES, MAX_SLICE_TAGS, MAX_SLICES},
    voprf::Proof,
};

/// `number(4) || count(4) || count x element(32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryBody<'a> {
    /// The chunk's number, from 0.
    pub number: u32,
    /// The blinded elements.
    pub elements: &'a [Encoded],
}

impl<'a> QueryBody<'a> {
    /// Decodes the body; the elements are checked when they are evaluated.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let number = reader.u32()?;
        let count = reader.count(MAX_CHUNK)?;
        let elements = reader.arrays(count)?;
        reader.finish()?;
        Ok(Self { number, elements })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(8 + 32 * self.elements.len())
            .u32(self.number)
            .count(self.elements.len())
            .bytes(self.elements.as_flattened())
            .finish()
    }
}

/// `number(4) || count(4) || count x element(32) || proof(64)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationBody<'a> {
    /// The chunk's number, from 0.
    pub number: u32,
    /// The evaluated elements, in the order of the query.
    pub elements: &'a [Encoded],
    /// The proof over the chunk.
    pub proof: Proof,
}

impl<'a> EvaluationBody<'a> {
    /// Decodes the body; the elements are checked when the chunk is finished.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`], [`Fault::SetTooLarge`] or [`Fault::NonCanonicalScalar`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let number = reader.u32()?;
        let count = reader.count(MAX_CHUNK)?;
        let elements = reader.arrays(count)?;
        let proof = reader.array_ref()?;
        reader.finish()?;
        Ok(Self {
            number,
            elements,
            proof: Proof::decode(proof)?,
        })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(8 + 32 * self.elements.len() + Proof::BYTES)
            .u32(self.number)
            .count(self.elements.len())
            .bytes(self.elements.as_flattened())
            .bytes(&self.proof.encode())
            .finish()
    }
}

/// `tags(8) || prefix bits(1) || 2^prefix bits x hash(32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentsBody<'a> {
    /// How many tags all slices hold together.
    pub tags: u64,
    /// How many bits of a tag say which slice it is in.
    pub prefix_bits: u8,
    /// The hash of every slice.
    pub hashes: &'a [[u8; 32]],
}

impl<'a> CommitmentsBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let tags = reader.u64()?;
        let prefix_bits = reader.u8()?;
        if prefix_bits > MAX_SLICES.ilog2() as u8 {
            return Err(Fault::SetTooLarge);
        }
        let hashes = reader.arrays(1 << prefix_bits)?;
        reader.finish()?;
        Ok(Self {
            tags,
            prefix_bits,
            hashes,
        })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(9 + 32 * self.hashes.len())
            .u64(self.tags)
            .u8(self.prefix_bits)
            .bytes(self.hashes.as_flattened())
            .finish()
    }
}

/// `index(4) || count(4) || label bytes(2) || count x tag(16) || count x sealed label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceBody<'a> {
    /// The slice's number, from 0.
    pub index: u32,
    /// Bytes of each sealed label.
    pub label_bytes: u16,
    /// The tags, strictly increasing.
    pub tags: &'a [[u8; 16]],
    /// The sealed labels back to back.
    pub labels: &'a [u8],
    /// The whole body, which the slice's commitment covers.
    pub payload: &'a [u8],
}

impl<'a> SliceBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let index = reader.u32()?;
        let count = reader.count(MAX_SLICE_TAGS)?;
        let label_bytes = reader.u16()?;
        if usize::from(label_bytes) > MAX_LABEL_BYTES {
            return Err(Fault::SetTooLarge);
        }
        let tags = reader.arrays(count)?;
        let labels = reader.bytes(count * usize::from(label_bytes))?;
        reader.finish()?;
        Ok(Self {
            index,
            label_bytes,
            tags,
            labels,
            payload,
        })
    }

    /// The bytes of a body.
    #[must_use]
    pub fn encode(index: u32, label_bytes: u16, tags: &[[u8; 16]], labels: &[u8]) -> Vec<u8> {
        Writer::with_capacity(10 + 16 * tags.len() + labels.len())
            .u32(index)
            .count(tags.len())
            .u16(label_bytes)
            .bytes(tags.as_flattened())
            .bytes(labels)
            .finish()
    }
}

/// `index(4) || count(4) || label bytes(2) || count x claim(16) || count x label`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimsBody<'a> {
    /// The number of the slice whose tags are claimed.
    pub index: u32,
    /// Bytes of each label.
    pub label_bytes: u16,
    /// The claims, in the order of the tags they claim.
    pub claims: &'a [[u8; 16]],
    /// The labels back to back.
    pub labels: &'a [u8],
}

impl<'a> ClaimsBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let index = reader.u32()?;
        let count = reader.count(MAX_SLICE_TAGS)?;
        let label_bytes = reader.u16()?;
        if usize::from(label_bytes) > MAX_LABEL_BYTES {
            return Err(Fault::SetTooLarge);
        }
        let claims = reader.arrays(count)?;
        let labels = reader.bytes(count * usize::from(label_bytes))?;
        reader.finish()?;
        Ok(Self {
            index,
            label_bytes,
            claims,
            labels,
        })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(10 + 16 * self.claims.len() + self.labels.len())
            .u32(self.index)
            .count(self.claims.len())
            .u16(self.label_bytes)
            .bytes(self.claims.as_flattened())
            .bytes(self.labels)
            .finish()
    }
}

/// `last(1) || count(4) || label bytes(2) || count x tag(16) || count x claim(16) || count x label`, tags strictly increasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierClaimsBody<'a> {
    /// Whether no further frame of this kind follows.
    pub last: bool,
    /// Bytes of each label.
    pub label_bytes: u16,
    /// The claimed tags, strictly increasing.
    pub tags: &'a [[u8; 16]],
    /// The claim on each tag.
    pub claims: &'a [[u8; 16]],
    /// The labels back to back.
    pub labels: &'a [u8],
}

impl<'a> EarlierClaimsBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`], [`Fault::SetTooLarge`] or [`Fault::TagsNotIncreasing`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let last = reader.flag()?;
        let count = reader.count(MAX_SLICE_TAGS)?;
        let label_bytes = reader.u16()?;
        if usize::from(label_bytes) > MAX_LABEL_BYTES {
            return Err(Fault::SetTooLarge);
        }
        let tags: &[[u8; 16]] = reader.arrays(count)?;
        let claims = reader.arrays(count)?;
        let labels = reader.bytes(count * usize::from(label_bytes))?;
        reader.finish()?;
        if !tags.is_sorted_by(|a, b| a < b) {
            return Err(Fault::TagsNotIncreasing);
        }
        Ok(Self {
            last,
            label_bytes,
            tags,
            claims,
            labels,
        })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(7 + 32 * self.tags.len() + self.labels.len())
            .u8(u8::from(self.last))
            .count(self.tags.len())
            .u16(self.label_bytes)
            .bytes(self.tags.as_flattened())
            .bytes(self.claims.as_flattened())
            .bytes(self.labels)
            .finish()
    }
}

/// `last(1) || count(4) || count x tag(16)`: tags of a delta run, strictly increasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagsBody<'a> {
    /// Whether no further frame of this kind follows.
    pub last: bool,
    /// The values.
    pub values: &'a [[u8; 16]],
}

impl<'a> TagsBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`], [`Fault::SetTooLarge`] or [`Fault::TagsNotIncreasing`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let last = reader.flag()?;
        let count = reader.count(MAX_SLICE_TAGS)?;
        let values: &[[u8; 16]] = reader.arrays(count)?;
        reader.finish()?;
        if !values.is_sorted_by(|a, b| a < b) {
            return Err(Fault::TagsNotIncreasing);
        }
        Ok(Self { last, values })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(5 + 16 * self.values.len())
            .u8(u8::from(self.last))
            .count(self.values.len())
            .bytes(self.values.as_flattened())
            .finish()
    }
}
