//! This organisation's own customers: import, normalisation, storage.

pub mod rows;
