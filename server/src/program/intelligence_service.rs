//! `ProgramIntelligenceService`: who may call, on which snapshot, at which instant.

use std::sync::Arc;

use overlap_proto::v1::{self, program_intelligence_service_server::ProgramIntelligenceService};
use rusqlite::{OptionalExtension as _, params};
use tonic::{Request, Response, Status};

use super::{
    answer,
    context::Context,
    definitions::MetricId,
    intelligence, preferences,
    service::{Program, READERS},
    usage::Usage,
    view::{Period, View},
};
use crate::{
    auth::{Caller, Role},
    clock::Clock,
    error::{Error, Reason},
    paging,
    records::{
        paging::Page,
        store,
        times::{self, Nanos},
    },
    storage::Store,
};

crate::paged!(v1::ListAreasToAddressRequest);

/// The service over a store.
pub struct Intelligence(Program);

impl Intelligence {
    /// The service over `store`, telling time by `clock`; `usage` counts its calls.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, usage: Usage) -> Self {
        Self(Program::new(store, clock, usage))
    }

    /// Lets managers in; to role PARTNER the view is as absent as one that nobody has (I-13).
    fn admit<T>(&self, request: &Request<T>, name: &'static str) -> Result<Caller, Error> {
        let caller = Caller::of(request)?;
        if caller.role == Role::Partner {
            preferences::require_view(&caller, preferences::PARTNER_LIFECYCLE)?;
        }
        caller.require(&Role::MANAGERS)?;
        self.0.usage.note(&caller, name);
        Ok(caller)
    }

    async fn read<T: Send + 'static, R: Send + 'static>(
        &self,
        request: Request<T>,
        name: &'static str,
        filter: impl FnOnce(&T) -> Option<v1::ProgramFilter>,
        work: impl FnOnce(&Context<'_>, &View<'_>, &Period, &T) -> Result<R, Error> + Send + 'static,
    ) -> Result<Response<R>, Status> {
        let caller = self.admit(&request, name)?;
        self.0
            .read(caller, request.into_inner(), filter, work)
            .await
    }
}

#[tonic::async_trait]
impl ProgramIntelligenceService for Intelligence {
    async fn list_metric_cards(
        &self,
        request: Request<v1::ListMetricCardsRequest>,
    ) -> Result<Response<v1::ListMetricCardsResponse>, Status> {
        let caller = self.0.admit(&request, &READERS, "ListMetricCards")?;
        let filter = request.into_inner().filter;
        let user = caller.user.clone();
        let tiles = preferences::require_view(&caller, "program")?;
        let cards = self
            .0
            .answer(caller, self.0.now(), filter, move |context| {
                let (view, period) = (context.view()?, &context.filter.period);
                let choices = preferences::visible(context.connection, &user, "program", &tiles)?;
                Ok(choices
                    .iter()
                    .filter(|choice| choice.visible)
                    .filter_map(|choice| MetricId::from_name(&choice.tile))
                    .map(|id| intelligence::card(id, answer::metric(id, &view, period)))
                    .collect())
            })
            .await?;
        Ok(Response::new(v1::ListMetricCardsResponse { cards }))
    }

    async fn list_partner_strengths(
        &self,
        request: Request<v1::ListPartnerStrengthsRequest>,
    ) -> Result<Response<v1::ListPartnerStrengthsResponse>, Status> {
        self.read(
            request,
            "ListPartnerStrengths",
            |request| request.filter.clone(),
            |_, view, _, _| Ok(intelligence::strengths(view)),
        )
        .await
    }

    async fn request_analysis_refresh(
        &self,
        request: Request<v1::RequestAnalysisRefreshRequest>,
    ) -> Result<Response<v1::RequestAnalysisRefreshResponse>, Status> {
        let caller = self.admit(&request, "RequestAnalysisRefresh")?;
        let request = request.into_inner();
        let now = self.0.now();
        let filter = v1::ProgramFilter {
            // An unknown partner is refused in the usual words.
            partners: Some(request.partner.clone())
                .filter(|partner| !partner.is_empty())
                .into_iter()
                .collect(),
            ..Default::default()
        };
        self.0
            .answer(caller.clone(), now, Some(filter), |context| {
                context.view().map(drop)
            })
            .await?;
        let made = self
            .0
            .store
            .write(move |transaction| {
                let request_id = Some(&request.request_id).filter(|id| !id.is_empty());
                let made = transaction
                    .query_row(
                        "SELECT sequence, partner, requested_by, requested_at FROM analysis_refresh_requests WHERE request_id = ?1",
                        [request_id],
                        refresh_request,
                    )
                    .optional()?;
                if let Some(made) = made {
                    if made.partner != request.partner {
                        return Err(Error::new(
                            Reason::AlreadyExists,
                            "request_id was used for another request: choose a new one",
                        ));
                    }
                    return Ok(made);
                }
                transaction.execute(
                    "INSERT INTO analysis_refresh_requests (partner, requested_by, requested_at, request_id) VALUES (?1, ?2, ?3, ?4)",
                    params![request.partner, caller.user, now, request_id],
                )?;
                Ok(v1::AnalysisRefreshRequest {
                    sequence: transaction.last_insert_rowid().unsigned_abs(),
                    partner: request.partner,
                    requested_by: caller.user,
                    requested_at: Some(times::to_proto(now)),
                })
            })
            .await?;
        Ok(Response::new(v1::RequestAnalysisRefreshResponse {
            request: Some(made),
        }))
    }

    async fn list_analysis_refresh_requests(
        &self,
        request: Request<v1::ListAnalysisRefreshRequestsRequest>,
    ) -> Result<Response<v1::ListAnalysisRefreshRequestsResponse>, Status> {
        self.admit(&request, "ListAnalysisRefreshRequests")?;
        let request = request.into_inner();
        let limit = paging::page_size(request.page_size, 100, 1000)?;
        let after = i64::try_from(request.after_sequence).unwrap_or(i64::MAX);
        let requests = self
            .0
            .store
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT sequence, partner, requested_by, requested_at FROM analysis_refresh_requests WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
                )?;
                let requests = statement
                    .query_map(params![after, limit], refresh_request)?
                    .collect::<Result<_, _>>()?;
                Ok(requests)
            })
            .await?;
        Ok(Response::new(v1::ListAnalysisRefreshRequestsResponse {
            requests,
        }))
    }

    async fn list_areas_to_address(
        &self,
        request: Request<v1::ListAreasToAddressRequest>,
    ) -> Result<Response<v1::ListAreasToAddressResponse>, Status> {
        let caller = self.admit(&request, "ListAreasToAddress")?;
        let request = request.into_inner();
        let page = Page::of(&request, &caller, self.0.now(), 100, 1000)?;
        let filter = request.filter.clone();
        let answer = self
            .0
            .answer(caller, page.as_of, filter, move |context| {
                let revision = store::facts_revision(context.connection)?;
                let areas = intelligence::areas(&context.view()?, &request)?;
                let (areas, next_page_token) = page.cut(areas, revision)?;
                Ok(v1::ListAreasToAddressResponse {
                    areas,
                    next_page_token,
                })
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn get_partner_lifecycle(
        &self,
        request: Request<v1::GetPartnerLifecycleRequest>,
    ) -> Result<Response<v1::GetPartnerLifecycleResponse>, Status> {
        self.read(
            request,
            "GetPartnerLifecycle",
            |request| request.filter.clone(),
            |_, view, _, _| Ok(intelligence::lifecycle(view)),
        )
        .await
    }

    async fn get_partner_coverage(
        &self,
        request: Request<v1::GetPartnerCoverageRequest>,
    ) -> Result<Response<v1::GetPartnerCoverageResponse>, Status> {
        self.read(
            request,
            "GetPartnerCoverage",
            |request| request.filter.clone(),
            |_, view, _, request| {
                let dimension = intelligence::coverage_dimension(request.dimension)?;
                Ok(intelligence::coverage(view, dimension))
            },
        )
        .await
    }

    async fn list_coverage_gaps(
        &self,
        request: Request<v1::ListCoverageGapsRequest>,
    ) -> Result<Response<v1::ListCoverageGapsResponse>, Status> {
        self.read(
            request,
            "ListCoverageGaps",
            |request| request.filter.clone(),
            |_, view, _, request| {
                let dimension = intelligence::coverage_dimension(request.dimension)?;
                Ok(intelligence::gaps(view, dimension, request))
            },
        )
        .await
    }

    async fn compare_partner_tiers(
        &self,
        request: Request<v1::ComparePartnerTiersRequest>,
    ) -> Result<Response<v1::ComparePartnerTiersResponse>, Status> {
        self.read(
            request,
            "ComparePartnerTiers",
            |request| request.filter.clone(),
            |_, view, period, request| Ok(intelligence::tiers(view, period, request)),
        )
        .await
    }

    async fn get_view_preferences(
        &self,
        request: Request<v1::GetViewPreferencesRequest>,
    ) -> Result<Response<v1::GetViewPreferencesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().view;
        let known = preferences::require_view(&caller, &name)?;
        let tiles = self
            .0
            .store
            .read(move |connection| preferences::visible(connection, &caller.user, &name, &known))
            .await?;
        Ok(Response::new(v1::GetViewPreferencesResponse { tiles }))
    }

    async fn update_view_preferences(
        &self,
        request: Request<v1::UpdateViewPreferencesRequest>,
    ) -> Result<Response<v1::UpdateViewPreferencesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let now = self.0.now();
        let tiles = self
            .0
            .store
            .write(move |transaction| preferences::update(transaction, &caller, now, &request))
            .await?;
        Ok(Response::new(v1::UpdateViewPreferencesResponse { tiles }))
    }
}

fn refresh_request(row: &rusqlite::Row<'_>) -> rusqlite::Result<v1::AnalysisRefreshRequest> {
    let at: Nanos = row.get(3)?;
    Ok(v1::AnalysisRefreshRequest {
        sequence: row.get::<_, i64>(0)?.unsigned_abs(),
        partner: row.get(1)?,
        requested_by: row.get(2)?,
        requested_at: Some(times::to_proto(at)),
    })
}
