//! The evaluator of a list flow, full or delta (the first byte), under its receiver's frames, changed or not, in any order: it
//! answers queries in turn, and accepts claims that only whoever evaluated the item can make, each once.
#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use overlap_crypto::{
    backend::Backend,
    handshake::Mode,
    list::{Answering, Claimed, Evaluator, Releasing},
    wire::{EvaluationBody, Message},
};
use overlap_fuzz::{
    memory::within,
    refused,
    runs::{Listed, listed, looked_up, release},
    script::Script,
    support::rng,
};

static RUNS: LazyLock<[Listed; 2]> = LazyLock::new(|| [listed(Mode::Full), listed(Mode::Delta)]);

enum State {
    Answering(Answering),
    Releasing(Releasing),
}

/// What is claimed is published, its claim is the one that belongs to the tag, and its stage one of the receiver's list tier.
fn check(run: &Listed, claimed: &[Claimed<'_>], seen: &mut BTreeSet<[u8; 16]>) {
    for claim in claimed {
        let entries = run.entries.iter().chain(&run.earlier);
        let mut of_tag = entries.filter(|entry| entry.derived.tag == claim.tag);
        assert!(of_tag.any(|entry| entry.owner == claim.owner));
        assert!(run.flow.receiver_stages.contains(claim.label.stage));
        assert!(seen.insert(claim.tag), "a tag is claimed twice");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else {
        return;
    };
    let run = &RUNS[usize::from(choice & 1)];
    let mut pool = run.receiver_sent.clone();
    pool.extend(
        RUNS[usize::from(choice & 1 ^ 1)]
            .receiver_sent
            .iter()
            .cloned(),
    );
    pool.extend(run.evaluator_sent.iter().cloned());
    let evaluator = Evaluator::new(Backend::detect(), run.flow, run.evaluator_company.key())
        .expect("the flow's key");
    let mut draw = rng(5);
    let mut answered = 0;
    let mut seen = BTreeSet::new();
    let mut state = State::Answering(Answering::new(run.flow));
    for (kind, body) in Script::new(script, &pool) {
        let message = match Message::decode(kind, &body) {
            Ok(message) => message,
            Err(fault) => return refused(fault),
        };
        state = match (state, message) {
            (State::Answering(mut answering), Message::Query(query)) => {
                if let Err(fault) = answering.admit(&query) {
                    return refused(fault);
                }
                assert_eq!(query.number, answered);
                answered += 1;
                match evaluator.evaluate(&query, &mut draw) {
                    Ok(answer) => {
                        let answer = EvaluationBody::decode(&answer).expect("one's own answer");
                        assert_eq!(answer.elements.len(), query.elements.len());
                    }
                    Err(fault) => return refused(fault),
                }
                answering.answered().expect("an open query");
                if answering.all_admitted() {
                    let mut committing = answering.finish().expect("every query is answered");
                    if run.flow.mode == Mode::Delta {
                        committing.remove(&[], true).expect("the only removals");
                    }
                    let hashes: Vec<_> = run.slices.iter().map(|slice| slice.commitment).collect();
                    let (_, mut releasing) = committing.commit(&hashes).expect("one hash a slice");
                    release(&mut releasing);
                    State::Releasing(releasing)
                } else {
                    State::Answering(answering)
                }
            }
            (State::Releasing(mut releasing), Message::Claims(claims)) => {
                let bound = 4_096 + 64 * body.len();
                match within(bound, || releasing.admit_claims(&claims, &run.entries)) {
                    Ok(claimed) => check(run, &claimed, &mut seen),
                    Err(fault) => return refused(fault),
                }
                State::Releasing(releasing)
            }
            (State::Releasing(mut releasing), Message::EarlierClaims(claims)) => {
                let live = looked_up(run, &claims);
                match releasing.admit_earlier_claims(&claims, &live) {
                    Ok(claimed) => check(run, &claimed, &mut seen),
                    Err(fault) => return refused(fault),
                }
                State::Releasing(releasing)
            }
            (State::Releasing(mut releasing), Message::Withdrawals(tags)) => {
                if let Err(fault) = releasing.admit_withdrawals(&tags) {
                    return refused(fault);
                }
                State::Releasing(releasing)
            }
            // No frame of the receiver's that the machine has a place for.
            _ => return,
        };
        if let State::Releasing(releasing) = &state
            && releasing.is_complete()
        {
            return;
        }
    }
});
