//! Movement between stages, and what became of referrals.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use overlap_crypto::terms::Tier;
use overlap_proto::v1::{self, Record, record::Content};
use prost::Message as _;
use rusqlite::Connection;

use super::{
    events::{EventType, Side},
    index::category,
};
use crate::{
    collaboration::{Month, Period, SharedCustomers, months_of},
    convert::stored_time,
    error::{Error, Reason},
    node::Node,
    partnership::Partnership,
    sharing::policy::{Agreement, Stage, StageCategory},
};

/// A stage that a customer entered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The shared customer.
    pub(super) customer: String,
    pub(super) at: Timestamp,
    pub(super) id: String,
    pub(super) stage: String,
}

/// Counts of movements by side, from, to.
type Movements = BTreeMap<(Side, String, String), u64>;

/// Adds up how customers of one side moved, over the period and month by month.
pub(super) fn add_movements(
    side: Side,
    mut entries: Vec<Entry>,
    period: &Period,
    months: &[Month],
    total: &mut Movements,
    by_month: &mut [Movements],
) {
    entries.sort();
    let mut before: Option<&Entry> = None;
    for entry in &entries {
        let from = before
            .filter(|before| before.customer == entry.customer)
            .map_or("", |before| before.stage.as_str());
        before = Some(entry);
        if from == entry.stage || !period.contains(entry.at) {
            continue;
        }
        let movement = (side, from.to_owned(), entry.stage.clone());
        *total.entry(movement.clone()).or_default() += 1;
        if let Some(month) = months_of(months, entry.at) {
            *by_month[month].entry(movement).or_default() += 1;
        }
    }
}

fn to_proto(movements: Movements) -> Vec<v1::StageMovement> {
    movements
        .into_iter()
        .map(|((side, from, to), count)| v1::StageMovement {
            side: side.to_proto().into(),
            from,
            to,
            count,
        })
        .collect()
}

/// Counts how shared customers moved between stages.
pub(super) fn movements(
    node: &Node,
    connection: &Connection,
    customers: &dyn SharedCustomers,
    partnership: &str,
    agreement: &Agreement,
    period: &Period,
) -> Result<v1::GetStageMovementsResponse, Error> {
    let months = period.months()?;
    let mut total = Movements::new();
    let mut by_month = vec![Movements::new(); months.len()];
    let find = |row: &str| {
        let shared = customers.by_customer(node, connection, partnership, row)?;
        Ok(shared.map(|shared| shared.id))
    };
    let sql = "SELECT customer, at_us, id, label FROM timeline_events WHERE type = ?1 AND ?2 <> '' ORDER BY customer, at_us, id";
    let mine = entries(connection, sql, partnership, &find)?;
    add_movements(Side::Mine, mine, period, &months, &mut total, &mut by_month);
    if agreement.theirs.timeline {
        let sql = "SELECT customer, at_us, id, label FROM partner_events WHERE type = ?1 AND partnership = ?2 AND customer <> '' ORDER BY customer, at_us, id";
        let mut theirs = entries(connection, sql, partnership, &find)?;
        theirs.retain(|entry| agreement.theirs.tier(&entry.stage) != Tier::Hidden);
        add_movements(
            Side::Partner,
            theirs,
            period,
            &months,
            &mut total,
            &mut by_month,
        );
    }
    Ok(v1::GetStageMovementsResponse {
        movements: to_proto(total),
        months: months
            .into_iter()
            .zip(by_month)
            .map(|(month, movements)| v1::StageMovementMonth {
                month: month.label,
                movements: to_proto(movements),
            })
            .collect(),
        partner_timeline: disclosure(agreement).into(),
    })
}

/// Whether the partner discloses its events.
pub(super) const fn disclosure(agreement: &Agreement) -> v1::DisclosureState {
    if agreement.theirs.timeline {
        v1::DisclosureState::Shared
    } else {
        v1::DisclosureState::NotShared
    }
}

/// The stages that shared customers entered. `find` turns a row of mine into the shared customer it belongs to.
fn entries(
    connection: &Connection,
    sql: &str,
    partnership: &str,
    find: &dyn Fn(&str) -> Result<Option<String>, Error>,
) -> Result<Vec<Entry>, Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params![
        EventType::StageChanged.code(),
        partnership
    ])?;
    let mut found = Vec::new();
    // Rows of one customer follow each other.
    let mut current: Option<(String, Option<String>)> = None;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if current.as_ref().is_none_or(|(known, _)| *known != key) {
            let customer = find(&key)?;
            current = Some((key, customer));
        }
        if let Some((_, Some(customer))) = &current {
            found.push(Entry {
                customer: customer.clone(),
                at: stored_time(row, 1)?,
                id: row.get(2)?,
                stage: row.get(3)?,
            });
        }
    }
    Ok(found)
}

/// What names a partner in the platform's records: the partnership, the organisation's name as of its pairing, or a profile of that
/// name.
pub(super) struct PartnerNames {
    id: String,
    organization: String,
    profiles: Vec<String>,
}

impl PartnerNames {
    /// The names of a partner.
    pub(super) fn read(connection: &Connection, partnership: &Partnership) -> Result<Self, Error> {
        let organization = partnership.known_as.to_lowercase();
        let mut profiles = Vec::new();
        let mut statement = connection
            .prepare_cached("SELECT id, body FROM records WHERE kind = 2 AND NOT deleted")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(Content::PartnerProfile(profile)) = decode(row, 1)?.content
                && profile.name.to_lowercase() == organization
            {
                profiles.push(row.get(0)?);
            }
        }
        Ok(Self {
            id: partnership.id.clone(),
            organization,
            profiles,
        })
    }

    /// Whether a record names this partner.
    pub(super) fn is_named_by(&self, name: &str) -> bool {
        name == self.id
            || name.to_lowercase() == self.organization
            || self.profiles.iter().any(|profile| profile == name)
    }

    #[cfg(test)]
    pub(super) fn of(id: &str, organization: &str) -> Self {
        Self {
            id: id.to_owned(),
            organization: organization.to_lowercase(),
            profiles: Vec::new(),
        }
    }
}

fn decode(row: &rusqlite::Row<'_>, column: usize) -> Result<Record, Error> {
    Record::decode(row.get_ref(column)?.as_blob().unwrap_or_default())
        .map_err(|_| Error::new(Reason::StorageFailed, "a stored record cannot be decoded"))
}

/// Counts the prospects that the partner referred in a period, and those of them that became customers.
pub(super) fn referral_conversion(
    node: &Node,
    connection: &Connection,
    customers: &dyn SharedCustomers,
    partnership: &Partnership,
    period: &Period,
) -> Result<(u64, u64), Error> {
    let names = PartnerNames::read(connection, partnership)?;
    // The first referral in the period of each customer; referrals that name none count one by one.
    let mut referred: HashMap<(String, String), Timestamp> = HashMap::new();
    let mut statement =
        connection.prepare_cached("SELECT id, body FROM records WHERE kind = 5 AND NOT deleted")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(Content::Referral(referral)) = decode(row, 1)?.content else {
            continue;
        };
        let at = referral
            .referred_at
            .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
        let Some(at) = at.filter(|at| period.contains(*at)) else {
            continue;
        };
        if !names.is_named_by(&referral.partner) {
            continue;
        }
        let id = if referral.customer.is_empty() {
            row.get(0)?
        } else {
            String::new()
        };
        let first = referred.entry((referral.customer, id)).or_insert(at);
        *first = at.min(*first);
    }
    let stages = node.stages(connection)?;
    let mut converted = 0;
    for ((customer, _), at) in &referred {
        if customer.is_empty() {
            continue;
        }
        let history = stage_changes(connection, customer)?;
        let now = customers.stage_of(connection, customer)?;
        converted += u64::from(has_converted(&stages, &history, now.as_deref(), *at));
    }
    Ok((referred.len() as u64, converted))
}

/// Whether a customer reached a stage of category CUSTOMER after it was referred. Its present stage counts, too, unless the
/// history says that it was there before.
fn has_converted(
    stages: &[Stage],
    history: &[(Timestamp, String)],
    now: Option<&str>,
    referred_at: Timestamp,
) -> bool {
    let is_customer = |stage: &str| category(stages, stage) == Some(StageCategory::Customer);
    let mut was_customer = false;
    for (at, stage) in history {
        if *at >= referred_at && is_customer(stage) {
            return true;
        }
        if *at < referred_at {
            was_customer = is_customer(stage);
        }
    }
    !was_customer && now.is_some_and(is_customer)
}

fn stage_changes(
    connection: &Connection,
    customer: &str,
) -> Result<Vec<(Timestamp, String)>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT at_us, label FROM timeline_events WHERE customer = ? AND type = ? ORDER BY at_us, id",
    )?;
    let mut rows = statement.query(rusqlite::params![customer, EventType::StageChanged.code()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((stored_time(row, 0)?, row.get(1)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn entry(customer: &str, day: &str, stage: &str) -> Entry {
        Entry {
            customer: customer.to_owned(),
            at: at(&format!("{day}T00:00:00Z")),
            id: format!("{customer}-{day}"),
            stage: stage.to_owned(),
        }
    }

    #[test]
    fn p28_movements_are_counted_by_from_and_to_in_the_period() {
        let period = Period::read(None, None, "", at("2026-03-15T00:00:00Z")).unwrap();
        let months = period.months().unwrap();
        let mut total = Movements::new();
        let mut by_month = vec![Movements::new(); months.len()];
        let entries = vec![
            entry("a", "2026-02-10", "Customer"),
            entry("a", "2026-01-05", "Deal"),
            entry("b", "2024-01-01", "Deal"),
            entry("b", "2026-02-01", "Customer"),
            // Said twice: no movement.
            entry("b", "2026-02-02", "Customer"),
            // Out of the period, but what comes after starts from it.
            entry("c", "2020-01-01", "Customer"),
            entry("c", "2026-03-01", "Churned"),
        ];
        add_movements(
            Side::Mine,
            entries,
            &period,
            &months,
            &mut total,
            &mut by_month,
        );
        let movement = |from: &str, to: &str| (Side::Mine, from.to_owned(), to.to_owned());
        let expected: Movements = [
            (movement("", "Deal"), 1),
            (movement("Customer", "Churned"), 1),
            (movement("Deal", "Customer"), 2),
        ]
        .into();
        assert_eq!(total, expected);
        // April 2025 is the first of twelve months.
        assert_eq!(by_month[9], [(movement("", "Deal"), 1)].into());
        assert_eq!(by_month[10], [(movement("Deal", "Customer"), 2)].into());
        assert_eq!(by_month[11], [(movement("Customer", "Churned"), 1)].into());
    }

    #[test]
    fn p29_conversion_counts_customers_made_after_the_referral() {
        let stages = Stage::built_in();
        let referred = at("2026-02-01T00:00:00Z");
        let history = |entries: &[(&str, &str)]| -> Vec<_> {
            entries
                .iter()
                .map(|(day, stage)| (at(&format!("{day}T00:00:00Z")), (*stage).to_owned()))
                .collect()
        };
        let converted = |entries: &[(&str, &str)], now: Option<&str>| {
            has_converted(&stages, &history(entries), now, referred)
        };
        assert!(converted(
            &[("2026-01-01", "Lead"), ("2026-02-01", "Customer")],
            Some("Churned")
        ));
        assert!(!converted(&[("2026-01-01", "Lead")], Some("Deal")));
        assert!(converted(&[], Some("Customer")));
        assert!(converted(&[("2026-01-01", "Lead")], Some("Customer")));
        // A customer before it was referred.
        assert!(!converted(&[("2026-01-01", "Customer")], Some("Customer")));
        assert!(converted(
            &[
                ("2025-01-01", "Customer"),
                ("2026-01-01", "Churned"),
                ("2026-03-01", "Customer")
            ],
            None
        ));
        assert!(!converted(&[], None));
    }

    #[test]
    fn partners_are_named_by_id_or_organisation() {
        let names = PartnerNames::of("prt_1", "Globex");
        assert!(names.is_named_by("prt_1") && names.is_named_by("GLOBEX"));
        assert!(!names.is_named_by("") && !names.is_named_by("prt_2"));
    }
}
