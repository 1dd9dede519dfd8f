//! What can go wrong on the way to a node and there.

use std::{
    collections::BTreeMap,
    error::Error as _,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why a call failed, sorted by who can do something about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node answered with an error.
    #[error("{}", .0.message)]
    Node(Box<NodeError>),
    /// This client was set up wrongly.
    #[error("{message}")]
    Config {
        /// What is wrong, and where.
        message: String,
    },
    /// A file of this machine cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No connection to the node, or it broke.
    #[error("cannot reach the node at {endpoint}: {detail}")]
    Unreachable {
        /// Where the node should be.
        endpoint: String,
        /// What the transport says.
        detail: String,
    },
    /// The node did not answer in time.
    #[error("the node at {endpoint} did not answer in time")]
    Deadline {
        /// Where the node is.
        endpoint: String,
    },
    /// The node's answer lacks something that the API promises.
    #[error("the node's answer lacks {missing}: is it an Overlap node of this version?")]
    Response {
        /// What is missing.
        missing: &'static str,
    },
}

/// An error as the node reports it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeError {
    /// The gRPC status code.
    pub code: Code,
    /// The stable reason, e.g. `SHARING_NOT_ACTIVE`.
    pub reason: String,
    /// A sentence for a person.
    pub message: String,
    /// Fields of the request, or lines of a file, that are wrong.
    pub violations: Vec<FieldViolation>,
    /// Further facts by name.
    pub metadata: BTreeMap<String, String>,
    /// How long the node asks to wait before another attempt.
    pub retry_after: Option<Duration>,
    /// What the node's log calls the call (`x-request-id`).
    pub request_id: Option<String>,
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldViolation {
    /// Its path, e.g. `customers[3].stage`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not until something else changes.
    No,
    /// Soon, with a growing pause.
    Soon,
    /// Not before this has passed.
    After(Duration),
}

impl Error {
    /// The stable reason, which programs may branch on.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Node(error) => &error.reason,
            Self::Config { .. } => "CLIENT_CONFIG_INVALID",
            Self::File { .. } => "FILE_UNREADABLE",
            Self::Unreachable { .. } => "NODE_UNREACHABLE",
            Self::Deadline { .. } => "DEADLINE_EXCEEDED",
            Self::Response { .. } => "NODE_ANSWER_INVALID",
        }
    }

    /// What is wrong with which field, where the node says so.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        match self {
            Self::Node(error) => &error.violations,
            _ => &[],
        }
    }

    /// What the node's log calls the call that it refused.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Node(error) => error.request_id.as_deref(),
            _ => None,
        }
    }

    /// Whether trying again makes sense.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Node(error) => match (error.retry_after, error.code) {
                (Some(pause), _) => Retry::After(pause),
                (None, Code::Unavailable | Code::Aborted) => Retry::Soon,
                _ => Retry::No,
            },
            Self::Unreachable { .. } | Self::Deadline { .. } => Retry::Soon,
            Self::Config { .. } | Self::File { .. } | Self::Response { .. } => Retry::No,
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::Config {
            message: message.into(),
        }
    }

    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// The transport's error: its innermost cause says most.
    pub(crate) fn transport(endpoint: &str, error: &dyn std::error::Error) -> Self {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self::Unreachable {
            endpoint: endpoint.to_owned(),
            detail: cause.to_string(),
        }
    }

    pub(crate) fn from_status(endpoint: &str, status: Status, request_id: Option<String>) -> Self {
        let details = status.get_error_details();
        // A status that this side made up from a transport error has no details but a source.
        if details.error_info().is_none()
            && let Some(source) = status.source()
        {
            return if status.code() == Code::DeadlineExceeded || status.code() == Code::Cancelled {
                Self::Deadline {
                    endpoint: endpoint.to_owned(),
                }
            } else {
                Self::transport(endpoint, source)
            };
        }
        let (reason, metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone()),
            None => (code_name(status.code()).to_owned(), Default::default()),
        };
        let violations = details
            .bad_request()
            .map(|bad| bad.field_violations.as_slice())
            .unwrap_or_default()
            .iter()
            .map(|violation| FieldViolation {
                field: violation.field.clone(),
                problem: violation.description.clone(),
            })
            .collect();
        let message = match status.message() {
            "" if status.code() == Code::Unimplemented => {
                "the node does not know this call: it is older or newer than this client".to_owned()
            }
            "" => "the node gives no explanation".to_owned(),
            message => message.to_owned(),
        };
        Self::Node(Box::new(NodeError {
            code: status.code(),
            reason,
            message,
            violations,
            metadata: metadata.into_iter().collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            request_id,
        }))
    }
}

/// The name of a status code in the specification.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

    use super::{Error, Retry};

    #[test]
    fn a_status_keeps_its_reason_fields_and_retry_hint() {
        let mut details = ErrorDetails::with_error_info(
            "QUOTA_EXHAUSTED",
            "overlap",
            HashMap::from([("epoch".to_owned(), "7".to_owned())]),
        );
        details.set_bad_request(vec![FieldViolation::new("partner", "is over its budget")]);
        details.set_retry_info(Some(Duration::from_secs(90)));
        let status =
            Status::with_error_details(Code::ResourceExhausted, "the budget is used up", details);
        let error = Error::from_status("http://127.0.0.1:1", status, Some("req_7".to_owned()));
        assert_eq!(error.reason(), "QUOTA_EXHAUSTED");
        assert_eq!(error.to_string(), "the budget is used up");
        assert_eq!(error.violations()[0].field, "partner");
        assert_eq!(error.retry(), Retry::After(Duration::from_secs(90)));
        assert_eq!(error.request_id(), Some("req_7"));
        let Error::Node(node) = error else {
            panic!("{error:?}")
        };
        assert_eq!(node.metadata["epoch"], "7");
    }

    #[test]
    fn a_status_without_details_is_named_by_its_code() {
        let error = Error::from_status("e", Status::unavailable("draining"), None);
        assert_eq!(
            (error.reason(), error.retry()),
            ("UNAVAILABLE", Retry::Soon)
        );
        let error = Error::from_status("e", Status::not_found("no such run"), None);
        assert_eq!((error.reason(), error.retry()), ("NOT_FOUND", Retry::No));
    }
}
