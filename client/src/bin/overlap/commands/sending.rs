//! Files on their way to the node: how far they are, and breaking them off.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use overlap_client::Error;
use tokio::{
    fs::File,
    io::{AsyncRead, ReadBuf},
    sync::oneshot,
};

use super::{failed, interrupts};
use crate::progress::{Meter, bytes_line};

/// A file that is being sent.
pub(super) struct Sending {
    size_bytes: Option<u64>,
    sent: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
}

impl Sending {
    /// Opens a file; its content goes to the call that sends it.
    pub(super) async fn open(path: &Path) -> anyhow::Result<(Stoppable, Self)> {
        let unreadable = |error| failed("FILE_UNREADABLE", format!("{}: {error}", path.display()));
        let file = File::open(path).await.map_err(unreadable)?;
        let metadata = file.metadata().await.map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(failed(
                "FILE_UNREADABLE",
                format!("{}: is a directory", path.display()),
            ));
        }
        let (stop, stopped) = oneshot::channel();
        let sending = Self {
            // A pipe has no size that says anything.
            size_bytes: metadata.is_file().then_some(metadata.len()),
            sent: Arc::default(),
            stop,
        };
        Ok((Stoppable { file, stopped }, sending))
    }

    pub(super) const fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// Learns how many bytes have left so far.
    pub(super) fn counter(&self) -> impl FnMut(u64) + Send + 'static {
        let sent = Arc::clone(&self.sent);
        move |bytes| sent.store(bytes, Ordering::Relaxed)
    }

    /// Waits for the answer and says on the terminal how far the file is; the first interrupt breaks it off.
    pub(super) async fn follow<A>(
        self,
        call: impl Future<Output = Result<A, Error>>,
    ) -> anyhow::Result<A> {
        let total = self.size_bytes.unwrap_or_default();
        let mut stop = Some(self.stop);
        let mut call = std::pin::pin!(call);
        let mut interrupts = interrupts();
        let mut meter = Meter::new();
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                report = &mut call => {
                    meter.clear();
                    return match report {
                        Err(Error::File { source, .. })
                            if source.get_ref().is_some_and(|cause| cause.is::<Stopped>()) =>
                        {
                            Err(failed("CANCELLED", "the import was cancelled: nothing was changed"))
                        }
                        report => Ok(report?),
                    };
                }
                _ = tick.tick() => {
                    meter.show(&bytes_line(self.sent.load(Ordering::Relaxed), total));
                }
                Some(()) = interrupts.recv() => match stop.take() {
                    Some(stop) => {
                        let _ = stop.send(());
                    }
                    None => return Err(failed("INTERRUPTED", "left before the node answered")),
                },
            }
        }
    }
}

/// A file whose reading can be broken off, so that the node learns that the rest is missing.
pub(super) struct Stoppable {
    file: File,
    stopped: oneshot::Receiver<()>,
}

/// Somebody broke off the reading; a kind of its own, because an error of the kind "interrupted" is retried.
#[derive(Debug, thiserror::Error)]
#[error("reading was broken off")]
struct Stopped;

impl AsyncRead for Stoppable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if Pin::new(&mut self.stopped).poll(context) == Poll::Ready(Ok(())) {
            return Poll::Ready(Err(io::Error::other(Stopped)));
        }
        Pin::new(&mut self.file).poll_read(context, buffer)
    }
}
