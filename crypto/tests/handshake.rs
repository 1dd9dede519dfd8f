//! Hellos, confirmations, frame numbers, receipts and resuming between two sides.

mod support;

use overlap_crypto::{
    context::OrganizationId,
    fault::{Error, Fault},
    handshake::{Confirming, EpochKey, Handshake, Hello, ListQuerier, Mode, PeerState},
    plan::{Queries, Role},
    receipt::{Receipt, SignedReceipt, commit_result},
    report::Report,
    session::{AfterReports, ListPhase, Phase, allowed},
    signature::Signer,
    terms::{SideTerms, Terms, Tier},
    transcript::{Inbound, Outbound, admit_resume, resume},
    wire::{ConfirmBody, Flow, Frame, FrameKind, Message},
};
use support::{Company, EXPORTER, hello, rng, sessions, side_terms, terms};

fn companies() -> (Company, Company) {
    let customers = |from: u32, count: u32| {
        (0..count)
            .map(|owner| {
                (
                    owner,
                    (owner % 2) as u8,
                    vec![format!("u{}@example.com", from + owner)],
                )
            })
            .collect()
    };
    (
        Company::new(1, customers(0, 20)),
        Company::new(2, customers(10, 40)),
    )
}

fn both(tiers: &[Tier], peer_tiers: &[Tier]) -> (Company, Company, Terms) {
    let (one, other) = companies();
    let terms = terms(
        side_terms(one.id(), tiers),
        side_terms(other.id(), peer_tiers),
        16,
    );
    (one, other, terms)
}

/// The initiator receives the acceptor's hello after `change`.
fn receive(change: impl FnOnce(&mut Hello, &Company, &Company)) -> Result<Confirming, Error> {
    receive_pinned(change, |pin| pin)
}

fn receive_pinned(
    change: impl FnOnce(&mut Hello, &Company, &Company),
    pin: impl FnOnce(PeerState) -> PeerState,
) -> Result<Confirming, Error> {
    let mut rng = rng(5);
    let (one, other, terms) = both(&[Tier::List, Tier::Count], &[Tier::List, Tier::Count]);
    let own = Handshake::new(Role::Initiator, hello(&one, &other, &terms, &mut rng));
    let mut answer = hello(&other, &one, &terms, &mut rng);
    change(&mut answer, &other, &one);
    own.receive(&answer.encode(), &pin(other.pin()), &terms, &EXPORTER)
}

fn fault(result: Result<Confirming, Error>) -> Fault {
    match result {
        Err(Error::Peer(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hellos_round_trip() {
    let mut rng = rng(1);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let mut hello = hello(&one, &other, &terms, &mut rng);
    assert_eq!(Hello::decode(&hello.encode()), Ok(hello.clone()));
    hello.epoch_key = None;
    hello.mode = Mode::Delta;
    hello.list_querier = ListQuerier::Receiver;
    hello.stage_sizes = vec![16, 4096, 0];
    assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
}

#[test]
fn both_sides_agree_on_session_and_flows() {
    let mut rng = rng(2);
    let (one, other, terms) = both(&[Tier::List, Tier::Count], &[Tier::List, Tier::Count]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    assert_eq!(session.id(), peer.id());
    assert_eq!(session.plan(), peer.plan());
    assert_eq!(session.receiving(), peer.evaluating());
    assert_eq!(session.evaluating(), peer.receiving());
    assert_eq!(session.list_querier(), peer.list_querier());
    // The initiator's list tier is the smaller one, so it queries with everything.
    assert_eq!(
        session.plan().initiator,
        Some(Queries {
            list: true,
            count: true
        })
    );
    assert_eq!(
        session.plan().acceptor,
        Some(Queries {
            list: false,
            count: true
        })
    );
    assert_eq!(session.receiving().unwrap().queries, 20);
    assert_eq!(session.evaluating().unwrap().queries, 20);
    assert!(session.plan().count);
}

#[test]
fn tiers_decide_the_flows() {
    let plan = |tiers: &[Tier], peer_tiers: &[Tier]| {
        let mut rng = rng(3);
        let (one, other, terms) = both(tiers, peer_tiers);
        *sessions(&one, &other, &terms, &mut rng).0.plan()
    };
    let only_list = plan(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    assert_eq!(
        only_list.initiator,
        Some(Queries {
            list: true,
            count: false
        })
    );
    assert_eq!((only_list.acceptor, only_list.count), (None, false));
    // P-10: what is hidden takes part in no flow.
    let hidden = plan(&[Tier::Hidden, Tier::Hidden], &[Tier::List, Tier::Count]);
    assert_eq!(
        (hidden.initiator, hidden.acceptor, hidden.count),
        (None, None, false)
    );
    let counts = plan(&[Tier::Count, Tier::Count], &[Tier::List, Tier::List]);
    assert_eq!(
        counts.initiator,
        Some(Queries {
            list: false,
            count: true
        })
    );
    assert_eq!((counts.acceptor, counts.count), (None, false));
    let both_count = plan(&[Tier::Count, Tier::Hidden], &[Tier::Count, Tier::Hidden]);
    assert_eq!(
        (both_count.initiator, both_count.acceptor, both_count.count),
        (None, None, true)
    );
}

#[test]
fn z05_a_hello_of_another_version_or_suite_is_named_as_such() {
    let mut rng = rng(4);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let mut bytes = hello(&one, &other, &terms, &mut rng).encode();
    bytes[1] = 2;
    assert_eq!(Hello::decode(&bytes[..4]), Err(Fault::UnsupportedVersion));
    bytes[1] = 1;
    bytes[3] = 9;
    assert_eq!(Hello::decode(&bytes[..4]), Err(Fault::UnknownSuite));
}

#[test]
fn a_hello_that_does_not_fit_is_refused_with_its_own_code() {
    assert!(receive(|_, _, _| {}).is_ok());
    assert_eq!(
        fault(receive(|hello, _, _| hello.run.0[0] ^= 1)),
        Fault::WrongRun
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.sender.0[0] ^= 1)),
        Fault::WrongOrganization
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.receiver.0[0] ^= 1)),
        Fault::WrongOrganization
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.terms[0] ^= 1)),
        Fault::TermsDiffer
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.mode = Mode::Delta)),
        Fault::FullRunRequired
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.epoch_key = None)),
        Fault::EvaluatorMissing
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.stage_sizes.push(0))),
        Fault::WrongCount
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.stage_sizes[1] = 16)),
        Fault::WrongCount
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.tags = 1 << 40)),
        Fault::SetTooLarge
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.tags = (1 << 22) + 1)),
        Fault::SetTooLarge,
        "more tags than the terms allow in an epoch"
    );
    assert_eq!(
        fault(receive(|hello, _, _| hello.count_queries = (1 << 22) + 1)),
        Fault::SetTooLarge,
        "more queries than the terms allow in an epoch"
    );
}

/// PROTOCOL.md §5.2 and §11.1: each side caps what the other asks of it, its queries and its tags, by its own terms.
#[test]
fn sizes_are_within_the_caps_of_the_side_that_serves_them() {
    let (one, other) = companies();
    // Everything is listed: the initiator sends 20 queries, the acceptor 40 tags.
    let received = |role: Role, change: fn(&mut [SideTerms; 2])| {
        let mut sides = [one.id(), other.id()].map(|id| side_terms(id, &[Tier::List; 2]));
        change(&mut sides);
        let [first, second] = sides;
        let terms = terms(first, second, 16);
        let (own, peer) = match role {
            Role::Initiator => (&one, &other),
            Role::Acceptor => (&other, &one),
        };
        let mut rng = rng(19);
        let greeting = Handshake::new(role, hello(own, peer, &terms, &mut rng));
        let answer = hello(peer, own, &terms, &mut rng).encode();
        match greeting.receive(&answer, &peer.pin(), &terms, &EXPORTER) {
            Ok(_) => None,
            Err(Error::Peer(fault)) => Some(fault),
            Err(error) => panic!("{error}"),
        }
    };
    let (initiator, acceptor) = (Role::Initiator, Role::Acceptor);
    let too_large = Some(Fault::SetTooLarge);
    assert_eq!(
        received(initiator, |sides| sides[0].max_tags = 39),
        too_large
    );
    assert_eq!(received(initiator, |sides| sides[0].max_tags = 40), None);
    assert_eq!(
        received(acceptor, |sides| sides[1].max_queries = 19),
        too_large
    );
    assert_eq!(received(acceptor, |sides| sides[1].max_queries = 20), None);
    // Neither cap is on what its own side asks of the other.
    let own_caps = |sides: &mut [SideTerms; 2]| {
        sides[0].max_queries = 1;
        sides[1].max_tags = 1;
    };
    assert_eq!(received(initiator, own_caps), None);
    assert_eq!(received(acceptor, own_caps), None);
}

#[test]
fn epochs_never_go_back_and_a_key_never_changes_within_one() {
    let pinned = |epoch, key: Option<[u8; 32]>| {
        receive_pinned(
            |_, _, _| {},
            move |mut pin| {
                let (_, other) = companies();
                pin.highest_epoch = Some((epoch, key.unwrap_or(*other.key.public_key().encoded())));
                pin
            },
        )
    };
    assert!(pinned(1, None).is_ok());
    assert!(pinned(0, Some([9; 32])).is_ok());
    assert_eq!(fault(pinned(2, None)), Fault::EpochRegression);
    assert_eq!(fault(pinned(1, Some([9; 32]))), Fault::KeyChanged);
}

#[test]
fn a_voprf_key_without_its_proof_is_refused() {
    let stolen = receive(|hello, _, _| hello.epoch_key.as_mut().unwrap().epoch += 1);
    assert_eq!(fault(stolen), Fault::KeyProofInvalid);
    // A proof made for another receiver does not carry over.
    let elsewhere = receive(|hello, own, _| {
        let third = Company::new(3, Vec::new());
        hello.epoch_key = Some(EpochKey::new(
            &own.key,
            own.epoch,
            &own.id(),
            &third.id(),
            &mut rng(6),
        ));
    });
    assert_eq!(fault(elsewhere), Fault::KeyProofInvalid);
    let identity = receive(|hello, _, _| hello.epoch_key.as_mut().unwrap().public_key = [0; 32]);
    assert_eq!(fault(identity), Fault::IdentityElement);
}

#[test]
fn remembered_roles_must_agree() {
    let roles = receive(|hello, _, _| hello.list_querier = ListQuerier::Sender).unwrap();
    assert_eq!(roles.session().list_querier(), Role::Acceptor);
    let mut rng = rng(7);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let mut own = hello(&one, &other, &terms, &mut rng);
    own.list_querier = ListQuerier::Sender;
    let mut peer = hello(&other, &one, &terms, &mut rng);
    peer.list_querier = ListQuerier::Sender;
    let result = Handshake::new(Role::Initiator, own).receive(
        &peer.encode(),
        &other.pin(),
        &terms,
        &EXPORTER,
    );
    assert_eq!(fault(result), Fault::RolesDiffer);
}

#[test]
fn a_confirmation_binds_the_session_and_the_channel() {
    let mut rng = rng(8);
    let (one, other, terms) = both(&[Tier::List, Tier::List], &[Tier::List, Tier::List]);
    let first = hello(&one, &other, &terms, &mut rng);
    let second = hello(&other, &one, &terms, &mut rng);
    let initiator = |exporter| {
        Handshake::new(Role::Initiator, first.clone())
            .receive(&second.encode(), &other.pin(), &terms, &exporter)
            .unwrap()
    };
    let acceptor = |exporter| {
        Handshake::new(Role::Acceptor, second.clone())
            .receive(&first.encode(), &one.pin(), &terms, &exporter)
            .unwrap()
    };
    let confirm = |bytes: Vec<u8>| ConfirmBody::decode(&bytes).unwrap();
    let good = confirm(acceptor(EXPORTER).confirm(&other.signer));
    assert!(initiator(EXPORTER).receive(&good).is_ok());
    // Another channel: somebody sits in between.
    let spliced = confirm(acceptor([0; 32]).confirm(&other.signer));
    assert_eq!(
        initiator(EXPORTER).receive(&spliced).unwrap_err(),
        Fault::SignatureInvalid
    );
    // One's own confirmation reflected.
    let own = confirm(initiator(EXPORTER).confirm(&one.signer));
    assert_eq!(
        initiator(EXPORTER).receive(&own).unwrap_err(),
        Fault::SignatureInvalid
    );
    let stranger = confirm(acceptor(EXPORTER).confirm(&one.signer));
    assert_eq!(
        initiator(EXPORTER).receive(&stranger).unwrap_err(),
        Fault::SignatureInvalid
    );
}

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

#[test]
fn reports_come_from_whoever_queries_its_count_tier() {
    let mut rng = rng(17);
    let (one, other, terms) = both(&[Tier::Count, Tier::Count], &[Tier::List, Tier::List]);
    let (session, peer) = sessions(&one, &other, &terms, &mut rng);
    assert!(session.plan().initiator.unwrap().count);
    assert!(ListPhase::new(session.clone()).finish(None, None).is_err());
    let body = Report {
        series: 1,
        cells: Vec::new(),
    }
    .sign(&session.id(), session.role(), &one.signer)
    .encode();
    let decoded = Message::decode(FrameKind::Report, &body).unwrap();
    assert!(matches!(decoded, Message::Report(_)));
    assert_eq!(peer.plan().acceptor, None);
}
