//! What a run found: matrix, list, explanations.

pub mod explain;
pub(crate) mod files;
pub mod graph;
pub mod last;
pub(crate) mod layer;
pub mod matrix;
mod members;
pub(crate) mod merge;
pub(crate) mod part;
pub mod reader;
mod service;
pub mod targets;
pub mod writer;

pub use last::own_tier_allows_naming;
pub use service::Service;
