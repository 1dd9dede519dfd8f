//! The API of customers.

mod streams;

use std::sync::Arc;

use overlap_crypto::terms::KeyType;
use overlap_proto::v1::{
    self, DeleteCustomersRequest, DeleteCustomersResponse, ImportCustomersRequest,
    ImportCustomersResponse, ListCustomersRequest, ListCustomersResponse, ListStagesRequest,
    ListStagesResponse, UpsertCustomersRequest, UpsertCustomersResponse, UpsertStagesRequest,
    UpsertStagesResponse, customer_service_server::CustomerService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{draft::excerpt, limits, normalize::Region, rows, stages};
use crate::{
    auth::{Caller, Role},
    clock::Clock,
    error::Error,
    node::Node,
    paging::{self, Listing},
    sharing,
    storage::Store,
};

/// Serves [`CustomerService`].
#[derive(Clone)]
pub struct Customers {
    store: Store,
    clock: Arc<dyn Clock>,
    default_region: Option<Region>,
    /// Told of changed stages, which are part of what is agreed with partners.
    node: Option<Arc<Node>>,
}

impl Customers {
    /// The service. `default_region` is the configured region of phone numbers without a country code.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, default_region: Option<Region>) -> Self {
        Self {
            store,
            clock,
            default_region,
            node: None,
        }
    }

    /// The service of a node.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the configured region is not one.
    pub fn of_node(node: &Arc<Node>) -> Result<Self, Error> {
        let code = node.config.default_region.as_deref().unwrap_or_default();
        Ok(Self {
            store: node.store.clone(),
            clock: Arc::clone(&node.clock),
            default_region: Region::parse(code, "default_region")?,
            node: Some(Arc::clone(node)),
        })
    }

    /// The region that a request asks for, or the configured one.
    fn region(&self, code: &str) -> Result<Option<Region>, Error> {
        Ok(Region::parse(code, "default_region")?.or(self.default_region))
    }
}

#[tonic::async_trait]
impl CustomerService for Customers {
    async fn upsert_customers(
        &self,
        request: Request<Streaming<UpsertCustomersRequest>>,
    ) -> Result<Response<UpsertCustomersResponse>, Status> {
        Caller::of(&request)?.require(&Role::ADMINS)?;
        let service = self.clone();
        let summary = crate::streams::run(request.into_inner(), move |messages| {
            streams::upsert(&service, messages)
        })
        .await?;
        Ok(Response::new(UpsertCustomersResponse {
            inserted: summary.inserted,
            updated: summary.updated,
            unchanged: summary.unchanged,
            deleted: summary.deleted,
            unusable_identifiers: named(summary.unusable_identifiers),
        }))
    }

    async fn import_customers(
        &self,
        request: Request<Streaming<ImportCustomersRequest>>,
    ) -> Result<Response<ImportCustomersResponse>, Status> {
        Caller::of(&request)?.require(&Role::ADMINS)?;
        let service = self.clone();
        let summary = crate::streams::run(request.into_inner(), move |messages| {
            streams::import(&service, messages)
        })
        .await?;
        Ok(Response::new(ImportCustomersResponse {
            inserted: summary.inserted,
            updated: summary.updated,
            unchanged: summary.unchanged,
            deleted: summary.deleted,
            unusable_identifiers: named(summary.unusable_identifiers),
            field_columns: summary.field_columns,
        }))
    }

    async fn delete_customers(
        &self,
        request: Request<Streaming<DeleteCustomersRequest>>,
    ) -> Result<Response<DeleteCustomersResponse>, Status> {
        Caller::of(&request)?.require(&Role::ADMINS)?;
        let service = self.clone();
        let deleted = crate::streams::run(request.into_inner(), move |messages| {
            streams::delete(&service, messages)
        })
        .await?;
        Ok(Response::new(DeleteCustomersResponse { deleted }))
    }

    async fn list_customers(
        &self,
        request: Request<ListCustomersRequest>,
    ) -> Result<Response<ListCustomersResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        Ok(Response::new(
            self.store
                .read(move |connection| list(connection, &request))
                .await?,
        ))
    }

    async fn list_stages(
        &self,
        request: Request<ListStagesRequest>,
    ) -> Result<Response<ListStagesResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let stages = self.store.read(stages::stages).await?;
        Ok(Response::new(ListStagesResponse {
            stages: stages.into_iter().map(stages::to_proto).collect(),
        }))
    }

    async fn upsert_stages(
        &self,
        request: Request<UpsertStagesRequest>,
    ) -> Result<Response<UpsertStagesResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require(&Role::ADMINS)?;
        let new = request
            .into_inner()
            .stages
            .into_iter()
            .enumerate()
            .map(|(index, stage)| stages::from_proto(index, stage))
            .collect::<Result<Vec<_>, _>>()?;
        let node = self.node.clone();
        let all = self
            .store
            .write(move |transaction| {
                let all = stages::upsert(transaction, &new)?;
                if let Some(node) = node {
                    sharing::stages_changed(&node, transaction, &caller.token_id)?;
                }
                Ok(all)
            })
            .await?;
        Ok(Response::new(UpsertStagesResponse {
            stages: all.into_iter().map(stages::to_proto).collect(),
        }))
    }
}

fn list(
    connection: &rusqlite::Connection,
    request: &ListCustomersRequest,
) -> Result<ListCustomersResponse, Error> {
    let limit = paging::page_size(
        request.page_size,
        limits::DEFAULT_PAGE_SIZE,
        limits::MAX_PAGE_SIZE,
    )?;
    if request.search.len() > limits::MAX_SEARCH_BYTES {
        return Err(Error::invalid(
            "search",
            format!(
                "{} bytes long: at most {} are allowed",
                request.search.len(),
                limits::MAX_SEARCH_BYTES
            ),
        ));
    }
    if !request.stage.is_empty() {
        let known = stages::stages(connection)?;
        if !known.iter().any(|stage| stage.id == request.stage) {
            let known: Vec<String> = known.into_iter().map(|stage| stage.id).collect();
            return Err(Error::invalid(
                "stage",
                format!(
                    "unknown stage \"{}\": the stages are {}",
                    excerpt(&request.stage),
                    known.join(", ")
                ),
            ));
        }
    }
    let folded = request.search.to_lowercase();
    let listing = Listing::new("customers", &[&request.stage, &folded]);
    // A position is the total, which the first page counted, and the id before the page.
    let position = match listing.position(&request.page_token)? {
        Some(position) => {
            let (total, after) = position
                .split_first_chunk::<8>()
                .ok_or_else(paging::invalid_token)?;
            let after = std::str::from_utf8(after).map_err(|_| paging::invalid_token())?;
            Some((u64::from_le_bytes(*total), after.to_owned()))
        }
        None => None,
    };
    let filtered = !request.stage.is_empty() || !folded.is_empty();
    let (mut ids, found) = rows::find(
        connection,
        &rows::Search {
            after: position.as_ref().map_or("", |(_, after)| after),
            stage: (!request.stage.is_empty()).then_some(&request.stage),
            folded: (!folded.is_empty()).then_some(&folded),
            limit: limit + 1,
            count_all: filtered && position.is_none(),
        },
    )?;
    let total_size = match position {
        Some((total, _)) => total,
        None if filtered => found,
        None => rows::count(connection)?,
    };
    let mut next_page_token = String::new();
    if ids.len() > limit {
        ids.truncate(limit);
        if let Some(last) = ids.last() {
            next_page_token = listing.token(&[&total_size.to_le_bytes(), last.as_bytes()].concat());
        }
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let customers = rows::fetch(connection, &ids)?
        .into_iter()
        .flatten()
        .map(to_proto)
        .collect();
    Ok(ListCustomersResponse {
        customers,
        next_page_token,
        total_size,
    })
}

/// A customer in the API's terms.
fn to_proto(details: rows::Details) -> v1::Customer {
    let of_type = |key_type| details.of_type(key_type).map(str::to_owned).collect();
    v1::Customer {
        emails: of_type(KeyType::Email),
        phones: of_type(KeyType::Phone),
        domains: of_type(KeyType::Domain),
        external_ids: of_type(KeyType::ExternalId),
        updated_at: Some(prost_types::Timestamp {
            seconds: details.updated_at.as_second(),
            nanos: details.updated_at.subsec_nanosecond(),
        }),
        id: details.id,
        stage: details.stage,
        name: details.name,
        owner: details.owner,
        industry: details.industry,
        region: details.region,
        private: details.private,
        fields: details.fields.into_iter().collect(),
    }
}

fn named(
    counts: std::collections::BTreeMap<&'static str, u64>,
) -> std::collections::HashMap<String, u64> {
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
