//! Frames out of turn, and counts that are not the announced ones.

mod support;

use overlap_crypto::{
    backend::{Backend, RistrettoPoint, Scalar},
    fault::Fault,
    handshake::Mode,
    item::Entry,
    list::{Answering, EarlierClaims, Evaluator, Label, Labels, ListFlow, Querying, Releasing},
    wire::{ClaimsBody, CommitmentsBody, EarlierClaimsBody, EvaluationBody, QueryBody, TagsBody},
};
use support::{rng, setup::setup};

#[test]
fn repeated_misplaced_and_malformed_claims_are_refused_with_their_own_codes() {
    let setup = setup();
    let (_, mut early, _, _, theirs) = setup.at_slices(|_, _, _| {});
    let claims: Vec<[u8; 16]> = theirs.iter().map(|entry| entry.derived.claim).collect();
    let admit = |releasing: &mut Releasing, index, claims: &[[u8; 16]], label_bytes, stage| {
        let mut labels = vec![0; usize::from(label_bytes) * claims.len()];
        for label in labels.chunks_exact_mut(usize::from(label_bytes)) {
            label[0] = stage;
        }
        let body = ClaimsBody {
            index,
            label_bytes,
            claims,
            labels: &labels,
        };
        let claimed = releasing.admit_claims(&body, &theirs);
        claimed.map(|claimed| claimed.len())
    };
    assert_eq!(
        admit(&mut early, 0, &claims, 41, 0),
        Err(Fault::UnexpectedFrame),
        "before the slice"
    );
    let (_, mut releasing, ..) = setup.at_slices(|_, _, _| {});
    releasing.release();
    let mut admit = |index, claims: &[[u8; 16]], label_bytes, stage| {
        admit(&mut releasing, index, claims, label_bytes, stage)
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

#[test]
fn labels_cannot_be_opened_before_the_last_slice() {
    let setup = setup();
    let (awaiting, ..) = setup.at_slices(|_, _, _| {});
    assert!(awaiting.finish().is_err());
}

#[test]
fn at_most_a_window_of_slices_is_out_without_claims() {
    let setup = setup();
    let flow = ListFlow {
        queries: 0,
        // Labels of 57 sealed bytes: 524,288 / 73 = 7,182 tags a slice, so these make eight.
        tags: 7_000 * 8,
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
    assert!(
        awaiting.withdraw(&[], true).is_err(),
        "before the earlier claims"
    );
    let earlier = awaiting
        .claim_earlier(&EarlierClaims::new(flow.receiver_labels), true)
        .unwrap();
    assert!(
        awaiting
            .claim_earlier(&EarlierClaims::new(flow.receiver_labels), true)
            .is_err(),
        "after the last"
    );
    let earlier = EarlierClaimsBody::decode(&earlier).unwrap();
    let withdrawals = awaiting.withdraw(&[one], true).unwrap();
    let withdrawals = TagsBody::decode(&withdrawals).unwrap();
    assert_eq!(
        releasing.admit_withdrawals(&withdrawals),
        Err(Fault::UnexpectedFrame)
    );
    let claims = ClaimsBody::decode(&outcome.claims).unwrap();
    assert_eq!(
        releasing.admit_earlier_claims(&earlier, &[]),
        Err(Fault::UnexpectedFrame),
        "before the claims of the slices"
    );
    releasing.admit_claims(&claims, &[]).unwrap();
    assert_eq!(
        releasing.admit_withdrawals(&withdrawals),
        Err(Fault::UnexpectedFrame),
        "before the earlier claims"
    );
    releasing.admit_earlier_claims(&earlier, &[]).unwrap();
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
fn claims_on_earlier_tags_need_the_claim_that_belongs_to_the_tag() {
    let setup = setup();
    let flow = ListFlow {
        queries: 0,
        tags: 0,
        mode: Mode::Delta,
        ..setup.flow
    };
    let mut rng = rng(3);
    let mut entries: Vec<Entry> = (0..3)
        .map(|owner| Entry {
            owner,
            ..Entry::padding(&mut rng)
        })
        .collect();
    entries.sort_by_key(|entry| entry.derived.tag);
    let evaluator = Evaluator::new(Backend::detect(), flow, setup.evaluator_company.key()).unwrap();
    let labels = Labels::with_capacity(flow.evaluator_labels, 0);
    let slice = evaluator.seal_slice(0, &[], &labels).unwrap();
    let stage = flow.receiver_stages.iter().next().unwrap();
    // What comes of claims on these entries, each with its tag, its claim and a stage.
    let refuse = |claims: &[(usize, usize, u8)]| {
        let mut committing = Answering::new(flow).finish().unwrap();
        committing.remove(&[], true).unwrap();
        let (_, mut releasing) = committing.commit(&[slice.commitment]).unwrap();
        releasing.release().unwrap();
        let empty = ClaimsBody {
            index: 0,
            label_bytes: flow.receiver_labels.plain_bytes() as u16,
            claims: &[],
            labels: &[],
        };
        releasing.admit_claims(&empty, &[]).unwrap();
        let tags: Vec<[u8; 16]> = claims
            .iter()
            .map(|(tag, _, _)| entries[*tag].derived.tag)
            .collect();
        let values: Vec<[u8; 16]> = claims
            .iter()
            .map(|(_, claim, _)| entries[*claim].derived.claim)
            .collect();
        let labels: Vec<u8> = claims
            .iter()
            .flat_map(|(_, _, stage)| {
                let mut label = vec![0; flow.receiver_labels.plain_bytes()];
                label[0] = *stage;
                label
            })
            .collect();
        let body = EarlierClaimsBody {
            last: true,
            label_bytes: flow.receiver_labels.plain_bytes() as u16,
            tags: &tags,
            claims: &values,
            labels: &labels,
        };
        releasing
            .admit_earlier_claims(&body, &entries)
            .map(|claimed| claimed.iter().map(|claim| claim.owner).collect::<Vec<_>>())
    };
    let owners = [entries[0].owner, entries[2].owner];
    assert_eq!(refuse(&[(0, 0, stage), (2, 2, stage)]), Ok(owners.to_vec()));
    assert_eq!(refuse(&[(0, 1, stage)]), Err(Fault::ClaimUnknown));
    assert_eq!(
        refuse(&[(2, 2, stage), (0, 0, stage)]),
        Err(Fault::TagsNotIncreasing)
    );
    assert_eq!(
        refuse(&[(0, 0, stage), (0, 0, stage)]),
        Err(Fault::TagsNotIncreasing)
    );
    let count_tier = (0..).find(|stage| !flow.receiver_stages.contains(*stage));
    assert_eq!(
        refuse(&[(0, 0, count_tier.unwrap())]),
        Err(Fault::ClaimStage)
    );
    // The builder gives what the evaluator takes.
    let mut claims = EarlierClaims::new(flow.receiver_labels);
    let label = Label {
        stage,
        pseudonym: [7; 16],
        fields: &[],
    };
    claims
        .push(&entries[1].derived.tag, &entries[1].derived.claim, &label)
        .unwrap();
    assert!(claims.len() == 1 && !claims.is_empty() && !claims.is_full());
}
