//! The fake's attribution, assets, timelines and changes: answers chosen by hand.

use std::collections::HashMap;

use futures::stream;
use overlap_client::v1::{self, *};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    canned::at,
    fake::{Answers, Fake, answers, nothing, service, status},
};

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
