//! The Overlap node.
//!
//! Layers and invariants: docs/ARCHITECTURE.md.

// The tests' oracle, which the library's own tests use too, calls this crate by its name.
#[cfg(test)]
extern crate self as overlap_server;

pub mod admin;
pub mod assets;
pub mod attribution;
pub mod audit;
pub mod auth;
pub mod changes;
pub mod clock;
pub mod collaboration;
pub mod config;
pub mod convert;
pub mod customers;
pub mod demo;
pub mod engagement;
pub mod error;
pub mod exchange;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod identity;
pub mod matching;
mod metrics;
pub mod node;
pub mod notices;
pub mod overlap;
mod paging;
#[cfg(feature = "parquet")]
mod parquet_file;
pub mod partner_info;
pub mod partnership;
pub mod program;
pub mod records;
pub mod serve;
pub mod sharing;
pub mod storage;
mod streams;
pub mod telemetry;
pub mod timeline;
