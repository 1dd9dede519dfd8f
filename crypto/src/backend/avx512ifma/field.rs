//! Arithmetic modulo p = 2^255 - 19 on eight field elements at once.
//!
//! Five limbs of radix 2^51. Two types keep the bounds apart, because the 52-bit multiplier silently ignores higher bits:
//!
//! - [`Fe`], *tight*: every limb < 2^51 + 2^17. The only multiplication operand.
//! - [`Wide`], *wide*: a folded column sum that has not been carried, every limb < 2^63. Products come out wide, and linear
//!   combinations are made on wide values, so that each formula output is carried once.
//!
//! A wide product of tight operands has limbs < [`PRODUCT_LIMB`] = 2^59; a *biased* product has a multiple of p added that
//! makes any other unbiased product safe to subtract from it (limbs in [2^60, 2^61 + 2^59)).

pub(super) mod pow;

use zeroize::Zeroize;

use super::{
    Cpu,
    lanes::{Lanes, Mask},
};

/// Bits a limb.
const RADIX: u32 = 51;
/// The low bits of a limb.
const LIMB_MASK: u64 = (1 << RADIX) - 1;
/// p in tight limbs.
const P: [u64; 5] = [LIMB_MASK - 18, LIMB_MASK, LIMB_MASK, LIMB_MASK, LIMB_MASK];
/// Bound of a tight limb.
const TIGHT_LIMB: u64 = (1 << RADIX) + (1 << 17);
/// Bound of an unbiased product's limb.
///
/// The largest is limb 0: its wrapped columns are at most (5 * 2 * 2^50 + 4 * 2^52) * 19 < 2^59 - 2^53 (the high half of a
/// tight product is barely over 2^50), and its own column is one low half.
const PRODUCT_LIMB: u64 = 1 << 59;
/// Bound of any wide limb: a limb at or over it has gone below zero.
const WIDE_LIMB: u64 = 1 << 63;
/// The bias of a product is p times 2 to this.
const BIAS_SHIFT: u32 = 10;

/// The limbs of a constant, for [`Fe::constant`].
pub(super) type Constant = [u64; 5];

pub(super) const ONE: Constant = [1, 0, 0, 0, 0];
/// d = -121665 / 121666 of edwards25519 (RFC 9496 §4.1).
pub(super) const D: Constant = [
    0x34dca135978a3,
    0x1a8283b156ebd,
    0x5e7a26001c029,
    0x739c663a03cbb,
    0x52036cee2b6ff,
];
/// 2d.
pub(super) const D2: Constant = [
    0x69b9426b2f159,
    0x35050762add7a,
    0x3cf44c0038052,
    0x6738cc7407977,
    0x2406d9dc56dff,
];
/// The square root of -1 that RFC 9496 §4.1 names.
pub(super) const SQRT_M1: Constant = [
    0x61b274a0ea0b0,
    0x0d5a5fc8f189d,
    0x7ef5e9cbd0c60,
    0x78595a6804c9e,
    0x2b8324804fc1d,
];
/// 1 / sqrt(a - d) (RFC 9496 §4.1).
pub(super) const INVSQRT_A_MINUS_D: Constant = [
    0x0fdaa805d40ea,
    0x2eb482e57d339,
    0x007610274bc58,
    0x6510b613dc8ff,
    0x786c8905cfaff,
];
/// sqrt(a * d - 1) (RFC 9496 §4.1).
pub(super) const SQRT_AD_MINUS_ONE: Constant = [
    0x7f6a0497b2e1b,
    0x1836f0a97afd2,
    0x7d747f6be7638,
    0x456079e7e6498,
    0x376931bf2b834,
];
/// 1 - d^2 (RFC 9496 §4.1).
pub(super) const ONE_MINUS_D_SQ: Constant = [
    0x409c1945fc176,
    0x719abc6a1fc4f,
    0x1c37f90b20684,
    0x06bccca55eedf,
    0x029072a8b2b3e,
];
/// (d - 1)^2 (RFC 9496 §4.1).
pub(super) const D_MINUS_ONE_SQ: Constant = [
    0x55aaa44ed4d20,
    0x59603c3332635,
    0x26d3baf4a7928,
    0x120a66e6997a9,
    0x5968b37af66c2,
];

/// Eight tight field elements.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Fe(pub(super) [Lanes; 5]);

/// Eight wide field elements.
#[derive(Clone, Copy)]
pub(super) struct Wide([Lanes; 5]);

/// A sum of half products into one accumulator: `madd!(lo a, b, start; i j, ...)` adds low halves of `a[i] * b[j]`.
macro_rules! madd {
    (lo $a:ident, $b:ident, $start:expr; $($i:literal $j:literal),+) => { $start$(.madd_lo($a[$i], $b[$j]))+ };
    (hi $a:ident, $b:ident, $start:expr; $($i:literal $j:literal),+) => { $start$(.madd_hi($a[$i], $b[$j]))+ };
}

impl Lanes {
    #[inline(always)]
    fn double(self) -> Self {
        self.add(self)
    }

    /// 19 times.
    #[inline(always)]
    fn times_19(self) -> Self {
        self.mul_low(self.with(19))
    }
}

impl Fe {
    /// The same element in every lane.
    ///
    /// Precondition: tight limbs.
    #[inline(always)]
    pub(super) fn constant(cpu: Cpu, limbs: Constant) -> Self {
        Self(limbs.map_lanes(Lanes::splat(cpu, 0)))
    }

    /// A constant, on the strength of this element.
    #[inline(always)]
    pub(super) fn with(&self, limbs: Constant) -> Self {
        Self(limbs.map_lanes(self.0[0]))
    }

    #[inline(always)]
    pub(super) fn zero(cpu: Cpu) -> Self {
        Self([Lanes::splat(cpu, 0); 5])
    }

    /// The low 255 bits of 32 little-endian bytes a lane, given as four words a lane. Values from p to 2^255 - 1 are reduced
    /// implicitly.
    #[inline(always)]
    pub(super) fn from_words(words: [Lanes; 4]) -> Self {
        let mask = words[0].with(LIMB_MASK);
        let [w0, w1, w2, w3] = words;
        Self([
            w0.and(mask),
            w0.shr::<51>().or(w1.shl::<13>()).and(mask),
            w1.shr::<38>().or(w2.shl::<26>()).and(mask),
            w2.shr::<25>().or(w3.shl::<39>()).and(mask),
            w3.shr::<12>().and(mask),
        ])
    }

    /// The canonical little-endian encoding, as four words a lane.
    #[inline(always)]
    pub(super) fn to_words(self) -> [Lanes; 4] {
        let [l0, l1, l2, l3, l4] = self.canonical();
        [
            l0.or(l1.shl::<51>()),
            l1.shr::<13>().or(l2.shl::<38>()),
            l2.shr::<26>().or(l3.shl::<25>()),
            l3.shr::<39>().or(l4.shl::<12>()),
        ]
    }

    /// Whether every limb is within the bound of a tight element: for assertions.
    #[inline(always)]
    pub(super) fn is_tight(&self) -> bool {
        all_below(&self.0, TIGHT_LIMB)
    }

    /// The same value, as a wide one.
    #[inline(always)]
    pub(super) const fn wide(self) -> Wide {
        Wide(self.0)
    }

    /// The same value with 2p added, so that a tight element can be subtracted from it.
    #[inline(always)]
    fn biased(self) -> Wide {
        const BIAS: Constant = [P[0] << 1, P[1] << 1, P[2] << 1, P[3] << 1, P[4] << 1];
        self.wide().add(Wide(BIAS.map_lanes(self.0[0])))
    }

    /// The element plus 2^10 p.
    ///
    /// Postcondition: limbs in [2^60, 2^61 + 2^59), as of a biased product.
    #[inline(always)]
    pub(super) fn wide_biased(&self) -> Wide {
        const BIAS: Constant = [
            P[0] << BIAS_SHIFT,
            P[1] << BIAS_SHIFT,
            P[2] << BIAS_SHIFT,
            P[3] << BIAS_SHIFT,
            P[4] << BIAS_SHIFT,
        ];
        self.wide().add(Wide(BIAS.map_lanes(self.0[0])))
    }

    #[inline(always)]
    pub(super) fn add(&self, other: &Self) -> Self {
        self.wide().add(other.wide()).carry()
    }

    #[inline(always)]
    pub(super) fn sub(&self, other: &Self) -> Self {
        self.biased().sub(other.wide()).carry()
    }

    #[inline(always)]
    pub(super) fn negate(&self) -> Self {
        self.with([0; 5]).sub(self)
    }

    #[inline(always)]
    pub(super) fn mul(&self, other: &Self) -> Self {
        self.mul_wide(other).carry()
    }

    #[inline(always)]
    pub(super) fn square(&self) -> Self {
        self.square_wide().carry()
    }

    /// Postcondition: limbs < 2^59.
    #[inline(always)]
    pub(super) fn mul_wide(&self, other: &Self) -> Wide {
        let product = self.mul_from(other, [self.0[0].zero(); 5]);
        debug_assert!(all_below(&product.0, PRODUCT_LIMB));
        product
    }

    /// A product plus 2^10 p.
    ///
    /// Postcondition: limbs in [2^60, 2^61 + 2^59).
    #[inline(always)]
    pub(super) fn mul_wide_biased(&self, other: &Self) -> Wide {
        // The high halves' accumulators are doubled after they start from the bias.
        let bias = |limb: usize, doublings: u32| P[limb] << (BIAS_SHIFT - doublings);
        self.mul_from(
            other,
            [bias(0, 0), bias(1, 1), bias(2, 1), bias(3, 1), bias(4, 1)].map_lanes(self.0[0]),
        )
    }

    /// Schoolbook: column k of the product is the low halves of limbs i + j = k and twice the high halves of i + j = k - 1;
    /// the columns from 5 wrap with a factor 19 (2^255 = 19 modulo p).
    ///
    /// Preconditions: tight limbs.
    #[inline(always)]
    fn mul_from(&self, other: &Self, bias: [Lanes; 5]) -> Wide {
        debug_assert!(self.is_tight() && other.is_tight());
        let (a, b) = (&self.0, &other.0);
        let zero = a[0].zero();
        let w0 = madd!(lo a, b, madd!(hi a, b, zero; 0 4, 1 3, 2 2, 3 1, 4 0).double(); 1 4, 2 3, 3 2, 4 1);
        let w1 = madd!(lo a, b, madd!(hi a, b, zero; 1 4, 2 3, 3 2, 4 1).double(); 2 4, 3 3, 4 2);
        let w2 = madd!(lo a, b, madd!(hi a, b, zero; 2 4, 3 3, 4 2).double(); 3 4, 4 3);
        let w3 = madd!(lo a, b, madd!(hi a, b, zero; 3 4, 4 3).double(); 4 4);
        let w4 = madd!(hi a, b, zero; 4 4).double();
        let u0 = madd!(lo a, b, bias[0]; 0 0);
        let u1 = madd!(lo a, b, madd!(hi a, b, bias[1]; 0 0).double(); 0 1, 1 0);
        let u2 = madd!(lo a, b, madd!(hi a, b, bias[2]; 0 1, 1 0).double(); 0 2, 1 1, 2 0);
        let u3 =
            madd!(lo a, b, madd!(hi a, b, bias[3]; 0 2, 1 1, 2 0).double(); 0 3, 1 2, 2 1, 3 0);
        let u4 = madd!(lo a, b, madd!(hi a, b, bias[4]; 0 3, 1 2, 2 1, 3 0).double(); 0 4, 1 3, 2 2, 3 1, 4 0);
        Wide([
            u0.add(w0.times_19()),
            u1.add(w1.times_19()),
            u2.add(w2.times_19()),
            u3.add(w3.times_19()),
            u4.add(w4.times_19()),
        ])
    }

    /// Postcondition: limbs < 2^59.
    #[inline(always)]
    pub(super) fn square_wide(&self) -> Wide {
        let product = self.square_from([self.0[0].zero(); 5]);
        debug_assert!(all_below(&product.0, PRODUCT_LIMB));
        product
    }

    /// A square plus 2^10 p.
    ///
    /// Postcondition: limbs in [2^60, 2^61 + 2^59).
    #[inline(always)]
    pub(super) fn square_wide_biased(&self) -> Wide {
        let bias = |limb: usize, doublings: u32| P[limb] << (BIAS_SHIFT - doublings);
        self.square_from(
            [bias(0, 0), bias(1, 1), bias(2, 2), bias(3, 2), bias(4, 2)].map_lanes(self.0[0]),
        )
    }

    /// As [`Fe::mul_from`], with each product of two different limbs taken once and its accumulator doubled.
    #[inline(always)]
    fn square_from(&self, bias: [Lanes; 5]) -> Wide {
        debug_assert!(self.is_tight());
        let a = &self.0;
        let zero = a[0].zero();
        let u0 = madd!(lo a, a, bias[0]; 0 0);
        let u1 = madd!(lo a, a, madd!(hi a, a, bias[1]; 0 0); 0 1).double();
        let u2 = madd!(lo a, a, madd!(lo a, a, madd!(hi a, a, bias[2]; 0 1).double(); 0 2).double(); 1 1);
        let u3 =
            madd!(lo a, a, madd!(hi a, a, madd!(hi a, a, bias[3]; 0 2).double(); 1 1); 0 3, 1 2)
                .double();
        let u4 = madd!(lo a, a, madd!(lo a, a, madd!(hi a, a, bias[4]; 0 3, 1 2).double(); 0 4, 1 3).double(); 2 2);
        let w0 =
            madd!(lo a, a, madd!(hi a, a, madd!(hi a, a, zero; 0 4, 1 3).double(); 2 2); 1 4, 2 3)
                .double();
        let w1 = madd!(lo a, a, madd!(lo a, a, madd!(hi a, a, zero; 1 4, 2 3).double(); 2 4).double(); 3 3);
        let w2 =
            madd!(lo a, a, madd!(hi a, a, madd!(hi a, a, zero; 2 4).double(); 3 3); 3 4).double();
        let w3 = madd!(lo a, a, madd!(hi a, a, zero; 3 4).double().double(); 4 4);
        let w4 = madd!(hi a, a, zero; 4 4).double();
        Wide([
            u0.add(w0.times_19()),
            u1.add(w1.times_19()),
            u2.add(w2.times_19()),
            u3.add(w3.times_19()),
            u4.add(w4.times_19()),
        ])
    }

    /// `self`, or `other` where the mask is set.
    #[inline(always)]
    pub(super) fn or_where(&self, mask: Mask, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        Self([
            a[0].or_where(mask, b[0]),
            a[1].or_where(mask, b[1]),
            a[2].or_where(mask, b[2]),
            a[3].or_where(mask, b[3]),
            a[4].or_where(mask, b[4]),
        ])
    }

    /// `self`, or its negation where the mask is set.
    #[inline(always)]
    pub(super) fn negate_where(&self, mask: Mask) -> Self {
        self.or_where(mask, &self.negate())
    }

    /// The absolute value of RFC 9496 §3.1: negated if it is negative.
    #[inline(always)]
    pub(super) fn abs(&self) -> Self {
        self.negate_where(self.is_negative())
    }

    /// Where the canonical representative is odd (RFC 9496 §3.1).
    #[inline(always)]
    pub(super) fn is_negative(&self) -> Mask {
        let (limbs, over) = self.nearly_canonical();
        // Taking p away flips the parity.
        limbs[0].add(over).has_bits(over.with(1))
    }

    #[inline(always)]
    pub(super) fn is_zero(&self) -> Mask {
        let [l0, l1, l2, l3, l4] = self.canonical();
        l0.or(l1).or(l2).or(l3).or(l4).equals(l0.zero())
    }

    /// The limbs of the one representative in [0, p).
    #[inline(always)]
    pub(super) fn canonical(&self) -> [Lanes; 5] {
        let ([l0, l1, l2, l3, l4], over) = self.nearly_canonical();
        let mask = l0.with(LIMB_MASK);
        let l0 = l0.madd_lo(over, over.with(19));
        let l1 = l1.add(l0.shr::<RADIX>());
        let l2 = l2.add(l1.shr::<RADIX>());
        let l3 = l3.add(l2.shr::<RADIX>());
        // The carry out of the last limb is the 2^255 that goes with the 19.
        let l4 = l4.add(l3.shr::<RADIX>());
        [
            l0.and(mask),
            l1.and(mask),
            l2.and(mask),
            l3.and(mask),
            l4.and(mask),
        ]
    }

    /// Limbs of a representative in [0, 2p), and how many times p (0 or 1) it is too large.
    #[inline(always)]
    fn nearly_canonical(&self) -> ([Lanes; 5], Lanes) {
        debug_assert!(self.is_tight());
        let [l0, l1, l2, l3, l4] = self.0;
        let mask = l0.with(LIMB_MASK);
        let l1 = l1.add(l0.shr::<RADIX>());
        let l2 = l2.add(l1.shr::<RADIX>());
        let l3 = l3.add(l2.shr::<RADIX>());
        let l4 = l4.add(l3.shr::<RADIX>());
        // At most 38 over 51 bits: the value is below 2^255 + 38 < 2p.
        let l0 = l0.and(mask).madd_lo(l4.shr::<RADIX>(), mask.with(19));
        let (l1, l2, l3, l4) = (l1.and(mask), l2.and(mask), l3.and(mask), l4.and(mask));
        let over = l0.add(l0.with(19)).shr::<RADIX>();
        let over = l1.add(over).shr::<RADIX>();
        let over = l2.add(over).shr::<RADIX>();
        let over = l3.add(over).shr::<RADIX>();
        let over = l4.add(over).shr::<RADIX>();
        ([l0, l1, l2, l3, l4], over)
    }
}

impl Wide {
    #[inline(always)]
    pub(super) fn add(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([
            a[0].add(b[0]),
            a[1].add(b[1]),
            a[2].add(b[2]),
            a[3].add(b[3]),
            a[4].add(b[4]),
        ])
    }

    /// Precondition: no limb of `other` is larger than the same limb of `self`, or a later addition makes up for it.
    #[inline(always)]
    pub(super) fn sub(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([
            a[0].sub(b[0]),
            a[1].sub(b[1]),
            a[2].sub(b[2]),
            a[3].sub(b[3]),
            a[4].sub(b[4]),
        ])
    }

    #[inline(always)]
    pub(super) fn double(self) -> Self {
        self.add(self)
    }

    /// Negates the limbs modulo 2^64 where the mask is set. Only to be added to a biased product.
    #[inline(always)]
    pub(super) fn negate_where(self, mask: Mask) -> Self {
        let a = self.0;
        Self([
            a[0].negate_where(mask),
            a[1].negate_where(mask),
            a[2].negate_where(mask),
            a[3].negate_where(mask),
            a[4].negate_where(mask),
        ])
    }

    /// One parallel carry.
    ///
    /// Precondition: limbs < 2^63, so that carries are < 2^12. Postcondition: tight, as 19 * 2^12 < 2^17.
    #[inline(always)]
    pub(super) fn carry(self) -> Fe {
        debug_assert!(all_below(&self.0, WIDE_LIMB));
        let z = self.0;
        let mask = z[0].with(LIMB_MASK);
        Fe([
            z[0].and(mask).madd_lo(z[4].shr::<RADIX>(), mask.with(19)),
            z[1].and(mask).add(z[0].shr::<RADIX>()),
            z[2].and(mask).add(z[1].shr::<RADIX>()),
            z[3].and(mask).add(z[2].shr::<RADIX>()),
            z[4].and(mask).add(z[3].shr::<RADIX>()),
        ])
    }
}

/// Five constants as vectors.
trait MapLanes {
    fn map_lanes(self, witness: Lanes) -> [Lanes; 5];
}

impl MapLanes for Constant {
    #[inline(always)]
    fn map_lanes(self, witness: Lanes) -> [Lanes; 5] {
        let [l0, l1, l2, l3, l4] = self;
        [
            witness.with(l0),
            witness.with(l1),
            witness.with(l2),
            witness.with(l3),
            witness.with(l4),
        ]
    }
}

/// Whether every limb is below `bound` in every lane: for assertions.
#[inline(always)]
fn all_below(limbs: &[Lanes; 5], bound: u64) -> bool {
    let bound = limbs[0].with(bound);
    limbs[0]
        .less_than(bound)
        .and(limbs[1].less_than(bound))
        .and(limbs[2].less_than(bound))
        .and(limbs[3].less_than(bound))
        .and(limbs[4].less_than(bound))
        == Mask::from_bits(0xff)
}

impl Zeroize for Fe {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}
