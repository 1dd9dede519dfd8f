//! Decoding, encoding and the map to the group of RFC 9496 §4.3, eight elements at a time.
//!
//! Each step that needs an inverse square root runs in phases over a block of groups: what goes into the roots, all roots
//! together, and what comes out of them.

use zeroize::Zeroize;

use super::{
    Cpu,
    edwards::{Completed, Extended},
    field::{
        D, D_MINUS_ONE_SQ, Fe, INVSQRT_A_MINUS_D, ONE, ONE_MINUS_D_SQ, SQRT_AD_MINUS_ONE, SQRT_M1,
        pow::{inverse_square_root_each, invert_each},
    },
    lanes::{LANES, Lanes, Mask},
};
use crate::backend::Encoded;

/// Groups a phase: their intermediate values stay in the first-level cache.
pub(super) const BLOCK: usize = 8;
/// Groups that share one inversion in [`encode_doubled`].
pub(super) const INVERSION_BLOCK: usize = 64;
/// Independent product chains of [`encode_doubled`]: one inversion of a full pow block.
const CHAINS: usize = 4;

/// Four little-endian words a lane from up to eight 32-byte strings, zeros for those missing.
#[inline(always)]
fn load_words(cpu: Cpu, encoded: &[Encoded]) -> [Lanes; 4] {
    let mut words = [[0; LANES]; 4];
    for (lane, bytes) in encoded.iter().enumerate().take(LANES) {
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            word[lane] = u64::from_le_bytes(*bytes);
        }
    }
    [
        Lanes::load(cpu, &words[0]),
        Lanes::load(cpu, &words[1]),
        Lanes::load(cpu, &words[2]),
        Lanes::load(cpu, &words[3]),
    ]
}

/// The inverse of [`load_words`], for as many strings as there is room for.
#[inline(always)]
pub(super) fn store_words(words: [Lanes; 4], encoded: &mut [Encoded]) {
    let words = [
        words[0].store(),
        words[1].store(),
        words[2].store(),
        words[3].store(),
    ];
    for (lane, bytes) in encoded.iter_mut().enumerate().take(LANES) {
        for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *bytes = word[lane].to_le_bytes();
        }
    }
}

/// Decodes up to `BLOCK` groups (RFC 9496 §4.3.1). The masks say which lanes hold the canonical encoding of an element;
/// the others hold harmless garbage.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
pub(super) fn decode_block(
    cpu: Cpu,
    encoded: &[Encoded],
    points: &mut [Extended; BLOCK],
) -> [Mask; BLOCK] {
    let zero = Fe::zero(cpu);
    let mut s = [zero; BLOCK];
    let mut v = [zero; BLOCK];
    let mut roots = [zero; BLOCK];
    let mut valid = [Mask::from_bits(0); BLOCK];
    let groups = encoded.len().div_ceil(LANES).min(BLOCK);
    for group in 0..groups {
        let chunk = &encoded[LANES * group..];
        let words = load_words(cpu, &chunk[..chunk.len().min(LANES)]);
        let element = Fe::from_words(words);
        // Canonical: the encoding of what it decodes to; that clears the high bit as well. Non-negative: even.
        let [w0, w1, w2, w3] = element.to_words();
        valid[group] = w0
            .equals(words[0])
            .and(w1.equals(words[1]))
            .and(w2.equals(words[2]))
            .and(w3.equals(words[3]))
            .and(w0.has_bits(w0.with(1)).not());
        s[group] = element;
        let (u1, u2) = one_minus_and_plus_square(&element);
        let u2_square = u2.square();
        // v = -(D * u1^2) - u2^2
        v[group] = u1.square().mul(&u1.with(D)).add(&u2_square).negate();
        roots[group] = v[group].mul(&u2_square);
    }
    let mut is_square = [Mask::from_bits(0); BLOCK];
    inverse_square_root_each(&mut roots[..groups], &mut is_square[..groups]);
    for group in 0..groups {
        let (u1, u2) = one_minus_and_plus_square(&s[group]);
        let den_x = roots[group].mul(&u2);
        let den_y = roots[group].mul(&den_x).mul(&v[group]);
        let x = s[group].add(&s[group]).mul(&den_x).abs();
        let y = u1.mul(&den_y);
        let t = x.mul(&y);
        valid[group] = valid[group]
            .and(is_square[group])
            .and(t.is_negative().not())
            .and(y.is_zero().not());
        points[group] = Extended {
            x,
            y,
            z: s[group].with(ONE),
            t,
        };
    }
    valid
}

/// 1 - x^2 and 1 + x^2.
#[inline(always)]
fn one_minus_and_plus_square(x: &Fe) -> (Fe, Fe) {
    let one = x.with(ONE);
    let square = x.square_wide();
    (
        one.wide_biased().sub(square).carry(),
        one.wide().add(square).carry(),
    )
}

/// Encodes up to `BLOCK` groups (RFC 9496 §4.3.2), as many elements as there is room for.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
pub(super) fn encode_block(cpu: Cpu, points: &[Extended], encoded: &mut [Encoded]) {
    let zero = Fe::zero(cpu);
    let mut u1 = [zero; BLOCK];
    let mut u2 = [zero; BLOCK];
    let mut roots = [zero; BLOCK];
    let groups = points.len();
    for (group, p) in points.iter().enumerate() {
        u1[group] = p.z.add(&p.y).mul(&p.z.sub(&p.y));
        u2[group] = p.x.mul(&p.y);
        roots[group] = u1[group].mul(&u2[group].square());
    }
    let mut is_square = [Mask::from_bits(0); BLOCK];
    inverse_square_root_each(&mut roots[..groups], &mut is_square[..groups]);
    for (group, (p, encoded)) in points.iter().zip(encoded.chunks_mut(LANES)).enumerate() {
        let i = p.x.with(SQRT_M1);
        let den1 = roots[group].mul(&u1[group]);
        let den2 = roots[group].mul(&u2[group]);
        let z_inv = den1.mul(&den2).mul(&p.t);
        let rotate = p.t.mul(&z_inv).is_negative();
        let x = p.x.or_where(rotate, &p.y.mul(&i));
        let y = p.y.or_where(rotate, &p.x.mul(&i));
        let den_inv = den2.or_where(rotate, &den1.mul(&den1.with(INVSQRT_A_MINUS_D)));
        let y = y.negate_where(x.mul(&z_inv).is_negative());
        let s = den_inv.mul(&p.z.sub(&y)).abs();
        store_words(s.to_words(), encoded);
    }
    u1.zeroize();
    u2.zeroize();
    roots.zeroize();
}

/// Encodes the results of doublings that stopped before their last products, up to `INVERSION_BLOCK` groups with one
/// inversion: curve25519-dalek's `double_and_compress_batch`, after Mike Hamburg. On the curve Z^2 + d T^2 = Y^2 - X^2, so
/// its (e, f, g, h) are the doubling's (E, G, H, F).
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
pub(super) fn encode_doubled(cpu: Cpu, states: &[Completed], encoded: &mut [Encoded]) {
    let one = Fe::constant(cpu, ONE);
    let mut chains = [one; CHAINS];
    // The product of a chain before each group; later the inverse of the group's own product.
    let mut inverses = [one; INVERSION_BLOCK];
    let mut is_identity = [Mask::from_bits(0); INVERSION_BLOCK];
    for (group, state) in states.iter().enumerate() {
        let product = state.e.mul(&state.h).mul(&state.g.mul(&state.f));
        // A product of zero means that the element is the identity: left out of the inversion.
        is_identity[group] = product.is_zero();
        let chain = &mut chains[group % CHAINS];
        inverses[group] = *chain;
        *chain = chain.mul(&product.or_where(is_identity[group], &one));
    }
    invert_each(&mut chains);
    let groups = states.iter().zip(encoded.chunks_mut(LANES)).enumerate();
    for (group, (state, encoded)) in groups.rev() {
        let Completed {
            e,
            f: h,
            g: f,
            h: g,
        } = *state;
        let (eg, fh) = (e.mul(&g), f.mul(&h));
        let chain = &mut chains[group % CHAINS];
        let inverse = chain.mul(&inverses[group]);
        *chain = chain.mul(&eg.mul(&fh).or_where(is_identity[group], &one));
        let z_inv = eg.mul(&inverse);
        let t_inv = fh.mul(&inverse);
        let rotate = eg.mul(&z_inv).is_negative();
        let i = e.with(SQRT_M1);
        let magic = e.with(INVSQRT_A_MINUS_D).or_where(rotate, &i);
        let rotated_e = e.or_where(rotate, &g);
        let rotated_g = g.or_where(rotate, &e.negate());
        let rotated_h = h.or_where(rotate, &f.mul(&i));
        let g = rotated_g.negate_where(rotated_h.mul(&rotated_e).mul(&z_inv).is_negative());
        let s = rotated_h.sub(&g).mul(&magic.mul(&g.mul(&t_inv))).abs();
        let s = s.or_where(is_identity[group], &s.with([0; 5]));
        store_words(s.to_words(), encoded);
    }
    inverses.zeroize();
    chains.zeroize();
}

/// Maps up to `BLOCK` groups of 64 uniform bytes, as eight little-endian words a lane, to the group: the sum of two
/// Elligator maps (RFC 9496 §4.3.4).
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
pub(super) fn map_block(cpu: Cpu, uniform: &[[Lanes; 8]], points: &mut [Extended]) {
    let zero = Fe::zero(cpu);
    let mut inputs = [Elligator::new(zero); 2 * BLOCK];
    let mut roots = [zero; 2 * BLOCK];
    for (group, [w0, w1, w2, w3, w4, w5, w6, w7]) in uniform.iter().enumerate() {
        for (half, words) in [[*w0, *w1, *w2, *w3], [*w4, *w5, *w6, *w7]]
            .into_iter()
            .enumerate()
        {
            let input = Elligator::new(Fe::from_words(words));
            roots[2 * group + half] = input.u.mul(&input.v);
            inputs[2 * group + half] = input;
        }
    }
    let mut is_square = [Mask::from_bits(0); 2 * BLOCK];
    let halves = 2 * uniform.len();
    inverse_square_root_each(&mut roots[..halves], &mut is_square[..halves]);
    for (group, point) in points.iter_mut().enumerate() {
        let p = inputs[2 * group].finish(&roots[2 * group], is_square[2 * group]);
        let q = inputs[2 * group + 1].finish(&roots[2 * group + 1], is_square[2 * group + 1]);
        *point = p
            .extended()
            .augend()
            .add(&q.extended().cached(), Mask::from_bits(0))
            .extended();
    }
    for input in &mut inputs {
        input.t.zeroize();
        input.r.zeroize();
        input.u.zeroize();
        input.v.zeroize();
    }
    roots.zeroize();
}

/// One Elligator map, before its square root.
#[derive(Clone, Copy)]
struct Elligator {
    t: Fe,
    r: Fe,
    u: Fe,
    v: Fe,
}

impl Elligator {
    #[inline(always)]
    fn new(t: Fe) -> Self {
        let one = t.with(ONE);
        let r = t.square().mul(&t.with(SQRT_M1));
        let u = r.add(&one).mul(&t.with(ONE_MINUS_D_SQ));
        // v = (-1 - r*D) * (r + D)
        let v = one.add(&r.mul(&t.with(D))).negate().mul(&r.add(&t.with(D)));
        Self { t, r, u, v }
    }

    /// `root` is the inverse square root of `u * v`: SQRT_RATIO_M1(u, v) = |u * root|, a square also when u = 0.
    #[inline(always)]
    fn finish(&self, root: &Fe, is_square: Mask) -> Completed {
        let one = self.t.with(ONE);
        let is_square = is_square.or(self.u.is_zero());
        let s = self.u.mul(root).abs();
        let s = s.mul(&self.t).abs().negate().or_where(is_square, &s);
        let c = self.r.or_where(is_square, &one.negate());
        let n = c
            .mul(&self.r.sub(&one))
            .mul_wide_biased(&self.t.with(D_MINUS_ONE_SQ))
            .sub(self.v.wide())
            .carry();
        let (w2, w3) = one_minus_and_plus_square(&s);
        // X = w0 w3, Y = w2 w1, Z = w1 w3, T = w0 w2
        Completed {
            e: s.add(&s).mul(&self.v),
            f: w3,
            g: n.mul(&n.with(SQRT_AD_MINUS_ONE)),
            h: w2,
        }
    }
}
