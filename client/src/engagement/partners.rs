//! Partners beside each other: by rank, by risk, by group.

use futures::stream::Stream;
use jiff::Timestamp;

use super::{EngagementFigures, EngagementFilter, EngagementScope};
use crate::{
    Client, Error, Page, PageRequest, PartnerType, message::FromWire as _, paging::entries, v1,
};

named_enum! {
    /// Leaderboard column.
    LeaderboardColumn of v1::LeaderboardColumn {
        /// Score.
        Score = "SCORE",
        /// Name.
        Name = "NAME",
        /// Type.
        Type = "TYPE",
        /// Unique users.
        UniqueUsers = "UNIQUE_USERS",
        /// Sessions.
        Sessions = "SESSIONS",
        /// Page views.
        PageViews = "PAGE_VIEWS",
        /// Average duration.
        AverageDuration = "AVERAGE_DURATION",
        /// Actions.
        Actions = "ACTIONS",
    }
}

named_enum! {
    /// Sort direction.
    SortDirection of v1::SortDirection {
        /// Ascending.
        Ascending = "ASCENDING",
        /// Descending.
        Descending = "DESCENDING",
    }
}

named_enum! {
    /// Engagement risk.
    EngagementRisk of v1::EngagementRisk {
        /// Access, but no session in the range.
        Inactive = "INACTIVE",
        /// Average duration fell against the period of equal length before.
        DecliningDuration = "DECLINING_DURATION",
        /// Actions per session below the 25th percentile of active partners.
        LowActions = "LOW_ACTIONS",
    }
}

named_enum! {
    /// Engagement comparison.
    EngagementComparison of v1::EngagementComparison {
        /// Referral and reseller.
        Type = "TYPE",
        /// Enrolled at most 90 days before as_of, and longer.
        Tenure = "TENURE",
        /// Top quartile by score, and the others.
        Level = "LEVEL",
    }
}

messages! {
    /// One partner on the leaderboard.
    LeaderboardRow of v1::LeaderboardRow {
        /// By score, whatever the order of the list: 1, 1, 3.
        rank: u32,
        partner: String,
        name: String,
        logo_uri: String,
        r#type: Option<PartnerType>,
        figures: EngagementFigures = "the figures",
        /// 0 to 100, rounded to a double; ranks compare the exact fractions.
        score: f64,
    }

    /// One page of partners by their engagement score.
    Leaderboard of v1::ListLeaderboardResponse {
        rows: Vec<LeaderboardRow>,
        #[serde(skip_serializing_if = "String::is_empty")]
        next_page_token: String,
        total_size: u64,
        /// Of all partners, not of the page; users are distinct.
        totals: EngagementFigures = "the totals",
        scope: EngagementScope = "the scope",
    }

    /// A partner that may be lost.
    AtRiskPartner of v1::AtRiskPartner {
        partner: String,
        name: String,
        r#type: Option<PartnerType>,
        risks: Vec<EngagementRisk>,
        figures: EngagementFigures = "the figures",
        previous_figures: EngagementFigures = "the previous figures",
        /// Start of the last session before the range's end, within two ranges; unset if none.
        last_session_at: Option<Timestamp>,
    }

    /// One page of partners that are about to be lost.
    AtRiskPartners of v1::ListAtRiskPartnersResponse {
        /// By number of risks, descending, then id.
        partners: Vec<AtRiskPartner>,
        #[serde(skip_serializing_if = "String::is_empty")]
        next_page_token: String,
        scope: EngagementScope = "the scope",
    }

    /// A group of partners.
    EngagementGroup of v1::EngagementGroup {
        /// REFERRAL, RESELLER, NEW, ESTABLISHED, HIGH, AVERAGE, or UNKNOWN.
        id: String,
        partners: u64,
        figures: EngagementFigures = "the figures",
    }

    /// Groups of partners side by side.
    EngagementGroups of v1::CompareEngagementResponse {
        groups: Vec<EngagementGroup>,
        scope: EngagementScope = "the scope",
    }
}

/// How to sort the leaderboard; ranks are by score whatever the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderboardOrder {
    /// Score if unset.
    pub column: Option<LeaderboardColumn>,
    /// Descending for figures, ascending for names and types, if unset.
    pub direction: Option<SortDirection>,
}

impl Client {
    /// One page of partners by their engagement score, or by another column.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_leaderboard(
        &self,
        filter: &EngagementFilter,
        order: LeaderboardOrder,
        page: PageRequest,
    ) -> Result<Leaderboard, Error> {
        let answer = ask!(
            self.engagement_api()
                .list_leaderboard(v1::ListLeaderboardRequest {
                    filter: Some(filter.wire()),
                    order_by: order.column.unwrap_or_default().to_proto(),
                    direction: order.direction.unwrap_or_default().to_proto(),
                    page_size: page.size(),
                    page_token: page.token,
                    read_mask: None,
                })
        )
        .await?;
        Leaderboard::from_wire(answer)
    }

    /// Every partner by its engagement score, or by another column.
    pub fn leaderboard<'a>(
        &'a self,
        filter: &'a EngagementFilter,
        order: LeaderboardOrder,
    ) -> impl Stream<Item = Result<LeaderboardRow, Error>> + Send + 'a {
        entries(move |page| async move {
            let page = self.list_leaderboard(filter, order, page).await?;
            Ok(Page::part(
                page.rows,
                page.next_page_token,
                Some(page.total_size),
            ))
        })
    }

    /// One page of partners that are about to be lost, of certain risks if `risks` names any.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_at_risk_partners(
        &self,
        filter: &EngagementFilter,
        risks: &[EngagementRisk],
        page: PageRequest,
    ) -> Result<AtRiskPartners, Error> {
        let answer = ask!(self.engagement_api().list_at_risk_partners(
            v1::ListAtRiskPartnersRequest {
                filter: Some(filter.wire()),
                risks: risks.iter().map(|risk| risk.to_proto()).collect(),
                page_size: page.size(),
                page_token: page.token,
            }
        ))
        .await?;
        AtRiskPartners::from_wire(answer)
    }

    /// Every partner that is about to be lost.
    pub fn at_risk_partners<'a>(
        &'a self,
        filter: &'a EngagementFilter,
        risks: &'a [EngagementRisk],
    ) -> impl Stream<Item = Result<AtRiskPartner, Error>> + Send + 'a {
        entries(move |page| async move {
            let page = self.list_at_risk_partners(filter, risks, page).await?;
            Ok(Page::part(page.partners, page.next_page_token, None))
        })
    }

    /// Groups of partners side by side.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn compare_engagement(
        &self,
        filter: &EngagementFilter,
        comparison: EngagementComparison,
    ) -> Result<EngagementGroups, Error> {
        let answer = ask!(
            self.engagement_api()
                .compare_engagement(v1::CompareEngagementRequest {
                    filter: Some(filter.wire()),
                    comparison: comparison.to_proto(),
                })
        )
        .await?;
        EngagementGroups::from_wire(answer)
    }
}
