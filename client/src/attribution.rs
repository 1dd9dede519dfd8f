//! Credit for shared customers: one side says how it influenced a customer, the other approves or denies.

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{
    Client, Error, Page, PageRequest,
    convert::present,
    message::{FromWire as _, wire_time},
    paging::entries,
    v1,
};

named_enum! {
    /// Attribution state.
    AttributionState of v1::AttributionState {
        /// Not decided.
        Pending = "PENDING",
        /// Approved.
        Approved = "APPROVED",
        /// Denied.
        Denied = "DENIED",
        /// Withdrawn by the requester before there was a decision.
        Cancelled = "CANCELLED",
    }
}

named_enum! {
    /// Attribution direction.
    AttributionDirection of v1::AttributionDirection {
        /// I asked.
        Sent = "SENT",
        /// The partner asked.
        Received = "RECEIVED",
    }
}

messages! {
    /// One request, as this node has it.
    Attribution of v1::Attribution {
        /// The same on both nodes.
        id: String,
        /// The partnership's id.
        partner: String,
        direction: AttributionDirection,
        state: AttributionState,
        /// My record of the customer; empty where I have none that matches.
        customer: String,
        /// The pairwise handle under which the customer was named to the other node.
        r#ref: String,
        /// How the requester influenced the customer.
        details: String,
        /// What the decider had to say.
        comment: String,
        requested_at: Option<Timestamp>,
        /// By the clock of the node that received the request; set unless PENDING.
        decided_at: Option<Timestamp>,
        /// Set where the requester wants to withdraw the request and the other node has not confirmed.
        cancel_requested_at: Option<Timestamp>,
        /// Who asked or decided here, as in the token.
        user: String,
    }

    /// Approvals of a month.
    AttributionMonth of v1::AttributionMonth {
        /// E.g. "2026-03".
        month: String,
        /// Approved by the partner.
        sent_approved: u64,
        /// Approved by me.
        received_approved: u64,
    }

    /// Approved requests, overall and by the month of their decision.
    AttributionMetrics of v1::GetAttributionMetricsResponse {
        /// Over all time.
        sent_approved: u64,
        received_approved: u64,
        /// Every month of the period, zeros included.
        months: Vec<AttributionMonth>,
        as_of: Option<Timestamp>,
    }
}

/// What to ask of the partner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAttribution {
    /// Any of my records of the shared customer.
    pub customer: String,
    /// How I influenced the customer; the partner reads it.
    pub details: String,
    /// Repeating a request with the same id returns the same attribution.
    pub request_id: Option<String>,
}

/// How to answer a request of the partner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// For both sides to read.
    pub comment: Option<String>,
    /// Repeating a decision with the same id returns the same answer.
    pub request_id: Option<String>,
}

/// Which requests to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributionFilter {
    /// Only this state.
    pub state: Option<AttributionState>,
    /// Only this customer of mine.
    pub customer: Option<String>,
}

/// `[start, end)`, in whose months things are counted; the node's default where unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Months {
    /// The first instant.
    pub start: Option<Timestamp>,
    /// The first instant after it.
    pub end: Option<Timestamp>,
    /// IANA name of the time zone whose months count; UTC if unset.
    pub time_zone: Option<String>,
}

impl Client {
    /// Asks the partner to attribute a shared customer to my influence.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn request_attribution(
        &self,
        partner: &str,
        new: NewAttribution,
    ) -> Result<Attribution, Error> {
        let answer = ask!(self.attribution_api().request_attribution(
            v1::RequestAttributionRequest {
                partner: partner.to_owned(),
                customer: new.customer,
                details: new.details,
                request_id: new.request_id.unwrap_or_default(),
            }
        ))
        .await?;
        Attribution::from_wire(present(answer.attribution, "the attribution")?)
    }

    /// One page of what was asked of the partner ([`AttributionDirection::Sent`]) or by it, newest first.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_attributions(
        &self,
        partner: &str,
        direction: AttributionDirection,
        filter: &AttributionFilter,
        page: PageRequest,
    ) -> Result<Page<Attribution>, Error> {
        let (partner, page_size, page_token) = (partner.to_owned(), page.size(), page.token);
        let state = filter.state.unwrap_or_default().to_proto();
        let customer = filter.customer.clone().unwrap_or_default();
        if direction == AttributionDirection::Received {
            let answer = ask!(self.attribution_api().list_received_attributions(
                v1::ListReceivedAttributionsRequest {
                    partner,
                    page_size,
                    page_token,
                    state,
                    customer,
                }
            ))
            .await?;
            return Page::of(
                answer.attributions,
                answer.next_page_token,
                Some(answer.total_size),
            );
        }
        let answer = ask!(self.attribution_api().list_sent_attributions(
            v1::ListSentAttributionsRequest {
                partner,
                page_size,
                page_token,
                state,
                customer,
            }
        ))
        .await?;
        Page::of(
            answer.attributions,
            answer.next_page_token,
            Some(answer.total_size),
        )
    }

    /// Every request of a direction that the filter admits, newest first.
    pub fn attributions<'a>(
        &'a self,
        partner: &'a str,
        direction: AttributionDirection,
        filter: &'a AttributionFilter,
    ) -> impl Stream<Item = Result<Attribution, Error>> + Send + 'a {
        entries(move |page| self.list_attributions(partner, direction, filter, page))
    }

    /// One request.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn attribution(&self, partner: &str, id: &str) -> Result<Attribution, Error> {
        let answer = ask!(
            self.attribution_api()
                .get_attribution(v1::GetAttributionRequest {
                    partner: partner.to_owned(),
                    id: id.to_owned(),
                })
        )
        .await?;
        Attribution::from_wire(present(answer.attribution, "the attribution")?)
    }

    /// Approves a request of the partner.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn approve_attribution(
        &self,
        partner: &str,
        id: &str,
        decision: Decision,
    ) -> Result<Attribution, Error> {
        let answer = ask!(self.attribution_api().approve_attribution(
            v1::ApproveAttributionRequest {
                partner: partner.to_owned(),
                id: id.to_owned(),
                comment: decision.comment.unwrap_or_default(),
                request_id: decision.request_id.unwrap_or_default(),
            }
        ))
        .await?;
        Attribution::from_wire(present(answer.attribution, "the attribution")?)
    }

    /// Denies a request of the partner.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn deny_attribution(
        &self,
        partner: &str,
        id: &str,
        decision: Decision,
    ) -> Result<Attribution, Error> {
        let answer = ask!(
            self.attribution_api()
                .deny_attribution(v1::DenyAttributionRequest {
                    partner: partner.to_owned(),
                    id: id.to_owned(),
                    comment: decision.comment.unwrap_or_default(),
                    request_id: decision.request_id.unwrap_or_default(),
                })
        )
        .await?;
        Attribution::from_wire(present(answer.attribution, "the attribution")?)
    }

    /// Withdraws a request of mine; still pending, with `cancel_requested_at`, where the partner's node has not confirmed.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn cancel_attribution(
        &self,
        partner: &str,
        id: &str,
        request_id: Option<&str>,
    ) -> Result<Attribution, Error> {
        let answer = ask!(self.attribution_api().cancel_attribution(
            v1::CancelAttributionRequest {
                partner: partner.to_owned(),
                id: id.to_owned(),
                request_id: request_id.unwrap_or_default().to_owned(),
            }
        ))
        .await?;
        Attribution::from_wire(present(answer.attribution, "the attribution")?)
    }

    /// How many requests were approved, overall and by the month of their decision.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn attribution_metrics(
        &self,
        partner: &str,
        months: Months,
    ) -> Result<AttributionMetrics, Error> {
        let answer = ask!(self.attribution_api().get_attribution_metrics(
            v1::GetAttributionMetricsRequest {
                partner: partner.to_owned(),
                start: months.start.map(wire_time),
                end: months.end.map(wire_time),
                time_zone: months.time_zone.unwrap_or_default(),
            }
        ))
        .await?;
        AttributionMetrics::from_wire(answer)
    }
}
