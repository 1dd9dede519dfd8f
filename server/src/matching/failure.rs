//! Why a run failed, and which side has to act.

use overlap_crypto::{
    fault::{Blame as FaultBlame, Error as ProtocolError, Fault, Misuse},
    wire::AbortBody,
};

use crate::error::{Blame, Error, Reason};

/// Which side made a run fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// This node or its environment.
    Mine,
    /// The partner broke the protocol or reported a failure.
    Partner,
    /// The connection.
    Network,
}

impl Side {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mine => "MINE",
            Self::Partner => "PARTNER",
            Self::Network => "NETWORK",
        }
    }

    /// The side with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Mine, Self::Partner, Self::Network]
            .into_iter()
            .find(|side| side.name() == name)
    }
}

/// A failed run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// Which side has to act.
    pub side: Side,
    /// What the partner is told; `None` if it told us, or cannot be reached.
    pub abort: Option<u16>,
}

/// Codes that a node sends besides the protocol's faults.
pub mod abort {
    use super::AbortBody;

    /// The sender's operator cancelled the run.
    pub const CANCELLED: u16 = AbortBody::CANCELLED;
    /// The sender's own environment failed.
    pub const UNAVAILABLE: u16 = AbortBody::UNAVAILABLE;
    /// The receiver's budget is used up.
    pub const BUDGET_EXHAUSTED: u16 = AbortBody::BUDGET_EXHAUSTED;
    /// Another run of the partnership is under way.
    pub const RUN_UNDER_WAY: u16 = 1003;
    /// The sender discloses no usable key.
    pub const EMPTY_SET: u16 = 1004;
    /// The sender's set is over its own limit.
    pub const SET_TOO_LARGE: u16 = 1005;
    /// The sender has no sharing agreement in force.
    pub const SHARING_NOT_ACTIVE: u16 = 1006;
    /// The least time between two runs has not passed.
    pub const TOO_SOON: u16 = 1007;
    /// A deadline passed.
    pub const DEADLINE: u16 = 1008;
    /// The sender knows nothing of the run that is to go on: it was restarted, or has given the run up.
    pub const RUN_INTERRUPTED: u16 = 1009;
}

/// Reasons that travel as codes of their own.
const TOLD: [(Reason, u16); 10] = [
    (Reason::Cancelled, abort::CANCELLED),
    (Reason::QuotaExhausted, abort::BUDGET_EXHAUSTED),
    (Reason::RunUnderWay, abort::RUN_UNDER_WAY),
    (Reason::EmptySet, abort::EMPTY_SET),
    (Reason::SetTooLarge, abort::SET_TOO_LARGE),
    (Reason::SharingNotActive, abort::SHARING_NOT_ACTIVE),
    (Reason::RunTooSoon, abort::TOO_SOON),
    (Reason::DeadlineExceeded, abort::DEADLINE),
    (Reason::RunInterrupted, abort::RUN_INTERRUPTED),
    (Reason::PartnerFailed, abort::UNAVAILABLE),
];

impl Failure {
    /// A failure of this node or its environment.
    #[must_use]
    pub fn mine(error: Error) -> Self {
        let abort = TOLD
            .iter()
            .find(|(reason, _)| *reason == error.reason())
            .map_or(abort::UNAVAILABLE, |(_, code)| *code);
        Self {
            error,
            side: Side::Mine,
            abort: Some(abort),
        }
    }

    /// The partner broke the protocol.
    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        let (reason, side) = match fault {
            Fault::TermsDiffer => (Reason::TermsDiffer, Side::Partner),
            _ => match fault.blame() {
                FaultBlame::PeerVersion => (Reason::PeerVersion, Side::Partner),
                FaultBlame::Peer => (Reason::PeerFault, Side::Partner),
            },
        };
        Self {
            error: Error::new(reason, format!("{}: {}", fault.name(), fault.description()))
                .with("fault", fault.name()),
            side,
            abort: Some(fault.code()),
        }
    }

    /// The connection broke.
    #[must_use]
    pub fn network(message: impl Into<String>) -> Self {
        Self {
            error: Error::new(Reason::PartnerUnreachable, message),
            side: Side::Network,
            abort: None,
        }
    }

    /// What a link reported.
    #[must_use]
    pub fn link(error: Error) -> Self {
        let side = match error.reason() {
            Reason::PartnerUnreachable | Reason::DeadlineExceeded => Side::Network,
            _ => match error.reason().blame() {
                Blame::Peer | Blame::PeerVersion => Side::Partner,
                Blame::Caller => Side::Partner,
                Blame::Environment => Side::Network,
                Blame::Bug => Side::Mine,
            },
        };
        Self {
            error,
            side,
            abort: None,
        }
    }

    /// The partner took too long.
    #[must_use]
    pub fn deadline(what: &str, seconds: u64) -> Self {
        Self {
            error: Error::new(
                Reason::DeadlineExceeded,
                format!("{what} took the partner's node longer than {seconds} s"),
            ),
            side: Side::Network,
            abort: Some(abort::DEADLINE),
        }
    }

    /// The partner gave up and said why.
    #[must_use]
    pub fn told(code: u16) -> Self {
        let own = TOLD.iter().find(|(_, known)| *known == code);
        let (reason, message) = if let Some((reason, _)) = own {
            (
                *reason,
                format!("the partner's node ended the run: {}", reason.name()),
            )
        } else if let Some(fault) = Fault::from_code(code) {
            let reason = match fault {
                Fault::TermsDiffer => Reason::TermsDiffer,
                _ if fault.blame() == FaultBlame::PeerVersion => Reason::PeerVersion,
                _ => Reason::PeerFault,
            };
            (
                reason,
                format!(
                    "the partner's node refused what this node sent: {}",
                    fault.name()
                ),
            )
        } else {
            (
                Reason::PartnerFailed,
                format!("the partner's node ended the run with code {code}"),
            )
        };
        Self {
            error: Error::new(reason, message).with("abort_code", code),
            side: Side::Partner,
            abort: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::mine(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::fault(fault)
    }
}

impl From<Misuse> for Failure {
    fn from(misuse: Misuse) -> Self {
        Self::mine(misused(misuse))
    }
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Peer(fault) => fault.into(),
            ProtocolError::Caller(misuse) => misuse.into(),
            _ => Self::mine(Error::internal(error.to_string())),
        }
    }
}

/// A mistake of this program in the use of the protocol.
#[must_use]
pub fn misused(misuse: Misuse) -> Error {
    match misuse {
        Misuse::FieldsTooLong => Error::new(
            Reason::FieldsDoNotFit,
            "a customer's shared fields exceed label_field_bytes: raise it or share fewer fields",
        ),
        Misuse::Terms(why) => Error::new(
            Reason::FailedPrecondition,
            format!("the agreed sharing permissions cannot be matched: {why}"),
        ),
        other => Error::internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_meaning() {
        let codes: std::collections::HashSet<u16> = TOLD.iter().map(|(_, code)| *code).collect();
        assert_eq!(codes.len(), TOLD.len());
        for (reason, code) in TOLD {
            assert_eq!(Fault::from_code(code), None);
            let told = Failure::told(code);
            assert_eq!((told.error.reason(), told.side), (reason, Side::Partner));
        }
        assert_eq!(Failure::told(9).error.reason(), Reason::PeerFault);
        assert_eq!(
            Failure::told(Fault::TermsDiffer.code()).error.reason(),
            Reason::TermsDiffer
        );
        assert_eq!(Failure::told(60_000).error.reason(), Reason::PartnerFailed);
    }

    #[test]
    fn the_partner_hears_of_a_local_failure_no_more_than_that() {
        let failure = Failure::mine(Error::new(Reason::DiskFull, "/home/x: full"));
        assert_eq!(failure.abort, Some(abort::UNAVAILABLE));
        assert_eq!(failure.side, Side::Mine);
    }
}
