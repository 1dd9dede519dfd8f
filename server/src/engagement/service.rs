//! `EngagementService`: who may call, on which snapshot, at which instant.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use overlap_proto::v1::{self, engagement_service_server::EngagementService};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::{export, leaderboard, overview, places, trends};
use crate::{
    auth::{Caller, Role},
    clock::Clock,
    error::Error,
    program::usage::Usage,
    records::{
        paging::{Page, Paged},
        times::{self, Nanos},
    },
    storage::Store,
};

crate::paged!(
    v1::ListTopResourcesRequest,
    v1::ListTopRoomsRequest,
    v1::ListLeaderboardRequest,
    v1::ListAtRiskPartnersRequest,
);

/// The service over a store.
pub struct Engagement {
    store: Store,
    clock: Arc<dyn Clock>,
    usage: Usage,
}

impl Engagement {
    /// The service over `store`, telling time by `clock`; `usage` counts its calls.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, usage: Usage) -> Self {
        Self {
            store,
            clock,
            usage,
        }
    }

    /// Lets administrators in only (G-01).
    fn admit<T>(&self, request: &Request<T>, view: &'static str) -> Result<(Caller, Nanos), Error> {
        let caller = Caller::of(request)?;
        caller.require(&Role::ADMINS)?;
        self.usage.note(&caller, view);
        Ok((caller, times::of(self.clock.now())))
    }

    async fn answer<T, R>(
        &self,
        request: Request<T>,
        view: &'static str,
        work: impl FnOnce(&Connection, Nanos, &T) -> Result<R, Error> + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        let (_, now) = self.admit(&request, view)?;
        let request = request.into_inner();
        let answer = self
            .store
            .read(move |connection| work(connection, now, &request))
            .await?;
        Ok(Response::new(answer))
    }

    async fn page<T, R>(
        &self,
        request: Request<T>,
        view: &'static str,
        default: usize,
        work: impl FnOnce(&Connection, &Page, &T) -> Result<R, Error> + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        T: Paged + 'static,
        R: Send + 'static,
    {
        let (caller, now) = self.admit(&request, view)?;
        let request = request.into_inner();
        let page = Page::of(&request, &caller, now, default, 1000)?;
        let answer = self
            .store
            .read(move |connection| work(connection, &page, &request))
            .await?;
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl EngagementService for Engagement {
    type ExportEngagementStream =
        Pin<Box<dyn Stream<Item = Result<v1::ExportEngagementResponse, Status>> + Send>>;

    async fn get_engagement_summary(
        &self,
        request: Request<v1::GetEngagementSummaryRequest>,
    ) -> Result<Response<v1::GetEngagementSummaryResponse>, Status> {
        self.answer(request, "GetEngagementSummary", overview::summary)
            .await
    }

    async fn get_engagement_timeline(
        &self,
        request: Request<v1::GetEngagementTimelineRequest>,
    ) -> Result<Response<v1::GetEngagementTimelineResponse>, Status> {
        self.answer(request, "GetEngagementTimeline", overview::timeline)
            .await
    }

    async fn get_engagement_history(
        &self,
        request: Request<v1::GetEngagementHistoryRequest>,
    ) -> Result<Response<v1::GetEngagementHistoryResponse>, Status> {
        self.answer(request, "GetEngagementHistory", overview::history)
            .await
    }

    async fn list_top_resources(
        &self,
        request: Request<v1::ListTopResourcesRequest>,
    ) -> Result<Response<v1::ListTopResourcesResponse>, Status> {
        self.page(request, "ListTopResources", 10, places::resources)
            .await
    }

    async fn list_top_rooms(
        &self,
        request: Request<v1::ListTopRoomsRequest>,
    ) -> Result<Response<v1::ListTopRoomsResponse>, Status> {
        self.page(request, "ListTopRooms", 10, places::rooms).await
    }

    async fn list_leaderboard(
        &self,
        request: Request<v1::ListLeaderboardRequest>,
    ) -> Result<Response<v1::ListLeaderboardResponse>, Status> {
        self.page(request, "ListLeaderboard", 50, leaderboard::leaderboard)
            .await
    }

    async fn list_at_risk_partners(
        &self,
        request: Request<v1::ListAtRiskPartnersRequest>,
    ) -> Result<Response<v1::ListAtRiskPartnersResponse>, Status> {
        self.page(request, "ListAtRiskPartners", 50, leaderboard::at_risk)
            .await
    }

    async fn compare_engagement(
        &self,
        request: Request<v1::CompareEngagementRequest>,
    ) -> Result<Response<v1::CompareEngagementResponse>, Status> {
        self.answer(request, "CompareEngagement", leaderboard::compare)
            .await
    }

    async fn get_engagement_trends(
        &self,
        request: Request<v1::GetEngagementTrendsRequest>,
    ) -> Result<Response<v1::GetEngagementTrendsResponse>, Status> {
        self.answer(request, "GetEngagementTrends", trends::trends)
            .await
    }

    async fn export_engagement(
        &self,
        request: Request<v1::ExportEngagementRequest>,
    ) -> Result<Response<Self::ExportEngagementStream>, Status> {
        let (caller, now) = self.admit(&request, "ExportEngagement")?;
        let request = request.into_inner();
        let format = export::format(request.format)?;
        let filter = request.filter;
        let kind = v1::EngagementExport::try_from(request.export).unwrap_or_default();
        let table = self
            .store
            .read(move |connection| export::table(connection, &caller, now, kind, filter))
            .await?;
        let chunks = table
            .chunks(format)
            .map(|chunk| Ok(v1::ExportEngagementResponse { chunk }));
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }
}
