//! A caller that holds a key the other side knows, or one of its own making, and keeps to no rule.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use overlap_proto::exchange::v1::exchange_service_client::ExchangeServiceClient;
use overlap_server::identity::Identity;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
        pem::PemObject as _,
    },
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::TestNode;

/// What it shows as its own.
#[derive(Clone)]
pub struct Rogue {
    address: std::net::SocketAddr,
    config: Arc<ClientConfig>,
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Rogue {
    /// Calls `victim` with the certificate of one of its partners.
    pub fn partner(victim: &TestNode, partner: &TestNode) -> Self {
        let [_, key, certificate] = Identity::files(partner.path());
        let key = std::fs::read(key).unwrap();
        // A test node has no sealing key: magic and one byte precede the key itself.
        let key = PrivatePkcs8KeyDer::from(key[5..].to_vec());
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        Self::with(victim, certificate, key.into())
    }

    /// Calls `victim` with a certificate that nobody knows.
    pub fn stranger(victim: &TestNode) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["x.invalid".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        let secret = PrivatePkcs8KeyDer::from(key.serialize_der());
        Self::with(victim, certificate.der().clone(), secret.into())
    }

    fn with(
        victim: &TestNode,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            address: victim.exchange_addr(),
            config: Arc::new(config),
        }
    }

    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A TLS connection over which nothing was said yet.
    pub async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.config))
            .connect(ServerName::try_from("x.invalid").unwrap(), self.tcp().await)
            .await
    }

    pub async fn channel(&self) -> Result<Channel, String> {
        let stream = self.tls().await.map_err(|error| error.to_string())?;
        let mut connection = Some(TokioIo::new(stream));
        Endpoint::from_static("http://x.invalid")
            .timeout(Duration::from_secs(20))
            .connect_with_connector(service_fn(move |_| {
                let connection = connection.take();
                async move { connection.ok_or_else(|| std::io::Error::other("once")) }
            }))
            .await
            .map_err(|error| error.to_string())
    }

    pub async fn client(&self) -> ExchangeServiceClient<Channel> {
        ExchangeServiceClient::new(self.channel().await.unwrap())
    }

    /// Sends bytes in place of a message.
    pub async fn raw_call(&self, path: &'static str, bytes: Vec<u8>) -> Status {
        let mut grpc = tonic::client::Grpc::new(self.channel().await.unwrap());
        grpc.ready().await.unwrap();
        grpc.unary(
            tonic::Request::new(bytes),
            http::uri::PathAndQuery::from_static(path),
            Raw,
        )
        .await
        .expect_err("garbage is refused")
    }
}

/// Messages that are any bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf as _;
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).to_vec()))
    }
}
