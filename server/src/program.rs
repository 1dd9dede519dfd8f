//! The numbers of the partner program.

pub mod definitions;
pub mod settings;
pub mod usage;
pub mod facts;
pub mod metrics;
pub mod view;
