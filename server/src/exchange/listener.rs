//! Accepts connections, does their TLS handshakes side by side, and hands them to gRPC.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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

/// What an HTTP/2 connection begins with (RFC 9113 §3.4). Whoever connects and then says nothing holds a place for no longer than
/// a handshake may take.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is ready for requests.
pub(crate) struct Accepted {
    io: Box<dyn Io>,
    /// How much of the preface, which is read already, is still to be handed on.
    preface_left: usize,
    peer: Option<Peer>,
    _place: Option<Place>,
    _permit: OwnedSemaphorePermit,
}

/// Who shares an allowance of connections: a partner's certificate, or everybody who has none that is pinned.
type Bucket = Box<dyn Fn(&[u8; 32]) -> [u8; 32] + Send + Sync>;

/// How many connections a listener serves.
pub(crate) struct Allowance {
    /// Of everybody.
    pub(crate) connections: usize,
    /// Of one bucket: a partner must not be able to take all.
    pub(crate) of_one: usize,
    /// Finds a caller's bucket by its certificate's hash.
    pub(crate) bucket: Bucket,
    /// Time for the TLS handshake and the HTTP/2 preface.
    pub(crate) handshake_timeout: Duration,
}

/// Connections by bucket.
#[derive(Default)]
struct Places(Mutex<HashMap<[u8; 32], usize>>);

/// One connection's place in its bucket.
struct Place(Arc<Places>, [u8; 32]);

impl Places {
    fn take(self: &Arc<Self>, bucket: [u8; 32], most: usize) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(bucket).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place(Arc::clone(self), bucket))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Accepts connections for as long as the stream that is returned lives, as many at a time as allowed. Without TLS they are
/// plaintext; a caller's certificate makes it a [`Peer`].
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    allowance: Allowance,
) -> ReceiverStream<io::Result<Accepted>> {
    let (ready, stream) = mpsc::channel(8);
    let permits = Arc::new(Semaphore::new(allowance.connections));
    let allowance = Arc::new(allowance);
    let places = Arc::new(Places::default());
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
            let (allowance, places) = (Arc::clone(&allowance), Arc::clone(&places));
            tokio::spawn(async move {
                let handshake = handshake(tcp, tls, permit, &allowance, &places);
                match timeout(allowance.handshake_timeout, handshake).await {
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
    allowance: &Allowance,
    places: &Arc<Places>,
) -> io::Result<Accepted> {
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Accepted {
            io: Box::new(read_preface(tcp).await?),
            preface_left: PREFACE.len(),
            peer: None,
            _place: None,
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
    let place = match &peer {
        None => None,
        Some(peer) => {
            let bucket = (allowance.bucket)(&peer.certificate_sha256);
            let place = places.take(bucket, allowance.of_one);
            Some(place.ok_or_else(|| io::Error::other("too many connections of one caller"))?)
        }
    };
    Ok(Accepted {
        io: Box::new(read_preface(stream).await?),
        preface_left: PREFACE.len(),
        peer,
        _place: place,
        _permit: permit,
    })
}

/// Reads the preface, which is handed on from memory.
async fn read_preface<T: Io>(mut io: T) -> io::Result<T> {
    let mut preface = [0; PREFACE.len()];
    io.read_exact(&mut preface).await?;
    if preface != *PREFACE {
        return Err(io::Error::other("the caller does not speak HTTP/2"));
    }
    Ok(io)
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
        if self.preface_left > 0 {
            let left = &PREFACE[PREFACE.len() - self.preface_left..];
            let length = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..length]);
            self.preface_left -= length;
            return Poll::Ready(Ok(()));
        }
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
