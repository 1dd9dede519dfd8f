//! What every metric means, in one place. docs/METRICS.md is written from here, and a test keeps it so.

use std::{fmt::Write as _, sync::LazyLock};

use overlap_proto::v1;

use crate::{auth::Role, records::kind::Kind};

/// What a metric's value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Numerator / denominator.
    Ratio,
    /// An amount for each currency.
    Money,
    /// Days.
    Days,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// The unit in the API's terms.
    #[must_use]
    pub const fn to_proto(self) -> v1::MetricUnit {
        match self {
            Self::Count => v1::MetricUnit::Count,
            Self::Ratio => v1::MetricUnit::Ratio,
            Self::Money => v1::MetricUnit::Money,
            Self::Days => v1::MetricUnit::Days,
            Self::Seconds => v1::MetricUnit::Seconds,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Ratio => "ratio",
            Self::Money => "money, one value for each currency",
            Self::Days => "days",
            Self::Seconds => "seconds",
        }
    }
}

/// What a metric means.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Stable id.
    pub id: &'static str,
    /// What people read.
    pub label: &'static str,
    /// What the value counts.
    pub unit: Unit,
    /// Raised whenever an unchanged input may give another answer.
    pub version: u32,
    /// The definition.
    pub text: &'static str,
    /// The numerator.
    pub numerator: &'static str,
    /// The denominator, or empty.
    pub denominator: &'static str,
}

macro_rules! metrics {
    ($($variant:ident $id:literal $label:literal $unit:ident $version:literal [$($kind:ident)*]
        $text:literal $numerator:literal $denominator:literal;)*) => {
        /// A metric of the partner program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum MetricId { $(#[doc = $text] $variant,)* }

        impl MetricId {
            /// Every metric, in the order of docs/METRICS.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What it means.
            #[must_use]
            pub const fn definition(self) -> Definition {
                match self { $(Self::$variant => Definition {
                    id: $id, label: $label, unit: Unit::$unit, version: $version,
                    text: $text, numerator: $numerator, denominator: $denominator,
                },)* }
            }

            /// The records it is made of.
            #[must_use]
            pub const fn kinds(self) -> &'static [Kind] {
                match self { $(Self::$variant => &[$(Kind::$kind,)*],)* }
            }
        }
    };
}

metrics! {
    SourcedPipeline "sourced_pipeline" "Sourced pipeline" Money 1 [Deal]
        "Amounts of SOURCED deals that are open at as_of: opened at or before it and not closed by it." "sum of amounts" "";
    SourcedClosedRevenue "sourced_closed_revenue" "Closed revenue" Money 1 [Deal]
        "Amounts of SOURCED deals WON with closed_at in P." "sum of amounts" "";
    InfluencedRevenue "influenced_revenue" "Influenced revenue" Money 1 [Deal]
        "Amounts of deals WON in P that at least one partner influenced. A deal counts once in totals and in full for each partner that influenced it." "sum of amounts" "";
    InfluencedNotSourcedRevenue "influenced_not_sourced_revenue" "Influenced, not sourced revenue" Money 1 [Deal]
        "The part of influenced revenue whose deals are not SOURCED by a selected partner." "sum of amounts" "";
    RegistrationsSubmitted "registrations_submitted" "Registrations" Count 1 [Deal]
        "Deal registrations with submitted_at in P." "registrations" "";
    RegistrationApprovalRate "registration_approval_rate" "Approval rate" Ratio 1 [Deal]
        "Of the registrations submitted in P, those approved by as_of. Note pending: how many were undecided at as_of." "approved" "submitted";
    RegistrationWinRate "registration_win_rate" "Win rate" Ratio 1 [Deal]
        "Of the registrations approved in P, those whose deal is WON by as_of. Note pending: how many were open at as_of." "won" "approved";
    RegistrationDecidedWinRate "registration_decided_win_rate" "Decided win rate" Ratio 1 [Deal]
        "Of the registrations approved in P whose deal is WON or LOST by as_of, those WON." "won" "won or lost";
    SalesCycle "sales_cycle" "Sales cycle" Days 1 [Deal]
        "Mean time from the registration's submission, or else the opening, to the close, over partners' deals WON in P. Negative durations are left out; note data_errors: how many." "sum of durations" "deals";
    ActivePartnerRate "active_partner_rate" "Active partner rate" Ratio 1 [Deal PartnerProfile Training]
        "Of the partners enrolled at the end of P, those with a registration submitted, a training completed or a SOURCED deal opened in P. Enrolled is: enrolled before the end of P (an unknown date counts) and not left by then." "active partners" "enrolled partners";
    EngagedPartnerRate "engaged_partner_rate" "Engaged partner rate" Ratio 1 [PartnerProfile PortalEvent]
        "Of the partners enrolled at the end of P, those with portal sessions on at least 2 days of the 30 that end with the day of as_of." "engaged partners" "enrolled partners";
    TrainingCompletion "training_completion" "Training completion" Ratio 1 [Training]
        "Of the trainings assigned in P, those completed by as_of." "completed" "assigned";
    RenewalRevenue "renewal_revenue" "Renewal revenue" Money 1 [Deal ManagedAccount]
        "Amounts of RENEWAL deals WON in P whose customer a partner managed at the close, or that a partner influenced." "sum of amounts" "";
    ManagedAccountRetention "managed_account_retention" "Managed account retention" Ratio 1 [ManagedAccount]
        "Of the customers that partners managed at the start of P, those still managed at its end (as_of, if that is earlier)." "still managed" "managed at the start";
    ExpansionRevenue "expansion_revenue" "Expansion revenue" Money 1 [Deal ManagedAccount]
        "Amounts of EXPANSION deals WON in P whose customer a partner managed at the close." "sum of amounts" "";
    IncentiveUtilisation "incentive_utilisation" "Incentive utilisation" Ratio 1 [Incentive]
        "Of the incentives (payouts are none) whose period overlaps P, what was used of what was available; more than 1 is shown as it is." "used" "available";
    ChannelReturn "channel_return" "Return on channel investment" Ratio 1 [Deal ChannelCost]
        "Revenue of deals WON in P that partners sourced or influenced, each once, over the channel's cost in P." "revenue" "cost";
    ChannelNet "channel_net" "Net channel revenue" Money 1 [Deal ChannelCost]
        "The revenue of the return on channel investment minus its cost." "revenue - cost" "";
    ChannelMarginReturn "channel_margin_return" "Margin return on channel investment" Ratio 1 [Deal ChannelCost]
        "Gross margin of deals WON in P that partners sourced or influenced, each once, over the channel's cost in P. Note data_errors: deals without a gross margin. Role PARTNER does not know it." "gross margin" "cost";
    ChannelMarginNet "channel_margin_net" "Net channel margin" Money 1 [Deal ChannelCost]
        "The gross margin of the margin return minus its cost. Note data_errors: deals without a gross margin. Role PARTNER does not know it." "gross margin - cost" "";
    SourcedOpportunities "sourced_opportunities" "Sourced opportunities" Count 1 [Deal]
        "SOURCED deals opened in P." "deals" "";
    WonDeals "won_deals" "Won deals" Count 1 [Deal]
        "Deals WON in P." "deals" "";
    AverageDealSize "average_deal_size" "Average deal size" Money 1 [Deal]
        "Mean amount of the deals WON in P." "sum of amounts" "deals";
    WonRevenue "won_revenue" "Won revenue" Money 1 [Deal]
        "Amounts of deals WON in P." "sum of amounts" "";
    OpenPipeline "open_pipeline" "Open pipeline" Money 1 [Deal]
        "Amounts of deals open at as_of." "sum of amounts" "";
    PartnerShare "partner_share" "Partner share" Ratio 1 [Deal]
        "Sourced closed revenue as a part of won revenue." "sourced closed revenue" "won revenue";
    EnrolledPartners "enrolled_partners" "Enrolled partners" Count 1 [PartnerProfile]
        "Partners enrolled at the end of P." "partners" "";
    CertifiedPartnerRate "certified_partner_rate" "Certified partners" Ratio 1 [PartnerProfile Certification]
        "Of the partners enrolled at the end of P, those with a certification valid at as_of." "certified partners" "enrolled partners";
    MdfUtilisation "mdf_utilisation" "MDF utilisation" Ratio 1 [Incentive]
        "Incentive utilisation of market development funds alone." "used" "available";
    RebateUtilisation "rebate_utilisation" "Rebate utilisation" Ratio 1 [Incentive]
        "Incentive utilisation of rebates alone." "used" "available";
    PayoutReadiness "payout_readiness" "Payout readiness" Ratio 1 [Incentive]
        "Of the payouts whose period overlaps P, those that nothing stands in the way of." "ready" "payouts";
    CampaignLeads "campaign_leads" "Campaign leads" Count 1 [Campaign]
        "Leads of the campaigns that started in P." "leads" "";
}

impl MetricId {
    /// The stable id.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.definition().id
    }

    /// The metrics a role knows: to a partner, those of my gross margin are as absent as those that do not exist (K-27).
    #[must_use]
    pub fn known_to(role: Role) -> &'static [Self] {
        static OF_PARTNERS: LazyLock<Vec<MetricId>> = LazyLock::new(|| {
            let of_margin = [MetricId::ChannelMarginReturn, MetricId::ChannelMarginNet];
            let mut metrics = MetricId::ALL.to_vec();
            metrics.retain(|metric| !of_margin.contains(metric));
            metrics
        });
        match role {
            Role::Partner => &OF_PARTNERS,
            _ => Self::ALL,
        }
    }

    /// The metric with this id.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|metric| metric.name() == name)
    }

    /// Whether it is what stands at as_of, whatever happened in P.
    #[must_use]
    pub const fn is_of_an_instant(self) -> bool {
        matches!(
            self,
            Self::SourcedPipeline
                | Self::OpenPipeline
                | Self::CertifiedPartnerRate
                | Self::EngagedPartnerRate
        )
    }

    /// Whether it is about deals alone, so that it can be broken down by what a deal has.
    #[must_use]
    pub fn is_about_deals(self) -> bool {
        matches!(
            self.kinds(),
            [Kind::Deal] | [Kind::Deal, Kind::ManagedAccount]
        )
    }
}

/// The leadership scorecard (K-16); renewal and revenue stand for the default choices.
pub const SCORECARD: [MetricId; 7] = [
    MetricId::SourcedPipeline,
    MetricId::SourcedClosedRevenue,
    MetricId::RegistrationWinRate,
    MetricId::ActivePartnerRate,
    MetricId::TrainingCompletion,
    MetricId::RenewalRevenue,
    MetricId::ChannelReturn,
];

const fn engagement(
    id: &'static str,
    label: &'static str,
    unit: Unit,
    text: &'static str,
    numerator: &'static str,
    denominator: &'static str,
) -> Definition {
    Definition {
        id,
        label,
        unit,
        version: crate::engagement::DEFINITION_VERSION,
        text,
        numerator,
        denominator,
    }
}

/// The engagement figures.
pub const ENGAGEMENT: &[Definition] = &[
    engagement(
        "unique_users",
        "Unique users",
        Unit::Count,
        "Distinct portal users with a session that begins in the range. A user of several partners counts once in totals.",
        "users",
        "",
    ),
    engagement(
        "sessions",
        "Sessions",
        Unit::Count,
        "Sessions that begin in the range. A session is a run of one user's events at one partner; an event 30:00 minutes or more after the one before, or 4:00:00 hours or more after the session's first, opens a new one.",
        "sessions",
        "",
    ),
    engagement(
        "page_views",
        "Page views",
        Unit::Count,
        "PAGE_VIEW events of sessions that begin in the range.",
        "page views",
        "",
    ),
    engagement(
        "actions",
        "Actions",
        Unit::Count,
        "Events other than PAGE_VIEW of sessions that begin in the range: videos played, files downloaded, links clicked, images viewed full size, PDFs opened, deals, leads and collaboration cards viewed, goals completed, searches.",
        "actions",
        "",
    ),
    engagement(
        "average_duration",
        "Average duration",
        Unit::Seconds,
        "Mean time from the first to the last event of the sessions that begin in the range; a session of one event lasts 0 and counts.",
        "sum of durations",
        "sessions",
    ),
    engagement(
        "engagement_score",
        "Engagement score",
        Unit::Count,
        "40% sessions, 30% unique users, 20% page views and 10% average duration, each as a share of the maximum over the filtered partners (0 where that is 0); 0 to 100. Ranks compare exact fractions: 1, 1, 3.",
        "weighted shares",
        "",
    ),
];

/// Metrics that take more than a period: a pair of stages, a target.
pub const DERIVED: [Definition; 2] = [
    Definition {
        id: "stage_conversion",
        label: "Stage conversion",
        unit: Unit::Ratio,
        version: 1,
        text: "Of the deals that first entered a stage in P, those that entered a later stage from then on and by as_of.",
        numerator: "went on",
        denominator: "entered",
    },
    Definition {
        id: "forecast",
        label: "Forecast",
        unit: Unit::Money,
        version: 1,
        text: "Sourced closed revenue plus, over SOURCED deals open at as_of, amount x probability: the deal's own, or else the settings' for its stage; deals without either are left out and counted. Compared with the targets for sourced closed revenue whose period overlaps P.",
        numerator: "won + sum of amount x probability",
        denominator: "",
    },
];

/// What else an answer may rest on.
const RULES: &[(&str, &str)] = &[
    (
        "Days and buckets",
        "Ranges of engagement are whole days of the time zone asked for (UTC if none), both ends included; the time zone database is built in. Up to 13 days are shown by day, 14 to 60 by ISO week (Monday to Sunday), 61 and more by month; the first and last bucket are clipped, empty ones are shown as 0. Quick ranges that begin with THIS end today.",
    ),
    (
        "Identity of events",
        "A portal event is the same as another if id, partner, user and UTC day are: of such events the earliest counts, and of simultaneous ones the one of least kind, room and resource. A lifecycle or ecosystem event is identified by its id alone. Of any other record the version with the latest updated_at counts. Nothing depends on the order of arrival.",
    ),
    (
        "Partners at risk",
        "INACTIVE: access (or earlier activity) and no session in the range. DECLINING_DURATION: average duration less than over as many days just before. LOW_ACTIONS: actions per session below the 25th percentile (nearest rank) of the selected partners with sessions. Comparisons are exact.",
    ),
    (
        "Groups of partners",
        "NEW: enrolled at most 90 days before as_of; ESTABLISHED: longer. HIGH: ranked within the first quarter (rounded up) of the selected partners with sessions; AVERAGE: the others with access. Engagement level: HIGH 5 or more, MEDIUM 2 to 4, LOW 1, NONE 0 days with sessions among the 30 that end with the day of as_of.",
    ),
    (
        "Trends",
        "Over complete months. INCREASING: Kendall's rank correlation with time is at least 1/2; DECLINING: at most -1/2; STEADY otherwise; at least 3 months. Seasonal: the last two cycles of 12 months, less their common straight line, correlate by at least 0.7; unset without two cycles.",
    ),
    (
        "Nothing to show",
        "NOT_INGESTED: there is no partner and no event at all, or all events are older than the range. FILTERED_OUT: the filter selects no partner, or only others were active. NO_ACCESS: no selected partner has a portal user. NO_LOGINS: they have, and nobody was active.",
    ),
    (
        "Alerts",
        "STALLED_DEAL: open and without activity or stage change for 21 days or more. EXPIRING_CERTIFICATION: valid and ending within 30 days. MISSED_TARGET: its period is over and the goal was not reached. SWING: revenue, registrations, opportunities or won deals of P differ by more than 50% from the period of equal length before. APPROVAL_RATE_DROP: a region's approval rate fell by more than 20 points against that period. The four numbers are settings.",
    ),
    (
        "Targets",
        "Measured over the target's own period. What stands at as_of (pipelines, certified and engaged partners) is measured at the last instant of that period once it is over. Where a filter selects partners, theirs alone are compared; where it leaves deals out by region, territory, product or industry, none that is made of deals.",
    ),
    (
        "Strengths, scores, coverage",
        "Of several analyses of a partner the latest counts. Strengths are counted by case-folded label, once per partner; their score is the mean over partners. Areas to address are scores below 50; an unknown score is none. Coverage counts each case-folded value once per partner, subtypes within the partner type.",
    ),
    (
        "Tiers",
        "Early-stage concentration: more than half of a tier's partners are in an early lifecycle stage. Slow late-stage value: more than half of its late-stage partners won no deal in P.",
    ),
    (
        "Use of the dashboard",
        "Calls that were admitted, by RPC and user, over whole UTC days, as the audit log has them (dashboard.viewed); those of the last seconds come later.",
    ),
];

/// The contents of docs/METRICS.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Written from server/src/program/definitions.rs; `OVERLAP_BLESS=1 cargo test -p overlap-server --test program_definitions` rewrites it.\n\n\
         P is the period asked for, [start, end): its start belongs to it, its end does not, and nothing after as_of counts.\n\
         Money is added within a currency, never across. A value whose denominator is zero or unknown is unset, which is not 0.\n\
         Every answer carries numerator and denominator, as_of, data_through and the definition's version; the version rises\n\
         whenever an unchanged input may give another answer.\n\n\
         Under a filter, or for one partner, \"sourced\", \"influenced\" and \"managed\" mean: by a selected partner.\n",
    );
    let sections: [(&str, Vec<Definition>); 2] = [
        ("Engagement", ENGAGEMENT.to_vec()),
        (
            "Program",
            MetricId::ALL
                .iter()
                .map(|metric| metric.definition())
                .chain(DERIVED)
                .collect(),
        ),
    ];
    for (title, definitions) in sections {
        let _ = write!(page, "\n## {title}\n");
        for definition in definitions {
            let _ = write!(
                page,
                "\n### {} (`{}`)\n\nVersion {}. Unit: {}.\n\n{}\n\n- Numerator: {}\n",
                definition.label,
                definition.id,
                definition.version,
                definition.unit.name(),
                definition.text,
                definition.numerator,
            );
            if !definition.denominator.is_empty() {
                let _ = writeln!(page, "- Denominator: {}", definition.denominator);
            }
        }
    }
    page.push_str("\n## Rules\n");
    for (title, text) in RULES {
        let _ = write!(page, "\n### {title}\n\n{text}\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K-35: one definition per metric.
    #[test]
    fn k35_every_metric_has_its_own_id() {
        for &metric in MetricId::ALL {
            assert_eq!(MetricId::from_name(metric.name()), Some(metric));
            assert!(metric.definition().version > 0);
            assert!(!metric.definition().numerator.is_empty());
            let is_ratio = metric.definition().unit == Unit::Ratio;
            assert!(
                !is_ratio || !metric.definition().denominator.is_empty(),
                "{}",
                metric.name()
            );
        }
    }
}
