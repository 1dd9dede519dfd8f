//! The count flow (PROTOCOL.md §9).

/// The most groups of a side.
pub const MAX_GROUPS: usize = 16;

/// The most elements of a group.
pub const MAX_GROUP: u32 = 1 << 22;
