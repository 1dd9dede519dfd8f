//! The numbers of the partner program.
//!
//! Metrics are pure functions of a view of the facts and a period; definitions.rs says what each one means. Role PARTNER has
//! a view of its own company's facts and of the metrics it knows, so nothing past the filter needs to know of roles.

pub mod activity;
pub mod alerts;
pub mod answer;
pub mod breakdown;
pub mod context;
pub mod definitions;
pub mod export;
pub mod facts;
pub mod intelligence;
mod intelligence_service;
pub mod metrics;
pub mod preferences;
pub mod reports;
mod service;
pub mod settings;
pub mod targets;
pub mod usage;
pub mod view;
mod watch;

pub use intelligence_service::Intelligence;
pub use service::ProgramNumbers;
pub(crate) use watch::watch;
