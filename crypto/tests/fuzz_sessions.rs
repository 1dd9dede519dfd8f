//! The machines of a run under frames that are well formed and come in any order, changed or not, of either side, of this run or
//! another: they refuse with a code, never panic, and never take what is out of turn.
//!
//! Longer with `PROPTEST_CASES=100000 cargo test --release -p overlap-crypto --test fuzz_sessions`.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::HashMap;

use overlap_crypto::{
    backend::Backend,
    context::RunId,
    count::{Committed, CountFlow, CountItems, Exchanging, Group, MIN_PADDING, Party, Returning},
    handshake::Session,
    item::Entry,
    list::{Answering, Evaluator, ListFlow, Querying, Releasing},
    terms::Tier,
    transcript::Inbound,
    wire::{Flow, Frame, FrameKind, Message},
};
use proptest::prelude::*;
use support::{Company, ListResult, published, rng, run_list_flow, sessions, side_terms, terms};

/// A step: which body of the pool, whether it is changed, where and to what.
type Step = (prop::sample::Index, Option<(prop::sample::Index, u8)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    prop::collection::vec((any::<prop::sample::Index>(), change), 0..12)
}

fn body(pool: &[(FrameKind, Vec<u8>)], step: &Step) -> (FrameKind, Vec<u8>) {
    let (kind, mut bytes) = step.0.get(pool).clone();
    if let Some((at, byte)) = &step.1 {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    (kind, bytes)
}

fn customers(stages: u8) -> Vec<(u32, u8, Vec<String>)> {
    (0..12)
        .map(|n| (n, n as u8 % stages, vec![format!("u{n}@example.com")]))
        .collect()
}

/// A whole list flow's frames, and what the machines need besides.
struct ListRun {
    flow: ListFlow,
    pool: Vec<(FrameKind, Vec<u8>)>,
    entries: Vec<Entry>,
}

fn list_run() -> ListRun {
    let tiers = [Tier::List, Tier::List];
    let (one, other) = (Company::new(1, customers(2)), Company::new(2, customers(2)));
    let terms = terms(side_terms(one.id(), &tiers), side_terms(other.id(), &tiers), 5);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng(1));
    let (flow, receiver, evaluator) = match session.receiving() {
        Some(flow) => (flow, &one, &other),
        None => (peer.receiving().unwrap(), &other, &one),
    };
    let run = |seed| {
        run_list_flow(
            Backend::detect(),
            flow,
            (receiver, terms.side(&receiver.id()).unwrap()),
            (evaluator, terms.side(&evaluator.id()).unwrap()),
            true,
            &mut rng(seed),
        )
    };
    let mut pool = Vec::new();
    // Twice: bodies of another attempt fit and are still not the ones awaited.
    for ListResult {
        receiver_sent,
        evaluator_sent,
        ..
    } in [run(2), run(3)]
    {
        for bytes in receiver_sent.into_iter().chain(evaluator_sent) {
            let kinds = [
                FrameKind::Query,
                FrameKind::Claims,
                FrameKind::Evaluation,
                FrameKind::Commitments,
                FrameKind::Slice,
            ];
            for kind in kinds {
                if Message::decode(kind, &bytes).is_ok() {
                    pool.push((kind, bytes.clone()));
                }
            }
        }
    }
    let machine = Evaluator::new(Backend::detect(), flow, evaluator.key()).unwrap();
    let side = terms.side(&evaluator.id()).unwrap();
    let entries = published(&machine, &evaluator.keys_of(side, Tier::List), &mut rng(4));
    ListRun {
        flow,
        pool,
        entries,
    }
}

enum Evaluating {
    Answering(Answering),
    Releasing(Releasing),
}

fn count_flows() -> (CountFlow, CountFlow) {
    let (one, other) = (Company::new(1, Vec::new()), Company::new(2, Vec::new()));
    let tiers = [Tier::Count, Tier::Count];
    let terms = terms(side_terms(one.id(), &tiers), side_terms(other.id(), &tiers), 16);
    let (session, peer): (Session, Session) = sessions(&one, &other, &terms, &mut rng(1));
    (
        CountFlow::new(&session, &terms).unwrap(),
        CountFlow::new(&peer, &terms).unwrap(),
    )
}

fn committed(flow: CountFlow, seed: u64) -> Committed {
    let mut rng = rng(seed);
    let party = Party::new(Backend::detect(), flow, &mut rng);
    let groups = (0..2)
        .map(|_| {
            let mut items = CountItems::with_capacity(party.flow(), 3);
            for number in 0..3 {
                items
                    .push(format!("u{number}@example.com").as_bytes())
                    .unwrap();
            }
            Group {
                elements: party.blind(&items),
                padding: party.padding(MIN_PADDING, &mut rng),
            }
        })
        .collect();
    Committed::new(party, groups, &mut rng).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(64), ..ProptestConfig::default() })]

    #[test]
    fn frames_in_any_order_never_panic_and_never_pass(
        frames in prop::collection::vec(
            (prop::sample::select(Flow::ALL), prop::sample::select(FrameKind::ALL), 0_u64..4, 0_u8..8, any::<[u8; 4]>()),
            0..24,
        ),
    ) {
        let (one, other) = (Company::new(1, Vec::new()), Company::new(2, Vec::new()));
        let tiers = [Tier::Hidden];
        let terms = terms(side_terms(one.id(), &tiers), side_terms(other.id(), &tiers), 16);
        let (session, _) = sessions(&one, &other, &terms, &mut rng(1));
        let mut inbound = Inbound::new(&session);
        let mut next = HashMap::new();
        for (flow, kind, sequence, run, payload) in frames {
            let Ok(frame) = Frame::from_raw(flow.code().into(), kind.code().into(), sequence, &payload) else {
                prop_assert!(!kind.belongs_to(flow));
                continue;
            };
            let RunId(own) = session.run();
            let run = if run == 0 { [9; 16] } else { own };
            let expected = next.entry(flow).or_insert(inbound.chain().next_sequence(flow));
            let fits = run == own && sequence == *expected;
            match inbound.admit(&run, &frame) {
                Ok(()) => {
                    prop_assert!(fits, "{frame:?}");
                    *expected += 1;
                }
                // A frame that fits may still have no place in a run without that flow; then the run is over.
                Err(_) => break,
            }
        }
    }

    #[test]
    fn an_evaluator_takes_queries_and_claims_in_turn_only(steps in steps()) {
        thread_local!(static RUN: ListRun = list_run());
        RUN.with(|run| {
            let mut machine = Evaluating::Answering(Answering::new(run.flow));
            let (mut queries, mut claims) = (0, 0);
            for step in &steps {
                let (kind, bytes) = body(&run.pool, step);
                let Ok(message) = Message::decode(kind, &bytes) else { continue };
                machine = match (machine, message) {
                    (Evaluating::Answering(mut answering), Message::Query(query)) => {
                        if answering.admit(&query).is_ok() {
                            assert_eq!(query.number, queries);
                            queries += 1;
                            answering.answered().unwrap();
                        }
                        if answering.all_admitted() {
                            let hashes = vec![[0; 32]; run.flow.layout().slices() as usize];
                            let (_, mut releasing) = answering.finish().unwrap().commit(&hashes).unwrap();
                            while releasing.release().is_some() {}
                            Evaluating::Releasing(releasing)
                        } else {
                            Evaluating::Answering(answering)
                        }
                    }
                    (Evaluating::Releasing(mut releasing), Message::Claims(body)) => {
                        if releasing.admit_claims(&body, &run.entries).is_ok() {
                            assert_eq!(body.index, claims);
                            claims += 1;
                        }
                        Evaluating::Releasing(releasing)
                    }
                    (machine, _) => machine,
                };
            }
        });
    }

    #[test]
    fn a_receiver_takes_answers_and_slices_in_turn_only(steps in steps()) {
        thread_local!(static RUN: ListRun = list_run());
        RUN.with(|run| {
            let mut querying = Querying::new(run.flow);
            while querying.next_chunk().is_some() {}
            let mut steps = steps.iter();
            let mut answers = 0;
            while !querying.is_complete() {
                let Some(step) = steps.next() else { return };
                let (kind, bytes) = body(&run.pool, step);
                if let Ok(Message::Evaluation(answer)) = Message::decode(kind, &bytes)
                    && querying.admit(&answer).is_ok()
                {
                    assert_eq!(answer.number, answers);
                    answers += 1;
                }
            }
            let mut awaiting = Some(querying.finish().unwrap());
            let mut slices = None;
            for step in steps {
                let (kind, bytes) = body(&run.pool, step);
                match Message::decode(kind, &bytes) {
                    Ok(Message::Commitments(commitments)) => {
                        if let Some(machine) = awaiting.take() {
                            slices = machine.admit(&commitments).ok();
                        }
                    }
                    Ok(Message::Slice(slice)) => {
                        if let Some(machine) = &mut slices
                            && let Ok(ticket) = machine.admit(&slice)
                            && let Ok(outcome) = ticket.match_own(&slice, &run.entries, |_| None)
                        {
                            machine.done(outcome.done);
                        }
                    }
                    _ => {}
                }
            }
        });
    }

    #[test]
    fn the_count_flow_takes_frames_in_turn_only(opening in steps(), returning in steps(), commit in any::<prop::sample::Index>()) {
        let (flow, peer_flow) = count_flows();
        let (one, other) = (committed(flow, 2), committed(peer_flow, 3));
        let mut changed = other.encode();
        let at = commit.index(2 * changed.len());
        if at < changed.len() {
            changed[at] ^= 1;
        }
        let Ok(Message::CountCommit(theirs)) = Message::decode(FrameKind::CountCommit, &changed) else {
            return Ok(());
        };
        let Ok(Message::CountCommit(mine)) = Message::decode(FrameKind::CountCommit, &one.encode()) else {
            panic!("a commitment of one's own");
        };
        let Ok(mut one) = one.receive(theirs) else { return Ok(()) };
        let mut other = other.receive(mine).unwrap();
        let pool: Vec<_> = std::iter::once((FrameKind::CountOpen, other.open_body()))
            .chain(other.element_bodies().map(|body| (FrameKind::CountElements, body)))
            .collect();
        let feed = |machine: &mut Exchanging, kind, bytes: &[u8]| match Message::decode(kind, bytes) {
            Ok(Message::CountOpen(open)) => machine.admit_open(open).is_ok(),
            Ok(Message::CountElements(elements)) => machine.admit_elements(&elements).is_ok(),
            _ => false,
        };
        for step in &opening {
            let (kind, bytes) = body(&pool, step);
            feed(&mut one, kind, &bytes);
        }
        // What is left, in order: the machine is where it would be without the rest, or has refused.
        for (kind, bytes) in &pool {
            feed(&mut one, *kind, bytes);
        }
        for (kind, bytes) in std::iter::once((FrameKind::CountOpen, one.open_body()))
            .chain(one.element_bodies().map(|body| (FrameKind::CountElements, body)))
            .collect::<Vec<_>>()
        {
            prop_assert!(feed(&mut other, kind, &bytes));
        }
        let reblind = |machine: Exchanging| -> Option<Returning> {
            let exchanged = machine.finish().ok()?;
            let pieces = exchanged.chunks().map(|chunk| exchanged.reblind(chunk)).collect::<Result<_, _>>().ok()?;
            Some(exchanged.finish(pieces).unwrap())
        };
        let (Some(mut one), Some(other)) = (reblind(one), reblind(other)) else { return Ok(()) };
        let pool: Vec<_> = other.return_bodies().map(|body| (FrameKind::CountReturns, body)).collect();
        for step in &returning {
            let (kind, bytes) = body(&pool, step);
            if let Ok(Message::CountReturns(returns)) = Message::decode(kind, &bytes) {
                let _ = one.admit_returns(&returns);
            }
        }
        // Complete or not: an answer, or a fault.
        let _ = one.finish();
    }
}
