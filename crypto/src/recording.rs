//! Recordings: the frames of a run as they passed, for an audit later (PROTOCOL.md §10.1).
//!
//! A recording is [`MAGIC`] and then entries, each a header of [`HEADER_BYTES`] bytes and a body. It holds what crossed the
//! wire, in the clear, and no secret of either side.

use crate::{
    fault::Fault,
    plan::Role,
    wire::{Flow, FrameKind, Reader, Writer},
};

/// What a recording begins with.
pub const MAGIC: &[u8; 8] = b"OVLREC1\n";
/// Bytes of an entry's header.
pub const HEADER_BYTES: usize = 15;
/// The longest body: a slice of the most tags with the longest labels fits.
pub const MAX_BODY_BYTES: u32 = 128 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A frame; its payload is the body.
    Frame {
        /// Who sent it.
        sender: Role,
        /// The conversation.
        flow: Flow,
        /// What the payload is.
        kind: FrameKind,
        /// Its number in its direction of its flow.
        sequence: u64,
    },
    /// The frames from here on went through a connection with this TLS exporter: the body, 32 bytes.
    Connection,
    /// The recorder stopped here, at its limit of bytes or because it could not write; no body.
    Stopped,
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What the entry is.
    pub kind: EntryKind,
    /// Bytes of the body that follows.
    pub body_bytes: u32,
}

impl EntryHeader {
    /// The bytes of the header: `u8 what, u8 flow, u8 kind, u64 sequence, u32 length`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (what, flow, kind, sequence) = match self.kind {
            EntryKind::Frame {
                sender,
                flow,
                kind,
                sequence,
            } => (sender.code(), flow.code(), kind.code(), sequence),
            EntryKind::Connection => (2, 0, 0, 0),
            EntryKind::Stopped => (3, 0, 0, 0),
        };
        Writer::with_capacity(HEADER_BYTES)
            .u8(what)
            .u8(flow)
            .u8(kind)
            .u64(sequence)
            .u32(self.body_bytes)
            .finish()
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`Fault::MalformedPayload`], [`Fault::UnknownFlow`], [`Fault::UnknownKind`], [`Fault::WrongFlow`] or
    /// [`Fault::SetTooLarge`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        let (what, flow, kind) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let (sequence, body_bytes) = (reader.u64()?, reader.u32()?);
        reader.finish()?;
        if body_bytes > MAX_BODY_BYTES {
            return Err(Fault::SetTooLarge);
        }
        let frame = |sender| -> Result<EntryKind, Fault> {
            let frame = crate::wire::Frame::from_raw(flow.into(), kind.into(), sequence, &[])?;
            Ok(EntryKind::Frame {
                sender,
                flow: frame.flow,
                kind: frame.kind,
                sequence,
            })
        };
        let bare = (flow, kind, sequence) == (0, 0, 0);
        let kind = match (what, body_bytes) {
            (0, _) => frame(Role::Initiator)?,
            (1, _) => frame(Role::Acceptor)?,
            (2, 32) if bare => EntryKind::Connection,
            (3, 0) if bare => EntryKind::Stopped,
            _ => return Err(Fault::MalformedPayload),
        };
        Ok(Self { kind, body_bytes })
    }
}
