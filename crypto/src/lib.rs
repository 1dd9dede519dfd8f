//! OVL1: two parties find out which identifiers they share, and nothing else.
//!
//! The protocol is specified byte by byte in docs/PROTOCOL.md. This crate does no I/O: it knows no clock, file, socket or
//! runtime, and takes its randomness from the caller.

pub mod backend;
pub mod terms;
