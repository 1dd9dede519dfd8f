//! What a run found: matrix, list, explanations.

mod files;
pub mod graph;
pub mod reader;
pub mod writer;
