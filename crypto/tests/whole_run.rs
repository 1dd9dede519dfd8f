//! A whole run in one process with every kind of cell, through the typed phases and numbered frames.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use overlap_crypto::{
    backend::Backend,
    count::{Committed, CountFlow, CountItems, Exchanging, Group, MIN_PADDING, Party, Returning},
    fault::Fault,
    plan::Role,
    receipt::{SignedReceipt, commit_result},
    report::{Cell, CellReport, Member, ReleaseInput, ReportRules, Series, SignedReport},
    session::{AfterReports, CountPhase, ListPhase, Phase, ReportPhase, allowed},
    terms::{Terms, Tier},
    transcript::{Inbound, Outbound},
    wire::{
        CountCommitBody, CountElementsBody, CountOpenBody, CountReturnsBody, Flow, Frame,
        FrameKind, Message,
    },
};
use support::{Company, ListResult, pseudonym, run_list_flow, sessions, side_terms, terms};

const TIERS: [Tier; 3] = [Tier::List, Tier::Count, Tier::Hidden];

/// Numbers of the frames of both directions.
struct Links {
    run: [u8; 16],
    out: [Outbound; 2],
    inbound: [Inbound; 2],
}

impl Links {
    fn send(&mut self, from: usize, phase: Phase, flow: Flow, kind: FrameKind, payload: &[u8]) {
        let frame = self.out[from].frame(flow, kind, payload).unwrap();
        let frame = Frame::from_raw(
            frame.flow.code().into(),
            frame.kind.code().into(),
            frame.sequence,
            payload,
        )
        .unwrap();
        allowed(phase, frame.kind).unwrap();
        self.inbound[1 - from].admit(&self.run, &frame).unwrap();
        Message::decode(frame.kind, frame.payload).unwrap();
    }
}

/// Customers `range`; customer `n` is at stage `n / step % 3`.
fn company(seed: u8, range: std::ops::Range<u32>, step: u32) -> Company {
    let customers = range
        .map(|number| {
            let stage = (number / step % 3) as u8;
            (number, stage, vec![format!("user{number}@example.com")])
        })
        .collect();
    Company::new(seed, customers)
}

fn members(company: &Company) -> BTreeMap<u32, u8> {
    company
        .customers
        .iter()
        .map(|(owner, stage, _)| (*owner, *stage))
        .collect()
}

/// The numbers both have, by own and partner's stage.
fn shared(own: &Company, peer: &Company) -> BTreeMap<(u8, u8), BTreeSet<u32>> {
    let peers = members(peer);
    let mut cells: BTreeMap<(u8, u8), BTreeSet<u32>> = BTreeMap::new();
    for (owner, stage) in members(own) {
        if let Some(theirs) = peers.get(&owner) {
            cells.entry((stage, *theirs)).or_default().insert(owner);
        }
    }
    cells
}

fn frames(links: &mut Links, flow: Flow, receiver: usize, result: &ListResult) {
    for payload in &result.receiver_sent {
        // Chunks come first, then claims; in this run every list of claims is shorter than a chunk's header suggests.
        let kind = match Message::decode(FrameKind::Query, payload) {
            Ok(_) => FrameKind::Query,
            Err(_) => FrameKind::Claims,
        };
        links.send(receiver, Phase::Lists, flow, kind, payload);
    }
    let kinds = [
        FrameKind::Evaluation,
        FrameKind::Commitments,
        FrameKind::Slice,
    ];
    for payload in &result.evaluator_sent {
        let kind = *kinds
            .iter()
            .find(|kind| Message::decode(**kind, payload).is_ok())
            .unwrap();
        links.send(1 - receiver, Phase::Lists, flow, kind, payload);
    }
}

fn count(
    companies: &[Company; 2],
    terms: &Terms,
    phases: &[&CountPhase; 2],
    links: &mut Links,
) -> [overlap_crypto::count::CountMatrix; 2] {
    let send = |links: &mut Links, from, kind, payload: &[u8]| {
        links.send(from, Phase::Count, Flow::Count, kind, payload);
    };
    let mut rng = support::rng(9);
    let committed: Vec<Committed> = [0, 1]
        .map(|index| {
            let flow = CountFlow::new(phases[index].session(), terms).unwrap();
            let party = Party::new(Backend::detect(), flow, &mut rng);
            let side = terms.side(&companies[index].id()).unwrap();
            let mut items = CountItems::with_capacity(party.flow(), 64);
            for (_, key) in companies[index].keys_of(side, Tier::Count) {
                items.push(key.as_bytes()).unwrap();
            }
            let group = Group {
                elements: party.blind(&items),
                padding: party.padding(MIN_PADDING, &mut rng),
            };
            Committed::new(party, vec![group], &mut rng).unwrap()
        })
        .into();
    let bodies: Vec<Vec<u8>> = committed.iter().map(Committed::encode).collect();
    let mut exchanging: Vec<Exchanging> = Vec::new();
    for (index, own) in committed.into_iter().enumerate() {
        send(links, 1 - index, FrameKind::CountCommit, &bodies[1 - index]);
        exchanging.push(
            own.receive(CountCommitBody::decode(&bodies[1 - index]).unwrap())
                .unwrap(),
        );
    }
    let opens: Vec<Vec<u8>> = exchanging.iter().map(Exchanging::open_body).collect();
    let elements: Vec<Vec<Vec<u8>>> = exchanging
        .iter()
        .map(|own| own.element_bodies().collect())
        .collect();
    let mut returning: Vec<Returning> = Vec::new();
    for (index, mut own) in exchanging.into_iter().enumerate() {
        let peer = 1 - index;
        send(links, peer, FrameKind::CountOpen, &opens[peer]);
        own.admit_open(CountOpenBody::decode(&opens[peer]).unwrap())
            .unwrap();
        for body in &elements[peer] {
            send(links, peer, FrameKind::CountElements, body);
            own.admit_elements(&CountElementsBody::decode(body).unwrap())
                .unwrap();
        }
        let exchanged = own.finish().unwrap();
        let pieces = exchanged
            .chunks()
            .map(|chunk| exchanged.reblind(chunk).unwrap())
            .collect();
        returning.push(exchanged.finish(pieces).unwrap());
    }
    let returns: Vec<Vec<Vec<u8>>> = returning
        .iter()
        .map(|own| own.return_bodies().collect())
        .collect();
    let matrices: Vec<_> = returning
        .into_iter()
        .enumerate()
        .map(|(index, mut own)| {
            for body in &returns[1 - index] {
                send(links, 1 - index, FrameKind::CountReturns, body);
                own.admit_returns(&CountReturnsBody::decode(body).unwrap())
                    .unwrap();
            }
            own.finish().unwrap()
        })
        .collect();
    matrices.try_into().unwrap()
}

#[test]
fn p05_p06_p09_p10_a_run_with_every_kind_of_cell() {
    let companies = [company(1, 0..90, 5), company(2, 30..150, 4)];
    let [one, other] = &companies;
    let terms = terms(
        side_terms(one.id(), &TIERS),
        side_terms(other.id(), &TIERS),
        16,
    );
    let mut rng = support::rng(1);
    let (session, peer) = sessions(one, other, &terms, &mut rng);
    let mut links = Links {
        run: session.run().0,
        out: [Outbound::new(&session), Outbound::new(&peer)],
        inbound: [Inbound::new(&session), Inbound::new(&peer)],
    };
    let plan = *session.plan();
    assert!(plan.initiator.is_some() && plan.acceptor.is_some() && plan.count);

    // List flows: index is the receiver's.
    let [first, second] = [Role::Initiator, Role::Acceptor].map(|role| {
        let (receiver, evaluator, flow) = match role {
            Role::Initiator => (one, other, session.receiving().unwrap()),
            Role::Acceptor => (other, one, session.evaluating().unwrap()),
        };
        run_list_flow(
            Backend::detect(),
            flow,
            (receiver, terms.side(&receiver.id()).unwrap()),
            (evaluator, terms.side(&evaluator.id()).unwrap()),
            plan.queries(role).unwrap().list,
            &mut rng,
        )
    });
    frames(&mut links, Flow::InitiatorQueries, 0, &first);
    frames(&mut links, Flow::AcceptorQueries, 1, &second);

    // What each side sees by name: every shared customer in the partner's list tier, whose stage is not hidden by oneself.
    for (own, peer, results) in [
        (one, other, [&first, &second]),
        (other, one, [&second, &first]),
    ] {
        let seen: BTreeSet<_> = results[0]
            .receiver_sees
            .iter()
            .chain(&results[1].evaluator_sees)
            .copied()
            .collect();
        let expected: BTreeSet<_> = shared(own, peer)
            .into_iter()
            .filter(|((mine, theirs), _)| *mine < 2 && *theirs == 0)
            .flat_map(|((_, theirs), numbers)| {
                numbers
                    .into_iter()
                    .map(move |number| (number, theirs, pseudonym(number)))
            })
            .collect();
        assert_eq!(seen, expected);
    }

    // Reports
    let mut phases: [ReportPhase; 2] = [
        ListPhase::new(session)
            .finish(first.complete.as_ref(), second.releasing)
            .unwrap(),
        ListPhase::new(peer)
            .finish(second.complete.as_ref(), first.releasing)
            .unwrap(),
    ];
    for index in 0..2 {
        let (own, peer) = (&companies[index], &companies[1 - index]);
        let cells = shared(own, peer);
        let found: Vec<Member> = cells
            .get(&(1, 0))
            .into_iter()
            .flatten()
            .map(|number| pseudonym(*number))
            .collect();
        let cell = Cell {
            reporter_stage: 1,
            reader_stage: 0,
        };
        let count = found.len() as u64;
        assert!(count >= 3, "the test reaches the threshold");
        let (own_terms, peer_terms) = (
            terms.side(&own.id()).unwrap(),
            terms.side(&peer.id()).unwrap(),
        );
        let (report, _) = Series::release(
            &ReportRules {
                min_count: own_terms.min_count,
                min_interval_s: own_terms.min_interval_s,
                series_interval_s: overlap_crypto::report::SERIES_INTERVAL_S,
            },
            None,
            &ReleaseInput {
                structure: terms.structure_hash(),
                now: 1_000,
                reporter_stages: own_terms.stages_of(Tier::Count),
                reader_stages: peer_terms.stages_of(Tier::List),
                members: &BTreeMap::from([(cell, found)]),
                unclaimed: &BTreeMap::from([(0, 1_000)]),
            },
        );
        assert_eq!(
            report.cells,
            [(
                cell,
                CellReport::Released {
                    count,
                    as_of: 1_000
                }
            )]
        );
        assert!(phases[index].owes() && phases[1 - index].awaits());
        let body = phases[index].send(report, &own.signer).unwrap();
        links.send(
            index,
            Phase::Reports,
            Flow::Session,
            FrameKind::Report,
            &body,
        );
        let report = SignedReport::decode(&body).unwrap();
        phases[1 - index].admit(&report, &terms).unwrap();
        let again = phases[1 - index].admit(&report, &terms);
        assert_eq!(again, Err(Fault::UnexpectedFrame));
    }

    // The count flow
    let phases = phases.map(|phase| match phase.finish().unwrap() {
        AfterReports::Count(phase) => phase,
        AfterReports::Receipts(_) => panic!("both count"),
    });
    let matrices = count(&companies, &terms, &[&phases[0], &phases[1]], &mut links);
    let expected = shared(one, other).get(&(1, 1)).map_or(0, BTreeSet::len) as u64;
    assert!(expected > 0);
    assert_eq!(matrices[0].at(0, 0), Some(expected));
    assert_eq!(matrices[1].at(0, 0), Some(expected));

    // Receipts
    let mut awaiting = Vec::new();
    let mut bodies = Vec::new();
    for (index, (phase, matrix)) in phases.into_iter().zip(&matrices).enumerate() {
        let (body, own) = phase.finish(matrix).sign(
            links.out[index].chain(),
            links.inbound[index].chain(),
            commit_result(&[index as u8; 32], b"the result"),
            &companies[index].signer,
        );
        bodies.push(body);
        awaiting.push(own);
    }
    for index in [0, 1] {
        links.send(
            index,
            Phase::Receipts,
            Flow::Session,
            FrameKind::Receipt,
            &bodies[index],
        );
    }
    for (index, own) in awaiting.into_iter().enumerate() {
        let peer = SignedReceipt::decode(&bodies[1 - index]).unwrap();
        let completed = own.receive(peer).unwrap();
        assert_eq!(completed.own.encode(), bodies[index]);
    }
}
