//! The numbers of the partner program.
