//! OverlapService.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use overlap_proto::v1::{
    self, ExplainCustomerRequest, ExplainCustomerResponse, GetMatrixRequest, GetMatrixResponse,
    GetSharedCustomerRequest, GetSharedCustomerResponse, ListSharedCustomersRequest,
    ListSharedCustomersResponse, SetTargetsRequest, SetTargetsResponse, SharedCustomer,
    overlap_service_server::OverlapService,
};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::{
    explain::explain,
    graph::Handle,
    last::{Empty, LastResult},
    matrix::{CellSources, Matrix, key_type_to_proto},
    reader::{Filter, Shared},
    targets,
};
use crate::{
    auth::{Caller, Role},
    convert::Page,
    customers::rows,
    error::{Error, Reason},
    matching::{local_customers::StageTiers, service::scoped},
    node::Node,
    paging,
    sharing::policy::active_agreement,
};

/// Ids of one request to mark targets.
const MAX_TARGETS: usize = 10_000;

/// OverlapService over a node.
pub struct Service(Arc<Node>);

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self(node)
    }

    /// Reads the store and a result's files. A run that ends meanwhile takes the files away: the second look finds the new ones.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let work = Arc::new(work);
        let first = Arc::clone(&work);
        match self.0.store.read(move |connection| first(connection)).await {
            Err(error) if error.reason() == Reason::StorageFailed => {
                self.0.store.read(move |connection| work(connection)).await
            }
            outcome => outcome,
        }
    }
}

/// A shared customer in the API's form.
fn to_proto(last: &LastResult, shared: Shared, targets: &BTreeSet<String>) -> SharedCustomer {
    SharedCustomer {
        mine: last.my_stage(&shared).to_owned(),
        theirs: last.their_stage(&shared).to_owned(),
        matched_on: shared
            .column
            .key_types
            .iter()
            .map(|key_type| key_type_to_proto(key_type).into())
            .collect(),
        r#ref: if shared.handle == Handle::default() {
            String::new()
        } else {
            hex::encode(shared.handle)
        },
        partner_fields: last.partner_fields(&shared).into_iter().collect(),
        target: shared.ids.iter().any(|id| targets.contains(id)),
        my_fields: std::collections::HashMap::default(),
        first_matched_at: Some(prost_types::Timestamp {
            seconds: shared.column.first_matched,
            nanos: 0,
        }),
        id: shared.id,
        ids: shared.ids,
        name: shared.name,
    }
}

/// The number of a stage that a filter names.
fn stage_filter(
    field: &str,
    id: &str,
    find: impl Fn(&str) -> Option<usize>,
) -> Result<Option<u8>, Error> {
    if id.is_empty() {
        return Ok(None);
    }
    find(id)
        .and_then(|index| u8::try_from(index).ok())
        .map(Some)
        .ok_or_else(|| Error::invalid(field, format!("\"{id}\" is no stage of this matrix")))
}

const fn reason(empty: Empty) -> v1::EmptyReason {
    match empty {
        Empty::NoRun => v1::EmptyReason::NoRun,
        Empty::CountsOnly => v1::EmptyReason::CountsOnly,
        Empty::NotShared => v1::EmptyReason::NotShared,
        Empty::Withheld => v1::EmptyReason::Withheld,
        Empty::NoMatch => v1::EmptyReason::NoMatch,
    }
}

fn list(
    last: &LastResult,
    targets: &BTreeSet<String>,
    request: &ListSharedCustomersRequest,
) -> Result<ListSharedCustomersResponse, Error> {
    let matrix = last.matrix();
    let mut filter = Filter {
        mine: stage_filter("mine", &request.mine, |id| matrix.row(id))?,
        theirs: stage_filter("theirs", &request.theirs, |id| matrix.column(id))?,
        search: request.search.clone(),
        positions: None,
    };
    if request.targets_only {
        filter.positions = Some(targets::positions(targets, last)?);
    }
    // A token is bound to the run, too: positions of another result mean other customers.
    let binding = serde_json::to_string(&(
        "shared",
        &request.partner,
        &last.record.run_id,
        &request.mine,
        &request.theirs,
        &request.search,
        request.targets_only,
    ))
    .map_err(|error| Error::internal(format!("filter: {error}")))?;
    let page = Page::of(request.page_size, &request.page_token, &binding)?;
    let plain = filter.search.is_empty() && filter.positions.is_none();
    let listed = last.listed(&filter);
    let found = last
        .files
        .page(&filter, page.offset, page.size, plain.then_some(listed))?;
    let next_page_token = match found.customers.last() {
        Some(shared) if found.more => Page::token(shared.position + 1, &binding),
        _ => String::new(),
    };
    Ok(ListSharedCustomersResponse {
        empty_reason: if found.total == 0 {
            reason(last.why_empty(&filter)).into()
        } else {
            v1::EmptyReason::Unspecified.into()
        },
        customers: found
            .customers
            .into_iter()
            .map(|shared| to_proto(last, shared, targets))
            .collect(),
        next_page_token,
        total_size: found.total,
    })
}

#[tonic::async_trait]
impl OverlapService for Service {
    async fn get_matrix(
        &self,
        request: Request<GetMatrixRequest>,
    ) -> Result<Response<GetMatrixResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let node = Arc::clone(&self.0);
        let matrix = self
            .0
            .store
            .read(move |connection| {
                let partnership = scoped(connection, &caller, &request.partner)?;
                if let Some(result) = crate::matching::records::result(connection, &partnership.id)?
                {
                    return Ok(result.matrix.to_proto(
                        &partnership.id,
                        &result.run_id,
                        result.completed_at,
                    ));
                }
                // Before the first run there are stages and no cells.
                let agreement = active_agreement(connection, &partnership.id)?;
                let mut matrix = Matrix::compute(
                    &StageTiers::mine(&agreement)?,
                    &StageTiers::theirs(&agreement)?,
                    &CellSources::default(),
                    node.now(),
                );
                matrix.cells.clear();
                let mut matrix = matrix.to_proto(&partnership.id, "", node.now());
                matrix.as_of = None;
                Ok(matrix)
            })
            .await?;
        Ok(Response::new(GetMatrixResponse {
            matrix: Some(matrix),
        }))
    }

    async fn list_shared_customers(
        &self,
        request: Request<ListSharedCustomersRequest>,
    ) -> Result<Response<ListSharedCustomersResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let node = Arc::clone(&self.0);
        let response = self
            .read(move |connection| {
                let partnership = scoped(connection, &caller, &request.partner)?;
                let last = LastResult::open(connection, &node.directory, &partnership.id)?;
                let targets = targets::ids(connection, &partnership.id)?;
                match last {
                    Some(last) => list(&last, &targets, &request),
                    // It was made for a result that is there no more, or for another partner's.
                    None if !request.page_token.is_empty() => Err(paging::invalid_token()),
                    None => Ok(ListSharedCustomersResponse {
                        empty_reason: reason(Empty::NoRun).into(),
                        ..ListSharedCustomersResponse::default()
                    }),
                }
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn get_shared_customer(
        &self,
        request: Request<GetSharedCustomerRequest>,
    ) -> Result<Response<GetSharedCustomerResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let node = Arc::clone(&self.0);
        let customer = self
            .read(move |connection| {
                let partnership = scoped(connection, &caller, &request.partner)?;
                let last = LastResult::open(connection, &node.directory, &partnership.id)?;
                let found = match &last {
                    Some(last) => last.by_row(&request.id)?.map(|shared| (last, shared)),
                    None => None,
                };
                let (last, shared) =
                    found.ok_or_else(|| Error::not_found("shared customer", &request.id))?;
                let targets = targets::ids(connection, &partnership.id)?;
                let mut customer = to_proto(last, shared, &targets);
                if let Some(details) = rows::fetch(connection, &[&customer.id])?.pop().flatten() {
                    for name in ["name", "owner", "industry", "region"] {
                        if let Some(value) = details.field(name) {
                            customer.my_fields.insert(name.to_owned(), value.to_owned());
                        }
                    }
                    customer.my_fields.extend(details.fields);
                }
                Ok(customer)
            })
            .await?;
        Ok(Response::new(GetSharedCustomerResponse {
            customer: Some(customer),
        }))
    }

    async fn set_targets(
        &self,
        request: Request<SetTargetsRequest>,
    ) -> Result<Response<SetTargetsResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        if request.ids.len() > MAX_TARGETS {
            return Err(Error::invalid("ids", format!("at most {MAX_TARGETS} a request")).into());
        }
        let node = Arc::clone(&self.0);
        let changed = self
            .0
            .store
            .write(move |tx| {
                let partnership = scoped(tx, &caller, &request.partner)?;
                let last = LastResult::open(tx, &node.directory, &partnership.id)?;
                let mut changed = 0;
                // Rows of the same customer say the same.
                let mut done = HashSet::new();
                for id in &request.ids {
                    if done.contains(id) {
                        continue;
                    }
                    let shared = match &last {
                        Some(last) => last.by_row(id)?,
                        None => None,
                    };
                    let shared = shared.ok_or_else(|| Error::not_found("shared customer", id))?;
                    changed += u64::from(targets::set(
                        tx,
                        &partnership.id,
                        &shared.id,
                        &shared.ids,
                        request.target,
                    )?);
                    done.extend(shared.ids);
                }
                Ok(changed)
            })
            .await?;
        Ok(Response::new(SetTargetsResponse { changed }))
    }

    async fn explain_customer(
        &self,
        request: Request<ExplainCustomerRequest>,
    ) -> Result<Response<ExplainCustomerResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::STAFF)?;
        let request = request.into_inner();
        let node = Arc::clone(&self.0);
        let response = self
            .read(move |connection| {
                let partnership = scoped(connection, &caller, &request.partner)?;
                let agreement = active_agreement(connection, &partnership.id)?;
                explain(
                    connection,
                    &node.directory,
                    &partnership.id,
                    &agreement,
                    node.matching.limits(&node)?,
                    &request.id,
                )
            })
            .await?;
        Ok(Response::new(response))
    }
}
