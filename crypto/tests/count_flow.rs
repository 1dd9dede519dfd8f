//! The count flow in memory: the plain intersection's sizes, what is refused, and the attack that is not.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeSet;

use overlap_crypto::{
    backend::{Backend, Messages, RistrettoPoint, Scalar},
    context::PairId,
    count::{
        Committed, CountFlow, CountItems, CountMatrix, Exchanging, Group, MIN_PADDING, Party,
        Returning,
    },
    fault::Fault,
    handshake::Session,
    suite::{COUNT_HASH_TO_GROUP_DST, derive_truncated},
    terms::{Terms, Tier},
    wire::{CountCommitBody, CountElementsBody, CountOpenBody, CountReturnsBody},
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use support::{Company, rng, sessions, side_terms, terms};

fn run_terms() -> (Company, Company, Terms) {
    let (one, other) = (Company::new(1, Vec::new()), Company::new(2, Vec::new()));
    let tiers = [Tier::Count, Tier::Hidden, Tier::Count];
    let terms = terms(
        side_terms(one.id(), &tiers),
        side_terms(other.id(), &tiers),
        16,
    );
    (one, other, terms)
}

fn flows() -> (CountFlow, CountFlow) {
    let (one, other, terms) = run_terms();
    let (session, peer): (Session, Session) = sessions(&one, &other, &terms, &mut rng(1));
    (
        CountFlow::new(&session, &terms).unwrap(),
        CountFlow::new(&peer, &terms).unwrap(),
    )
}

fn commit(flow: CountFlow, groups: &[BTreeSet<u32>], rng: &mut ChaCha20Rng) -> Committed {
    let party = Party::new(Backend::detect(), flow, rng);
    let groups = groups
        .iter()
        .map(|group| {
            let mut items = CountItems::with_capacity(party.flow(), group.len());
            for number in group {
                items
                    .push(format!("u{number}@example.com").as_bytes())
                    .unwrap();
            }
            Group {
                elements: party.blind(&items),
                padding: party.padding(MIN_PADDING, rng),
            }
        })
        .collect();
    Committed::new(party, groups, rng).unwrap()
}

fn decode_commit(committed: &Committed) -> CountCommitBody {
    CountCommitBody::decode(&committed.encode()).unwrap()
}

fn exchange(to: &mut Exchanging, from: &Exchanging) -> Result<(), Fault> {
    to.admit_open(CountOpenBody::decode(&from.open_body())?)?;
    from.element_bodies()
        .try_for_each(|body| to.admit_elements(&CountElementsBody::decode(&body)?))
}

fn reblind(exchanging: Exchanging) -> Result<Returning, Fault> {
    let exchanged = exchanging.finish()?;
    let pieces = exchanged
        .chunks()
        .map(|chunk| exchanged.reblind(chunk))
        .collect::<Result<_, _>>()?;
    Ok(exchanged.finish(pieces).unwrap())
}

fn returns(to: &mut Returning, from: &Returning) -> Result<(), Fault> {
    from.return_bodies()
        .try_for_each(|body| to.admit_returns(&CountReturnsBody::decode(&body)?))
}

fn run(own: &[BTreeSet<u32>], peer: &[BTreeSet<u32>]) -> (CountMatrix, CountMatrix) {
    let mut rng = rng(2);
    let (flow, peer_flow) = flows();
    let one = commit(flow, own, &mut rng);
    let other = commit(peer_flow, peer, &mut rng);
    let (first, second) = (decode_commit(&one), decode_commit(&other));
    let (mut one, mut other) = (one.receive(second).unwrap(), other.receive(first).unwrap());
    exchange(&mut one, &other).unwrap();
    exchange(&mut other, &one).unwrap();
    let (mut one, mut other) = (reblind(one).unwrap(), reblind(other).unwrap());
    returns(&mut one, &other).unwrap();
    returns(&mut other, &one).unwrap();
    (one.finish().unwrap(), other.finish().unwrap())
}

fn set(range: std::ops::Range<u32>) -> BTreeSet<u32> {
    range.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn p06_both_sides_count_the_plain_intersections(
        own in prop::collection::btree_set(0_u32..60, 0..40),
        peer in prop::collection::btree_set(0_u32..60, 0..40),
        own_split in 0_u32..60,
        peer_split in 0_u32..60,
    ) {
        let cut = |items: &BTreeSet<u32>, at| {
            let (low, high): (BTreeSet<u32>, BTreeSet<u32>) =
                items.iter().partition(|item| **item < at);
            [low, high]
        };
        let (own, peer) = (cut(&own, own_split), cut(&peer, peer_split));
        let (matrix, transposed) = run(&own, &peer);
        for (i, mine) in own.iter().enumerate() {
            for (j, theirs) in peer.iter().enumerate() {
                let expected = mine.intersection(theirs).count() as u64;
                prop_assert_eq!(matrix.at(i, j), Some(expected));
                prop_assert_eq!(transposed.at(j, i), Some(expected));
            }
        }
    }
}

/// Two sides that have exchanged commitments.
fn committed() -> (Exchanging, Exchanging) {
    let mut rng = rng(3);
    let (flow, peer_flow) = flows();
    let one = commit(flow, &[set(0..8), set(8..9)], &mut rng);
    let other = commit(peer_flow, &[set(1..9), set(20..21)], &mut rng);
    let (first, second) = (decode_commit(&one), decode_commit(&other));
    (one.receive(second).unwrap(), other.receive(first).unwrap())
}

/// The peer's element frames as (group, elements), after the opening was admitted.
fn elements(from: &Exchanging) -> Vec<(u8, Vec<[u8; 32]>)> {
    from.element_bodies()
        .map(|body| {
            let body = CountElementsBody::decode(&body).unwrap();
            (body.group, body.elements.to_vec())
        })
        .collect()
}

fn admit(change: impl FnOnce(&mut Vec<(u8, Vec<[u8; 32]>)>, &Exchanging)) -> Result<(), Fault> {
    let (mut one, other) = committed();
    one.admit_open(CountOpenBody::decode(&other.open_body()).unwrap())?;
    let mut frames = elements(&other);
    change(&mut frames, &one);
    for (group, elements) in &frames {
        one.admit_elements(&CountElementsBody {
            group: *group,
            elements,
        })?;
    }
    reblind(one).map(|_| ())
}

#[test]
fn z05_reflected_repeated_and_disordered_elements_are_refused() {
    assert_eq!(admit(|_, _| {}), Ok(()));
    let reflected = admit(|frames, own| {
        let element = elements(own)[0].1[0];
        frames[0].1[0] = element;
        frames[0].1.sort_unstable();
    });
    assert_eq!(reflected, Err(Fault::ReflectedElement));
    let repeated = admit(|frames, _| frames[0].1[1] = frames[0].1[0]);
    assert_eq!(repeated, Err(Fault::RepeatedElement));
    let disordered = admit(|frames, _| frames[0].1.reverse());
    assert_eq!(disordered, Err(Fault::ElementsNotIncreasing));
    let missing = admit(|frames, _| frames[1].1.truncate(3));
    assert_eq!(missing, Err(Fault::UnexpectedFrame));
    let more = admit(|frames, _| frames[1].1.push([0xff; 32]));
    assert_eq!(more, Err(Fault::WrongCount));
    let swapped = admit(|frames, _| frames.swap(0, 1));
    assert_eq!(swapped, Err(Fault::OutOfOrder));
    // Whatever was not committed to.
    let other = admit(|frames, _| frames[0].1[0] = [0; 32]);
    assert_eq!(other, Err(Fault::CommitmentMismatch));
    // The peer's exponent is one's own.
    let (mut one, _) = committed();
    let own = CountOpenBody::decode(&one.open_body()).unwrap();
    assert_eq!(one.admit_open(own), Err(Fault::ReflectedElement));
    let zero = CountOpenBody {
        salt: [0; 32],
        exponent: [0; 32],
    };
    assert_eq!(one.admit_open(zero), Err(Fault::IdentityElement));
    let (mut one, other) = committed();
    let (group, elements) = &elements(&other)[0];
    let early = one.admit_elements(&CountElementsBody {
        group: *group,
        elements,
    });
    assert_eq!(early, Err(Fault::UnexpectedFrame));
}

/// Both sides ready to return.
fn exchanged() -> (Returning, Returning) {
    let (mut one, mut other) = committed();
    exchange(&mut one, &other).unwrap();
    exchange(&mut other, &one).unwrap();
    (reblind(one).unwrap(), reblind(other).unwrap())
}

fn admit_returns(change: impl FnOnce(&mut Vec<(u8, Vec<[u8; 16]>)>)) -> Result<(), Fault> {
    let (mut one, other) = exchanged();
    let mut frames: Vec<(u8, Vec<[u8; 16]>)> = other
        .return_bodies()
        .map(|body| {
            let body = CountReturnsBody::decode(&body).unwrap();
            (body.group, body.hashes.to_vec())
        })
        .collect();
    change(&mut frames);
    for (group, hashes) in &frames {
        one.admit_returns(&CountReturnsBody {
            group: *group,
            hashes,
        })?;
    }
    one.finish().map(|_| ())
}

#[test]
fn garbage_and_mixed_exponents_in_returns_are_noticed() {
    assert_eq!(admit_returns(|_| {}), Ok(()));
    // Garbage instead of what was sent.
    let garbage = admit_returns(|frames| {
        for hash in &mut frames[0].1 {
            hash[15] ^= 1;
        }
        frames[0].1.sort_unstable();
    });
    assert_eq!(garbage, Err(Fault::PaddingNotReturned));
    let disordered = admit_returns(|frames| frames[0].1.reverse());
    assert_eq!(disordered, Err(Fault::ReturnsNotIncreasing));
    let repeated = admit_returns(|frames| frames[0].1[1] = frames[0].1[0]);
    assert_eq!(repeated, Err(Fault::ReturnsNotIncreasing));
    let short = admit_returns(|frames| frames[1].1.truncate(3));
    assert_eq!(short, Err(Fault::UnexpectedFrame));
    // One's own frames reflected are of the other direction.
    let (mut one, _) = exchanged();
    let own: Vec<Vec<u8>> = one.return_bodies().collect();
    let reflected = own
        .iter()
        .try_for_each(|body| one.admit_returns(&CountReturnsBody::decode(body).unwrap()))
        .and_then(|()| one.finish().map(|_| ()));
    assert_eq!(reflected, Err(Fault::PaddingNotReturned));
}

/// PROTOCOL.md §9.4: what the count flow does **not** prevent. The attacker multiplies one of its elements by an exponent of
/// its own, and looks whether some element of the honest side, under that exponent, is among the returned hashes: then that
/// very item is shared. Every check passes. This is why the flow is called semi-honest, and runs only where both policies say
/// `count_by_count`. The attacker is written against PROTOCOL.md, not against the crate.
#[test]
fn exponent_tagging_identifies_a_member_and_is_the_documented_limit() {
    for shared in [true, false] {
        let backend = Backend::detect();
        let (honest_company, attacker_company, terms) = run_terms();
        let (session, _) = sessions(&honest_company, &attacker_company, &terms, &mut rng(1));
        let flow = CountFlow::new(&session, &terms).unwrap();
        let items = if shared { set(0..6) } else { set(1..6) };
        let honest = commit(flow, &[items, set(100..101)], &mut rng(4));

        // Items 0 to 5 under the exponent b, item 0 also under t.
        let (b, t) = (Scalar::from(0xb0b_u64), Scalar::from(0x7a67_u64));
        let pair = PairId::new(&honest_company.id(), &attacker_company.id());
        let mut messages = Messages::default();
        for number in 0..6 {
            let value = format!("u{number}@example.com");
            let prefix = [2, 0, 1, 0, value.len() as u8];
            messages.push(&[b"OVL1/count/item", &pair.0, &prefix, value.as_bytes()]);
        }
        let hashed = backend.hash_to_group(COUNT_HASH_TO_GROUP_DST, &messages);
        let mut elements = backend.multiply_encode(&b, &hashed);
        let tagged = backend.decode(&elements[..1]).unwrap();
        elements[0] = backend.multiply_encode(&t, &tagged)[0];
        elements.sort_unstable();
        let exponent = (RistrettoPoint::mul_base(&b)).compress().to_bytes();
        let salt = [5; 32];
        let sizes = [6_u32.to_be_bytes(), 0_u32.to_be_bytes()];
        let mut all = Messages::default();
        all.push(&[elements.as_flattened()]);
        let commitment = derive_truncated(
            "OVL1/count/commit",
            &[
                &session.id().0,
                &[1],
                &salt,
                &exponent,
                sizes.as_flattened(),
                &backend.sha512(&all)[0],
            ],
        );

        let mut honest = honest
            .receive(CountCommitBody {
                commitment,
                sizes: vec![6, 0],
            })
            .unwrap();
        honest.admit_open(CountOpenBody { salt, exponent }).unwrap();
        honest
            .admit_elements(&CountElementsBody {
                group: 0,
                elements: &elements,
            })
            .unwrap();
        let honest_elements = self::elements(&honest);
        let mut honest = reblind(honest).unwrap();
        let returned: Vec<[u8; 16]> = honest
            .return_bodies()
            .flat_map(|body| CountReturnsBody::decode(&body).unwrap().hashes.to_vec())
            .collect();
        let hash = |owner: u8, group: u8, element: &[u8; 32]| -> [u8; 16] {
            derive_truncated(
                "OVL1/count/return",
                &[&session.id().0, &[owner], &[group], element],
            )
        };
        // The attacker returns honestly, so that the honest side's padding comes back.
        for (group, elements) in &honest_elements {
            let points = backend.decode(elements).unwrap();
            let mut hashes: Vec<[u8; 16]> = backend
                .multiply_encode(&b, &points)
                .iter()
                .map(|element| hash(0, *group, element))
                .collect();
            hashes.sort_unstable();
            honest
                .admit_returns(&CountReturnsBody {
                    group: *group,
                    hashes: &hashes,
                })
                .unwrap();
        }
        assert_eq!(
            honest.finish().unwrap().at(0, 0),
            Some(5),
            "nothing was noticed"
        );

        let hits = |exponent: Scalar| {
            honest_elements
                .iter()
                .flat_map(|(_, elements)| {
                    backend.multiply_encode(&exponent, &backend.decode(elements).unwrap())
                })
                .filter(|element| returned.contains(&hash(1, 0, element)))
                .count()
        };
        assert_eq!(hits(b), 5);
        assert_eq!(hits(b * t), usize::from(shared), "item 0 is told apart");
    }
}
