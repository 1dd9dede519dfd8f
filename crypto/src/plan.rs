//! Which flows a run has and who does what in them (PROTOCOL.md §2).

use crate::{
    context::OrganizationId,
    fault::Misuse,
    terms::{Terms, Tier},
    wire::Flow,
};

/// A side of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It started the run.
    Initiator,
    /// It answered.
    Acceptor,
}

impl Role {
    /// The byte that stands for it in hashes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Initiator => 0,
            Self::Acceptor => 1,
        }
    }

    /// The other side.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Initiator => Self::Acceptor,
            Self::Acceptor => Self::Initiator,
        }
    }

    /// The list flow in which this side queries.
    #[must_use]
    pub const fn querying_flow(self) -> Flow {
        match self {
            Self::Initiator => Flow::InitiatorQueries,
            Self::Acceptor => Flow::AcceptorQueries,
        }
    }
}

/// What one side asks in the list flow in which it queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queries {
    /// It queries its list tier, and claims its matches.
    pub list: bool,
    /// It queries its count tier, and reports its matches in numbers.
    pub count: bool,
}

/// The flows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the initiator queries, if it does.
    pub initiator: Option<Queries>,
    /// What the acceptor queries, if it does.
    pub acceptor: Option<Queries>,
    /// Whether the count flow runs.
    pub count: bool,
}

impl Plan {
    /// The flows under these terms; `list_querier` is the side that queries for list x list cells in this epoch.
    ///
    /// # Errors
    /// [`Misuse::Terms`] if `initiator` is no side of the terms.
    pub fn new(
        terms: &Terms,
        initiator: &OrganizationId,
        list_querier: Role,
    ) -> Result<Self, Misuse> {
        let missing = Misuse::Terms("an organisation is no side of the terms");
        let own = terms.side(initiator).ok_or(missing)?;
        let peer = terms.partner_of(initiator).ok_or(missing)?;
        let has = |side: &crate::terms::SideTerms, tier| !side.stages_of(tier).is_empty();
        let queries = |role, receiver, evaluator| {
            let queries = Queries {
                list: role == list_querier && has(receiver, Tier::List),
                count: has(receiver, Tier::Count),
            };
            (has(evaluator, Tier::List) && (queries.list || queries.count)).then_some(queries)
        };
        Ok(Self {
            initiator: queries(Role::Initiator, own, peer),
            acceptor: queries(Role::Acceptor, peer, own),
            count: terms.has_count_flow(),
        })
    }

    /// What a side queries.
    #[must_use]
    pub const fn queries(&self, role: Role) -> Option<Queries> {
        match role {
            Role::Initiator => self.initiator,
            Role::Acceptor => self.acceptor,
        }
    }

    /// Whether a flow is part of the run.
    #[must_use]
    pub const fn has(&self, flow: Flow) -> bool {
        match flow {
            Flow::Session => true,
            Flow::InitiatorQueries => self.initiator.is_some(),
            Flow::AcceptorQueries => self.acceptor.is_some(),
            Flow::Count => self.count,
        }
    }
}
