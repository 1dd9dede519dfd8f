//! Node to node: mutually pinned TLS 1.3 under gRPC.
