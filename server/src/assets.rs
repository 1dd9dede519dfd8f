//! Files shared with a partner.
