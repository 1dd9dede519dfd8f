//! Sixteen 32-bit lanes in one register, one lane an item: what ChaCha20 computes on. As in [`super::lanes`], a [`Words`] can
//! be made only from a [`Cpu`] token or from another one, and the helpers become single instructions once they are inlined.
#![expect(unsafe_code, reason = "vector intrinsics")]

use core::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_storeu_si512, _mm512_xor_si512,
};

use zeroize::Zeroize;

use super::Cpu;

/// Items a vector.
pub(super) const WORD_LANES: usize = 16;

/// Sixteen unsigned 32-bit integers. Arithmetic wraps.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Words(__m512i);

impl Words {
    /// The same value in every lane.
    #[inline(always)]
    pub(super) fn splat(_cpu: Cpu, value: u32) -> Self {
        // SAFETY: the token proves the CPU features.
        Self(unsafe { _mm512_set1_epi32(value.cast_signed()) })
    }

    #[inline(always)]
    pub(super) fn load(_cpu: Cpu, values: &[u32; WORD_LANES]) -> Self {
        // SAFETY: the token proves the CPU features; the array is 64 bytes, and the load needs no alignment.
        Self(unsafe { _mm512_loadu_si512(values.as_ptr().cast()) })
    }

    #[inline(always)]
    pub(super) fn store(self, values: &mut [u32; WORD_LANES]) {
        // SAFETY: `self` proves the CPU features; the array is 64 bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), self.0) };
    }

    #[inline(always)]
    pub(super) fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn xor(self, other: Self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    pub(super) fn rotate_left<const BITS: i32>(self) -> Self {
        // SAFETY: `self` proves the CPU features.
        Self(unsafe { _mm512_rol_epi32::<BITS>(self.0) })
    }
}

impl Zeroize for Words {
    fn zeroize(&mut self) {
        // SAFETY: the reference is valid for writes, and all-zero bits are a valid vector.
        unsafe { core::ptr::write_volatile(self, core::mem::zeroed()) };
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }
}
