//! ChaCha20-Poly1305 (RFC 8439 §2.8) of sixteen texts at once, each under a key of its own and with nonce zero.
//!
//! Time depends on the length of the texts alone.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use super::{
    Cpu,
    poly1305::Poly1305,
    words::{WORD_LANES, Words},
};
use crate::backend::{SEAL_BYTES, SealAad};

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
/// Bytes a block.
const BLOCK: usize = 64;

/// Up to sixteen keys, word by word.
pub(super) struct Keys([Words; 8]);

/// A word of sixteen items.
type Row = [u32; WORD_LANES];

impl Keys {
    #[inline(always)]
    pub(super) fn load(cpu: Cpu, keys: &[&[u8; 32]]) -> Self {
        let mut rows: [Row; 8] = [[0; WORD_LANES]; 8];
        for (lane, key) in keys.iter().enumerate() {
            for (row, word) in rows.iter_mut().zip(key.as_chunks::<4>().0) {
                row[lane] = u32::from_le_bytes(*word);
            }
        }
        let words = std::array::from_fn(|at| Words::load(cpu, &rows[at]));
        rows.zeroize();
        Self(words)
    }

    /// A block of the key stream of every key.
    #[inline(always)]
    fn block(&self, cpu: Cpu, counter: u32, rows: &mut [Row; 16]) {
        let mut start = [Words::splat(cpu, 0); 16];
        for (word, constant) in start.iter_mut().zip(CONSTANTS) {
            *word = Words::splat(cpu, constant);
        }
        start[4..12].copy_from_slice(&self.0);
        start[12] = Words::splat(cpu, counter);
        let mut state = start;
        for _ in 0..10 {
            for [a, b, c, d] in [
                [0, 4, 8, 12],
                [1, 5, 9, 13],
                [2, 6, 10, 14],
                [3, 7, 11, 15],
                [0, 5, 10, 15],
                [1, 6, 11, 12],
                [2, 7, 8, 13],
                [3, 4, 9, 14],
            ] {
                state[a] = state[a].add(state[b]);
                state[d] = state[d].xor(state[a]).rotate_left::<16>();
                state[c] = state[c].add(state[d]);
                state[b] = state[b].xor(state[c]).rotate_left::<12>();
                state[a] = state[a].add(state[b]);
                state[d] = state[d].xor(state[a]).rotate_left::<8>();
                state[c] = state[c].add(state[d]);
                state[b] = state[b].xor(state[c]).rotate_left::<7>();
            }
        }
        for ((row, word), start) in rows.iter_mut().zip(state).zip(start) {
            word.add(start).store(row);
        }
    }

    /// Encrypts or decrypts texts of `bytes` bytes, one every `stride`.
    #[inline(always)]
    fn apply(&self, cpu: Cpu, texts: &mut [u8], stride: usize, bytes: usize) {
        let mut rows = [[0; WORD_LANES]; 16];
        for (counter, start) in (1..).zip((0..bytes).step_by(BLOCK)) {
            self.block(cpu, counter, &mut rows);
            for (lane, text) in texts.chunks_exact_mut(stride).enumerate() {
                let text = &mut text[start..bytes.min(start + BLOCK)];
                let (words, rest) = text.as_chunks_mut::<4>();
                let mut stream = rows.iter().map(|row| row[lane]);
                for (word, key) in words.iter_mut().zip(stream.by_ref()) {
                    *word = (u32::from_le_bytes(*word) ^ key).to_le_bytes();
                }
                let last = stream.next().unwrap_or(0).to_le_bytes();
                rest.iter_mut()
                    .zip(last)
                    .for_each(|(byte, key)| *byte ^= key);
            }
        }
        rows.zeroize();
    }

    /// The one-time keys of the authenticators.
    #[inline(always)]
    fn one_time(&self, cpu: Cpu) -> [[u8; 32]; WORD_LANES] {
        let mut rows = [[0; WORD_LANES]; 16];
        self.block(cpu, 0, &mut rows);
        let mut keys = [[0; 32]; WORD_LANES];
        for (lane, key) in keys.iter_mut().enumerate() {
            for (word, row) in key.as_chunks_mut::<4>().0.iter_mut().zip(&rows) {
                *word = row[lane].to_le_bytes();
            }
        }
        rows.zeroize();
        keys
    }

    /// Encrypts the texts, which have room for the tags behind them, and writes the tags.
    #[inline(always)]
    pub(super) fn seal(&self, cpu: Cpu, aads: &[&SealAad], texts: &mut [u8], stride: usize) {
        let bytes = stride - SEAL_BYTES;
        self.apply(cpu, texts, stride, bytes);
        let mut one_time = self.one_time(cpu);
        for ((key, aad), text) in one_time
            .iter()
            .zip(aads)
            .zip(texts.chunks_exact_mut(stride))
        {
            let (text, tag) = text.split_at_mut(bytes);
            tag.copy_from_slice(&authenticate(key, aad, text));
        }
        one_time.zeroize();
    }

    /// Decrypts the texts, and notes which are authentic.
    #[inline(always)]
    pub(super) fn open(
        &self,
        cpu: Cpu,
        aads: &[&SealAad],
        texts: &mut [u8],
        stride: usize,
        authentic: &mut Vec<bool>,
    ) {
        let bytes = stride - SEAL_BYTES;
        let mut one_time = self.one_time(cpu);
        for ((key, aad), text) in one_time.iter().zip(aads).zip(texts.chunks_exact(stride)) {
            let (text, tag) = text.split_at(bytes);
            authentic.push(authenticate(key, aad, text).ct_eq(tag).into());
        }
        one_time.zeroize();
        self.apply(cpu, texts, stride, bytes);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        for word in &mut self.0 {
            word.zeroize();
        }
    }
}

/// The tag of a sealed text and the bytes it is bound to.
#[inline(always)]
fn authenticate(key: &[u8; 32], aad: &SealAad, text: &[u8]) -> [u8; SEAL_BYTES] {
    let mut poly = Poly1305::new(key);
    poly.block(aad);
    let (blocks, rest) = text.as_chunks();
    for block in blocks {
        poly.block(block);
    }
    if !rest.is_empty() {
        let mut block = [0; 16];
        block[..rest.len()].copy_from_slice(rest);
        poly.block(&block);
    }
    let lengths = aad.len() as u128 | (text.len() as u128) << 64;
    poly.block(&lengths.to_le_bytes());
    poly.finish()
}
