//! Uploads, which must not be taken for finished when they broke off.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    future::{self, BoxFuture},
    stream::{self, BoxStream, Stream, StreamExt as _},
};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::{Client, Error};

/// What the node may take, beyond the deadline, to refuse an upload that was broken off.
const REFUSAL_GRACE: Duration = Duration::from_secs(5);

/// Messages, and then the last one: without it a node stores nothing.
pub(crate) fn ended<Q: Send + 'static>(
    messages: impl Stream<Item = Result<Q, Error>> + Send + 'static,
    last: Q,
) -> impl Stream<Item = Result<Q, Error>> + Send + 'static {
    messages.chain(stream::once(future::ready(Ok(last))))
}

/// Items a message of an upload.
const BATCH: usize = 500;
/// Bytes of items a message of an upload. A node takes messages of 512 KiB at the least (`limits.max_request_bytes`).
const BATCH_BYTES: usize = 256 << 10;
/// What an item takes beside its own bytes: its tag and length.
const ITEM_BYTES: usize = 6;

/// Items as they go into messages: [`BATCH`] of them, fewer where they would exceed [`BATCH_BYTES`]. A larger one goes alone.
pub(crate) fn batches<T: Message>(
    items: impl Stream<Item = T> + Send,
) -> impl Stream<Item = Vec<T>> + Send {
    let state = (Box::pin(items), None);
    stream::unfold(state, |(mut items, mut held): (_, Option<T>)| async move {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let item = match held.take() {
                Some(item) => Some(item),
                None => items.next().await,
            };
            let Some(item) = item else {
                return (!batch.is_empty()).then_some((batch, (items, None)));
            };
            bytes += item.encoded_len() + ITEM_BYTES;
            if bytes > BATCH_BYTES && !batch.is_empty() {
                return Some((batch, (items, Some(item))));
            }
            batch.push(item);
            if batch.len() == BATCH {
                return Some((batch, (items, None)));
            }
        }
    })
}

/// Why an upload was broken off.
#[derive(Clone, Default)]
pub(crate) struct Cause(Arc<Mutex<Option<Error>>>);

impl Cause {
    fn set(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Client {
    /// A request that streams messages. A node cannot tell a cancelled stream from one that ended, so that where the
    /// source breaks or the deadline passes, `refused` goes out: a message that the node must refuse.
    pub(crate) fn upload<Q: Send + 'static>(
        &self,
        messages: impl Stream<Item = Result<Q, Error>> + Send + 'static,
        refused: Q,
    ) -> (Request<BoxStream<'static, Q>>, Cause) {
        let cause = Cause::default();
        let broken = cause.clone();
        let late = Error::Deadline {
            endpoint: self.endpoint().to_owned(),
        };
        let deadline = tokio::time::Instant::now() + self.transfer_timeout;
        let state = (messages.boxed(), Some((refused, late)));
        let messages = stream::unfold(state, move |(mut messages, open)| {
            let broken = broken.clone();
            async move {
                let (refused, late) = open?;
                let message = tokio::select! {
                    message = messages.next() => message?,
                    () = tokio::time::sleep_until(deadline) => {
                        broken.set(late);
                        return Some((refused, (messages, None)));
                    }
                };
                match message {
                    Ok(message) => Some((message, (messages, Some((refused, late))))),
                    Err(error) => {
                        broken.set(error);
                        Some((refused, (messages, None)))
                    }
                }
            }
        });
        let mut request = Request::new(messages.boxed());
        request.set_timeout(self.transfer_timeout + REFUSAL_GRACE);
        (request, cause)
    }

    /// Waits for the answer to an upload. The call is boxed because the compiler cannot see that the stream in it may move
    /// between threads.
    pub(crate) async fn uploaded<A>(
        &self,
        cause: Cause,
        call: BoxFuture<'_, Result<Response<A>, Status>>,
    ) -> Result<A, Error> {
        let answer = self
            .answer_within(self.transfer_timeout + REFUSAL_GRACE, call)
            .await;
        // The refusal we asked for is not the news.
        match cause.take() {
            Some(cause) => Err(cause),
            None => answer,
        }
    }
}
