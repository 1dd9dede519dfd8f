//! What two parties agreed to disclose to each other, in the canonical form both hash (PROTOCOL.md "Terms").

/// What the partner may learn about the customers of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Never loaded into the protocol.
    Hidden,
    /// How many, never who.
    Count,
    /// Who, the stage and the permitted fields.
    List,
}

/// A kind of identifier; the order of the variants is the agreed order of key types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// An identifier both organisations keep, compared byte for byte.
    ExternalId,
    /// An e-mail address.
    Email,
    /// A phone number in E.164.
    Phone,
    /// A registrable domain.
    Domain,
}

impl KeyType {
    /// Every key type in the agreed order.
    pub const ALL: [Self; 4] = [Self::ExternalId, Self::Email, Self::Phone, Self::Domain];

    /// The byte that stands for it on the wire and in storage.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ExternalId => 1,
            Self::Email => 2,
            Self::Phone => 3,
            Self::Domain => 4,
        }
    }

    /// The key type with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.code() == code)
    }

    /// The name used in policy files and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Domain => "domain",
        }
    }
}
