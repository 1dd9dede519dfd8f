//! The count flow under the peer's frames, changed or not, in any order: nothing is returned unless every element is the one that
//! was committed to, and no count is above the honest one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use overlap_crypto::wire::{FrameKind, Message};
use overlap_fuzz::{
    refused,
    runs::{Counted, committed, counted, opened, returning},
    script::Script,
};

static RUN: LazyLock<Counted> = LazyLock::new(counted);

fuzz_target!(|data: &[u8]| {
    let run = &*RUN;
    let mut pool = run.sent[1].clone();
    pool.extend(run.sent[0].iter().cloned());
    let mut frames = Script::new(data, &pool);
    let Some((kind, body)) = frames.next() else {
        return;
    };
    let commit = match Message::decode(kind, &body) {
        Ok(Message::CountCommit(commit)) => commit,
        Ok(_) => return,
        Err(fault) => return refused(fault),
    };
    let machine = committed(run.flows[0].clone(), 0);
    let mut machine = match machine.receive(commit) {
        Ok(machine) => machine,
        Err(fault) => return refused(fault),
    };
    let mut taken = vec![(kind, body)];
    while !machine.is_complete() {
        let Some((kind, body)) = frames.next() else {
            return;
        };
        match opened(&mut machine, kind, &body) {
            Ok(()) => taken.push((kind, body)),
            Err(Some(fault)) => return refused(fault),
            Err(None) => return,
        }
    }
    let mut machine = match returning(machine) {
        Ok(machine) => machine,
        Err(fault) => return refused(fault),
    };
    assert_eq!(
        taken,
        run.sent[1][..taken.len()],
        "elements that were not committed to"
    );
    for (kind, body) in frames {
        match Message::decode(kind, &body) {
            Ok(Message::CountReturns(returns)) => {
                if let Err(fault) = machine.admit_returns(&returns) {
                    return refused(fault);
                }
            }
            Ok(_) => return,
            Err(fault) => return refused(fault),
        }
        assert_eq!(kind, FrameKind::CountReturns);
    }
    match machine.finish() {
        Ok(matrix) => assert!(matrix.at(0, 0) <= run.matrix.at(0, 0)),
        Err(fault) => refused(fault),
    }
});
