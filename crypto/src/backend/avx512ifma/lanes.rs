//! Eight 64-bit lanes in one register, one lane an item: the only file of the engine that names vector intrinsics.
//!
//! A [`Lanes`] can be made only from a [`Cpu`] token or from another [`Lanes`], so one in hand proves that the CPU has every
//! feature of [`Cpu::detect`]; that is the safety argument of each `unsafe` block here. All arithmetic wraps modulo 2^64.
//!
//! The helpers are `#[inline(always)]` without the target feature (the compiler refuses both together) and become single
//! instructions once they are inlined into a function that has it. Called from anywhere else (a closure, a test) they are
//! correct but slow.
#![expect(unsafe_code, reason = "vector intrinsics")]

use core::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi64, _mm512_and_si512,
    _mm512_cmpeq_epi64_mask, _mm512_cmplt_epu64_mask, _mm512_load_si512, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_mask_sub_epi64,
    _mm512_mullo_epi64, _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_ror_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi64,
    _mm512_srai_epi64, _mm512_srli_epi64, _mm512_storeu_si512, _mm512_sub_epi64,
    _mm512_ternarylogic_epi64, _mm512_test_epi64_mask, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use zeroize::Zeroize;

use super::Cpu;

/// Items a vector.
pub(super) const LANES: usize = 8;

/// Eight unsigned 64-bit integers.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Lanes(__m512i);

/// One bit a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mask(u8);

impl Mask {
    #[inline(always)]
    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    #[inline(always)]
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[inline(always)]
    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    pub(super) const fn not(self) -> Self {
        Self(!self.0)
    }
}

impl Lanes {
    /// The same value in every lane.
    #[inline(always)]
    pub(super) fn splat(_cpu: Cpu, value: u64) -> Self {
        // SAFETY: the token proves the CPU features.
        Self(unsafe { _mm512_set1_epi64(value.cast_signed()) })
    }

    /// Another vector of one value, on the strength of this one.
    #[inline(always)]
    pub(super) fn with(self, value: u64) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_set1_epi64(value.cast_signed()) })
    }

    #[inline(always)]
    pub(super) fn zero(self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    pub(super) fn load(_cpu: Cpu, values: &[u64; LANES]) -> Self {
        // SAFETY: the token proves the CPU features; the array is 64 readable bytes, and the load is an unaligned one.
        Self(unsafe { _mm512_loadu_si512(values.as_ptr().cast()) })
    }

    /// Loads a table row on the strength of this vector.
    #[inline(always)]
    pub(super) fn load_row(self, row: &Row) -> Self {
        // SAFETY: `self` proves the CPU features; a row is 64 readable bytes, aligned to 64.
        Self(unsafe { _mm512_load_si512(row.0.as_ptr().cast()) })
    }

    #[inline(always)]
    pub(super) fn store(self) -> [u64; LANES] {
        let mut values = [0; LANES];
        // SAFETY: `self` proves the CPU features; the array is 64 writable bytes, and the store is an unaligned one.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), self.0) };
        values
    }

    #[inline(always)]
    pub(super) fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_add_epi64(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn sub(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_sub_epi64(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_and_si512(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_or_si512(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn xor(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    /// Any bitwise function of three vectors; bit `4a + 2b + c` of `TABLE` is its value.
    #[inline(always)]
    pub(super) fn bitwise<const TABLE: i32>(self, b: Self, c: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_ternarylogic_epi64::<TABLE>(self.0, b.0, c.0) })
    }

    #[inline(always)]
    pub(super) fn shl<const BITS: u32>(self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_slli_epi64::<BITS>(self.0) })
    }

    #[inline(always)]
    pub(super) fn shr<const BITS: u32>(self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_srli_epi64::<BITS>(self.0) })
    }

    /// Shifts in copies of the highest bit.
    #[inline(always)]
    pub(super) fn shift_right_signed<const BITS: u32>(self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_srai_epi64::<BITS>(self.0) })
    }

    #[inline(always)]
    pub(super) fn rotate_right<const BITS: i32>(self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_ror_epi64::<BITS>(self.0) })
    }

    /// `self` + the low 52 bits of a product of the low 52 bits of `a` and `b`.
    #[inline(always)]
    pub(super) fn madd_lo(self, a: Self, b: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_madd52lo_epu64(self.0, a.0, b.0) })
    }

    /// `self` + the high 52 bits of a product of the low 52 bits of `a` and `b`.
    #[inline(always)]
    pub(super) fn madd_hi(self, a: Self, b: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_madd52hi_epu64(self.0, a.0, b.0) })
    }

    /// The low 64 bits of a product.
    #[inline(always)]
    pub(super) fn mul_low(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_mullo_epi64(self.0, other.0) })
    }

    /// `self`, or `other` where the mask is set.
    #[inline(always)]
    pub(super) fn or_where(self, mask: Mask, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_mask_blend_epi64(mask.0, self.0, other.0) })
    }

    /// `self`, or its negation modulo 2^64 where the mask is set.
    #[inline(always)]
    pub(super) fn negate_where(self, mask: Mask) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_mask_sub_epi64(self.0, mask.0, _mm512_setzero_si512(), self.0) })
    }

    #[inline(always)]
    pub(super) fn equals(self, other: Self) -> Mask {
        // SAFETY: `self` proves the CPU features.
        Mask(unsafe { _mm512_cmpeq_epi64_mask(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn less_than(self, other: Self) -> Mask {
        // SAFETY: `self` proves the CPU features.
        Mask(unsafe { _mm512_cmplt_epu64_mask(self.0, other.0) })
    }

    /// The lanes where `self & other` is not zero.
    #[inline(always)]
    pub(super) fn has_bits(self, other: Self) -> Mask {
        // SAFETY: `self` proves the CPU features.
        Mask(unsafe { _mm512_test_epi64_mask(self.0, other.0) })
    }

    /// Per-lane look-up in sixteen words, `low` then `high`: lane `i` becomes word `self[i] mod 16`. Constant time.
    #[inline(always)]
    pub(super) fn look_up_16(self, low: Self, high: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_permutex2var_epi64(low.0, self.0, high.0) })
    }

    /// The bytes of each lane in the opposite order.
    #[inline(always)]
    pub(super) fn swap_bytes(self) -> Self {
        const ORDER: Row = Row([
            0x0001_0203_0405_0607,
            0x0809_0a0b_0c0d_0e0f,
            0x0001_0203_0405_0607,
            0x0809_0a0b_0c0d_0e0f,
            0x0001_0203_0405_0607,
            0x0809_0a0b_0c0d_0e0f,
            0x0001_0203_0405_0607,
            0x0809_0a0b_0c0d_0e0f,
        ]);
        let order = self.load_row(&ORDER);
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_shuffle_epi8(self.0, order.0) })
    }

    /// The even words of two vectors, interleaved within each 128-bit block.
    #[inline(always)]
    fn unpack_low(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_unpacklo_epi64(self.0, other.0) })
    }

    /// The odd words of two vectors, interleaved within each 128-bit block.
    #[inline(always)]
    fn unpack_high(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_unpackhi_epi64(self.0, other.0) })
    }

    #[inline(always)]
    fn shuffle_pairs<const ORDER: i32>(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { core::arch::x86_64::_mm512_shuffle_i64x2::<ORDER>(self.0, other.0) })
    }
}

/// Swaps rows and columns: word `j` of `result[i]` is word `i` of `rows[j]`.
#[inline(always)]
pub(super) fn transpose(rows: [Lanes; LANES]) -> [Lanes; LANES] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    // Pairs of rows, one 2x2 transposition in each 128-bit block.
    let (a0, a1) = (r0.unpack_low(r1), r0.unpack_high(r1));
    let (a2, a3) = (r2.unpack_low(r3), r2.unpack_high(r3));
    let (a4, a5) = (r4.unpack_low(r5), r4.unpack_high(r5));
    let (a6, a7) = (r6.unpack_low(r7), r6.unpack_high(r7));
    // Then a 4x4 transposition of 128-bit blocks, in two steps: blocks (0, 2) of both operands, and blocks (1, 3).
    let (b0, b2) = (a0.shuffle_pairs::<0x88>(a2), a0.shuffle_pairs::<0xdd>(a2));
    let (b1, b3) = (a1.shuffle_pairs::<0x88>(a3), a1.shuffle_pairs::<0xdd>(a3));
    let (b4, b6) = (a4.shuffle_pairs::<0x88>(a6), a4.shuffle_pairs::<0xdd>(a6));
    let (b5, b7) = (a5.shuffle_pairs::<0x88>(a7), a5.shuffle_pairs::<0xdd>(a7));
    [
        b0.shuffle_pairs::<0x88>(b4),
        b1.shuffle_pairs::<0x88>(b5),
        b2.shuffle_pairs::<0x88>(b6),
        b3.shuffle_pairs::<0x88>(b7),
        b0.shuffle_pairs::<0xdd>(b4),
        b1.shuffle_pairs::<0xdd>(b5),
        b2.shuffle_pairs::<0xdd>(b6),
        b3.shuffle_pairs::<0xdd>(b7),
    ]
}

/// Eight words in memory, aligned as a vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [u64; LANES]);

impl Row {
    /// Starts fetching the row into the first-level cache.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        // SAFETY: a prefetch has no effect on the program, and needs no more than SSE.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(self.0.as_ptr().cast()) };
    }

    /// The rows' bytes, in memory order.
    pub(super) fn bytes_mut(rows: &mut [Self]) -> &mut [u8] {
        let length = size_of_val(rows);
        // SAFETY: a row is 64 bytes without padding, any of which may have any value; the borrow is unique and lasts on.
        unsafe { core::slice::from_raw_parts_mut(rows.as_mut_ptr().cast(), length) }
    }
}

impl Zeroize for Row {
    fn zeroize(&mut self) {
        // SAFETY: the reference is valid for writes.
        unsafe { core::ptr::write_volatile(self, Self([0; LANES])) };
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }
}

impl Zeroize for Lanes {
    fn zeroize(&mut self) {
        // SAFETY: the reference is valid for writes, and all-zero bits are a valid vector.
        unsafe { core::ptr::write_volatile(self, core::mem::zeroed()) };
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }
}
