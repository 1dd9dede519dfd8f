//! Every batch operation on curve25519-dalek.

use curve25519_dalek::{
    ristretto::{CompressedRistretto, RistrettoBasepointTable, RistrettoPoint},
    scalar::Scalar,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha512};

use super::{DecodeError, ElementFault, Encoded, Messages, SEAL_BYTES, SealBatch, SealKey, Weight};

pub(super) struct FixedBase(Box<RistrettoBasepointTable>);

impl FixedBase {
    pub(super) fn new(base: &RistrettoPoint) -> Self {
        Self(Box::new(RistrettoBasepointTable::create(base)))
    }
}

pub(super) fn sha512(messages: &Messages) -> Vec<[u8; 64]> {
    messages
        .iter()
        .map(|message| Sha512::digest(message).into())
        .collect()
}

pub(super) fn hash_to_group(dst: &[u8], messages: &Messages) -> Vec<RistrettoPoint> {
    messages
        .iter()
        .map(|message| RistrettoPoint::from_uniform_bytes(&expand_message(dst, message)))
        .collect()
}

pub(super) fn hash_to_scalars(dst: &[u8], messages: &Messages) -> Vec<Scalar> {
    messages
        .iter()
        .map(|message| Scalar::from_bytes_mod_order_wide(&expand_message(dst, message)))
        .collect()
}

pub(super) fn sha512_after<'a, const N: usize>(
    prefix: &[u8],
    items: impl Iterator<Item = &'a [u8; N]>,
) -> Vec<[u8; 64]> {
    let begun = Sha512::new().chain_update(prefix);
    items
        .map(|item| begun.clone().chain_update(item).finalize().into())
        .collect()
}

pub(super) fn seal_each(batch: SealBatch<'_>) {
    let texts = batch.texts.chunks_exact_mut(batch.stride);
    for ((key, aad), text) in batch.keys.iter().zip(batch.aads).zip(texts) {
        let (text, tag) = text.split_at_mut(batch.stride - SEAL_BYTES);
        let sealed = less_safe(key)
            .seal_in_place_separate_tag(nonce(), Aad::from(aad), text)
            .expect("a text is far shorter than ChaCha20 allows");
        tag.copy_from_slice(sealed.as_ref());
    }
}

pub(super) fn open_each(batch: SealBatch<'_>) -> Vec<bool> {
    let texts = batch.texts.chunks_exact_mut(batch.stride);
    batch
        .keys
        .iter()
        .zip(batch.aads)
        .zip(texts)
        .map(|((key, aad), text)| {
            let opened = less_safe(key).open_in_place(nonce(), Aad::from(aad), text);
            opened.is_ok()
        })
        .collect()
}

fn less_safe(key: SealKey<'_>) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of ChaCha20 has 32 bytes");
    LessSafeKey::new(key)
}

/// Every key seals one text, so the nonce is constant.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// expand_message_xmd with SHA-512 and `len_in_bytes` = 64 (RFC 9380 §5.3.1): one output block.
fn expand_message(dst: &[u8], message: &[u8]) -> [u8; 64] {
    let dst_length =
        [u8::try_from(dst.len()).expect("a domain separation tag is at most 255 bytes")];
    let b0 = Sha512::new()
        .chain_update([0_u8; 128])
        .chain_update(message)
        .chain_update([0, 64, 0])
        .chain_update(dst)
        .chain_update(dst_length)
        .finalize();
    Sha512::new()
        .chain_update(b0)
        .chain_update([1])
        .chain_update(dst)
        .chain_update(dst_length)
        .finalize()
        .into()
}

pub(super) fn decode(encoded: &[Encoded]) -> Result<Vec<RistrettoPoint>, DecodeError> {
    encoded
        .iter()
        .enumerate()
        .map(|(index, bytes)| {
            let point = CompressedRistretto(*bytes)
                .decompress()
                .ok_or(DecodeError {
                    index,
                    fault: ElementFault::NonCanonical,
                })?;
            if point.is_identity() {
                return Err(DecodeError {
                    index,
                    fault: ElementFault::Identity,
                });
            }
            Ok(point)
        })
        .collect()
}

pub(super) fn encode(points: &[RistrettoPoint]) -> Vec<Encoded> {
    points
        .iter()
        .map(|point| point.compress().to_bytes())
        .collect()
}

pub(super) fn multiply_encode(scalar: &Scalar, points: &[RistrettoPoint]) -> Vec<Encoded> {
    // Batch compression doubles, so half the scalar goes in.
    let half = scalar * Scalar::from(2_u8).invert();
    let halves: Vec<RistrettoPoint> = points.iter().map(|point| point * half).collect();
    double_encode(&halves)
}

pub(super) fn double_encode(points: &[RistrettoPoint]) -> Vec<Encoded> {
    RistrettoPoint::double_and_compress_batch(points)
        .iter()
        .map(CompressedRistretto::to_bytes)
        .collect()
}

pub(super) fn offset(points: &mut [RistrettoPoint], base: &FixedBase, scalars: &[Scalar]) {
    for (point, scalar) in points.iter_mut().zip(scalars) {
        *point += base.0.as_ref() * scalar;
    }
}

pub(super) fn vartime_multiscalar(scalars: &[Scalar], points: &[RistrettoPoint]) -> RistrettoPoint {
    RistrettoPoint::vartime_multiscalar_mul(scalars, points)
}

pub(super) fn vartime_weighted_sum(
    weights: &[Weight],
    points: &[RistrettoPoint],
) -> RistrettoPoint {
    let scalars = weights
        .iter()
        .map(|bytes| Scalar::from(u128::from_le_bytes(*bytes)));
    RistrettoPoint::vartime_multiscalar_mul(scalars, points)
}
