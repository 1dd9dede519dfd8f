//! Two sides in one process.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test binaries, none of which uses all of it"
)]

pub mod setup;

use std::collections::{BTreeMap, BTreeSet};

use overlap_crypto::{
    backend::Backend,
    context::{OrganizationId, RunId},
    handshake::{EpochKey, Handshake, Hello, ListQuerier, Mode, PeerState, Session},
    item::{Entry, Items},
    list::{
        Answering, Evaluator, Label, Labels, ListFlow, OpenedMatch, Querying, Receiver, Releasing,
        SlicesComplete, shuffled,
    },
    plan::Role,
    signature::Signer,
    terms::{Category, KeyType, Padding, SideTerms, Stage, Terms, Tier},
    voprf::SecretKey,
    wire::{ClaimsBody, CommitmentsBody, ConfirmBody, EvaluationBody, QueryBody, SliceBody},
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use ring::signature::Ed25519KeyPair;

pub const EXPORTER: [u8; 32] = [0xe0; 32];
pub const NORMALISER: u16 = 1;

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// The label of local customer `owner`.
pub fn pseudonym(owner: u32) -> [u8; 16] {
    let mut pseudonym = [0x50; 16];
    pseudonym[12..].copy_from_slice(&owner.to_be_bytes());
    pseudonym
}

/// One company of a test.
pub struct Company {
    pub signer: Ed25519KeyPair,
    pub key: SecretKey,
    pub epoch: u64,
    /// Local customer, stage index, keys.
    pub customers: Vec<(u32, u8, Vec<String>)>,
}

impl Company {
    pub fn new(seed: u8, customers: Vec<(u32, u8, Vec<String>)>) -> Self {
        Self {
            signer: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(),
            key: SecretKey::derive(&[seed; 32], b"test").unwrap(),
            epoch: 1,
            customers,
        }
    }

    pub fn id(&self) -> OrganizationId {
        OrganizationId::of_key(&Signer::public_key(&self.signer))
    }

    pub fn pin(&self) -> PeerState {
        PeerState {
            organization_key: Signer::public_key(&self.signer),
            highest_epoch: None,
        }
    }

    pub fn key(&self) -> SecretKey {
        SecretKey::from_bytes(&self.key.to_bytes()).unwrap()
    }

    pub fn keys_of(&self, side: &SideTerms, tier: Tier) -> Vec<(u32, &str)> {
        self.customers
            .iter()
            .filter(|(_, stage, _)| side.stages[usize::from(*stage)].tier == tier)
            .flat_map(|(owner, _, keys)| keys.iter().map(move |key| (*owner, key.as_str())))
            .collect()
    }

    pub fn stage_of(&self, owner: u32) -> u8 {
        self.customers
            .iter()
            .find(|(customer, _, _)| *customer == owner)
            .map(|(_, stage, _)| *stage)
            .unwrap()
    }
}

pub fn side_terms(organization: OrganizationId, tiers: &[Tier]) -> SideTerms {
    SideTerms {
        organization,
        stages: (0_u32..)
            .zip(tiers)
            .map(|(index, tier)| Stage {
                id: format!("stage{index}"),
                label: format!("Stage {index}"),
                ordinal: 10 * (index + 1),
                category: Category::Open,
                tier: *tier,
            })
            .collect(),
        fields: vec!["name".to_owned()],
        timeline: false,
        key_types: BTreeSet::from([KeyType::Email]),
        domain_from_email: false,
        min_count: 3,
        count_by_count: true,
        label_field_bytes: 24,
        padding: Padding::None,
        max_queries: 1 << 22,
        max_tags: 1 << 22,
        epoch_days: 30,
        min_interval_s: 604_800,
    }
}

pub fn terms(one: SideTerms, other: SideTerms, chunk_elements: u32) -> Terms {
    Terms::new(one, other, NORMALISER, "test".to_owned(), chunk_elements).unwrap()
}

/// Two companies of which some customers are shared.
pub fn companies() -> (Company, Company) {
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

/// [`companies`] and their terms: tiers by stage.
pub fn both(tiers: &[Tier], peer_tiers: &[Tier]) -> (Company, Company, Terms) {
    let (one, other) = companies();
    let terms = terms(
        side_terms(one.id(), tiers),
        side_terms(other.id(), peer_tiers),
        16,
    );
    (one, other, terms)
}

pub fn hello(own: &Company, peer: &Company, terms: &Terms, rng: &mut ChaCha20Rng) -> Hello {
    let side = terms.side(&own.id()).unwrap();
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    let list = own.keys_of(side, Tier::List).len() as u64;
    let count = own.keys_of(side, Tier::Count).len() as u64;
    Hello {
        run: RunId([7; 16]),
        nonce,
        sender: own.id(),
        receiver: peer.id(),
        mode: Mode::Full,
        terms: terms.hash(),
        list_querier: ListQuerier::Open,
        list_queries: side.padding.padded(list),
        count_queries: side.padding.padded(count),
        tags: side.padding.padded(list),
        run_counter: 0,
        receipt_head: [0; 32],
        epoch_key: Some(EpochKey::new(
            &own.key,
            own.epoch,
            &own.id(),
            &peer.id(),
            rng,
        )),
        stage_sizes: vec![0; side.stages.len()],
        peer_receipt: None,
    }
}

/// Both sides' sessions of one run.
pub fn sessions(
    initiator: &Company,
    acceptor: &Company,
    terms: &Terms,
    rng: &mut ChaCha20Rng,
) -> (Session, Session) {
    let one = Handshake::new(Role::Initiator, hello(initiator, acceptor, terms, rng));
    let other = Handshake::new(Role::Acceptor, hello(acceptor, initiator, terms, rng));
    let (first, second) = (one.payload().to_vec(), other.payload().to_vec());
    let one = one
        .receive(&second, &acceptor.pin(), terms, &EXPORTER)
        .unwrap();
    let other = other
        .receive(&first, &initiator.pin(), terms, &EXPORTER)
        .unwrap();
    let first = ConfirmBody::decode(&one.confirm(&initiator.signer)).unwrap();
    let second = ConfirmBody::decode(&other.confirm(&acceptor.signer)).unwrap();
    (
        one.receive(&second).unwrap(),
        other.receive(&first).unwrap(),
    )
}

/// What each side of a list flow ends up with, and what each sent.
#[derive(Default)]
pub struct ListResult {
    /// Receiver's owner to the evaluator's (stage, pseudonym).
    pub receiver_sees: BTreeSet<(u32, u8, [u8; 16])>,
    /// Evaluator's owner to the receiver's (stage, pseudonym).
    pub evaluator_sees: BTreeSet<(u32, u8, [u8; 16])>,
    /// Matches whose label did not open.
    pub unopened: usize,
    /// Receiver's frames.
    pub receiver_sent: Vec<Vec<u8>>,
    /// Evaluator's frames.
    pub evaluator_sent: Vec<Vec<u8>>,
    /// The receiver's proof that the flow is complete.
    pub complete: Option<SlicesComplete>,
    /// The evaluator's.
    pub releasing: Option<Releasing>,
}

pub fn items(flow: &ListFlow, keys: &[(u32, &str)]) -> Items {
    let mut items = Items::with_capacity(flow.context, NORMALISER, keys.len());
    for (owner, key) in keys {
        items.push(*owner, KeyType::Email, key.as_bytes()).unwrap();
    }
    items
}

/// The evaluator's entries in tag order, padded to the flow's number of tags.
pub fn published(evaluator: &Evaluator, keys: &[(u32, &str)], rng: &mut ChaCha20Rng) -> Vec<Entry> {
    let mut entries: Vec<Entry> = evaluator
        .derive(&items(evaluator.flow(), keys))
        .unwrap()
        .to_vec();
    entries.sort_by_key(|entry| entry.derived.tag);
    entries.dedup_by_key(|entry| entry.derived.tag);
    while (entries.len() as u64) < evaluator.flow().tags {
        entries.push(Entry::padding(rng));
    }
    entries.sort_by_key(|entry| entry.derived.tag);
    entries
}

pub fn labels(company: &Company, flow: &ListFlow, entries: &[Entry]) -> Labels {
    let mut labels = Labels::with_capacity(flow.evaluator_labels, entries.len());
    for entry in entries {
        if entry.owner == overlap_crypto::item::PADDING {
            labels.push_padding();
        } else {
            labels
                .push(&Label {
                    stage: company.stage_of(entry.owner),
                    pseudonym: pseudonym(entry.owner),
                    fields: b"",
                })
                .unwrap();
        }
    }
    labels
}

/// Runs a list flow in memory.
pub fn run_list_flow(
    backend: Backend,
    flow: ListFlow,
    (receiver_company, receiver_terms): (&Company, &SideTerms),
    (evaluator_company, evaluator_terms): (&Company, &SideTerms),
    list_queries: bool,
    rng: &mut ChaCha20Rng,
) -> ListResult {
    let mut result = ListResult::default();
    let receiver = Receiver::new(backend, flow);
    let evaluator = Evaluator::new(backend, flow, evaluator_company.key()).unwrap();

    // Queries
    let mut keys = receiver_company.keys_of(receiver_terms, Tier::Count);
    if list_queries {
        keys.extend(receiver_company.keys_of(receiver_terms, Tier::List));
    }
    let order = shuffled(u32::try_from(flow.queries).unwrap(), rng);
    let mut order = order.into_iter();
    let (mut querying, mut answering) = (Querying::new(flow), Answering::new(flow));
    let mut own = Vec::new();
    while let Some(chunk) = querying.next_chunk() {
        let mut items = Items::with_capacity(flow.context, NORMALISER, chunk.count);
        for index in order.by_ref().take(chunk.count) {
            match keys.get(index as usize) {
                Some((owner, key)) => items.push(*owner, KeyType::Email, key.as_bytes()).unwrap(),
                None => items.push_padding(rng),
            }
        }
        let blinded = receiver.blind(items, rng).unwrap();
        let frame = blinded.encode(chunk.number);
        let query = QueryBody::decode(&frame).unwrap();
        answering.admit(&query).unwrap();
        let answer = evaluator.evaluate(&query, rng).unwrap();
        answering.answered().unwrap();
        let evaluation = EvaluationBody::decode(&answer).unwrap();
        querying.admit(&evaluation).unwrap();
        own.extend_from_slice(&blinded.finish(&receiver, &evaluation).unwrap());
        result.receiver_sent.push(frame);
        result.evaluator_sent.push(answer);
    }
    own.sort_by_key(|entry: &Entry| entry.derived.tag);

    // Slices
    let layout = flow.layout();
    let disclosed = evaluator_company.keys_of(evaluator_terms, Tier::List);
    let entries = published(&evaluator, &disclosed, rng);
    let mut slices: BTreeMap<u32, Vec<Entry>> = (0..layout.slices())
        .map(|index| (index, Vec::new()))
        .collect();
    for entry in entries {
        slices
            .get_mut(&layout.slice_of(&entry.derived.tag))
            .unwrap()
            .push(entry);
    }
    let sealed: Vec<_> = slices
        .iter()
        .map(|(index, entries)| {
            evaluator
                .seal_slice(*index, entries, &labels(evaluator_company, &flow, entries))
                .unwrap()
        })
        .collect();
    let hashes: Vec<[u8; 32]> = sealed.iter().map(|slice| slice.commitment).collect();
    let (commitments, mut releasing) = answering.finish().unwrap().commit(&hashes).unwrap();
    let mut awaiting = querying
        .finish()
        .unwrap()
        .admit(&CommitmentsBody::decode(&commitments).unwrap())
        .unwrap();
    result.evaluator_sent.push(commitments);
    let mut matches = Vec::new();
    let list_stages = receiver_terms.stages_of(Tier::List);
    while let Some(index) = releasing.release() {
        let frame = sealed[index as usize].payload.clone();
        let slice = SliceBody::decode(&frame).unwrap();
        let ticket = awaiting.admit(&slice).unwrap();
        let in_slice: Vec<Entry> = own
            .iter()
            .copied()
            .filter(|entry| layout.slice_of(&entry.derived.tag) == index)
            .collect();
        let outcome = ticket
            .match_own(&slice, &in_slice, |owner| {
                let stage = receiver_company.stage_of(owner);
                list_stages.contains(stage).then(|| Label {
                    stage,
                    pseudonym: pseudonym(owner),
                    fields: b"",
                })
            })
            .unwrap();
        awaiting.done(outcome.done);
        matches.push(outcome.matches);
        let claims = ClaimsBody::decode(&outcome.claims).unwrap();
        for claimed in releasing.admit_claims(&claims, &slices[&index]).unwrap() {
            result.evaluator_sees.insert((
                claimed.owner,
                claimed.label.stage,
                claimed.label.pseudonym,
            ));
        }
        result.evaluator_sent.push(frame);
        result.receiver_sent.push(outcome.claims);
    }
    assert!(releasing.is_complete());
    let complete = awaiting.finish().unwrap();
    for matches in &matches {
        for OpenedMatch { owner, label, .. } in complete.open(backend, matches).unwrap().iter() {
            match label {
                Some(label) => {
                    result
                        .receiver_sees
                        .insert((owner, label.stage, label.pseudonym));
                }
                None => result.unopened += 1,
            }
        }
    }
    result.complete = Some(complete);
    result.releasing = Some(releasing);
    result
}
