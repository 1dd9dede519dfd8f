//! One public base times a secret scalar of its own for each lane, added to points: a comb without doublings.
//!
//! The signed bits s_j = +-1 of a 258-bit word give every number of the form 2u - (2^258 - 1), so with a table for half the
//! base every scalar k has the word u = k + (2^258 - 1) / 2 and 43 digits of six signed bits, all odd: there is no zero
//! digit, and one mixed addition a digit. The 32 multiples 1, 3, ..., 63 of a window lie in four registers for each limb,
//! and a lane looks its own up by permutation, whatever its digit.

use curve25519_dalek::{ristretto::RistrettoPoint, scalar::Scalar};
use zeroize::Zeroize;

use super::{
    Cpu,
    edwards::{AffineCached, Augend, Extended},
    field::{D2, Fe, ONE, pow::invert_each},
    lanes::{LANES, Lanes, Mask, Row},
    ristretto::{BLOCK, decode_block},
};

/// Bits a digit.
const WIDTH: usize = 6;
/// Digits a scalar: 258 bits, as the word is below 2^252 + 2^125 + 2^253.
const WINDOWS: usize = 43;
/// Multiples a window: 1, 3, ..., 63.
const MULTIPLES: usize = 32;
/// Registers for one limb of the multiples.
const ROWS: usize = MULTIPLES / LANES;
/// Groups that go through the windows together, so that a window's table is fetched once for all of them.
const GROUPS: usize = 16;

/// One limb of all multiples of a window.
type LimbTable = [Row; ROWS];

/// The multiples of 64^i times half the base, limb by limb.
struct Window {
    y_minus_x: [LimbTable; 5],
    y_plus_x: [LimbTable; 5],
    xy2d: [LimbTable; 5],
}

/// A public base's windows, lowest first.
pub(super) struct Comb(Vec<Window>);

impl Comb {
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
    pub(super) fn new(cpu: Cpu, base: &RistrettoPoint) -> Self {
        let half = base * Scalar::from(2_u8).invert();
        let mut decoded = [Extended::identity(cpu); BLOCK];
        decode_block(cpu, &[half.compress().to_bytes(); LANES], &mut decoded);
        // Window i in lane i mod 8 of group i / 8.
        let mut power = decoded[0];
        let mut firsts = [Extended::identity(cpu); WINDOWS.div_ceil(LANES)];
        for window in 0..WINDOWS {
            let first = &mut firsts[window / LANES];
            *first = first.or_where(Mask::from_bits(1 << (window % LANES)), &power);
            for _ in 0..WIDTH {
                power = power.projective().double().extended();
            }
        }
        let mut multiples = Vec::with_capacity(firsts.len() * MULTIPLES);
        for first in &firsts {
            let doubled = first.projective().double().extended().cached();
            let mut multiple = *first;
            for _ in 0..MULTIPLES {
                multiples.push(multiple);
                multiple = multiple
                    .augend()
                    .add(&doubled, Mask::from_bits(0))
                    .extended();
            }
        }
        let affine = normalize(cpu, &multiples);
        let window = |window: usize| {
            let at = |multiple: usize| &affine[window / LANES * MULTIPLES + multiple];
            let table = |limb: usize, coordinate: fn(&AffineCached) -> &Fe| -> LimbTable {
                let mut rows = [Row([0; LANES]); ROWS];
                for multiple in 0..MULTIPLES {
                    rows[multiple / LANES].0[multiple % LANES] =
                        coordinate(at(multiple)).0[limb].store()[window % LANES];
                }
                rows
            };
            let tables = |coordinate: fn(&AffineCached) -> &Fe| {
                [0, 1, 2, 3, 4].map(|limb| table(limb, coordinate))
            };
            Window {
                y_minus_x: tables(|point| &point.y_minus_x),
                y_plus_x: tables(|point| &point.y_plus_x),
                xy2d: tables(|point| &point.xy2d),
            }
        };
        Self((0..WINDOWS).map(window).collect())
    }
}

/// (y - x, y + x, 2dxy) of each point, with one inversion.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn normalize(cpu: Cpu, points: &[Extended]) -> Vec<AffineCached> {
    let one = Fe::constant(cpu, ONE);
    let mut before = Vec::with_capacity(points.len());
    let mut product = one;
    for point in points {
        before.push(product);
        product = product.mul(&point.z);
    }
    let mut inverse = [product];
    invert_each(&mut inverse);
    let [mut inverse] = inverse;
    let mut affine: Vec<AffineCached> = Vec::with_capacity(points.len());
    for (point, before) in points.iter().zip(&before).rev() {
        let z_inverse = inverse.mul(before);
        inverse = inverse.mul(&point.z);
        affine.push(affine_cached(
            &point.x.mul(&z_inverse),
            &point.y.mul(&z_inverse),
        ));
    }
    affine.reverse();
    affine
}

/// (y - x, y + x, 2dxy).
#[inline(always)]
pub(super) fn affine_cached(x: &Fe, y: &Fe) -> AffineCached {
    AffineCached {
        y_minus_x: y.sub(x),
        y_plus_x: y.add(x),
        xy2d: x.mul(y).mul(&x.with(D2)),
    }
}

/// The signed-bit words of up to eight scalars: k + (2^258 - 1) / 2 modulo the group order, unreduced.
#[inline(always)]
fn signed_bits(cpu: Cpu, offset: &[u64; 4], scalars: &[Scalar]) -> [Lanes; 4] {
    let mut words = [[0; LANES]; 4];
    for (lane, scalar) in scalars.iter().enumerate().take(LANES) {
        let mut carry = 0;
        for ((words, bytes), offset) in words
            .iter_mut()
            .zip(scalar.as_bytes().as_chunks::<8>().0)
            .zip(offset)
        {
            let sum = u128::from(u64::from_le_bytes(*bytes)) + u128::from(*offset) + carry;
            words[lane] = sum as u64;
            carry = sum >> 64;
        }
    }
    let lanes = [
        Lanes::load(cpu, &words[0]),
        Lanes::load(cpu, &words[1]),
        Lanes::load(cpu, &words[2]),
        Lanes::load(cpu, &words[3]),
    ];
    words.zeroize();
    lanes
}

/// (2^258 - 1) / 2 modulo the group order.
fn signed_bits_offset() -> [u64; 4] {
    let mut power = Scalar::ONE;
    for _ in 0..WIDTH * WINDOWS {
        power += power;
    }
    let offset = (power - Scalar::ONE) * Scalar::from(2_u8).invert();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(offset.as_bytes().as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Each lane's multiple number `index` in 0..32.
#[inline(always)]
fn look_up(tables: &[LimbTable; 5], index: Lanes, upper: Mask) -> Fe {
    macro_rules! limb {
        ($limb:literal) => {{
            let [r0, r1, r2, r3] = &tables[$limb];
            let low = index.look_up_16(index.load_row(r0), index.load_row(r1));
            low.or_where(
                upper,
                index.look_up_16(index.load_row(r2), index.load_row(r3)),
            )
        }};
    }
    Fe([limb!(0), limb!(1), limb!(2), limb!(3), limb!(4)])
}

/// Adds `scalars[i]` times the base to each element.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn offset_each(cpu: Cpu, points: &mut [Extended], comb: &Comb, scalars: &[Scalar]) {
    let offset = signed_bits_offset();
    let zero = Lanes::splat(cpu, 0);
    let mut words = [[zero; 4]; GROUPS];
    let mut sums = [Extended::identity(cpu).augend(); GROUPS];
    for (points, scalars) in points
        .chunks_mut(GROUPS)
        .zip(scalars.chunks(GROUPS * LANES))
    {
        for ((words, sum), (point, scalars)) in words
            .iter_mut()
            .zip(&mut sums)
            .zip(points.iter().zip(scalars.chunks(LANES)))
        {
            *words = signed_bits(cpu, &offset, scalars);
            *sum = point.augend();
        }
        let groups = points.len();
        let (last, rest) = comb.0.split_last().expect("a comb has windows");
        for window in rest {
            add_window(window, &mut words[..groups], &mut sums[..groups]);
        }
        add_last_window(last, &mut words[..groups], &sums[..groups], points);
    }
    words.zeroize();
    sums.zeroize();
}

/// Takes the lowest digit off a word: the multiple it names, and where it is negative.
#[inline(always)]
fn next_multiple(window: &Window, words: &mut [Lanes; 4]) -> (AffineCached, Mask) {
    let [w0, w1, w2, w3] = *words;
    // Digit u stands for 2u - 63: positive from 32 on, then multiple number u - 32; else the negative of number 31 - u.
    let negative = w0.has_bits(w0.with(32)).not();
    let index = w0.or_where(negative, w0.xor(w0.with(31)));
    let upper = index.has_bits(index.with(16));
    *words = [
        w0.shr::<6>().or(w1.shl::<58>()),
        w1.shr::<6>().or(w2.shl::<58>()),
        w2.shr::<6>().or(w3.shl::<58>()),
        w3.shr::<6>(),
    ];
    let multiple = AffineCached {
        y_minus_x: look_up(&window.y_minus_x, index, upper),
        y_plus_x: look_up(&window.y_plus_x, index, upper),
        xy2d: look_up(&window.xy2d, index, upper),
    };
    (multiple, negative)
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn add_window(window: &Window, words: &mut [[Lanes; 4]], sums: &mut [Augend]) {
    for (words, sum) in words.iter_mut().zip(sums) {
        let (multiple, negative) = next_multiple(window, words);
        *sum = sum.add_affine(&multiple, negative).augend();
    }
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn add_last_window(
    window: &Window,
    words: &mut [[Lanes; 4]],
    sums: &[Augend],
    points: &mut [Extended],
) {
    for ((words, sum), point) in words.iter_mut().zip(sums).zip(points) {
        let (multiple, negative) = next_multiple(window, words);
        *point = sum.add_affine(&multiple, negative).extended();
    }
}
