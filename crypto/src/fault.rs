//! What a peer can do wrong, each with a stable code (PROTOCOL.md §12).

use crate::backend::{DecodeError, ElementFault};

/// Who has to act for an error to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The peer sent something it must not send.
    Peer,
    /// The peer speaks another version of the protocol, or runs under other terms.
    PeerVersion,
}

macro_rules! faults {
    ($($code:literal $variant:ident $name:literal $blame:ident $doc:literal;)*) => {
        /// A stable abort code: what a peer is told, and what its operator can search for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Fault { $(#[doc = $doc] $variant,)* }

        impl Fault {
            /// Every fault, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number that stands for it in an ABORT frame.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)* }
            }

            /// A sentence for the log.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// The fault with this code.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| fault.code() == code)
            }

            /// The fault with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| fault.name() == name)
            }
        }
    };
}

faults! {
    // Frames
    1 MalformedPayload "MALFORMED_PAYLOAD" Peer "A payload is too short, too long, or holds a value that its field does not allow.";
    2 UnknownFlow "UNKNOWN_FLOW" Peer "No flow has this number.";
    3 UnknownKind "UNKNOWN_KIND" Peer "No frame kind has this number.";
    4 WrongFlow "WRONG_FLOW" Peer "The frame kind does not belong to this flow, or the flow is not part of the run.";
    5 WrongRun "WRONG_RUN" Peer "The frame belongs to another run.";
    6 UnexpectedFrame "UNEXPECTED_FRAME" Peer "The frame kind has no place at this point of the flow.";
    7 OutOfOrder "OUT_OF_ORDER" Peer "A sequence, chunk or slice number is ahead of its turn.";
    8 ReplayedFrame "REPLAYED_FRAME" Peer "A sequence, chunk or slice number was seen before.";
    9 WrongCount "WRONG_COUNT" Peer "There are more or fewer items than were announced.";
    10 SetTooLarge "SET_TOO_LARGE" Peer "A set, chunk or slice exceeds its limit.";
    // Handshake
    20 UnsupportedVersion "UNSUPPORTED_VERSION" PeerVersion "The peer speaks another version of the protocol.";
    21 UnknownSuite "UNKNOWN_SUITE" PeerVersion "The peer offers another suite.";
    22 TermsDiffer "TERMS_DIFFER" PeerVersion "The two sides hold different sharing terms.";
    23 WrongOrganization "WRONG_ORGANIZATION" Peer "The hello names another organisation than the pinned one.";
    24 SignatureInvalid "SIGNATURE_INVALID" Peer "A signature does not verify under the pinned organisation key.";
    25 KeyProofInvalid "KEY_PROOF_INVALID" Peer "The proof of possession of the VOPRF key does not verify.";
    26 KeyChanged "KEY_CHANGED" Peer "A second VOPRF key for a known epoch.";
    27 EpochRegression "EPOCH_REGRESSION" Peer "An epoch below the highest one seen.";
    28 EvaluatorMissing "EVALUATOR_MISSING" Peer "The terms let the peer evaluate, but its hello has no VOPRF key.";
    29 RolesDiffer "ROLES_DIFFER" Peer "The two sides remember different roles for this epoch.";
    30 ResumeInvalid "RESUME_INVALID" Peer "The peer resumes at a point that this side never reached.";
    31 FullRunRequired "FULL_RUN_REQUIRED" PeerVersion "One side wants a delta run, the other has to run in full.";
    // Group elements
    40 NonCanonicalElement "NON_CANONICAL_ELEMENT" Peer "Bytes that are not the canonical encoding of a group element.";
    41 IdentityElement "IDENTITY_ELEMENT" Peer "The identity element.";
    42 RepeatedElement "REPEATED_ELEMENT" Peer "The same group element twice.";
    43 ReflectedElement "REFLECTED_ELEMENT" Peer "One of the receiver's own group elements.";
    44 NonCanonicalScalar "NON_CANONICAL_SCALAR" Peer "Bytes that are not the canonical encoding of a scalar.";
    45 ProofInvalid "PROOF_INVALID" Peer "The DLEQ proof of a chunk does not verify.";
    // List flow
    60 CommitmentMismatch "COMMITMENT_MISMATCH" Peer "Something differs from what was committed to.";
    61 TagsNotIncreasing "TAGS_NOT_INCREASING" Peer "Tags are not strictly increasing.";
    62 TagOutsideSlice "TAG_OUTSIDE_SLICE" Peer "A tag does not have the prefix of its slice.";
    63 LabelLength "LABEL_LENGTH" Peer "Labels do not have the length that the terms fix.";
    64 ClaimUnknown "CLAIM_UNKNOWN" Peer "A claim that belongs to no tag of its slice.";
    65 ClaimRepeated "CLAIM_REPEATED" Peer "A second claim for a tag, or claims out of the order of their tags.";
    66 ClaimStage "CLAIM_STAGE" Peer "A claim's label names a stage that is not of the claimant's list tier.";
    // Reports and receipts
    80 ReportInvalid "REPORT_INVALID" Peer "A report has a cell outside the terms, twice, or under the threshold.";
    81 ReceiptDiffers "RECEIPT_DIFFERS" Peer "The peer's receipt states something else than this side saw.";
    // Count flow
    90 GroupsDiffer "GROUPS_DIFFER" Peer "The groups are not those of the terms.";
    91 ElementsNotIncreasing "ELEMENTS_NOT_INCREASING" Peer "Elements of a group are not strictly increasing.";
    92 ReturnsNotIncreasing "RETURNS_NOT_INCREASING" Peer "Returned hashes of a group are not strictly increasing.";
    93 PaddingNotReturned "PADDING_NOT_RETURNED" Peer "A padding element did not come back re-blinded.";
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.name(), self.description())
    }
}

impl std::error::Error for Fault {}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        match error.fault {
            ElementFault::NonCanonical => Self::NonCanonicalElement,
            ElementFault::Identity => Self::IdentityElement,
        }
    }
}

/// What this side's own code asked of the crate and may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// A key value is empty or longer than [`crate::item::MAX_VALUE_BYTES`].
    #[error("a key value must have 1 to 1024 bytes")]
    ValueLength,
    /// More items than a chunk, slice or set may have.
    #[error("more items than a chunk, slice or set may have")]
    TooMany,
    /// A customer's fields exceed the fixed length of the terms.
    #[error("a label's fields exceed the length that the terms fix")]
    FieldsTooLong,
    /// Entries are not sorted strictly by tag, or lie outside their slice.
    #[error("entries are not strictly increasing by tag within their slice")]
    EntriesUnsorted,
    /// A step was taken before the one that has to come first.
    #[error("a step of the run was taken out of order")]
    OutOfOrder,
    /// A secret or stored state is not of the form this crate writes.
    #[error("a stored key or state is not of the form this crate writes")]
    StoredState,
    /// The terms are outside what the protocol can express.
    #[error("the terms are outside what the protocol can express: {0}")]
    Terms(&'static str),
}

/// Everything that can go wrong, sorted by blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Fault),
    /// The caller did.
    #[error("misuse of the protocol crate: {0}")]
    Caller(#[from] Misuse),
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Fault;

    #[test]
    fn every_fault_has_its_own_code_and_name() {
        let mut codes = HashSet::new();
        for &fault in Fault::ALL {
            assert_eq!(Fault::from_code(fault.code()), Some(fault));
            assert_eq!(Fault::from_name(fault.name()), Some(fault));
            assert!(codes.insert(fault.code()));
            assert!(
                fault
                    .name()
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                "{}",
                fault.name()
            );
        }
        assert_eq!(Fault::from_code(0), None);
    }
}
