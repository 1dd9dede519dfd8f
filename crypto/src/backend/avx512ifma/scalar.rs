//! Reduction of eight 512-bit numbers modulo the group order, for public numbers or secret ones alike.
//!
//! The order is 2^252 + d with d < 2^125, so 2^252 may be replaced by -d: three times, each with a multiple of the order
//! added that keeps the result positive. Limbs of radix 2^52.

use super::lanes::{Lanes, Mask};

const LIMB_MASK: u64 = (1 << 52) - 1;
/// The part of limb 4 below 2^252.
const TOP_MASK: u64 = (1 << 44) - 1;
/// The group order less 2^252.
const D: [u64; 3] = [0x2631a5cf5d3ed, 0xdea2f79cd6581, 0x000000014def9];
/// The group order.
const ORDER: [u64; 5] = [
    0x2631a5cf5d3ed,
    0xdea2f79cd6581,
    0x000000014def9,
    0x0000000000000,
    0x0100000000000,
];
/// The group order times 2^134, which is over 2^260 d.
const ORDER_134: [u64; 8] = [
    0x0000000000000,
    0x0000000000000,
    0xd74fb40000000,
    0x35960498c6973,
    0x537be77a8bde7,
    0x0000000000000,
    0x0000000000000,
    0x0000000400000,
];
/// The group order times 2^8, which is over 2^135 d.
const ORDER_8: [u64; 6] = [
    0x31a5cf5d3ed00,
    0xa2f79cd658126,
    0x0000014def9de,
    0x0000000000000,
    0x0000000000000,
    0x0000000000001,
];

/// Adds the limbs of a constant and takes away `d` times the number with limbs `high`, then carries.
///
/// Preconditions: N >= H + 3; the result is not negative; limbs of `low` and `high` < 2^52. Postcondition: limbs < 2^52.
#[inline(always)]
fn fold<const N: usize, const H: usize>(
    low: [Lanes; 5],
    high: [Lanes; H],
    order: &[u64; N],
) -> [Lanes; N] {
    let zero = low[0].zero();
    let mask = zero.with(LIMB_MASK);
    let mut product = [zero; N];
    for (i, high) in high.iter().enumerate() {
        for (j, d) in D.iter().enumerate() {
            product[i + j] = product[i + j].madd_lo(*high, zero.with(*d));
            product[i + j + 1] = product[i + j + 1].madd_hi(*high, zero.with(*d));
        }
    }
    let mut limbs = [zero; N];
    let mut carry = zero;
    for (index, limb) in limbs.iter_mut().enumerate() {
        let sum = carry.add(zero.with(order[index])).sub(product[index]);
        let sum = if index < 5 { sum.add(low[index]) } else { sum };
        carry = sum.shift_right_signed::<52>();
        *limb = sum.and(mask);
    }
    limbs
}

/// 64 little-endian bytes a lane modulo the group order, as 32 little-endian bytes a lane.
#[inline(always)]
pub(super) fn reduce_wide(words: &[Lanes; 8]) -> [Lanes; 4] {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = *words;
    let mask = w0.with(LIMB_MASK);
    let top = w0.with(TOP_MASK);
    let low = [
        w0.and(mask),
        w0.shr::<52>().or(w1.shl::<12>()).and(mask),
        w1.shr::<40>().or(w2.shl::<24>()).and(mask),
        w2.shr::<28>().or(w3.shl::<36>()).and(mask),
        w3.shr::<16>().and(top),
    ];
    let high = [
        w3.shr::<60>().or(w4.shl::<4>()).and(mask),
        w4.shr::<48>().or(w5.shl::<16>()).and(mask),
        w5.shr::<36>().or(w6.shl::<28>()).and(mask),
        w6.shr::<24>().or(w7.shl::<40>()).and(mask),
        w7.shr::<12>(),
    ];
    // Below 2^387.
    let [y0, y1, y2, y3, y4, y5, y6, y7] = fold(low, high, &ORDER_134);
    let high = [
        y4.shr::<44>().or(y5.shl::<8>()).and(mask),
        y5.shr::<44>().or(y6.shl::<8>()).and(mask),
        y6.shr::<44>().or(y7.shl::<8>()).and(mask),
    ];
    // Below 2^261.
    let [z0, z1, z2, z3, z4, z5] = fold([y0, y1, y2, y3, y4.and(top)], high, &ORDER_8);
    let high = [z4.shr::<44>().or(z5.shl::<8>()).and(mask)];
    // Below 2^252 + the order, so below twice the order.
    let reduced = fold([z0, z1, z2, z3, z4.and(top)], high, &ORDER);
    subtract_order(reduced)
}

/// Takes the order away unless that gives a negative number, and packs the limbs into words.
#[inline(always)]
fn subtract_order(limbs: [Lanes; 5]) -> [Lanes; 4] {
    let zero = limbs[0].zero();
    let mask = zero.with(LIMB_MASK);
    let mut difference = [zero; 5];
    let mut borrow = zero;
    for ((difference, limb), order) in difference.iter_mut().zip(limbs).zip(ORDER) {
        let sum = limb.sub(zero.with(order)).add(borrow);
        borrow = sum.shift_right_signed::<52>();
        *difference = sum.and(mask);
    }
    let is_less: Mask = borrow.has_bits(borrow);
    let [r0, r1, r2, r3, r4] = [
        difference[0].or_where(is_less, limbs[0]),
        difference[1].or_where(is_less, limbs[1]),
        difference[2].or_where(is_less, limbs[2]),
        difference[3].or_where(is_less, limbs[3]),
        difference[4].or_where(is_less, limbs[4]),
    ];
    [
        r0.or(r1.shl::<52>()),
        r1.shr::<12>().or(r2.shl::<40>()),
        r2.shr::<24>().or(r3.shl::<28>()),
        r3.shr::<36>().or(r4.shl::<16>()),
    ]
}
