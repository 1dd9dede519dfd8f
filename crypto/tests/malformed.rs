//! Z-05: every malformed frame is refused with its own stable code, and no bytes make a decoder panic.
//!
//! `data/malformed/manifest.txt` names one file a malformed body, its frame kind and the expected fault.

#[path = "support/vectors.rs"]
mod vectors;

use std::{collections::BTreeSet, path::Path};

use overlap_crypto::{
    backend::Backend,
    context::{Context, SessionId},
    fault::Fault,
    item::Items,
    list::{Evaluator, LabelFormat, ListFlow, Receiver, StageSet},
    terms::KeyType,
    voprf::{PublicKey, SecretKey},
    wire::{Flow, FrameKind, Message},
};
use proptest::prelude::*;
use rand_core::SeedableRng;
use serde_json::Value;

fn kind(name: &str) -> FrameKind {
    *FrameKind::ALL
        .iter()
        .find(|kind| kind.name() == name)
        .expect("a frame kind")
}

fn flow() -> (ListFlow, SecretKey) {
    let key = SecretKey::derive(&[1; 32], b"malformed").expect("a key");
    let format = LabelFormat::new(0).expect("short labels");
    let flow = ListFlow {
        session: SessionId([1; 32]),
        mode: overlap_crypto::handshake::Mode::Full,
        flow: Flow::InitiatorQueries,
        context: Context([2; 16]),
        public_key: key.public_key(),
        queries: 5,
        tags: 5,
        chunk_elements: 5,
        evaluator_labels: format,
        receiver_labels: format,
        evaluator_stages: StageSet::default(),
        receiver_stages: StageSet::default(),
    };
    (flow, key)
}

/// Decodes a body, and takes the steps that check its group elements.
fn refuse(kind: FrameKind, body: &[u8]) -> Result<(), Fault> {
    let backend = Backend::detect();
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let (flow, key) = flow();
    match Message::decode(kind, body)? {
        Message::Hello(hello) => match hello.epoch_key {
            Some(key) => PublicKey::decode(&key.public_key).map(|_| ()),
            None => Ok(()),
        },
        Message::Query(query) => {
            let evaluator = Evaluator::new(backend, flow, key).expect("the flow's key");
            evaluator.evaluate(&query, &mut rng).map(|_| ())
        }
        Message::Evaluation(evaluation) => {
            let mut items = Items::with_capacity(flow.context, 1, 5);
            for owner in 0..5 {
                items
                    .push(owner, KeyType::Email, &[b'a', owner as u8])
                    .expect("a short value");
            }
            let receiver = Receiver::new(backend, flow);
            let blinded = receiver.blind(items, &mut rng).expect("one chunk");
            blinded.finish(&receiver, &evaluation).map(|_| ())
        }
        Message::CountOpen(open) => PublicKey::decode(&open.exponent).map(|_| ()),
        Message::CountElements(elements) => {
            backend.decode(elements.elements)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

#[test]
fn z05_every_malformed_frame_is_refused_with_its_own_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/malformed");
    let manifest = std::fs::read_to_string(folder.join("manifest.txt")).unwrap();
    let mut named = BTreeSet::new();
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let [name, kind_name, fault] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("{line}");
        };
        let text = std::fs::read_to_string(folder.join(format!("{name}.hex"))).unwrap();
        let body = hex::decode(text.trim_end()).unwrap();
        let expected = Fault::from_name(fault).expect("a fault's name");
        assert_eq!(refuse(kind(kind_name), &body), Err(expected), "{name}");
        assert!(named.insert(format!("{name}.hex")), "{name} is there twice");
    }
    // No kind of frame without the faults that every body can have.
    for kind in FrameKind::ALL {
        let kind = kind.name().to_lowercase().replace('_', "-");
        for fault in ["empty", "short", "trailing"] {
            let name = format!("{kind}-{fault}.hex");
            assert!(named.contains(&name), "{name} is missing");
        }
    }
    // No file without an expectation.
    let files: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "manifest.txt")
        .collect();
    assert_eq!(files, named);
}

/// Well-formed bodies out of the transcript vectors.
fn good() -> Vec<(FrameKind, Vec<u8>)> {
    let documents: Vec<Value> = vectors::all()
        .iter()
        .map(|(_, text)| serde_json::from_str(text).expect("the generator writes JSON"))
        .collect();
    let body = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hexadecimal");
    let [handshake, list, count] = documents.as_slice() else {
        panic!("three documents");
    };
    let side = &handshake["sides"][0];
    let counting = &count["sides"][0];
    vec![
        (FrameKind::Hello, body(&side["hello"])),
        (FrameKind::Confirm, body(&side["confirm"])),
        (FrameKind::Receipt, body(&side["receipt"])),
        (FrameKind::Abort, vec![0, 45]),
        (FrameKind::Resume, vec![7; 176]),
        (FrameKind::Query, body(&list["query"])),
        (FrameKind::Evaluation, body(&list["evaluation"])),
        (FrameKind::Commitments, body(&list["commitments"])),
        (FrameKind::Slice, body(&list["slice"])),
        (FrameKind::Claims, body(&list["claims"])),
        (FrameKind::CountCommit, body(&counting["commit"])),
        (FrameKind::CountOpen, body(&counting["open"])),
        (FrameKind::CountElements, body(&counting["elements"][0])),
        (FrameKind::CountReturns, body(&counting["returns"][0])),
    ]
}

#[test]
fn z05_no_body_is_a_prefix_or_an_extension_of_another() {
    for (kind, body) in good() {
        assert!(Message::decode(kind, &body).is_ok(), "{kind:?}");
        for length in 0..body.len() {
            assert!(
                Message::decode(kind, &body[..length]).is_err(),
                "{kind:?} {length}"
            );
        }
        let longer = [body.as_slice(), &[0]].concat();
        assert!(Message::decode(kind, &longer).is_err(), "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn z05_decoding_never_panics_and_is_canonical(
        kind in prop::sample::select(FrameKind::ALL),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Ok(message) = Message::decode(kind, &bytes) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }

    #[test]
    fn z05_damaged_bodies_never_panic_and_stay_canonical(
        choice in any::<prop::sample::Index>(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        thread_local!(static GOOD: Vec<(FrameKind, Vec<u8>)> = good());
        let (kind, mut body) = GOOD.with(|good| choice.get(good).clone());
        let position = position.index(body.len());
        body[position] = byte;
        if let Ok(message) = Message::decode(kind, &body) {
            prop_assert_eq!(message.encode(), body);
        }
    }
}
