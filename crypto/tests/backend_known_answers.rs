//! The RFCs' test vectors through every engine.
#![expect(clippy::unwrap_used, reason = "tests")]

use overlap_crypto::backend::{Backend, ElementFault, Encoded, Messages, RistrettoPoint, Scalar};
use serde::Deserialize;

#[derive(Deserialize)]
struct Rfc9496 {
    multiples_of_generator: Vec<String>,
    invalid_encodings: Vec<InvalidEncoding>,
    element_derivation: Vec<Derivation>,
}

#[derive(Deserialize)]
struct InvalidEncoding {
    fault: String,
    encoding: String,
}

#[derive(Deserialize)]
struct Derivation {
    uniform: String,
    encoding: String,
}

#[derive(Deserialize)]
struct Rfc9380 {
    dst: String,
    vectors: Vec<Expansion>,
}

#[derive(Deserialize)]
struct Expansion {
    message: String,
    length_bytes: u16,
    uniform: String,
}

#[derive(Deserialize)]
struct Rfc9497 {
    vectors: Vec<Blinding>,
}

#[derive(Deserialize)]
struct Blinding {
    dst: String,
    input: String,
    blind: String,
    blinded_element: String,
    secret_key: String,
    evaluation_element: String,
}

fn rfc9496() -> Rfc9496 {
    serde_json::from_str(include_str!("data/rfc9496-ristretto255.json")).unwrap()
}

fn element(hex: &str) -> Encoded {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn scalar(hex: &str) -> Scalar {
    Scalar::from_canonical_bytes(element(hex)).unwrap()
}

fn one_message(message: &[u8]) -> Messages {
    let mut messages = Messages::default();
    messages.push(&[message]);
    messages
}

/// RFC 9380 §5.3.1 step by step, on the engine's SHA-512.
fn expand_message_xmd(backend: Backend, message: &[u8], dst: &[u8], length_bytes: u16) -> Vec<u8> {
    let hash = |parts: &[&[u8]]| {
        let mut messages = Messages::default();
        messages.push(parts);
        backend.sha512(&messages)[0]
    };
    let dst_length = [u8::try_from(dst.len()).unwrap()];
    let b0 = hash(&[
        &[0; 128],
        message,
        &length_bytes.to_be_bytes(),
        &[0],
        dst,
        &dst_length,
    ]);
    let mut block = hash(&[&b0, &[1], dst, &dst_length]);
    let mut uniform = block.to_vec();
    for index in 2.. {
        if uniform.len() >= usize::from(length_bytes) {
            break;
        }
        let mixed: Vec<u8> = b0.iter().zip(&block).map(|(a, b)| a ^ b).collect();
        block = hash(&[&mixed, &[index], dst, &dst_length]);
        uniform.extend_from_slice(&block);
    }
    uniform.truncate(length_bytes.into());
    uniform
}

#[test]
fn rfc9496_multiples_of_the_generator() {
    let expected: Vec<Encoded> = rfc9496()
        .multiples_of_generator
        .iter()
        .map(|hex| element(hex))
        .collect();
    assert_eq!(expected.len(), 16);
    for backend in Backend::available() {
        let name = backend.name();
        // The encodings themselves, without the identity's.
        let points = backend.decode(&expected[1..]).unwrap();
        assert_eq!(backend.encode(&points), expected[1..], "{name}");
        let generator = backend.decode(&expected[1..2]).unwrap();
        for (multiple, expected) in (0_u8..).zip(&expected) {
            let products = backend.multiply_encode(&Scalar::from(multiple), &generator);
            assert_eq!(products, [*expected], "{name} {multiple}");
        }
        // The sums G + kG by the comb.
        let mut sums = backend.decode(&[expected[1]; 15]).unwrap();
        let base = backend.fixed_base(&curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT);
        let scalars: Vec<Scalar> = (0_u8..15).map(Scalar::from).collect();
        backend.offset(&mut sums, &base, &scalars);
        assert_eq!(backend.encode(&sums), expected[1..], "{name}");
        let doubles: Vec<Encoded> = expected.iter().copied().step_by(2).skip(1).collect();
        assert_eq!(backend.double_encode(&sums)[..7], doubles, "{name}");
    }
}

#[test]
fn rfc9496_invalid_encodings() {
    let vectors = rfc9496().invalid_encodings;
    assert_eq!(vectors.len(), 29);
    for backend in Backend::available() {
        for vector in &vectors {
            let error = backend.decode(&[element(&vector.encoding)]).err().unwrap();
            let name = backend.name();
            assert_eq!(
                (error.index, error.fault),
                (0, ElementFault::NonCanonical),
                "{name} {}",
                vector.fault
            );
        }
        let error = backend.decode(&[[0; 32]]).err().unwrap();
        assert_eq!(
            (error.index, error.fault),
            (0, ElementFault::Identity),
            "{}",
            backend.name()
        );
    }
}

/// The engines derive elements from hashes only, so the vectors of A.3 check curve25519-dalek, and it the engines.
#[test]
fn rfc9496_element_derivation() {
    let vectors = rfc9496().element_derivation;
    assert_eq!(vectors.len(), 11);
    for vector in vectors {
        let uniform: [u8; 64] = hex::decode(vector.uniform).unwrap().try_into().unwrap();
        let derived = RistrettoPoint::from_uniform_bytes(&uniform)
            .compress()
            .to_bytes();
        assert_eq!(derived, element(&vector.encoding));
    }
    let dst = b"a tag";
    for backend in Backend::available() {
        let mut messages = Messages::default();
        let mut expected = Vec::new();
        for message in [&b""[..], b"abc", &[7; 200]] {
            messages.push(&[message]);
            let uniform = expand_message_xmd(backend, message, dst, 64)
                .try_into()
                .unwrap();
            expected.push(
                RistrettoPoint::from_uniform_bytes(&uniform)
                    .compress()
                    .to_bytes(),
            );
        }
        assert_eq!(
            backend.encode(&backend.hash_to_group(dst, &messages)),
            expected,
            "{}",
            backend.name()
        );
    }
}

#[test]
fn rfc9380_expand_message_xmd_sha512() {
    let file = include_str!("data/rfc9380-expand-message-xmd-sha512.json");
    let Rfc9380 { dst, vectors } = serde_json::from_str(file).unwrap();
    assert_eq!(vectors.len(), 10);
    for backend in Backend::available() {
        for vector in &vectors {
            let uniform = expand_message_xmd(
                backend,
                vector.message.as_bytes(),
                dst.as_bytes(),
                vector.length_bytes,
            );
            assert_eq!(hex::encode(uniform), vector.uniform, "{}", backend.name());
        }
    }
}

#[test]
fn rfc9497_blinded_and_evaluated_elements() {
    let file = include_str!("data/rfc9497-blinding.json");
    let Rfc9497 { vectors } = serde_json::from_str(file).unwrap();
    assert!(vectors.len() >= 5);
    for backend in Backend::available() {
        for vector in &vectors {
            let dst = hex::decode(&vector.dst).unwrap();
            let messages = one_message(&hex::decode(&vector.input).unwrap());
            let hashed = backend.hash_to_group(&dst, &messages);
            let blinded = backend.multiply_encode(&scalar(&vector.blind), &hashed);
            assert_eq!(
                blinded,
                [element(&vector.blinded_element)],
                "{}",
                backend.name()
            );
            let decoded = backend.decode(&blinded).unwrap();
            let evaluated = backend.multiply_encode(&scalar(&vector.secret_key), &decoded);
            assert_eq!(
                evaluated,
                [element(&vector.evaluation_element)],
                "{}",
                backend.name()
            );
        }
    }
}

/// FIPS 180-4's examples and the empty message.
#[test]
fn sha512_examples() {
    let long = b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    let examples: [(&[u8], &str); 3] = [
        (
            b"",
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        ),
        (
            b"abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (
            long,
            "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
        ),
    ];
    for backend in Backend::available() {
        let mut messages = Messages::default();
        for (message, _) in examples {
            messages.push(&[message]);
        }
        for (hash, (_, expected)) in backend.sha512(&messages).iter().zip(examples) {
            assert_eq!(hex::encode(hash), expected, "{}", backend.name());
        }
    }
}

#[test]
fn engines_by_name() {
    for backend in Backend::available() {
        assert_eq!(Backend::by_name(backend.name()), Some(backend));
    }
    assert_eq!(Backend::by_name("portable"), Some(Backend::portable()));
    assert_eq!(Backend::by_name("abacus"), None);
}

/// Where an engine is expected (in CI), its tests must not have been passed over in silence.
#[test]
fn expected_engines_are_available() {
    let expected = std::env::var("OVERLAP_EXPECT_BACKENDS").unwrap_or_default();
    for name in expected.split(',').filter(|name| !name.is_empty()) {
        assert!(
            Backend::by_name(name).is_some(),
            "this CPU or build has no engine {name}"
        );
    }
}
