//! `AttributionService`.

use std::{sync::Arc, time::Duration};

use overlap_proto::v1::{
    self, ApproveAttributionRequest, ApproveAttributionResponse, CancelAttributionRequest,
    CancelAttributionResponse, DenyAttributionRequest, DenyAttributionResponse,
    GetAttributionMetricsRequest, GetAttributionMetricsResponse, GetAttributionRequest,
    GetAttributionResponse, ListReceivedAttributionsRequest, ListReceivedAttributionsResponse,
    ListSentAttributionsRequest, ListSentAttributionsResponse, RequestAttributionRequest,
    RequestAttributionResponse, attribution_service_server::AttributionService,
};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::{
    commands::{Desk, find},
    metrics::metrics,
    rows::{self, Attribution},
    state::{Command, Direction, State},
};
use crate::{
    auth::{Caller, Role},
    collaboration::{PageRequest, Period, newest_first},
    error::Error,
    node::Node,
    partnership,
};

/// How long a cancellation waits for the partner's node.
const CONFIRMATION: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// `overlap.v1.AttributionService`.
pub struct Service {
    node: Arc<Node>,
    confirmation: Duration,
}

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            confirmation: CONFIRMATION,
        }
    }

    /// Waits for another time than usual for the partner's node to confirm a cancellation.
    #[must_use]
    pub const fn with_confirmation(mut self, confirmation: Duration) -> Self {
        self.confirmation = confirmation;
        self
    }

    /// Does something in a write transaction.
    async fn at_desk(
        &self,
        caller: Caller,
        work: impl FnOnce(&Desk<'_>) -> Result<Attribution, Error> + Send + 'static,
    ) -> Result<Attribution, Error> {
        let node = Arc::clone(&self.node);
        self.node
            .store
            .write(move |tx| {
                work(&Desk {
                    node: &node,
                    tx,
                    customers: node.shared_customers(),
                    caller: &caller,
                })
            })
            .await
    }

    /// Approves or denies: partner, id, comment, request id.
    async fn decide(
        &self,
        caller: Caller,
        command: Command,
        [partner, id, comment, request_id]: [String; 4],
    ) -> Result<Attribution, Error> {
        caller.require(&Role::MANAGERS)?;
        self.at_desk(caller, move |desk| {
            desk.command(&partner, &id, command, &comment, &request_id)
        })
        .await
    }

    async fn list(
        &self,
        caller: Caller,
        direction: Direction,
        request: ListSentAttributionsRequest,
    ) -> Result<ListSentAttributionsResponse, Error> {
        caller.require(&Role::STAFF)?;
        let state = wanted_state(request.state)?;
        let listing = match direction {
            Direction::Sent => "attributions sent, newest first",
            Direction::Received => "attributions received, newest first",
        };
        let node = Arc::clone(&self.node);
        self.node
            .store
            .read(move |connection| {
                let partnership = partnership::connected(connection, &request.partner)?.id;
                let page = PageRequest::read(
                    listing,
                    &[
                        &partnership,
                        state.map_or("", State::name),
                        &request.customer,
                    ],
                    request.page_size,
                    &request.page_token,
                )?;
                let (before_us, after_id) = page.after_newest()?;
                let customers = rows_of(&node, connection, &partnership, request.customer)?;
                let filter = rows::Filter {
                    partnership: &partnership,
                    direction,
                    state,
                    customers: customers.as_deref(),
                };
                let (mut found, total_size) =
                    rows::list(connection, &filter, (before_us, &after_id), page.size + 1)?;
                let next_page_token = page.cut(&mut found, |attribution| {
                    newest_first(attribution.requested_at.as_microsecond(), &attribution.id)
                });
                for attribution in &mut found {
                    attribution.resolve(&node, connection, node.shared_customers())?;
                }
                Ok(ListSentAttributionsResponse {
                    attributions: found.iter().map(Attribution::to_proto).collect(),
                    next_page_token,
                    total_size,
                })
            })
            .await
    }

    async fn find(&self, partner: String, id: String) -> Result<Attribution, Error> {
        let node = Arc::clone(&self.node);
        self.node
            .store
            .read(move |connection| {
                let partnership = partnership::connected(connection, &partner)?.id;
                let mut attribution = find(connection, &partnership, &id)?;
                attribution.resolve(&node, connection, node.shared_customers())?;
                Ok(attribution)
            })
            .await
    }

    /// Waits a while for the partner's node to end the request.
    async fn await_end(&self, mut attribution: Attribution) -> Result<Attribution, Error> {
        let waiting = async {
            while attribution.state == State::Pending {
                tokio::time::sleep(LOOK_EVERY).await;
                attribution = self
                    .find(attribution.partnership.clone(), attribution.id.clone())
                    .await?;
            }
            Ok(())
        };
        match tokio::time::timeout(self.confirmation, waiting).await {
            Ok(result) => result.map(|()| attribution),
            Err(_) => Ok(attribution),
        }
    }
}

/// All rows of the customer that a row of mine belongs to: a request names one of them. `None` if no row is given.
fn rows_of(
    node: &Node,
    connection: &Connection,
    partnership: &str,
    row: String,
) -> Result<Option<Vec<String>>, Error> {
    if row.is_empty() {
        return Ok(None);
    }
    let shared = node
        .shared_customers()
        .by_customer(node, connection, partnership, &row)?;
    Ok(Some(shared.map_or_else(|| vec![row], |shared| shared.ids)))
}

fn wanted_state(state: i32) -> Result<Option<State>, Error> {
    match v1::AttributionState::try_from(state) {
        Ok(v1::AttributionState::Unspecified) => Ok(None),
        Ok(v1::AttributionState::Pending) => Ok(Some(State::Pending)),
        Ok(v1::AttributionState::Approved) => Ok(Some(State::Approved)),
        Ok(v1::AttributionState::Denied) => Ok(Some(State::Denied)),
        Ok(v1::AttributionState::Cancelled) => Ok(Some(State::Cancelled)),
        Err(_) => Err(Error::invalid("state", "is not a state of attributions")),
    }
}

#[tonic::async_trait]
impl AttributionService for Service {
    async fn request_attribution(
        &self,
        request: Request<RequestAttributionRequest>,
    ) -> Result<Response<RequestAttributionResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let attribution = self
            .at_desk(caller, move |desk| {
                desk.request(
                    &request.partner,
                    &request.customer,
                    &request.details,
                    &request.request_id,
                )
            })
            .await?;
        Ok(Response::new(RequestAttributionResponse {
            attribution: Some(attribution.to_proto()),
        }))
    }

    async fn list_sent_attributions(
        &self,
        request: Request<ListSentAttributionsRequest>,
    ) -> Result<Response<ListSentAttributionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let response = self
            .list(caller, Direction::Sent, request.into_inner())
            .await?;
        Ok(Response::new(response))
    }

    async fn list_received_attributions(
        &self,
        request: Request<ListReceivedAttributionsRequest>,
    ) -> Result<Response<ListReceivedAttributionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ListReceivedAttributionsRequest {
            partner,
            page_size,
            page_token,
            state,
            customer,
        } = request.into_inner();
        let request = ListSentAttributionsRequest {
            partner,
            page_size,
            page_token,
            state,
            customer,
        };
        let ListSentAttributionsResponse {
            attributions,
            next_page_token,
            total_size,
        } = self.list(caller, Direction::Received, request).await?;
        Ok(Response::new(ListReceivedAttributionsResponse {
            attributions,
            next_page_token,
            total_size,
        }))
    }

    async fn get_attribution(
        &self,
        request: Request<GetAttributionRequest>,
    ) -> Result<Response<GetAttributionResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let attribution = self.find(request.partner, request.id).await?;
        Ok(Response::new(GetAttributionResponse {
            attribution: Some(attribution.to_proto()),
        }))
    }

    async fn approve_attribution(
        &self,
        request: Request<ApproveAttributionRequest>,
    ) -> Result<Response<ApproveAttributionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ApproveAttributionRequest {
            partner,
            id,
            comment,
            request_id,
        } = request.into_inner();
        let decision = [partner, id, comment, request_id];
        let attribution = self.decide(caller, Command::Approve, decision).await?;
        Ok(Response::new(ApproveAttributionResponse {
            attribution: Some(attribution.to_proto()),
        }))
    }

    async fn deny_attribution(
        &self,
        request: Request<DenyAttributionRequest>,
    ) -> Result<Response<DenyAttributionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let DenyAttributionRequest {
            partner,
            id,
            comment,
            request_id,
        } = request.into_inner();
        let decision = [partner, id, comment, request_id];
        let attribution = self.decide(caller, Command::Deny, decision).await?;
        Ok(Response::new(DenyAttributionResponse {
            attribution: Some(attribution.to_proto()),
        }))
    }

    async fn cancel_attribution(
        &self,
        request: Request<CancelAttributionRequest>,
    ) -> Result<Response<CancelAttributionResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let attribution = self
            .at_desk(caller, move |desk| {
                desk.command(
                    &request.partner,
                    &request.id,
                    Command::Cancel,
                    "",
                    &request.request_id,
                )
            })
            .await?;
        let attribution = self.await_end(attribution).await?;
        Ok(Response::new(CancelAttributionResponse {
            attribution: Some(attribution.to_proto()),
        }))
    }

    async fn get_attribution_metrics(
        &self,
        request: Request<GetAttributionMetricsRequest>,
    ) -> Result<Response<GetAttributionMetricsResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let now = self.node.now();
        let period = Period::read(request.start, request.end, &request.time_zone, now)?;
        let response = self
            .node
            .store
            .read(move |connection| {
                let partnership = partnership::connected(connection, &request.partner)?.id;
                metrics(connection, &partnership, &period, now)
            })
            .await?;
        Ok(Response::new(response))
    }
}
