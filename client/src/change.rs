//! What changed, for platforms that want to follow.

use std::collections::BTreeMap;

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{Client, Error, message::FromWire as _, v1};

named_enum! {
    /// Change kind.
    ChangeKind of v1::ChangeKind {
        /// A run found shared customers that were not shared before; the subject is the run.
        SharedCustomersFound = "SHARED_CUSTOMERS_FOUND",
        /// A run replaced the results; the subject is the run.
        ResultsReplaced = "RESULTS_REPLACED",
        /// The subject is the attribution.
        AttributionSent = "ATTRIBUTION_SENT",
        /// Attribution received.
        AttributionReceived = "ATTRIBUTION_RECEIVED",
        /// Attribution approved.
        AttributionApproved = "ATTRIBUTION_APPROVED",
        /// Attribution denied.
        AttributionDenied = "ATTRIBUTION_DENIED",
        /// Attribution cancelled.
        AttributionCancelled = "ATTRIBUTION_CANCELLED",
        /// The subject is the asset.
        AssetShared = "ASSET_SHARED",
        /// Asset received.
        AssetReceived = "ASSET_RECEIVED",
        /// By either side.
        AssetUnshared = "ASSET_UNSHARED",
        /// The partner told something new about itself.
        PartnerInfoUpdated = "PARTNER_INFO_UPDATED",
        /// The partner's events of shared customers changed.
        TimelineUpdated = "TIMELINE_UPDATED",
        /// Something about a shared customer needs attention; the subject is the alert, the details say which.
        Alert = "ALERT",
        /// Everything derived with the partner was removed.
        ResultsRemoved = "RESULTS_REMOVED",
        /// Something about the partner program needs attention; the subject is the program's alert.
        ProgramAlert = "PROGRAM_ALERT",
    }
}

messages! {
    /// Something that changed.
    Change of v1::Change {
        at: Option<Timestamp>,
        kind: ChangeKind,
        /// The partnership's id; empty if it concerns none.
        partner: String,
        /// What changed: an id within the kind.
        subject: String,
        /// Further facts, e.g. "count".
        details: BTreeMap<String, String>,
    }
}

/// Where to start and what to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// After this place: [`Watched::cursor`] of an earlier response.
    pub cursor: Option<String>,
    /// Without a cursor: from the oldest change that is kept, not from now on.
    pub from_oldest: bool,
    /// Only these kinds; all if empty.
    pub kinds: Vec<ChangeKind>,
    /// Only this partner's.
    pub partner: Option<String>,
}

/// One response of a watch.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Watched {
    /// Unset in the first response, and from time to time when nothing happens.
    pub change: Option<Change>,
    /// Where to resume after this response, also after the node or this program was started anew.
    pub cursor: String,
}

impl Client {
    /// Changes in order: those after the cursor, then new ones as they happen. Ends with the deadline of watching; a watch
    /// from the last [`Watched::cursor`] misses nothing.
    pub fn watch_changes(
        &self,
        filter: ChangeFilter,
    ) -> impl Stream<Item = Result<Watched, Error>> + Send + '_ {
        let request = self.watch_request(v1::WatchChangesRequest {
            cursor: filter.cursor.unwrap_or_default(),
            from_oldest: filter.from_oldest,
            kinds: filter.kinds.into_iter().map(ChangeKind::to_proto).collect(),
            partner: filter.partner.unwrap_or_default(),
        });
        self.answers(
            async move { self.change_api().watch_changes(request).await },
            |response| {
                Ok(Watched {
                    change: response.change.map(Change::from_wire).transpose()?,
                    cursor: response.cursor,
                })
            },
        )
    }
}
