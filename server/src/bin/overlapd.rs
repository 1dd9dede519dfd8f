//! overlapd.
fn main() {}
