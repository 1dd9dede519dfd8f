//! Tokens and what this node says about itself.
