//! The fake's partner program: answers chosen by hand.

use overlap_client::v1::{self, *};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    canned::at,
    fake::{Answers, Fake, answers, nothing, service},
};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn money(units: i64, nanos: i32) -> Money {
    Money {
        currency_code: "EUR".to_owned(),
        units,
        nanos,
    }
}

fn scope() -> Option<EngagementScope> {
    Some(EngagementScope {
        start: at(0),
        end: at(0),
        first_day: "2026-04-05".to_owned(),
        last_day: "2026-05-04".to_owned(),
        time_zone: "UTC".to_owned(),
        as_of: at(0),
        data_through: at(-3600),
        definition_version: 1,
        available_types: vec![PartnerType::Referral.into()],
        no_data_reason: 0,
    })
}

/// Users, sessions, views, actions and the sum of durations.
fn figures([users, sessions, views, actions, total]: [u64; 5]) -> Option<EngagementFigures> {
    Some(EngagementFigures {
        unique_users: users,
        sessions,
        page_views: views,
        actions,
        average_duration: (sessions > 0)
            .then(|| seconds((total / sessions) as i64))
            .flatten(),
        total_duration: seconds(total as i64),
    })
}

fn row(rank: u32, name: &str, kind: PartnerType, of: [u64; 5], score: f64) -> LeaderboardRow {
    LeaderboardRow {
        rank,
        partner: name.to_lowercase(),
        name: name.to_owned(),
        logo_uri: String::new(),
        r#type: kind.into(),
        figures: figures(of),
        score,
    }
}

service! { engagement_service_server::EngagementService {
    get_engagement_summary(GetEngagementSummaryRequest) -> GetEngagementSummaryResponse = |_, _| Ok(GetEngagementSummaryResponse {
        figures: figures([0, 0, 0, 0, 0]),
        scope: scope().map(|scope| EngagementScope {
            no_data_reason: NoDataReason::NoLogins.into(),
            data_through: None,
            ..scope
        }),
    });
    get_engagement_timeline(GetEngagementTimelineRequest) -> GetEngagementTimelineResponse = |_, _| {
        let bucket = |first: &str, last: &str, sessions| EngagementBucket {
            first_day: first.to_owned(),
            last_day: last.to_owned(),
            sessions,
            page_views: sessions * 300,
            unique_users: sessions.min(3),
        };
        Ok(GetEngagementTimelineResponse {
            buckets: vec![
                bucket("2026-04-05", "2026-04-05", 2),
                bucket("2026-04-06", "2026-04-12", 0),
                bucket("2026-04-13", "2026-04-19", 8),
            ],
            bucket_size: EngagementBucketSize::Week.into(),
            scope: scope(),
        })
    };
    get_engagement_history(GetEngagementHistoryRequest) -> GetEngagementHistoryResponse = nothing;
    list_top_resources(ListTopResourcesRequest) -> ListTopResourcesResponse = nothing;
    list_top_rooms(ListTopRoomsRequest) -> ListTopRoomsResponse = nothing;
    list_leaderboard(ListLeaderboardRequest) -> ListLeaderboardResponse = |_, request| {
        // Two pages, whatever size is asked for.
        let (rows, next) = match request.page_token.as_str() {
            "" => (vec![
                row(1, "Initech", PartnerType::Reseller, [12, 1_234, 5_678, 90, 1_234 * 754], 100.0),
                row(2, "Umbrella", PartnerType::Unspecified, [3, 100, 50, 7, 100 * 45], 12.5),
            ], "2"),
            _ => (vec![row(3, "Hooli", PartnerType::Referral, [0, 0, 0, 0, 0], 0.0)], ""),
        };
        Ok(ListLeaderboardResponse {
            rows,
            next_page_token: next.to_owned(),
            total_size: 3,
            totals: figures([15, 1_334, 5_728, 97, 1_334 * 700]),
            scope: scope(),
        })
    };
    list_at_risk_partners(ListAtRiskPartnersRequest) -> ListAtRiskPartnersResponse = |_, _| Ok(ListAtRiskPartnersResponse {
        partners: vec![AtRiskPartner {
            partner: "hooli".to_owned(),
            name: "Hooli".to_owned(),
            r#type: PartnerType::Referral.into(),
            risks: vec![EngagementRisk::Inactive.into()],
            figures: figures([0, 0, 0, 0, 0]),
            previous_figures: figures([2, 4, 9, 1, 240]),
            last_session_at: None,
        }],
        next_page_token: String::new(),
        scope: scope(),
    });
    compare_engagement(CompareEngagementRequest) -> CompareEngagementResponse = nothing;
    get_engagement_trends(GetEngagementTrendsRequest) -> GetEngagementTrendsResponse = |_, _| Ok(GetEngagementTrendsResponse {
        trends: vec![EngagementTrend {
            metric: "page_views".to_owned(),
            direction: TrendDirection::Increasing.into(),
            seasonal: None,
            values: vec![0.0, 700.0, 1_400.0],
        }],
        scope: scope(),
    });
}
    type ExportEngagementStream = Answers<ExportEngagementResponse>;
    async fn export_engagement(&self, request: Request<ExportEngagementRequest>) -> Result<Response<Self::ExportEngagementStream>, Status> {
        self.enter("export_engagement", request)?;
        Ok(answers(vec![
            ExportEngagementResponse { chunk: b"rank,partner\n".to_vec() },
            ExportEngagementResponse { chunk: b"1,initech\n".to_vec() },
        ]))
    }
}

fn quantity(quantity: metric_quantity::Quantity) -> Option<MetricQuantity> {
    Some(MetricQuantity {
        quantity: Some(quantity),
    })
}

fn metric(id: &str, label: &str, unit: MetricUnit, values: Vec<MetricValue>) -> Metric {
    Metric {
        id: id.to_owned(),
        label: label.to_owned(),
        unit: unit.into(),
        definition_version: 1,
        values,
        notes: vec![],
        as_of: at(0),
        data_through: at(-60),
        period: Some(TimeInterval {
            start: at(-86_400),
            end: at(0),
        }),
    }
}

fn ratio(numerator: i64, denominator: i64) -> MetricValue {
    use metric_quantity::Quantity::Count;
    MetricValue {
        currency_code: String::new(),
        value: (denominator > 0).then(|| numerator as f64 / denominator as f64),
        numerator: quantity(Count(numerator)),
        denominator: quantity(Count(denominator)),
    }
}

fn euros(units: i64, nanos: i32) -> MetricValue {
    MetricValue {
        currency_code: "EUR".to_owned(),
        value: Some(units as f64 + f64::from(nanos) / 1e9),
        numerator: quantity(metric_quantity::Quantity::Money(money(units, nanos))),
        denominator: None,
    }
}

fn dollars(units: i64) -> MetricValue {
    let amount = Money {
        currency_code: "USD".to_owned(),
        ..money(units, 0)
    };
    MetricValue {
        currency_code: "USD".to_owned(),
        value: Some(units as f64),
        numerator: quantity(metric_quantity::Quantity::Money(amount)),
        denominator: None,
    }
}

service! { program_service_server::ProgramService {
    list_metric_definitions(ListMetricDefinitionsRequest) -> ListMetricDefinitionsResponse = nothing;
    get_scorecard(GetScorecardRequest) -> GetScorecardResponse = |_, _| {
        let mut win_rate = metric("registration_win_rate", "Win rate", MetricUnit::Ratio, vec![ratio(3, 8)]);
        win_rate.notes = vec![MetricNote { name: "pending".to_owned(), count: 2 }];
        Ok(GetScorecardResponse {
            metrics: vec![
                metric("sourced_pipeline", "Sourced pipeline", MetricUnit::Money, vec![euros(1_234_567, 500_000_000), dollars(900)]),
                win_rate,
                metric("training_completion", "Training completion", MetricUnit::Ratio, vec![ratio(0, 0)]),
                metric("renewal_revenue", "Renewal revenue", MetricUnit::Money, vec![]),
            ],
        })
    };
    get_metrics(GetMetricsRequest) -> GetMetricsResponse = nothing;
    get_metric_breakdown(GetMetricBreakdownRequest) -> GetMetricBreakdownResponse = nothing;
    get_metric_series(GetMetricSeriesRequest) -> GetMetricSeriesResponse = |_, _| Ok(GetMetricSeriesResponse {
        entries: [("2026-Q1", euros(800, 0)), ("2026-Q2", euros(200, 0))]
            .into_iter()
            .map(|(label, value)| MetricSeriesEntry {
                label: label.to_owned(),
                interval: None,
                metrics: vec![metric("won_revenue", "Won revenue", MetricUnit::Money, vec![value])],
            })
            .collect(),
    });
    get_stage_conversion(GetStageConversionRequest) -> GetStageConversionResponse = nothing;
    get_forecast(GetForecastRequest) -> GetForecastResponse = |_, _| Ok(GetForecastResponse {
        forecasts: vec![
            v1::Forecast {
                currency_code: "EUR".to_owned(),
                won: Some(money(1_000, 0)),
                weighted_open: Some(money(250, 0)),
                forecast: Some(money(1_250, 0)),
                target: Some(money(2_500, 0)),
                attainment: Some(0.5),
            },
            v1::Forecast {
                currency_code: "USD".to_owned(),
                won: None,
                weighted_open: None,
                forecast: None,
                target: None,
                attainment: None,
            },
        ],
        as_of: at(0),
        data_through: None,
        definition_version: 1,
        deals_without_probability: 2,
    });
    compare_metrics(CompareMetricsRequest) -> CompareMetricsResponse = nothing;
    get_enablement(GetEnablementRequest) -> GetEnablementResponse = nothing;
    list_alerts(ListAlertsRequest) -> ListAlertsResponse = |_, _| Ok(ListAlertsResponse {
        alerts: vec![v1::Alert {
            id: "a1".to_owned(),
            kind: AlertKind::StalledDeal.into(),
            partner: "initech".to_owned(),
            subject: "d1".to_owned(),
            message: "deal \"d1\" has not moved for 35 days".to_owned(),
            since: at(0),
        }],
        next_page_token: String::new(),
        as_of: at(60),
    });
    get_executive_view(GetExecutiveViewRequest) -> GetExecutiveViewResponse = nothing;
    get_partner_overview(GetPartnerOverviewRequest) -> GetPartnerOverviewResponse = nothing;
    get_ecosystem_signals(GetEcosystemSignalsRequest) -> GetEcosystemSignalsResponse = nothing;
    get_dashboard_adoption(GetDashboardAdoptionRequest) -> GetDashboardAdoptionResponse = nothing;
    get_program_settings(GetProgramSettingsRequest) -> GetProgramSettingsResponse = nothing;
    update_program_settings(UpdateProgramSettingsRequest) -> UpdateProgramSettingsResponse = |_, request| Ok(UpdateProgramSettingsResponse {
        settings: request.settings,
    });
}
    type ExportMetricsStream = Answers<ExportMetricsResponse>;
    async fn export_metrics(&self, _: Request<ExportMetricsRequest>) -> Result<Response<Self::ExportMetricsStream>, Status> {
        nothing(self, ())
    }

    type ExportDailyFeedStream = Answers<ExportDailyFeedResponse>;
    async fn export_daily_feed(&self, _: Request<ExportDailyFeedRequest>) -> Result<Response<Self::ExportDailyFeedStream>, Status> {
        nothing(self, ())
    }
}

/// A deal with every shape of field.
pub(crate) fn deal() -> v1::Record {
    v1::Record {
        id: "d1".to_owned(),
        updated_at: None,
        deleted: false,
        content: Some(record::Content::Deal(DealRecord {
            partner: "initech".to_owned(),
            amount: Some(money(1_234, 500_000_000)),
            origination: DealOrigination::Sourced.into(),
            influencing_partners: vec!["hooli".to_owned(), "umbrella".to_owned()],
            r#type: DealType::New.into(),
            registration: Some(DealRegistration {
                submitted_at: at(0),
                decided_at: None,
                status: RegistrationStatus::Pending.into(),
            }),
            opened_at: at(0),
            outcome: DealOutcome::Open.into(),
            product: "=Seats, \"gold\"".to_owned(),
            probability_bp: Some(0),
            stage_changes: vec![DealStageChange {
                stage: "Proposal".to_owned(),
                at: at(60),
            }],
            ..DealRecord::default()
        })),
    }
}

service! { record_service_server::RecordService {
    get_record(GetRecordRequest) -> GetRecordResponse = |_, _| Ok(GetRecordResponse { record: Some(deal()) });
    list_records(ListRecordsRequest) -> ListRecordsResponse = |_, _| Ok(ListRecordsResponse {
        records: vec![deal()],
        next_page_token: String::new(),
    });
}
    async fn ingest_records(&self, request: Request<Streaming<IngestRecordsRequest>>) -> Result<Response<IngestRecordsResponse>, Status> {
        let messages = self.drain("ingest_records", request).await?;
        let inserted = messages.iter().map(|message| message.records.len() as u64).sum();
        Ok(Response::new(IngestRecordsResponse { inserted, ..Default::default() }))
    }

    async fn import_records(&self, request: Request<Streaming<ImportRecordsRequest>>) -> Result<Response<ImportRecordsResponse>, Status> {
        self.drain("import_records", request).await?;
        Ok(Response::new(ImportRecordsResponse { inserted: 1_200, updated: 3, unchanged: 0 }))
    }
}
