//! `ProgramService`: who may call, on which snapshot, at which instant.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use overlap_proto::v1::{self, program_service_server::ProgramService};
use tonic::{Request, Response, Status};

use super::{
    activity::ActivityCache,
    alerts, answer, breakdown,
    context::Context,
    definitions::{DERIVED, Definition, ENGAGEMENT, MetricId, SCORECARD},
    export,
    facts::FactsCache,
    reports, settings, targets,
    usage::{self, Usage},
    view::{self, Filter, Period, View},
};
use crate::{
    audit,
    auth::{Caller, Role},
    clock::Clock,
    convert::known,
    error::Error,
    records::{
        calendar::{self, Days, Unit},
        paging::Page,
        table::{Format, Table, format},
        times::{self, Nanos},
    },
    storage::Store,
};

crate::paged!(v1::GetMetricBreakdownRequest, v1::ListAlertsRequest);

/// Roles that see the program's numbers; PARTNER sees its own company's (K-27).
pub(super) const READERS: [Role; 4] = [
    Role::Admin,
    Role::PartnerAdmin,
    Role::PartnerManager,
    Role::Partner,
];

/// What both services of the program share.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) usage: Usage,
    facts: FactsCache,
    activities: ActivityCache,
}

impl Program {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, usage: Usage) -> Self {
        Self {
            store,
            clock,
            usage,
            facts: FactsCache::default(),
            activities: ActivityCache::default(),
        }
    }

    pub(super) fn now(&self) -> Nanos {
        times::of(self.clock.now())
    }

    /// Lets a caller with one of `roles` in.
    pub(super) fn admit<T>(
        &self,
        request: &Request<T>,
        roles: &[Role],
        name: &'static str,
    ) -> Result<Caller, Error> {
        let caller = Caller::of(request)?;
        caller.require(roles)?;
        self.usage.note(&caller, name);
        Ok(caller)
    }

    /// Answers from one snapshot, through the filter.
    pub(super) async fn answer<R: Send + 'static>(
        &self,
        caller: Caller,
        now: Nanos,
        filter: Option<v1::ProgramFilter>,
        work: impl FnOnce(&Context<'_>) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (cache, activities) = (self.facts.clone(), self.activities.clone());
        self.store
            .read(move |connection| {
                let facts = cache.load(connection)?;
                let own = view::own_partner(&caller, connection, &facts)?;
                let filter = Filter::resolve(filter.as_ref(), own, now)?;
                let settings = settings::load(connection)?;
                let activity = activities.load(connection, filter.period.as_of, &filter.zone)?;
                work(&Context {
                    connection,
                    facts: &facts,
                    filter: &filter,
                    settings: &settings,
                    activity,
                })
            })
            .await
    }

    /// Answers a request whose answer is a function of the view and P.
    pub(super) async fn read<T: Send + 'static, R: Send + 'static>(
        &self,
        caller: Caller,
        request: T,
        filter: impl FnOnce(&T) -> Option<v1::ProgramFilter>,
        work: impl FnOnce(&Context<'_>, &View<'_>, &Period, &T) -> Result<R, Error> + Send + 'static,
    ) -> Result<Response<R>, Status> {
        let filter = filter(&request);
        let answer = self
            .answer(caller, self.now(), filter, move |context| {
                work(context, &context.view()?, &context.filter.period, &request)
            })
            .await?;
        Ok(Response::new(answer))
    }
}

/// The service over a store.
pub struct ProgramNumbers(Program);

impl ProgramNumbers {
    /// The service over `store`, telling time by `clock`; `usage` counts its calls.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, usage: Usage) -> Self {
        Self(Program::new(store, clock, usage))
    }

    /// Admits a reader and answers from its view.
    async fn read<T: Send + 'static, R: Send + 'static>(
        &self,
        request: Request<T>,
        name: &'static str,
        filter: impl FnOnce(&T) -> Option<v1::ProgramFilter>,
        work: impl FnOnce(&Context<'_>, &View<'_>, &Period, &T) -> Result<R, Error> + Send + 'static,
    ) -> Result<Response<R>, Status> {
        let caller = self.0.admit(&request, &READERS, name)?;
        self.0
            .read(caller, request.into_inner(), filter, work)
            .await
    }
}

type Chunks<R> = Pin<Box<dyn Stream<Item = Result<R, Status>> + Send>>;

fn stream<R: 'static>(
    table: Table,
    format: Format,
    message: impl Fn(Vec<u8>) -> R + Send + 'static,
) -> Response<Chunks<R>> {
    let chunks = table.chunks(format).map(move |chunk| Ok(message(chunk)));
    Response::new(Box::pin(futures::stream::iter(chunks)))
}

#[tonic::async_trait]
impl ProgramService for ProgramNumbers {
    type ExportMetricsStream = Chunks<v1::ExportMetricsResponse>;
    type ExportDailyFeedStream = Chunks<v1::ExportDailyFeedResponse>;

    async fn list_metric_definitions(
        &self,
        request: Request<v1::ListMetricDefinitionsRequest>,
    ) -> Result<Response<v1::ListMetricDefinitionsResponse>, Status> {
        let caller = self.0.admit(&request, &READERS, "ListMetricDefinitions")?;
        let program = MetricId::known_to(caller.role)
            .iter()
            .map(|metric| metric.definition());
        let definitions = ENGAGEMENT
            .iter()
            .copied()
            .chain(program)
            .chain(DERIVED)
            .map(|definition: Definition| v1::MetricDefinition {
                id: definition.id.to_owned(),
                label: definition.label.to_owned(),
                unit: definition.unit.to_proto() as i32,
                version: definition.version,
                definition: definition.text.to_owned(),
                numerator: definition.numerator.to_owned(),
                denominator: definition.denominator.to_owned(),
            })
            .collect();
        Ok(Response::new(v1::ListMetricDefinitionsResponse {
            definitions,
        }))
    }

    async fn get_scorecard(
        &self,
        request: Request<v1::GetScorecardRequest>,
    ) -> Result<Response<v1::GetScorecardResponse>, Status> {
        self.read(
            request,
            "GetScorecard",
            |request| request.filter.clone(),
            |_, view, period, request| {
                let expansion = request.retention_measure() == v1::RetentionMeasure::Expansion;
                let margin = request.return_basis() == v1::ReturnBasis::GrossMargin;
                if margin && !view.metrics.contains(&MetricId::ChannelMarginReturn) {
                    return Err(Error::invalid(
                        "return_basis",
                        "GROSS_MARGIN is not known to role PARTNER: leave it out",
                    ));
                }
                let chosen = SCORECARD.map(|metric| match metric {
                    MetricId::RenewalRevenue if expansion => MetricId::ExpansionRevenue,
                    MetricId::ChannelReturn if margin => MetricId::ChannelMarginReturn,
                    other => other,
                });
                Ok(v1::GetScorecardResponse {
                    metrics: answer::metrics(&chosen, view, period),
                })
            },
        )
        .await
    }

    async fn get_metrics(
        &self,
        request: Request<v1::GetMetricsRequest>,
    ) -> Result<Response<v1::GetMetricsResponse>, Status> {
        self.read(
            request,
            "GetMetrics",
            |request| request.filter.clone(),
            |_, view, period, request| {
                let metrics = answer::parse(&request.metrics, view.metrics, view.metrics)?;
                Ok(v1::GetMetricsResponse {
                    metrics: answer::metrics(&metrics, view, period),
                })
            },
        )
        .await
    }

    async fn get_metric_breakdown(
        &self,
        request: Request<v1::GetMetricBreakdownRequest>,
    ) -> Result<Response<v1::GetMetricBreakdownResponse>, Status> {
        let caller = self.0.admit(&request, &READERS, "GetMetricBreakdown")?;
        let request = request.into_inner();
        let page = Page::of(&request, &caller, self.0.now(), 100, 1000)?;
        let filter = request.filter.clone();
        let answer = self
            .0
            .answer(caller, page.as_of, filter, move |context| {
                let (view, default) = (context.view()?, [MetricId::SourcedPipeline]);
                let metrics = answer::parse(&request.metrics, view.metrics, &default)?;
                let dimension = breakdown::dimension("dimension", request.dimension, &metrics)?;
                let groups = breakdown::groups(&view, dimension);
                let (groups, next_page_token) =
                    page.cut_by_key(groups, |group| group.value.clone());
                Ok(v1::GetMetricBreakdownResponse {
                    groups: groups
                        .iter()
                        .map(|group| {
                            breakdown::answer_group(group, &metrics, &context.filter.period)
                        })
                        .collect(),
                    next_page_token,
                    multi_valued: breakdown::is_multi_valued(dimension, &metrics),
                })
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn get_metric_series(
        &self,
        request: Request<v1::GetMetricSeriesRequest>,
    ) -> Result<Response<v1::GetMetricSeriesResponse>, Status> {
        self.read(
            request,
            "GetMetricSeries",
            |request| request.filter.clone(),
            |context, view, _, request| {
                let metrics = answer::parse(&request.metrics, view.metrics, &SCORECARD)?;
                let unit = Unit::of_period("period", request.period)?;
                Ok(v1::GetMetricSeriesResponse {
                    entries: breakdown::series(context, view, &metrics, unit)?,
                })
            },
        )
        .await
    }

    async fn get_stage_conversion(
        &self,
        request: Request<v1::GetStageConversionRequest>,
    ) -> Result<Response<v1::GetStageConversionResponse>, Status> {
        self.read(
            request,
            "GetStageConversion",
            |request| request.filter.clone(),
            |_, view, period, request| {
                Ok(v1::GetStageConversionResponse {
                    conversions: breakdown::conversions(view, period, &request.stages),
                })
            },
        )
        .await
    }

    async fn get_forecast(
        &self,
        request: Request<v1::GetForecastRequest>,
    ) -> Result<Response<v1::GetForecastResponse>, Status> {
        self.read(
            request,
            "GetForecast",
            |request| request.filter.clone(),
            |context, view, period, _| Ok(targets::forecast(view, period, context.settings)),
        )
        .await
    }

    async fn compare_metrics(
        &self,
        request: Request<v1::CompareMetricsRequest>,
    ) -> Result<Response<v1::CompareMetricsResponse>, Status> {
        self.read(
            request,
            "CompareMetrics",
            |request| request.filter.clone(),
            |context, view, _, request| reports::compare(context, view, request),
        )
        .await
    }

    async fn get_enablement(
        &self,
        request: Request<v1::GetEnablementRequest>,
    ) -> Result<Response<v1::GetEnablementResponse>, Status> {
        self.read(
            request,
            "GetEnablement",
            |request| request.filter.clone(),
            |_, view, period, _| Ok(reports::enablement(view, period)),
        )
        .await
    }

    async fn list_alerts(
        &self,
        request: Request<v1::ListAlertsRequest>,
    ) -> Result<Response<v1::ListAlertsResponse>, Status> {
        let caller = self.0.admit(&request, &READERS, "ListAlerts")?;
        let request = request.into_inner();
        let kinds = known("kinds", &request.kinds, v1::AlertKind::as_str_name)?;
        let page = Page::of(&request, &caller, self.0.now(), 100, 1000)?;
        let filter = request.filter.clone();
        let answer = self
            .0
            .answer(caller, page.as_of, filter, move |context| {
                let period = &context.filter.period;
                let mut alerts = alerts::alerts(context, &context.view()?)?;
                if !kinds.is_empty() {
                    alerts.retain(|alert| kinds.contains(&alert.kind()));
                }
                let (alerts, next_page_token) = page.cut_by_key(alerts, alerts::position);
                Ok(v1::ListAlertsResponse {
                    alerts,
                    next_page_token,
                    as_of: Some(times::to_proto(period.as_of)),
                })
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn get_executive_view(
        &self,
        request: Request<v1::GetExecutiveViewRequest>,
    ) -> Result<Response<v1::GetExecutiveViewResponse>, Status> {
        self.read(
            request,
            "GetExecutiveView",
            |request| request.filter.clone(),
            |context, view, _, _| reports::executive(context, view),
        )
        .await
    }

    async fn get_partner_overview(
        &self,
        request: Request<v1::GetPartnerOverviewRequest>,
    ) -> Result<Response<v1::GetPartnerOverviewResponse>, Status> {
        let caller = self.0.admit(&request, &READERS, "GetPartnerOverview")?;
        let request = request.into_inner();
        let mut filter = request.filter.unwrap_or_default();
        if caller.role != Role::Partner {
            if request.partner.is_empty() {
                return Err(Error::invalid("partner", "must not be empty").into());
            }
            filter.partners = vec![request.partner.clone()];
        }
        let answer = self
            .0
            .answer(caller, self.0.now(), Some(filter), move |context| {
                let partner = context.filter.own().unwrap_or(&request.partner);
                reports::overview(context, &context.view()?, partner)
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn get_ecosystem_signals(
        &self,
        request: Request<v1::GetEcosystemSignalsRequest>,
    ) -> Result<Response<v1::GetEcosystemSignalsResponse>, Status> {
        self.read(
            request,
            "GetEcosystemSignals",
            |request| request.filter.clone(),
            |context, view, period, _| reports::ecosystem(context.connection, &view.scope, period),
        )
        .await
    }

    async fn get_dashboard_adoption(
        &self,
        request: Request<v1::GetDashboardAdoptionRequest>,
    ) -> Result<Response<v1::GetDashboardAdoptionResponse>, Status> {
        let caller = self
            .0
            .admit(&request, &Role::ADMINS, "GetDashboardAdoption")?;
        self.0.usage.write().await?;
        let filter = request.into_inner().filter;
        let answer = self
            .0
            .answer(caller, self.0.now(), filter, |context| {
                let period = &context.filter.period;
                let last = period.as_of.min(period.end - 1);
                usage::adoption(context.connection, period.start, last)
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn export_metrics(
        &self,
        request: Request<v1::ExportMetricsRequest>,
    ) -> Result<Response<Self::ExportMetricsStream>, Status> {
        let caller = self.0.admit(&request, &READERS, "ExportMetrics")?;
        let request = request.into_inner();
        let format = format(request.format)?;
        let filter = request.filter.clone();
        let table = self
            .0
            .answer(caller, self.0.now(), filter, move |context| {
                let mut table = export::table();
                let (view, period) = (context.view()?, &context.filter.period);
                let metrics = answer::parse(&request.metrics, view.metrics, view.metrics)?;
                if request.dimension() == v1::MetricDimension::Unspecified {
                    for metric in answer::metrics(&metrics, &view, period) {
                        export::push(&mut table, "", "", &metric);
                    }
                    return Ok(table);
                }
                let dimension = breakdown::dimension("dimension", request.dimension, &metrics)?;
                for group in breakdown::groups(&view, dimension) {
                    for metric in answer::metrics(&metrics, &group.view, period) {
                        export::push(&mut table, "", &group.value, &metric);
                    }
                }
                Ok(table)
            })
            .await?;
        Ok(stream(table, format, |chunk| v1::ExportMetricsResponse {
            chunk,
        }))
    }

    async fn export_daily_feed(
        &self,
        request: Request<v1::ExportDailyFeedRequest>,
    ) -> Result<Response<Self::ExportDailyFeedStream>, Status> {
        let caller = self.0.admit(&request, &READERS, "ExportDailyFeed")?;
        let request = request.into_inner();
        let format = format(request.format)?;
        let zone = calendar::zone("time_zone", &request.time_zone)?;
        let days = Days::parse(&request.days.unwrap_or_default(), "days", &zone)?;
        if days.count() > 366 {
            return Err(Error::invalid("days", "must be at most 366").into());
        }
        let filter = v1::ProgramFilter {
            time_zone: request.time_zone,
            ..Default::default()
        };
        let table = self
            .0
            .answer(caller, self.0.now(), Some(filter), move |context| {
                let (mut view, now) = (context.view()?, context.filter.period.as_of);
                let metrics = answer::parse(&request.metrics, view.metrics, view.metrics)?;
                let mut table = export::table();
                for day in days.cut(Unit::Day) {
                    let span = day.span()?;
                    if span.start > now {
                        break;
                    }
                    let period = context.filter.period.as_then(span.start, span.end);
                    context.recall(&mut view, &metrics, period.as_of)?;
                    for metric in answer::metrics(&metrics, &view, &period) {
                        export::push(&mut table, &day.first.to_string(), "", &metric);
                    }
                }
                Ok(table)
            })
            .await?;
        Ok(stream(table, format, |chunk| v1::ExportDailyFeedResponse {
            chunk,
        }))
    }

    async fn get_program_settings(
        &self,
        request: Request<v1::GetProgramSettingsRequest>,
    ) -> Result<Response<v1::GetProgramSettingsResponse>, Status> {
        self.0
            .admit(&request, &Role::MANAGERS, "GetProgramSettings")?;
        let settings = self.0.store.read(settings::load).await?;
        Ok(Response::new(v1::GetProgramSettingsResponse {
            settings: Some(settings.to_proto()),
        }))
    }

    async fn update_program_settings(
        &self,
        request: Request<v1::UpdateProgramSettingsRequest>,
    ) -> Result<Response<v1::UpdateProgramSettingsResponse>, Status> {
        let caller = self
            .0
            .admit(&request, &Role::ADMINS, "UpdateProgramSettings")?;
        let request = request.into_inner();
        let now = self.0.clock.now();
        let settings = self
            .0
            .store
            .write(move |transaction| {
                let settings = settings::update(transaction, request)?;
                audit::record(
                    transaction,
                    now,
                    &caller.token_id,
                    "program.settings_changed",
                    None,
                    &[],
                )?;
                Ok(settings)
            })
            .await?;
        Ok(Response::new(v1::UpdateProgramSettingsResponse {
            settings: Some(settings.to_proto()),
        }))
    }
}
