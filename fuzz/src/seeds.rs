//! What each target starts from: honest runs, well-formed bodies and files, all of them generated.

use std::sync::LazyLock;

use overlap_crypto::{
    backend::Backend,
    handshake::Mode,
    plan::Role,
    receipt::{Receipt, SignedReceipt},
    recording::{EntryHeader, EntryKind, MAGIC},
    terms::Tier,
    transcript::Outbound,
    wire::{Flow, FrameKind, Message},
};

use crate::{
    node, parquet,
    runs::{counted, listed, shaken},
    script::{Sent, unchanged},
    support::{Company, EXPORTER, hello, rng, run_list_flow, sessions, side_terms, terms},
};

/// A name and the bytes of a seed.
pub type Seed = (String, Vec<u8>);

/// A target and its seeds.
pub type Seeds = (&'static str, Vec<Seed>);

/// A recorded run and its receipts.
pub struct Recorded {
    /// The initiator and the acceptor.
    pub companies: [Company; 2],
    /// Theirs.
    pub receipts: [SignedReceipt; 2],
    /// The entries.
    pub entries: Vec<(EntryKind, Vec<u8>)>,
}

/// The one run that recordings are audited against.
pub static RECORDED: LazyLock<Recorded> = LazyLock::new(recorded);

fn recorded() -> Recorded {
    let customers = |count: u32| {
        (0..count)
            .map(|n| (n, 0, vec![format!("u{n}@example.com")]))
            .collect()
    };
    let companies = [Company::new(1, customers(5)), Company::new(2, customers(7))];
    let terms = terms(
        side_terms(companies[0].id(), &[Tier::List]),
        side_terms(companies[1].id(), &[Tier::List]),
        4,
    );
    let mut draw = rng(1);
    let hellos = [
        hello(&companies[0], &companies[1], &terms, &mut draw),
        hello(&companies[1], &companies[0], &terms, &mut draw),
    ]
    .map(|hello| hello.encode());
    // The same randomness draws the same hellos.
    let (one, other) = sessions(&companies[0], &companies[1], &terms, &mut rng(1));
    let sessions = [one, other];
    let roles = [Role::Initiator, Role::Acceptor];
    let mut outbound = [0, 1].map(|side: usize| Outbound::new(&sessions[side]));
    let mut entries = vec![(EntryKind::Connection, EXPORTER.to_vec())];
    for (side, hello) in hellos.into_iter().enumerate() {
        let kind = EntryKind::Frame {
            sender: roles[side],
            flow: Flow::Session,
            kind: FrameKind::Hello,
            sequence: 0,
        };
        entries.push((kind, hello));
    }
    let mut send = |entries: &mut Vec<_>, side: usize, flow, kind, body: Vec<u8>| {
        let frame = outbound[side].frame(flow, kind, &body).unwrap();
        let kind = EntryKind::Frame {
            sender: roles[side],
            flow,
            kind,
            sequence: frame.sequence,
        };
        entries.push((kind, body));
    };
    for side in 0..2 {
        let message =
            overlap_crypto::handshake::Handshake::new(roles[side], sessions[side].own().clone())
                .receive(
                    &sessions[side].peer().encode(),
                    &companies[1 - side].pin(),
                    &terms,
                    &EXPORTER,
                )
                .unwrap()
                .confirm(&companies[side].signer);
        send(
            &mut entries,
            side,
            Flow::Session,
            FrameKind::Confirm,
            message,
        );
    }
    let receiving = usize::from(sessions[0].receiving().is_none());
    let flow = sessions[receiving].receiving().unwrap();
    let (receiver, evaluator) = (&companies[receiving], &companies[1 - receiving]);
    let result = run_list_flow(
        Backend::detect(),
        flow,
        (receiver, terms.side(&receiver.id()).unwrap()),
        (evaluator, terms.side(&evaluator.id()).unwrap()),
        true,
        &mut rng(2),
    );
    let sent = [
        (
            receiving,
            result.receiver_sent,
            vec![FrameKind::Query, FrameKind::Claims],
        ),
        (
            1 - receiving,
            result.evaluator_sent,
            vec![
                FrameKind::Evaluation,
                FrameKind::Commitments,
                FrameKind::Slice,
            ],
        ),
    ];
    // Each direction in its order; the evaluator's first answer needs the first query.
    let mut queues = sent.map(|(side, bodies, kinds)| {
        let frames: Vec<Sent> = bodies
            .into_iter()
            .map(|body| {
                let kind = *kinds
                    .iter()
                    .find(|kind| Message::decode(**kind, &body).is_ok())
                    .unwrap();
                (kind, body)
            })
            .collect();
        (side, frames.into_iter().peekable())
    });
    let mut turn = 0;
    loop {
        let (side, frames) = &mut queues[turn];
        let Some((kind, body)) = frames.next() else {
            break;
        };
        let again = turn == 1 && kind == FrameKind::Commitments;
        send(&mut entries, *side, flow.flow, kind, body);
        // A query, its answer; the commitments and the slice together, then its claims.
        if !again {
            turn = 1 - turn;
        }
        if queues[0]
            .1
            .peek()
            .is_some_and(|(kind, _)| *kind == FrameKind::Claims)
            && queues[1].1.peek().is_some()
        {
            turn = 1;
        }
    }
    let receipts = [0, 1].map(|side: usize| {
        Receipt::new(
            &sessions[side],
            outbound[side].chain(),
            outbound[1 - side].chain(),
            [side as u8; 32],
        )
        .sign(&companies[side].signer)
    });
    for side in 0..2 {
        let kind = EntryKind::Frame {
            sender: roles[side],
            flow: Flow::Session,
            kind: FrameKind::Receipt,
            sequence: outbound[side].chain().next_sequence(Flow::Session),
        };
        entries.push((kind, receipts[side].encode()));
    }
    Recorded {
        companies,
        receipts,
        entries,
    }
}

/// The file of a recording.
#[must_use]
pub fn recording(entries: &[(EntryKind, Vec<u8>)]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    for (kind, body) in entries {
        let header = EntryHeader {
            kind: *kind,
            body_bytes: u32::try_from(body.len()).unwrap(),
        };
        file.extend(header.encode());
        file.extend_from_slice(body);
    }
    file
}

fn named(prefix: &str, bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<Seed> {
    bodies
        .into_iter()
        .enumerate()
        .map(|(number, body)| (format!("{prefix}-{number}"), body))
        .collect()
}

fn choices(count: u8, frames: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|choice| [vec![choice], unchanged(0..frames)].concat())
        .collect()
}

/// The seeds of every target.
#[must_use]
pub fn all() -> Vec<Seeds> {
    let lists = [Mode::Full, Mode::Delta].map(listed);
    let count = counted();
    let mut bodies: Vec<Sent> = Vec::new();
    for run in &lists {
        bodies.extend(run.receiver_sent.iter().chain(&run.evaluator_sent).cloned());
    }
    for mode in [Mode::Full, Mode::Delta] {
        bodies.extend(shaken(mode).sent.into_iter().flatten());
    }
    bodies.extend(count.sent.iter().flatten().cloned());
    let wire = bodies.into_iter().map(|(kind, body)| {
        let number = FrameKind::ALL
            .iter()
            .position(|known| *known == kind)
            .unwrap();
        [vec![u8::try_from(number).unwrap()], body].concat()
    });
    let run = &*RECORDED;
    let cut = run.entries.len() / 2;
    let list_seeds = |of: fn(&crate::runs::Listed) -> usize| {
        lists
            .iter()
            .zip(0_u8..)
            .map(|(run, choice)| [vec![choice], unchanged(0..of(run))].concat())
            .collect::<Vec<_>>()
    };
    let mut seeds = vec![
        ("wire", named("body", wire)),
        (
            "recording",
            named(
                "recording",
                [recording(&run.entries), recording(&run.entries[..cut])],
            ),
        ),
        ("handshake", named("run", choices(8, 5))),
        (
            "list_receiver",
            named("run", list_seeds(|run| run.evaluator_sent.len())),
        ),
        (
            "list_evaluator",
            named("run", list_seeds(|run| run.receiver_sent.len())),
        ),
        ("count", named("run", [unchanged(0..count.sent[1].len())])),
    ];
    seeds.extend(node::seeds());
    seeds.push(("parquet", parquet::seeds()));
    seeds
}
