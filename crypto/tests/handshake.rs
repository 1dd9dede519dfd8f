//! Hellos and confirmations between two sides, and what they settle.

mod support;

use overlap_crypto::{
    fault::{Error, Fault},
    handshake::{Confirming, EpochKey, Handshake, Hello, ListQuerier, Mode, PeerState},
    plan::{Queries, Role},
    report::Report,
    session::ListPhase,
    terms::{SideTerms, Tier},
    wire::{ConfirmBody, FrameKind, Message},
};
use support::{Company, EXPORTER, both, companies, hello, rng, sessions, side_terms, terms};

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
