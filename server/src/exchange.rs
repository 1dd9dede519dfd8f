//! Node to node: mutually pinned TLS 1.3 under gRPC (PROTOCOL.md "Handshake").
//!
//! Invariant: no byte of a request is read before the caller's certificate was found in the [`Directory`], or an invitation is
//! outstanding and the caller may then do nothing but redeem it.

mod client;
mod directory;
mod link;
mod listener;
mod service;
mod tls;

use overlap_proto::exchange::v1;

pub use client::{open_run, open_run_as, resume_run};
pub use directory::Directory;
pub use link::Link;
pub use overlap_proto::exchange::v1::Frame;

pub(crate) use client::{CONNECTION_WINDOW_BYTES, Call, KEEPALIVE, STREAM_WINDOW_BYTES, connect};
pub(crate) use listener::{Accepted, Allowance, accept};
pub(crate) use service::routes;
pub(crate) use tls::server_config;

use crate::error::{Error, Reason};

/// What both sides call the protocol they speak.
pub const PROTOCOL_VERSION: &str = "OVL1";

/// RFC 5705 label of the value that binds what both sides sign to their connection.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-overlap-ovl1";

/// The caller of an exchange request, in the request's extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The connected partnership whose certificate the caller has; none while it redeems an invitation.
    pub partnership_id: Option<String>,
    /// SHA-256 of the caller's end-entity certificate.
    pub certificate_sha256: [u8; 32],
    /// The TLS exporter of the connection.
    pub exporter: [u8; 32],
}

impl Peer {
    /// The caller of a request.
    ///
    /// # Errors
    /// `INTERNAL` if the request did not come over this module's listener.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Error> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Error::internal("an exchange request without a peer"))
    }

    /// The partnership the caller belongs to.
    ///
    /// # Errors
    /// `PEER_UNKNOWN` if it belongs to none.
    pub(crate) fn partnership_id(&self) -> Result<&str, Error> {
        self.partnership_id.as_deref().ok_or_else(unknown_peer)
    }
}

/// What a caller without a partnership is told.
pub(crate) fn unknown_peer() -> Error {
    Error::new(
        Reason::PeerUnknown,
        "the certificate is not that of a connected partner: the partnership may have been revoked",
    )
}

/// The error as a partner's node may know it: its stable reason. The detail stays in our log.
pub(crate) fn for_peer(error: &Error) -> tonic::Status {
    tracing::info!(reason = error.reason().name(), detail = %error, "a partner's call failed");
    Error::new(error.reason(), error.reason().summary()).into()
}

/// A frame with the run it belongs to, as the caller's stream carries it.
fn request(run_id: [u8; 16], frame: Option<Frame>) -> v1::RunRequest {
    v1::RunRequest {
        run_id: run_id.to_vec(),
        frame,
        resumes: false,
    }
}
