//! SHA-512 (FIPS 180-4 §6.4) of eight messages at once, and expand_message_xmd (RFC 9380 §5.3.1) on it.
//!
//! Time depends on the lengths of the messages, never on their contents.

use zeroize::Zeroize;

use super::{
    Cpu,
    lanes::{LANES, Lanes, Mask, Row, transpose},
};

/// Bytes a block.
const BLOCK: usize = 128;
/// Bytes of the padding's length field.
const LENGTH_BYTES: usize = 16;

/// The chaining value of eight messages: word `i` of the hash value in `self[i]`.
pub(super) type State = [Lanes; 8];

/// The initial hash value (FIPS 180-4 §5.3.5).
pub(super) const INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The round constants (FIPS 180-4 §4.2.3).
#[rustfmt::skip]
const ROUND: [u64; 80] = [
    0x428a_2f98_d728_ae22, 0x7137_4491_23ef_65cd, 0xb5c0_fbcf_ec4d_3b2f, 0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538, 0x59f1_11f1_b605_d019, 0x923f_82a4_af19_4f9b, 0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242, 0x1283_5b01_4570_6fbe, 0x2431_85be_4ee4_b28c, 0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f, 0x80de_b1fe_3b16_96b1, 0x9bdc_06a7_25c7_1235, 0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2, 0xefbe_4786_384f_25e3, 0x0fc1_9dc6_8b8c_d5b5, 0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275, 0x4a74_84aa_6ea6_e483, 0x5cb0_a9dc_bd41_fbd4, 0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab, 0xa831_c66d_2db4_3210, 0xb003_27c8_98fb_213f, 0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2, 0xd5a7_9147_930a_a725, 0x06ca_6351_e003_826f, 0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc, 0x2e1b_2138_5c26_c926, 0x4d2c_6dfc_5ac4_2aed, 0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de, 0x766a_0abb_3c77_b2a8, 0x81c2_c92e_47ed_aee6, 0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364, 0xa81a_664b_bc42_3001, 0xc24b_8b70_d0f8_9791, 0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218, 0xd699_0624_5565_a910, 0xf40e_3585_5771_202a, 0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8, 0x1e37_6c08_5141_ab53, 0x2748_774c_df8e_eb99, 0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63, 0x4ed8_aa4a_e341_8acb, 0x5b9c_ca4f_7763_e373, 0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc, 0x78a5_636f_4317_2f60, 0x84c8_7814_a1f0_ab72, 0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28, 0xa450_6ceb_de82_bde9, 0xbef9_a3f7_b2c6_7915, 0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c, 0xd186_b8c7_21c0_c207, 0xeada_7dd6_cde0_eb1e, 0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba, 0x0a63_7dc5_a2c8_98a6, 0x113f_9804_bef9_0dae, 0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84, 0x32ca_ab7b_40c7_2493, 0x3c9e_be0a_15c9_bebc, 0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6, 0x597f_299c_fc65_7e2a, 0x5fcb_6fab_3ad6_faec, 0x6c44_198c_4a47_5817,
];

/// a ^ b ^ c.
const XOR3: i32 = 0x96;
/// Choose: a ? b : c.
const CHOOSE: i32 = 0xca;
/// Majority.
const MAJORITY: i32 = 0xe8;

#[inline(always)]
pub(super) fn splat_state(cpu: Cpu, words: &[u64; 8]) -> State {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = *words;
    [
        Lanes::splat(cpu, w0),
        Lanes::splat(cpu, w1),
        Lanes::splat(cpu, w2),
        Lanes::splat(cpu, w3),
        Lanes::splat(cpu, w4),
        Lanes::splat(cpu, w5),
        Lanes::splat(cpu, w6),
        Lanes::splat(cpu, w7),
    ]
}

/// One block of each message, as numbers.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn compress(state: &State, block: &[Lanes; 16]) -> State {
    let mut w = *block;
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    macro_rules! round {
        ($start:ident $($i:literal)*) => {$(
            let sigma1 = e.rotate_right::<14>().bitwise::<XOR3>(e.rotate_right::<18>(), e.rotate_right::<41>());
            let choose = e.bitwise::<CHOOSE>(f, g);
            let t1 = h.add(e.with(ROUND[$start + $i])).add(w[$i]).add(sigma1).add(choose);
            let sigma0 = a.rotate_right::<28>().bitwise::<XOR3>(a.rotate_right::<34>(), a.rotate_right::<39>());
            let majority = a.bitwise::<MAJORITY>(b, c);
            h = g;
            g = f;
            f = e;
            e = d.add(t1);
            d = c;
            c = b;
            b = a;
            a = t1.add(sigma0.add(majority));
        )*};
    }
    macro_rules! schedule {
        ($($i:literal)*) => {$({
            let (near, far) = (w[($i + 14) % 16], w[($i + 1) % 16]);
            let sigma1 = near.rotate_right::<19>().bitwise::<XOR3>(near.rotate_right::<61>(), near.shr::<6>());
            let sigma0 = far.rotate_right::<1>().bitwise::<XOR3>(far.rotate_right::<8>(), far.shr::<7>());
            w[$i] = w[$i].add(sigma0).add(w[($i + 9) % 16]).add(sigma1);
        })*};
    }
    let mut start = 0;
    loop {
        round!(start 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        start += 16;
        if start == ROUND.len() {
            break;
        }
        schedule!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = *state;
    [
        s0.add(a),
        s1.add(b),
        s2.add(c),
        s3.add(d),
        s4.add(e),
        s5.add(f),
        s6.add(g),
        s7.add(h),
    ]
}

/// Hashes up to eight messages, all with the same already hashed `prefix_bytes` (whole blocks, in `state`) and the same
/// suffix. `scratch` is zeroized.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn hash_group(
    cpu: Cpu,
    mut state: State,
    prefix_bytes: usize,
    messages: &[&[u8]],
    suffix: &[u8],
    scratch: &mut Vec<Row>,
) -> State {
    let padded = |message: &[u8]| (message.len() + suffix.len() + 1 + LENGTH_BYTES).div_ceil(BLOCK);
    let mut blocks = [0; LANES];
    for (blocks, message) in blocks.iter_mut().zip(messages) {
        *blocks = padded(message);
    }
    let most = blocks.iter().copied().fold(0, usize::max);
    let rows = most * (BLOCK / size_of::<Row>());
    scratch.clear();
    scratch.resize(LANES * rows, Row([0; LANES]));
    for (lane, message) in messages.iter().enumerate() {
        let bytes = Row::bytes_mut(&mut scratch[lane * rows..(lane + 1) * rows]);
        let length = message.len() + suffix.len();
        bytes[..message.len()].copy_from_slice(message);
        bytes[message.len()..length].copy_from_slice(suffix);
        bytes[length] = 0x80;
        let bits = 8 * (prefix_bytes + length) as u128;
        let end = blocks[lane] * BLOCK;
        bytes[end - LENGTH_BYTES..end].copy_from_slice(&bits.to_be_bytes());
    }
    for block in 0..most {
        let mut words = load_block(cpu, scratch, rows, block);
        let next = compress(&state, &words);
        words.zeroize();
        let mut active = 0;
        for (lane, blocks) in blocks.iter().enumerate() {
            active |= u8::from(block < *blocks) << lane;
        }
        for (word, next) in state.iter_mut().zip(next) {
            *word = word.or_where(Mask::from_bits(active), next);
        }
    }
    for row in scratch.iter_mut() {
        row.zeroize();
    }
    state
}

/// A block of eight messages that take `stride` rows each.
#[inline(always)]
fn load_block(cpu: Cpu, rows: &[Row], stride: usize, block: usize) -> [Lanes; 16] {
    let zero = Lanes::splat(cpu, 0);
    let row = |lane: usize, half: usize| &rows[lane * stride + 2 * block + half];
    let mut words = [zero; 16];
    for half in 0..2 {
        let columns = transpose([
            zero.load_row(row(0, half)),
            zero.load_row(row(1, half)),
            zero.load_row(row(2, half)),
            zero.load_row(row(3, half)),
            zero.load_row(row(4, half)),
            zero.load_row(row(5, half)),
            zero.load_row(row(6, half)),
            zero.load_row(row(7, half)),
        ]);
        for (word, column) in words[8 * half..].iter_mut().zip(columns) {
            *word = column.swap_bytes();
        }
    }
    words
}

/// Eight messages of one length, padded, of which only some bytes differ: the others are written once a batch. Zeroized on
/// drop.
pub(super) struct Template {
    rows: Vec<Row>,
    blocks: usize,
}

impl Template {
    /// Starts from the same message in every lane.
    pub(super) fn new(message: &[u8]) -> Self {
        let blocks = (message.len() + 1 + LENGTH_BYTES).div_ceil(BLOCK);
        let mut padded = vec![0; blocks * BLOCK];
        padded[..message.len()].copy_from_slice(message);
        padded[message.len()] = 0x80;
        let bits = 8 * message.len() as u128;
        padded[blocks * BLOCK - LENGTH_BYTES..].copy_from_slice(&bits.to_be_bytes());
        let mut rows = vec![Row([0; LANES]); LANES * blocks * (BLOCK / size_of::<Row>())];
        for lane in Row::bytes_mut(&mut rows).chunks_exact_mut(padded.len()) {
            lane.copy_from_slice(&padded);
        }
        Self { rows, blocks }
    }

    /// Writes over the message in one lane, from byte `at` on.
    #[inline(always)]
    pub(super) fn write<const N: usize>(&mut self, lane: usize, at: usize, bytes: &[u8; N]) {
        let start = lane * self.blocks * BLOCK + at;
        Row::bytes_mut(&mut self.rows)[start..start + N].copy_from_slice(bytes);
    }

    /// Hashes the messages on from `state`.
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
    pub(super) fn hash(&self, cpu: Cpu, mut state: State) -> State {
        for block in 0..self.blocks {
            let mut words = load_block(cpu, &self.rows, 2 * self.blocks, block);
            state = compress(&state, &words);
            words.zeroize();
        }
        state
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        self.rows.iter_mut().zeroize();
    }
}

/// expand_message_xmd with SHA-512 and `len_in_bytes` = 64 for one domain separation tag.
pub(super) struct Expander {
    /// The state after Z_pad, a block of zeros.
    after_zero_pad: State,
    /// l_i_b_str || I2OSP(0, 1) || DST_prime.
    suffix: Vec<u8>,
    /// The words of the second hash after b_0: I2OSP(1, 1) || DST_prime and the padding, for blocks of 16 words that lack
    /// the first eight.
    tail: Vec<u64>,
}

impl Expander {
    /// `dst` is at most 255 bytes long.
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
    pub(super) fn new(cpu: Cpu, dst: &[u8]) -> Self {
        let dst_bytes =
            u8::try_from(dst.len()).expect("a domain separation tag is at most 255 bytes");
        let mut suffix = vec![0, 64, 0];
        suffix.extend_from_slice(dst);
        suffix.push(dst_bytes);
        let b0_bytes = 64;
        let mut tail = vec![1];
        tail.extend_from_slice(dst);
        tail.push(dst_bytes);
        let length = b0_bytes + tail.len();
        tail.push(0x80);
        let padded = (length + 1 + LENGTH_BYTES).next_multiple_of(BLOCK);
        tail.resize(padded - b0_bytes - LENGTH_BYTES, 0);
        tail.extend_from_slice(&(8 * length as u128).to_be_bytes());
        let tail = tail
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_be_bytes(*word))
            .collect();
        let zeros = [Lanes::splat(cpu, 0); 16];
        Self {
            after_zero_pad: compress(&splat_state(cpu, &INITIAL), &zeros),
            suffix,
            tail,
        }
    }

    /// The 64 uniform bytes of up to eight messages, as little-endian words.
    #[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
    pub(super) fn expand(&self, cpu: Cpu, messages: &[&[u8]], scratch: &mut Vec<Row>) -> State {
        let mut b0 = hash_group(
            cpu,
            self.after_zero_pad,
            BLOCK,
            messages,
            &self.suffix,
            scratch,
        );
        let mut block = [Lanes::splat(cpu, 0); 16];
        block[..8].copy_from_slice(&b0);
        let (first, rest) = self.tail.split_at(8);
        for (lanes, word) in block[8..].iter_mut().zip(first) {
            *lanes = Lanes::splat(cpu, *word);
        }
        let mut state = compress(&splat_state(cpu, &INITIAL), &block);
        for words in rest.as_chunks::<16>().0 {
            for (lanes, word) in block.iter_mut().zip(words) {
                *lanes = Lanes::splat(cpu, *word);
            }
            state = compress(&state, &block);
        }
        block.zeroize();
        b0.zeroize();
        little_endian(&state)
    }
}

/// The bytes of a hash value as little-endian words.
#[inline(always)]
pub(super) fn little_endian(state: &State) -> State {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = *state;
    [
        w0.swap_bytes(),
        w1.swap_bytes(),
        w2.swap_bytes(),
        w3.swap_bytes(),
        w4.swap_bytes(),
        w5.swap_bytes(),
        w6.swap_bytes(),
        w7.swap_bytes(),
    ]
}
