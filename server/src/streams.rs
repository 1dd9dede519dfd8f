//! Calls that take a stream of requests: all of it, or nothing.

use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tonic::{Status, Streaming};

use crate::error::{Error, Reason};

/// Messages between the network and the work.
const QUEUE: usize = 4;
/// Longest wait for the next message.
const IDLE: Duration = Duration::from_secs(120);
/// Streams under way at once, in this process. Each keeps a thread of those that the store needs, too.
const MOST_STREAMS: usize = 64;
static STREAMS: Semaphore = Semaphore::const_new(MOST_STREAMS);

/// What reaches the work: a message, or that the caller ended the stream. A queue that closes without the latter is a stream
/// that broke.
enum Item<T> {
    Message(T),
    End,
}

/// A message of a stream whose last message says that it is.
pub(crate) trait Closing {
    /// Whether the stream is complete with this message.
    fn is_last(&self) -> bool;
}

/// A caller's messages.
pub(crate) struct Messages<T> {
    queue: mpsc::Receiver<Item<T>>,
    /// Whether the last message was there.
    complete: bool,
}

impl<T: Closing> Messages<T> {
    const fn new(queue: mpsc::Receiver<Item<T>>) -> Self {
        Self {
            queue,
            complete: false,
        }
    }

    /// The next message. The end is one only after a message that said so: hyper reports a stream that the client reset as one
    /// that ended.
    ///
    /// # Errors
    /// `STREAM_INCOMPLETE` or `CANCELLED` if the stream broke off.
    pub(crate) fn next(&mut self) -> Result<Option<T>, Error> {
        match self.queue.blocking_recv() {
            Some(Item::Message(_)) if self.complete => Err(Error::invalid(
                "last",
                "a message came after the one that said it was the last: nothing was changed",
            )),
            Some(Item::Message(message)) => {
                self.complete = message.is_last();
                Ok(Some(message))
            }
            Some(Item::End) if self.complete => Ok(None),
            Some(Item::End) => Err(Error::new(
                Reason::StreamIncomplete,
                "the stream ended without a message that sets `last`: it was cut off, and nothing was changed",
            )),
            None => Err(Error::new(
                Reason::Cancelled,
                "the stream broke off before its end: nothing was changed",
            )),
        }
    }
}

/// Runs `work` off the asynchronous runtime on the messages of a stream.
///
/// # Errors
/// What `work` reports; `DEADLINE_EXCEEDED` if the caller falls silent; `QUOTA_EXHAUSTED` with too many streams at once; what broke
/// the stream.
pub(crate) async fn run<T, R, E>(
    mut stream: Streaming<T>,
    work: impl FnOnce(Messages<T>) -> Result<R, E> + Send + 'static,
) -> Result<R, Status>
where
    T: Closing + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
    Status: From<E>,
{
    let place = STREAMS.try_acquire().map_err(|_| {
        Error::new(
            Reason::QuotaExhausted,
            format!("{MOST_STREAMS} uploads are under way: try again when one has ended"),
        )
    })?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let result = tokio::task::spawn_blocking(move || {
        // Held by the work, which may go on when the call was given up.
        let _place = place;
        work(Messages::new(receiver))
    });
    loop {
        let message = tokio::time::timeout(IDLE, stream.message())
            .await
            .map_err(|_| {
                Error::new(
                    Reason::DeadlineExceeded,
                    format!(
                        "no message for {} seconds: nothing was changed",
                        IDLE.as_secs()
                    ),
                )
            })??;
        let last = message.is_none();
        let item = message.map_or(Item::End, Item::Message);
        // A closed queue means that the work ended, with an error that says more.
        if sender.send(item).await.is_err() || last {
            break;
        }
    }
    let result = result
        .await
        .map_err(|error| Error::internal(format!("a stream's work ended abnormally: {error}")))?;
    Ok(result?)
}
