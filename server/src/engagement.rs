//! Portal activity: sessions, timelines, leaderboard.
//!
//! Invariant: answers depend on which events are stored, never on the order they arrived in. Events of a UTC day lie in one
//! block per shard of partners; beside it lie the session fragments they come to, and every figure is a sum over fragments.

pub mod blocks;
mod convert;
pub mod export;
pub mod figures;
pub mod ingest;
pub mod leaderboard;
pub mod names;
pub mod overview;
pub mod places;
pub mod population;
pub mod scan;
pub mod score;
mod service;
pub mod sessions;
pub mod trends;

pub use service::Engagement;

/// Version of the definitions of docs/METRICS.md, "Engagement".
pub const DEFINITION_VERSION: u32 = 1;
