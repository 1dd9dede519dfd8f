//! What two sides of a session send each other: numbers and order of frames, resuming, and the receipts over all of it.

mod support;

use overlap_crypto::{
    context::OrganizationId,
    fault::Fault,
    handshake::Handshake,
    plan::Role,
    receipt::{Receipt, SignedReceipt, commit_result},
    session::{AfterReports, ListPhase, Phase, allowed},
    signature::Signer,
    terms::Tier,
    transcript::{Inbound, Outbound, admit_resume, resume},
    wire::{ConfirmBody, Flow, Frame, FrameKind},
};
use support::{EXPORTER, both, hello, rng, sessions};

#[test]
fn z05_duplicated_replayed_and_foreign_frames_are_refused() {
    let mut rng = rng(9);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    let mut out = Outbound::new(&session);
    let mut inbound = Inbound::new(&peer);
    let run = session.run().0;
    let first = out
        .frame(Flow::InitiatorQueries, FrameKind::Query, b"one")
        .unwrap();
    let second = out
        .frame(Flow::InitiatorQueries, FrameKind::Query, b"two")
        .unwrap();
    assert_eq!((first.sequence, second.sequence), (0, 1));
    assert_eq!(inbound.admit(&[0; 16], &first), Err(Fault::WrongRun));
    assert_eq!(inbound.admit(&run[..15], &first), Err(Fault::WrongRun));
    assert_eq!(inbound.admit(&run, &second), Err(Fault::OutOfOrder));
    assert_eq!(inbound.admit(&run, &first), Ok(()));
    assert_eq!(inbound.admit(&run, &first), Err(Fault::ReplayedFrame));
    assert_eq!(inbound.admit(&run, &second), Ok(()));
    // A flow that this run does not have, and a kind of another flow.
    let swapped = Frame {
        flow: Flow::AcceptorQueries,
        sequence: 0,
        ..first
    };
    assert_eq!(inbound.admit(&run, &swapped), Err(Fault::WrongFlow));
    let misplaced = Frame {
        flow: Flow::Session,
        sequence: 1,
        ..first
    };
    assert_eq!(inbound.admit(&run, &misplaced), Err(Fault::WrongFlow));
    let hello = Frame {
        flow: Flow::Session,
        kind: FrameKind::Hello,
        sequence: 1,
        payload: b"",
    };
    assert_eq!(inbound.admit(&run, &hello), Err(Fault::UnexpectedFrame));
    assert_eq!(inbound.chain().head(), out.chain().head());
    assert!(out.frame(Flow::Session, FrameKind::Query, b"").is_err());
}

#[test]
fn z05_no_frame_comes_after_one_of_a_later_phase_nor_after_the_receipt() {
    let mut rng = rng(31);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    let run = session.run().0;
    let queries = session.role().querying_flow();
    let answers = session.role().peer().querying_flow();
    let flow = if peer.plan().has(queries) {
        queries
    } else {
        answers
    };
    let late = [
        (FrameKind::Report, FrameKind::Claims, flow),
        (FrameKind::Receipt, FrameKind::Claims, flow),
        (FrameKind::Receipt, FrameKind::Report, Flow::Session),
        (FrameKind::Receipt, FrameKind::Receipt, Flow::Session),
        (FrameKind::Report, FrameKind::Confirm, Flow::Session),
    ];
    for (last, kind, flow) in late {
        let (mut out, mut inbound) = (Outbound::new(&session), Inbound::new(&peer));
        let first = out.frame(Flow::Session, last, b"").unwrap();
        inbound.admit(&run, &first).unwrap();
        let head = inbound.chain().head();
        let second = out.frame(flow, kind, b"").unwrap();
        assert_eq!(
            inbound.admit(&run, &second),
            Err(Fault::UnexpectedFrame),
            "{kind:?} after {last:?}"
        );
        assert_eq!(inbound.chain().head(), head, "{kind:?} after {last:?}");
    }
}

#[test]
fn z05_a_frame_without_a_place_in_its_phase_is_refused() {
    assert_eq!(allowed(Phase::Lists, FrameKind::Slice), Ok(()));
    assert_eq!(
        allowed(Phase::Reports, FrameKind::Slice),
        Err(Fault::UnexpectedFrame)
    );
    assert_eq!(
        allowed(Phase::Lists, FrameKind::Receipt),
        Err(Fault::UnexpectedFrame)
    );
    assert_eq!(
        allowed(Phase::Count, FrameKind::Resume),
        Err(Fault::UnexpectedFrame)
    );
    for &kind in FrameKind::ALL {
        let phases = [
            Phase::Handshake,
            Phase::Lists,
            Phase::Reports,
            Phase::Count,
            Phase::Receipts,
        ];
        assert!(
            phases.iter().any(|phase| allowed(*phase, kind).is_ok()),
            "{kind:?}"
        );
    }
}

#[test]
fn the_chain_tells_every_difference_apart() {
    let mut rng = rng(10);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    let head = |frames: &[(Flow, FrameKind, &[u8])]| {
        let mut out = Outbound::new(&session);
        for (flow, kind, payload) in frames {
            out.frame(*flow, *kind, payload).unwrap();
        }
        out.chain().head()
    };
    let flow = Flow::InitiatorQueries;
    let base = head(&[
        (flow, FrameKind::Query, b"a"),
        (flow, FrameKind::Query, b"b"),
    ]);
    assert_ne!(
        base,
        head(&[
            (flow, FrameKind::Query, b"b"),
            (flow, FrameKind::Query, b"a")
        ])
    );
    assert_ne!(
        base,
        head(&[
            (flow, FrameKind::Query, b"a"),
            (flow, FrameKind::Claims, b"b")
        ])
    );
    assert_ne!(
        base,
        head(&[
            (flow, FrameKind::Query, b"a"),
            (Flow::AcceptorQueries, FrameKind::Query, b"b")
        ])
    );
    assert_ne!(base, head(&[(flow, FrameKind::Query, b"ab")]));
    assert_ne!(
        Outbound::new(&session).chain().head(),
        Outbound::new(&peer).chain().head()
    );
}

#[test]
fn a_session_resumes_where_both_sides_stand_and_nowhere_else() {
    let mut rng = rng(11);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    let run = session.run().0;
    let mut out = Outbound::new(&session);
    let mut inbound = Inbound::new(&peer);
    for number in 0_u8..5 {
        let payload = [number];
        let frame = out
            .frame(Flow::InitiatorQueries, FrameKind::Query, &payload)
            .unwrap();
        if number < 3 {
            inbound.admit(&run, &frame).unwrap();
        }
    }
    let exporter = [0xaa; 32];
    let sent = out.chain().clone();
    let (empty_out, empty_in) = (Outbound::new(&peer), Inbound::new(&session));
    let (empty_out, empty_in) = (empty_out.chain(), empty_in.chain());
    let body = resume(&peer, &exporter, empty_out, inbound.chain(), &other.signer);
    let held = admit_resume(&session, &exporter, &sent, empty_in, &body).unwrap();
    assert_eq!(held, 3);
    // What the peer does not hold is sent again byte for byte, and both sides go on as if nothing had happened.
    for number in 3_u8..5 {
        let payload = [number];
        let again = Frame {
            flow: Flow::InitiatorQueries,
            kind: FrameKind::Query,
            sequence: number.into(),
            payload: &payload,
        };
        inbound.admit(&run, &again).unwrap();
    }
    assert_eq!(inbound.chain(), out.chain());
    let frame = out
        .frame(Flow::InitiatorQueries, FrameKind::Query, b"more")
        .unwrap();
    inbound.admit(&run, &frame).unwrap();

    let refused = |exporter: [u8; 32], change: fn(&mut overlap_crypto::wire::ResumeBody)| {
        let mut body = body;
        change(&mut body);
        admit_resume(&session, &exporter, &sent, empty_in, &body).unwrap_err()
    };
    assert_eq!(refused([0; 32], |_| {}), Fault::SignatureInvalid);
    assert_eq!(
        refused(exporter, |body| body.received += 1),
        Fault::SignatureInvalid
    );
    assert_eq!(
        refused(exporter, |body| body.session[0] ^= 1),
        Fault::WrongRun
    );
    // A peer that signs for a state this side never had.
    let mut foreign = Outbound::new(&session);
    foreign
        .frame(Flow::InitiatorQueries, FrameKind::Query, b"never sent")
        .unwrap();
    let body = resume(&peer, &exporter, empty_out, foreign.chain(), &other.signer);
    assert_eq!(
        admit_resume(&session, &exporter, &sent, empty_in, &body),
        Err(Fault::ResumeInvalid)
    );
}

#[test]
fn z09_receipts_agree_and_verify_offline() {
    let mut rng = rng(12);
    let (one, other, terms) = both(&[Tier::Hidden, Tier::Hidden], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    let (id, counter) = (session.id(), session.own().run_counter);
    let (out, inbound) = (Outbound::new(&session), Inbound::new(&session));
    let (peer_out, peer_in) = (Outbound::new(&peer), Inbound::new(&peer));
    let finish = |session| match ListPhase::new(session).finish(None, None).unwrap().finish() {
        Ok(AfterReports::Receipts(phase)) => phase,
        other => panic!("{other:?}"),
    };
    let commitment = commit_result(&[1; 32], b"result");
    let (body, awaiting) =
        finish(session).sign(out.chain(), inbound.chain(), commitment, &one.signer);
    let (peer_body, peer_awaiting) =
        finish(peer).sign(peer_out.chain(), peer_in.chain(), [2; 32], &other.signer);
    let done = awaiting
        .receive(SignedReceipt::decode(&peer_body).unwrap())
        .unwrap();
    let peer_done = peer_awaiting
        .receive(SignedReceipt::decode(&body).unwrap())
        .unwrap();
    assert_eq!((done.own, done.peer), (peer_done.peer, peer_done.own));
    // Offline: two files and two keys.
    let read = SignedReceipt::decode(&body).unwrap();
    let key = Signer::public_key(&one.signer);
    assert_eq!(read.verify(&key), Ok(()));
    assert_eq!(
        read.verify(&Signer::public_key(&other.signer)),
        Err(Fault::SignatureInvalid)
    );
    assert_eq!(read.receipt.session, id);
    assert_eq!(read.receipt.run_counter, counter + 1);
    for position in 0..body.len() {
        let mut changed = body.clone();
        changed[position] ^= 1;
        let refused =
            SignedReceipt::decode(&changed).map_or(true, |read| read.verify(&key).is_err());
        assert!(refused, "byte {position}");
    }
}

/// The last number there is has none after it: not 0, and no panic.
#[test]
fn z09_a_receipt_after_the_last_run_counter_differs() {
    let mut rng = rng(18);
    let (one, other, terms) = both(&[Tier::Hidden, Tier::Hidden], &[Tier::List, Tier::List]);
    let answer = |run_counter| {
        let mut own = hello(&other, &one, &terms, &mut support::rng(20));
        own.run_counter = run_counter;
        Handshake::new(Role::Acceptor, own)
    };
    let greeting = Handshake::new(Role::Initiator, hello(&one, &other, &terms, &mut rng));
    let received = |run_counter, receipt_counter| {
        let (own, peer) = (greeting.clone(), answer(run_counter));
        let confirm = peer
            .clone()
            .receive(own.payload(), &one.pin(), &terms, &EXPORTER)
            .unwrap()
            .confirm(&other.signer);
        let session = own
            .receive(peer.payload(), &other.pin(), &terms, &EXPORTER)
            .unwrap()
            .receive(&ConfirmBody::decode(&confirm).unwrap())
            .unwrap();
        let (out, inbound) = (Outbound::new(&session), Inbound::new(&session));
        let Ok(AfterReports::Receipts(phase)) =
            ListPhase::new(session).finish(None, None).unwrap().finish()
        else {
            panic!("no count flow");
        };
        let (body, awaiting) = phase.sign(out.chain(), inbound.chain(), [1; 32], &one.signer);
        let theirs = Receipt {
            signer: Role::Acceptor,
            run_counter: receipt_counter,
            ..SignedReceipt::decode(&body).unwrap().receipt
        };
        awaiting.receive(theirs.sign(&other.signer))
    };
    assert!(received(0, 1).is_ok());
    assert!(received(u64::MAX - 1, u64::MAX).is_ok());
    for counter in [0, 1, u64::MAX] {
        assert_eq!(received(u64::MAX, counter), Err(Fault::ReceiptDiffers));
    }
}

#[test]
fn z09_a_receipt_of_another_transcript_differs() {
    let mut rng = rng(13);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    let mut out = Outbound::new(&session);
    out.frame(Flow::InitiatorQueries, FrameKind::Query, b"lost")
        .unwrap();
    let own = Receipt::new(
        &session,
        out.chain(),
        Inbound::new(&session).chain(),
        [0; 32],
    );
    let theirs = Receipt::new(
        &peer,
        Outbound::new(&peer).chain(),
        Inbound::new(&peer).chain(),
        [0; 32],
    );
    assert_eq!(own.agrees_with(&theirs), Err(Fault::ReceiptDiffers));
    let out = Outbound::new(&session);
    let own = Receipt::new(
        &session,
        out.chain(),
        Inbound::new(&session).chain(),
        [0; 32],
    );
    assert_eq!(own.agrees_with(&theirs), Ok(()));
    assert_eq!(own.agrees_with(&own), Err(Fault::ReceiptDiffers));
}

#[test]
fn a_newer_receipt_of_ones_own_shows_a_roll_back() {
    let mut rng = rng(14);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let (session, _) = sessions(&one, &other, &terms, &mut rng);
    let receipt = Receipt::new(
        &session,
        Outbound::new(&session).chain(),
        Inbound::new(&session).chain(),
        [0; 32],
    )
    .sign(&one.signer);
    let key = Signer::public_key(&one.signer);
    let rolled_back = |run_counter, receipt_head, presented: SignedReceipt| {
        let mut own = hello(&one, &other, &terms, &mut support::rng(15));
        own.run_counter = run_counter;
        own.receipt_head = receipt_head;
        let mut answer = hello(&other, &one, &terms, &mut support::rng(16));
        answer.peer_receipt = Some(presented);
        let confirming = Handshake::new(Role::Initiator, own)
            .receive(&answer.encode(), &other.pin(), &terms, &EXPORTER)
            .unwrap();
        confirming.session().rolled_back(&key)
    };
    assert_eq!(rolled_back(1, receipt.hash(), receipt), Ok(false));
    assert_eq!(rolled_back(2, [9; 32], receipt), Ok(false));
    assert_eq!(rolled_back(0, [0; 32], receipt), Ok(true));
    assert_eq!(rolled_back(1, [9; 32], receipt), Ok(true));
    let forged = receipt.receipt.sign(&other.signer);
    assert_eq!(
        rolled_back(0, [0; 32], forged),
        Err(Fault::SignatureInvalid)
    );
    // What this side signed for a third party is the peer's to show, and says nothing of their runs.
    let mut foreign = receipt.receipt;
    foreign.acceptor.organization = OrganizationId([7; 32]);
    assert_eq!(
        rolled_back(0, [0; 32], foreign.sign(&one.signer)),
        Err(Fault::WrongOrganization)
    );
}
