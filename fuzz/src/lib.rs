//! What the fuzz targets share: scripts of frames, honest runs to take them from, a bound on memory, seeds.

#![allow(clippy::unwrap_used, reason = "a target that cannot go on fails")]

pub mod memory;
pub mod node;
pub mod runs;
pub mod script;
pub mod seeds;

#[path = "../../crypto/tests/support/mod.rs"]
pub mod support;

use overlap_crypto::{
    fault::{Error, Fault},
    wire::Message,
};

/// A peer's fault has a code that stands for it alone.
pub fn refused(fault: Fault) {
    assert_eq!(Fault::from_code(fault.code()), Some(fault));
    assert_eq!(Fault::from_name(fault.name()), Some(fault));
}

/// Whatever a peer sends is the peer's fault, never this side's misuse.
pub fn peer_fault(error: Error) {
    match error {
        Error::Peer(fault) => refused(fault),
        other => panic!("{other}"),
    }
}

/// The bytes of a decoded body.
#[must_use]
pub fn encode(message: &Message<'_>) -> Vec<u8> {
    match message {
        Message::Hello(body) => body.encode(),
        Message::Confirm(body) => body.encode(),
        Message::Report(body) => body.encode(),
        Message::Receipt(body) => body.encode(),
        Message::Resume(body) => body.encode(),
        Message::Abort(body) => body.encode(),
        Message::Ack(body) => body.encode(),
        Message::Query(body) => body.encode(),
        Message::Evaluation(body) => body.encode(),
        Message::Commitments(body) => body.encode(),
        Message::Slice(body) => body.payload.to_vec(),
        Message::Claims(body) => body.encode(),
        Message::Removals(body) | Message::Withdrawals(body) => body.encode(),
        Message::EarlierClaims(body) => body.encode(),
        Message::CountCommit(body) => body.encode(),
        Message::CountOpen(body) => body.encode(),
        Message::CountElements(body) => body.encode(),
        Message::CountReturns(body) => body.encode(),
        other => panic!("{other:?}"),
    }
}
