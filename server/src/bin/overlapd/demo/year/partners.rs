//! Who the partners are, and what the program does with them.

use jiff::SignedDuration;
use overlap_proto::v1::{
    self, EcosystemEventType, IncentiveKind, PartnerType, record::Content, target_record::Goal,
};
use overlap_server::demo::companies::Side;

use super::{DAYS, Year, wire};

/// A partner of the program: id, name, tier, people with access, sessions a hundred weeks and person.
pub(super) struct Partner {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    kind: PartnerType,
    tier: &'static str,
    stage: &'static str,
    pub(super) people: u64,
    pub(super) sessions_in_100_weeks: u64,
}

const fn partner(
    (id, name): (&'static str, &'static str),
    kind: PartnerType,
    (tier, stage): (&'static str, &'static str),
    (people, sessions_in_100_weeks): (u64, u64),
) -> Partner {
    Partner {
        id,
        name,
        kind,
        tier,
        stage,
        people,
        sessions_in_100_weeks,
    }
}

use PartnerType::{Referral, Reseller};

const PARTNERS_OF_A: [Partner; 8] = [
    partner(
        ("beacon-billing", "Beacon Billing"),
        Referral,
        ("Gold", "mature"),
        (5, 130),
    ),
    partner(
        ("cobalt", "Cobalt Consulting"),
        Reseller,
        ("Gold", "producing"),
        (4, 110),
    ),
    partner(
        ("delta", "Delta Integrations"),
        Reseller,
        ("Gold", "producing"),
        (3, 90),
    ),
    partner(
        ("ember", "Ember Agency"),
        Referral,
        ("Silver", "producing"),
        (3, 70),
    ),
    partner(
        ("foxglove", "Foxglove Systems"),
        Reseller,
        ("Silver", "producing"),
        (2, 60),
    ),
    partner(
        ("granite", "Granite Partners"),
        Referral,
        ("Silver", "onboarding"),
        (2, 40),
    ),
    partner(
        ("helix", "Helix Digital"),
        Referral,
        ("Bronze", "onboarding"),
        (2, 20),
    ),
    partner(
        ("indigo", "Indigo Advisors"),
        Referral,
        ("Bronze", "recruited"),
        (1, 0),
    ),
];

const PARTNERS_OF_B: [Partner; 8] = [
    partner(
        ("aurora-crm", "Aurora CRM"),
        Referral,
        ("Gold", "mature"),
        (4, 140),
    ),
    partner(
        ("juniper", "Juniper Works"),
        Reseller,
        ("Gold", "producing"),
        (4, 100),
    ),
    partner(
        ("kestrel", "Kestrel IT"),
        Reseller,
        ("Gold", "producing"),
        (3, 80),
    ),
    partner(
        ("lumen", "Lumen Studio"),
        Referral,
        ("Silver", "producing"),
        (3, 70),
    ),
    partner(
        ("maple", "Maple Advisory"),
        Referral,
        ("Silver", "producing"),
        (2, 50),
    ),
    partner(
        ("nimbus", "Nimbus Cloud"),
        Reseller,
        ("Silver", "onboarding"),
        (2, 30),
    ),
    partner(
        ("opal", "Opal Ventures"),
        Referral,
        ("Bronze", "onboarding"),
        (1, 20),
    ),
    partner(
        ("quarry", "Quarry Systems"),
        Reseller,
        ("Bronze", "recruited"),
        (1, 0),
    ),
];

const REGIONS: [&str; 3] = ["Europe", "North America", "Asia Pacific"];
const VERTICALS: [&str; 4] = [
    "Financial services",
    "Health care",
    "Manufacturing",
    "Retail",
];
const COURSES: [&str; 3] = ["Product basics", "Selling together", "Integration workshop"];
const STRENGTHS: [(&str, &str); 4] = [
    ("Fast answers", "Replies to leads within a day"),
    ("Deep integration", "Builds and maintains connectors"),
    ("Local presence", "People on site in the region"),
    ("Industry knowledge", "Speaks the customers' language"),
];

impl Year {
    pub(super) const fn program(&self) -> &'static [Partner; 8] {
        match self.side {
            Side::A => &PARTNERS_OF_A,
            Side::B => &PARTNERS_OF_B,
        }
    }

    /// A partner that brings business; the first ones bring more.
    pub(super) fn any_partner(&mut self) -> &'static str {
        let program = self.program();
        let (one, other) = (
            self.random.below(program.len() as u64 - 1),
            self.random.below(program.len() as u64 - 1),
        );
        program[one.min(other) as usize].id
    }

    /// Profiles, people, trainings, money, goals, analyses, campaigns and signals.
    pub(super) fn partners(&mut self) {
        for (number, partner) in (0..).zip(self.program()) {
            self.profile(number, partner);
            self.people(partner);
            self.funds(partner);
            self.analysis(number, partner);
            self.signals(partner);
        }
        self.costs();
        self.goals();
        for (number, name) in (0..).zip(["Spring webinars", "Road show", "Joint case study"]) {
            let starts_at = self.ago(300 - 110 * number);
            let ends_at = self.ago(280 - 110 * number);
            let cost = self.money(4_000);
            let campaign = v1::CampaignRecord {
                partner: self.program()[number as usize].id.to_owned(),
                name: name.to_owned(),
                starts_at: Some(wire(starts_at)),
                ends_at: Some(wire(ends_at)),
                leads: 20 + self.random.below(60),
                deals: Vec::new(),
                cost: Some(cost),
            };
            self.push(format!("campaign-{number}"), Content::Campaign(campaign));
        }
    }

    fn profile(&mut self, number: u64, partner: &Partner) {
        // The last two are new.
        let enrolled_at = self.ago(if number > 5 { 70 } else { 400 + 90 * number });
        let profile = v1::PartnerProfileRecord {
            name: partner.name.to_owned(),
            r#type: partner.kind.into(),
            segment: if number < 4 { "Strategic" } else { "Growth" }.to_owned(),
            tier: partner.tier.to_owned(),
            status: match partner.stage {
                "recruited" | "onboarding" => "onboarding",
                _ => "active",
            }
            .to_owned(),
            lifecycle_stage: partner.stage.to_owned(),
            regions: vec![REGIONS[number as usize % REGIONS.len()].to_owned()],
            verticals: vec![VERTICALS[number as usize % VERTICALS.len()].to_owned()],
            offerings: vec!["Implementation".to_owned()],
            enrolled_at: Some(wire(enrolled_at)),
            ..v1::PartnerProfileRecord::default()
        };
        self.push(partner.id.to_owned(), Content::PartnerProfile(profile));
    }

    fn people(&mut self, partner: &Partner) {
        for person in 0..partner.people {
            let user = format!("{}-{person}", partner.id);
            self.push(
                user.clone(),
                Content::PortalUser(v1::PortalUserRecord {
                    partner: partner.id.to_owned(),
                    role: if person == 0 { "Manager" } else { "Seller" }.to_owned(),
                    name: String::new(),
                }),
            );
            for (number, course) in (0..).zip(COURSES) {
                let assigned = 45 + self.random.below(DAYS - 45);
                let assigned_at = self.ago(assigned);
                let completed_at = match self.random.below(10) {
                    0..=6 => {
                        let days = assigned - 2 - self.random.below(40);
                        Some(self.ago(days))
                    }
                    _ => None,
                };
                let training = v1::TrainingRecord {
                    partner: partner.id.to_owned(),
                    user: user.clone(),
                    course: course.to_owned(),
                    assigned_at: Some(wire(assigned_at)),
                    completed_at: completed_at.map(wire),
                };
                self.push(format!("{user}-{number}"), Content::Training(training));
            }
            if self.random.below(5) < 2 {
                let issued = 30 + self.random.below(320);
                let issued_at = self.ago(issued);
                let expires_at = issued_at + SignedDuration::from_hours(24 * 365);
                let certification = v1::CertificationRecord {
                    partner: partner.id.to_owned(),
                    user: user.clone(),
                    name: "Certified seller".to_owned(),
                    issued_at: Some(wire(issued_at)),
                    expires_at: Some(wire(expires_at)),
                };
                self.push(
                    format!("{user}-cert"),
                    Content::Certification(certification),
                );
            }
        }
    }

    /// Four quarters of funds and one payout.
    fn funds(&mut self, partner: &Partner) {
        for quarter in 0..4 {
            let period_start = self.ago(DAYS - 91 * quarter);
            let period_end = self.ago(DAYS - 91 * (quarter + 1));
            for (kind, name, available) in [
                (IncentiveKind::Mdf, "mdf", 5_000),
                (IncentiveKind::Rebate, "rebate", 3_000),
            ] {
                let used = available * (20 + self.random.below(85)) as i64 / 100;
                let incentive = v1::IncentiveRecord {
                    partner: partner.id.to_owned(),
                    kind: kind.into(),
                    available: Some(self.money(available)),
                    used: Some(self.money(used)),
                    period_start: Some(wire(period_start)),
                    period_end: Some(wire(period_end)),
                    expires_at: None,
                    payout_ready: false,
                };
                self.push(
                    format!("{}-{name}-{quarter}", partner.id),
                    Content::Incentive(incentive),
                );
            }
        }
        let (period_start, period_end) = (self.ago(40), self.ago(10));
        let payout = v1::IncentiveRecord {
            partner: partner.id.to_owned(),
            kind: IncentiveKind::Payout.into(),
            available: Some(self.money(1_200)),
            used: None,
            period_start: Some(wire(period_start)),
            period_end: Some(wire(period_end)),
            expires_at: None,
            payout_ready: !self.random.one_in(3),
        };
        self.push(format!("{}-payout", partner.id), Content::Incentive(payout));
    }

    fn analysis(&mut self, number: u64, partner: &Partner) {
        let analyzed_at = self.ago(14);
        let mut score = || 30 + self.random.below(66) as u32;
        let strengths = [number, number + 1]
            .map(|at| STRENGTHS[at as usize % STRENGTHS.len()])
            .map(|(label, description)| v1::PartnerStrengthRecord {
                label: label.to_owned(),
                description: description.to_owned(),
                score: score(),
            });
        let analysis = v1::PartnerAnalysisRecord {
            partner: partner.id.to_owned(),
            analyzed_at: Some(wire(analyzed_at)),
            strengths: strengths.into(),
            capacity: Some(score()),
            capability: Some(score()),
            commitment: Some(score()),
            // Not everything is known of everyone.
            customer_alignment: (!number.is_multiple_of(3)).then(&mut score),
        };
        self.push(
            format!("analysis-{}", partner.id),
            Content::PartnerAnalysis(analysis),
        );
    }

    fn signals(&mut self, partner: &Partner) {
        for week in 0..partner.people * 6 {
            let at = self.ago(1 + week * 8);
            let kind = match self.random.below(8) {
                0 => EcosystemEventType::Install,
                1 => EcosystemEventType::SupportCase,
                _ => EcosystemEventType::Usage,
            };
            let event = v1::EcosystemEventRecord {
                partner: partner.id.to_owned(),
                r#type: kind.into(),
                at: Some(wire(at)),
                quantity: 1 + self.random.below(400),
                ..v1::EcosystemEventRecord::default()
            };
            self.push(
                format!("{}-eco-{week}", partner.id),
                Content::EcosystemEvent(event),
            );
        }
    }

    fn costs(&mut self) {
        for month in 0..12 {
            let incurred_at = self.ago(5 + 30 * month);
            let cost = v1::ChannelCostRecord {
                partner: String::new(),
                category: "Partner team".to_owned(),
                amount: Some(self.money(240_000)),
                incurred_at: Some(wire(incurred_at)),
            };
            self.push(format!("cost-{month}"), Content::ChannelCost(cost));
        }
    }

    /// A goal for the year, and one for the quarter that is running.
    fn goals(&mut self) {
        for (id, metric, days, goal) in [
            ("year", "sourced_closed_revenue", DAYS, 6_000_000),
            ("quarter", "sourced_closed_revenue", 91, 1_500_000),
        ] {
            let period_start = self.ago(days);
            let period_end = self.now;
            let target = v1::TargetRecord {
                metric: metric.to_owned(),
                partner: String::new(),
                period_start: Some(wire(period_start)),
                period_end: Some(wire(period_end)),
                goal: Some(Goal::Money(self.money(goal))),
            };
            self.push(format!("target-{id}"), Content::Target(target));
        }
    }
}
