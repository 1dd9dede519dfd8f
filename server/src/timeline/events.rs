//! Events and their order. No I/O.

use std::collections::HashSet;

use jiff::Timestamp;
use overlap_proto::v1;

use crate::{convert::timestamp, sharing::policy::StageCategory};

macro_rules! types {
    ($($variant:ident)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum EventType { $($variant,)* }

        impl EventType {
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            pub(super) const fn to_proto(self) -> v1::TimelineEventType {
                match self { $(Self::$variant => v1::TimelineEventType::$variant,)* }
            }
        }
    };
}

types! {
    FirstEngagement AppInstalled AppUninstalled SubscriptionStarted SubscriptionChanged SubscriptionCancelled StageChanged
    Milestone
}

impl EventType {
    /// The number it is stored under.
    pub(super) const fn code(self) -> i32 {
        self.to_proto() as i32
    }

    pub(super) fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// The name on the wire.
    pub(super) fn name(self) -> &'static str {
        let name = self.to_proto().as_str_name();
        name.strip_prefix("TIMELINE_EVENT_TYPE_").unwrap_or(name)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Whose event it is; mine sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    Mine,
    Partner,
}

impl Side {
    pub(super) const fn to_proto(self) -> v1::TimelineSide {
        match self {
            Self::Mine => v1::TimelineSide::Mine,
            Self::Partner => v1::TimelineSide::Partner,
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Timestamp,
    pub(super) side: Side,
    pub(super) id: String,
    pub(super) kind: EventType,
    /// What people read; the new stage's id.
    pub(super) label: String,
    /// Whom it happened with, as the platform names partners.
    pub(super) partner: String,
}

impl Event {
    /// By time, then side, then id.
    pub(super) fn order(&self) -> (Timestamp, Side, &str) {
        (self.at, self.side, &self.id)
    }

    pub(super) fn to_proto(&self) -> v1::TimelineEvent {
        v1::TimelineEvent {
            at: Some(timestamp(self.at)),
            side: self.side.to_proto().into(),
            id: self.id.clone(),
            r#type: self.kind.to_proto().into(),
            label: self.label.clone(),
            partner: self.partner.clone(),
        }
    }

    /// Whether a customer is at risk if nothing good has followed.
    pub(super) fn is_risk(&self, category: impl Fn(&str) -> Option<StageCategory>) -> bool {
        match self.kind {
            EventType::AppUninstalled | EventType::SubscriptionCancelled => true,
            EventType::StageChanged => is_lost(category(&self.label)),
            _ => false,
        }
    }
}

/// Whether a stage means that a customer is gone.
pub(super) const fn is_lost(category: Option<StageCategory>) -> bool {
    matches!(category, Some(StageCategory::Lost | StageCategory::Churned))
}

/// One timeline of both sides' events; of the first engagements with one partner only the first counts.
pub(super) fn timeline(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|one, other| one.order().cmp(&other.order()));
    let mut engaged = HashSet::new();
    events.retain(|event| {
        event.kind != EventType::FirstEngagement
            || engaged.insert((event.side, event.partner.clone()))
    });
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: &str, side: Side, id: &str, kind: EventType, partner: &str) -> Event {
        Event {
            at: at.parse().unwrap(),
            side,
            id: id.to_owned(),
            kind,
            label: String::new(),
            partner: partner.to_owned(),
        }
    }

    #[test]
    fn types_round_trip_and_are_those_of_lifecycle_events() {
        for &kind in EventType::ALL {
            assert_eq!(EventType::from_code(kind.code()), Some(kind));
            assert_eq!(EventType::from_name(kind.name()), Some(kind));
            let record = v1::LifecycleEventType::try_from(kind.code()).unwrap();
            assert_eq!(
                record.as_str_name(),
                format!("LIFECYCLE_EVENT_TYPE_{}", kind.name())
            );
        }
        assert_eq!(EventType::from_code(0), None);
    }

    #[test]
    fn p17_events_ascend_by_time_side_id_and_first_engagements_count_once_a_partner() {
        use EventType::{AppInstalled, FirstEngagement, Milestone};
        let (day1, day2) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let ordered = timeline(vec![
            event(day2, Side::Mine, "a", FirstEngagement, "initech"),
            event(day2, Side::Partner, "a", Milestone, ""),
            event(day2, Side::Mine, "c", AppInstalled, ""),
            event(day2, Side::Mine, "b", Milestone, ""),
            event(day1, Side::Partner, "z", FirstEngagement, ""),
            event(day1, Side::Mine, "y", FirstEngagement, "initech"),
            event(day2, Side::Mine, "d", FirstEngagement, "globex"),
        ]);
        let ids: Vec<_> = ordered
            .iter()
            .map(|event| (event.side, event.id.as_str()))
            .collect();
        assert_eq!(
            ids,
            [
                (Side::Mine, "y"),
                (Side::Partner, "z"),
                (Side::Mine, "b"),
                (Side::Mine, "c"),
                (Side::Mine, "d"),
                (Side::Partner, "a"),
            ]
        );
    }

    #[test]
    fn p30_uninstalls_cancellations_and_moves_to_lost_are_risks() {
        let category = |stage: &str| match stage {
            "Lost" => Some(StageCategory::Lost),
            "Gone" => Some(StageCategory::Churned),
            "Customer" => Some(StageCategory::Customer),
            _ => None,
        };
        let day = "2026-01-01T00:00:00Z";
        let risk = |kind, label: &str| {
            let mut event = event(day, Side::Mine, "a", kind, "");
            label.clone_into(&mut event.label);
            event.is_risk(category)
        };
        assert!(risk(EventType::AppUninstalled, ""));
        assert!(risk(EventType::SubscriptionCancelled, ""));
        assert!(risk(EventType::StageChanged, "Lost"));
        assert!(risk(EventType::StageChanged, "Gone"));
        assert!(!risk(EventType::StageChanged, "Customer"));
        assert!(!risk(EventType::StageChanged, "unknown"));
        assert!(!risk(EventType::AppInstalled, "Lost"));
    }
}
