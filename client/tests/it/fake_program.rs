//! The fake's partner program: answers chosen by hand.

use std::{collections::HashMap, pin::Pin};

use futures::{Stream, stream};
use overlap_client::v1::{self, *};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    canned::at,
    fake::{Fake, service, status},
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answers<T: Send + 'static>(answers: Vec<T>) -> Response<Answers<T>> {
    Response::new(Box::pin(stream::iter(answers.into_iter().map(Ok))))
}

fn nothing<T>(_: &Fake, _: impl Sized) -> Result<T, Status> {
    Err(status(Code::NotFound, "NOT_FOUND", "the fake has none"))
}

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

pub(crate) fn attribution(id: &str, state: AttributionState) -> v1::Attribution {
    let decided = state != AttributionState::Pending;
    v1::Attribution {
        id: id.to_owned(),
        partner: "p_1".to_owned(),
        direction: AttributionDirection::Sent.into(),
        state: state.into(),
        customer: "c1".to_owned(),
        r#ref: "abcd".to_owned(),
        details: "We introduced them at the fair, and stayed in touch".to_owned(),
        comment: if decided {
            "Yes".to_owned()
        } else {
            String::new()
        },
        requested_at: at(0),
        decided_at: decided.then(|| at(60)).flatten(),
        cancel_requested_at: None,
        user: "alice".to_owned(),
    }
}

service! { attribution_service_server::AttributionService {
    request_attribution(RequestAttributionRequest) -> RequestAttributionResponse = |_, request| Ok(RequestAttributionResponse {
        attribution: Some(v1::Attribution {
            customer: request.customer,
            details: request.details,
            ..attribution("atr_9", AttributionState::Pending)
        }),
    });
    list_sent_attributions(ListSentAttributionsRequest) -> ListSentAttributionsResponse = |_, _| Ok(ListSentAttributionsResponse {
        attributions: vec![
            attribution("atr_2", AttributionState::Approved),
            attribution("atr_1", AttributionState::Pending),
        ],
        next_page_token: String::new(),
        total_size: 2,
    });
    list_received_attributions(ListReceivedAttributionsRequest) -> ListReceivedAttributionsResponse = |_, _| Ok(ListReceivedAttributionsResponse::default());
    get_attribution(GetAttributionRequest) -> GetAttributionResponse = nothing;
    approve_attribution(ApproveAttributionRequest) -> ApproveAttributionResponse = |_, request| Ok(ApproveAttributionResponse {
        attribution: Some(v1::Attribution { comment: request.comment, ..attribution(&request.id, AttributionState::Approved) }),
    });
    deny_attribution(DenyAttributionRequest) -> DenyAttributionResponse = |_, request| Ok(DenyAttributionResponse {
        attribution: Some(attribution(&request.id, AttributionState::Denied)),
    });
    cancel_attribution(CancelAttributionRequest) -> CancelAttributionResponse = |_, request| Ok(CancelAttributionResponse {
        attribution: Some(v1::Attribution { cancel_requested_at: at(5), ..attribution(&request.id, AttributionState::Pending) }),
    });
    get_attribution_metrics(GetAttributionMetricsRequest) -> GetAttributionMetricsResponse = |_, _| Ok(GetAttributionMetricsResponse {
        sent_approved: 12,
        received_approved: 4,
        months: vec![
            AttributionMonth { month: "2026-03".to_owned(), sent_approved: 4, received_approved: 0 },
            AttributionMonth { month: "2026-04".to_owned(), sent_approved: 2, received_approved: 1 },
        ],
        as_of: at(0),
    });
} }

/// What the fake's partner shares: the bytes `hello`, or others under the same hash.
fn shared_asset() -> Asset {
    Asset {
        id: "ast_1".to_owned(),
        kind: AssetKind::CaseStudy.into(),
        title: "A case".to_owned(),
        file_name: "case.txt".to_owned(),
        media_type: "text/plain".to_owned(),
        size_bytes: 5,
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned(),
        created_at: at(0),
        shared_with: vec!["p_1".to_owned()],
    }
}

service! { asset_service_server::AssetService {
    delete_asset(DeleteAssetRequest) -> DeleteAssetResponse = |_, _| Ok(DeleteAssetResponse {});
    share_asset(ShareAssetRequest) -> ShareAssetResponse = nothing;
    unshare_asset(UnshareAssetRequest) -> UnshareAssetResponse = |_, _| Ok(UnshareAssetResponse {});
    list_assets(ListAssetsRequest) -> ListAssetsResponse = |_, _| Ok(ListAssetsResponse {
        assets: vec![shared_asset()],
        next_page_token: String::new(),
        total_size: 1,
    });
    list_assets_from_partner(ListAssetsFromPartnerRequest) -> ListAssetsFromPartnerResponse = |_, _| Ok(ListAssetsFromPartnerResponse::default());
    list_assets_shared_with_partner(ListAssetsSharedWithPartnerRequest) -> ListAssetsSharedWithPartnerResponse = |_, _| Ok(ListAssetsSharedWithPartnerResponse::default());
}
    async fn upload_asset(&self, request: Request<Streaming<UploadAssetRequest>>) -> Result<Response<UploadAssetResponse>, Status> {
        use v1::upload_asset_request::Part;
        let messages = self.drain("upload_asset", request).await?;
        let mut asset = Asset { id: "ast_9".to_owned(), ..Asset::default() };
        for message in messages {
            match message.part {
                Some(Part::Header(header)) => {
                    asset.kind = header.kind;
                    asset.file_name = header.file_name;
                    asset.media_type = header.media_type;
                    asset.sha256 = header.sha256;
                }
                Some(Part::Chunk(chunk)) => asset.size_bytes += chunk.len() as u64,
                None => return Err(Status::invalid_argument("no part")),
            }
        }
        Ok(Response::new(UploadAssetResponse { asset: Some(asset) }))
    }

    type DownloadAssetStream = Answers<DownloadAssetResponse>;
    async fn download_asset(&self, request: Request<DownloadAssetRequest>) -> Result<Response<Self::DownloadAssetStream>, Status> {
        use v1::download_asset_response::Part;
        let request = self.enter("download_asset", request)?;
        let content: &[&[u8]] = match request.id.as_str() {
            "ast_1" => &[b"hel", b"lo"],
            "ast_forged" => &[b"hullo"],
            "ast_short" => &[b"hel"],
            _ => &[b"hello", b"!"],
        };
        let mut asset = shared_asset();
        if request.id == "ast_named" {
            asset.file_name = "../case.txt".to_owned();
        }
        let parts = std::iter::once(Part::Asset(asset))
            .chain(content.iter().map(|chunk| Part::Chunk(chunk.to_vec())))
            .map(|part| DownloadAssetResponse { part: Some(part) });
        Ok(answers(parts.collect()))
    }
}

service! { timeline_service_server::TimelineService {
    get_timeline(GetTimelineRequest) -> GetTimelineResponse = |_, _| Ok(GetTimelineResponse {
        events: vec![
            TimelineEvent {
                at: at(0),
                side: TimelineSide::Mine.into(),
                id: "e1".to_owned(),
                r#type: TimelineEventType::StageChanged.into(),
                label: "Deal".to_owned(),
                partner: String::new(),
            },
            TimelineEvent {
                at: at(60),
                side: TimelineSide::Mine.into(),
                id: "e2".to_owned(),
                r#type: TimelineEventType::FirstEngagement.into(),
                label: String::new(),
                partner: "globex".to_owned(),
            },
        ],
        partner_timeline: DisclosureState::NotShared.into(),
    });
    get_stage_movements(GetStageMovementsRequest) -> GetStageMovementsResponse = |_, _| {
        let movement = |count| StageMovement {
            side: TimelineSide::Mine.into(),
            from: "Lead".to_owned(),
            to: "Deal".to_owned(),
            count,
        };
        let month = |month: &str, movements| StageMovementMonth { month: month.to_owned(), movements };
        Ok(GetStageMovementsResponse {
            movements: vec![movement(8)],
            months: vec![
                month("2026-02", vec![movement(7)]),
                month("2026-03", vec![]),
                month("2026-04", vec![movement(1)]),
            ],
            partner_timeline: DisclosureState::Shared.into(),
        })
    };
    get_referral_conversion(GetReferralConversionRequest) -> GetReferralConversionResponse = |_, _| Ok(GetReferralConversionResponse {
        referred: 0,
        converted: 0,
        conversion: None,
        as_of: at(0),
    });
    get_action_segments(GetActionSegmentsRequest) -> GetActionSegmentsResponse = nothing;
    list_action_segment(ListActionSegmentRequest) -> ListActionSegmentResponse = |_, _| Ok(ListActionSegmentResponse::default());
} }

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
            product: "Seats, \"gold\"".to_owned(),
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

#[tonic::async_trait]
impl change_service_server::ChangeService for Fake {
    type WatchChangesStream = Answers<WatchChangesResponse>;
    async fn watch_changes(
        &self,
        request: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        let request = self.enter("watch_changes", request)?;
        let change = |number: u32, kind: ChangeKind| WatchChangesResponse {
            change: Some(v1::Change {
                at: at(number.into()),
                kind: kind.into(),
                partner: "p_1".to_owned(),
                subject: format!("s{number}"),
                details: HashMap::from([("count".to_owned(), number.to_string())]),
            }),
            cursor: format!("cur{number}"),
        };
        let silence = WatchChangesResponse {
            change: None,
            cursor: "cur0".to_owned(),
        };
        // The first stream breaks after one change; a watch from there has the next one.
        let responses: Vec<Result<WatchChangesResponse, Status>> = match request.cursor.as_str() {
            "" => vec![
                Ok(silence),
                Ok(change(1, ChangeKind::AttributionReceived)),
                Err(status(
                    Code::Unavailable,
                    "SHUTTING_DOWN",
                    "the node restarts",
                )),
            ],
            "cur1" => vec![Ok(change(2, ChangeKind::Alert))],
            _ => vec![Err(status(
                Code::OutOfRange,
                "CURSOR_TOO_OLD",
                "read the current state, then watch from now",
            ))],
        };
        Ok(Response::new(Box::pin(stream::iter(responses))))
    }
}
