//! Attribution requests and decisions.
//!
//! The node that receives a request is the authority on it: it alone decides, and it alone cancels, when the requester asks it
//! to. Both nodes therefore end in the same state whatever crosses on the way (docs/COLLABORATION.md "Attribution").

mod commands;
mod metrics;
mod notices;
mod rows;
mod service;
mod state;

pub use notices::register;
pub use service::Service;

pub(crate) use rows::{forget, resolve};
