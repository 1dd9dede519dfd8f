//! The receiver of a list flow, full or delta (the first byte), under its evaluator's frames, changed or not, in any order: what it
//! takes is what the committed key makes of its queries, slices that were committed to, and nothing else.
#![no_main]

use std::{collections::VecDeque, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use overlap_crypto::{
    backend::Backend,
    handshake::Mode,
    item::Entry,
    list::{AwaitingCommitments, AwaitingSlices, EarlierClaims, Querying, Receiver, SealedMatches},
    wire::Message,
};
use overlap_fuzz::{
    memory::within,
    peer_fault, refused,
    runs::{Listed, blinded, listed, own_label},
    script::Script,
};

/// The runs with their receivers, whose tables take longer to make than all that follows.
static RUNS: LazyLock<[(Listed, Receiver); 2]> = LazyLock::new(|| {
    [Mode::Full, Mode::Delta].map(|mode| {
        let run = listed(mode);
        let receiver = Receiver::new(Backend::detect(), run.flow);
        (run, receiver)
    })
});

enum State {
    Querying(Querying),
    Awaiting(AwaitingCommitments),
    Slices(AwaitingSlices),
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else {
        return;
    };
    let (run, receiver) = &RUNS[usize::from(choice & 1)];
    let mut pool = run.evaluator_sent.clone();
    pool.extend(
        RUNS[usize::from(choice & 1 ^ 1)]
            .0
            .evaluator_sent
            .iter()
            .cloned(),
    );
    pool.extend(run.receiver_sent.iter().cloned());
    let mut chunks = VecDeque::from(blinded(receiver));
    let mut querying = Querying::new(run.flow);
    while querying.next_chunk().is_some() {}
    let mut own: Vec<Entry> = Vec::new();
    let mut matches: Option<SealedMatches> = None;
    let mut state = State::Querying(querying);
    for (kind, body) in Script::new(script, &pool) {
        let message = match Message::decode(kind, &body) {
            Ok(message) => message,
            Err(fault) => return refused(fault),
        };
        // The first frame after the answers ends them.
        if !matches!(message, Message::Evaluation(_))
            && let State::Querying(querying) = state
        {
            state = match querying.finish() {
                Ok(awaiting) => State::Awaiting(awaiting),
                Err(fault) => return refused(fault),
            };
            own.sort_by_key(|entry| entry.derived.tag);
        }
        state = match (state, message) {
            (State::Querying(mut querying), Message::Evaluation(answer)) => {
                if let Err(fault) = querying.admit(&answer) {
                    return refused(fault);
                }
                let chunk = chunks
                    .pop_front()
                    .expect("an answer that was admitted has its query");
                match chunk.finish(receiver, &answer) {
                    Ok(entries) => {
                        let honest = &run.derived[answer.number as usize];
                        let same = entries.iter().zip(honest).all(|(one, other)| {
                            one.owner == other.owner
                                && one.derived.tag == other.derived.tag
                                && one.derived.claim == other.derived.claim
                                && one.derived.master == other.derived.master
                        });
                        assert!(
                            same && entries.len() == honest.len(),
                            "another key's answer passes"
                        );
                        own.extend_from_slice(&entries);
                    }
                    Err(fault) => return refused(fault),
                }
                State::Querying(querying)
            }
            (State::Awaiting(mut awaiting), Message::Removals(removals)) => {
                if let Err(fault) = awaiting.admit_removals(&removals) {
                    return refused(fault);
                }
                State::Awaiting(awaiting)
            }
            (State::Awaiting(awaiting), Message::Commitments(commitments)) => {
                match within(4_096 + 4 * body.len(), || awaiting.admit(&commitments)) {
                    Ok(slices) => State::Slices(slices),
                    Err(fault) => return refused(fault),
                }
            }
            (State::Slices(mut slices), Message::Slice(slice)) => {
                let outcome = match slices.admit(&slice) {
                    Ok(ticket) => ticket.match_own(&slice, &own, own_label),
                    Err(fault) => return refused(fault),
                };
                match outcome {
                    Ok(outcome) => {
                        assert!(
                            run.slices.iter().any(|honest| honest.payload == body),
                            "a slice that was not committed to passes"
                        );
                        slices.done(outcome.done);
                        matches = Some(outcome.matches);
                    }
                    Err(error) => return peer_fault(error),
                }
                State::Slices(slices)
            }
            // No frame of the evaluator's that the machine has a place for.
            _ => return,
        };
    }
    let State::Slices(mut slices) = state else {
        return;
    };
    if run.flow.mode == Mode::Delta && slices.all_matched() {
        let none = EarlierClaims::new(run.flow.receiver_labels);
        slices
            .claim_earlier(&none, true)
            .expect("after the last slice");
        slices.withdraw(&[], true).expect("after the last claims");
    }
    let Ok(complete) = slices.finish() else {
        return;
    };
    let matches = matches.expect("there is one slice");
    assert_eq!(matches.len(), 6, "both have six customers in common");
    let opened = complete
        .open(Backend::detect(), &matches)
        .expect("the flow's labels");
    assert!(opened.iter().all(|opened| opened.label.is_some()));
});
