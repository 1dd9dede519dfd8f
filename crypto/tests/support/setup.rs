//! A list flow between two sides, stopped wherever a test wants to interfere.

use overlap_crypto::{
    backend::Backend,
    fault::{Error, Fault},
    item::Entry,
    list::{
        Answering, AwaitingSlices, Committing, Evaluator, Label, ListFlow, Querying, Receiver,
        Releasing, SealedSlice, SliceOutcome,
    },
    terms::Tier,
    wire::{CommitmentsBody, EvaluationBody, QueryBody, SliceBody},
};

use super::{Company, items, labels, pseudonym, published, rng, sessions, side_terms, terms};

pub const KEYS: [(u32, &str); 4] = [
    (0, "a@example.com"),
    (1, "b@example.com"),
    (2, "c@example.com"),
    (3, "d@example.com"),
];

pub fn company(seed: u8) -> Company {
    let customers = KEYS
        .iter()
        .map(|(owner, key)| (*owner, (*owner % 2) as u8, vec![(*key).to_owned()]))
        .collect();
    Company::new(seed, customers)
}

/// The receiver lists its stage 0 and counts its stage 1; the evaluator lists both. They share every customer.
pub struct Setup {
    pub receiver_company: Company,
    pub evaluator_company: Company,
    pub flow: ListFlow,
}

pub fn setup() -> Setup {
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
    pub fn evaluator(&self) -> Evaluator {
        Evaluator::new(Backend::detect(), self.flow, self.evaluator_company.key()).unwrap()
    }

    pub fn receiver(&self) -> Receiver {
        Receiver::new(Backend::detect(), self.flow)
    }

    /// What the receiver makes of an evaluation changed by `change`.
    pub fn evaluate(
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

    pub fn query(&self, elements: &[[u8; 32]]) -> Result<(), Fault> {
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
    pub fn at_slices(
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

    pub fn entries(&self) -> Vec<Entry> {
        let mut own = self.evaluate(|_, _| {}).unwrap();
        own.sort_by_key(|entry| entry.derived.tag);
        own
    }

    pub fn commit(&self, slice: &SealedSlice) -> (AwaitingSlices, Releasing) {
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
    pub fn queried(&self) -> (Querying, Committing) {
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

    pub fn match_slice(
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

/// A malicious evaluator's slice: any bytes, committed to as they are.
pub fn forge(setup: &Setup, tags: &[[u8; 16]], labels: &[u8], label_bytes: u16) -> SealedSlice {
    let payload = SliceBody::encode(0, label_bytes, tags, labels);
    let commitment = overlap_crypto::suite::derive_truncated(
        "OVL1/slice",
        &[
            &setup.flow.session.0,
            &[setup.flow.flow.code()],
            &0_u32.to_be_bytes(),
            &overlap_crypto::transcript::payload_digest(&payload),
        ],
    );
    SealedSlice {
        payload,
        commitment,
    }
}
