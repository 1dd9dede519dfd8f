//! The verifiable oblivious PRF in batches: RFC 9497 in VOPRF mode (PROTOCOL.md §4).

use std::fmt;

use curve25519_dalek::{constants::RISTRETTO_BASEPOINT_POINT, ristretto::CompressedRistretto};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    backend::{Backend, Encoded, Messages, Points, RistrettoPoint, Scalar, Weight},
    context::Context,
    fault::{Fault, Misuse},
    secrets::Secrets,
    suite::{DERIVE_KEY_PAIR_DST, HASH_TO_SCALAR_DST, KEY_PROOF_DST, SUITE_NAME, derive},
    transcript::payload_digest,
};

#[cfg(test)]
mod tests;

/// The most elements one proof covers: those of a chunk (PROTOCOL.md §6.2).
pub const MAX_BATCH: usize = 16_384;

/// An evaluator's secret key for one partner, direction and epoch.
pub struct SecretKey(Scalar);

impl SecretKey {
    /// A fresh key.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(random_scalar(rng))
    }

    /// DeriveKeyPair (RFC 9497 §3.2.1).
    #[must_use]
    pub fn derive(seed: &[u8; 32], info: &[u8]) -> Option<Self> {
        let info_length = u16::try_from(info.len()).ok()?.to_be_bytes();
        (0..=u8::MAX).find_map(|counter| {
            let mut messages = Messages::default();
            messages.push(&[seed, &info_length, info, &[counter]]);
            let scalar = Backend::portable().hash_to_scalars(DERIVE_KEY_PAIR_DST, &messages)[0];
            (scalar != Scalar::ZERO).then_some(Self(scalar))
        })
    }

    /// Reads a stored key.
    ///
    /// # Errors
    /// If the bytes are not a canonical scalar, or 0.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Misuse> {
        let scalar: Option<Scalar> = Scalar::from_canonical_bytes(*bytes).into();
        match scalar {
            Some(scalar) if scalar != Scalar::ZERO => Ok(Self(scalar)),
            _ => Err(Misuse::StoredState),
        }
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of_point(RistrettoPoint::mul_base(&self.0))
    }

    pub(crate) const fn scalar(&self) -> &Scalar {
        &self.0
    }

    /// The key of the outputs, `4*sk`: a query is twice a blinded item, and the answer is doubled again (PROTOCOL.md §4.2).
    pub(crate) fn of_outputs(&self) -> Zeroizing<Scalar> {
        Zeroizing::new(self.0 * Scalar::from(4_u8))
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey(..)")
    }
}

/// An evaluator's public key; never the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    point: RistrettoPoint,
    encoded: Encoded,
}

impl PublicKey {
    fn of_point(point: RistrettoPoint) -> Self {
        Self {
            point,
            encoded: point.compress().to_bytes(),
        }
    }

    /// Reads a key that came from elsewhere (RFC 9497 §2.1 "DeserializeElement").
    ///
    /// # Errors
    /// [`Fault::NonCanonicalElement`] or [`Fault::IdentityElement`].
    pub fn decode(encoded: &Encoded) -> Result<Self, Fault> {
        let point = decode_element(encoded)?;
        Ok(Self {
            point,
            encoded: *encoded,
        })
    }

    /// The canonical encoding.
    #[must_use]
    pub const fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    pub(crate) const fn point(&self) -> &RistrettoPoint {
        &self.point
    }
}

/// One element by itself, under the rules of [`Backend::decode`].
pub(crate) fn decode_element(encoded: &Encoded) -> Result<RistrettoPoint, Fault> {
    if encoded == &[0; 32] {
        return Err(Fault::IdentityElement);
    }
    CompressedRistretto(*encoded)
        .decompress()
        .ok_or(Fault::NonCanonicalElement)
}

fn decode_scalar(bytes: &[u8; 32]) -> Result<Scalar, Fault> {
    Option::from(Scalar::from_canonical_bytes(*bytes)).ok_or(Fault::NonCanonicalScalar)
}

/// A uniform scalar other than 0.
pub(crate) fn random_scalar(rng: &mut impl CryptoRng) -> Scalar {
    loop {
        let mut wide = Zeroizing::new([0_u8; 64]);
        rng.fill_bytes(wide.as_mut());
        let scalar = Scalar::from_bytes_mod_order_wide(&wide);
        if scalar != Scalar::ZERO {
            return scalar;
        }
    }
}

/// `count` scalars to blind with: uniform below 2^252, which is within 2^-127 of uniform below the group order.
pub(crate) fn random_scalars(rng: &mut impl CryptoRng, count: usize) -> Secrets<Scalar> {
    let mut bytes = Secrets::<[u8; 32]>::with_capacity(count);
    bytes.fill_up(count);
    rng.fill_bytes(bytes.as_flattened_mut());
    let mut scalars = Secrets::with_capacity(count);
    for bytes in bytes.iter_mut() {
        bytes[31] &= 0x0f;
        scalars.push(Scalar::from_bytes_mod_order(*bytes));
    }
    scalars
}

/// A nonce that stays unpredictable if either the randomness or the secrecy of the statement fails.
fn hedged_nonce(key: &Scalar, statement: &[u8], rng: &mut impl CryptoRng) -> Zeroizing<Scalar> {
    let mut fresh = Zeroizing::new([0_u8; 64]);
    rng.fill_bytes(fresh.as_mut());
    let key = Zeroizing::new(key.to_bytes());
    let wide = Zeroizing::new(derive("OVL1/nonce", &[&*key, &*fresh, statement]));
    Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide))
}

/// A non-interactive proof: challenge and response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    challenge: Scalar,
    response: Scalar,
}

impl Proof {
    /// Bytes of a proof on the wire: `c || s`, as in RFC 9497's vectors.
    pub const BYTES: usize = 64;

    /// Reads a proof.
    ///
    /// # Errors
    /// [`Fault::NonCanonicalScalar`].
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, Fault> {
        let (halves, _) = bytes.as_chunks::<32>();
        Ok(Self {
            challenge: decode_scalar(&halves[0])?,
            response: decode_scalar(&halves[1])?,
        })
    }

    /// The bytes of the proof.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..32].copy_from_slice(self.challenge.as_bytes());
        bytes[32..].copy_from_slice(self.response.as_bytes());
        bytes
    }
}

/// A batch as both sides know it: what was sent, and what came back for it.
#[derive(Clone, Copy)]
pub struct Statement<'a> {
    /// The blinded elements as sent.
    pub blinded: &'a [Encoded],
    /// The evaluated elements as returned.
    pub evaluated: &'a [Encoded],
}

/// The weights `d_i` of a batch (PROTOCOL.md §4.2). Every one depends on all elements: if each depended on its own pair alone,
/// as in RFC 9497 §2.2.1, answers to a large batch could be searched for whose errors cancel.
fn weights(backend: Backend, public_key: &PublicKey, statement: Statement<'_>) -> Vec<Weight> {
    let seed = derive(
        "OVL1/weights",
        &[
            &public_key.encoded,
            &payload_digest(statement.blinded.as_flattened()),
            &payload_digest(statement.evaluated.as_flattened()),
        ],
    );
    let count = statement.blinded.len();
    let numbers: Vec<[u8; 4]> = (0_u32..)
        .map(u32::to_be_bytes)
        .take(count.div_ceil(size_of_val(&seed) / size_of::<Weight>()))
        .collect();
    let blocks = backend.sha512_after(&seed, numbers.iter());
    let (weights, _) = blocks.as_flattened().as_chunks();
    weights[..count].to_vec()
}

fn length16(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("constants and encodings are short")
        .to_be_bytes()
}

/// The challenge `c` of RFC 9497 §2.2.1 over `Bm, a0, a1, a2, a3`.
fn challenge(public_key: &PublicKey, elements: [&RistrettoPoint; 4]) -> Scalar {
    let encodings = elements.map(|element| element.compress().to_bytes());
    let length = 32_u16.to_be_bytes();
    let mut messages = Messages::default();
    messages.push(&[
        &length,
        &public_key.encoded,
        &length,
        &encodings[0],
        &length,
        &encodings[1],
        &length,
        &encodings[2],
        &length,
        &encodings[3],
        b"Challenge",
    ]);
    Backend::portable().hash_to_scalars(HASH_TO_SCALAR_DST, &messages)[0]
}

/// GenerateProof (RFC 9497 §2.2.1) over a batch, with the protocol's weights.
///
/// `blinded` are the decoded elements of `statement.blinded`.
///
/// # Panics
/// If the batch is longer than [`MAX_BATCH`], or its parts are not equally long.
pub fn prove(
    backend: Backend,
    key: &SecretKey,
    public_key: &PublicKey,
    blinded: &Points,
    statement: Statement<'_>,
    rng: &mut impl CryptoRng,
) -> Proof {
    assert!(statement.blinded.len() <= MAX_BATCH, "a chunk is bounded");
    assert_eq!(statement.blinded.len(), statement.evaluated.len());
    let weights = weights(backend, public_key, statement);
    let composites = Composites::of_key(key, backend.vartime_weighted_sum(&weights, blinded));
    // What the challenge depends on besides the nonce: M stands for the whole batch, since every weight depends on all of
    // it, and the same M, Z and nonce give the same proof.
    let mut statement = [0; 96];
    statement[..32].copy_from_slice(&public_key.encoded);
    statement[32..64].copy_from_slice(composites.blinded.compress().as_bytes());
    statement[64..].copy_from_slice(composites.evaluated.compress().as_bytes());
    let nonce = hedged_nonce(&key.0, &statement, rng);
    composites.prove(key, public_key, &nonce)
}

/// The weighted sums `M` and `Z` of a batch (RFC 9497 §2.2.1).
struct Composites {
    blinded: RistrettoPoint,
    evaluated: RistrettoPoint,
}

impl Composites {
    /// By the holder of the key, who needs no second sum (RFC 9497 §2.2.1 "ComputeCompositesFast").
    fn of_key(key: &SecretKey, blinded: RistrettoPoint) -> Self {
        Self {
            blinded,
            evaluated: blinded * key.0,
        }
    }

    fn prove(&self, key: &SecretKey, public_key: &PublicKey, nonce: &Scalar) -> Proof {
        let challenge = challenge(
            public_key,
            [
                &self.blinded,
                &self.evaluated,
                &RistrettoPoint::mul_base(nonce),
                &(self.blinded * nonce),
            ],
        );
        Proof {
            challenge,
            response: response(nonce, &challenge, key),
        }
    }

    fn verify(&self, public_key: &PublicKey, proof: &Proof) -> Result<(), Fault> {
        let expected = challenge(
            public_key,
            [
                &self.blinded,
                &self.evaluated,
                &RistrettoPoint::vartime_double_scalar_mul_basepoint(
                    &proof.challenge,
                    &public_key.point,
                    &proof.response,
                ),
                &(self.blinded * proof.response + self.evaluated * proof.challenge),
            ],
        );
        if bool::from(expected.ct_eq(&proof.challenge)) {
            Ok(())
        } else {
            Err(Fault::ProofInvalid)
        }
    }
}

/// `nonce - challenge * key`. Whoever finds the product in memory has the key: the challenge is public.
fn response(nonce: &Scalar, challenge: &Scalar, key: &SecretKey) -> Scalar {
    let product = Zeroizing::new(challenge * key.0);
    nonce - *product
}

/// The blinded elements of a statement, as its verifier holds them.
#[derive(Clone, Copy)]
pub enum Blinded<'a> {
    /// Decoded.
    Decoded(&'a Points),
    /// Their halves, as whoever made them holds them.
    Halves(&'a Points),
}

/// VerifyProof (RFC 9497 §2.2.2) over a batch, with the protocol's weights.
///
/// `evaluated` are the decoded elements of `statement.evaluated`.
///
/// # Errors
/// [`Fault::ProofInvalid`].
pub fn verify(
    backend: Backend,
    public_key: &PublicKey,
    blinded: Blinded<'_>,
    evaluated: &Points,
    statement: Statement<'_>,
    proof: &Proof,
) -> Result<(), Fault> {
    if statement.blinded.len() != statement.evaluated.len() || statement.blinded.len() > MAX_BATCH {
        return Err(Fault::WrongCount);
    }
    let weights = weights(backend, public_key, statement);
    let (Blinded::Decoded(points) | Blinded::Halves(points)) = blinded;
    let mut composites = Composites {
        blinded: backend.vartime_weighted_sum(&weights, points),
        evaluated: backend.vartime_weighted_sum(&weights, evaluated),
    };
    if let Blinded::Halves(_) = blinded {
        composites.blinded += composites.blinded;
    }
    composites.verify(public_key, proof)
}

/// Finalize (RFC 9497 §3.3.1) without the unblinding: the OPRF output of each input.
#[must_use]
pub fn finalize(backend: Backend, inputs: &Messages, unblinded: &[Encoded]) -> Vec<[u8; 64]> {
    let mut messages = Messages::with_capacity(inputs.len(), 128);
    for (input, element) in inputs.iter().zip(unblinded) {
        messages.push(&[
            &length16(input.len()),
            input,
            &32_u16.to_be_bytes(),
            element,
            b"Finalize",
        ]);
    }
    backend.sha512(&messages)
}

/// The discrete-log base of every public key.
pub(crate) const GENERATOR: RistrettoPoint = RISTRETTO_BASEPOINT_POINT;

/// Proves knowledge of the secret key of `ctx`'s public key (PROTOCOL.md §5.2).
pub fn prove_key(key: &SecretKey, context: &Context, rng: &mut impl CryptoRng) -> Proof {
    let public_key = key.public_key();
    let statement = derive("OVL1/key-proof", &[&context.0, &public_key.encoded]);
    let nonce = hedged_nonce(&key.0, &statement, rng);
    let challenge = key_challenge(&public_key, context, &RistrettoPoint::mul_base(&nonce));
    Proof {
        challenge,
        response: response(&nonce, &challenge, key),
    }
}

/// Checks [`prove_key`]'s proof.
///
/// # Errors
/// [`Fault::KeyProofInvalid`].
pub fn verify_key(public_key: &PublicKey, context: &Context, proof: &Proof) -> Result<(), Fault> {
    let nonce_point = RistrettoPoint::vartime_double_scalar_mul_basepoint(
        &proof.challenge,
        &public_key.point,
        &proof.response,
    );
    let expected = key_challenge(public_key, context, &nonce_point);
    if bool::from(expected.ct_eq(&proof.challenge)) {
        Ok(())
    } else {
        Err(Fault::KeyProofInvalid)
    }
}

fn key_challenge(
    public_key: &PublicKey,
    context: &Context,
    nonce_point: &RistrettoPoint,
) -> Scalar {
    let length = 32_u16.to_be_bytes();
    let mut messages = Messages::default();
    messages.push(&[
        &length16(SUITE_NAME.len()),
        SUITE_NAME,
        &length16(context.0.len()),
        &context.0,
        &length,
        &public_key.encoded,
        &length,
        nonce_point.compress().as_bytes(),
    ]);
    Backend::portable().hash_to_scalars(KEY_PROOF_DST, &messages)[0]
}
