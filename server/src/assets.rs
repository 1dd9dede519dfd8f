//! Files shared with a partner.
//!
//! What a file is called, and who may have it, is in the store; the bytes are in the node's directory under their hash. The
//! partner's node is told by notices and fetches the bytes when somebody wants them, or has them brought if it cannot call.

mod fetch;
mod files;
mod notices;
mod pieces;
mod rows;
mod service;

pub use notices::register;
pub use service::Service;

pub(crate) use fetch::serve;
pub(crate) use files::{sweep, sweep_incoming};
pub(crate) use pieces::send;
pub(crate) use rows::forget;

/// Bytes of one file.
pub const MAX_BYTES: u64 = 64 << 20;
/// Files of my own.
const MAX_OWN: u64 = 10_000;
/// Bytes of all files of my own.
const MAX_OWN_BYTES: u64 = 16 << 30;
/// Files that one partner may share.
const MAX_FROM_PARTNER: u64 = 10_000;
/// Bytes of a chunk this node sends.
const CHUNK_BYTES: usize = 256 << 10;
/// Characters of a title or a file name.
const MAX_NAME_CHARS: usize = 200;
/// Characters of a media type.
const MAX_MEDIA_TYPE_CHARS: usize = 100;
