//! `RecordService`.

use std::sync::Arc;

use overlap_proto::v1::{self, record_service_server::RecordService};
use tonic::{Request, Response, Status, Streaming};

use super::{batch::Batch, import, kind::Kind, paging::Page, store, times};
use crate::{
    auth::{Caller, Role},
    clock::Clock,
    error::Error,
    storage::Store,
    streams::{self, Closing},
};

crate::paged!(v1::ListRecordsRequest);

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
}

impl Closing for v1::IngestRecordsRequest {
    fn is_last(&self) -> bool {
        self.last
    }
}

impl Closing for v1::ImportRecordsRequest {
    fn is_last(&self) -> bool {
        self.last
    }
}

#[tonic::async_trait]
impl RecordService for Records {
    async fn ingest_records(
        &self,
        request: Request<Streaming<v1::IngestRecordsRequest>>,
    ) -> Result<Response<v1::IngestRecordsResponse>, Status> {
        Caller::of(&request)?.require(&Role::ADMINS)?;
        let (store, now) = (self.store.clone(), times::of(self.clock.now()));
        let outcome = streams::run(request.into_inner(), move |mut messages| {
            let mut batch = Batch::new(now);
            while let Some(message) = messages.next()? {
                let message: v1::IngestRecordsRequest = message;
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
        let (store, now) = (self.store.clone(), times::of(self.clock.now()));
        let outcome = streams::run(request.into_inner(), move |messages| {
            import::import(messages, &store, now)
        })
        .await?;
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
