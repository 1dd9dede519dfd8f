//! Bodies of the session and of the count flow (PROTOCOL.md §6.1 and §6.3).

use super::{Reader, Writer};
use crate::{
    backend::Encoded,
    count::{MAX_ELEMENTS, MAX_GROUPS},
    fault::Fault,
    list::MAX_CHUNK,
};

/// `signature(64)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmBody {
    /// The organisation key's signature over the session and the sender's role.
    pub signature: [u8; 64],
}

impl ConfirmBody {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let signature = reader.array()?;
        reader.finish()?;
        Ok(Self { signature })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.signature.to_vec()
    }
}

/// `sid(32) || received(8) || received head(32) || sent(8) || sent head(32) || signature(64)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeBody {
    /// The session to continue.
    pub session: [u8; 32],
    /// How many frames of the peer's chain the sender holds.
    pub received: u64,
    /// The chain head after those.
    pub received_head: [u8; 32],
    /// How many frames the sender has sent.
    pub sent: u64,
    /// The chain head after those.
    pub sent_head: [u8; 32],
    /// The organisation key's signature over all of it and the new connection.
    pub signature: [u8; 64],
}

impl ResumeBody {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let body = Self {
            session: reader.array()?,
            received: reader.u64()?,
            received_head: reader.array()?,
            sent: reader.u64()?,
            sent_head: reader.array()?,
            signature: reader.array()?,
        };
        reader.finish()?;
        Ok(body)
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(176)
            .bytes(&self.session)
            .u64(self.received)
            .bytes(&self.received_head)
            .u64(self.sent)
            .bytes(&self.sent_head)
            .bytes(&self.signature)
            .finish()
    }
}

/// `received(8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckBody {
    /// How many frames of the peer's chain the sender holds: the peer need not keep them any longer.
    pub received: u64,
}

impl AckBody {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let received = reader.u64()?;
        reader.finish()?;
        Ok(Self { received })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.received.to_be_bytes().to_vec()
    }
}

/// `code(2)`: a fault's number, or [`AbortBody::CANCELLED`] and its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortBody {
    /// The code. A receiver shows a number it does not know as it is.
    pub code: u16,
}

impl AbortBody {
    /// The sender's operator cancelled the run.
    pub const CANCELLED: u16 = 1000;
    /// The sender's own environment failed (disk, network, budget).
    pub const UNAVAILABLE: u16 = 1001;
    /// The sender's budget for these 30 days is used up.
    pub const BUDGET_EXHAUSTED: u16 = 1002;

    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let code = reader.u16()?;
        reader.finish()?;
        Ok(Self { code })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.code.to_be_bytes().to_vec()
    }
}

/// `commitment(32) || groups(1) || groups x size(4)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountCommitBody {
    /// The commitment to everything the sender will send.
    pub commitment: [u8; 32],
    /// The padded size of each group.
    pub sizes: Vec<u32>,
}

impl CountCommitBody {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let commitment = reader.array()?;
        let groups = usize::from(reader.u8()?);
        if groups > MAX_GROUPS {
            return Err(Fault::SetTooLarge);
        }
        let sizes = (0..groups)
            .map(|_| reader.u32())
            .collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        if sizes.iter().map(|size| u64::from(*size)).sum::<u64>() > u64::from(MAX_ELEMENTS) {
            return Err(Fault::SetTooLarge);
        }
        Ok(Self { commitment, sizes })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let groups = u8::try_from(self.sizes.len()).expect("at most 16 groups");
        let writer = Writer::with_capacity(33 + 4 * self.sizes.len())
            .bytes(&self.commitment)
            .u8(groups);
        self.sizes
            .iter()
            .fold(writer, |writer, size| writer.u32(*size))
            .finish()
    }
}

/// `salt(32) || element(32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountOpenBody {
    /// The commitment's salt.
    pub salt: [u8; 32],
    /// The generator under the sender's exponent.
    pub exponent: Encoded,
}

impl CountOpenBody {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let body = Self {
            salt: reader.array()?,
            exponent: reader.array()?,
        };
        reader.finish()?;
        Ok(body)
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.salt, self.exponent].concat()
    }
}

/// `group(1) || count(4) || count x element(32)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountElementsBody<'a> {
    /// The sender's group.
    pub group: u8,
    /// The elements, strictly increasing through all chunks of the group.
    pub elements: &'a [Encoded],
}

impl<'a> CountElementsBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let group = reader.u8()?;
        let count = reader.count(MAX_CHUNK)?;
        let elements = reader.arrays(count)?;
        reader.finish()?;
        Ok(Self { group, elements })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(5 + 32 * self.elements.len())
            .u8(self.group)
            .count(self.elements.len())
            .bytes(self.elements.as_flattened())
            .finish()
    }
}

/// `group(1) || count(4) || count x hash(16)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountReturnsBody<'a> {
    /// The receiver's group.
    pub group: u8,
    /// The hashes, strictly increasing through all chunks of the group.
    pub hashes: &'a [[u8; 16]],
}

impl<'a> CountReturnsBody<'a> {
    /// Decodes the body.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`] or [`Fault::SetTooLarge`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        let group = reader.u8()?;
        let count = reader.count(MAX_CHUNK)?;
        let hashes = reader.arrays(count)?;
        reader.finish()?;
        Ok(Self { group, hashes })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_capacity(5 + 16 * self.hashes.len())
            .u8(self.group)
            .count(self.hashes.len())
            .bytes(self.hashes.as_flattened())
            .finish()
    }
}
