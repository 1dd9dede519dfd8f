//! Every batch operation on eight lanes of AVX-512 IFMA, one element a lane.
//!
//! docs/ENGINE.md explains the design and docs/CONSTANT_TIME.md what is claimed of it. Each function here is a loop over
//! groups of eight elements; the last group is filled up with elements whose results nobody reads.
#![expect(
    unsafe_code,
    reason = "calls into functions with target features, on the strength of the token"
)]

mod chacha;
mod comb;
mod edwards;
mod field;
mod lanes;
mod msm;
mod poly1305;
mod ristretto;
mod scalar;
mod scalar_mul;
mod sha512;
#[cfg(test)]
mod tests;
mod words;

use curve25519_dalek::{
    ristretto::{CompressedRistretto, RistrettoPoint},
    scalar::Scalar,
};
use zeroize::Zeroize;

use self::{
    chacha::Keys,
    comb::{Comb, offset_each},
    edwards::{Completed, Extended},
    field::{Fe, ONE},
    lanes::{LANES, Row},
    msm::vartime_sum,
    ristretto::{
        BLOCK, INVERSION_BLOCK, decode_block, encode_block, encode_doubled, map_block, store_words,
    },
    scalar::reduce_wide,
    scalar_mul::{HalvedScalar, double_each, multiply_each},
    sha512::{Expander, INITIAL, State, Template, hash_group, little_endian, splat_state},
    words::WORD_LANES,
};
use super::{DecodeError, ElementFault, Encoded, Messages, SealBatch};

/// Proof that this CPU has every feature the engine uses; the only way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpu(());

impl Cpu {
    pub(super) fn detect() -> Option<Self> {
        let has_all = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512ifma")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512bw");
        has_all.then_some(Self(()))
    }
}

/// Elements in groups of eight. Zeroized on drop: they may be customers' identifiers, hashed.
pub(super) struct Points {
    groups: Vec<Extended>,
    len: usize,
}

impl Points {
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        for group in &mut self.groups {
            group.zeroize();
        }
    }
}

/// The tables of a public base.
pub(super) struct FixedBase(Comb);

/// The operations, each a batch.
impl Cpu {
    pub(super) fn hash_to_group(self, dst: &[u8], messages: &Messages) -> Points {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { hash_to_group(self, dst, messages) };
        wipe_stack();
        result
    }

    pub(super) fn hash_to_scalars(self, dst: &[u8], messages: &Messages) -> Vec<Scalar> {
        // SAFETY: the token proves the CPU features.
        unsafe { hash_to_scalars(self, dst, messages) }
    }

    pub(super) fn sha512(self, messages: &Messages) -> Vec<[u8; 64]> {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { sha512_each(self, messages) };
        wipe_stack();
        result
    }

    pub(super) fn decode(self, encoded: &[Encoded]) -> Result<Points, DecodeError> {
        // SAFETY: the token proves the CPU features.
        unsafe { decode(self, encoded) }
    }

    pub(super) fn encode(self, points: &Points) -> Vec<Encoded> {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { encode(self, points) };
        wipe_stack();
        result
    }

    pub(super) fn double_encode(self, points: &Points) -> Vec<Encoded> {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { double_encode(self, points) };
        wipe_stack();
        result
    }

    pub(super) fn fixed_base(self, base: &RistrettoPoint) -> FixedBase {
        // SAFETY: the token proves the CPU features.
        FixedBase(unsafe { Comb::new(self, base) })
    }

    pub(super) fn offset(self, points: &mut Points, base: &FixedBase, scalars: &[Scalar]) {
        // SAFETY: the token proves the CPU features.
        unsafe { offset_each(self, &mut points.groups, &base.0, scalars) };
        wipe_stack();
    }

    pub(super) fn sha512_after<'a, const N: usize>(
        self,
        prefix: &[u8],
        items: impl ExactSizeIterator<Item = &'a [u8; N]>,
    ) -> Vec<[u8; 64]> {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { sha512_after(self, prefix, items) };
        wipe_stack();
        result
    }

    pub(super) fn seal_each(self, batch: SealBatch<'_>) {
        // SAFETY: the token proves the CPU features.
        unsafe { seal_each(self, batch) };
        wipe_stack();
    }

    pub(super) fn open_each(self, batch: SealBatch<'_>) -> Vec<bool> {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { open_each(self, batch) };
        wipe_stack();
        result
    }

    /// Numbers are little-endian; those of 32 bytes are canonical scalars.
    pub(super) fn vartime_weighted_sum<const BYTES: usize>(
        self,
        weights: &[[u8; BYTES]],
        points: &Points,
    ) -> RistrettoPoint {
        // SAFETY: the token proves the CPU features.
        unsafe { vartime_weighted_sum(self, weights, points) }
    }

    pub(super) fn multiply_encode(self, scalar: &Scalar, points: &Points) -> Vec<Encoded> {
        // SAFETY: the token proves the CPU features.
        let result = unsafe { multiply_encode(self, scalar, points) };
        wipe_stack();
        result
    }
}

/// Overwrites the stack that the function called just before has left: the compiler may have spilled secrets to it that no
/// variable names any more. The deepest of them uses less.
#[inline(never)]
fn wipe_stack() {
    let mut rows = [Row([0; LANES]); 1024];
    rows.zeroize();
    core::hint::black_box(&rows);
}

/// Calls `$use_group` for each group of up to eight messages.
macro_rules! for_message_groups {
    ($messages:expr, $group:ident => $use_group:expr) => {
        for start in (0..$messages.len()).step_by(LANES) {
            let mut group: [&[u8]; LANES] = [&[]; LANES];
            let count = LANES.min($messages.len() - start);
            for (lane, message) in group.iter_mut().enumerate().take(count) {
                *message = $messages.at(start + lane);
            }
            let $group = &group[..count];
            $use_group
        }
    };
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn hash_to_group(cpu: Cpu, dst: &[u8], messages: &Messages) -> Points {
    let expander = Expander::new(cpu, dst);
    let mut scratch = Vec::new();
    let mut uniform: Vec<State> = Vec::with_capacity(BLOCK);
    let mut groups = vec![Extended::identity(cpu); messages.len().div_ceil(LANES)];
    let mut mapped = 0;
    for_message_groups!(messages, group => {
        uniform.push(expander.expand(cpu, group, &mut scratch));
        if uniform.len() == BLOCK {
            map_block(cpu, &uniform, &mut groups[mapped..mapped + BLOCK]);
            mapped += BLOCK;
            uniform.iter_mut().zeroize();
            uniform.clear();
        }
    });
    map_block(cpu, &uniform, &mut groups[mapped..]);
    uniform.iter_mut().zeroize();
    Points {
        groups,
        len: messages.len(),
    }
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn hash_to_scalars(cpu: Cpu, dst: &[u8], messages: &Messages) -> Vec<Scalar> {
    let expander = Expander::new(cpu, dst);
    let mut scratch = Vec::new();
    let mut scalars = Vec::with_capacity(messages.len());
    for_message_groups!(messages, group => {
        let words = expander.expand(cpu, group, &mut scratch);
        let mut reduced = [[0; 32]; LANES];
        store_words(reduce_wide(&words), &mut reduced);
        // curve25519-dalek reduces once more: it takes no bytes on trust.
        scalars.extend(reduced[..group.len()].iter().map(|bytes| Scalar::from_bytes_mod_order(*bytes)));
    });
    scalars
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn sha512_each(cpu: Cpu, messages: &Messages) -> Vec<[u8; 64]> {
    let mut scratch = Vec::new();
    let mut hashes = Vec::with_capacity(messages.len());
    for_message_groups!(messages, group => {
        let state = hash_group(cpu, splat_state(cpu, &INITIAL), 0, group, &[], &mut scratch);
        hashes.extend_from_slice(&state_bytes(&little_endian(&state))[..group.len()]);
    });
    hashes
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn sha512_after<'a, const N: usize>(
    cpu: Cpu,
    prefix: &[u8],
    mut items: impl ExactSizeIterator<Item = &'a [u8; N]>,
) -> Vec<[u8; 64]> {
    let initial = splat_state(cpu, &INITIAL);
    let mut template = Template::new(&[prefix, &[0; N]].concat());
    let mut hashes = Vec::with_capacity(items.len());
    while items.len() > 0 {
        let count = items.len().min(LANES);
        for (lane, item) in items.by_ref().take(LANES).enumerate() {
            template.write(lane, prefix.len(), item);
        }
        let state = template.hash(cpu, initial);
        hashes.extend_from_slice(&state_bytes(&little_endian(&state))[..count]);
    }
    hashes
}

/// Calls `$use_group` for the keys, the bindings and the texts of each group.
macro_rules! for_sealed_groups {
    ($batch:expr, ($keys:ident, $aads:ident, $texts:ident) => $use_group:expr) => {
        for (($keys, $aads), $texts) in $batch
            .keys
            .chunks(WORD_LANES)
            .zip($batch.aads.chunks(WORD_LANES))
            .zip($batch.texts.chunks_mut(WORD_LANES * $batch.stride))
        {
            $use_group
        }
    };
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn seal_each(cpu: Cpu, batch: SealBatch<'_>) {
    for_sealed_groups!(batch, (keys, aads, texts) => {
        Keys::load(cpu, keys).seal(cpu, aads, texts, batch.stride);
    });
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn open_each(cpu: Cpu, batch: SealBatch<'_>) -> Vec<bool> {
    let mut authentic = Vec::with_capacity(batch.keys.len());
    for_sealed_groups!(batch, (keys, aads, texts) => {
        Keys::load(cpu, keys).open(cpu, aads, texts, batch.stride, &mut authentic);
    });
    authentic
}

/// The 64 bytes of each lane.
#[inline(always)]
fn state_bytes(words: &State) -> [[u8; 64]; LANES] {
    let mut bytes = [[0; 64]; LANES];
    for (index, word) in words.iter().enumerate() {
        for (bytes, value) in bytes.iter_mut().zip(word.store()) {
            bytes.as_chunks_mut::<8>().0[index] = value.to_le_bytes();
        }
    }
    bytes
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn decode(cpu: Cpu, encoded: &[Encoded]) -> Result<Points, DecodeError> {
    let mut groups = Vec::with_capacity(encoded.len().div_ceil(LANES).next_multiple_of(BLOCK));
    let mut points = [Extended::identity(cpu); BLOCK];
    for (block, chunk) in encoded.chunks(BLOCK * LANES).enumerate() {
        let valid = decode_block(cpu, chunk, &mut points);
        for (index, bytes) in chunk.iter().enumerate() {
            let is_valid = valid[index / LANES].bits() >> (index % LANES) & 1 == 1;
            // The identity has one canonical encoding, all zeros.
            let fault = if !is_valid {
                ElementFault::NonCanonical
            } else {
                ElementFault::Identity
            };
            if !is_valid || *bytes == [0; 32] {
                return Err(DecodeError {
                    index: block * BLOCK * LANES + index,
                    fault,
                });
            }
        }
        groups.extend_from_slice(&points[..chunk.len().div_ceil(LANES)]);
    }
    Ok(Points {
        groups,
        len: encoded.len(),
    })
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn encode(cpu: Cpu, points: &Points) -> Vec<Encoded> {
    let mut encoded = vec![[0; 32]; points.len];
    for (groups, encoded) in points
        .groups
        .chunks(BLOCK)
        .zip(encoded.chunks_mut(BLOCK * LANES))
    {
        encode_block(cpu, groups, encoded);
    }
    encoded
}

/// What a doubling whose last products are left out starts from.
fn unit_products(cpu: Cpu) -> Vec<Completed> {
    let one = Fe::constant(cpu, ONE);
    let unit = Completed {
        e: one,
        f: one,
        g: one,
        h: one,
    };
    vec![unit; INVERSION_BLOCK]
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn double_encode(cpu: Cpu, points: &Points) -> Vec<Encoded> {
    let mut encoded = vec![[0; 32]; points.len];
    let mut products = unit_products(cpu);
    for (groups, encoded) in points
        .groups
        .chunks(INVERSION_BLOCK)
        .zip(encoded.chunks_mut(INVERSION_BLOCK * LANES))
    {
        let products = &mut products[..groups.len()];
        double_each(groups, products);
        encode_doubled(cpu, products, encoded);
    }
    products.iter_mut().zeroize();
    encoded
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn multiply_encode(cpu: Cpu, scalar: &Scalar, points: &Points) -> Vec<Encoded> {
    let scalar = HalvedScalar::new(scalar);
    let mut encoded = vec![[0; 32]; points.len];
    let mut products = unit_products(cpu);
    for (groups, encoded) in points
        .groups
        .chunks(INVERSION_BLOCK)
        .zip(encoded.chunks_mut(INVERSION_BLOCK * LANES))
    {
        let products = &mut products[..groups.len()];
        multiply_each(cpu, &scalar, groups, products);
        encode_doubled(cpu, products, encoded);
    }
    products.iter_mut().zeroize();
    encoded
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn vartime_weighted_sum<const BYTES: usize>(
    cpu: Cpu,
    weights: &[[u8; BYTES]],
    points: &Points,
) -> RistrettoPoint {
    let sum = vartime_sum(cpu, weights, &points.groups);
    let mut encoded = [[0; 32]];
    encode_block(cpu, &[sum], &mut encoded);
    CompressedRistretto(encoded[0])
        .decompress()
        .expect("an encoding of our own is canonical")
}
