//! Two full nodes on loopback with sample companies.

pub mod companies;
pub mod random;
