//! The organisation key and the TLS certificate.
