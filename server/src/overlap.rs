//! What a run found: matrix, list, explanations.

pub(crate) mod files;
pub mod graph;
pub mod matrix;
pub mod reader;
pub mod writer;
