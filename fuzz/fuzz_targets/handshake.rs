//! Session frames, changed or not, in any order: a side takes the hello, the confirmation, the report, the receipt and the RESUME
//! of its peer, and nothing that differs from them in a single bit. The first byte chooses the side, the mode and the second mode.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use overlap_crypto::{
    handshake::{Mode, PeerState},
    session::{Phase, allowed},
    terms::Tier,
    transcript::{Inbound, admit_resume},
    wire::{Flow, Frame, FrameKind, Message},
};
use overlap_fuzz::{
    peer_fault, refused,
    runs::{NEXT_EXPORTER, RUN, Shaken, shaken},
    script::Script,
    support::EXPORTER,
};

static RUNS: LazyLock<[Shaken; 2]> = LazyLock::new(|| [shaken(Mode::Full), shaken(Mode::Delta)]);

fuzz_target!(|data: &[u8]| {
    let Some((&choice, script)) = data.split_first() else {
        return;
    };
    let run = &RUNS[usize::from(choice & 1)];
    let (own, peer) = if choice & 2 == 0 { (0, 1) } else { (1, 0) };
    // Frames of the other mode's run are honest too, and not of this run.
    let mut pool = run.sent[peer].clone();
    pool.extend(RUNS[usize::from(choice & 1 ^ 1)].sent[peer].iter().cloned());
    pool.extend(run.sent[own].iter().cloned());
    let honest = |kind: FrameKind, body: &[u8]| run.sent[peer].contains(&(kind, body.to_vec()));
    let mut state = run.companies[peer].pin();
    if choice & 4 != 0 {
        state = PeerState {
            highest_epoch: Some((1 + u64::from(choice & 8 != 0), [9; 32])),
            ..state
        };
    }
    let mut frames = Script::new(script, &pool);

    let Some((kind, body)) = frames.next() else {
        return;
    };
    if allowed(Phase::Handshake, kind).is_err() || kind != FrameKind::Hello {
        return;
    }
    let handshake = run.handshakes[own].clone();
    let confirming = match handshake.receive(&body, &state, &run.terms, &EXPORTER) {
        Ok(confirming) => confirming,
        Err(error) => return peer_fault(error),
    };
    // A hello is signed by what follows only: whatever it says, its numbers keep to the terms.
    for flow in [
        confirming.session().receiving(),
        confirming.session().evaluating(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(flow.tags <= 1 << 22 && flow.queries <= 1 << 22);
    }
    let Some((kind, body)) = frames.next() else {
        return;
    };
    let session = match Message::decode(kind, &body) {
        Ok(Message::Confirm(confirm)) => match confirming.receive(&confirm) {
            Ok(session) => session,
            Err(fault) => return refused(fault),
        },
        Ok(_) => return,
        Err(fault) => return refused(fault),
    };
    assert_eq!(
        session.id(),
        run.sessions[own].id(),
        "a hello that nobody confirmed"
    );
    assert!(honest(kind, &body), "another confirmation verifies");

    let mut inbound = Inbound::new(&session);
    let (mine, theirs) = (
        run.terms.side(&session.own().sender),
        run.terms.side(&session.peer().sender),
    );
    let (Some(mine), Some(theirs)) = (mine, theirs) else {
        panic!("both are sides of the terms");
    };
    for ((kind, body), sequence) in frames.zip(1..) {
        let outside = matches!(kind, FrameKind::Resume | FrameKind::Ack | FrameKind::Abort);
        if !outside {
            let frame = Frame {
                flow: Flow::Session,
                kind,
                sequence,
                payload: &body,
            };
            let before = inbound.chain().frames();
            match inbound.admit(&RUN.0, &frame) {
                Ok(()) => assert_eq!(inbound.chain().frames(), before + 1),
                Err(fault) => return refused(fault),
            }
        }
        let taken = match Message::decode(kind, &body) {
            Err(fault) => Err(fault),
            Ok(Message::Report(report)) => report
                .verify(
                    &session.id(),
                    session.role().peer(),
                    session.peer_organization_key(),
                )
                .and_then(|()| {
                    report.check(
                        theirs.stages_of(Tier::Count),
                        mine.stages_of(Tier::List),
                        theirs.min_count,
                    )
                }),
            Ok(Message::Receipt(receipt)) => receipt
                .verify(session.peer_organization_key())
                .and_then(|()| run.receipts[own].receipt.agrees_with(&receipt.receipt)),
            Ok(Message::Resume(resume)) => admit_resume(
                &session,
                &NEXT_EXPORTER,
                run.outbound[own].chain(),
                run.outbound[peer].chain(),
                &resume,
            )
            .map(|_| ()),
            // Other frames carry no signature.
            Ok(_) => continue,
        };
        match taken {
            Ok(()) => assert!(honest(kind, &body), "another {} verifies", kind.name()),
            Err(fault) => return refused(fault),
        }
    }
});
