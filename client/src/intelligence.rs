//! What the program's records say about partners beyond its numbers.

use futures::stream::Stream;
use jiff::Timestamp;

use crate::{
    Client, Error, Metric, Page, PageRequest, PartnerType, ProgramFilter, convert::present,
    message::FromWire, paging::entries, v1,
};

named_enum! {
    /// Card tone.
    CardTone of v1::CardTone {
        /// Blue.
        Blue = "BLUE",
        /// Green.
        Green = "GREEN",
        /// Purple.
        Purple = "PURPLE",
        /// Orange.
        Orange = "ORANGE",
        /// Red.
        Red = "RED",
    }
}

named_enum! {
    /// Partner score.
    PartnerScore of v1::PartnerScore {
        /// Capacity.
        Capacity = "CAPACITY",
        /// Capability.
        Capability = "CAPABILITY",
        /// Commitment.
        Commitment = "COMMITMENT",
        /// Customer alignment.
        CustomerAlignment = "CUSTOMER_ALIGNMENT",
    }
}

named_enum! {
    /// Coverage dimension.
    CoverageDimension of v1::CoverageDimension {
        /// Region.
        Region = "REGION",
        /// Within each partner type.
        Subtype = "SUBTYPE",
        /// Vertical.
        Vertical = "VERTICAL",
        /// Offering.
        Offering = "OFFERING",
    }
}

messages! {
    /// A metric as a card.
    MetricCard of v1::MetricCard {
        label: String,
        /// What people read, e.g. "1,250.00 EUR" or "37.5%"; "n/a" where it is unset.
        value: String,
        description: String,
        tone: CardTone,
        metric: Metric = "the metric",
    }

    /// Something partners are good at.
    PartnerStrength of v1::PartnerStrength {
        label: String,
        description: String,
        partners: u64,
        average_score: f64,
    }

    /// What partners are good at.
    PartnerStrengths of v1::ListPartnerStrengthsResponse {
        /// By partners, then average score, descending, then label.
        strengths: Vec<PartnerStrength>,
        /// Set if the list is empty.
        empty_reason: String,
    }

    /// What the platform was asked.
    AnalysisRefreshRequest of v1::AnalysisRefreshRequest {
        sequence: u64,
        /// Empty for all.
        partner: String,
        requested_by: String,
        requested_at: Option<Timestamp>,
    }

    /// A low score of a partner.
    AreaToAddress of v1::AreaToAddress {
        partner: String,
        name: String,
        score: PartnerScore,
        value: u32,
    }

    /// Partners of a lifecycle stage or status.
    LifecycleCard of v1::LifecycleCard {
        label: String,
        partners: u64,
        /// Of all profiles; unset if there is none.
        percent: Option<f64>,
    }

    /// How many partners are in each lifecycle stage and status.
    PartnerLifecycle of v1::GetPartnerLifecycleResponse {
        /// By partners, descending, then label; UNKNOWN where a profile has none.
        stages: Vec<LifecycleCard>,
        statuses: Vec<LifecycleCard>,
        profiles: u64,
    }

    /// How many partners cover something.
    CoverageEntry of v1::CoverageEntry {
        /// Case-folded for comparison; written as the first profile (by id) has it.
        value: String,
        r#type: Option<PartnerType>,
        partners: u64,
        percent: Option<f64>,
    }

    /// How many partners cover each region, subtype, vertical or offering.
    PartnerCoverage of v1::GetPartnerCoverageResponse {
        /// By partners, descending, then value.
        entries: Vec<CoverageEntry>,
        /// A partner may be in several entries.
        multi_valued: bool,
        profiles: u64,
    }

    /// Something too few partners cover.
    CoverageGap of v1::CoverageGap {
        value: String,
        partners: u64,
    }

    /// What too few partners cover.
    CoverageGaps of v1::ListCoverageGapsResponse {
        /// In the order of the reference list.
        gaps: Vec<CoverageGap>,
        /// Values partners cover that the reference list does not name.
        unlisted: Vec<String>,
    }

    /// One tier.
    TierComparison of v1::TierComparison {
        tier: String,
        partners: u64,
        early_partners: u64,
        late_partners: u64,
        metrics: Vec<Metric>,
        /// More than half of the tier's partners are in an early stage.
        early_stage_concentration: bool,
        /// More than half of the tier's late-stage partners closed nothing in the period.
        slow_late_stage_value: bool,
    }

    /// Whether a tile is shown.
    TilePreference of v1::TilePreference {
        tile: String,
        visible: bool,
    }
}

impl Client {
    /// The metric cards that the caller chose to see.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn metric_cards(&self, filter: &ProgramFilter) -> Result<Vec<MetricCard>, Error> {
        let answer = ask!(
            self.intelligence_api()
                .list_metric_cards(v1::ListMetricCardsRequest {
                    filter: Some(filter.wire()),
                })
        )
        .await?;
        FromWire::from_wire(answer.cards)
    }

    /// What partners are good at.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn partner_strengths(
        &self,
        filter: &ProgramFilter,
    ) -> Result<PartnerStrengths, Error> {
        let answer = ask!(self.intelligence_api().list_partner_strengths(
            v1::ListPartnerStrengthsRequest {
                filter: Some(filter.wire()),
            }
        ))
        .await?;
        PartnerStrengths::from_wire(answer)
    }

    /// Asks the platform to analyse a partner, or all, anew. Calls with the same request id ask once.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn request_analysis_refresh(
        &self,
        partner: Option<&str>,
        request_id: Option<&str>,
    ) -> Result<AnalysisRefreshRequest, Error> {
        let answer = ask!(self.intelligence_api().request_analysis_refresh(
            v1::RequestAnalysisRefreshRequest {
                partner: partner.unwrap_or_default().to_owned(),
                request_id: request_id.unwrap_or_default().to_owned(),
            }
        ))
        .await?;
        AnalysisRefreshRequest::from_wire(present(answer.request, "the request")?)
    }

    /// What the platform was asked after a sequence number, oldest first: at most `page_size`, 100 if 0.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn analysis_refresh_requests(
        &self,
        after_sequence: u64,
        page_size: u32,
    ) -> Result<Vec<AnalysisRefreshRequest>, Error> {
        let answer = ask!(self.intelligence_api().list_analysis_refresh_requests(
            v1::ListAnalysisRefreshRequestsRequest {
                after_sequence,
                page_size: i32::try_from(page_size).unwrap_or(i32::MAX),
            }
        ))
        .await?;
        FromWire::from_wire(answer.requests)
    }

    /// One page of scores below a number, 50 if unset, lowest first; of certain scores if `scores` names any.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn list_areas_to_address(
        &self,
        filter: &ProgramFilter,
        scores: &[PartnerScore],
        below: Option<u32>,
        page: PageRequest,
    ) -> Result<Page<AreaToAddress>, Error> {
        let answer = ask!(self.intelligence_api().list_areas_to_address(
            v1::ListAreasToAddressRequest {
                filter: Some(filter.wire()),
                scores: scores.iter().map(|score| score.to_proto()).collect(),
                below,
                page_size: page.size(),
                page_token: page.token,
            }
        ))
        .await?;
        Page::of(answer.areas, answer.next_page_token, None)
    }

    /// Every score below a number, 50 if unset, lowest first.
    pub fn areas_to_address<'a>(
        &'a self,
        filter: &'a ProgramFilter,
        scores: &'a [PartnerScore],
        below: Option<u32>,
    ) -> impl Stream<Item = Result<AreaToAddress, Error>> + Send + 'a {
        entries(move |page| self.list_areas_to_address(filter, scores, below, page))
    }

    /// How many partners are in each lifecycle stage and status.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn partner_lifecycle(
        &self,
        filter: &ProgramFilter,
    ) -> Result<PartnerLifecycle, Error> {
        let answer = ask!(self.intelligence_api().get_partner_lifecycle(
            v1::GetPartnerLifecycleRequest {
                filter: Some(filter.wire()),
            }
        ))
        .await?;
        PartnerLifecycle::from_wire(answer)
    }

    /// How many partners cover each region, subtype, vertical or offering.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn partner_coverage(
        &self,
        filter: &ProgramFilter,
        dimension: CoverageDimension,
    ) -> Result<PartnerCoverage, Error> {
        let answer = ask!(self.intelligence_api().get_partner_coverage(
            v1::GetPartnerCoverageRequest {
                filter: Some(filter.wire()),
                dimension: dimension.to_proto(),
            }
        ))
        .await?;
        PartnerCoverage::from_wire(answer)
    }

    /// The values of a reference list that fewer than `least_partners` cover, 1 if 0.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn coverage_gaps(
        &self,
        filter: &ProgramFilter,
        dimension: CoverageDimension,
        reference: &[String],
        least_partners: u32,
    ) -> Result<CoverageGaps, Error> {
        let answer = ask!(self.intelligence_api().list_coverage_gaps(
            v1::ListCoverageGapsRequest {
                filter: Some(filter.wire()),
                dimension: dimension.to_proto(),
                reference: reference.to_vec(),
                least_partners,
            }
        ))
        .await?;
        CoverageGaps::from_wire(answer)
    }

    /// Tiers side by side; the node's early and late stages where the lists are empty.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn compare_partner_tiers(
        &self,
        filter: &ProgramFilter,
        early_stages: &[String],
        late_stages: &[String],
    ) -> Result<Vec<TierComparison>, Error> {
        let answer = ask!(self.intelligence_api().compare_partner_tiers(
            v1::ComparePartnerTiersRequest {
                filter: Some(filter.wire()),
                early_stages: early_stages.to_vec(),
                late_stages: late_stages.to_vec(),
            }
        ))
        .await?;
        FromWire::from_wire(answer.tiers)
    }

    /// Which tiles of a view the caller sees.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn view_preferences(&self, view: &str) -> Result<Vec<TilePreference>, Error> {
        let answer = ask!(self.intelligence_api().get_view_preferences(
            v1::GetViewPreferencesRequest {
                view: view.to_owned(),
            }
        ))
        .await?;
        FromWire::from_wire(answer.tiles)
    }

    /// Shows or hides tiles, by their names, for the caller or for everyone who did not choose.
    ///
    /// # Errors
    /// What the node reports, or the way there.
    pub async fn update_view_preferences(
        &self,
        view: &str,
        tiles: &[(String, bool)],
        everyone: bool,
    ) -> Result<Vec<TilePreference>, Error> {
        let answer = ask!(
            self.intelligence_api()
                .update_view_preferences(v1::UpdateViewPreferencesRequest {
                    view: view.to_owned(),
                    tiles: tiles
                        .iter()
                        .map(|(tile, visible)| v1::TilePreference {
                            tile: tile.clone(),
                            visible: *visible,
                        })
                        .collect(),
                    everyone,
                })
        )
        .await?;
        FromWire::from_wire(answer.tiles)
    }
}
