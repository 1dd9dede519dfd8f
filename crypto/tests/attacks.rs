//! What a malicious side can try, and what comes of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use overlap_crypto::{
    backend::{Backend, RistrettoPoint, Scalar},
    context::{Context, SessionId},
    fault::{Error, Fault},
    handshake::Mode,
    item::{Entry, Items},
    list::{
        Answering, AwaitingSlices, Committing, Evaluator, Label, Labels, ListFlow, Querying,
        Receiver, Releasing, SealedSlice, SliceOutcome,
    },
    terms::{KeyType, Tier},
    voprf::SecretKey,
    wire::{ClaimsBody, CommitmentsBody, EvaluationBody, Flow, QueryBody, SliceBody, TagsBody},
};
use support::{Company, items, labels, pseudonym, published, rng, sessions, side_terms, terms};

const KEYS: [(u32, &str); 4] = [
    (0, "a@example.com"),
    (1, "b@example.com"),
    (2, "c@example.com"),
    (3, "d@example.com"),
];

fn company(seed: u8) -> Company {
    let customers = KEYS
        .iter()
        .map(|(owner, key)| (*owner, (*owner % 2) as u8, vec![(*key).to_owned()]))
        .collect();
    Company::new(seed, customers)
}

/// The receiver lists its stage 0 and counts its stage 1; the evaluator lists both. They share every customer.
struct Setup {
    receiver_company: Company,
    evaluator_company: Company,
    flow: ListFlow,
}

fn setup() -> Setup {
    let (receiver_company, evaluator_company) = (company(1), company(2));
    let terms = terms(
        side_terms(receiver_company.id(), &[Tier::List, Tier::Count]),
        side_terms(evaluator_company.id(), &[Tier::List, Tier::List]),
        16,
    );
    let (session, _) = sessions(&receiver_company, &evaluator_company, &terms, &mut rng(1));
    Setup {
        flow: session.receiving().unwrap(),
        receiver_company,
        evaluator_company,
    }
}

impl Setup {
    fn evaluator(&self) -> Evaluator {
        Evaluator::new(Backend::detect(), self.flow, self.evaluator_company.key()).unwrap()
    }

    fn receiver(&self) -> Receiver {
        Receiver::new(Backend::detect(), self.flow)
    }

    /// What the receiver makes of an evaluation changed by `change`.
    fn evaluate(
        &self,
        change: impl FnOnce(&mut Vec<[u8; 32]>, &QueryBody<'_>),
    ) -> Result<Vec<Entry>, Fault> {
        let mut rng = rng(2);
        let receiver = self.receiver();
        let blinded = receiver.blind(items(&self.flow, &KEYS), &mut rng).unwrap();
        let query = blinded.encode(0);
        let query = QueryBody::decode(&query).unwrap();
        let answer = self.evaluator().evaluate(&query, &mut rng)?;
        let honest = EvaluationBody::decode(&answer)?;
        let mut elements = honest.elements.to_vec();
        change(&mut elements, &query);
        let evaluation = EvaluationBody {
            elements: &elements,
            ..honest
        };
        Ok(blinded.finish(&receiver, &evaluation)?.to_vec())
    }

    fn query(&self, elements: &[[u8; 32]]) -> Result<(), Fault> {
        self.evaluator()
            .evaluate(
                &QueryBody {
                    number: 0,
                    elements,
                },
                &mut rng(3),
            )
            .map(|_| ())
    }

    /// Both sides right before the first slice, with the receiver's sorted entries and the evaluator's.
    fn at_slices(
        &self,
        tamper: impl FnOnce(&mut SealedSlice, &Evaluator, &[Entry]),
    ) -> (
        AwaitingSlices,
        Releasing,
        SealedSlice,
        Vec<Entry>,
        Vec<Entry>,
    ) {
        let evaluator = self.evaluator();
        let own = self.entries();
        let theirs = published(&evaluator, &KEYS, &mut rng(4));
        let labels = labels(&self.evaluator_company, &self.flow, &theirs);
        let mut slice = evaluator.seal_slice(0, &theirs, &labels).unwrap();
        tamper(&mut slice, &evaluator, &theirs);
        let (awaiting, releasing) = self.commit(&slice);
        (awaiting, releasing, slice, own, theirs)
    }

    fn entries(&self) -> Vec<Entry> {
        let mut own = self.evaluate(|_, _| {}).unwrap();
        own.sort_by_key(|entry| entry.derived.tag);
        own
    }

    fn commit(&self, slice: &SealedSlice) -> (AwaitingSlices, Releasing) {
        let (querying, committing) = self.queried();
        let (body, releasing) = committing.commit(&[slice.commitment]).unwrap();
        let awaiting = querying
            .finish()
            .unwrap()
            .admit(&CommitmentsBody::decode(&body).unwrap())
            .unwrap();
        (awaiting, releasing)
    }

    /// Both sides after the queries.
    fn queried(&self) -> (Querying, Committing) {
        let mut rng = rng(5);
        let (mut querying, mut answering) = (Querying::new(self.flow), Answering::new(self.flow));
        let chunk = querying.next_chunk().unwrap();
        let blinded = self
            .receiver()
            .blind(items(&self.flow, &KEYS), &mut rng)
            .unwrap();
        let query = blinded.encode(chunk.number);
        let query = QueryBody::decode(&query).unwrap();
        answering.admit(&query).unwrap();
        let answer = self.evaluator().evaluate(&query, &mut rng).unwrap();
        answering.answered().unwrap();
        querying
            .admit(&EvaluationBody::decode(&answer).unwrap())
            .unwrap();
        (querying, answering.finish().unwrap())
    }

    fn match_slice(
        &self,
        awaiting: &mut AwaitingSlices,
        slice: &[u8],
        own: &[Entry],
    ) -> Result<SliceOutcome, Error> {
        let slice = SliceBody::decode(slice)?;
        awaiting.admit(&slice)?.match_own(&slice, own, |owner| {
            let stage = self.receiver_company.stage_of(owner);
            (stage == 0).then(|| Label {
                stage,
                pseudonym: pseudonym(owner),
                fields: b"",
            })
        })
    }
}

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
        blinded.finish(&receiver, &evaluation),
        Err(Fault::ProofInvalid)
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
    let unblinded = backend.encode(&evaluated);
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
fn repeated_misplaced_and_malformed_claims_are_refused_with_their_own_codes() {
    let setup = setup();
    let (_, mut releasing, _, _, theirs) = setup.at_slices(|_, _, _| {});
    let claims: Vec<[u8; 16]> = theirs.iter().map(|entry| entry.derived.claim).collect();
    let mut admit = |index, claims: &[[u8; 16]], label_bytes: u16, stage: u8| {
        let mut labels = vec![0; usize::from(label_bytes) * claims.len()];
        for label in labels.chunks_exact_mut(usize::from(label_bytes)) {
            label[0] = stage;
        }
        releasing
            .admit_claims(
                &ClaimsBody {
                    index,
                    label_bytes,
                    claims,
                    labels: &labels,
                },
                &theirs,
            )
            .map(|claimed| claimed.len())
    };
    assert_eq!(
        admit(0, &claims, 41, 0),
        Err(Fault::UnexpectedFrame),
        "before the slice"
    );
    let (_, mut releasing, ..) = setup.at_slices(|_, _, _| {});
    releasing.release();
    let mut admit = |index, claims: &[[u8; 16]], label_bytes: u16, stage: u8| {
        let mut labels = vec![0; usize::from(label_bytes) * claims.len()];
        for label in labels.chunks_exact_mut(usize::from(label_bytes)) {
            label[0] = stage;
        }
        releasing
            .admit_claims(
                &ClaimsBody {
                    index,
                    label_bytes,
                    claims,
                    labels: &labels,
                },
                &theirs,
            )
            .map(|claimed| claimed.len())
    };
    assert_eq!(admit(1, &claims, 41, 0), Err(Fault::OutOfOrder));
    assert_eq!(
        admit(0, &[claims[1], claims[1]], 41, 0),
        Err(Fault::ClaimRepeated)
    );
    assert_eq!(
        admit(0, &[claims[1], claims[0]], 41, 0),
        Err(Fault::ClaimRepeated)
    );
    assert_eq!(admit(0, &claims, 42, 0), Err(Fault::LabelLength));
    assert_eq!(
        admit(0, &claims, 41, 1),
        Err(Fault::ClaimStage),
        "a count-tier stage"
    );
    assert_eq!(admit(0, &[[0; 16]; 5], 41, 0), Err(Fault::WrongCount));
    assert_eq!(admit(0, &claims, 41, 0), Ok(4));
    assert_eq!(admit(0, &claims, 41, 0), Err(Fault::ReplayedFrame));
}

#[test]
fn a_slice_that_was_not_committed_to_is_refused() {
    let setup = setup();
    let (mut awaiting, _, slice, own, _) = setup.at_slices(|slice, _, _| slice.commitment[0] ^= 1);
    let refused = setup.match_slice(&mut awaiting, &slice.payload, &own).err();
    assert_eq!(refused, Some(Error::Peer(Fault::CommitmentMismatch)));
}

/// A malicious evaluator's slice: any bytes, committed to as they are.
fn forge(setup: &Setup, tags: &[[u8; 16]], labels: &[u8], label_bytes: u16) -> SealedSlice {
    let payload = SliceBody::encode(0, label_bytes, tags, labels);
    let commitment = overlap_crypto::suite::derive_truncated(
        "OVL1/slice",
        &[
            &setup.flow.session.0,
            &[setup.flow.flow.code()],
            &0_u32.to_be_bytes(),
            &payload,
        ],
    );
    SealedSlice {
        payload,
        commitment,
    }
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

#[test]
fn queries_and_answers_out_of_turn_are_refused_with_their_own_codes() {
    let setup = setup();
    let flow = ListFlow {
        queries: 5,
        chunk_elements: 2,
        ..setup.flow
    };
    let elements = [[1; 32]; 3];
    let mut answering = Answering::new(flow);
    let mut admit = |number, count: usize| {
        answering.admit(&QueryBody {
            number,
            elements: &elements[..count],
        })
    };
    assert_eq!(admit(1, 2), Err(Fault::OutOfOrder));
    assert_eq!(admit(0, 1), Err(Fault::WrongCount));
    assert_eq!(admit(0, 3), Err(Fault::WrongCount));
    assert_eq!(admit(0, 2), Ok(()));
    assert_eq!(admit(0, 2), Err(Fault::ReplayedFrame));
    assert_eq!(admit(1, 2), Ok(()));
    assert_eq!(admit(2, 2), Err(Fault::WrongCount));
    assert_eq!(admit(2, 1), Ok(()));
    assert_eq!(admit(3, 2), Err(Fault::UnexpectedFrame));
    assert!(answering.finish().is_err(), "nothing is answered");

    let answer = setup.evaluator();
    let point = |scalar: u64| {
        RistrettoPoint::mul_base(&Scalar::from(scalar))
            .compress()
            .to_bytes()
    };
    let answer = |number, count: u64| {
        let elements: Vec<[u8; 32]> = (1..=count).map(point).collect();
        answer
            .evaluate(
                &QueryBody {
                    number,
                    elements: &elements,
                },
                &mut rng(8),
            )
            .unwrap()
    };
    let mut querying = Querying::new(flow);
    let admit = |querying: &mut Querying, number, count| {
        querying.admit(&EvaluationBody::decode(&answer(number, count)).unwrap())
    };
    assert_eq!(
        admit(&mut querying, 0, 2),
        Err(Fault::UnexpectedFrame),
        "nothing is asked"
    );
    while querying.next_chunk().is_some() {}
    assert_eq!(admit(&mut querying, 1, 2), Err(Fault::OutOfOrder));
    assert_eq!(admit(&mut querying, 0, 1), Err(Fault::WrongCount));
    assert_eq!(admit(&mut querying, 0, 2), Ok(()));
    assert_eq!(admit(&mut querying, 0, 2), Err(Fault::ReplayedFrame));
    assert_eq!(querying.finish().unwrap_err(), Fault::UnexpectedFrame);
}

#[test]
fn commitments_for_another_number_of_tags_are_refused() {
    let setup = setup();
    let (querying, _) = setup.queried();
    let body = CommitmentsBody {
        tags: 5,
        prefix_bits: 0,
        hashes: &[[0; 32]],
    };
    let refused = querying.finish().unwrap().admit(&body).unwrap_err();
    assert_eq!(refused, Fault::WrongCount);
    let (querying, _) = setup.queried();
    let body = CommitmentsBody {
        tags: 4,
        prefix_bits: 1,
        hashes: &[[0; 32]; 2],
    };
    let refused = querying.finish().unwrap().admit(&body).unwrap_err();
    assert_eq!(refused, Fault::WrongCount);
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
fn labels_cannot_be_opened_before_the_last_slice() {
    let setup = setup();
    let (awaiting, ..) = setup.at_slices(|_, _, _| {});
    assert!(awaiting.finish().is_err());
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
fn at_most_a_window_of_slices_is_out_without_claims() {
    let setup = setup();
    let flow = ListFlow {
        queries: 0,
        tags: 8_192 * 8,
        ..setup.flow
    };
    let (_, mut releasing) = Answering::new(flow)
        .finish()
        .unwrap()
        .commit(&[[0; 32]; 8])
        .unwrap();
    let released: Vec<u32> = std::iter::from_fn(|| releasing.release()).collect();
    assert_eq!(released, [0, 1, 2, 3]);
    let empty = ClaimsBody {
        index: 0,
        label_bytes: 41,
        claims: &[],
        labels: &[],
    };
    releasing.admit_claims(&empty, &[]).unwrap();
    assert_eq!(releasing.release(), Some(4));
    assert_eq!(releasing.release(), None);
}

#[test]
fn delta_runs_end_their_removals_and_withdrawals_and_full_runs_have_none() {
    let setup = setup();
    let flow = ListFlow {
        queries: 0,
        tags: 0,
        mode: Mode::Delta,
        ..setup.flow
    };
    let (one, two, three) = ([1; 16], [2; 16], [3; 16]);
    let mut committing = Answering::new(flow).finish().unwrap();
    let mut awaiting = Querying::new(flow).finish().unwrap();
    let body = |bytes: &[u8]| TagsBody::decode(bytes).map(|body| (body.last, body.values.to_vec()));
    let first = committing.remove(&[one, two], false).unwrap();
    assert!(committing.remove(&[two], true).is_err(), "not increasing");
    let last = committing.remove(&[three], true).unwrap();
    assert!(committing.remove(&[], true).is_err(), "after the last");
    assert_eq!(body(&first), Ok((false, vec![one, two])));
    let decoded = TagsBody::decode(&first).unwrap();
    awaiting.admit_removals(&decoded).unwrap();
    assert_eq!(
        awaiting.admit_removals(&decoded),
        Err(Fault::TagsNotIncreasing)
    );
    awaiting
        .admit_removals(&TagsBody::decode(&last).unwrap())
        .unwrap();
    assert_eq!(
        awaiting.admit_removals(&decoded),
        Err(Fault::UnexpectedFrame)
    );

    let evaluator = Evaluator::new(Backend::detect(), flow, setup.evaluator_company.key()).unwrap();
    let labels = Labels::with_capacity(flow.evaluator_labels, 0);
    let slice = evaluator.seal_slice(0, &[], &labels).unwrap();
    let (commitments, mut releasing) = committing.commit(&[slice.commitment]).unwrap();
    let commitments = CommitmentsBody::decode(&commitments).unwrap();
    let early = Querying::new(flow)
        .finish()
        .unwrap()
        .admit(&commitments)
        .unwrap_err();
    assert_eq!(early, Fault::UnexpectedFrame, "before the removals");
    let mut awaiting = awaiting.admit(&commitments).unwrap();
    releasing.release().unwrap();
    assert!(
        awaiting.withdraw(&[], true).is_err(),
        "before the last claims"
    );
    let outcome = setup
        .match_slice(&mut awaiting, &slice.payload, &[])
        .unwrap();
    awaiting.done(outcome.done);
    assert!(!awaiting.is_complete());
    let withdrawals = awaiting.withdraw(&[one], true).unwrap();
    let withdrawals = TagsBody::decode(&withdrawals).unwrap();
    assert_eq!(
        releasing.admit_withdrawals(&withdrawals),
        Err(Fault::UnexpectedFrame)
    );
    let claims = ClaimsBody::decode(&outcome.claims).unwrap();
    releasing.admit_claims(&claims, &[]).unwrap();
    assert!(!releasing.is_complete());
    releasing.admit_withdrawals(&withdrawals).unwrap();
    assert!(awaiting.is_complete() && releasing.is_complete());
    awaiting.finish().unwrap();

    let mut full = Answering::new(ListFlow {
        mode: Mode::Full,
        ..flow
    })
    .finish()
    .unwrap();
    assert!(full.remove(&[], true).is_err());
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
