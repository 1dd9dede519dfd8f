//! Plans and drives runs of the matching protocol.
