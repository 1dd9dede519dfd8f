//! Which flows a run has, so that each pair of tiers is evaluated exactly once (PROTOCOL.md "Flows").

/// What decides the plan of one side: everything here is known to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidePlan {
    /// Whether any stage is listed.
    pub lists: bool,
    /// Whether any stage is counted.
    pub counts: bool,
    /// Keys of listed customers, as declared in the hello.
    pub list_keys: u64,
    /// Whether this side's policy allows the count x count flow.
    pub count_by_count: bool,
}

/// One of the two nodes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The node that opened the stream.
    Initiator,
    /// The node that accepted it.
    Responder,
}

impl Party {
    /// The other node.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// Which of a side's keys it queries; the answers are the other side's listed keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuerySet {
    /// Keys of listed customers.
    pub list: bool,
    /// Keys of counted customers.
    pub count: bool,
}

impl QuerySet {
    /// Whether the flow runs at all.
    #[must_use]
    pub const fn runs(self) -> bool {
        self.list || self.count
    }
}

/// The flows of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the initiator queries.
    pub initiator: QuerySet,
    /// What the responder queries.
    pub responder: QuerySet,
    /// Whether the count x count flow runs, last.
    pub count_flow: bool,
}

impl Plan {
    /// The plan for two sides. `list_querier` is who queries for list x list, if that was settled earlier in the epoch.
    #[must_use]
    pub fn new(initiator: SidePlan, responder: SidePlan, list_querier: Option<Party>) -> Self {
        let both_list = initiator.lists && responder.lists;
        let querier = list_querier.unwrap_or_else(|| Self::smaller(initiator, responder));
        Self {
            initiator: QuerySet {
                list: both_list && querier == Party::Initiator,
                count: initiator.counts && responder.lists,
            },
            responder: QuerySet {
                list: both_list && querier == Party::Responder,
                count: responder.counts && initiator.lists,
            },
            count_flow: initiator.counts
                && responder.counts
                && initiator.count_by_count
                && responder.count_by_count,
        }
    }

    /// The smaller side queries for list x list; ties: the initiator.
    #[must_use]
    pub const fn smaller(initiator: SidePlan, responder: SidePlan) -> Party {
        if responder.list_keys < initiator.list_keys {
            Party::Responder
        } else {
            Party::Initiator
        }
    }

    /// What `party` queries.
    #[must_use]
    pub const fn queries(&self, party: Party) -> QuerySet {
        match party {
            Party::Initiator => self.initiator,
            Party::Responder => self.responder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Tier {
        Hidden,
        Count,
        List,
    }

    /// How often the plan evaluates a cell of (initiator's tier, responder's tier).
    fn evaluations(plan: Plan, initiator: Tier, responder: Tier) -> u32 {
        let queried = |set: QuerySet, tier| match tier {
            Tier::Hidden => false,
            Tier::Count => set.count,
            Tier::List => set.list,
        };
        let mut times = 0;
        if queried(plan.initiator, initiator) && responder == Tier::List {
            times += 1;
        }
        if queried(plan.responder, responder) && initiator == Tier::List {
            times += 1;
        }
        if plan.count_flow && initiator == Tier::Count && responder == Tier::Count {
            times += 1;
        }
        times
    }

    #[test]
    fn p06_each_pair_of_tiers_is_evaluated_exactly_once() {
        let mixtures = [(false, false), (false, true), (true, false), (true, true)];
        let mut seen = 0;
        for (initiator_lists, initiator_counts) in mixtures {
            for (responder_lists, responder_counts) in mixtures {
                for (mine, theirs) in [(5, 9), (9, 5), (7, 7)] {
                    for switches in 0..4 {
                        let initiator = SidePlan {
                            lists: initiator_lists,
                            counts: initiator_counts,
                            list_keys: mine,
                            count_by_count: switches & 1 != 0,
                        };
                        let responder = SidePlan {
                            lists: responder_lists,
                            counts: responder_counts,
                            list_keys: theirs,
                            count_by_count: switches & 2 != 0,
                        };
                        for querier in [None, Some(Party::Initiator), Some(Party::Responder)] {
                            let plan = Plan::new(initiator, responder, querier);
                            for (a, a_there) in [
                                (Tier::Hidden, true),
                                (Tier::Count, initiator_counts),
                                (Tier::List, initiator_lists),
                            ] {
                                for (b, b_there) in [
                                    (Tier::Hidden, true),
                                    (Tier::Count, responder_counts),
                                    (Tier::List, responder_lists),
                                ] {
                                    let hidden = a == Tier::Hidden || b == Tier::Hidden;
                                    let disabled =
                                        a == Tier::Count && b == Tier::Count && switches != 3;
                                    let wanted =
                                        u32::from(a_there && b_there && !hidden && !disabled);
                                    assert_eq!(
                                        evaluations(plan, a, b),
                                        wanted,
                                        "{a:?} x {b:?} under {plan:?}"
                                    );
                                    seen += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(seen, 16 * 3 * 4 * 3 * 9);
    }

    #[test]
    fn the_smaller_side_queries_and_the_initiator_at_a_tie() {
        let side = |list_keys| SidePlan {
            lists: true,
            counts: false,
            list_keys,
            count_by_count: false,
        };
        for (mine, theirs, querier) in [
            (5, 9, Party::Initiator),
            (9, 5, Party::Responder),
            (7, 7, Party::Initiator),
        ] {
            let plan = Plan::new(side(mine), side(theirs), None);
            assert!(plan.queries(querier).list, "{mine} against {theirs}");
            assert!(!plan.queries(querier.other()).runs());
        }
    }
}
