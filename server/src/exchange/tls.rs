//! TLS 1.3 with pinned certificates, both ways: no certificate authority, no resumption, no tickets.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    clock::Clock,
    error::Error,
    identity::{Identity, fingerprint, validity},
    node::Node,
};

const ALPN: &[u8] = b"h2";

/// The exchange listener's configuration.
///
/// # Errors
/// `INTERNAL` if the TLS library refuses the node's own keys.
pub(crate) fn server_config(node: &Arc<Node>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = PinnedCallers {
        node: Arc::downgrade(node),
        provider: Arc::clone(&provider),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(
            vec![node.identity.certificate().clone()],
            node.identity.tls_key(),
        )
        .map_err(unusable)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The configuration for a call to the node that has one certificate.
///
/// # Errors
/// `INTERNAL` if the TLS library refuses the node's own keys.
pub(super) fn client_config(
    identity: &Identity,
    clock: Arc<dyn Clock>,
    pinned: [u8; 32],
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = PinnedCallee {
        pinned,
        clock,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.certificate().clone()], identity.tls_key())
        .map_err(unusable)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn unusable(error: rustls::Error) -> Error {
    Error::internal(format!("TLS configuration: {error}"))
}

/// Refuses certificates outside their time.
fn in_time(certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(), rustls::Error> {
    let (from, until) = validity(certificate).map_err(|_| CertificateError::BadEncoding)?;
    if now < from {
        return Err(CertificateError::NotValidYet.into());
    }
    if now >= until {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// The signatures of TLS 1.3, checked by the provider.
macro_rules! tls13_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.3 only".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(
                message,
                certificate,
                signature,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}

/// Admits callers whose certificate is pinned or that have yet to learn that it no longer is, and any while an invitation is
/// outstanding.
struct PinnedCallers {
    node: Weak<Node>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for PinnedCallers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PinnedCallers")
    }
}

impl ClientCertVerifier for PinnedCallers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let node = self
            .node
            .upgrade()
            .ok_or_else(|| rustls::Error::General("the node is gone".to_owned()))?;
        let hash: [u8; 32] = Sha256::digest(end_entity).into();
        let known = node
            .partners
            .partnership_id(&hash)
            .or_else(|| node.partners.leaving(&hash));
        let now = node.now();
        if known.is_none() && !node.partners.invites_outstanding(now) {
            tracing::warn!(
                fingerprint = fingerprint(&hash),
                "refused a connection: the certificate is not that of a connected partner"
            );
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        in_time(end_entity, now).inspect_err(|error| {
            tracing::warn!(
                partner = known.as_deref().unwrap_or("unknown"),
                fingerprint = fingerprint(&hash),
                "refused a connection: {error}"
            );
        })?;
        Ok(ClientCertVerified::assertion())
    }

    tls13_signatures!();
}

/// Accepts exactly one certificate.
struct PinnedCallee {
    pinned: [u8; 32],
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for PinnedCallee {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PinnedCallee")
    }
}

impl ServerCertVerifier for PinnedCallee {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash: [u8; 32] = Sha256::digest(end_entity).into();
        // Both are public: nothing is learnt from the time the comparison takes.
        if hash != self.pinned {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        in_time(end_entity, self.clock.now())?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}
