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
        let working = tokio::task::spawn_blocking(move || work(receiver, store, now));
        let broken = loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    if sender.send(Ok(message)).await.is_err() {
                        // It found something wrong and says so below.
                        break None;
                    }
                }
                Ok(None) => break None,
                Err(status) => {
                    // Half a stream is not stored.
                    let error = Error::new(Reason::Cancelled, "the stream broke off");
                    let _ = sender.send(Err(error)).await;
                    break Some(status);
                }
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

/// A stream's messages; an error if it broke off.
pub(super) type Messages<T> = mpsc::Receiver<Result<T, Error>>;

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
                while let Some(message) = messages.blocking_recv() {
                    for record in message?.records {
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
