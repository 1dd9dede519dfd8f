//! Sharing permissions.

pub mod policy;
