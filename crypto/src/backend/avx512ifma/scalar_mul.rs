//! One secret scalar times many points, left as the batch state of their encodings.
//!
//! Signed radix-16 digits shared by every lane, and a table of the multiples 1P to 8P a group of eight points. Each table
//! look-up reads all entries under masks; the masks were made from the digits once a batch, and come from memory, so that
//! the compiler cannot see a condition that it could branch on.

use curve25519_dalek::scalar::Scalar;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroize;

use super::{
    Cpu,
    edwards::{Cached, Completed, Extended},
    field::{Constant, ONE},
    lanes::Mask,
};

/// Entries of a table: the multiples 1 to 8.
const ENTRIES: usize = 8;
/// Digits of a scalar: magnitudes up to 8 reach 8 * (16^63 - 1) / 15, which is over half the group order.
const DIGITS: usize = 63;

/// One digit in [-8, 8], as masks over eight lanes.
#[derive(Clone, Copy)]
struct Digit {
    /// Mask `j` is full when the digit's magnitude is `j + 1`, else empty.
    is_multiple: [u8; ENTRIES],
    /// Full when the digit is negative.
    is_negative: u8,
}

/// Half of a secret scalar, as masks: the encoding doubles. Zeroized on drop.
pub(super) struct HalvedScalar([Digit; DIGITS]);

impl HalvedScalar {
    pub(super) fn new(scalar: &Scalar) -> Self {
        let mut half = scalar * Scalar::from(2_u8).invert();
        let mut negated = -half;
        // One of the two is at most (order - 1) / 2 < 2^251 + 2^124, which 63 digits can hold.
        let is_upper = exceeds_half_order(&half);
        let mut magnitude = Scalar::conditional_select(&half, &negated, is_upper);
        let mut digits = signed_radix_16(&magnitude);
        let flip = is_upper.unwrap_u8().wrapping_neg();
        let masks = digits.map(|digit| {
            let sign = digit >> 7;
            let absolute = ((digit ^ sign) - sign).cast_unsigned();
            let mut is_multiple = [0; ENTRIES];
            for (multiple, mask) in (1_u8..).zip(&mut is_multiple) {
                *mask = absolute.ct_eq(&multiple).unwrap_u8().wrapping_neg();
            }
            Digit {
                is_multiple,
                is_negative: sign.cast_unsigned() ^ flip,
            }
        });
        half.zeroize();
        negated.zeroize();
        magnitude.zeroize();
        digits.zeroize();
        Self(masks)
    }
}

impl Drop for HalvedScalar {
    fn drop(&mut self) {
        for digit in &mut self.0 {
            digit.is_multiple.zeroize();
            digit.is_negative.zeroize();
        }
    }
}

/// Whether a scalar is over (order - 1) / 2, in constant time.
fn exceeds_half_order(scalar: &Scalar) -> Choice {
    const HALF_ORDER: [u64; 4] = [
        0x2c09_318d_2e7a_e9f6,
        0x0a6f_7cef_517b_ce6b,
        0,
        0x0800_0000_0000_0000,
    ];
    let mut borrow = 0;
    for (half, bytes) in HALF_ORDER.iter().zip(scalar.as_bytes().as_chunks::<8>().0) {
        let difference =
            u128::from(*half).wrapping_sub(u128::from(u64::from_le_bytes(*bytes)) + borrow);
        borrow = difference >> 127;
    }
    Choice::from(borrow as u8)
}

/// Digits in [-8, 8) but the last, in [0, 8], of a scalar that is at most (order - 1) / 2, lowest first.
fn signed_radix_16(scalar: &Scalar) -> [i8; DIGITS] {
    let mut digits = [0; DIGITS];
    let mut carry = 0;
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (scalar.as_bytes()[index / 2] >> (4 * (index % 2))) & 15;
        let value = nibble.cast_signed() + carry;
        carry = (value + 8) >> 4;
        *digit = value - (carry << 4);
    }
    // The top nibble is at most 7, or 8 with so small a rest (below 2^124) that there is no carry into it; it keeps its own.
    digits[DIGITS - 1] += carry << 4;
    digits
}

/// 1P to 8P.
type Table = [Cached; ENTRIES];

/// Reads every entry; the identity for digit zero.
#[inline(always)]
fn look_up(table: &Table, digit: &Digit) -> Cached {
    const ZERO: Constant = [0; 5];
    const TWO: Constant = [2, 0, 0, 0, 0];
    macro_rules! scan {
        ($coordinate:ident, $identity:expr) => {{
            let mut selected = table[0].$coordinate.with($identity);
            scan!(@entries selected, $coordinate, 0 1 2 3 4 5 6 7);
            selected
        }};
        (@entries $selected:ident, $coordinate:ident, $($entry:literal)*) => {$(
            $selected = $selected.or_where(Mask::from_bits(digit.is_multiple[$entry]), &table[$entry].$coordinate);
        )*};
    }
    Cached {
        y_minus_x: scan!(y_minus_x, ONE),
        y_plus_x: scan!(y_plus_x, ONE),
        z2: scan!(z2, TWO),
        t2d: scan!(t2d, ZERO),
    }
}

/// Fills the table for eight points.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn fill(table: &mut Table, p: &Extended) {
    const POSITIVE: Mask = Mask::from_bits(0);
    let p1 = p.cached();
    let p2 = p.projective().double().extended();
    let p3 = p2.augend().add(&p1, POSITIVE).extended();
    let p4 = p2.projective().double().extended();
    let p5 = p4.augend().add(&p1, POSITIVE).extended();
    let p6 = p3.projective().double().extended();
    let p7 = p6.augend().add(&p1, POSITIVE).extended();
    let p8 = p4.projective().double().extended();
    *table = [
        p1,
        p2.cached(),
        p3.cached(),
        p4.cached(),
        p5.cached(),
        p6.cached(),
        p7.cached(),
        p8.cached(),
    ];
}

/// Multiplies each group by the halved scalar and doubles the result, up to the last products of the doubling.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
pub(super) fn multiply_each(
    cpu: Cpu,
    scalar: &HalvedScalar,
    points: &[Extended],
    products: &mut [Completed],
) {
    let identity = Extended::identity(cpu);
    let mut table = [identity.cached(); ENTRIES];
    let (highest, rest) = scalar
        .0
        .split_last()
        .expect("the number of digits is not zero");
    for (point, product) in points.iter().zip(products) {
        fill(&mut table, point);
        let mut sum = identity.augend().add(
            &look_up(&table, highest),
            Mask::from_bits(highest.is_negative),
        );
        for digit in rest.iter().rev() {
            for _ in 0..4 {
                sum = sum.projective().double();
            }
            sum = sum
                .augend()
                .add(&look_up(&table, digit), Mask::from_bits(digit.is_negative));
        }
        *product = sum.projective().double();
    }
    table.zeroize();
}

/// Doubles each group, up to the last products of the doubling.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
pub(super) fn double_each(points: &[Extended], products: &mut [Completed]) {
    for (point, product) in points.iter().zip(products) {
        *product = point.projective().double();
    }
}
