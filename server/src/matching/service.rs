//! MatchService.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use overlap_proto::v1::{
    self, CancelRunRequest, CancelRunResponse, GetRunRequest, GetRunResponse, ListRunsRequest,
    ListRunsResponse, StartRunRequest, StartRunResponse, WatchRunRequest, WatchRunResponse,
    match_service_server::MatchService,
};
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    engine::{self, StartRequest},
    records::{self, RunRecord},
};
use crate::{
    audit,
    auth::{Caller, Role},
    convert::Page,
    error::Error,
    node::Node,
    partnership::{self, Partnership},
};

/// Longest request id.
const MAX_REQUEST_ID: usize = 128;
/// How long a cancelled run may take to stop before the call returns anyway.
const STOP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// MatchService over a node.
pub struct Service(Arc<Node>);

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    fn to_proto(&self, run: &RunRecord) -> v1::Run {
        run.to_proto(&run.partnership_id, self.0.matching.progress(&run.id))
    }

    async fn run(&self, caller: Caller, id: String) -> Result<RunRecord, Error> {
        self.0
            .store
            .read(move |connection| visible(connection, &caller, &id))
            .await
    }
}

/// The partnership that a request names, for a caller who may know of it (P-01).
pub(crate) fn scoped(
    connection: &Connection,
    caller: &Caller,
    partner: &str,
) -> Result<Partnership, Error> {
    if partner.is_empty() {
        return Err(Error::invalid("partner", "must be given"));
    }
    let partnership = partnership::connected(connection, partner)?;
    if caller.may_see(&partnership.id) {
        Ok(partnership)
    } else {
        Err(Error::not_found("partner", partner))
    }
}

/// A run of a connected partnership.
fn visible(connection: &Connection, caller: &Caller, id: &str) -> Result<RunRecord, Error> {
    let run = records::get(connection, id)?;
    scoped(connection, caller, &run.partnership_id)?;
    Ok(run)
}

#[tonic::async_trait]
impl MatchService for Service {
    async fn start_run(
        &self,
        request: Request<StartRunRequest>,
    ) -> Result<Response<StartRunResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let request = request.into_inner();
        if request.request_id.len() > MAX_REQUEST_ID {
            return Err(
                Error::invalid("request_id", format!("at most {MAX_REQUEST_ID} bytes")).into(),
            );
        }
        if request.partner.is_empty() {
            return Err(Error::invalid("partner", "must be given").into());
        }
        let run = engine::start(
            &self.0,
            StartRequest {
                partner: request.partner,
                full: request.full,
                request_id: request.request_id,
                actor: caller.token_id,
            },
        )
        .await?;
        Ok(Response::new(StartRunResponse {
            run: Some(self.to_proto(&run)),
        }))
    }

    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let run = self.run(caller, request.into_inner().run).await?;
        Ok(Response::new(GetRunResponse {
            run: Some(self.to_proto(&run)),
        }))
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let filter = format!("runs/{}", request.partner);
        let page = Page::of(request.page_size, &request.page_token, &filter)?;
        let runs = self
            .0
            .store
            .read(move |connection| {
                let partnership = scoped(connection, &caller, &request.partner)?;
                records::list(connection, &partnership.id, page.offset, page.size + 1)
            })
            .await?;
        let (runs, next_page_token) = page.cut(runs, &filter);
        Ok(Response::new(ListRunsResponse {
            runs: runs.iter().map(|run| self.to_proto(run)).collect(),
            next_page_token,
        }))
    }

    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<WatchRunResponse, Status>> + Send>>;

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let id = request.into_inner().run;
        let run = self.run(caller.clone(), id.clone()).await?;
        let (sender, messages) = mpsc::channel(4);
        let node = Arc::clone(&self.0);
        tokio::spawn(async move {
            follow(Self(node), caller, run, sender).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::MANAGERS)?;
        let id = request.into_inner().run;
        let run = self.run(caller.clone(), id.clone()).await?;
        if let Some((_, mut ended)) = self.0.matching.watch(&id)
            && self.0.matching.cancel(&id)
        {
            let (node, actor) = (Arc::clone(&self.0), caller.token_id.clone());
            self.0
                .store
                .write(move |tx| {
                    audit::record(
                        tx,
                        node.now(),
                        &actor,
                        "run.cancelled",
                        Some(&run.partnership_id),
                        &[("run", &run.id)],
                    )
                })
                .await?;
            let _ = tokio::time::timeout(STOP_PATIENCE, ended.wait_for(|ended| *ended)).await;
        }
        let run = self.run(caller, id).await?;
        Ok(Response::new(CancelRunResponse {
            run: Some(self.to_proto(&run)),
        }))
    }
}

/// Sends the run whenever its progress changes, and last of all its final state.
async fn follow(
    service: Service,
    caller: Caller,
    run: RunRecord,
    sender: mpsc::Sender<Result<WatchRunResponse, Status>>,
) {
    if let Some((mut progress, mut ended)) = service.0.matching.watch(&run.id) {
        loop {
            let seen = *progress.borrow_and_update();
            if seen.state.is_final() {
                // How it ended is said once, from the record.
                let _ = ended.wait_for(|ended| *ended).await;
                break;
            }
            let message = WatchRunResponse {
                run: Some(run.to_proto(&run.partnership_id, Some(seen))),
            };
            if sender.send(Ok(message)).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => break,
                () = sender.closed() => return,
                changed = progress.changed() => if changed.is_err() {
                    break;
                },
            }
        }
    }
    let message = match service.run(caller, run.id).await {
        Ok(run) => Ok(WatchRunResponse {
            run: Some(service.to_proto(&run)),
        }),
        Err(error) => Err(error.into()),
    };
    // Nobody watches any more.
    let _ = sender.send(message).await;
}
