//! The node's one error type: a stable reason, a sentence for a person, and whose fault it was.

use std::fmt;

use tonic::Code;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The `ErrorInfo` domain of every error this node reports.
pub const DOMAIN: &str = "overlap";

/// Who has to act for the error to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The partner sent something it must not send.
    Peer,
    /// The partner speaks another version.
    PeerVersion,
    /// Whoever called the API, or wrote the file.
    Caller,
    /// The disk, the network, the operating system.
    Environment,
    /// This program.
    Bug,
}

macro_rules! reasons {
    ($($variant:ident $name:literal $code:ident $blame:ident $doc:literal;)*) => {
        /// A stable code: `ErrorInfo.reason` over gRPC, and a name people can search for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The gRPC status code it is reported with.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)* }
            }

            /// One sentence on what it means, which says nothing of the case at hand.
            #[must_use]
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// The reason with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.name() == name)
            }
        }
    };
}

reasons! {
    // Callers
    Unauthenticated "UNAUTHENTICATED" Unauthenticated Caller "No valid bearer token.";
    RoleNotAllowed "ROLE_NOT_ALLOWED" PermissionDenied Caller "The caller's role may not do this.";
    NotFound "NOT_FOUND" NotFound Caller "There is no such thing.";
    AlreadyExists "ALREADY_EXISTS" AlreadyExists Caller "There is one already.";
    InvalidArgument "INVALID_ARGUMENT" InvalidArgument Caller "A field of the request or a line of a file is wrong.";
    PageTokenInvalid "PAGE_TOKEN_INVALID" InvalidArgument Caller "The page token is not one of this listing's.";
    PartnershipNotConnected "PARTNERSHIP_NOT_CONNECTED" FailedPrecondition Caller "The partnership is pending or revoked.";
    SharingNotActive "SHARING_NOT_ACTIVE" FailedPrecondition Caller "Both sides have not agreed on sharing permissions.";
    OwnTierCountsOnly "OWN_TIER_COUNTS_ONLY" FailedPrecondition Caller "The customer's own tier is not list, so nothing sent may name it.";
    NoKeysAgreed "NO_KEYS_AGREED" FailedPrecondition Caller "The two policies have no key type in common.";
    EmptySet "EMPTY_SET" FailedPrecondition Caller "No disclosed customer has a usable key.";
    SetTooLarge "SET_TOO_LARGE" ResourceExhausted Caller "More keys than a run may have.";
    FieldsDoNotFit "FIELDS_DO_NOT_FIT" FailedPrecondition Caller "A customer's shared fields exceed the policy's label length.";
    InviteInvalid "INVITE_INVALID" InvalidArgument Caller "The invitation is malformed, used or expired.";
    ConfigInvalid "CONFIG_INVALID" InvalidArgument Caller "The configuration file is wrong.";
    RunUnderWay "RUN_UNDER_WAY" FailedPrecondition Caller "Another run of the partnership is under way.";
    RunTooSoon "RUN_TOO_SOON" FailedPrecondition Caller "The least time between two runs has not passed.";
    QuotaExhausted "QUOTA_EXHAUSTED" ResourceExhausted Caller "A budget is used up.";
    FailedPrecondition "FAILED_PRECONDITION" FailedPrecondition Caller "The state does not allow this now.";
    PartnerHasNoEndpoint "PARTNER_HAS_NO_ENDPOINT" FailedPrecondition Caller "The partner's node cannot be reached from here, it has to call.";
    Unimplemented "UNIMPLEMENTED" Unimplemented Caller "This node does not offer that.";
    StreamIncomplete "STREAM_INCOMPLETE" Aborted Caller "A stream of requests ended without the message that completes it.";
    OwnRequest "OWN_REQUEST" PermissionDenied Caller "Nobody decides a request of their own.";
    NotTheRequester "NOT_THE_REQUESTER" PermissionDenied Caller "Only the requester withdraws a request.";
    AlreadyDecided "ALREADY_DECIDED" FailedPrecondition Caller "The request has been approved, denied or cancelled.";
    AssetTooLarge "ASSET_TOO_LARGE" ResourceExhausted Caller "The file is larger than allowed.";
    ChecksumMismatch "CHECKSUM_MISMATCH" InvalidArgument Caller "The bytes do not have the stated SHA-256.";
    CursorTooOld "CURSOR_TOO_OLD" OutOfRange Caller "The changes after the cursor are no longer kept.";
    NodeStopping "NODE_STOPPING" Unavailable Environment "The node is stopping.";
    Cancelled "CANCELLED" Cancelled Caller "Cancelled by request.";
    // Peers
    PeerFault "PEER_FAULT" Aborted Peer "The partner's node broke the protocol.";
    PeerVersion "PEER_VERSION" FailedPrecondition PeerVersion "The partner's node speaks another protocol version.";
    PeerUnknown "PEER_UNKNOWN" PermissionDenied Peer "The certificate is not that of a connected partner.";
    CertificateExpired "CERTIFICATE_EXPIRED" FailedPrecondition Peer "A node's certificate has expired.";
    TermsDiffer "TERMS_DIFFER" FailedPrecondition Peer "The two nodes hold different sharing terms.";
    PartnerFailed "PARTNER_FAILED" Aborted Peer "The partner's node reported a failure of its own.";
    // Environment
    PartnerUnreachable "PARTNER_UNREACHABLE" Unavailable Environment "The partner's node does not answer.";
    StorageFailed "STORAGE_FAILED" Internal Environment "The store reported an error.";
    DiskFull "DISK_FULL" ResourceExhausted Environment "There is no space left on the device.";
    StoreSchemaNewer "STORE_SCHEMA_NEWER" FailedPrecondition Environment "The store was written by a newer version.";
    PortInUse "PORT_IN_USE" Unavailable Environment "Another process listens on the port.";
    StoreLocked "STORE_LOCKED" FailedPrecondition Environment "Another process uses the node's directory.";
    KeyUnusable "KEY_UNUSABLE" FailedPrecondition Environment "A key file is missing, damaged or sealed under another key.";
    FileUnreadable "FILE_UNREADABLE" InvalidArgument Environment "A file cannot be read.";
    RunInterrupted "RUN_INTERRUPTED" Aborted Environment "A node was restarted during the run, or gave it up.";
    DeadlineExceeded "DEADLINE_EXCEEDED" DeadlineExceeded Environment "It took longer than allowed.";
    // Bugs
    Internal "INTERNAL" Internal Bug "A mistake in this program.";
}

/// Nothing where something failed for one of the reasons that only say that it is not there; any other failure stays one.
///
/// # Errors
/// Those of `found` for any other reason.
pub(crate) fn unless<T>(found: Result<T, Error>, absent: &[Reason]) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if absent.contains(&error.reason()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What went wrong, where, and what to do.
#[derive(Clone, Debug)]
pub struct Error {
    reason: Reason,
    message: String,
    violations: Vec<FieldViolation>,
    metadata: Vec<(String, String)>,
}

impl Error {
    /// An error with a sentence that says what, where and what to do. Never put a customer's identifier in it that came
    /// from anywhere but the caller's own request or file.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            violations: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// A wrong field of a request; `field` is its path, e.g. `customers[3].stage`.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        let (field, problem) = (field.into(), problem.into());
        let mut error = Self::new(Reason::InvalidArgument, format!("{field}: {problem}"));
        error.violations.push(FieldViolation::new(field, problem));
        error
    }

    /// Something that does not exist, or that the caller may not know to exist.
    pub fn not_found(kind: &str, id: &str) -> Self {
        Self::new(Reason::NotFound, format!("{kind} \"{id}\" does not exist"))
    }

    /// A mistake in this program.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::Internal, message)
    }

    /// Adds a key and value to `ErrorInfo.metadata`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.push((key.to_owned(), value.to_string()));
        self
    }

    /// Keys and values of `ErrorInfo.metadata`.
    #[must_use]
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::new(
                Reason::DiskFull,
                "the store's disk is full: free some space and try again; nothing was changed",
            ),
            _ => Self::new(Reason::StorageFailed, format!("store: {error}")),
        }
    }
}

impl From<Error> for tonic::Status {
    /// The one place where errors become gRPC statuses.
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::with_error_info(
            error.reason.name(),
            DOMAIN,
            error
                .metadata
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
        if !error.violations.is_empty() {
            details.set_bad_request(error.violations);
        }
        // What failed inside is for our log, not for the caller.
        let message = match error.reason.blame() {
            Blame::Bug => {
                tracing::error!(error = %error.message, "internal error");
                "internal error: see the node's log".to_owned()
            }
            _ => error.message,
        };
        Self::with_error_details(error.reason.code(), message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_documented() {
        let documentation = include_str!("../../docs/API.md");
        for &reason in Reason::ALL {
            let row = format!(
                "| `{}` | {} | {} |",
                reason.name(),
                status_name(reason.code()),
                reason.summary()
            );
            assert!(documentation.contains(&row), "docs/API.md lacks:\n{row}");
        }
    }

    fn status_name(code: tonic::Code) -> String {
        let mut name = String::new();
        for letter in format!("{code:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }

    #[test]
    fn every_reason_has_its_own_name() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
    }
}
