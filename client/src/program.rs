//! The numbers of the partner program.

mod alerts;
mod settings;

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{
    Client, EcosystemEventType, EngagementPeriod, Error, ExportFormat, Metric, MetricDefinition,
    MetricDimension, MetricGroup, MetricQuantity, MetricSeriesEntry, MetricValue, Money, Page,
    PageRequest, PartnerProfileRecord, ProgramFilter, Record, RetentionMeasure, ReturnBasis,
    message::FromWire, paging::entries, v1,
};

pub use alerts::{Alert, AlertKind, Alerts};
pub use settings::{ProgramSettings, StageProbability};

messages! {
    /// One page of a metric for every value of a dimension.
    MetricBreakdown of v1::GetMetricBreakdownResponse {
        /// By value.
        groups: Vec<MetricGroup>,
        #[serde(skip_serializing_if = "String::is_empty")]
        next_page_token: String,
        /// Something may be in several groups, so groups do not add up to the whole.
        multi_valued: bool,
    }

    /// How many deals went from a stage to a later one.
    StageConversion of v1::StageConversion {
        from_stage: String,
        to_stage: String,
        conversion: Metric = "the conversion",
    }

    /// Won and weighted open deals in one currency.
    Forecast of v1::Forecast {
        currency_code: String,
        won: Option<Money>,
        /// The sum of amount x probability over deals open at as_of, rounded down to a billionth.
        weighted_open: Option<Money>,
        forecast: Option<Money>,
        /// Unset if there is none.
        target: Option<Money>,
        /// Forecast / target; unset without a target.
        attainment: Option<f64>,
    }

    /// Won revenue plus weighted open deals, against the target.
    Forecasts of v1::GetForecastResponse {
        forecasts: Vec<Forecast>,
        as_of: Option<Timestamp>,
        data_through: Option<Timestamp>,
        definition_version: u32,
        /// Open deals left out because neither they nor the settings say how likely they are.
        deals_without_probability: u64,
    }

    /// A metric and its target.
    TargetComparison of v1::TargetComparison {
        target: String,
        partner: String,
        actual: Metric = "the actual",
        goal: Option<MetricQuantity>,
        /// Actual / goal; unset if either is unknown.
        attainment: Option<f64>,
    }

    /// Metrics beside their targets, or cohorts of partners beside each other.
    MetricComparison of v1::CompareMetricsResponse {
        targets: Vec<TargetComparison>,
        cohorts: Vec<MetricGroup>,
    }

    /// Partners with or without certification or funds.
    EnablementCohort of v1::EnablementCohort {
        /// "certified", "not_certified", "funded", "not_funded".
        id: String,
        partners: u64,
        metrics: Vec<Metric>,
    }

    /// Training, certification, fund, payout and campaign figures, and what they go along with.
    Enablement of v1::GetEnablementResponse {
        metrics: Vec<Metric>,
        cohorts: Vec<EnablementCohort>,
    }

    /// A metric in this quarter and in the one before.
    QuarterComparison of v1::QuarterComparison {
        current: Metric = "the current",
        previous: Metric = "the previous",
        /// (current - previous) / previous per currency; unset if previous is unknown or zero.
        change: Vec<MetricValue>,
    }

    /// A partner and its revenue.
    PartnerStanding of v1::PartnerStanding {
        partner: String,
        name: String,
        revenue: Option<MetricValue>,
        /// Why it is at risk.
        reasons: Vec<String>,
    }

    /// The executive view.
    ExecutiveView of v1::GetExecutiveViewResponse {
        /// Sourced closed revenue / all closed revenue.
        partner_share: Metric = "the partner share",
        /// The quarter of as_of up to as_of, and as many days of the one before it.
        quarter_over_quarter: Vec<QuarterComparison>,
        /// The five partners of highest sourced closed revenue, per currency.
        top: Vec<PartnerStanding>,
        /// Partners with open alerts, or without activity.
        at_risk: Vec<PartnerStanding>,
        /// Sourced closed revenue by partner type.
        mix: Vec<MetricGroup>,
        /// The last four quarters.
        trend: Vec<MetricSeriesEntry>,
    }

    /// Everything one partner may know of itself.
    PartnerOverview of v1::GetPartnerOverviewResponse {
        partner: String,
        profile: Option<PartnerProfileRecord>,
        metrics: Vec<Metric>,
        /// Its deals, incentives, trainings and certifications, by id; at most 1000 of each kind.
        deals: Vec<Record>,
        incentives: Vec<Record>,
        trainings: Vec<Record>,
        certifications: Vec<Record>,
        alerts: Vec<Alert>,
    }

    /// Ecosystem events of one type.
    EcosystemSignal of v1::EcosystemSignal {
        r#type: EcosystemEventType,
        events: u64,
        quantity: u64,
        partners: u64,
        customers: u64,
        amounts: Vec<Money>,
    }

    /// Counted ecosystem events.
    EcosystemSignals of v1::GetEcosystemSignalsResponse {
        /// One per type that occurred, in the enum's order.
        signals: Vec<EcosystemSignal>,
        as_of: Option<Timestamp>,
        data_through: Option<Timestamp>,
    }

    /// How often a call was used.
    DashboardUse of v1::DashboardUse {
        /// The RPC's name.
        view: String,
        calls: u64,
        users: u64,
    }

    /// How the dashboard is used.
    DashboardAdoption of v1::GetDashboardAdoptionResponse {
        views: Vec<DashboardUse>,
        users: u64,
        calls: u64,
    }
}

impl Client {
    /// What every metric means.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn metric_definitions(&self) -> Result<Vec<MetricDefinition>, Error> {
        let answer = ask!(
            self.program_api()
                .list_metric_definitions(v1::ListMetricDefinitionsRequest {})
        )
        .await?;
        FromWire::from_wire(answer.definitions)
    }

    /// The leadership scorecard, in its fixed order.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn scorecard(
        &self,
        filter: &ProgramFilter,
        retention: Option<RetentionMeasure>,
        basis: Option<ReturnBasis>,
    ) -> Result<Vec<Metric>, Error> {
        let answer = ask!(self.program_api().get_scorecard(v1::GetScorecardRequest {
            filter: Some(filter.wire()),
            retention_measure: retention.unwrap_or_default().to_proto(),
            return_basis: basis.unwrap_or_default().to_proto(),
        }))
        .await?;
        FromWire::from_wire(answer.metrics)
    }

    /// Metrics by id, all if `metrics` is empty.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn metrics(
        &self,
        filter: &ProgramFilter,
        metrics: &[String],
    ) -> Result<Vec<Metric>, Error> {
        let answer = ask!(self.program_api().get_metrics(v1::GetMetricsRequest {
            filter: Some(filter.wire()),
            metrics: metrics.to_vec(),
        }))
        .await?;
        FromWire::from_wire(answer.metrics)
    }

    /// One page of metrics for every value of a dimension.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_metric_breakdown(
        &self,
        filter: &ProgramFilter,
        metrics: &[String],
        dimension: MetricDimension,
        page: PageRequest,
    ) -> Result<MetricBreakdown, Error> {
        let answer = ask!(
            self.program_api()
                .get_metric_breakdown(v1::GetMetricBreakdownRequest {
                    filter: Some(filter.wire()),
                    metrics: metrics.to_vec(),
                    dimension: dimension.to_proto(),
                    page_size: page.size(),
                    page_token: page.token,
                })
        )
        .await?;
        MetricBreakdown::from_wire(answer)
    }

    /// Metrics for every value of a dimension.
    pub fn metric_breakdown<'a>(
        &'a self,
        filter: &'a ProgramFilter,
        metrics: &'a [String],
        dimension: MetricDimension,
    ) -> impl Stream<Item = Result<MetricGroup, Error>> + Send + 'a {
        entries(move |page| async move {
            let page = self
                .list_metric_breakdown(filter, metrics, dimension, page)
                .await?;
            Ok(Page::part(page.groups, page.next_page_token, None))
        })
    }

    /// Metrics month by month, quarter by quarter or year by year.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn metric_series(
        &self,
        filter: &ProgramFilter,
        metrics: &[String],
        period: EngagementPeriod,
    ) -> Result<Vec<MetricSeriesEntry>, Error> {
        let answer = ask!(
            self.program_api()
                .get_metric_series(v1::GetMetricSeriesRequest {
                    filter: Some(filter.wire()),
                    metrics: metrics.to_vec(),
                    period: period.to_proto(),
                })
        )
        .await?;
        FromWire::from_wire(answer.entries)
    }

    /// How many deals went from each stage to the next; `stages` in order, as they first appear in the deals if empty.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn stage_conversion(
        &self,
        filter: &ProgramFilter,
        stages: &[String],
    ) -> Result<Vec<StageConversion>, Error> {
        let answer = ask!(
            self.program_api()
                .get_stage_conversion(v1::GetStageConversionRequest {
                    filter: Some(filter.wire()),
                    stages: stages.to_vec(),
                })
        )
        .await?;
        FromWire::from_wire(answer.conversions)
    }

    /// Won revenue plus weighted open deals, against the target.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn forecast(&self, filter: &ProgramFilter) -> Result<Forecasts, Error> {
        let answer = ask!(self.program_api().get_forecast(v1::GetForecastRequest {
            filter: Some(filter.wire()),
        }))
        .await?;
        Forecasts::from_wire(answer)
    }

    /// Metrics beside their targets, and cohorts of partners beside each other if `cohorts` names a dimension.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn compare_metrics(
        &self,
        filter: &ProgramFilter,
        metrics: &[String],
        cohorts: Option<MetricDimension>,
    ) -> Result<MetricComparison, Error> {
        let answer = ask!(
            self.program_api()
                .compare_metrics(v1::CompareMetricsRequest {
                    filter: Some(filter.wire()),
                    metrics: metrics.to_vec(),
                    cohort_dimension: cohorts.unwrap_or_default().to_proto(),
                })
        )
        .await?;
        MetricComparison::from_wire(answer)
    }

    /// Training, certification, fund, payout and campaign figures.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn enablement(&self, filter: &ProgramFilter) -> Result<Enablement, Error> {
        let answer = ask!(self.program_api().get_enablement(v1::GetEnablementRequest {
            filter: Some(filter.wire()),
        }))
        .await?;
        Enablement::from_wire(answer)
    }

    /// The executive view.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn executive_view(&self, filter: &ProgramFilter) -> Result<ExecutiveView, Error> {
        let answer = ask!(
            self.program_api()
                .get_executive_view(v1::GetExecutiveViewRequest {
                    filter: Some(filter.wire()),
                })
        )
        .await?;
        ExecutiveView::from_wire(answer)
    }

    /// Everything one partner may know of itself; `partner` is ignored for role PARTNER, which gets its own.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn partner_overview(
        &self,
        partner: &str,
        filter: &ProgramFilter,
    ) -> Result<PartnerOverview, Error> {
        let answer = ask!(
            self.program_api()
                .get_partner_overview(v1::GetPartnerOverviewRequest {
                    partner: partner.to_owned(),
                    filter: Some(filter.wire()),
                })
        )
        .await?;
        PartnerOverview::from_wire(answer)
    }

    /// Counted ecosystem events.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn ecosystem_signals(
        &self,
        filter: &ProgramFilter,
    ) -> Result<EcosystemSignals, Error> {
        let answer = ask!(self.program_api().get_ecosystem_signals(
            v1::GetEcosystemSignalsRequest {
                filter: Some(filter.wire()),
            }
        ))
        .await?;
        EcosystemSignals::from_wire(answer)
    }

    /// How the dashboard itself is used.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn dashboard_adoption(
        &self,
        filter: &ProgramFilter,
    ) -> Result<DashboardAdoption, Error> {
        let answer = ask!(self.program_api().get_dashboard_adoption(
            v1::GetDashboardAdoptionRequest {
                filter: Some(filter.wire()),
            }
        ))
        .await?;
        DashboardAdoption::from_wire(answer)
    }

    /// Streams metrics as a file: one row a group, or one a metric without a dimension.
    pub fn export_metrics(
        &self,
        filter: &ProgramFilter,
        metrics: &[String],
        dimension: Option<MetricDimension>,
        format: ExportFormat,
    ) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send + '_ {
        let message = v1::ExportMetricsRequest {
            filter: Some(filter.wire()),
            metrics: metrics.to_vec(),
            dimension: dimension.unwrap_or_default().to_proto(),
            format: format.to_proto(),
        };
        let request = self.transfer_request(message);
        self.answers(
            async move { self.program_api().export_metrics(request).await },
            |answer| Ok(answer.chunk),
        )
    }

    /// Streams every metric as of the end of each day; days are YYYY-MM-DD, inclusive.
    pub fn export_daily_feed(
        &self,
        first_day: &str,
        last_day: &str,
        time_zone: Option<&str>,
        metrics: &[String],
        format: ExportFormat,
    ) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send + '_ {
        let message = v1::ExportDailyFeedRequest {
            days: Some(v1::DateRange {
                first_day: first_day.to_owned(),
                last_day: last_day.to_owned(),
            }),
            time_zone: time_zone.unwrap_or_default().to_owned(),
            format: format.to_proto(),
            metrics: metrics.to_vec(),
        };
        let request = self.transfer_request(message);
        self.answers(
            async move { self.program_api().export_daily_feed(request).await },
            |answer| Ok(answer.chunk),
        )
    }
}
