//! OVL1: two parties find out which identifiers they share, and nothing else.
//!
//! The protocol is specified byte by byte in docs/PROTOCOL.md. This crate does no I/O: it knows no clock, file, socket or
//! runtime, and takes its randomness from the caller.

pub mod audit;
pub mod backend;
pub mod context;
pub mod count;
pub mod fault;
pub mod handshake;
pub mod item;
pub mod list;
pub mod plan;
pub mod receipt;
pub mod recording;
pub mod report;
pub mod secrets;
pub mod session;
pub mod signature;
pub mod suite;
pub mod terms;
pub mod transcript;
pub mod voprf;
pub mod wire;

#[cfg(test)]
fn test_rng(seed: u64) -> rand_chacha::ChaCha20Rng {
    use rand_core::SeedableRng;
    rand_chacha::ChaCha20Rng::seed_from_u64(seed)
}
