//! This organisation's own customers: import, normalisation, storage.
//!
//! Invariant: raw identifiers exist in this module's table and in memory on the way into it, nowhere else.
//! Invariant: a row of a hidden stage, or a private row, is filtered by the storage query (P-10).

mod apply;
mod blob;
mod draft;
pub mod files;
pub mod import;
pub mod limits;
pub mod normalize;
pub mod rows;
pub mod service;
mod spool;
pub mod stages;
