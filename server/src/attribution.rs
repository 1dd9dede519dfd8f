//! Attribution requests and decisions.
