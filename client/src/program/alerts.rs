//! What needs attention.

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{
    Client, Error, Page, PageRequest, ProgramFilter, message::FromWire as _, paging::entries, v1,
};

named_enum! {
    /// Alert kind.
    AlertKind of v1::AlertKind {
        /// Stalled deal.
        StalledDeal = "STALLED_DEAL",
        /// Expiring certification.
        ExpiringCertification = "EXPIRING_CERTIFICATION",
        /// Missed target.
        MissedTarget = "MISSED_TARGET",
        /// Swing.
        Swing = "SWING",
        /// Approval rate drop.
        ApprovalRateDrop = "APPROVAL_RATE_DROP",
    }
}

messages! {
    /// Something that needs attention.
    Alert of v1::Alert {
        /// Stable as long as its cause lasts.
        id: String,
        kind: AlertKind,
        partner: String,
        /// The deal, certification, target, metric or region.
        subject: String,
        message: String,
        /// Since when.
        since: Option<Timestamp>,
    }

    /// One page of what needs attention.
    Alerts of v1::ListAlertsResponse {
        /// By kind, then id.
        alerts: Vec<Alert>,
        #[serde(skip_serializing_if = "String::is_empty")]
        next_page_token: String,
        as_of: Option<Timestamp>,
    }
}

impl Client {
    /// One page of what needs attention, of certain kinds if `kinds` names any.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_alerts(
        &self,
        filter: &ProgramFilter,
        kinds: &[AlertKind],
        page: PageRequest,
    ) -> Result<Alerts, Error> {
        let answer = ask!(self.program_api().list_alerts(v1::ListAlertsRequest {
            filter: Some(filter.wire()),
            kinds: kinds.iter().map(|kind| kind.to_proto()).collect(),
            page_size: page.size(),
            page_token: page.token,
        }))
        .await?;
        Alerts::from_wire(answer)
    }

    /// Everything that needs attention.
    pub fn alerts<'a>(
        &'a self,
        filter: &'a ProgramFilter,
        kinds: &'a [AlertKind],
    ) -> impl Stream<Item = Result<Alert, Error>> + Send + 'a {
        entries(move |page| async move {
            let page = self.list_alerts(filter, kinds, page).await?;
            Ok(Page::part(page.alerts, page.next_page_token, None))
        })
    }
}
