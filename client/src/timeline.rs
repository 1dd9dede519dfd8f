//! What happens with shared customers, as far as both sides' permissions allow.

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{
    Client, Error, Months, Page, PageRequest,
    message::{FromWire as _, wire_time},
    paging::entries,
    v1,
};

named_enum! {
    /// Whose event it is. Of events at one instant, mine come first.
    TimelineSide of v1::TimelineSide {
        /// Mine.
        Mine = "MINE",
        /// Partner.
        Partner = "PARTNER",
    }
}

named_enum! {
    /// Timeline event type.
    TimelineEventType of v1::TimelineEventType {
        /// First engagement.
        FirstEngagement = "FIRST_ENGAGEMENT",
        /// App installed.
        AppInstalled = "APP_INSTALLED",
        /// App uninstalled.
        AppUninstalled = "APP_UNINSTALLED",
        /// Subscription started.
        SubscriptionStarted = "SUBSCRIPTION_STARTED",
        /// Subscription changed.
        SubscriptionChanged = "SUBSCRIPTION_CHANGED",
        /// Subscription cancelled.
        SubscriptionCancelled = "SUBSCRIPTION_CANCELLED",
        /// Stage changed.
        StageChanged = "STAGE_CHANGED",
        /// Milestone.
        Milestone = "MILESTONE",
    }
}

named_enum! {
    /// Whether the partner discloses something.
    DisclosureState of v1::DisclosureState {
        /// Shared.
        Shared = "SHARED",
        /// Not shared.
        NotShared = "NOT_SHARED",
    }
}

named_enum! {
    /// Action segment.
    ActionSegment of v1::ActionSegment {
        /// Customers of both.
        MutualCustomers = "MUTUAL_CUSTOMERS",
        /// Open with me, customers of the partner.
        MyProspectsTheirCustomers = "MY_PROSPECTS_THEIR_CUSTOMERS",
        /// A customer of one side and open with the other.
        ComplementaryStages = "COMPLEMENTARY_STAGES",
        /// A customer of exactly one side.
        OneSolution = "ONE_SOLUTION",
        /// First matched in the last 30 days.
        NewlyShared = "NEWLY_SHARED",
        /// Lost or churned with either side, or the last event of either is an uninstall, a cancellation or a move to lost or churned.
        AtRisk = "AT_RISK",
    }
}

messages! {
    /// Something that happened to a shared customer.
    TimelineEvent of v1::TimelineEvent {
        at: Option<Timestamp>,
        side: TimelineSide,
        /// For events of mine the record's id; for the partner's an id that means something to its node only.
        id: String,
        r#type: TimelineEventType,
        /// For STAGE_CHANGED the new stage's id.
        label: String,
        /// For events of mine: whom it happened with, as the platform names partners.
        partner: String,
    }

    /// The events of one shared customer.
    CustomerTimeline of v1::GetTimelineResponse {
        /// By time, then side, then id. At most the latest 10,000 of each side.
        events: Vec<TimelineEvent>,
        partner_timeline: DisclosureState,
    }

    /// How many shared customers moved from a stage to another.
    StageMovement of v1::StageMovement {
        side: TimelineSide,
        /// Empty where the stage before is not known.
        from: String,
        to: String,
        count: u64,
    }

    /// The movements of a month.
    StageMovementMonth of v1::StageMovementMonth {
        /// E.g. "2026-03".
        month: String,
        /// By side, from, to.
        movements: Vec<StageMovement>,
    }

    /// How shared customers moved between stages.
    StageMovements of v1::GetStageMovementsResponse {
        /// Over the whole period, by side, from, to.
        movements: Vec<StageMovement>,
        /// Every month of the period.
        months: Vec<StageMovementMonth>,
        /// Without the partner's timeline its movements are not known.
        partner_timeline: DisclosureState,
    }

    /// How many of the prospects the partner referred became customers.
    ReferralConversion of v1::GetReferralConversionResponse {
        /// Customers referred in the period.
        referred: u64,
        /// Those of them that reached a stage of category CUSTOMER after being referred.
        converted: u64,
        /// Converted / referred; unset if nobody was referred.
        conversion: Option<f64>,
        as_of: Option<Timestamp>,
    }

    /// The size of an action segment.
    ActionSegmentCount of v1::ActionSegmentCount {
        segment: ActionSegment,
        /// Of listed customers.
        count: u64,
    }

    /// The sizes of all action segments.
    ActionSegments of v1::GetActionSegmentsResponse {
        /// Every segment, in the order of the enumeration.
        segments: Vec<ActionSegmentCount>,
        partner_timeline: DisclosureState,
        as_of: Option<Timestamp>,
    }

    /// A shared customer of an action segment.
    ActionSegmentCustomer of v1::ActionSegmentCustomer {
        /// My record that names the shared customer.
        id: String,
        mine: String,
        theirs: String,
        first_matched_at: Option<Timestamp>,
        /// The latest event of either side that I know of.
        last_event: Option<TimelineEvent>,
    }
}

impl Client {
    /// The events of one shared customer, by the id of any of my records of it.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn timeline(&self, partner: &str, customer: &str) -> Result<CustomerTimeline, Error> {
        let answer = ask!(self.timeline_api().get_timeline(v1::GetTimelineRequest {
            partner: partner.to_owned(),
            customer: customer.to_owned(),
        }))
        .await?;
        CustomerTimeline::from_wire(answer)
    }

    /// How shared customers moved between stages.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn stage_movements(
        &self,
        partner: &str,
        months: Months,
    ) -> Result<StageMovements, Error> {
        let answer = ask!(
            self.timeline_api()
                .get_stage_movements(v1::GetStageMovementsRequest {
                    partner: partner.to_owned(),
                    start: months.start.map(wire_time),
                    end: months.end.map(wire_time),
                    time_zone: months.time_zone.unwrap_or_default(),
                })
        )
        .await?;
        StageMovements::from_wire(answer)
    }

    /// How many of the prospects that the partner referred became customers.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn referral_conversion(
        &self,
        partner: &str,
        months: Months,
    ) -> Result<ReferralConversion, Error> {
        let answer = ask!(self.timeline_api().get_referral_conversion(
            v1::GetReferralConversionRequest {
                partner: partner.to_owned(),
                start: months.start.map(wire_time),
                end: months.end.map(wire_time),
                time_zone: months.time_zone.unwrap_or_default(),
            }
        ))
        .await?;
        ReferralConversion::from_wire(answer)
    }

    /// How many shared customers are in every action segment.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn action_segments(&self, partner: &str) -> Result<ActionSegments, Error> {
        let answer = ask!(
            self.timeline_api()
                .get_action_segments(v1::GetActionSegmentsRequest {
                    partner: partner.to_owned(),
                })
        )
        .await?;
        ActionSegments::from_wire(answer)
    }

    /// One page of the shared customers of an action segment, by id.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_action_segment(
        &self,
        partner: &str,
        segment: ActionSegment,
        page: PageRequest,
    ) -> Result<Page<ActionSegmentCustomer>, Error> {
        let answer = ask!(
            self.timeline_api()
                .list_action_segment(v1::ListActionSegmentRequest {
                    partner: partner.to_owned(),
                    segment: segment.to_proto(),
                    page_size: page.size(),
                    page_token: page.token,
                })
        )
        .await?;
        Page::of(
            answer.customers,
            answer.next_page_token,
            Some(answer.total_size),
        )
    }

    /// Every shared customer of an action segment, by id.
    pub fn action_segment<'a>(
        &'a self,
        partner: &'a str,
        segment: ActionSegment,
    ) -> impl Stream<Item = Result<ActionSegmentCustomer, Error>> + Send + 'a {
        entries(move |page| self.list_action_segment(partner, segment, page))
    }
}
