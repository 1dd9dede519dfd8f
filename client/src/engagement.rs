//! What partners do in the portal.

mod partners;

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{
    Client, Error, Page, PageRequest, PartnerType,
    message::{FromWire as _, TimeSpan},
    paging::entries,
    v1,
};

pub use partners::{
    AtRiskPartner, AtRiskPartners, EngagementComparison, EngagementGroup, EngagementGroups,
    EngagementRisk, Leaderboard, LeaderboardColumn, LeaderboardOrder, LeaderboardRow,
    SortDirection,
};

named_enum! {
    /// Quick range.
    QuickRange of v1::QuickRange {
        /// Today and the 29 days before it.
        Last30Days = "LAST_30_DAYS",
        /// From the first of the month to today; likewise the others that begin with THIS.
        ThisMonth = "THIS_MONTH",
        /// Last month.
        LastMonth = "LAST_MONTH",
        /// This quarter.
        ThisQuarter = "THIS_QUARTER",
        /// Last quarter.
        LastQuarter = "LAST_QUARTER",
        /// This year.
        ThisYear = "THIS_YEAR",
        /// Last year.
        LastYear = "LAST_YEAR",
    }
}

named_enum! {
    /// Why there is nothing to show.
    NoDataReason of v1::NoDataReason {
        /// No partner of the selection has a portal user.
        NoAccess = "NO_ACCESS",
        /// There are portal users, but none was active.
        NoLogins = "NO_LOGINS",
        /// There is activity, but not within the filter.
        FilteredOut = "FILTERED_OUT",
        /// Nothing has been ingested for this time yet.
        NotIngested = "NOT_INGESTED",
    }
}

named_enum! {
    /// Engagement bucket size.
    EngagementBucketSize of v1::EngagementBucketSize {
        /// Day.
        Day = "DAY",
        /// ISO 8601 weeks, Monday to Sunday.
        Week = "WEEK",
        /// Month.
        Month = "MONTH",
    }
}

named_enum! {
    /// Engagement period.
    EngagementPeriod of v1::EngagementPeriod {
        /// Month.
        Month = "MONTH",
        /// Quarter.
        Quarter = "QUARTER",
        /// Year.
        Year = "YEAR",
    }
}

named_enum! {
    /// Trend direction.
    TrendDirection of v1::TrendDirection {
        /// Steady.
        Steady = "STEADY",
        /// Increasing.
        Increasing = "INCREASING",
        /// Declining.
        Declining = "DECLINING",
    }
}

named_enum! {
    /// Export format.
    ExportFormat of v1::ExportFormat {
        /// Csv.
        Csv = "CSV",
        /// Ndjson.
        Ndjson = "NDJSON",
    }
}

named_enum! {
    /// Engagement export.
    EngagementExport of v1::EngagementExport {
        /// Leaderboard.
        Leaderboard = "LEADERBOARD",
        /// Timeline.
        Timeline = "TIMELINE",
        /// Resources.
        Resources = "RESOURCES",
        /// Rooms.
        Rooms = "ROOMS",
    }
}

messages! {
    /// What was counted.
    EngagementScope of v1::EngagementScope {
        /// The time span `[start, end)` and its days, in time_zone.
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        first_day: String,
        last_day: String,
        time_zone: String,
        as_of: Option<Timestamp>,
        /// The latest portal event ingested; unset if there is none.
        data_through: Option<Timestamp>,
        /// Version of the engagement definitions.
        definition_version: u32,
        /// Types that may be filtered by.
        available_types: Vec<PartnerType>,
        /// Set if there is nothing to show.
        no_data_reason: Option<NoDataReason>,
    }

    /// The five key figures.
    EngagementFigures of v1::EngagementFigures {
        unique_users: u64,
        sessions: u64,
        page_views: u64,
        actions: u64,
        /// Unset if there is no session.
        average_duration: Option<TimeSpan>,
        /// What it is the mean of: total_duration / sessions.
        total_duration: Option<TimeSpan>,
    }

    /// The five key figures of a period.
    EngagementSummary of v1::GetEngagementSummaryResponse {
        figures: EngagementFigures = "the figures",
        scope: EngagementScope = "the scope",
    }

    /// One day, week or month.
    EngagementBucket of v1::EngagementBucket {
        /// Inclusive days; the first and last bucket are clipped to the range.
        first_day: String,
        last_day: String,
        sessions: u64,
        page_views: u64,
        /// Distinct within the bucket: buckets do not add up to the whole.
        unique_users: u64,
    }

    /// Sessions, page views and unique users over time.
    EngagementTimeline of v1::GetEngagementTimelineResponse {
        /// Without gaps, ascending.
        buckets: Vec<EngagementBucket>,
        bucket_size: EngagementBucketSize,
        scope: EngagementScope = "the scope",
    }

    /// One month, quarter or year.
    EngagementHistoryEntry of v1::EngagementHistoryEntry {
        /// E.g. "2026-03", "2026-Q1", "2026".
        label: String,
        first_day: String,
        last_day: String,
        figures: EngagementFigures = "the figures",
    }

    /// The key figures of the latest months, quarters or years.
    EngagementHistory of v1::GetEngagementHistoryResponse {
        /// Ascending.
        entries: Vec<EngagementHistoryEntry>,
        scope: EngagementScope = "the scope",
    }

    /// A resource and who looked at it.
    TopResource of v1::TopResource {
        id: String,
        title: String,
        /// Link to it; empty if the platform gave none.
        uri: String,
        page_views: u64,
        unique_users: u64,
    }

    /// One page of resources by page views.
    TopResources of v1::ListTopResourcesResponse {
        /// By page views, then unique users, descending, then id.
        resources: Vec<TopResource>,
        #[serde(skip_serializing_if = "String::is_empty")]
        next_page_token: String,
        scope: EngagementScope = "the scope",
    }

    /// A room and who was there.
    TopRoom of v1::TopRoom {
        id: String,
        title: String,
        page_views: u64,
        unique_users: u64,
    }

    /// One page of rooms by page views.
    TopRooms of v1::ListTopRoomsResponse {
        /// By page views, then unique users, descending, then id.
        rooms: Vec<TopRoom>,
        #[serde(skip_serializing_if = "String::is_empty")]
        next_page_token: String,
        scope: EngagementScope = "the scope",
    }

    /// What a figure does over months.
    EngagementTrend of v1::EngagementTrend {
        /// The metric's id, e.g. "sessions".
        metric: String,
        direction: TrendDirection,
        /// Whether two full cycles of 12 months look alike; unset if there are not two.
        seasonal: Option<bool>,
        /// Monthly values, ascending; absent months are 0.
        values: Vec<f64>,
    }

    /// Whether figures rise, fall or follow the season.
    EngagementTrends of v1::GetEngagementTrendsResponse {
        trends: Vec<EngagementTrend>,
        scope: EngagementScope = "the scope",
    }
}

/// Which days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EngagementDays {
    /// Today and the 29 days before it.
    #[default]
    Default,
    /// By its name.
    Quick(QuickRange),
    /// YYYY-MM-DD, both inclusive.
    Days {
        /// The first day.
        first_day: String,
        /// The last day.
        last_day: String,
    },
}

/// Which partners and which days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngagementFilter {
    /// Which days.
    pub days: EngagementDays,
    /// IANA name, e.g. "Europe/Berlin"; UTC if unset.
    pub time_zone: Option<String>,
    /// Any of these; all if empty.
    pub partners: Vec<String>,
    /// Any of these; all available ones if empty.
    pub types: Vec<PartnerType>,
}

impl EngagementFilter {
    fn wire(&self) -> v1::EngagementFilter {
        use v1::engagement_filter::Range;
        v1::EngagementFilter {
            range: match &self.days {
                EngagementDays::Default => None,
                EngagementDays::Quick(range) => Some(Range::QuickRange(range.to_proto())),
                EngagementDays::Days {
                    first_day,
                    last_day,
                } => Some(Range::DateRange(v1::DateRange {
                    first_day: first_day.clone(),
                    last_day: last_day.clone(),
                })),
            },
            time_zone: self.time_zone.clone().unwrap_or_default(),
            partners: self.partners.clone(),
            types: self.types.iter().map(|kind| kind.to_proto()).collect(),
        }
    }
}

impl Client {
    /// The five key figures of a period.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn engagement_summary(
        &self,
        filter: &EngagementFilter,
    ) -> Result<EngagementSummary, Error> {
        let answer = ask!(self.engagement_api().get_engagement_summary(
            v1::GetEngagementSummaryRequest {
                filter: Some(filter.wire()),
            }
        ))
        .await?;
        EngagementSummary::from_wire(answer)
    }

    /// Sessions, page views and unique users over time.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn engagement_timeline(
        &self,
        filter: &EngagementFilter,
    ) -> Result<EngagementTimeline, Error> {
        let answer = ask!(self.engagement_api().get_engagement_timeline(
            v1::GetEngagementTimelineRequest {
                filter: Some(filter.wire()),
            }
        ))
        .await?;
        EngagementTimeline::from_wire(answer)
    }

    /// The key figures of the latest months, quarters or years: `count` of them, 12 if 0.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn engagement_history(
        &self,
        filter: &EngagementFilter,
        period: EngagementPeriod,
        count: u32,
    ) -> Result<EngagementHistory, Error> {
        let answer = ask!(self.engagement_api().get_engagement_history(
            v1::GetEngagementHistoryRequest {
                filter: Some(filter.wire()),
                period: period.to_proto(),
                count,
            }
        ))
        .await?;
        EngagementHistory::from_wire(answer)
    }

    /// One page of resources by page views.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_top_resources(
        &self,
        filter: &EngagementFilter,
        page: PageRequest,
    ) -> Result<TopResources, Error> {
        let answer = ask!(
            self.engagement_api()
                .list_top_resources(v1::ListTopResourcesRequest {
                    filter: Some(filter.wire()),
                    page_size: page.size(),
                    page_token: page.token,
                })
        )
        .await?;
        TopResources::from_wire(answer)
    }

    /// Every resource by page views.
    pub fn top_resources<'a>(
        &'a self,
        filter: &'a EngagementFilter,
    ) -> impl Stream<Item = Result<TopResource, Error>> + Send + 'a {
        entries(move |page| async move {
            let page = self.list_top_resources(filter, page).await?;
            Ok(Page::part(page.resources, page.next_page_token, None))
        })
    }

    /// One page of rooms by page views.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_top_rooms(
        &self,
        filter: &EngagementFilter,
        page: PageRequest,
    ) -> Result<TopRooms, Error> {
        let answer = ask!(
            self.engagement_api()
                .list_top_rooms(v1::ListTopRoomsRequest {
                    filter: Some(filter.wire()),
                    page_size: page.size(),
                    page_token: page.token,
                })
        )
        .await?;
        TopRooms::from_wire(answer)
    }

    /// Every room by page views.
    pub fn top_rooms<'a>(
        &'a self,
        filter: &'a EngagementFilter,
    ) -> impl Stream<Item = Result<TopRoom, Error>> + Send + 'a {
        entries(move |page| async move {
            let page = self.list_top_rooms(filter, page).await?;
            Ok(Page::part(page.rooms, page.next_page_token, None))
        })
    }

    /// Whether figures rise, fall or follow the season, over `months` complete months, 24 if 0.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn engagement_trends(
        &self,
        filter: &EngagementFilter,
        months: u32,
    ) -> Result<EngagementTrends, Error> {
        let answer = ask!(self.engagement_api().get_engagement_trends(
            v1::GetEngagementTrendsRequest {
                filter: Some(filter.wire()),
                months,
            }
        ))
        .await?;
        EngagementTrends::from_wire(answer)
    }

    /// Streams the leaderboard, the timeline, resources or rooms as a file.
    pub fn export_engagement(
        &self,
        filter: &EngagementFilter,
        export: EngagementExport,
        format: ExportFormat,
    ) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send + '_ {
        let message = v1::ExportEngagementRequest {
            filter: Some(filter.wire()),
            export: export.to_proto(),
            format: format.to_proto(),
        };
        let request = self.transfer_request(message);
        self.answers(
            async move { self.engagement_api().export_engagement(request).await },
            |answer| Ok(answer.chunk),
        )
    }
}
