//! What a malicious side can try, and what comes of it.

mod support;

use curve25519_dalek::ristretto::CompressedRistretto;

use overlap_crypto::{
    backend::{Backend, RistrettoPoint, Scalar},
    context::{Context, SessionId},
    fault::{Error, Fault},
    item::Items,
    list::{Answering, Evaluator, Label, Labels, ListFlow, Querying},
    terms::KeyType,
    voprf::SecretKey,
    wire::{ClaimsBody, CommitmentsBody, EvaluationBody, Flow, QueryBody, SliceBody},
};
use support::{
    items, labels, published, rng,
    setup::{KEYS, forge, setup},
};

#[test]
fn z05_bad_elements_in_a_query_are_refused_with_their_own_codes() {
    let setup = setup();
    let point = |scalar: u64| {
        RistrettoPoint::mul_base(&Scalar::from(scalar))
            .compress()
            .to_bytes()
    };
    assert_eq!(setup.query(&[point(1), point(2)]), Ok(()));
    assert_eq!(
        setup.query(&[point(1), [0; 32]]),
        Err(Fault::IdentityElement)
    );
    assert_eq!(
        setup.query(&[point(1), [0xff; 32]]),
        Err(Fault::NonCanonicalElement)
    );
    let repeated = [point(1), point(2), point(1)];
    assert_eq!(setup.query(&repeated), Err(Fault::RepeatedElement));
}

#[test]
fn z05_bad_elements_in_an_evaluation_are_refused_with_their_own_codes() {
    let setup = setup();
    let fault =
        |change: fn(&mut Vec<[u8; 32]>, &QueryBody<'_>)| setup.evaluate(change).unwrap_err();
    assert_eq!(
        fault(|elements, _| elements[0] = [0; 32]),
        Fault::IdentityElement
    );
    assert_eq!(
        fault(|elements, _| elements[0] = [0xff; 32]),
        Fault::NonCanonicalElement
    );
    assert_eq!(fault(|elements, _| elements.truncate(3)), Fault::WrongCount);
}

/// Label harvesting: the evaluator answers one query with the evaluation of another, to make the receiver's list-tier customer
/// look like one of its own.
#[test]
fn label_harvesting_with_swapped_elements_is_refused() {
    let swapped = setup().evaluate(|elements, _| elements.swap(0, 1));
    assert_eq!(swapped, Err(Fault::ProofInvalid));
    // Nor can it hand the queries back as they came.
    let echoed = setup().evaluate(|elements, query| elements[2] = query.elements[2]);
    assert_eq!(echoed, Err(Fault::ProofInvalid));
}

#[test]
fn a_different_key_for_one_element_is_refused() {
    let refused = setup().evaluate(|elements, query| {
        let other = SecretKey::derive(&[9; 32], b"other").unwrap();
        let other = Scalar::from_canonical_bytes(*other.to_bytes()).unwrap();
        let backend = Backend::detect();
        let point = backend.decode(&query.elements[3..]).unwrap();
        elements[3] = backend.multiply_encode(&other, &point)[0];
    });
    assert_eq!(refused, Err(Fault::ProofInvalid));
}

#[test]
fn an_answer_of_another_evaluator_is_refused() {
    let setup = setup();
    let mut rng = rng(6);
    let receiver = setup.receiver();
    let blinded = receiver.blind(items(&setup.flow, &KEYS), &mut rng).unwrap();
    let query = blinded.encode(0);
    let key = SecretKey::derive(&[9; 32], b"other").unwrap();
    let flow = ListFlow {
        public_key: key.public_key(),
        ..setup.flow
    };
    let other = Evaluator::new(Backend::detect(), flow, key).unwrap();
    let answer = other
        .evaluate(&QueryBody::decode(&query).unwrap(), &mut rng)
        .unwrap();
    let evaluation = EvaluationBody::decode(&answer).unwrap();
    assert_eq!(
        blinded.finish(&receiver, &evaluation).unwrap_err(),
        Fault::ProofInvalid
    );
}

/// Reflection: a side queries with the other's blinded elements, re-randomised so that they look new, in the flow in which
/// the other evaluates. The blinding it does not know stays in the result.
#[test]
fn a_rerandomised_reflection_yields_nothing() {
    let setup = setup();
    let mut rng = rng(7);
    let backend = Backend::detect();
    let victim = setup.receiver();
    let blinded = victim.blind(items(&setup.flow, &KEYS), &mut rng).unwrap();

    // The victim evaluates for the attacker in the other flow, under its own key and context.
    let key = setup.receiver_company.key();
    let public_key = key.public_key();
    let context = Context::new(
        &setup.receiver_company.id(),
        &setup.evaluator_company.id(),
        1,
        public_key.encoded(),
    );
    let flow = ListFlow {
        flow: Flow::AcceptorQueries,
        context,
        public_key,
        ..setup.flow
    };
    let evaluator = Evaluator::new(backend, flow, key).unwrap();
    let tags: Vec<[u8; 16]> = published(&evaluator, &KEYS, &mut rng)
        .iter()
        .map(|entry| entry.derived.tag)
        .collect();

    let random = Scalar::from(0x5eed_u64);
    let mut points = backend.decode(blinded.elements()).unwrap();
    let generator = RistrettoPoint::mul_base(&Scalar::ONE);
    backend.offset(&mut points, &backend.fixed_base(&generator), &[random; 4]);
    let reflected = backend.encode(&points);
    let answer = evaluator
        .evaluate(
            &QueryBody {
                number: 0,
                elements: &reflected,
            },
            &mut rng,
        )
        .unwrap();
    let evaluation = EvaluationBody::decode(&answer).unwrap();
    let mut evaluated = backend.decode(evaluation.elements).unwrap();
    let base = backend.fixed_base(&RistrettoPoint::mul_base(
        &Scalar::from_canonical_bytes(*setup.receiver_company.key.to_bytes()).unwrap(),
    ));
    backend.offset(&mut evaluated, &base, &[-random; 4]);
    let unblinded = backend.double_encode(&evaluated);
    // Even with the right inputs at hand, in either context, no tag comes out.
    for context in [context, setup.flow.context] {
        let mut inputs = overlap_crypto::backend::Messages::default();
        for (_, key) in KEYS {
            let prefix = [KeyType::Email.code(), 0, 1, 0, key.len() as u8];
            inputs.push(&[b"OVL1/item", &context.0, &prefix, key.as_bytes()]);
        }
        for output in overlap_crypto::voprf::finalize(backend, &inputs, &unblinded) {
            let keys = overlap_crypto::suite::derive("OVL1/keys", &[&context.0, &output]);
            assert!(!tags.contains(&keys[..16].try_into().unwrap()));
        }
    }
}

/// Relation tagging: queries that are sums and multiples of others. The answers stand in the relation that the asking side has put
/// its queries in, and a tag comes of an item with its own point alone.
#[test]
fn related_queries_give_related_answers_and_no_tag() {
    let setup = setup();
    let mut rng = rng(8);
    let backend = Backend::detect();
    let evaluator = setup.evaluator();
    let tags: Vec<[u8; 16]> = published(&evaluator, &KEYS, &mut rng)
        .iter()
        .map(|entry| entry.derived.tag)
        .collect();
    let context = setup.flow.context;
    let mut inputs = overlap_crypto::backend::Messages::default();
    for (_, key) in KEYS {
        let prefix = [KeyType::Email.code(), 0, 1, 0, key.len() as u8];
        inputs.push(&[b"OVL1/item", &context.0, &prefix, key.as_bytes()]);
    }
    // The asking side blinds by nothing, so that relations between items are relations between queries.
    let points = backend.hash_to_group(overlap_crypto::suite::HASH_TO_GROUP_DST, &inputs);
    let point = |encoded| CompressedRistretto(encoded).decompress().unwrap();
    let own: Vec<RistrettoPoint> = backend.encode(&points).into_iter().map(point).collect();
    let related = [
        own[0],
        own[1],
        own[0] + own[1],
        own[0] + own[0],
        -own[0],
        own[2] - own[3],
    ];
    let elements = related.map(|point| point.compress().to_bytes());
    let query = QueryBody {
        number: 0,
        elements: &elements,
    };
    let answer = evaluator.evaluate(&query, &mut rng).unwrap();
    let evaluation = EvaluationBody::decode(&answer).unwrap();
    let answers: Vec<RistrettoPoint> = evaluation.elements.iter().copied().map(point).collect();
    assert_eq!(answers[2], answers[0] + answers[1]);
    assert_eq!(answers[3], answers[0] + answers[0]);
    assert_eq!(answers[4], -answers[0]);
    for (at, answer) in answers.iter().enumerate() {
        // Outputs are of four times an item's own point.
        let element = (answer * Scalar::from(4_u8)).compress().to_bytes();
        let outputs = overlap_crypto::voprf::finalize(backend, &inputs, &[element; 4]);
        for (item, output) in outputs.iter().enumerate() {
            let keys = overlap_crypto::suite::derive("OVL1/keys", &[&context.0, output]);
            let is_tag = tags.contains(&keys[..16].try_into().unwrap());
            assert_eq!(is_tag, at == item && at < 2, "answer {at} for item {item}");
        }
    }
}

#[test]
fn a_claim_forged_from_a_tag_seen_on_the_wire_is_refused() {
    let setup = setup();
    let (_, mut releasing, _, _, theirs) = setup.at_slices(|_, _, _| {});
    assert_eq!(releasing.release(), Some(0));
    let forged = ClaimsBody {
        index: 0,
        label_bytes: 17 + 24,
        claims: &[theirs[0].derived.tag],
        labels: &[0; 41],
    };
    assert_eq!(
        releasing.admit_claims(&forged, &theirs),
        Err(Fault::ClaimUnknown)
    );
}

#[test]
fn a_slice_that_was_not_committed_to_is_refused() {
    let setup = setup();
    let (mut awaiting, _, slice, own, _) = setup.at_slices(|slice, _, _| slice.commitment[0] ^= 1);
    let refused = setup.match_slice(&mut awaiting, &slice.payload, &own).err();
    assert_eq!(refused, Some(Error::Peer(Fault::CommitmentMismatch)));
}

#[test]
fn malformed_slices_are_refused_with_their_own_codes() {
    let setup = setup();
    let own = setup.entries();
    let refused = |tags: &[[u8; 16]], label_bytes: u16| {
        let labels = vec![0; tags.len() * usize::from(label_bytes)];
        let slice = forge(&setup, tags, &labels, label_bytes);
        let (mut awaiting, _) = setup.commit(&slice);
        match setup.match_slice(&mut awaiting, &slice.payload, &own) {
            Err(Error::Peer(fault)) => Some(fault),
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    };
    let sealed = 57;
    let tags = [[1; 16], [2; 16], [3; 16], [4; 16]];
    assert_eq!(refused(&tags, sealed), None);
    assert_eq!(
        refused(&[tags[0], tags[2], tags[1], tags[3]], sealed),
        Some(Fault::TagsNotIncreasing)
    );
    assert_eq!(
        refused(&[tags[0], tags[0], tags[1], tags[3]], sealed),
        Some(Fault::TagsNotIncreasing)
    );
    assert_eq!(refused(&tags[..3], sealed), Some(Fault::WrongCount));
    assert_eq!(refused(&tags, sealed + 1), Some(Fault::LabelLength));
}

#[test]
fn a_slice_of_another_place_or_run_is_refused() {
    let setup = setup();
    let (mut awaiting, _, slice, own, theirs) = setup.at_slices(|_, _, _| {});
    // Of another run: its commitment binds the session.
    let other = ListFlow {
        session: SessionId([0xee; 32]),
        ..setup.flow
    };
    let other = Evaluator::new(Backend::detect(), other, setup.evaluator_company.key()).unwrap();
    let labels = labels(&setup.evaluator_company, &setup.flow, &theirs);
    let replayed = other.seal_slice(0, &theirs, &labels).unwrap();
    assert_ne!(replayed, slice);
    let refused = setup
        .match_slice(&mut awaiting, &replayed.payload, &own)
        .err();
    assert_eq!(refused, Some(Error::Peer(Fault::CommitmentMismatch)));
    let (mut awaiting, ..) = setup.at_slices(|_, _, _| {});
    setup
        .match_slice(&mut awaiting, &slice.payload, &own)
        .unwrap();
    let again = setup.match_slice(&mut awaiting, &slice.payload, &own).err();
    assert_eq!(again, Some(Error::Peer(Fault::UnexpectedFrame)));
}

/// Selective failure: a malicious evaluator damages the label of one customer and watches whether the receiver behaves
/// differently, to learn whether that customer is in the receiver's count tier.
#[test]
fn a_bad_label_for_a_count_tier_match_leaves_the_receivers_stream_as_it_was() {
    let setup = setup();
    let sealed_bytes = setup.flow.evaluator_labels.sealed_bytes();
    for victim in 0..4 {
        let streams: Vec<(Vec<u8>, usize)> = [false, true]
            .into_iter()
            .map(|damaged| {
                let (_, _, slice, own, theirs) = setup.at_slices(|_, _, _| {});
                let position = theirs
                    .iter()
                    .position(|entry| entry.owner == victim)
                    .unwrap();
                let body = SliceBody::decode(&slice.payload).unwrap();
                let mut labels = body.labels.to_vec();
                if damaged {
                    labels[position * sealed_bytes] ^= 1;
                }
                let slice = forge(&setup, body.tags, &labels, body.label_bytes);
                let (mut awaiting, _) = setup.commit(&slice);
                let outcome = setup
                    .match_slice(&mut awaiting, &slice.payload, &own)
                    .unwrap();
                let claims = outcome.claims.clone();
                awaiting.done(outcome.done);
                let complete = awaiting.finish().unwrap();
                let opened = complete.open(Backend::detect(), &outcome.matches).unwrap();
                let unopened = opened
                    .iter()
                    .filter(|opened| opened.label.is_none())
                    .count();
                (claims, unopened)
            })
            .collect();
        assert_eq!(streams[0].0, streams[1].0, "customer {victim}");
        assert_eq!((streams[0].1, streams[1].1), (0, 1));
    }
}

#[test]
fn a_label_that_names_a_stage_outside_the_list_tier_counts_as_no_match() {
    let setup = setup();
    let evaluator = setup.evaluator();
    let theirs = published(&evaluator, &KEYS, &mut rng(4));
    let mut labels = Labels::with_capacity(setup.flow.evaluator_labels, 4);
    for stage in [0, 1, 2, 200] {
        labels
            .push(&Label {
                stage,
                pseudonym: [0; 16],
                fields: b"",
            })
            .unwrap();
    }
    let slice = evaluator.seal_slice(0, &theirs, &labels).unwrap();
    let (mut awaiting, _) = setup.commit(&slice);
    let outcome = setup
        .match_slice(&mut awaiting, &slice.payload, &setup.entries())
        .unwrap();
    awaiting.done(outcome.done);
    let complete = awaiting.finish().unwrap();
    let opened = complete.open(Backend::detect(), &outcome.matches).unwrap();
    let stages: Vec<Option<u8>> = opened
        .iter()
        .map(|opened| opened.label.map(|label| label.stage))
        .collect();
    assert_eq!(stages, [Some(0), Some(1), None, None]);
}

#[test]
fn the_same_snapshot_seals_to_the_same_bytes() {
    let setup = setup();
    let (_, _, one, _, theirs) = setup.at_slices(|_, _, _| {});
    let evaluator = setup.evaluator();
    let labels = labels(&setup.evaluator_company, &setup.flow, &theirs);
    assert_eq!(evaluator.seal_slice(0, &theirs, &labels).unwrap(), one);
}

#[test]
fn tags_of_two_epochs_and_two_partners_have_nothing_in_common() {
    let setup = setup();
    let tags = |flow: ListFlow| -> Vec<[u8; 16]> {
        let evaluator =
            Evaluator::new(Backend::detect(), flow, setup.evaluator_company.key()).unwrap();
        let mut items = Items::with_capacity(flow.context, support::NORMALISER, 4);
        for (owner, key) in KEYS {
            items.push(owner, KeyType::Email, key.as_bytes()).unwrap();
        }
        let entries = evaluator.derive(&items).unwrap();
        entries.iter().map(|entry| entry.derived.tag).collect()
    };
    let base = tags(setup.flow);
    let public_key = *setup.flow.public_key.encoded();
    let (evaluator, receiver) = (setup.evaluator_company.id(), setup.receiver_company.id());
    for context in [
        Context::new(&evaluator, &receiver, 2, &public_key),
        Context::new(&receiver, &evaluator, 1, &public_key),
    ] {
        let other = tags(ListFlow {
            context,
            ..setup.flow
        });
        assert!(base.iter().all(|tag| !other.contains(tag)));
    }
}

#[test]
fn a_tag_outside_its_slice_is_refused() {
    let setup = setup();
    let flow = ListFlow {
        queries: 0,
        tags: 8_193,
        ..setup.flow
    };
    let labels = vec![0; 57];
    let first = |tag: [u8; 16]| {
        let slice = forge(&setup, &[tag], &labels, 57);
        let (body, _) = Answering::new(flow)
            .finish()
            .unwrap()
            .commit(&[slice.commitment, [0; 32]])
            .unwrap();
        let mut awaiting = Querying::new(flow)
            .finish()
            .unwrap()
            .admit(&CommitmentsBody::decode(&body).unwrap())
            .unwrap();
        setup.match_slice(&mut awaiting, &slice.payload, &[]).err()
    };
    assert_eq!(first([0x7f; 16]), None);
    assert_eq!(first([0x80; 16]), Some(Error::Peer(Fault::TagOutsideSlice)));
}
