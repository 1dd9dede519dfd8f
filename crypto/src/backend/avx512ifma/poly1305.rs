//! Poly1305 (RFC 8439 §2.5) of whole blocks, in limbs of 44, 44 and 42 bits. No branch and no address depends on what is
//! authenticated or on the key.

use zeroize::Zeroize;

const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;
/// The bit that stands behind a block's sixteen bytes, in the last limb.
const BEHIND: u64 = 1 << 40;

/// An authenticator of one message.
pub(super) struct Poly1305 {
    r: [u64; 3],
    /// Two limbs of `r` times 20: what they are worth beyond the modulus 2^130 - 5.
    wrapped: [u64; 2],
    sum: [u64; 3],
    pad: u128,
}

impl Poly1305 {
    /// With a one-time key.
    #[inline(always)]
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let [r, pad] = [0, 16]
            .map(|at| u128::from_le_bytes(key[at..at + 16].try_into().expect("half of the key")));
        let r = limbs(r & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff);
        Self {
            r,
            wrapped: [r[1] * 20, r[2] * 20],
            sum: [0; 3],
            pad,
        }
    }

    /// Adds sixteen bytes.
    #[inline(always)]
    pub(super) fn block(&mut self, bytes: &[u8; 16]) {
        let [b0, b1, b2] = limbs(u128::from_le_bytes(*bytes));
        let [h0, h1, h2] = self.sum;
        let [h0, h1, h2] = [h0 + b0, h1 + b1, h2 + b2 + BEHIND].map(u128::from);
        let [r0, r1, r2] = self.r.map(u128::from);
        let [w1, w2] = self.wrapped.map(u128::from);
        let d0 = h0 * r0 + h1 * w2 + h2 * w1;
        let d1 = h0 * r1 + h1 * r0 + h2 * w2 + (d0 >> 44);
        let d2 = h0 * r2 + h1 * r1 + h2 * r0 + (d1 >> 44);
        let h0 = (d0 as u64 & MASK_44) + (d2 >> 42) as u64 * 5;
        let h1 = (d1 as u64 & MASK_44) + (h0 >> 44);
        self.sum = [h0 & MASK_44, h1, d2 as u64 & MASK_42];
    }

    /// The tag.
    #[inline(always)]
    pub(super) fn finish(mut self) -> [u8; 16] {
        // Twice around, and every limb is within its bits.
        for _ in 0..2 {
            let [h0, h1, h2] = self.sum;
            let h2 = h2 + (h1 >> 44);
            let h0 = h0 + (h2 >> 42) * 5;
            self.sum = [h0 & MASK_44, (h1 & MASK_44) + (h0 >> 44), h2 & MASK_42];
        }
        let [h0, h1, h2] = self.sum;
        // The sum less the modulus, if it is not below: what that leaves above 42 bits says so.
        let g0 = h0 + 5;
        let g1 = h1 + (g0 >> 44);
        let g2 = h2 + (g1 >> 44);
        let is_above = (g2 >> 42).wrapping_neg();
        let choose = |sum: u64, less: u64| u128::from((sum & !is_above) | (less & is_above));
        let value = choose(h0, g0 & MASK_44)
            .wrapping_add(choose(h1, g1 & MASK_44) << 44)
            .wrapping_add(choose(h2, g2 & MASK_42) << 88);
        value.wrapping_add(self.pad).to_le_bytes()
    }
}

impl Drop for Poly1305 {
    fn drop(&mut self) {
        self.r.zeroize();
        self.wrapped.zeroize();
        self.sum.zeroize();
        self.pad.zeroize();
    }
}

#[inline(always)]
const fn limbs(value: u128) -> [u64; 3] {
    [
        value as u64 & MASK_44,
        (value >> 44) as u64 & MASK_44,
        (value >> 88) as u64,
    ]
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::Poly1305;

    /// RFC 8439 §2.5, word for word.
    fn expected(key: &[u8; 32], blocks: &[[u8; 16]]) -> [u8; 16] {
        let number = BigUint::from_bytes_le;
        let p = (BigUint::from(1_u8) << 130_u8) - 5_u8;
        let r = number(&key[..16]) & BigUint::from(0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff_u128);
        let mut sum = BigUint::from(0_u8);
        for block in blocks {
            sum = (sum + number(block) + (BigUint::from(1_u8) << 128_u8)) * &r % &p;
        }
        let mut tag = (sum + number(&key[16..])).to_bytes_le();
        tag.resize(17, 0);
        tag[..16].try_into().unwrap()
    }

    #[test]
    fn agrees_with_the_rfc_at_the_edges() {
        let mut keys = vec![[0xff; 32], [0; 32]];
        // r = 1 and r = 2: sums stay near the modulus.
        for r in [1, 2, 5] {
            let mut key = [0xff; 32];
            key[..16].copy_from_slice(&u128::to_le_bytes(r));
            keys.push(key);
        }
        keys.push(std::array::from_fn(|at| (at * 37 + 11) as u8));
        let all = [0xff; 16];
        // With r = 1, all of them and one more or less reach 2^130 - 5 and pass it.
        let near = |less: u128| (u128::MAX - less).to_le_bytes();
        for key in &keys {
            for count in 0..40 {
                for less in 0..12 {
                    let mut blocks = vec![all; count];
                    blocks.push(near(less));
                    let mut poly = Poly1305::new(key);
                    blocks.iter().for_each(|block| poly.block(block));
                    assert_eq!(poly.finish(), expected(key, &blocks), "{count} {less}");
                }
            }
        }
    }
}
