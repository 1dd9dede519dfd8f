//! Who is who: organisations, sessions, and the context every tag of an epoch is bound to (PROTOCOL.md §3).

use std::fmt;

use crate::{
    backend::Encoded,
    suite::{SUITE_NAME, derive_truncated},
};

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident[$length:literal];)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub [u8; $length]);

            impl $name {
                /// The bytes.
                #[must_use]
                pub const fn as_bytes(&self) -> &[u8; $length] {
                    &self.0
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    for byte in &self.0 {
                        write!(formatter, "{byte:02x}")?;
                    }
                    Ok(())
                }
            }
        )*
    };
}

identifiers! {
    /// The hash of an organisation's Ed25519 key.
    OrganizationId[32];
    /// One run, named by its initiator.
    RunId[16];
    /// One session: both hellos and the channel they went through.
    SessionId[32];
    /// What separates the tags of one evaluator, receiver, epoch and key from all others.
    Context[16];
    /// The two organisations, whatever their roles.
    PairId[16];
}

impl OrganizationId {
    /// The id of the organisation with this Ed25519 public key.
    #[must_use]
    pub fn of_key(public_key: &[u8; 32]) -> Self {
        Self(derive_truncated("OVL1/organization", &[public_key]))
    }
}

impl Context {
    /// `ctx` of one direction of one epoch.
    #[must_use]
    pub fn new(
        evaluator: &OrganizationId,
        receiver: &OrganizationId,
        epoch: u64,
        public_key: &Encoded,
    ) -> Self {
        Self(derive_truncated(
            "OVL1/ctx",
            &[
                SUITE_NAME,
                &evaluator.0,
                &receiver.0,
                &epoch.to_be_bytes(),
                public_key,
            ],
        ))
    }
}

impl PairId {
    /// The pair of two organisations.
    #[must_use]
    pub fn new(one: &OrganizationId, other: &OrganizationId) -> Self {
        let (low, high) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        Self(derive_truncated(
            "OVL1/pair",
            &[SUITE_NAME, &low.0, &high.0],
        ))
    }
}
