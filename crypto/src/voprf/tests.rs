use std::collections::BTreeSet;

use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::{
    Blinded, Composites, GENERATOR, Proof, PublicKey, SecretKey, Statement, finalize, prove,
    prove_key, random_scalars, verify, verify_key,
};
use crate::{
    backend::{Backend, Encoded, Messages, RistrettoPoint, Scalar},
    context::Context,
    fault::{Fault, Misuse},
    suite::{CONTEXT_STRING, HASH_TO_GROUP_DST, HASH_TO_SCALAR_DST},
};

const VECTORS: &str = include_str!("../../tests/data/rfc9497-voprf-ristretto255-sha512.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Suite {
    #[serde(rename = "groupDST")]
    group_dst: String,
    key_info: String,
    seed: String,
    pk_sm: String,
    sk_sm: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Vector {
    blind: String,
    blinded_element: String,
    evaluation_element: String,
    input: String,
    output: String,
    proof: VectorProof,
}

#[derive(Deserialize)]
struct VectorProof {
    proof: String,
    r: String,
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn list<const N: usize>(text: &str) -> Vec<[u8; N]> {
    text.split(',').map(bytes).collect()
}

fn scalar(text: &str) -> Scalar {
    Scalar::from_canonical_bytes(bytes(text)).unwrap()
}

/// The vectors blind by multiplication. One element a batch, as the batch API multiplies all by the same scalar.
fn multiply_each(backend: Backend, scalars: &[Scalar], elements: &[Encoded]) -> Vec<Encoded> {
    scalars
        .iter()
        .zip(elements)
        .map(|(scalar, element)| {
            let point = backend.decode(std::slice::from_ref(element)).unwrap();
            backend.multiply_encode(scalar, &point)[0]
        })
        .collect()
}

/// The weights of ComputeComposites (RFC 9497 §2.2.1).
fn rfc_weights(public_key: &PublicKey, statement: Statement<'_>) -> Vec<Scalar> {
    let seed: [u8; 64] = Sha512::new()
        .chain_update([0, 32])
        .chain_update(public_key.encoded())
        .chain_update([
            0,
            u8::try_from(b"Seed-".len() + CONTEXT_STRING.len()).unwrap(),
        ])
        .chain_update(b"Seed-")
        .chain_update(CONTEXT_STRING)
        .finalize()
        .into();
    let mut messages = Messages::default();
    for (index, (blinded, evaluated)) in
        (0_u16..).zip(statement.blinded.iter().zip(statement.evaluated))
    {
        messages.push(&[
            &[0, 64],
            &seed,
            &index.to_be_bytes(),
            &[0, 32],
            blinded,
            &[0, 32],
            evaluated,
            b"Composite",
        ]);
    }
    Backend::portable().hash_to_scalars(HASH_TO_SCALAR_DST, &messages)
}

#[test]
fn rfc_9497_voprf_vectors() {
    let suite: Suite = serde_json::from_str(VECTORS).unwrap();
    assert_eq!(hex::decode(&suite.group_dst).unwrap(), HASH_TO_GROUP_DST);
    let key =
        SecretKey::derive(&bytes(&suite.seed), &hex::decode(&suite.key_info).unwrap()).unwrap();
    assert_eq!(*key.to_bytes(), bytes(&suite.sk_sm));
    let public_key = key.public_key();
    assert_eq!(*public_key.encoded(), bytes(&suite.pk_sm));
    for backend in Backend::available() {
        for vector in &suite.vectors {
            let mut inputs = Messages::default();
            for input in vector.input.split(',') {
                inputs.push(&[&hex::decode(input).unwrap()]);
            }
            let blinds: Vec<Scalar> = vector.blind.split(',').map(scalar).collect();
            let blinded = list::<32>(&vector.blinded_element);
            let evaluated = list::<32>(&vector.evaluation_element);
            let hashed = backend.encode(&backend.hash_to_group(HASH_TO_GROUP_DST, &inputs));
            assert_eq!(multiply_each(backend, &blinds, &hashed), blinded);

            let blinded_points = backend.decode(&blinded).unwrap();
            assert_eq!(
                backend.multiply_encode(key.scalar(), &blinded_points),
                evaluated
            );
            let statement = Statement {
                blinded: &blinded,
                evaluated: &evaluated,
            };
            let weights = rfc_weights(&public_key, statement);
            let sum = backend.vartime_multiscalar(&weights, &blinded_points);
            let proof =
                Composites::of_key(&key, sum).prove(&key, &public_key, &scalar(&vector.proof.r));
            assert_eq!(hex::encode(proof.encode()), vector.proof.proof);
            let evaluated_points = backend.decode(&evaluated).unwrap();
            let composites = Composites {
                blinded: sum,
                evaluated: backend.vartime_multiscalar(&weights, &evaluated_points),
            };
            assert_eq!(composites.verify(&public_key, &proof), Ok(()));

            let inverses: Vec<Scalar> = blinds.iter().map(Scalar::invert).collect();
            let unblinded = multiply_each(backend, &inverses, &evaluated);
            assert_eq!(
                finalize(backend, &inputs, &unblinded),
                list::<64>(&vector.output)
            );
        }
    }
}

/// What the protocol does with `sk` is what RFC 9497 does with `4*sk`: the vectors' outputs come out of an evaluation under a
/// quarter of their key.
#[test]
fn doubled_additive_blinding_leads_to_the_outputs_of_the_vectors() {
    let mut rng = crate::test_rng(1);
    let suite: Suite = serde_json::from_str(VECTORS).unwrap();
    let quarter = scalar(&suite.sk_sm) * Scalar::from(4_u8).invert();
    let key = SecretKey::from_bytes(&quarter.to_bytes()).unwrap();
    let public_key = key.public_key();
    assert_eq!(*key.of_outputs(), scalar(&suite.sk_sm));
    for backend in Backend::available() {
        let generator = backend.fixed_base(&GENERATOR);
        let unblinding = backend.fixed_base(&(public_key.point() * -Scalar::from(2_u8)));
        for vector in &suite.vectors {
            let mut inputs = Messages::default();
            for input in vector.input.split(',') {
                inputs.push(&[&hex::decode(input).unwrap()]);
            }
            let mut halves = backend.hash_to_group(HASH_TO_GROUP_DST, &inputs);
            let direct = backend.multiply_encode(&key.of_outputs(), &halves);
            let blinds = random_scalars(&mut rng, inputs.len());
            backend.offset(&mut halves, &generator, &blinds);
            let blinded = backend.double_encode(&halves);
            let asked = backend.decode(&blinded).unwrap();
            let evaluated = backend.multiply_encode(key.scalar(), &asked);
            let statement = Statement {
                blinded: &blinded,
                evaluated: &evaluated,
            };
            let proof = prove(backend, &key, &public_key, &asked, statement, &mut rng);
            let mut answered = backend.decode(&evaluated).unwrap();
            for blinded in [Blinded::Decoded(&asked), Blinded::Halves(&halves)] {
                let verified = verify(backend, &public_key, blinded, &answered, statement, &proof);
                assert_eq!(verified, Ok(()));
            }
            let wrong = Blinded::Halves(&asked);
            let refused = verify(backend, &public_key, wrong, &answered, statement, &proof);
            assert_eq!(refused, Err(Fault::ProofInvalid));
            backend.offset(&mut answered, &unblinding, &blinds);
            let unblinded = backend.double_encode(&answered);
            assert_eq!(unblinded, direct);
            assert_eq!(
                finalize(backend, &inputs, &unblinded),
                list::<64>(&vector.output)
            );
        }
    }
}

#[test]
fn blinds_are_below_two_to_the_252() {
    let mut rng = crate::test_rng(3);
    let blinds = random_scalars(&mut rng, 4000);
    let mut ones = [0_u32; 256];
    for blind in blinds.iter() {
        for (bit, ones) in ones.iter_mut().enumerate() {
            *ones += u32::from(blind.as_bytes()[bit / 8] >> (bit % 8) & 1);
        }
    }
    // Ten standard deviations of a fair bit.
    assert!(ones[..252].iter().all(|ones| (1684..=2316).contains(ones)));
    assert_eq!(ones[252..], [0; 4]);
}

#[test]
fn a_proof_holds_for_its_statement_only() {
    let mut rng = crate::test_rng(2);
    let backend = Backend::detect();
    let key = SecretKey::random(&mut rng);
    let public_key = key.public_key();
    let mut inputs = Messages::default();
    for input in 0_u8..9 {
        inputs.push(&[&[input]]);
    }
    let points = backend.hash_to_group(HASH_TO_GROUP_DST, &inputs);
    let blinded = backend.encode(&points);
    let evaluated = backend.multiply_encode(key.scalar(), &points);
    let statement = Statement {
        blinded: &blinded,
        evaluated: &evaluated,
    };
    let proof = prove(backend, &key, &public_key, &points, statement, &mut rng);
    let check = |public_key: &PublicKey, evaluated: &[Encoded], proof: &Proof| {
        verify(
            backend,
            public_key,
            Blinded::Decoded(&points),
            &backend.decode(evaluated).unwrap(),
            Statement {
                blinded: &blinded,
                evaluated,
            },
            proof,
        )
    };
    assert_eq!(check(&public_key, &evaluated, &proof), Ok(()));
    let mut swapped = evaluated.clone();
    swapped.swap(0, 1);
    assert_eq!(
        check(&public_key, &swapped, &proof),
        Err(Fault::ProofInvalid)
    );
    let other = SecretKey::random(&mut rng).public_key();
    assert_eq!(check(&other, &evaluated, &proof), Err(Fault::ProofInvalid));
    let mut bytes = proof.encode();
    bytes[0] ^= 1;
    let forged = Proof::decode(&bytes).unwrap();
    assert_eq!(
        check(&public_key, &evaluated, &forged),
        Err(Fault::ProofInvalid)
    );
}

/// Were a weight fixed by its own pair, wrong answers could be searched for pair by pair until their errors cancel.
#[test]
fn every_weight_of_a_proof_depends_on_every_element() {
    let public_key = SecretKey::random(&mut crate::test_rng(5)).public_key();
    let backend = Backend::detect();
    let elements: Vec<Encoded> = (0_u8..11).map(|index| [index; 32]).collect();
    let weights = |blinded: &[Encoded], evaluated: &[Encoded]| {
        super::weights(backend, &public_key, Statement { blinded, evaluated })
    };
    let all = weights(&elements, &elements);
    assert_eq!(all.len(), elements.len());
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    for index in 0..elements.len() {
        let mut other = elements.clone();
        other[index][31] ^= 1;
        for changed in [weights(&other, &elements), weights(&elements, &other)] {
            assert!(all.iter().zip(&changed).all(|(one, other)| one != other));
        }
    }
    let other_key = SecretKey::random(&mut crate::test_rng(6)).public_key();
    let statement = Statement {
        blinded: &elements,
        evaluated: &elements,
    };
    let changed = super::weights(backend, &other_key, statement);
    assert!(all.iter().zip(&changed).all(|(one, other)| one != other));
}

#[test]
fn z05_proofs_and_keys_decode_canonically() {
    let mut bytes = [0_u8; 64];
    bytes[31] = 0xff;
    assert_eq!(Proof::decode(&bytes), Err(Fault::NonCanonicalScalar));
    assert_eq!(PublicKey::decode(&[0; 32]), Err(Fault::IdentityElement));
    assert_eq!(
        PublicKey::decode(&[0xff; 32]),
        Err(Fault::NonCanonicalElement)
    );
    assert_eq!(
        SecretKey::from_bytes(&[0; 32]).unwrap_err(),
        Misuse::StoredState
    );
    assert_eq!(
        SecretKey::from_bytes(&[0xff; 32]).unwrap_err(),
        Misuse::StoredState
    );
    let key = SecretKey::random(&mut crate::test_rng(3));
    let read = SecretKey::from_bytes(&key.to_bytes()).unwrap();
    assert_eq!(read.public_key(), key.public_key());
    assert_eq!(format!("{key:?}"), "SecretKey(..)");
}

#[test]
fn a_key_proof_holds_for_its_key_and_context_only() {
    let mut rng = crate::test_rng(4);
    let key = SecretKey::random(&mut rng);
    let context = Context([7; 16]);
    let proof = prove_key(&key, &context, &mut rng);
    assert_eq!(verify_key(&key.public_key(), &context, &proof), Ok(()));
    let other = SecretKey::random(&mut rng).public_key();
    assert_eq!(
        verify_key(&other, &context, &proof),
        Err(Fault::KeyProofInvalid)
    );
    assert_eq!(
        verify_key(&key.public_key(), &Context([8; 16]), &proof),
        Err(Fault::KeyProofInvalid)
    );
    // Without the challenge bound to the key, (c, s) = (1, 0) with nonce point pk would do.
    let cheap = Proof {
        challenge: Scalar::ONE,
        response: Scalar::ZERO,
    };
    assert_eq!(
        verify_key(&key.public_key(), &context, &cheap),
        Err(Fault::KeyProofInvalid)
    );
    assert_ne!(
        *key.public_key().point(),
        RistrettoPoint::mul_base(&Scalar::ONE)
    );
}
