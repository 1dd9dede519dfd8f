//! `TimelineService`.

use std::sync::Arc;

use overlap_crypto::terms::Tier;
use overlap_proto::v1::{
    self, GetActionSegmentsRequest, GetActionSegmentsResponse, GetReferralConversionRequest,
    GetReferralConversionResponse, GetStageMovementsRequest, GetStageMovementsResponse,
    GetTimelineRequest, GetTimelineResponse, ListActionSegmentRequest, ListActionSegmentResponse,
    timeline_service_server::TimelineService,
};
use rusqlite::Connection;
use tonic::{Request, Response, Status};

use super::{
    events::{Event, EventType, timeline},
    index,
    measures::{disclosure, movements, referral_conversion},
    segments::{LastEvents, Segment, facts, to_proto},
};
use crate::{
    auth::{Caller, Role},
    collaboration::{PageRequest, Period, SharedCustomers},
    convert::timestamp,
    error::Error,
    node::Node,
    partnership::{self, Partnership},
    sharing::policy::{Agreement, active_agreement},
};

/// `overlap.v1.TimelineService`.
pub struct Service {
    node: Arc<Node>,
}

/// What an answer is made from.
struct Desk<'a> {
    node: &'a Node,
    connection: &'a Connection,
    customers: &'a dyn SharedCustomers,
    partnership: Partnership,
    agreement: Agreement,
}

impl Service {
    /// The service of a node.
    #[must_use]
    pub const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Answers from one snapshot, with what has been ingested so far.
    async fn answer<T: Send + 'static>(
        &self,
        partner: String,
        work: impl FnOnce(&Desk<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let node = Arc::clone(&self.node);
        crate::storage::blocking(move || {
            index::index(&node, node.shared_customers())?;
            node.store.read_blocking(|connection| {
                let partnership = partnership::connected(connection, &partner)?;
                let agreement = active_agreement(connection, &partnership.id)?;
                work(&Desk {
                    node: &node,
                    connection,
                    customers: node.shared_customers(),
                    partnership,
                    agreement,
                })
            })
        })
        .await
    }
}

impl Desk<'_> {
    fn timeline(&self, customer: &str) -> Result<GetTimelineResponse, Error> {
        let shared = self
            .customers
            .by_customer(self.node, self.connection, &self.partnership.id, customer)?
            .ok_or_else(|| Error::not_found("shared customer", customer))?;
        let mut events = index::mine(self.connection, &shared.ids)?;
        if self.agreement.theirs.timeline {
            let theirs = index::theirs(self.connection, &self.partnership.id, &shared.id)?;
            events.extend(theirs.into_iter().filter(|event| self.may_see(event)));
        }
        Ok(GetTimelineResponse {
            events: timeline(events).iter().map(Event::to_proto).collect(),
            partner_timeline: disclosure(&self.agreement).into(),
        })
    }

    /// A stage that the partner hides is not to be seen in its events either, whatever its node sends.
    fn may_see(&self, event: &Event) -> bool {
        event.kind != EventType::StageChanged
            || self.agreement.theirs.tier(&event.label) != Tier::Hidden
    }

    fn segments(&self) -> Result<GetActionSegmentsResponse, Error> {
        let now = self.node.now();
        let last = self.last_events()?;
        let mut counts = [0_u64; Segment::ALL.len()];
        self.customers.visit(
            self.node,
            self.connection,
            &self.partnership.id,
            &mut |shared| {
                let facts = facts(&shared, &self.agreement, &last);
                for (count, segment) in counts.iter_mut().zip(Segment::ALL) {
                    *count += u64::from(facts.belong_to(segment, now));
                }
                Ok(())
            },
        )?;
        Ok(GetActionSegmentsResponse {
            segments: Segment::ALL
                .into_iter()
                .zip(counts)
                .map(|(segment, count)| v1::ActionSegmentCount {
                    segment: segment.to_proto().into(),
                    count,
                })
                .collect(),
            partner_timeline: disclosure(&self.agreement).into(),
            as_of: Some(timestamp(now)),
        })
    }

    fn segment(
        &self,
        segment: Segment,
        request: &ListActionSegmentRequest,
    ) -> Result<ListActionSegmentResponse, Error> {
        let page = PageRequest::read(
            "action segment, by id",
            &[&self.partnership.id, segment.to_proto().as_str_name()],
            request.page_size,
            &request.page_token,
        )?;
        let now = self.node.now();
        let last = self.last_events()?;
        let (mut found, mut total_size) = (Vec::new(), 0);
        self.customers.visit(
            self.node,
            self.connection,
            &self.partnership.id,
            &mut |shared| {
                if facts(&shared, &self.agreement, &last).belong_to(segment, now) {
                    total_size += 1;
                    let is_after = page.after.as_ref().is_none_or(|after| shared.id > *after);
                    if is_after && found.len() <= page.size {
                        found.push(shared);
                    }
                }
                Ok(())
            },
        )?;
        let next_page_token = page.cut(&mut found, |shared| shared.id.clone());
        Ok(ListActionSegmentResponse {
            customers: found
                .into_iter()
                .map(|shared| {
                    let event = last.of(&shared.id);
                    to_proto(shared, event)
                })
                .collect(),
            next_page_token,
            total_size,
        })
    }

    fn last_events(&self) -> Result<LastEvents, Error> {
        LastEvents::read(
            self.node,
            self.connection,
            self.customers,
            &self.partnership.id,
            &self.agreement,
        )
    }
}

#[tonic::async_trait]
impl TimelineService for Service {
    async fn get_timeline(
        &self,
        request: Request<GetTimelineRequest>,
    ) -> Result<Response<GetTimelineResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let GetTimelineRequest { partner, customer } = request.into_inner();
        let response = self
            .answer(partner, move |desk| desk.timeline(&customer))
            .await?;
        Ok(Response::new(response))
    }

    async fn get_stage_movements(
        &self,
        request: Request<GetStageMovementsRequest>,
    ) -> Result<Response<GetStageMovementsResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let now = self.node.now();
        let period = Period::read(request.start, request.end, &request.time_zone, now)?;
        let response = self
            .answer(request.partner, move |desk| {
                movements(
                    desk.node,
                    desk.connection,
                    desk.customers,
                    &desk.partnership.id,
                    &desk.agreement,
                    &period,
                )
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn get_referral_conversion(
        &self,
        request: Request<GetReferralConversionRequest>,
    ) -> Result<Response<GetReferralConversionResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let now = self.node.now();
        let period = Period::read(request.start, request.end, &request.time_zone, now)?;
        let (referred, converted) = self
            .answer(request.partner, move |desk| {
                referral_conversion(
                    desk.node,
                    desk.connection,
                    desk.customers,
                    &desk.partnership,
                    &period,
                )
            })
            .await?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "far fewer referrals than 2^52; both counts are given, too"
        )]
        let conversion = (referred > 0).then(|| converted as f64 / referred as f64);
        Ok(Response::new(GetReferralConversionResponse {
            referred,
            converted,
            conversion,
            as_of: Some(timestamp(now)),
        }))
    }

    async fn get_action_segments(
        &self,
        request: Request<GetActionSegmentsRequest>,
    ) -> Result<Response<GetActionSegmentsResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let partner = request.into_inner().partner;
        let response = self.answer(partner, |desk| desk.segments()).await?;
        Ok(Response::new(response))
    }

    async fn list_action_segment(
        &self,
        request: Request<ListActionSegmentRequest>,
    ) -> Result<Response<ListActionSegmentResponse>, Status> {
        Caller::of(&request)?.require(&Role::STAFF)?;
        let request = request.into_inner();
        let segment = Segment::from_proto(request.segment)
            .ok_or_else(|| Error::invalid("segment", "must be one of the segments"))?;
        let response = self
            .answer(request.partner.clone(), move |desk| {
                desk.segment(segment, &request)
            })
            .await?;
        Ok(Response::new(response))
    }
}
