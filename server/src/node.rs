//! Everything a running node consists of.
