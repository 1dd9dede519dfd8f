//! Who calls, and what they may do.

mod layer;
mod tokens;

use overlap_proto::v1;

use crate::error::{Error, Reason};

pub(crate) use layer::AuthenticationLayer;
pub use tokens::{Token, Tokens, create};
pub(crate) use tokens::{list, revoke, revoke_of_partnership};

/// What a caller may do; the role table is in docs/API.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything.
    Admin,
    /// Partnerships, permissions, customers, runs, engagement.
    PartnerAdmin,
    /// Runs, attribution, program numbers.
    PartnerManager,
    /// Reads the overlap and works with attribution.
    Member,
    /// A partner's own user: its own company's numbers only.
    Partner,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::PartnerAdmin,
        Self::PartnerManager,
        Self::Member,
        Self::Partner,
    ];
    /// Those who administer the node's matching.
    pub const ADMINS: [Self; 2] = [Self::Admin, Self::PartnerAdmin];
    /// Those who start runs and manage partners.
    pub const MANAGERS: [Self; 3] = [Self::Admin, Self::PartnerAdmin, Self::PartnerManager];
    /// Everyone of this organisation.
    pub const STAFF: [Self; 4] = [
        Self::Admin,
        Self::PartnerAdmin,
        Self::PartnerManager,
        Self::Member,
    ];

    /// The stable name, as stored and as the command line takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::PartnerAdmin => "PARTNER_ADMIN",
            Self::PartnerManager => "PARTNER_MANAGER",
            Self::Member => "MEMBER",
            Self::Partner => "PARTNER",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The role that the API's terms name.
    #[must_use]
    pub fn from_proto(role: v1::Role) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.to_proto() == role)
    }

    /// The role in the API's terms.
    #[must_use]
    pub const fn to_proto(self) -> v1::Role {
        match self {
            Self::Admin => v1::Role::Admin,
            Self::PartnerAdmin => v1::Role::PartnerAdmin,
            Self::PartnerManager => v1::Role::PartnerManager,
            Self::Member => v1::Role::Member,
            Self::Partner => v1::Role::Partner,
        }
    }
}

/// An authenticated caller; the API's authentication layer puts one into every request's extensions.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's id, which the audit log names.
    pub token_id: String,
    /// Who uses the token.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// For [`Role::Partner`]: the id of the only partnership it may see.
    pub partner: Option<String>,
}

impl Caller {
    /// The caller of a request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if the authentication layer admitted nobody.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Error> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            Error::new(
                Reason::Unauthenticated,
                "no valid bearer token: send \"authorization: Bearer SECRET\"",
            )
        })
    }

    /// Refuses the call unless the caller has one of `roles`.
    ///
    /// # Errors
    /// `ROLE_NOT_ALLOWED`.
    pub fn require(&self, roles: &[Role]) -> Result<(), Error> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let allowed = roles
            .iter()
            .map(|role| role.name())
            .collect::<Vec<_>>()
            .join(", ");
        Err(Error::new(
            Reason::RoleNotAllowed,
            format!(
                "role {} may not do this: it takes one of {allowed}",
                self.role.name()
            ),
        ))
    }

    /// Whether the caller may know of a partnership.
    #[must_use]
    pub fn may_see(&self, partnership_id: &str) -> bool {
        self.role != Role::Partner || self.partner.as_deref() == Some(partnership_id)
    }
}
