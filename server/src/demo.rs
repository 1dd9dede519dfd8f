//! Two full nodes on loopback with sample companies.
