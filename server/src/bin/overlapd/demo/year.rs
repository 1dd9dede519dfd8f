//! A year of each sample company's partner program, made up from a seed and ending now: the same every time, but for the
//! dates. Deals and lifecycle changes end where the company's customers stand.

mod partners;
mod portal;

use jiff::{SignedDuration, Timestamp};
use overlap_proto::v1::{
    self, DealOrigination as Origination, DealOutcome as Outcome, DealType,
    LifecycleEventType as Event, ReferralStatus, RegistrationStatus, record::Content,
};
use overlap_server::demo::{
    companies::{Side, customers_csv},
    random::Random,
};

/// Where the random numbers start.
const SEED: u64 = 0x5945_4152;
/// How far back the year goes.
const DAYS: u64 = 365;
const DAY_SECONDS: i64 = 86_400;

/// The stages of a sale, with the chance of winning in ten-thousandths.
const SALES: [(&str, u32); 4] = [
    ("Discovery", 1_000),
    ("Qualified", 2_500),
    ("Proposal", 5_000),
    ("Negotiation", 8_000),
];

/// Every record of a side's year, with its deals first.
pub(super) fn records(side: Side, now: Timestamp) -> anyhow::Result<Vec<v1::Record>> {
    let salt = match side {
        Side::A => 1,
        Side::B => 2,
    };
    let mut year = Year {
        side,
        now,
        random: Random::new(SEED ^ (salt << 32)),
        records: Vec::new(),
    };
    let csv = customers_csv(side);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    for row in reader.deserialize() {
        year.customer(&row?);
    }
    year.partners();
    year.portal();
    Ok(year.records)
}

/// What a customer's deals follow from.
#[derive(serde::Deserialize)]
struct Customer {
    id: String,
    stage: String,
    industry: String,
    region: String,
    plan: String,
}

struct Year {
    side: Side,
    now: Timestamp,
    random: Random,
    records: Vec<v1::Record>,
}

/// When a deal opened and closed, in days ago.
#[derive(Clone, Copy)]
struct Span {
    opened: u64,
    closed: Option<u64>,
}

impl Year {
    /// A moment of the working day, so many days ago.
    fn ago(&mut self, days: u64) -> Timestamp {
        let seconds = days as i64 * DAY_SECONDS - self.random.below(8 * 3_600) as i64;
        self.now
            .saturating_sub(SignedDuration::from_secs(seconds.max(60)))
            .unwrap_or(self.now)
    }

    fn push(&mut self, id: String, content: Content) {
        self.records.push(v1::Record {
            id,
            updated_at: None,
            deleted: false,
            content: Some(content),
        });
    }

    fn money(&self, units: i64) -> v1::Money {
        v1::Money {
            currency_code: match self.side {
                Side::A => "EUR",
                Side::B => "USD",
            }
            .to_owned(),
            units,
            nanos: 0,
        }
    }

    /// Everything that brought a customer to its stage.
    fn customer(&mut self, customer: &Customer) {
        let first = 20 + self.random.below(DAYS - 20);
        match customer.stage.as_str() {
            "Prospect" => {
                self.moved(customer, 0, first, "Prospect");
                if self.random.one_in(8) {
                    self.referral(customer, first, ReferralStatus::Submitted, "");
                }
            }
            "Lead" => {
                self.moved(customer, 0, first, "Prospect");
                self.moved(customer, 1, first / 2, "Lead");
            }
            "Deal" => {
                let opened = 10 + self.random.below(150);
                self.moved(customer, 0, opened + 30, "Lead");
                self.moved(customer, 1, opened, "Deal");
                let span = Span {
                    opened,
                    closed: None,
                };
                self.deal(customer, "new", DealType::New, Outcome::Open, span);
            }
            "Customer" => self.won(customer),
            "Lost" => {
                let closed = 5 + self.random.below(DAYS - 60);
                let opened = closed + 15 + self.random.below(40);
                self.moved(customer, 0, opened, "Deal");
                self.moved(customer, 1, closed, "Lost");
                let span = Span {
                    opened,
                    closed: Some(closed),
                };
                self.deal(customer, "new", DealType::New, Outcome::Lost, span);
            }
            "Churned" => {
                let closed = 200 + self.random.below(DAYS - 220);
                let churned = 10 + self.random.below(150);
                self.happened(
                    customer,
                    0,
                    closed,
                    Event::SubscriptionStarted,
                    &customer.plan,
                );
                self.moved(customer, 1, closed, "Customer");
                self.happened(customer, 2, churned, Event::SubscriptionCancelled, "");
                self.moved(customer, 3, churned, "Churned");
                let span = Span {
                    opened: closed + 20,
                    closed: Some(closed),
                };
                self.deal(customer, "new", DealType::New, Outcome::Won, span);
            }
            _ => {}
        }
    }

    /// A customer: some won within the year, some before, of whom many renewed.
    fn won(&mut self, customer: &Customer) {
        let closed = 5 + self.random.below(500);
        let opened = closed + 15 + self.random.below(90);
        if closed < DAYS {
            self.moved(customer, 0, opened, "Deal");
            self.moved(customer, 1, closed, "Customer");
            self.happened(
                customer,
                2,
                closed,
                Event::SubscriptionStarted,
                &customer.plan,
            );
            let span = Span {
                opened,
                closed: Some(closed),
            };
            self.deal(customer, "new", DealType::New, Outcome::Won, span);
        }
        if self.random.one_in(3) {
            let installed = self.random.below(closed.min(DAYS)).max(1);
            self.happened(customer, 3, installed, Event::AppInstalled, "");
        }
        if closed > DAYS {
            let renewed = closed - DAYS + 1;
            let span = Span {
                opened: renewed + 30,
                closed: Some(renewed),
            };
            self.deal(customer, "renewal", DealType::Renewal, Outcome::Won, span);
        }
        if closed > 120 && self.random.one_in(6) {
            let span = Span {
                opened: 90,
                closed: Some(20 + self.random.below(60)),
            };
            self.deal(
                customer,
                "expansion",
                DealType::Expansion,
                Outcome::Won,
                span,
            );
        }
        if self.random.one_in(5) {
            let partner = self.any_partner().to_owned();
            let from = self.ago(closed + 1);
            self.push(
                format!("managed-{}", customer.id),
                Content::ManagedAccount(v1::ManagedAccountRecord {
                    partner,
                    customer: customer.id.clone(),
                    from: Some(wire(from)),
                    to: None,
                }),
            );
        }
    }

    fn moved(&mut self, customer: &Customer, number: u8, days: u64, stage: &str) {
        self.happened(customer, number, days, Event::StageChanged, stage);
    }

    /// Something within the year; what was before is not known any more.
    fn happened(&mut self, customer: &Customer, number: u8, days: u64, event: Event, label: &str) {
        let at = self.ago(days);
        if days > DAYS {
            return;
        }
        self.push(
            format!("{}-{number}", customer.id),
            Content::LifecycleEvent(v1::LifecycleEventRecord {
                customer: customer.id.clone(),
                r#type: event.into(),
                at: Some(wire(at)),
                label: label.to_owned(),
                partner: String::new(),
            }),
        );
    }

    fn deal(
        &mut self,
        customer: &Customer,
        name: &str,
        kind: DealType,
        outcome: Outcome,
        span: Span,
    ) {
        let id = format!("deal-{}-{name}", customer.id);
        let sourced = self.random.below(100) < 55;
        let partner = match sourced {
            true => self.any_partner().to_owned(),
            false => String::new(),
        };
        let influencing_partners = match self.random.one_in(4) {
            true => vec![self.any_partner().to_owned()],
            false => Vec::new(),
        };
        let opened_at = self.ago(span.opened);
        let closed_at = span.closed.map(|days| self.ago(days));
        let reached = match outcome {
            Outcome::Won => SALES.len(),
            Outcome::Lost => 1 + self.random.below(3) as usize,
            _ => 1 + self.random.below(4) as usize,
        };
        let end = closed_at.unwrap_or(self.now);
        let step = end.duration_since(opened_at) / (reached as i32 + 1);
        let stage_changes: Vec<v1::DealStageChange> = SALES[..reached]
            .iter()
            .zip(0..)
            .map(|((stage, _), number)| v1::DealStageChange {
                stage: (*stage).to_owned(),
                at: Some(wire(opened_at.saturating_add(step * number).unwrap_or(end))),
            })
            .collect();
        let last_activity_at = match closed_at {
            Some(closed) => closed,
            // One open deal in six has been left alone for a month or more.
            None if self.random.one_in(6) => opened_at,
            None => {
                let days = 1 + self.random.below(span.opened.clamp(2, 18));
                self.ago(days)
            }
        };
        let (stage, chance) = SALES[reached - 1];
        let amount = 2_000 + 500 * self.random.below(80) as i64;
        let registration = sourced.then(|| self.registration(outcome, opened_at, end));
        if sourced && kind == DealType::New {
            let status = match outcome {
                Outcome::Won => ReferralStatus::Converted,
                _ => ReferralStatus::Accepted,
            };
            self.referral_of(&partner, customer, span.opened + 5, status, &id);
        }
        let deal = v1::DealRecord {
            partner,
            customer: customer.id.clone(),
            stage: stage.to_owned(),
            amount: Some(self.money(amount)),
            origination: match sourced {
                true => Origination::Sourced,
                false => Origination::Direct,
            }
            .into(),
            influencing_partners,
            r#type: kind.into(),
            registration,
            opened_at: Some(wire(opened_at)),
            last_activity_at: Some(wire(last_activity_at)),
            closed_at: closed_at.map(wire),
            outcome: outcome.into(),
            region: customer.region.clone(),
            territory: String::new(),
            industry: customer.industry.clone(),
            product: customer.plan.clone(),
            gross_margin: Some(self.money(amount * 7 / 10)),
            probability_bp: (outcome == Outcome::Open).then_some(chance),
            stage_changes,
        };
        self.push(id, Content::Deal(deal));
    }

    fn registration(
        &mut self,
        outcome: Outcome,
        opened_at: Timestamp,
        end: Timestamp,
    ) -> v1::DealRegistration {
        let status = match outcome {
            Outcome::Open if self.random.one_in(4) => RegistrationStatus::Pending,
            Outcome::Lost if self.random.one_in(3) => RegistrationStatus::Rejected,
            _ => RegistrationStatus::Approved,
        };
        let decided_at = opened_at
            .saturating_add(SignedDuration::from_secs(2 * DAY_SECONDS))
            .unwrap_or(end)
            .min(end);
        v1::DealRegistration {
            submitted_at: Some(wire(opened_at)),
            decided_at: (status != RegistrationStatus::Pending).then(|| wire(decided_at)),
            status: status.into(),
        }
    }

    fn referral(&mut self, customer: &Customer, days: u64, status: ReferralStatus, deal: &str) {
        let partner = self.any_partner().to_owned();
        self.referral_of(&partner, customer, days, status, deal);
    }

    fn referral_of(
        &mut self,
        partner: &str,
        customer: &Customer,
        days: u64,
        status: ReferralStatus,
        deal: &str,
    ) {
        let referred_at = self.ago(days);
        let decided_at = self.ago(days.saturating_sub(3));
        self.push(
            format!("referral-{}", customer.id),
            Content::Referral(v1::ReferralRecord {
                partner: partner.to_owned(),
                customer: customer.id.clone(),
                referred_at: Some(wire(referred_at)),
                status: status.into(),
                decided_at: (status != ReferralStatus::Submitted).then(|| wire(decided_at)),
                deal: deal.to_owned(),
            }),
        );
    }
}

/// A time in a record.
fn wire(time: Timestamp) -> prost_types::Timestamp {
    // Whole seconds are exact enough, and a fraction may not be negative.
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use overlap_proto::v1::{DealOutcome, LifecycleEventType, record::Content};

    use super::{Side, customers_csv, records, wire};

    #[test]
    fn the_year_is_the_same_every_time_and_ends_where_the_customers_stand() {
        let now = "2026-05-04T09:30:00Z".parse().unwrap();
        for side in [Side::A, Side::B] {
            let year = records(side, now).unwrap();
            assert_eq!(year, records(side, now).unwrap());
            let csv = customers_csv(side);
            let mut reader = csv::Reader::from_reader(csv.as_bytes());
            let stages: BTreeMap<String, String> = reader
                .records()
                .map(|row| {
                    let row = row.unwrap();
                    (row[0].to_owned(), row[1].to_owned())
                })
                .collect();
            let mut ids = BTreeSet::new();
            let mut last_moves: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
            let latest = wire(now).seconds;
            for record in &year {
                match record.content.as_ref().unwrap() {
                    Content::Deal(deal) => {
                        let stage = stages[&deal.customer].as_str();
                        let won = ["Customer", "Churned"].contains(&stage);
                        let expected = match stage {
                            "Deal" => DealOutcome::Open,
                            "Lost" => DealOutcome::Lost,
                            _ if won => DealOutcome::Won,
                            _ => panic!("a {stage} has a deal"),
                        };
                        assert_eq!(deal.outcome(), expected);
                        let times = [&deal.opened_at, &deal.last_activity_at, &deal.closed_at];
                        assert!(times.iter().all(|time| {
                            time.as_ref().is_none_or(|time| time.seconds <= latest)
                        }));
                        let opened = deal.opened_at.as_ref().unwrap().seconds;
                        assert!(
                            deal.closed_at
                                .as_ref()
                                .is_none_or(|time| time.seconds > opened)
                        );
                    }
                    Content::LifecycleEvent(event) => {
                        let at = event.at.as_ref().unwrap().seconds;
                        assert!(at <= latest);
                        if event.r#type() == LifecycleEventType::StageChanged {
                            let last = last_moves.entry(&event.customer).or_insert((at, ""));
                            if at >= last.0 {
                                *last = (at, &event.label);
                            }
                        }
                    }
                    Content::PortalEvent(event) => {
                        assert!(event.at.as_ref().unwrap().seconds <= latest);
                    }
                    _ => {}
                }
                let kind = std::mem::discriminant(record.content.as_ref().unwrap());
                assert!(
                    ids.insert((format!("{kind:?}"), &record.id)),
                    "{}",
                    record.id
                );
            }
            assert!(last_moves.len() > 1_000);
            for (customer, (_, stage)) in last_moves {
                assert_eq!(stage, stages[customer], "{customer}");
            }
        }
    }
}
