//! Our own transcript vectors: every byte of small runs, and the randomness they were made with.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "test code shared with an example"
)]

use std::{collections::BTreeSet, convert::Infallible};

use overlap_crypto::{
    backend::Backend,
    context::{OrganizationId, PairId, RunId},
    count::{Committed, CountFlow, CountItems, Exchanging, Group, MIN_PADDING, Party, Returning},
    handshake::{EpochKey, Handshake, Hello, ListQuerier, Mode, PeerState, Session},
    item::{Entry, Items, PADDING},
    list::{Answering, Evaluator, Label, Labels, Querying, Receiver, fields},
    plan::Role,
    receipt::{Receipt, commit_result},
    signature::Signer,
    terms::{Category, KeyType, Padding, SideTerms, Stage, Terms, Tier},
    transcript::{Inbound, Outbound},
    voprf::SecretKey,
    wire::{
        ClaimsBody, CommitmentsBody, ConfirmBody, CountCommitBody, CountElementsBody,
        CountOpenBody, CountReturnsBody, EvaluationBody, Flow, Frame, FrameKind, QueryBody,
        SliceBody,
    },
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};

/// Randomness that remembers what it gave out.
struct Recorder {
    rng: ChaCha20Rng,
    given: Vec<Vec<u8>>,
}

impl Recorder {
    fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            given: Vec::new(),
        }
    }

    /// The blinds of 32 bytes that were given out since the last call, in hexadecimal.
    fn take_blinds(&mut self) -> Vec<String> {
        let given = self.given.drain(..).collect::<Vec<_>>().concat();
        given.chunks_exact(32).map(hex::encode).collect()
    }

    /// What was given out since the last call, in hexadecimal.
    fn take(&mut self) -> Vec<String> {
        self.given.drain(..).map(hex::encode).collect()
    }
}

impl TryRng for Recorder {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.rng.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.rng.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.rng.fill_bytes(bytes);
        self.given.push(bytes.to_vec());
        Ok(())
    }
}

impl TryCryptoRng for Recorder {}

const NORMALISER: u16 = 1;
const EXPORTER: [u8; 32] = [0xe1; 32];

struct Side {
    seed: [u8; 32],
    signer: Ed25519KeyPair,
    key: [u8; 32],
}

impl Side {
    fn new(byte: u8) -> Self {
        let seed = [byte; 32];
        let mut rng = ChaCha20Rng::seed_from_u64(byte.into());
        Self {
            seed,
            signer: Ed25519KeyPair::from_seed_unchecked(&seed).unwrap(),
            key: *SecretKey::random(&mut rng).to_bytes(),
        }
    }

    fn public_key(&self) -> [u8; 32] {
        Signer::public_key(&self.signer)
    }

    fn id(&self) -> OrganizationId {
        OrganizationId::of_key(&self.public_key())
    }

    fn secret(&self) -> SecretKey {
        SecretKey::from_bytes(&self.key).unwrap()
    }
}

fn side_terms(organization: OrganizationId) -> SideTerms {
    let stage = |id: &str, ordinal, category, tier| Stage {
        id: id.to_owned(),
        label: id.to_uppercase(),
        ordinal,
        category,
        tier,
    };
    SideTerms {
        organization,
        stages: vec![
            stage("prospect", 10, Category::Open, Tier::Count),
            stage("customer", 40, Category::Customer, Tier::List),
            stage("lost", 50, Category::Lost, Tier::Hidden),
        ],
        fields: vec!["name".to_owned(), "region".to_owned()],
        timeline: true,
        key_types: BTreeSet::from([KeyType::Email, KeyType::Domain]),
        domain_from_email: false,
        min_count: 5,
        count_by_count: true,
        label_field_bytes: 16,
        padding: Padding::None,
        max_queries: 1 << 22,
        max_tags: 1 << 22,
        epoch_days: 30,
        min_interval_s: 604_800,
    }
}

struct Run {
    sides: [Side; 2],
    terms: Terms,
    sessions: [Session; 2],
    document: Value,
}

fn run() -> Run {
    let sides = [Side::new(1), Side::new(2)];
    let terms = Terms::new(
        side_terms(sides[0].id()),
        side_terms(sides[1].id()),
        NORMALISER,
        "2026-01-01".to_owned(),
        Terms::DEFAULT_CHUNK_ELEMENTS,
    )
    .unwrap();
    let mut rng = Recorder::new(10);
    let mut proofs = Vec::new();
    let mut hello = |own: usize, list_queries, tags| {
        let (own, peer) = (&sides[own], &sides[1 - own]);
        let epoch_key = EpochKey::new(&own.secret(), 3, &own.id(), &peer.id(), &mut rng);
        proofs.push(rng.take());
        Hello {
            run: RunId([7; 16]),
            nonce: [own.seed[0]; 32],
            sender: own.id(),
            receiver: peer.id(),
            mode: Mode::Full,
            terms: terms.hash(),
            list_querier: ListQuerier::Open,
            list_queries,
            count_queries: 2,
            tags,
            run_counter: 0,
            receipt_head: [0; 32],
            epoch_key: Some(epoch_key),
            stage_sizes: vec![0, 16, 0],
            peer_receipt: None,
        }
    };
    let hellos = [hello(0, 3, 3), hello(1, 4, 4)];
    let handshake = |index: usize, role| {
        let pin = PeerState {
            organization_key: sides[1 - index].public_key(),
            highest_epoch: None,
        };
        Handshake::new(role, hellos[index].clone())
            .receive(&hellos[1 - index].encode(), &pin, &terms, &EXPORTER)
            .unwrap()
    };
    let confirming = [handshake(0, Role::Initiator), handshake(1, Role::Acceptor)];
    let confirms = [
        confirming[0].confirm(&sides[0].signer),
        confirming[1].confirm(&sides[1].signer),
    ];
    let [one, other] = confirming;
    let one = one
        .receive(&ConfirmBody::decode(&confirms[1]).unwrap())
        .unwrap();
    let other = other
        .receive(&ConfirmBody::decode(&confirms[0]).unwrap())
        .unwrap();

    // A short transcript, and both receipts over it.
    let mut out = Outbound::new(&one);
    let mut peer_out = Outbound::new(&other);
    let mut inbound = Inbound::new(&one);
    let mut peer_in = Inbound::new(&other);
    let chain_start = [
        hex::encode(out.chain().head()),
        hex::encode(peer_out.chain().head()),
    ];
    let mut chain = Vec::new();
    let payload = [1, 2, 3];
    for (flow, kind, payload) in [
        (Flow::Session, FrameKind::Confirm, confirms[0].as_slice()),
        (Flow::InitiatorQueries, FrameKind::Query, &payload),
        (Flow::InitiatorQueries, FrameKind::Query, &[]),
    ] {
        let frame = out.frame(flow, kind, payload).unwrap();
        peer_in.admit(&one.run().0, &frame).unwrap();
        chain.push(frame_json(&frame, &out.chain().head()));
    }
    let frame = peer_out
        .frame(Flow::Session, FrameKind::Confirm, &confirms[1])
        .unwrap();
    inbound.admit(&one.run().0, &frame).unwrap();
    let result = commit_result(&[0x5a; 32], b"result");
    let receipts = [
        Receipt::new(&one, out.chain(), inbound.chain(), result).sign(&sides[0].signer),
        Receipt::new(&other, peer_out.chain(), peer_in.chain(), result).sign(&sides[1].signer),
    ];
    let context = |session: &Session| hex::encode(session.evaluating().unwrap().context.0);
    let side_documents = [0, 1].map(|index: usize| {
        json!({
            "ed25519_seed": hex::encode(sides[index].seed),
            "organization_key": hex::encode(sides[index].public_key()),
            "organization_id": hex::encode(sides[index].id().0),
            "voprf_secret_key": hex::encode(sides[index].key),
            "voprf_public_key": hex::encode(sides[index].secret().public_key().encoded()),
            "epoch": 3,
            "context": context([&one, &other][index]),
            "key_proof_randomness": proofs[index],
            "hello": hex::encode(hellos[index].encode()),
            "confirm": hex::encode(&confirms[index]),
            "chain_start": chain_start[index],
            "receipt": hex::encode(receipts[index].encode()),
            "receipt_head": hex::encode(receipts[index].hash()),
        })
    });
    let document = json!({
        "description": "Handshake, transcript chain and receipts. Side 0 is the initiator, side 1 the acceptor.",
        "sides": side_documents,
        "pair": hex::encode(PairId::new(&sides[0].id(), &sides[1].id()).0),
        "terms": hex::encode(terms.encode()),
        "terms_hash": hex::encode(terms.hash()),
        "structure_hash": hex::encode(terms.structure_hash()),
        "exporter": hex::encode(EXPORTER),
        "session": hex::encode(one.id().0),
        "initiator_frames": chain,
        "result_salt": hex::encode([0x5a; 32]),
        "result": hex::encode(b"result"),
        "result_commitment": hex::encode(result),
    });
    Run {
        sides,
        terms,
        sessions: [one, other],
        document,
    }
}

fn frame_json(frame: &Frame<'_>, head: &[u8; 32]) -> Value {
    json!({
        "flow": frame.flow.code(),
        "kind": frame.kind.code(),
        "sequence": frame.sequence,
        "payload": hex::encode(frame.payload),
        "head": hex::encode(head),
    })
}

fn push(items: &mut Items, keys: &[(u32, KeyType, &str)]) {
    for (owner, key_type, value) in keys {
        items.push(*owner, *key_type, value.as_bytes()).unwrap();
    }
}

fn keys_json(keys: &[(u32, KeyType, &str)]) -> Vec<Value> {
    keys.iter()
        .map(|(owner, key_type, value)| json!({ "owner": owner, "type": key_type.code(), "value": value }))
        .collect()
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "owner": (entry.owner != PADDING).then_some(entry.owner),
        "tag": hex::encode(entry.derived.tag),
        "claim": hex::encode(entry.derived.claim),
        "master": hex::encode(entry.derived.master),
    })
}

/// The initiator queries: three list-tier keys, a count-tier key and one padding element against four tags, one of them
/// padding. One list-tier and one count-tier customer are shared.
fn list_flow(run: &Run) -> Value {
    let backend = Backend::detect();
    let flow = run.sessions[0].receiving().unwrap();
    let mut rng = Recorder::new(20);
    let receiver = Receiver::new(backend, flow);
    let evaluator = Evaluator::new(backend, flow, run.sides[1].secret()).unwrap();
    let mut querying = Querying::new(flow);
    let mut answering = Answering::new(flow);
    let chunk = querying.next_chunk().unwrap();

    let queried = [
        (0, KeyType::Email, "ann@example.com"),
        (0, KeyType::Domain, "example.com"),
        (1, KeyType::Email, "bob@example.org"),
        (2, KeyType::Email, "cyd@example.net"),
    ];
    let mut items = Items::with_capacity(flow.context, NORMALISER, chunk.count);
    push(&mut items, &queried);
    items.push_padding(&mut rng);
    let padding_input = rng.take();
    let blinded = receiver.blind(items, &mut rng).unwrap();
    let blinds = rng.take_blinds();
    let query = blinded.encode(chunk.number);
    answering
        .admit(&QueryBody::decode(&query).unwrap())
        .unwrap();
    let evaluation = evaluator
        .evaluate(&QueryBody::decode(&query).unwrap(), &mut rng)
        .unwrap();
    let proof_randomness = rng.take();
    answering.answered().unwrap();
    let body = EvaluationBody::decode(&evaluation).unwrap();
    querying.admit(&body).unwrap();
    let mut own = blinded.finish(&receiver, &body).unwrap().to_vec();
    let derived: Vec<Value> = own.iter().map(entry_json).collect();
    own.sort_by_key(|entry| entry.derived.tag);

    let disclosed = [
        (0, KeyType::Email, "ann@example.com"),
        (1, KeyType::Email, "cyd@example.net"),
        (2, KeyType::Email, "dan@example.com"),
    ];
    let mut items = Items::with_capacity(flow.context, NORMALISER, 3);
    push(&mut items, &disclosed);
    let mut entries = evaluator.derive(&items).unwrap().to_vec();
    entries.push(Entry::padding(&mut rng));
    let padding_entry = rng.take();
    entries.sort_by_key(|entry| entry.derived.tag);
    let names = ["Ann", "Cyd", "Dan"];
    let mut labels = Labels::with_capacity(flow.evaluator_labels, entries.len());
    let mut plain_labels = Vec::new();
    for entry in &entries {
        if entry.owner == PADDING {
            labels.push_padding();
            plain_labels.push(hex::encode(vec![0; flow.evaluator_labels.plain_bytes()]));
            continue;
        }
        let name = names[entry.owner as usize];
        let area =
            fields::encode(&[Some(name), None], flow.evaluator_labels.field_bytes()).unwrap();
        let label = Label {
            stage: 1,
            pseudonym: [0xa0 + entry.owner as u8; 16],
            fields: &area,
        };
        labels.push(&label).unwrap();
        plain_labels.push(hex::encode(
            [&[label.stage], label.pseudonym.as_slice(), &area].concat(),
        ));
    }
    let slice = evaluator.seal_slice(0, &entries, &labels).unwrap();
    let (commitments, mut releasing) = answering
        .finish()
        .unwrap()
        .commit(&[slice.commitment])
        .unwrap();
    let mut awaiting = querying
        .finish()
        .unwrap()
        .admit(&CommitmentsBody::decode(&commitments).unwrap())
        .unwrap();
    releasing.release().unwrap();
    let body = SliceBody::decode(&slice.payload).unwrap();
    let area = fields::encode(&[None, Some("EU")], flow.receiver_labels.field_bytes()).unwrap();
    let outcome = awaiting
        .admit(&body)
        .unwrap()
        .match_own(&body, &own, |owner| {
            // Customer 2 is of the count tier.
            (owner != 2).then(|| Label {
                stage: 1,
                pseudonym: [0xb0 + owner as u8; 16],
                fields: &area,
            })
        })
        .unwrap();
    let claims = ClaimsBody::decode(&outcome.claims).unwrap();
    let claimed: Vec<Value> = releasing
        .admit_claims(&claims, &entries)
        .unwrap()
        .iter()
        .map(|claimed| {
            json!({
                "owner": claimed.owner,
                "stage": claimed.label.stage,
                "pseudonym": hex::encode(claimed.label.pseudonym),
                "fields": fields::decode(claimed.label.fields, 2).unwrap(),
            })
        })
        .collect();
    awaiting.done(outcome.done);
    let complete = awaiting.finish().unwrap();
    let opened = complete.open(backend, &outcome.matches).unwrap();
    let opened: Vec<Value> = opened
        .iter()
        .map(|opened| {
            let label = opened.label.unwrap();
            json!({
                "owner": opened.owner,
                "tag": hex::encode(opened.tag),
                "stage": label.stage,
                "pseudonym": hex::encode(label.pseudonym),
                "fields": fields::decode(label.fields, 2).unwrap(),
            })
        })
        .collect();
    json!({
        "description": "One list flow: the initiator of handshake.json queries, the acceptor evaluates.",
        "flow": flow.flow.code(),
        "session": hex::encode(flow.session.0),
        "context": hex::encode(flow.context.0),
        "secret_key": hex::encode(run.sides[1].key),
        "public_key": hex::encode(flow.public_key.encoded()),
        "normaliser_version": NORMALISER,
        "receiver_items": keys_json(&queried),
        "receiver_padding_input_randomness": padding_input,
        "blind_randomness": blinds,
        "query": hex::encode(&query),
        "proof_randomness": proof_randomness,
        "evaluation": hex::encode(&evaluation),
        "receiver_keys": derived,
        "evaluator_items": keys_json(&disclosed),
        "evaluator_padding_randomness": padding_entry,
        "evaluator_keys": entries.iter().map(entry_json).collect::<Vec<_>>(),
        "plain_labels": plain_labels,
        "commitments": hex::encode(&commitments),
        "slice": hex::encode(&slice.payload),
        "claims": hex::encode(&outcome.claims),
        "evaluator_learns": claimed,
        "receiver_learns": opened,
    })
}

/// Both sides count three customers, two of them shared.
fn count_flow(run: &Run) -> Value {
    let backend = Backend::detect();
    let items = [
        ["eve@example.com", "fay@example.com", "gil@example.com"],
        ["fay@example.com", "gil@example.com", "hal@example.com"],
    ];
    let mut sides = Vec::new();
    let mut committed = Vec::new();
    for (index, values) in items.iter().enumerate() {
        let mut rng = Recorder::new(30 + index as u64);
        let flow = CountFlow::new(&run.sessions[index], &run.terms).unwrap();
        let party = Party::new(backend, flow, &mut rng);
        let exponent = rng.take();
        let mut batch = CountItems::with_capacity(party.flow(), values.len());
        for value in values {
            batch.push(value.as_bytes()).unwrap();
        }
        let group = Group {
            elements: party.blind(&batch),
            padding: party.padding(MIN_PADDING, &mut rng),
        };
        let padding = rng.take_blinds();
        let own = Committed::new(party, vec![group], &mut rng).unwrap();
        sides.push(json!({
            "exponent_randomness": exponent,
            "padding_randomness": padding,
            "values": values,
            "commit": hex::encode(own.encode()),
        }));
        committed.push(own);
    }
    let commits: Vec<CountCommitBody> = committed
        .iter()
        .map(|own| CountCommitBody::decode(&own.encode()).unwrap())
        .collect();
    let mut exchanging: Vec<Exchanging> = committed
        .into_iter()
        .zip(commits.into_iter().rev())
        .map(|(own, peer)| own.receive(peer).unwrap())
        .collect();
    let opens: Vec<Vec<u8>> = exchanging.iter().map(Exchanging::open_body).collect();
    let elements: Vec<Vec<Vec<u8>>> = exchanging
        .iter()
        .map(|own| own.element_bodies().collect())
        .collect();
    let mut returning: Vec<Returning> = Vec::new();
    for (index, mut own) in exchanging.drain(..).enumerate() {
        own.admit_open(CountOpenBody::decode(&opens[1 - index]).unwrap())
            .unwrap();
        for body in &elements[1 - index] {
            own.admit_elements(&CountElementsBody::decode(body).unwrap())
                .unwrap();
        }
        let exchanged = own.finish().unwrap();
        let pieces = exchanged
            .chunks()
            .map(|chunk| exchanged.reblind(chunk).unwrap())
            .collect();
        returning.push(exchanged.finish(pieces).unwrap());
    }
    let returns: Vec<Vec<Vec<u8>>> = returning
        .iter()
        .map(|own| own.return_bodies().collect())
        .collect();
    for (index, mut own) in returning.into_iter().enumerate() {
        for body in &returns[1 - index] {
            own.admit_returns(&CountReturnsBody::decode(body).unwrap())
                .unwrap();
        }
        let matrix = own.finish().unwrap();
        let side = sides[index].as_object_mut().unwrap();
        side.insert("open".to_owned(), json!(hex::encode(&opens[index])));
        let encode =
            |bodies: &[Vec<u8>]| -> Vec<String> { bodies.iter().map(hex::encode).collect() };
        side.insert("elements".to_owned(), json!(encode(&elements[index])));
        side.insert("returns".to_owned(), json!(encode(&returns[index])));
        side.insert("counts".to_owned(), json!(matrix.rows()));
    }
    json!({
        "description": "The count flow of the session of handshake.json: one group a side.",
        "session": hex::encode(run.sessions[0].id().0),
        "pair": hex::encode(PairId::new(&run.sides[0].id(), &run.sides[1].id()).0),
        "key_type": KeyType::Email.code(),
        "normaliser_version": NORMALISER,
        "sides": sides,
    })
}

/// Every vector file: its name and its text.
pub fn all() -> Vec<(&'static str, String)> {
    let run = run();
    [
        ("handshake.json", run.document.clone()),
        ("list-flow.json", list_flow(&run)),
        ("count-flow.json", count_flow(&run)),
    ]
    .into_iter()
    .map(|(name, document)| {
        let mut text = serde_json::to_string_pretty(&document).unwrap();
        text.push('\n');
        (name, text)
    })
    .collect()
}
