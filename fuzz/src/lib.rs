//! What the fuzz targets share: scripts of frames, honest runs to take them from, a bound on memory, seeds.

#![allow(clippy::unwrap_used, reason = "a target that cannot go on fails")]

pub mod imports;
pub mod memory;
pub mod node;
pub mod parquet;
pub mod runs;
pub mod script;
pub mod seeds;

#[path = "../../crypto/tests/support/mod.rs"]
pub mod support;

use overlap_crypto::fault::{Error, Fault};

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
