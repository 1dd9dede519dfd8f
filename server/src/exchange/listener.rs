//! Accepts connections, does their TLS handshakes side by side, and hands them to gRPC.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{EXPORTER_LABEL, Peer};

/// A connection that is ready for requests.
pub(crate) struct Accepted {
    io: Box<dyn Io>,
    peer: Option<Peer>,
    _permit: OwnedSemaphorePermit,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Accepts connections for as long as the stream that is returned lives, at most `connections` at a time. Without TLS they are
/// plaintext; a caller's certificate makes it a [`Peer`].
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: usize,
    handshake_timeout: Duration,
) -> ReceiverStream<io::Result<Accepted>> {
    let (ready, stream) = mpsc::channel(8);
    let permits = Arc::new(Semaphore::new(connections));
    tokio::spawn(async move {
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&permits).acquire_owned() => match permit {
                    Ok(permit) => permit,
                    Err(_) => return,
                },
                () = ready.closed() => return,
            };
            let tcp = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, _)) => tcp,
                    Err(error) => {
                        // Out of file descriptors, say: it passes.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = ready.closed() => return,
            };
            let (ready, tls) = (ready.clone(), tls.clone());
            tokio::spawn(async move {
                match timeout(handshake_timeout, handshake(tcp, tls, permit)).await {
                    Ok(Ok(connection)) => {
                        // The receiver goes when the node stops.
                        let _ = ready.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                    Err(_) => tracing::debug!("a handshake took too long"),
                }
            });
        }
    });
    ReceiverStream::new(stream)
}

async fn handshake(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    permit: OwnedSemaphorePermit,
) -> io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Accepted {
            io: Box::new(tcp),
            peer: None,
            _permit: permit,
        });
    };
    let stream = match tls.accept(tcp).into_fallible().await {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            linger(tcp).await;
            return Err(error);
        }
    };
    let (_, session) = stream.get_ref();
    let certificate_sha256 = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(|certificate| Sha256::digest(certificate).into());
    let peer = match certificate_sha256 {
        None => None,
        Some(certificate_sha256) => Some(Peer {
            partnership_id: None,
            certificate_sha256,
            exporter: session
                .export_keying_material([0; 32], EXPORTER_LABEL, None)
                .map_err(io::Error::other)?,
        }),
    };
    Ok(Accepted {
        io: Box::new(stream),
        peer,
        _permit: permit,
    })
}

/// Lets the caller read why it was refused: closing while it still sends would discard the alert on its way.
async fn linger(mut tcp: TcpStream) {
    let mut sink = [0; 1024];
    let drained = async {
        tcp.shutdown().await?;
        let mut budget = 64;
        while budget > 0 && tcp.read(&mut sink).await? > 0 {
            budget -= 1;
        }
        Ok::<_, io::Error>(())
    };
    // Whether it reads it is its own affair.
    let _ = timeout(Duration::from_secs(1), drained).await;
}

/// What a connection's requests carry in their extensions.
#[derive(Clone)]
pub(crate) struct Connection(pub(super) Option<Peer>);

impl Connected for Accepted {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        Connection(self.peer.clone())
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
