//! Groups of shared customers with which something can be done.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use overlap_proto::v1;
use rusqlite::Connection;

use super::{
    events::{Event, Side, is_lost},
    index::{category, read},
};
use crate::{
    collaboration::{SharedCustomer, SharedCustomers},
    convert::timestamp,
    error::Error,
    node::Node,
    sharing::policy::{Agreement, StageCategory},
};

/// How long a shared customer is new.
const NEW: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A group of shared customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    MutualCustomers,
    MyProspectsTheirCustomers,
    ComplementaryStages,
    OneSolution,
    NewlyShared,
    AtRisk,
}

impl Segment {
    pub(super) const ALL: [Self; 6] = [
        Self::MutualCustomers,
        Self::MyProspectsTheirCustomers,
        Self::ComplementaryStages,
        Self::OneSolution,
        Self::NewlyShared,
        Self::AtRisk,
    ];

    pub(super) const fn to_proto(self) -> v1::ActionSegment {
        match self {
            Self::MutualCustomers => v1::ActionSegment::MutualCustomers,
            Self::MyProspectsTheirCustomers => v1::ActionSegment::MyProspectsTheirCustomers,
            Self::ComplementaryStages => v1::ActionSegment::ComplementaryStages,
            Self::OneSolution => v1::ActionSegment::OneSolution,
            Self::NewlyShared => v1::ActionSegment::NewlyShared,
            Self::AtRisk => v1::ActionSegment::AtRisk,
        }
    }

    pub(super) fn from_proto(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|segment| i32::from(segment.to_proto()) == code)
    }
}

/// What decides which segments a shared customer belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) mine: Option<StageCategory>,
    pub(super) theirs: Option<StageCategory>,
    pub(super) first_matched_at: Timestamp,
    /// Whether the last event of either side is an uninstall, a cancellation or a move to lost or churned.
    pub(super) last_event_is_risk: bool,
}

impl Facts {
    /// Whether the customer belongs to a segment.
    pub(super) fn belong_to(self, segment: Segment, now: Timestamp) -> bool {
        use StageCategory::{Customer, Open};
        let (mine, theirs) = (self.mine, self.theirs);
        match segment {
            Segment::MutualCustomers => mine == Some(Customer) && theirs == Some(Customer),
            Segment::MyProspectsTheirCustomers => mine == Some(Open) && theirs == Some(Customer),
            Segment::ComplementaryStages => {
                matches!(
                    (mine, theirs),
                    (Some(Open), Some(Customer)) | (Some(Customer), Some(Open))
                )
            }
            Segment::OneSolution => (mine == Some(Customer)) != (theirs == Some(Customer)),
            Segment::NewlyShared => now.duration_since(self.first_matched_at) <= NEW,
            Segment::AtRisk => is_lost(mine) || is_lost(theirs) || self.last_event_is_risk,
        }
    }
}

/// The last event of either side by shared customer.
pub(super) struct LastEvents(HashMap<String, Event>);

impl LastEvents {
    /// Reads every event once. Memory: one event a shared customer that has any.
    pub(super) fn read(
        node: &Node,
        connection: &Connection,
        customers: &dyn SharedCustomers,
        partnership: &str,
        agreement: &Agreement,
    ) -> Result<Self, Error> {
        let mut last = Self(HashMap::new());
        let find = |row: &str| {
            let shared = customers.by_customer(node, connection, partnership, row)?;
            Ok(shared.map(|shared| shared.id))
        };
        last.add(
            connection,
            Side::Mine,
            // With max, the other columns are those of the row that has it.
            "SELECT max(at_us), id, type, label, partner, customer FROM timeline_events WHERE ?1 <> '' GROUP BY customer",
            partnership,
            &find,
        )?;
        if agreement.theirs.timeline {
            last.add(
                connection,
                Side::Partner,
                "SELECT max(at_us), id, type, label, '', customer FROM partner_events WHERE partnership = ?1 AND customer <> '' GROUP BY customer",
                partnership,
                &find,
            )?;
        }
        Ok(last)
    }

    fn add(
        &mut self,
        connection: &Connection,
        side: Side,
        sql: &str,
        partnership: &str,
        find: &dyn Fn(&str) -> Result<Option<String>, Error>,
    ) -> Result<(), Error> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([partnership])?;
        while let Some(row) = rows.next()? {
            let (Some(event), Some(customer)) =
                (read(row, side)?, find(&row.get::<_, String>(5)?)?)
            else {
                continue;
            };
            let known = self.0.entry(customer).or_insert_with(|| event.clone());
            if known.order() < event.order() {
                *known = event;
            }
        }
        Ok(())
    }

    pub(super) fn of(&self, customer: &str) -> Option<&Event> {
        self.0.get(customer)
    }
}

/// What decides about one shared customer.
pub(super) fn facts(shared: &SharedCustomer, agreement: &Agreement, last: &LastEvents) -> Facts {
    let last_event_is_risk = last.of(&shared.id).is_some_and(|event| {
        let stages = match event.side {
            Side::Mine => &agreement.my_stages,
            Side::Partner => &agreement.their_stages,
        };
        event.is_risk(|stage| category(stages, stage))
    });
    Facts {
        mine: category(&agreement.my_stages, &shared.mine),
        theirs: category(&agreement.their_stages, &shared.theirs),
        first_matched_at: shared.first_matched_at,
        last_event_is_risk,
    }
}

/// One entry of a segment.
pub(super) fn to_proto(shared: SharedCustomer, last: Option<&Event>) -> v1::ActionSegmentCustomer {
    v1::ActionSegmentCustomer {
        id: shared.id,
        mine: shared.mine,
        theirs: shared.theirs,
        first_matched_at: Some(timestamp(shared.first_matched_at)),
        last_event: last.map(Event::to_proto),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p30_segments_follow_from_stages_times_and_last_events() {
        use StageCategory::{Churned, Customer, Lost, Open};
        let now: Timestamp = "2026-03-31T00:00:00Z".parse().unwrap();
        let old: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
        let segments = |mine, theirs, first_matched_at, last_event_is_risk| -> Vec<Segment> {
            let facts = Facts {
                mine,
                theirs,
                first_matched_at,
                last_event_is_risk,
            };
            Segment::ALL
                .into_iter()
                .filter(|segment| facts.belong_to(*segment, now))
                .collect()
        };
        use Segment::{
            AtRisk, ComplementaryStages, MutualCustomers, MyProspectsTheirCustomers, NewlyShared,
            OneSolution,
        };
        assert_eq!(
            segments(Some(Customer), Some(Customer), old, false),
            [MutualCustomers]
        );
        assert_eq!(
            segments(Some(Open), Some(Customer), old, false),
            [MyProspectsTheirCustomers, ComplementaryStages, OneSolution]
        );
        assert_eq!(
            segments(Some(Customer), Some(Open), old, false),
            [ComplementaryStages, OneSolution]
        );
        assert_eq!(segments(Some(Open), Some(Open), old, false), []);
        assert_eq!(
            segments(Some(Customer), Some(Churned), old, false),
            [OneSolution, AtRisk]
        );
        assert_eq!(segments(Some(Lost), Some(Open), old, false), [AtRisk]);
        assert_eq!(
            segments(Some(Customer), Some(Customer), old, true),
            [MutualCustomers, AtRisk]
        );
        // Thirty days to the instant are still new.
        let edge: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        assert_eq!(segments(None, None, edge, false), [NewlyShared]);
        let past = edge - SignedDuration::from_secs(1);
        assert_eq!(segments(None, None, past, false), []);
    }

    #[test]
    fn segments_round_trip() {
        for segment in Segment::ALL {
            assert_eq!(
                Segment::from_proto(segment.to_proto().into()),
                Some(segment)
            );
        }
        assert_eq!(Segment::from_proto(0), None);
    }
}
