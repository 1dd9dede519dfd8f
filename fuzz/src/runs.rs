//! Small honest runs, the same each time, whose frames the scripts are made of.

use std::collections::BTreeMap;

use overlap_crypto::{
    backend::Backend,
    context::RunId,
    count::{
        Committed, CountFlow, CountItems, CountMatrix, Exchanging, Group, MIN_PADDING, Party,
        Returning,
    },
    handshake::{Handshake, Mode, Session},
    item::{Entry, Items},
    list::{
        Answering, BlindedChunk, EarlierClaims, Evaluator, Label, ListFlow, Querying, Receiver,
        Releasing, SealedSlice,
    },
    plan::Role,
    receipt::{Receipt, SignedReceipt},
    report::{Cell, CellReport, Report},
    terms::{KeyType, Terms, Tier},
    transcript::{self, Outbound},
    wire::{
        CommitmentsBody, ConfirmBody, CountCommitBody, EarlierClaimsBody, EvaluationBody, Flow,
        FrameKind, Message, QueryBody, TagsBody,
    },
};

use crate::{
    script::Sent,
    support::{
        Company, EXPORTER, NORMALISER, hello, labels, pseudonym, published, rng, side_terms, terms,
    },
};

/// The exporter of the connection that replaces the first.
pub const NEXT_EXPORTER: [u8; 32] = [0xe1; 32];

fn customers(count: u32, stages: u8) -> Vec<(u32, u8, Vec<String>)> {
    (0..count)
        .map(|n| (n, n as u8 % stages, vec![format!("u{n}@example.com")]))
        .collect()
}

/// The handshake of two companies, one list and one count stage each.
pub struct Shaken {
    pub companies: [Company; 2],
    pub terms: Terms,
    /// By role.
    pub handshakes: [Handshake; 2],
    pub sessions: [Session; 2],
    /// What either side may send in a session, the other's hello first and its confirmation second.
    pub sent: [Vec<Sent>; 2],
    pub receipts: [SignedReceipt; 2],
    /// The chains of both directions: frames of the session flow alone.
    pub outbound: [Outbound; 2],
}

/// Both sides of a handshake and what follows in the session flow, without the list flows.
#[must_use]
pub fn shaken(mode: Mode) -> Shaken {
    let companies = [
        Company::new(1, customers(20, 2)),
        Company::new(2, customers(24, 2)),
    ];
    let tiers = [Tier::List, Tier::Count];
    let terms = terms(
        side_terms(companies[0].id(), &tiers),
        side_terms(companies[1].id(), &tiers),
        8,
    );
    let mut draw = rng(1);
    let roles = [Role::Initiator, Role::Acceptor];
    let handshakes = [0, 1].map(|side: usize| {
        let mut hello = hello(&companies[side], &companies[1 - side], &terms, &mut draw);
        hello.mode = mode;
        Handshake::new(roles[side], hello)
    });
    let confirming = [0, 1].map(|side: usize| {
        let peer = 1 - side;
        handshakes[side]
            .clone()
            .receive(
                handshakes[peer].payload(),
                &companies[peer].pin(),
                &terms,
                &EXPORTER,
            )
            .unwrap()
    });
    let confirms = [0, 1].map(|side: usize| confirming[side].confirm(&companies[side].signer));
    let sessions = [0, 1].map(|side: usize| {
        confirming[side]
            .clone()
            .receive(&ConfirmBody::decode(&confirms[1 - side]).unwrap())
            .unwrap()
    });
    let mut outbound = [0, 1].map(|side: usize| Outbound::new(&sessions[side]));
    let reports = [0, 1].map(|side: usize| {
        let report = Report {
            series: 1,
            cells: vec![(
                Cell {
                    reporter_stage: 1,
                    reader_stage: 0,
                },
                CellReport::Released {
                    count: 7,
                    as_of: 1_770_000_000,
                },
            )],
        };
        report
            .sign(&sessions[side].id(), roles[side], &companies[side].signer)
            .encode()
    });
    for side in 0..2 {
        for (kind, body) in [
            (FrameKind::Confirm, &confirms[side]),
            (FrameKind::Report, &reports[side]),
        ] {
            outbound[side].frame(Flow::Session, kind, body).unwrap();
        }
    }
    let receipts = [0, 1].map(|side: usize| {
        Receipt::new(
            &sessions[side],
            outbound[side].chain(),
            outbound[1 - side].chain(),
            [3; 32],
        )
        .sign(&companies[side].signer)
    });
    let sent = [0, 1].map(|side: usize| {
        let resume = transcript::resume(
            &sessions[side],
            &NEXT_EXPORTER,
            outbound[side].chain(),
            outbound[1 - side].chain(),
            &companies[side].signer,
        );
        vec![
            (FrameKind::Hello, handshakes[side].payload().to_vec()),
            (FrameKind::Confirm, confirms[side].clone()),
            (FrameKind::Report, reports[side].clone()),
            (FrameKind::Receipt, receipts[side].encode()),
            (FrameKind::Resume, resume.encode()),
            (FrameKind::Abort, vec![0, 45]),
            (FrameKind::Ack, vec![0, 0, 0, 0, 0, 0, 0, 1]),
        ]
    });
    Shaken {
        companies,
        terms,
        handshakes,
        sessions,
        sent,
        receipts,
        outbound,
    }
}

/// One list flow, both sides of it.
pub struct Listed {
    pub flow: ListFlow,
    pub receiver_company: Company,
    pub evaluator_company: Company,
    /// What the receiver and the evaluator send, in order.
    pub receiver_sent: Vec<Sent>,
    pub evaluator_sent: Vec<Sent>,
    /// What the receiver derives, chunk by chunk.
    pub derived: Vec<Vec<Entry>>,
    /// What this run publishes, and what earlier runs of the epoch did.
    pub entries: Vec<Entry>,
    pub earlier: Vec<Entry>,
    pub slices: Vec<SealedSlice>,
}

/// Chunks of the receiver, blinded with the same randomness each time.
#[must_use]
pub fn blinded(receiver: &Receiver) -> Vec<BlindedChunk> {
    let flow = *receiver.flow();
    let (mut querying, mut draw) = (Querying::new(flow), rng(11));
    let mut next = 0;
    std::iter::from_fn(|| {
        let chunk = querying.next_chunk()?;
        let mut items = Items::with_capacity(flow.context, NORMALISER, chunk.count);
        for _ in 0..chunk.count {
            items
                .push(
                    next,
                    KeyType::Email,
                    format!("u{next}@example.com").as_bytes(),
                )
                .unwrap();
            next += 1;
        }
        Some(receiver.blind(items, &mut draw).unwrap())
    })
    .collect()
}

/// The receiver's label of its own customer.
#[must_use]
pub fn own_label(owner: u32) -> Option<Label<'static>> {
    // Every second customer of the receiver's is of its list tier.
    owner.is_multiple_of(2).then(|| Label {
        stage: 0,
        pseudonym: pseudonym(owner),
        fields: b"",
    })
}

/// A list flow: the receiver queries six customers in two chunks, the evaluator publishes eight, of which they share six.
#[must_use]
pub fn listed(mode: Mode) -> Listed {
    let (mut one, mut other) = (
        Company::new(1, customers(6, 2)),
        Company::new(2, customers(8, 2)),
    );
    let terms = terms(
        side_terms(one.id(), &[Tier::List, Tier::Count]),
        side_terms(other.id(), &[Tier::List, Tier::List]),
        4,
    );
    let handshakes = {
        let mut draw = rng(1);
        let mut hellos = [
            hello(&one, &other, &terms, &mut draw),
            hello(&other, &one, &terms, &mut draw),
        ];
        for hello in &mut hellos {
            hello.mode = mode;
        }
        hellos
    };
    let roles = [Role::Initiator, Role::Acceptor];
    let [initiator, acceptor] = handshakes;
    let acceptor = Handshake::new(roles[1], acceptor);
    let confirming = Handshake::new(roles[0], initiator)
        .receive(acceptor.payload(), &other.pin(), &terms, &EXPORTER)
        .unwrap();
    let (flow, receiver_company, evaluator_company) = match confirming.session().receiving() {
        Some(flow) => (flow, one, other),
        None => {
            std::mem::swap(&mut one, &mut other);
            (confirming.session().evaluating().unwrap(), one, other)
        }
    };
    let receiver = Receiver::new(Backend::detect(), flow);
    let evaluator = Evaluator::new(Backend::detect(), flow, evaluator_company.key()).unwrap();
    let mut draw = rng(12);
    let (mut querying, mut answering) = (Querying::new(flow), Answering::new(flow));
    let (mut receiver_sent, mut evaluator_sent, mut derived) = (Vec::new(), Vec::new(), Vec::new());
    for (number, chunk) in blinded(&receiver).into_iter().enumerate() {
        querying.next_chunk().unwrap();
        let query = chunk.encode(u32::try_from(number).unwrap());
        let body = QueryBody::decode(&query).unwrap();
        answering.admit(&body).unwrap();
        let answer = evaluator.evaluate(&body, &mut draw).unwrap();
        answering.answered().unwrap();
        let evaluation = EvaluationBody::decode(&answer).unwrap();
        querying.admit(&evaluation).unwrap();
        derived.push(chunk.finish(&receiver, &evaluation).unwrap().to_vec());
        receiver_sent.push((FrameKind::Query, query));
        evaluator_sent.push((FrameKind::Evaluation, answer));
    }
    let side = terms.side(&evaluator_company.id()).unwrap();
    let keys = evaluator_company.keys_of(side, Tier::List);
    let entries = published(&evaluator, &keys, &mut draw);
    // Two tags of earlier runs that are still live: one of a customer, one padding.
    let mut earlier = vec![entries[0], Entry::padding(&mut draw)];
    earlier[0].derived.tag = [0x7f; 16];
    earlier.sort_by_key(|entry| entry.derived.tag);
    let sealed = evaluator
        .seal_slice(0, &entries, &labels(&evaluator_company, &flow, &entries))
        .unwrap();
    let mut committing = answering.finish().unwrap();
    let mut awaiting = querying.finish().unwrap();
    if mode == Mode::Delta {
        for (tags, last) in [(&[[1; 16], [2; 16]][..], false), (&[][..], true)] {
            let removals = committing.remove(tags, last).unwrap();
            awaiting
                .admit_removals(&TagsBody::decode(&removals).unwrap())
                .unwrap();
            evaluator_sent.push((FrameKind::Removals, removals));
        }
    }
    let (commitments, _) = committing.commit(&[sealed.commitment]).unwrap();
    let mut slices = awaiting
        .admit(&CommitmentsBody::decode(&commitments).unwrap())
        .unwrap();
    evaluator_sent.push((FrameKind::Commitments, commitments));
    evaluator_sent.push((FrameKind::Slice, sealed.payload.clone()));
    let Ok(Message::Slice(slice)) = Message::decode(FrameKind::Slice, &sealed.payload) else {
        panic!("a slice of one's own");
    };
    let mut own: Vec<Entry> = derived.iter().flatten().copied().collect();
    own.sort_by_key(|entry| entry.derived.tag);
    let outcome = slices
        .admit(&slice)
        .unwrap()
        .match_own(&slice, &own, own_label)
        .unwrap();
    slices.done(outcome.done);
    receiver_sent.push((FrameKind::Claims, outcome.claims));
    if mode == Mode::Delta {
        let claimed = earlier
            .iter()
            .find(|entry| entry.derived.tag == [0x7f; 16])
            .unwrap();
        let mut claims = EarlierClaims::new(flow.receiver_labels);
        claims
            .push(
                &claimed.derived.tag,
                &claimed.derived.claim,
                &own_label(0).unwrap(),
            )
            .unwrap();
        receiver_sent.push((
            FrameKind::EarlierClaims,
            slices.claim_earlier(&claims, true).unwrap(),
        ));
        receiver_sent.push((
            FrameKind::Withdrawals,
            slices.withdraw(&[[3; 16], [4; 16]], true).unwrap(),
        ));
    }
    slices.finish().unwrap();
    Listed {
        flow,
        receiver_company,
        evaluator_company,
        receiver_sent,
        evaluator_sent,
        derived,
        entries,
        earlier,
        slices: vec![sealed],
    }
}

/// The entries of the tags that a frame of earlier claims names, as a node looks them up.
#[must_use]
pub fn looked_up(run: &Listed, body: &EarlierClaimsBody<'_>) -> Vec<Entry> {
    let live: BTreeMap<[u8; 16], Entry> = run
        .earlier
        .iter()
        .map(|entry| (entry.derived.tag, *entry))
        .collect();
    body.tags
        .iter()
        .filter_map(|tag| live.get(tag).copied())
        .collect()
}

/// Both sides of a count flow.
pub struct Counted {
    pub flows: [CountFlow; 2],
    /// What either side sends, in order.
    pub sent: [Vec<Sent>; 2],
    /// What the initiator finds.
    pub matrix: CountMatrix,
}

/// A side's commitment, drawn alike each time.
#[must_use]
pub fn committed(flow: CountFlow, seed: u64) -> Committed {
    let mut draw = rng(seed);
    let party = Party::new(Backend::detect(), flow, &mut draw);
    let mut items = CountItems::with_capacity(party.flow(), 3);
    for number in 0..3 {
        items
            .push(format!("u{}@example.com", number + seed % 2).as_bytes())
            .unwrap();
    }
    let groups = vec![Group {
        elements: party.blind(&items),
        padding: party.padding(MIN_PADDING, &mut draw),
    }];
    Committed::new(party, groups, &mut draw).unwrap()
}

/// What a side returns once it holds the other's elements.
///
/// # Errors
/// The fault of what it holds.
pub fn returning(machine: Exchanging) -> Result<Returning, overlap_crypto::fault::Fault> {
    let exchanged = machine.finish()?;
    let pieces = exchanged
        .chunks()
        .map(|chunk| exchanged.reblind(chunk))
        .collect::<Result<_, _>>()?;
    Ok(exchanged.finish(pieces).unwrap())
}

/// A count flow of one group a side, with two customers in common.
#[must_use]
pub fn counted() -> Counted {
    let (one, other) = (Company::new(1, Vec::new()), Company::new(2, Vec::new()));
    let terms = terms(
        side_terms(one.id(), &[Tier::Count]),
        side_terms(other.id(), &[Tier::Count]),
        16,
    );
    let (session, peer) = crate::support::sessions(&one, &other, &terms, &mut rng(1));
    let flows = [
        CountFlow::new(&session, &terms).unwrap(),
        CountFlow::new(&peer, &terms).unwrap(),
    ];
    let machines = [0, 1].map(|side: usize| committed(flows[side].clone(), side as u64));
    let mut sent =
        [0, 1].map(|side: usize| vec![(FrameKind::CountCommit, machines[side].encode())]);
    let commits = [0, 1].map(|side: usize| -> CountCommitBody {
        match Message::decode(FrameKind::CountCommit, &sent[side][0].1) {
            Ok(Message::CountCommit(body)) => body,
            other => panic!("{other:?}"),
        }
    });
    let [of_one, of_other] = commits;
    let [one, other] = machines;
    let mut machines = [
        one.receive(of_other).unwrap(),
        other.receive(of_one).unwrap(),
    ];
    for side in 0..2 {
        sent[side].push((FrameKind::CountOpen, machines[side].open_body()));
        let elements: Vec<_> = machines[side].element_bodies().collect();
        sent[side].extend(
            elements
                .into_iter()
                .map(|body| (FrameKind::CountElements, body)),
        );
        for (kind, body) in sent[side][1..].to_vec() {
            opened(&mut machines[1 - side], kind, &body).unwrap();
        }
    }
    let machines = machines.map(|machine| returning(machine).unwrap());
    for side in 0..2 {
        let bodies: Vec<_> = machines[side].return_bodies().collect();
        sent[side].extend(
            bodies
                .into_iter()
                .map(|body| (FrameKind::CountReturns, body)),
        );
    }
    let [mut one, _] = machines;
    for (kind, body) in &sent[1] {
        if let Ok(Message::CountReturns(body)) = Message::decode(*kind, body) {
            one.admit_returns(&body).unwrap();
        }
    }
    Counted {
        flows,
        sent,
        matrix: one.finish().unwrap(),
    }
}

/// Hands a side the other's opening or elements.
///
/// # Errors
/// What the machine refuses; `None` for another kind.
pub fn opened(
    machine: &mut Exchanging,
    kind: FrameKind,
    body: &[u8],
) -> Result<(), Option<overlap_crypto::fault::Fault>> {
    match Message::decode(kind, body).map_err(Some)? {
        Message::CountOpen(open) => machine.admit_open(open).map_err(Some),
        Message::CountElements(elements) => machine.admit_elements(&elements).map_err(Some),
        _ => Err(None),
    }
}

/// The slices that may be out, released.
pub fn release(releasing: &mut Releasing) {
    while releasing.release().is_some() {}
}

/// The run that honest hellos name.
pub const RUN: RunId = RunId([7; 16]);
