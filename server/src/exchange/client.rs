//! Calls to a partner's node. A call has one connection of its own, made before gRPC sees it: nothing reconnects by itself.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::StreamExt as _;
use hyper_util::rt::TokioIo;
use overlap_proto::exchange::v1::{RunRequest, exchange_service_client::ExchangeServiceClient};
use rustls::{AlertDescription, CertificateError, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use tower::service_fn;

use super::{
    EXPORTER_LABEL, Link,
    link::{self, QUEUED_FRAMES},
    request, tls,
};
use crate::{
    error::{DOMAIN, Error, Reason},
    identity::{SERVER_NAME, fingerprint, random},
    node::Node,
    partnership::Partnership,
};

/// HTTP/2 windows: wide enough that a frame of the largest size is not cut into round trips.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How often a connection without traffic is tried, and how long for an answer.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(20);

/// A connection to a partner's node.
pub(crate) struct Call {
    /// The calls it takes.
    pub(crate) client: ExchangeServiceClient<Channel>,
    /// The connection's TLS exporter.
    pub(crate) exporter: [u8; 32],
    endpoint: String,
    fault: Fault,
}

/// What TLS reported last on a connection: a certificate is refused after the caller believes the handshake to be over.
type Fault = Arc<Mutex<Option<Error>>>;

/// Opens a run's stream with a partner, under a new run id.
///
/// # Errors
/// `PARTNER_HAS_NO_ENDPOINT`, `PARTNER_UNREACHABLE`, `PEER_UNKNOWN` or `CERTIFICATE_EXPIRED`. What the partner's node says
/// later is an error in [`Link::incoming`].
pub async fn open_run(node: &Arc<Node>, partnership: &Partnership) -> Result<Link, Error> {
    open_run_as(node, partnership, random()?).await
}

/// [`open_run`] under a run id of one's own.
///
/// # Errors
/// As [`open_run`].
pub async fn open_run_as(
    node: &Arc<Node>,
    partnership: &Partnership,
    run_id: [u8; 16],
) -> Result<Link, Error> {
    open(node, partnership, run_id, false).await
}

/// Opens another connection for a run under way whose last one broke.
///
/// # Errors
/// As [`open_run`].
pub async fn resume_run(
    node: &Arc<Node>,
    partnership: &Partnership,
    run_id: [u8; 16],
) -> Result<Link, Error> {
    open(node, partnership, run_id, true).await
}

async fn open(
    node: &Arc<Node>,
    partnership: &Partnership,
    run_id: [u8; 16],
    resumes: bool,
) -> Result<Link, Error> {
    let mut call = connect(
        node,
        partnership.reachable()?,
        partnership.certificate_sha256,
    )
    .await?;
    let (outgoing, frames) = mpsc::channel(QUEUED_FRAMES);
    let (queue, incoming) = mpsc::channel(QUEUED_FRAMES);
    let opening = RunRequest {
        resumes,
        ..request(run_id, None)
    };
    let frames = link::with_keep_alive(node, frames).map(move |frame| request(run_id, frame));
    let requests = futures::stream::iter([opening]).chain(frames);
    let limit = link::max_message_bytes(node);
    call.client = call
        .client
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let answered = timeout(
        node.config.limits.call_timeout.duration(),
        call.client.run(requests),
    )
    .await
    .map_err(|_| call.silent())?;
    let responses = answered
        .map_err(|status| call.explain(&status))?
        .into_inner();
    let exporter = call.exporter;
    let certificate_sha256 = partnership.certificate_sha256;
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let messages = responses.map(|message| match message {
            Ok(message) => Ok((message.run_id, message.frame)),
            Err(status) => Err(call.explain(&status)),
        });
        link::pump(node, certificate_sha256, run_id, queue, messages).await;
    });
    Ok(Link {
        partnership: partnership.clone(),
        exporter,
        initiator: true,
        run_id,
        resumes,
        incoming,
        outgoing,
    })
}

/// Connects to the node at `endpoint` that has the pinned certificate.
///
/// # Errors
/// `PARTNER_UNREACHABLE`, `PEER_UNKNOWN` or `CERTIFICATE_EXPIRED`.
pub(crate) async fn connect(node: &Node, endpoint: &str, pinned: [u8; 32]) -> Result<Call, Error> {
    let unreachable = |problem: &dyn std::fmt::Display| {
        Error::new(
            Reason::PartnerUnreachable,
            format!("the partner's node at {endpoint} cannot be reached: {problem}"),
        )
    };
    let config = tls::client_config(&node.identity, Arc::clone(&node.clock), pinned)?;
    let name = ServerName::try_from(SERVER_NAME).expect("a valid name");
    let handshake = async {
        let tcp = TcpStream::connect(endpoint).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    };
    let limit = node.config.limits.connect_timeout;
    let stream = timeout(limit.duration(), handshake)
        .await
        .map_err(|_| unreachable(&format_args!("no answer within {limit}")))?
        .map_err(|error| {
            refusal(endpoint, &pinned, &error).unwrap_or_else(|| unreachable(&error))
        })?;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .map_err(|error| Error::internal(format!("TLS exporter: {error}")))?;
    let fault = Fault::default();
    let mut connection = Some(TokioIo::new(Recorded {
        stream,
        endpoint: endpoint.to_owned(),
        pinned,
        fault: Arc::clone(&fault),
    }));
    // The URI only fills the requests' authority: the connection is there already.
    let channel = Endpoint::from_static("http://node.overlap.invalid")
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(service_fn(move |_| {
            let connection = connection.take();
            async move {
                connection.ok_or_else(|| {
                    io::Error::other("the connection is gone, and a call does not reconnect")
                })
            }
        }))
        .await
        .map_err(|error| unreachable(&error))?;
    Ok(Call {
        client: ExchangeServiceClient::new(channel),
        exporter,
        endpoint: endpoint.to_owned(),
        fault,
    })
}

impl Call {
    /// What a failed call means.
    pub(crate) fn explain(&self, status: &Status) -> Error {
        let fault = self
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(fault) = fault {
            return fault;
        }
        if let Some(error) = told(status) {
            return error;
        }
        match status.code() {
            Code::Unimplemented => Error::new(
                Reason::PeerVersion,
                "the partner's node does not know this call: it runs another version",
            ),
            Code::OutOfRange | Code::ResourceExhausted => Error::new(
                Reason::PeerFault,
                "the partner's node sent a message over the limit",
            ),
            _ => Error::new(
                Reason::PartnerUnreachable,
                format!(
                    "the connection to the partner's node at {} broke",
                    self.endpoint
                ),
            ),
        }
    }

    /// A call without an answer.
    pub(crate) fn silent(&self) -> Error {
        Error::new(
            Reason::PartnerUnreachable,
            format!("the partner's node at {} does not answer", self.endpoint),
        )
    }
}

/// The error the partner's node reported, if it is one of this protocol's.
fn told(status: &Status) -> Option<Error> {
    let info = status.get_details_error_info()?;
    if info.domain != DOMAIN {
        return None;
    }
    let reason = Reason::from_name(&info.reason)?;
    let said: String = status
        .message()
        .chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect();
    let reason = match reason {
        // Its environment and its bugs are not ours.
        Reason::Internal | Reason::StorageFailed | Reason::DiskFull => Reason::PartnerUnreachable,
        reason => reason,
    };
    Some(Error::new(reason, format!("the partner's node: {said}")))
}

/// What a TLS error means, if it is one about certificates.
fn refusal(endpoint: &str, pinned: &[u8; 32], error: &io::Error) -> Option<Error> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let (reason, message) = match error {
        rustls::Error::InvalidCertificate(CertificateError::Expired) => (
            Reason::CertificateExpired,
            format!(
                "the certificate of the partner's node at {endpoint} has expired: its operator has to make a new node identity and pair again"
            ),
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet) => (
            Reason::CertificateExpired,
            format!(
                "the certificate of the partner's node at {endpoint} is not valid yet: compare both nodes' clocks"
            ),
        ),
        rustls::Error::InvalidCertificate(_) => (
            Reason::PeerUnknown,
            format!(
                "the node at {endpoint} does not have the certificate {}: it is another node, or someone in between",
                fingerprint(pinned)
            ),
        ),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => (
            Reason::CertificateExpired,
            format!(
                "the partner's node at {endpoint} says that this node's certificate has expired or is not valid yet: run `overlapd doctor`"
            ),
        ),
        rustls::Error::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        ) => (
            Reason::PeerUnknown,
            format!(
                "the partner's node at {endpoint} does not know this node's certificate: it may have revoked the partnership, or the invitation is used or expired"
            ),
        ),
        _ => return None,
    };
    Some(Error::new(reason, message))
}

/// A connection that remembers why TLS ended it.
struct Recorded {
    stream: TlsStream<TcpStream>,
    endpoint: String,
    pinned: [u8; 32],
    fault: Fault,
}

impl Recorded {
    fn record(&self, error: &io::Error) {
        if let Some(error) = refusal(&self.endpoint, &self.pinned, error) {
            self.fault
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
        }
    }
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &result {
            self.record(error);
        }
        result
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, buffer);
        if let Poll::Ready(Err(error)) = &result {
            self.record(error);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
