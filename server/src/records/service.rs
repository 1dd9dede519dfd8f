//! `RecordService`.

use std::sync::Arc;

use overlap_proto::v1::{self, record_service_server::RecordService};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::{
    batch::{Batch, Refusals},
    import,
    kind::Kind,
    paging::Page,
    store::{self, Outcome},
    times,
};
use crate::{
    auth::{Caller, Role},
    clock::Clock,
    error::{Error, Reason},
    storage::Store,
};

crate::paged!(v1::ListRecordsRequest);

/// Messages read ahead of the one being checked.
const READ_AHEAD: usize = 4;

/// The service over a store.
pub struct Records {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Records {
    /// The service over `store`, telling time by `clock`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Hands a stream's messages to `work`, which runs off the asynchronous runtime.
    async fn take<T: Send + 'static>(
        &self,
        mut stream: Streaming<T>,
        work: impl FnOnce(Messages<T>, Store, times::Nanos) -> Result<Outcome, Refusals>
        + Send
        + 'static,
    ) -> Result<Outcome, Status> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let (store, now) = (self.store.clone(), times::of(self.clock.now()));
        let working = tokio::task::spawn_blocking(move || work(Messages(receiver), store, now));
        // If the caller goes away, this future is dropped without sending the end, and nothing is stored.
        let broken = loop {
            let message = stream.message().await;
            if matches!(message, Ok(None)) {
                // A reset by the caller looks like the end of the stream; waiting once lets the server see the reset and
                // drop this future.
                tokio::task::yield_now().await;
            }
            let is_last = !matches!(message, Ok(Some(_)));
            let (part, broken) = match message {
                Ok(Some(message)) => (Some(Part::Message(message)), None),
                Ok(None) => (Some(Part::End), None),
                Err(status) => (None, Some(status)),
            };
            if let Some(part) = part
                && sender.send(part).await.is_err()
            {
                // It found something wrong and says so below.
                break None;
            }
            if is_last {
                break broken;
            }
        };
        drop(sender);
        let outcome = working.await.map_err(|error| {
            Error::internal(format!("taking records in ended abnormally: {error}"))
        })?;
        match broken {
            Some(status) => Err(status),
            None => outcome.map_err(Status::from),
        }
    }
}

enum Part<T> {
    Message(T),
    End,
}

/// A stream's messages.
pub(super) struct Messages<T>(mpsc::Receiver<Part<T>>);

impl<T> Messages<T> {
    /// The next message, nothing after the last one. Blocks.
    ///
    /// # Errors
    /// `CANCELLED` if the stream broke off.
    pub(super) fn next_message(&mut self) -> Result<Option<T>, Error> {
        match self.0.blocking_recv() {
            Some(Part::Message(message)) => Ok(Some(message)),
            Some(Part::End) => Ok(None),
            None => Err(Error::new(
                Reason::Cancelled,
                "the stream broke off: nothing was stored",
            )),
        }
    }
}

#[tonic::async_trait]
impl RecordService for Records {
    async fn ingest_records(
        &self,
        request: Request<Streaming<v1::IngestRecordsRequest>>,
    ) -> Result<Response<v1::IngestRecordsResponse>, Status> {
        Caller::of(&request)?.require(&Role::ADMINS)?;
        let outcome = self
            .take(request.into_inner(), |mut messages, store, now| {
                let mut batch = Batch::new(now);
                while let Some(message) = messages.next_message()? {
                    for record in message.records {
                        batch.push(record, |index, field| format!("records[{index}].{field}"))?;
                    }
                }
                batch.store(&store)
            })
            .await?;
        Ok(Response::new(v1::IngestRecordsResponse {
            inserted: outcome.inserted,
            updated: outcome.updated,
            unchanged: outcome.unchanged,
        }))
    }

    async fn import_records(
        &self,
        request: Request<Streaming<v1::ImportRecordsRequest>>,
    ) -> Result<Response<v1::ImportRecordsResponse>, Status> {
        Caller::of(&request)?.require(&Role::ADMINS)?;
        let outcome = self.take(request.into_inner(), import::import).await?;
        Ok(Response::new(v1::ImportRecordsResponse {
            inserted: outcome.inserted,
            updated: outcome.updated,
            unchanged: outcome.unchanged,
        }))
    }

    async fn get_record(
        &self,
        request: Request<v1::GetRecordRequest>,
    ) -> Result<Response<v1::GetRecordResponse>, Status> {
        Caller::of(&request)?.require(&Role::MANAGERS)?;
        let request = request.into_inner();
        let kind = kind(request.kind)?;
        let record = self
            .store
            .read(move |connection| {
                store::find(connection, kind, &request.id)?
                    .ok_or_else(|| Error::not_found(kind.field(), &request.id))
            })
            .await?;
        Ok(Response::new(v1::GetRecordResponse {
            record: Some(record),
        }))
    }

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let request = request.into_inner();
        let kind = kind(request.kind)?;
        let page = Page::of(&request, &caller, times::of(self.clock.now()), 100, 1000)?;
        let answer = self
            .store
            .read(move |connection| {
                let limit = page.size + 1;
                let mut records =
                    store::page(connection, kind, &request.partner, &page.after, limit)?;
                let more = records.len() > page.size;
                records.truncate(page.size);
                let next_page_token = match records.last() {
                    Some(last) if more => page.token(&last.id),
                    _ => String::new(),
                };
                Ok(v1::ListRecordsResponse {
                    records,
                    next_page_token,
                })
            })
            .await?;
        Ok(Response::new(answer))
    }
}

fn kind(code: i32) -> Result<Kind, Error> {
    v1::RecordKind::try_from(code)
        .ok()
        .and_then(Kind::from_proto)
        .filter(|kind| *kind != Kind::PortalEvent)
        .ok_or_else(|| {
            Error::invalid(
                "kind",
                "must be a kind of record other than PORTAL_EVENT, which are counted, not kept",
            )
        })
}
