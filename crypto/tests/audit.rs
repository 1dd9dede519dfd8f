//! Z-09: recordings of a run, checked against its receipts: what is part of the run has to be as they say, and nothing else
//! counts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use overlap_crypto::{
    audit::{Audit, AuditReport},
    backend::Backend,
    handshake::{Handshake, ListQuerier, Session},
    plan::Role,
    receipt::{Receipt, SignedReceipt},
    recording::EntryKind,
    signature::Signer,
    terms::Tier,
    transcript::{Chain, Outbound, resume},
    wire::{ConfirmBody, Flow, FrameKind},
};
use support::{Company, EXPORTER, hello, rng, run_list_flow, setup::company, side_terms, terms};

type Entry = (EntryKind, Vec<u8>);

const ROLES: [Role; 2] = [Role::Initiator, Role::Acceptor];
const INITIATOR: usize = 0;
const ACCEPTOR: usize = 1;

/// A run of the list flow in which the initiator queries: one chunk, one slice. By role.
struct Run {
    companies: [Company; 2],
    sessions: [Session; 2],
    /// Before any frame and after each, receipts left out.
    chains: [Vec<Chain>; 2],
    receipts: [SignedReceipt; 2],
    entries: Vec<Entry>,
}

/// Where frames stand among the entries of [`Run`].
const EVALUATION: usize = 6;
const FIRST_RECEIPT: usize = 10;
const ENTRIES: usize = 12;

fn frame(sender: usize, flow: Flow, kind: FrameKind, sequence: u64, payload: &[u8]) -> Entry {
    let kind = EntryKind::Frame {
        sender: ROLES[sender],
        flow,
        kind,
        sequence,
    };
    (kind, payload.to_vec())
}

fn abort(sender: usize, code: u16) -> Entry {
    let code = code.to_be_bytes();
    frame(sender, Flow::Session, FrameKind::Abort, 0, &code)
}

impl Run {
    /// The initiator has signed `run_counter` receipts before.
    fn new(run_counter: u64) -> Self {
        let mut rng = rng(1);
        let companies = [company(1), company(2)];
        let [one, other] = &companies;
        let sides = [one, other].map(|company| side_terms(company.id(), &[Tier::List; 2]));
        let terms = terms(sides[0].clone(), sides[1].clone(), 16);
        let mut greeting = hello(one, other, &terms, &mut rng);
        greeting.run_counter = run_counter;
        greeting.list_querier = ListQuerier::Sender;
        let greetings = [greeting, hello(other, one, &terms, &mut rng)];
        let payloads = greetings.each_ref().map(|hello| hello.encode());
        let confirming = [INITIATOR, ACCEPTOR].map(|at| {
            Handshake::new(ROLES[at], greetings[at].clone())
                .receive(
                    &payloads[1 - at],
                    &companies[1 - at].pin(),
                    &terms,
                    &EXPORTER,
                )
                .unwrap()
        });
        let confirms =
            [INITIATOR, ACCEPTOR].map(|at| confirming[at].confirm(&companies[at].signer));
        let [first, second] = confirming;
        let sessions = [
            first
                .receive(&ConfirmBody::decode(&confirms[1]).unwrap())
                .unwrap(),
            second
                .receive(&ConfirmBody::decode(&confirms[0]).unwrap())
                .unwrap(),
        ];
        let list = run_list_flow(
            Backend::detect(),
            sessions[0].receiving().unwrap(),
            (one, &sides[0]),
            (other, &sides[1]),
            true,
            &mut rng,
        );

        let mut entries = vec![(EntryKind::Connection, EXPORTER.to_vec())];
        for (at, payload) in payloads.iter().enumerate() {
            entries.push(frame(at, Flow::Session, FrameKind::Hello, 0, payload));
        }
        let mut out = sessions.each_ref().map(Outbound::new);
        let mut chains = out.each_ref().map(|out| vec![out.chain().clone()]);
        let mut send = |out: &mut [Outbound; 2], sender: usize, flow, kind, payload: &[u8]| {
            let sequence = out[sender].frame(flow, kind, payload).unwrap().sequence;
            entries.push(frame(sender, flow, kind, sequence, payload));
        };
        let queries = Flow::InitiatorQueries;
        let [query, claims] = &*list.receiver_sent else {
            panic!("one chunk, one slice")
        };
        let [evaluation, commitments, slice] = &*list.evaluator_sent else {
            panic!("one chunk, one slice")
        };
        for (sender, flow, kind, payload) in [
            (INITIATOR, Flow::Session, FrameKind::Confirm, &confirms[0]),
            (ACCEPTOR, Flow::Session, FrameKind::Confirm, &confirms[1]),
            (INITIATOR, queries, FrameKind::Query, query),
            (ACCEPTOR, queries, FrameKind::Evaluation, evaluation),
            (ACCEPTOR, queries, FrameKind::Commitments, commitments),
            (ACCEPTOR, queries, FrameKind::Slice, slice),
            (INITIATOR, queries, FrameKind::Claims, claims),
        ] {
            send(&mut out, sender, flow, kind, payload);
            chains[sender].push(out[sender].chain().clone());
        }
        let acceptor = Receipt::new(&sessions[1], out[1].chain(), out[0].chain(), [2; 32]);
        let initiator = Receipt {
            signer: Role::Initiator,
            run_counter: run_counter.wrapping_add(1),
            result: [1; 32],
            ..acceptor
        };
        let receipts = [
            initiator.sign(&companies[0].signer),
            acceptor.sign(&companies[1].signer),
        ];
        for (sender, receipt) in receipts.iter().enumerate() {
            let payload = receipt.encode();
            send(
                &mut out,
                sender,
                Flow::Session,
                FrameKind::Receipt,
                &payload,
            );
        }
        assert_eq!(entries.len(), ENTRIES);
        Self {
            companies,
            sessions,
            chains,
            receipts,
            entries,
        }
    }

    fn audit(&self, entries: &[Entry]) -> AuditReport {
        let keys = self
            .companies
            .each_ref()
            .map(|company| Signer::public_key(&company.signer));
        let mut audit = Audit::new(Backend::detect(), keys, self.receipts);
        for (kind, body) in entries {
            audit.entry(kind, body);
        }
        audit.finish()
    }

    /// The run's entries with others before number `at`.
    fn with(&self, at: usize, others: &[Entry]) -> Vec<Entry> {
        [&self.entries[..at], others, &self.entries[at..]].concat()
    }

    fn assert_good(&self, entries: &[Entry]) {
        let report = self.audit(entries);
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(
            (report.frames, report.chunks, report.elements, report.slices),
            (7, 1, 4, 1)
        );
    }

    fn assert_bad(&self, entries: &[Entry], problem: &str) {
        let problems = self.audit(entries).problems.join("; ");
        assert!(problems.contains(problem), "{problems:?}");
    }

    /// RESUME of a side that sent so many frames and holds what `held` is the chain of.
    fn resume(&self, sender: usize, exporter: [u8; 32], sent: usize, held: &Chain) -> Entry {
        let sent = &self.chains[sender][sent];
        let signer = &self.companies[sender].signer;
        let body = resume(&self.sessions[sender], &exporter, sent, held, signer);
        frame(sender, Flow::Session, FrameKind::Resume, 0, &body.encode())
    }

    /// A new connection before the evaluation is there, on which both resume with what they hold: the query, and no answer.
    fn reconnection(&self, exporter: [u8; 32]) -> [Entry; 3] {
        [
            (EntryKind::Connection, exporter.to_vec()),
            self.resume(INITIATOR, exporter, 2, &self.chains[ACCEPTOR][1]),
            self.resume(ACCEPTOR, exporter, 1, &self.chains[INITIATOR][2]),
        ]
    }
}

/// The last number there is has none after it: not 0, and no panic.
#[test]
fn z09_no_receipt_follows_from_the_last_run_counter() {
    let run = Run::new(u64::MAX - 1);
    run.assert_good(&run.entries);
    let run = Run::new(u64::MAX);
    run.assert_bad(
        &run.entries,
        "run counter of the initiator's hello is not that of its receipt",
    );
}

/// Both receipts bind everything before them, and a partner may still say what it likes.
#[test]
fn z09_what_comes_after_both_receipts_is_no_part_of_the_run() {
    let run = Run::new(0);
    run.assert_good(&run.entries);
    let (_, query) = &run.entries[EVALUATION - 1];
    for late in [
        abort(ACCEPTOR, 1000),
        frame(ACCEPTOR, Flow::Session, FrameKind::Report, 3, b""),
        frame(
            INITIATOR,
            Flow::InitiatorQueries,
            FrameKind::Query,
            9,
            query,
        ),
        frame(INITIATOR, Flow::Session, FrameKind::Resume, 0, b"garbage"),
        run.entries[1].clone(),
        run.entries[FIRST_RECEIPT].clone(),
        (EntryKind::Stopped, Vec::new()),
    ] {
        run.assert_good(&run.with(ENTRIES, std::slice::from_ref(&late)));
        // Without the other receipt nothing is complete.
        let last = ENTRIES - 1;
        let without = [&run.entries[..last], &[late]].concat();
        run.assert_bad(&without, "the acceptor's receipt is missing");
    }
    let aborted = [&run.entries[..FIRST_RECEIPT], &[abort(ACCEPTOR, 1001)]].concat();
    for side in ["acceptor", "initiator"] {
        let problem = format!("the {side}'s receipt is missing; the acceptor aborted");
        run.assert_bad(&aborted, &problem);
    }
}

/// A side that has sent its receipt is not to spoil the recording while the other's is on its way.
#[test]
fn z09_what_a_side_sends_after_its_receipt_is_no_part_of_the_run() {
    let run = Run::new(0);
    let second = ENTRIES - 1;
    let (_, query) = &run.entries[EVALUATION - 1];
    let late = frame(
        INITIATOR,
        Flow::InitiatorQueries,
        FrameKind::Query,
        2,
        query,
    );
    for entry in [late.clone(), run.entries[1].clone(), abort(INITIATOR, 1001)] {
        run.assert_good(&run.with(second, &[entry]));
    }
    // Before its receipt it is one, and the receipts do not cover it.
    run.assert_bad(
        &run.with(FIRST_RECEIPT, &[late]),
        "the initiator sent 3 frames by the receipts and 4 by the recording",
    );
}

/// A partner that has not noticed yet that the last connection broke refuses the next with ABORT.
#[test]
fn z09_a_resumption_that_was_put_off_is_no_problem() {
    let run = Run::new(0);
    let refused = [
        (EntryKind::Connection, vec![7; 32]),
        run.resume(INITIATOR, [7; 32], 2, &run.chains[ACCEPTOR][1]),
        abort(ACCEPTOR, 1003),
    ];
    let both = [&refused[..], &run.reconnection([8; 32])].concat();
    run.assert_good(&run.with(EVALUATION, &both));
}

/// What a RESUME voids is judged when it comes again.
#[test]
fn z09_what_a_resumption_voids_is_no_part_of_the_run() {
    let run = Run::new(0);
    let flow = Flow::InitiatorQueries;
    let mut wrong = run.entries[EVALUATION].1.clone();
    // The challenge of the proof.
    let challenge = wrong.len() - 64;
    wrong[challenge] ^= 1;
    let bad = frame(ACCEPTOR, flow, FrameKind::Evaluation, 0, &wrong);
    let ahead = frame(ACCEPTOR, flow, FrameKind::Evaluation, 5, &wrong);
    let hello = run.entries[2].clone();
    let again = run.reconnection([8; 32]);
    for (void, problem) in [
        (&bad, "PROOF_INVALID"),
        (&ahead, "number 0 was to come"),
        (&hello, "a second hello"),
    ] {
        let voided = [std::slice::from_ref(void), &again[..]].concat();
        run.assert_good(&run.with(EVALUATION, &voided));
        let standing = run.with(EVALUATION, std::slice::from_ref(void));
        run.assert_bad(&standing, problem);
        // The other side's frames are not what a side's RESUME voids.
        let others = [void.clone(), again[0].clone(), again[2].clone()];
        run.assert_bad(&run.with(EVALUATION, &others), problem);
        // Nor what comes after it.
        let after = [&again[..], std::slice::from_ref(void)].concat();
        run.assert_bad(&run.with(EVALUATION, &after), problem);
    }
    // A frame that the other side does hold stands.
    let mut sent = Outbound::new(&run.sessions[ACCEPTOR]);
    let (_, confirm) = &run.entries[4];
    sent.frame(Flow::Session, FrameKind::Confirm, confirm)
        .unwrap();
    sent.frame(flow, FrameKind::Evaluation, &wrong).unwrap();
    let held = run.resume(INITIATOR, [8; 32], 2, sent.chain());
    let [connection, _, answer] = again.clone();
    let standing = [bad, connection.clone(), held.clone(), answer];
    run.assert_bad(&run.with(EVALUATION, &standing), "PROOF_INVALID");
    // Even if it said first that it does not.
    let first = [&standing[..1], &again[..], &[connection, held]].concat();
    run.assert_bad(&run.with(EVALUATION, &first), "PROOF_INVALID");
}

/// A side that says it holds less than it does, and says how much when the next connection comes, gets nothing twice: the other
/// goes on where it is.
#[test]
fn z09_a_resumption_may_say_less_than_the_next_one() {
    let run = Run::new(0);
    let [_, behind, answer] = run.reconnection([8; 32]);
    let before_claims = FIRST_RECEIPT - 1;
    let all = run.resume(INITIATOR, [9; 32], 2, &run.chains[ACCEPTOR][4]);
    let connection = |exporter| (EntryKind::Connection, [exporter; 32].to_vec());
    let less = [connection(8), behind, answer];
    let more = [
        connection(9),
        all,
        run.resume(ACCEPTOR, [9; 32], 4, &run.chains[INITIATOR][2]),
    ];
    let both = [&less[..], &more[..]].concat();
    run.assert_good(&run.with(before_claims, &both));
    run.assert_bad(
        &run.with(before_claims, &less),
        "the acceptor sent 4 frames by the receipts and 1 by the recording",
    );
    // What comes in between is void if it is not what was said the first time.
    let (_, query) = &run.entries[EVALUATION - 1];
    let other = frame(ACCEPTOR, Flow::Session, FrameKind::Report, 2, query);
    let between = [&less[..], &[other], &more[..]].concat();
    run.assert_bad(
        &run.with(before_claims, &between),
        "acceptor's RECEIPT 2 of flow session: number 3 was to come",
    );
}
