//! The HELLO frame (PROTOCOL.md §5.2).

use rand_core::CryptoRng;

use crate::{
    backend::Encoded,
    context::{Context, OrganizationId, RunId},
    fault::Fault,
    list::MAX_SET,
    receipt::SignedReceipt,
    suite::{SUITE, VERSION},
    voprf::{Proof, SecretKey, prove_key},
    wire::{Reader, Writer},
};

/// The longest hello.
pub const MAX_HELLO_BYTES: usize = 8_192;

/// Whether a run covers everything or what changed since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every item.
    Full,
    /// Changes since the epoch's last run.
    Delta,
}

/// Who queries for list x list cells in this epoch, as far as the sender remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListQuerier {
    /// No run of this epoch has settled it: the smaller side does.
    Open,
    /// The sender of the hello.
    Sender,
    /// Its receiver.
    Receiver,
}

/// The VOPRF key under which the sender evaluates for the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochKey {
    /// The epoch, counting up for ever.
    pub epoch: u64,
    /// The key.
    pub public_key: Encoded,
    /// The proof of possession.
    pub proof: Proof,
}

impl EpochKey {
    /// The hello's statement about `key`, which `evaluator` uses for `receiver` in this epoch.
    pub fn new(
        key: &SecretKey,
        epoch: u64,
        evaluator: &OrganizationId,
        receiver: &OrganizationId,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let public_key = *key.public_key().encoded();
        let context = Context::new(evaluator, receiver, epoch, &public_key);
        Self {
            epoch,
            public_key,
            proof: prove_key(key, &context, rng),
        }
    }
}

/// Each side's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The run, named by its initiator; the acceptor repeats it.
    pub run: RunId,
    /// 32 fresh random bytes.
    pub nonce: [u8; 32],
    /// Who says hello.
    pub sender: OrganizationId,
    /// To whom.
    pub receiver: OrganizationId,
    /// Full or delta.
    pub mode: Mode,
    /// The hash of the terms the sender holds.
    pub terms: [u8; 32],
    /// What the sender remembers about the roles of this epoch.
    pub list_querier: ListQuerier,
    /// Number of its list-tier queries in this run, padded.
    pub list_queries: u64,
    /// Number of its count-tier queries in this run, padded.
    pub count_queries: u64,
    /// Number of tags it publishes in this run, padded.
    pub tags: u64,
    /// How many receipts the sender has signed in this partnership.
    pub run_counter: u64,
    /// The hash of the sender's last own receipt for this partnership, or zeros.
    pub receipt_head: [u8; 32],
    /// The sender's VOPRF key, if it evaluates.
    pub epoch_key: Option<EpochKey>,
    /// The size of each stage's list tier in local customers, in the order of the terms, rounded down to a multiple of 16;
    /// 0 for other tiers.
    pub stage_sizes: Vec<u32>,
    /// The receiver's last receipt that the sender holds, so that the receiver notices if it was rolled back.
    pub peer_receipt: Option<SignedReceipt>,
}

impl Hello {
    /// Rounds a stage's size to what a hello may say.
    #[must_use]
    pub const fn round_stage_size(size: u32) -> u32 {
        size - size % 16
    }

    /// Decodes the body of a HELLO frame. Version and suite are read first, so that a hello of another version is named as
    /// such whatever follows.
    ///
    /// # Errors
    /// [`Fault::UnsupportedVersion`], [`Fault::UnknownSuite`], [`Fault::SetTooLarge`], [`Fault::NonCanonicalScalar`] or
    /// [`Fault::MalformedPayload`].
    pub fn decode(payload: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(payload);
        if reader.u16()? != VERSION {
            return Err(Fault::UnsupportedVersion);
        }
        if reader.u16()? != SUITE {
            return Err(Fault::UnknownSuite);
        }
        if payload.len() > MAX_HELLO_BYTES {
            return Err(Fault::MalformedPayload);
        }
        let run = RunId(reader.array()?);
        let nonce = reader.array()?;
        let sender = OrganizationId(reader.array()?);
        let receiver = OrganizationId(reader.array()?);
        let mode = match reader.u8()? {
            0 => Mode::Full,
            1 => Mode::Delta,
            _ => return Err(Fault::MalformedPayload),
        };
        let terms = reader.array()?;
        let list_querier = match reader.u8()? {
            0 => ListQuerier::Open,
            1 => ListQuerier::Sender,
            2 => ListQuerier::Receiver,
            _ => return Err(Fault::MalformedPayload),
        };
        let mut size = || match reader.u64()? {
            size if size > MAX_SET => Err(Fault::SetTooLarge),
            size => Ok(size),
        };
        let (list_queries, count_queries, tags) = (size()?, size()?, size()?);
        let run_counter = reader.u64()?;
        let receipt_head = reader.array()?;
        let epoch_key = if reader.flag()? {
            Some(EpochKey {
                epoch: reader.u64()?,
                public_key: reader.array()?,
                proof: Proof::decode(reader.array_ref()?)?,
            })
        } else {
            None
        };
        let stages = reader.u8()?;
        let stage_sizes = (0..stages)
            .map(|_| match reader.u32()? {
                size if size != Self::round_stage_size(size) => Err(Fault::MalformedPayload),
                size => Ok(size),
            })
            .collect::<Result<_, _>>()?;
        let peer_receipt = if reader.flag()? {
            let length = reader.u16()?;
            Some(SignedReceipt::decode(reader.bytes(length.into())?)?)
        } else {
            None
        };
        reader.finish()?;
        Ok(Self {
            run,
            nonce,
            sender,
            receiver,
            mode,
            terms,
            list_querier,
            list_queries,
            count_queries,
            tags,
            run_counter,
            receipt_head,
            epoch_key,
            stage_sizes,
            peer_receipt,
        })
    }

    /// The bytes of the body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(1024)
            .u16(VERSION)
            .u16(SUITE)
            .bytes(&self.run.0)
            .bytes(&self.nonce)
            .bytes(&self.sender.0)
            .bytes(&self.receiver.0)
            .u8(match self.mode {
                Mode::Full => 0,
                Mode::Delta => 1,
            })
            .bytes(&self.terms)
            .u8(match self.list_querier {
                ListQuerier::Open => 0,
                ListQuerier::Sender => 1,
                ListQuerier::Receiver => 2,
            })
            .u64(self.list_queries)
            .u64(self.count_queries)
            .u64(self.tags)
            .u64(self.run_counter)
            .bytes(&self.receipt_head)
            .u8(u8::from(self.epoch_key.is_some()));
        if let Some(key) = &self.epoch_key {
            writer = writer
                .u64(key.epoch)
                .bytes(&key.public_key)
                .bytes(&key.proof.encode());
        }
        let stages = u8::try_from(self.stage_sizes.len()).expect("a side has at most 64 stages");
        writer = writer.u8(stages);
        for size in &self.stage_sizes {
            writer = writer.u32(*size);
        }
        writer = writer.u8(u8::from(self.peer_receipt.is_some()));
        if let Some(receipt) = &self.peer_receipt {
            let bytes = receipt.encode();
            let length = u16::try_from(bytes.len()).expect("a receipt has a few hundred bytes");
            writer = writer.u16(length).bytes(&bytes);
        }
        writer.finish()
    }
}
