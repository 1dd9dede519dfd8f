//! What the numbers of the partner program are made of.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Error, PartnerType, QuickRange,
    message::{FromWire, Money, TimeSpan, wire_time},
    v1::{self, metric_quantity::Quantity},
};

named_enum! {
    /// Metric unit.
    MetricUnit of v1::MetricUnit {
        /// Count.
        Count = "COUNT",
        /// Numerator / denominator.
        Ratio = "RATIO",
        /// Whole and fractional units of a currency; one value per currency.
        Money = "MONEY",
        /// Days.
        Days = "DAYS",
        /// Seconds.
        Seconds = "SECONDS",
    }
}

named_enum! {
    /// What the revenue of the channel is set against its cost as.
    ReturnBasis of v1::ReturnBasis {
        /// Revenue.
        Revenue = "REVENUE",
        /// Gross margin.
        GrossMargin = "GROSS_MARGIN",
    }
}

named_enum! {
    /// Retention measure.
    RetentionMeasure of v1::RetentionMeasure {
        /// Renewal.
        Renewal = "RENEWAL",
        /// Expansion.
        Expansion = "EXPANSION",
    }
}

named_enum! {
    /// Metric dimension.
    MetricDimension of v1::MetricDimension {
        /// Of the partner; any metric.
        Partner = "PARTNER",
        /// Type.
        Type = "TYPE",
        /// Segment.
        Segment = "SEGMENT",
        /// Tier.
        Tier = "TIER",
        /// Status.
        Status = "STATUS",
        /// Partner stage.
        PartnerStage = "PARTNER_STAGE",
        /// Partner region.
        PartnerRegion = "PARTNER_REGION",
        /// Vertical.
        Vertical = "VERTICAL",
        /// Specialisation.
        Specialisation = "SPECIALISATION",
        /// Business model.
        BusinessModel = "BUSINESS_MODEL",
        /// HIGH (5 or more active days in the 30 before as_of), MEDIUM (2 to 4), LOW (1), NONE.
        EngagementLevel = "ENGAGEMENT_LEVEL",
        /// Of the deal; metrics about deals only.
        Account = "ACCOUNT",
        /// Deal stage.
        DealStage = "DEAL_STAGE",
        /// Region.
        Region = "REGION",
        /// Territory.
        Territory = "TERRITORY",
        /// Industry.
        Industry = "INDUSTRY",
        /// Product.
        Product = "PRODUCT",
        /// Deal type.
        DealType = "DEAL_TYPE",
    }
}

messages! {
    /// Half-open: start <= t < end.
    TimeInterval of v1::TimeInterval {
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    }

    /// What a metric means.
    MetricDefinition of v1::MetricDefinition {
        id: String,
        label: String,
        unit: MetricUnit,
        /// Raised whenever an unchanged input may give another answer.
        version: u32,
        definition: String,
        numerator: String,
        /// Empty for counts and sums.
        denominator: String,
    }

    /// A value of a metric; of one currency where it is about money.
    MetricValue of v1::MetricValue {
        /// Empty unless the metric is about money.
        currency_code: String,
        /// Numerator / denominator or the numerator itself, rounded to a double; unset if the denominator is zero or unknown.
        value: Option<f64>,
        numerator: Option<MetricQuantity>,
        /// Unset for counts and sums.
        denominator: Option<MetricQuantity>,
    }

    /// Something to know about a metric, e.g. "pending" or "data_errors".
    MetricNote of v1::MetricNote {
        name: String,
        count: i64,
    }

    /// A number of the partner program, with what it is made of.
    Metric of v1::Metric {
        id: String,
        label: String,
        unit: MetricUnit,
        definition_version: u32,
        /// One per currency, by its code; never added up.
        values: Vec<MetricValue>,
        notes: Vec<MetricNote>,
        as_of: Option<Timestamp>,
        /// The latest record the metric could see; unset if there is none.
        data_through: Option<Timestamp>,
        period: Option<TimeInterval>,
    }

    /// The metrics of one value of a dimension.
    MetricGroup of v1::MetricGroup {
        /// The dimension's value; UNKNOWN where a record has none.
        value: String,
        label: String,
        metrics: Vec<Metric>,
    }

    /// The metrics of one calendar period.
    MetricSeriesEntry of v1::MetricSeriesEntry {
        /// E.g. "2026-03", "2026-Q1", "2026".
        label: String,
        interval: Option<TimeInterval>,
        metrics: Vec<Metric>,
    }
}

/// A numerator or a denominator, with the name of its kind in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MetricQuantity {
    /// Things.
    Count(i64),
    /// An amount.
    Money(Money),
    /// Time.
    Duration(TimeSpan),
}

impl FromWire<v1::MetricQuantity> for MetricQuantity {
    fn from_wire(wire: v1::MetricQuantity) -> Result<Self, Error> {
        match wire.quantity {
            Some(Quantity::Count(count)) => Ok(Self::Count(count)),
            Some(Quantity::Money(money)) => Ok(Self::Money(Money::from_wire(money)?)),
            Some(Quantity::Duration(duration)) => {
                Ok(Self::Duration(TimeSpan::from_wire(duration)?))
            }
            None => Err(Error::Response {
                missing: "a quantity",
            }),
        }
    }
}

impl MetricValue {
    /// The value of a metric of which nothing is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            currency_code: String::new(),
            value: None,
            numerator: None,
            denominator: None,
        }
    }
}

/// The period P of program numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgramPeriod {
    /// The quarter of as_of up to as_of.
    #[default]
    Default,
    /// By its name.
    Quick(QuickRange),
    /// `[start, end)`.
    Interval {
        /// The first instant.
        start: Timestamp,
        /// The first instant after it.
        end: Timestamp,
    },
}

/// Which partners and deals, when. Values within a field are alternatives, fields narrow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramFilter {
    /// The period P.
    pub period: ProgramPeriod,
    /// Now if unset.
    pub as_of: Option<Timestamp>,
    /// For quick ranges and calendar periods; UTC if unset.
    pub time_zone: Option<String>,
    /// Of the partner.
    pub partners: Vec<String>,
    /// Of the partner.
    pub types: Vec<PartnerType>,
    /// Of the partner.
    pub segments: Vec<String>,
    /// Takes segments to be set, and only tiers that occur in them.
    pub tiers: Vec<String>,
    /// Of the partner.
    pub verticals: Vec<String>,
    /// Of the deal.
    pub regions: Vec<String>,
    /// Of the deal.
    pub territories: Vec<String>,
    /// Of the deal.
    pub products: Vec<String>,
    /// Of the deal.
    pub industries: Vec<String>,
}

impl ProgramFilter {
    pub(crate) fn wire(&self) -> v1::ProgramFilter {
        use v1::program_filter::Period;
        v1::ProgramFilter {
            period: match self.period {
                ProgramPeriod::Default => None,
                ProgramPeriod::Quick(range) => Some(Period::QuickRange(range.to_proto())),
                ProgramPeriod::Interval { start, end } => {
                    Some(Period::Interval(v1::TimeInterval {
                        start: Some(wire_time(start)),
                        end: Some(wire_time(end)),
                    }))
                }
            },
            as_of: self.as_of.map(wire_time),
            time_zone: self.time_zone.clone().unwrap_or_default(),
            partners: self.partners.clone(),
            types: self.types.iter().map(|kind| kind.to_proto()).collect(),
            segments: self.segments.clone(),
            tiers: self.tiers.clone(),
            verticals: self.verticals.clone(),
            regions: self.regions.clone(),
            territories: self.territories.clone(),
            products: self.products.clone(),
            industries: self.industries.clone(),
        }
    }
}
