//! Figures in the API's terms.

use overlap_proto::v1;

use super::figures::Figures;
use crate::records::times;

impl Figures {
    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::EngagementFigures {
        v1::EngagementFigures {
            unique_users: self.unique_users,
            sessions: self.sessions,
            page_views: self.page_views,
            actions: self.actions,
            average_duration: self.average_duration().map(times::duration),
            total_duration: Some(times::duration(self.duration)),
        }
    }
}
