//! Plans and drives runs of the matching protocol.
//!
//! A run reads one snapshot of the disclosed customers ([`local_customers`]), plans which flows it takes ([`planner`]), and
//! drives them over a link. What it found is handed to [`crate::overlap`].

pub mod keys;
pub mod ledger;
pub mod local_customers;
pub mod planner;
pub mod release;
pub mod spool;
