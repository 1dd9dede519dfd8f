//! overlap.
fn main() {}
