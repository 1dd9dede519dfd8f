//! The life of an attribution request, on either side. No I/O.

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Pending,
    Approved,
    Denied,
    Cancelled,
}

impl State {
    pub(super) const ALL: [Self; 4] =
        [Self::Pending, Self::Approved, Self::Denied, Self::Cancelled];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Approved => "APPROVED",
            Self::Denied => "DENIED",
            Self::Cancelled => "CANCELLED",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Which side this node is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Sent,
    Received,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Approved,
    Denied,
    Cancelled,
}

impl Outcome {
    pub(super) const fn state(self) -> State {
        match self {
            Self::Approved => State::Approved,
            Self::Denied => State::Denied,
            Self::Cancelled => State::Cancelled,
        }
    }

    /// The outcome of a request in this state, if it has ended.
    pub(super) const fn of(state: State) -> Option<Self> {
        match state {
            State::Pending => None,
            State::Approved => Some(Self::Approved),
            State::Denied => Some(Self::Denied),
            State::Cancelled => Some(Self::Cancelled),
        }
    }
}

/// What a person here wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Command {
    Approve,
    Deny,
    Cancel,
}

/// What to do about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// End the request and tell the requester's node.
    Decide(Outcome),
    /// Ask the receiver's node to cancel.
    AskToCancel,
    /// Nothing: it was asked before.
    Wait,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    /// Nobody decides a request of their own.
    OwnRequest,
    /// Only the requester withdraws it.
    NotTheRequester,
    /// It has ended.
    Ended(State),
}

/// What this node knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    pub(super) direction: Direction,
    pub(super) state: State,
    /// Whether I asked for cancellation.
    pub(super) cancel_asked: bool,
}

impl Copy {
    /// What a command of a person here does.
    pub(super) const fn command(self, command: Command) -> Result<Step, Refusal> {
        match (self.direction, command) {
            (Direction::Sent, Command::Approve | Command::Deny) => Err(Refusal::OwnRequest),
            (Direction::Received, Command::Cancel) => Err(Refusal::NotTheRequester),
            _ if !matches!(self.state, State::Pending) => Err(Refusal::Ended(self.state)),
            (Direction::Received, Command::Approve) => Ok(Step::Decide(Outcome::Approved)),
            (Direction::Received, Command::Deny) => Ok(Step::Decide(Outcome::Denied)),
            (Direction::Sent, Command::Cancel) if self.cancel_asked => Ok(Step::Wait),
            (Direction::Sent, Command::Cancel) => Ok(Step::AskToCancel),
        }
    }
}

/// What the partner's node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Word {
    /// It asks for attribution.
    Requested,
    /// It withdraws its request.
    CancelAsked,
    /// It has ended my request.
    Ended(Outcome),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// Store a request that waits for a decision.
    Insert,
    /// Store that the request was cancelled before it arrived, and tell the requester's node.
    InsertCancelled,
    /// End my copy; the partner's node knows.
    End(Outcome),
    /// End my copy and tell the requester's node.
    EndAndTell(Outcome),
    /// Tell the requester's node how it ended, again.
    TellAgain(Outcome),
    /// Nothing: it is known, or what it is about is gone.
    Nothing,
    /// The partner's node may not say that.
    Fault,
}

/// The effect of what the partner's node says on what this node knows. Saying it again has no further effect, and the order
/// in which words arrive does not matter.
pub(super) const fn hear(known: Option<Copy>, word: Word) -> Effect {
    match (known, word) {
        (None, Word::Requested) => Effect::Insert,
        (None, Word::CancelAsked) => Effect::InsertCancelled,
        // Both sides forget requests when sharing ends.
        (None, Word::Ended(_)) => Effect::Nothing,
        (Some(copy), word) => match (copy.direction, word) {
            (Direction::Sent, Word::Requested | Word::CancelAsked)
            | (Direction::Received, Word::Ended(_)) => Effect::Fault,
            (Direction::Received, Word::Requested) => Effect::Nothing,
            (Direction::Received, Word::CancelAsked) => match Outcome::of(copy.state) {
                None => Effect::EndAndTell(Outcome::Cancelled),
                Some(outcome) => Effect::TellAgain(outcome),
            },
            (Direction::Sent, Word::Ended(outcome)) => match (copy.state, outcome) {
                (State::Pending, outcome) => Effect::End(outcome),
                (State::Approved, Outcome::Approved)
                | (State::Denied, Outcome::Denied)
                | (State::Cancelled, Outcome::Cancelled) => Effect::Nothing,
                // An authority does not change its mind.
                _ => Effect::Fault,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn copy(direction: Direction, state: State) -> Copy {
        Copy {
            direction,
            state,
            cancel_asked: false,
        }
    }

    #[test]
    fn names_round_trip() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("pending"), None);
    }

    #[test]
    fn p22_only_the_receiver_decides_and_only_once() {
        use Command::{Approve, Cancel, Deny};
        use Direction::{Received, Sent};
        let pending = copy(Received, State::Pending);
        assert_eq!(
            pending.command(Approve),
            Ok(Step::Decide(Outcome::Approved))
        );
        assert_eq!(pending.command(Deny), Ok(Step::Decide(Outcome::Denied)));
        assert_eq!(pending.command(Cancel), Err(Refusal::NotTheRequester));
        let own = copy(Sent, State::Pending);
        assert_eq!(own.command(Approve), Err(Refusal::OwnRequest));
        assert_eq!(own.command(Deny), Err(Refusal::OwnRequest));
        assert_eq!(own.command(Cancel), Ok(Step::AskToCancel));
        let asked = Copy {
            cancel_asked: true,
            ..own
        };
        assert_eq!(asked.command(Cancel), Ok(Step::Wait));
        for state in [State::Approved, State::Denied, State::Cancelled] {
            for command in [Approve, Deny] {
                assert_eq!(
                    copy(Received, state).command(command),
                    Err(Refusal::Ended(state))
                );
                // That it is one's own comes first: it holds whatever the state.
                assert_eq!(copy(Sent, state).command(command), Err(Refusal::OwnRequest));
            }
            assert_eq!(
                copy(Sent, state).command(Cancel),
                Err(Refusal::Ended(state))
            );
        }
    }

    #[test]
    fn p20_words_that_come_again_or_too_early_do_no_harm() {
        use Direction::{Received, Sent};
        assert_eq!(hear(None, Word::Requested), Effect::Insert);
        assert_eq!(hear(None, Word::CancelAsked), Effect::InsertCancelled);
        assert_eq!(hear(None, Word::Ended(Outcome::Approved)), Effect::Nothing);
        for state in State::ALL {
            assert_eq!(
                hear(Some(copy(Received, state)), Word::Requested),
                Effect::Nothing
            );
            assert_eq!(
                hear(Some(copy(Sent, state)), Word::Requested),
                Effect::Fault
            );
            assert_eq!(
                hear(Some(copy(Sent, state)), Word::CancelAsked),
                Effect::Fault
            );
            for outcome in [Outcome::Approved, Outcome::Denied, Outcome::Cancelled] {
                assert_eq!(
                    hear(Some(copy(Received, state)), Word::Ended(outcome)),
                    Effect::Fault
                );
                let expected = match state {
                    State::Pending => Effect::End(outcome),
                    _ if outcome.state() == state => Effect::Nothing,
                    _ => Effect::Fault,
                };
                assert_eq!(
                    hear(Some(copy(Sent, state)), Word::Ended(outcome)),
                    expected
                );
            }
        }
    }

    /// Both sides act at once, and words arrive in every order that leaves each sender's own order or not.
    #[test]
    fn p22_a_decision_that_crosses_a_cancellation_converges() {
        for decision in [None, Some(Command::Approve), Some(Command::Deny)] {
            for cancel_arrives_first in [false, true] {
                for duplicates in 1..=3 {
                    let mut requester = copy(Direction::Sent, State::Pending);
                    let mut receiver = copy(Direction::Received, State::Pending);
                    let mut to_requester = Vec::new();
                    assert_eq!(requester.command(Command::Cancel), Ok(Step::AskToCancel));
                    requester.cancel_asked = true;
                    let deliver_cancel = |receiver: &mut Copy, to_requester: &mut Vec<Word>| {
                        for _ in 0..duplicates {
                            match hear(Some(*receiver), Word::CancelAsked) {
                                Effect::EndAndTell(outcome) => {
                                    receiver.state = outcome.state();
                                    to_requester.push(Word::Ended(outcome));
                                }
                                Effect::TellAgain(outcome) => {
                                    to_requester.push(Word::Ended(outcome));
                                }
                                effect => panic!("{effect:?}"),
                            }
                        }
                    };
                    if cancel_arrives_first {
                        deliver_cancel(&mut receiver, &mut to_requester);
                    }
                    if let Some(decision) = decision {
                        match receiver.command(decision) {
                            Ok(Step::Decide(outcome)) => {
                                receiver.state = outcome.state();
                                to_requester.push(Word::Ended(outcome));
                            }
                            Err(Refusal::Ended(State::Cancelled)) => assert!(cancel_arrives_first),
                            other => panic!("{other:?}"),
                        }
                    }
                    if !cancel_arrives_first {
                        deliver_cancel(&mut receiver, &mut to_requester);
                    }
                    // The last word first: the order must not matter.
                    for word in to_requester.into_iter().rev() {
                        match hear(Some(requester), word) {
                            Effect::End(outcome) => requester.state = outcome.state(),
                            Effect::Nothing => {}
                            effect => panic!("{effect:?}"),
                        }
                    }
                    assert_eq!(requester.state, receiver.state);
                    assert_ne!(requester.state, State::Pending);
                    if let (Some(decision), false) = (decision, cancel_arrives_first) {
                        let expected = match decision {
                            Command::Approve => State::Approved,
                            _ => State::Denied,
                        };
                        assert_eq!(requester.state, expected, "a decision made first wins");
                    }
                }
            }
        }
    }
}
