//! Sums of scalar multiples of public points, in variable time: Pippenger's buckets, sorted, a bucket a lane.
//!
//! For each window of the scalars, the points are sorted by digit; buckets of about the same size then go through the lanes
//! together, eight at a time, so that no bucket is ever read back. The weighted sums of the buckets are formed with a
//! window a lane.

use super::{
    Cpu,
    comb::{affine_cached, normalize},
    edwards::{AffineCached, Extended},
    field::{Fe, ONE},
    lanes::{LANES, Lanes, Mask, Row, transpose},
};

/// Bits of a number of `bytes` bytes in signed digits: one more than the number has. Scalars are below 2^252 + 2^125.
const fn signed_bits(bytes: usize) -> usize {
    if bytes == 32 { 253 } else { 8 * bytes + 1 }
}

/// How far ahead of the additions the points are fetched: they come in random order from the second-level cache or beyond.
const PREFETCH_STEPS: usize = 3;

/// (y - x, y + x, 2dxy) of one point, five limbs each and one word of padding.
type PackedAffine = [Row; 2];
/// (X, Y, Z, T) of one point, five limbs each and four words of padding.
type PackedExtended = [Row; 3];

/// Bits a window for that many points and numbers of `signed_bits`: fewer windows against more buckets. Counts additions of
/// eight; those of buckets wait for memory and take half as long again.
fn window_bits(points: usize, signed_bits: usize) -> usize {
    let additions = |bits: &usize| {
        let windows = signed_bits.div_ceil(*bits);
        windows * points.div_ceil(LANES) + windows.div_ceil(LANES) * 3 * (1 << (bits - 1))
    };
    (4..=12)
        .min_by_key(additions)
        .expect("the range is not empty")
}

/// The sum of number `i` times point `i`, in lane 0. Numbers are little-endian; those of 32 bytes are canonical scalars.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn vartime_sum<const BYTES: usize>(
    cpu: Cpu,
    scalars: &[[u8; BYTES]],
    points: &[Extended],
) -> Extended {
    let bits = window_bits(scalars.len(), signed_bits(BYTES));
    let windows = signed_bits(BYTES).div_ceil(bits);
    let half = 1_usize << (bits - 1);
    let packed = pack(cpu, scalars.len(), points);
    let words = shifted_words(scalars, bits, windows);
    let mut digits = vec![0; scalars.len()];
    let mut schedule = Schedule::new(scalars.len(), half);
    let nothing = u32::try_from(scalars.len()).expect("fewer points than 2^32");
    // Bucket `d - 1` of window `w` is at `w * half + d - 1`; those past the last window are there to fill the lanes.
    let identity = pack_extended(&Extended::identity(cpu))[0];
    let mut buckets = vec![identity; windows.next_multiple_of(LANES) * half];
    for (window, buckets) in buckets.chunks_mut(half).take(windows).enumerate() {
        window_digits(&words, bits, window, window + 1 == windows, &mut digits);
        schedule.plan(&digits, nothing);
        fill_buckets(cpu, &packed, &schedule, buckets);
    }
    let mut sum = Extended::identity(cpu);
    for (chunk, buckets) in buckets.chunks(LANES * half).enumerate().rev() {
        let weighted = pack_extended(&weigh_buckets(cpu, buckets, half));
        for (lane, window) in weighted.iter().enumerate().rev() {
            if chunk * LANES + lane < windows {
                sum = double_and_add(&sum, bits, &unpack_extended(cpu, [window; LANES]));
            }
        }
    }
    sum
}

/// 2^`bits` P + Q.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn double_and_add(p: &Extended, bits: usize, q: &Extended) -> Extended {
    let mut sum = *p;
    for _ in 0..bits {
        sum = sum.projective().double().extended();
    }
    sum.augend().add(&q.cached(), Mask::from_bits(0)).extended()
}

/// The points one after the other, and the identity behind them.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn pack(cpu: Cpu, count: usize, points: &[Extended]) -> Vec<PackedAffine> {
    let one = Fe::constant(cpu, ONE);
    // Decoded elements have Z = 1 limb for limb.
    let is_affine = points.iter().all(|point| {
        let same = |limb: usize| point.z.0[limb].equals(one.0[limb]) == Mask::from_bits(0xff);
        same(0) && same(1) && same(2) && same(3) && same(4)
    });
    let mut packed = Vec::with_capacity(points.len() * LANES + 1);
    if is_affine {
        for point in points {
            packed.extend_from_slice(&pack_affine(&affine_cached(&point.x, &point.y)));
        }
    } else {
        for point in &normalize(cpu, points) {
            packed.extend_from_slice(&pack_affine(point));
        }
    }
    packed.truncate(count);
    let identity = Extended::identity(cpu);
    packed.push(pack_affine(&affine_cached(&identity.x, &identity.y))[0]);
    packed
}

#[inline(always)]
fn pack_affine(point: &AffineCached) -> [PackedAffine; LANES] {
    let (a, b, c) = (&point.y_minus_x.0, &point.y_plus_x.0, &point.xy2d.0);
    let first = transpose([a[0], a[1], a[2], a[3], a[4], b[0], b[1], b[2]]);
    let second = transpose([b[3], b[4], c[0], c[1], c[2], c[3], c[4], c[0].zero()]);
    let mut packed = [[Row([0; LANES]); 2]; LANES];
    for (packed, (first, second)) in packed.iter_mut().zip(first.iter().zip(&second)) {
        *packed = [Row(first.store()), Row(second.store())];
    }
    packed
}

#[inline(always)]
fn unpack_affine(zero: Lanes, p: [&PackedAffine; LANES]) -> AffineCached {
    macro_rules! rows {
        ($half:literal) => {
            transpose([
                zero.load_row(&p[0][$half]),
                zero.load_row(&p[1][$half]),
                zero.load_row(&p[2][$half]),
                zero.load_row(&p[3][$half]),
                zero.load_row(&p[4][$half]),
                zero.load_row(&p[5][$half]),
                zero.load_row(&p[6][$half]),
                zero.load_row(&p[7][$half]),
            ])
        };
    }
    let [a0, a1, a2, a3, a4, b0, b1, b2] = rows!(0);
    let [b3, b4, c0, c1, c2, c3, c4, _] = rows!(1);
    AffineCached {
        y_minus_x: Fe([a0, a1, a2, a3, a4]),
        y_plus_x: Fe([b0, b1, b2, b3, b4]),
        xy2d: Fe([c0, c1, c2, c3, c4]),
    }
}

#[inline(always)]
fn pack_extended(point: &Extended) -> [PackedExtended; LANES] {
    let (x, y, z, t) = (&point.x.0, &point.y.0, &point.z.0, &point.t.0);
    let zero = x[0].zero();
    let first = transpose([x[0], x[1], x[2], x[3], x[4], y[0], y[1], y[2]]);
    let second = transpose([y[3], y[4], z[0], z[1], z[2], z[3], z[4], t[0]]);
    let third = transpose([t[1], t[2], t[3], t[4], zero, zero, zero, zero]);
    let mut packed = [[Row([0; LANES]); 3]; LANES];
    for (packed, ((first, second), third)) in
        packed.iter_mut().zip(first.iter().zip(&second).zip(&third))
    {
        *packed = [Row(first.store()), Row(second.store()), Row(third.store())];
    }
    packed
}

#[inline(always)]
fn unpack_extended(cpu: Cpu, p: [&PackedExtended; LANES]) -> Extended {
    let zero = Lanes::splat(cpu, 0);
    macro_rules! rows {
        ($part:literal) => {
            transpose([
                zero.load_row(&p[0][$part]),
                zero.load_row(&p[1][$part]),
                zero.load_row(&p[2][$part]),
                zero.load_row(&p[3][$part]),
                zero.load_row(&p[4][$part]),
                zero.load_row(&p[5][$part]),
                zero.load_row(&p[6][$part]),
                zero.load_row(&p[7][$part]),
            ])
        };
    }
    let [x0, x1, x2, x3, x4, y0, y1, y2] = rows!(0);
    let [y3, y4, z0, z1, z2, z3, z4, t0] = rows!(1);
    let [t1, t2, t3, t4, _, _, _, _] = rows!(2);
    Extended {
        x: Fe([x0, x1, x2, x3, x4]),
        y: Fe([y0, y1, y2, y3, y4]),
        z: Fe([z0, z1, z2, z3, z4]),
        t: Fe([t0, t1, t2, t3, t4]),
    }
}

/// The scalars plus 2^(`bits` - 1) in every window but the highest, first words first: then each window's bits less
/// 2^(`bits` - 1) are a signed digit, without carries between them. The highest window keeps its bits, which are at most
/// 2^(`bits` - 1).
fn shifted_words<const BYTES: usize>(
    scalars: &[[u8; BYTES]],
    bits: usize,
    windows: usize,
) -> [Vec<u64>; 5] {
    let mut offset = [0; 4];
    for window in 0..windows - 1 {
        let bit = bits * window + bits - 1;
        offset[bit / 64] |= 1_u64 << (bit % 64);
    }
    let mut columns = [(); 5].map(|()| vec![0; scalars.len()]);
    for (index, scalar) in scalars.iter().enumerate() {
        let mut carry = 0;
        let chunks = scalar.as_chunks::<8>().0;
        for ((column, bytes), offset) in columns.iter_mut().zip(chunks).zip(offset) {
            let sum = u128::from(u64::from_le_bytes(*bytes)) + u128::from(offset) + carry;
            column[index] = sum as u64;
            carry = sum >> 64;
        }
        columns[BYTES / 8][index] = carry as u64;
    }
    columns
}

/// The signed digits of one window. The loop is left to the compiler to vectorise.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn window_digits(
    words: &[Vec<u64>; 5],
    bits: usize,
    window: usize,
    is_last: bool,
    digits: &mut [i16],
) {
    let (word, shift) = (bits * window / 64, bits * window % 64);
    let mask = (1_u64 << bits) - 1;
    let half = if is_last { 0 } else { 1 << (bits - 1) };
    for ((digit, low), high) in digits.iter_mut().zip(&words[word]).zip(&words[word + 1]) {
        // Two shifts, since one by 64 would be none.
        let value = (low >> shift) | ((high << 1) << (63 - shift));
        *digit = (value & mask) as i16 - half;
    }
}

/// Which points to add to eight buckets at a time: the schedule of one window.
struct Schedule {
    /// Points in the bucket of each digit, from 0; then the entry for the next of them.
    counts: Vec<u32>,
    /// The buckets (digits from 1) that are not empty, by falling size.
    order: Vec<u32>,
    /// For each step, what goes into eight buckets: twice a point's position, plus one if it is subtracted.
    steps: Vec<[u32; LANES]>,
    /// For each eight buckets in `order`, how many steps they take.
    lengths: Vec<u32>,
    sizes: Vec<u32>,
}

impl Schedule {
    fn new(points: usize, half: usize) -> Self {
        Self {
            counts: vec![0; half + 1],
            order: Vec::with_capacity(half),
            steps: Vec::with_capacity(points / LANES * 5 / 4 + half),
            lengths: Vec::with_capacity(half / LANES + 1),
            sizes: Vec::new(),
        }
    }

    /// Sorts one window's points into buckets, and buckets by size, so that those that share a step are about as large;
    /// `nothing` is the position of the identity.
    fn plan(&mut self, digits: &[i16], nothing: u32) {
        self.counts.fill(0);
        for digit in digits {
            self.counts[usize::from(digit.unsigned_abs())] += 1;
        }
        let zeros = self.counts[0];
        self.sort_buckets();
        self.lengths.clear();
        let mut first_step = 0;
        for numbers in self.order.chunks(LANES) {
            // The first is the largest.
            let length = self.counts[numbers[0] as usize];
            for (number, lane) in numbers.iter().zip(0..) {
                self.counts[*number as usize] = 8 * first_step + lane;
            }
            self.lengths.push(length);
            first_step += length;
        }
        // The points of digit zero go to steps behind the last, which nobody reads.
        self.counts[0] = 8 * first_step;
        self.steps.clear();
        self.steps
            .resize((first_step + zeros) as usize, [2 * nothing; LANES]);
        let entries = self.steps.as_flattened_mut();
        for (position, digit) in (0_u32..).zip(digits) {
            let next = &mut self.counts[usize::from(digit.unsigned_abs())];
            entries[*next as usize] = 2 * position + u32::from(*digit < 0);
            *next += 8;
        }
        self.steps.truncate(first_step as usize);
    }

    /// Counting sort of the buckets, from that of digit 1, by falling size.
    fn sort_buckets(&mut self) {
        let sizes = &self.counts[1..];
        let largest = sizes.iter().max().copied().unwrap_or(0);
        self.sizes.clear();
        self.sizes.resize(largest as usize + 1, 0);
        for size in sizes {
            self.sizes[*size as usize] += 1;
        }
        // How many buckets are larger than each size: where the buckets of that size begin.
        let mut sum = 0;
        for size in self.sizes.iter_mut().rev() {
            let count = *size;
            *size = sum;
            sum += count;
        }
        self.order.clear();
        self.order.resize(self.sizes[0] as usize, 0);
        for (number, size) in (1_u32..).zip(sizes) {
            if *size != 0 {
                let next = &mut self.sizes[*size as usize];
                self.order[*next as usize] = number;
                *next += 1;
            }
        }
    }
}

/// Sums the points of each bucket.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn fill_buckets(
    cpu: Cpu,
    packed: &[PackedAffine],
    schedule: &Schedule,
    buckets: &mut [PackedExtended],
) {
    let zero = Lanes::splat(cpu, 0);
    let identity = Extended::identity(cpu).augend();
    let mut position = 0;
    for (numbers, length) in schedule.order.chunks(LANES).zip(&schedule.lengths) {
        let end = position + *length as usize;
        let mut sum = identity;
        loop {
            let entries = &schedule.steps[position];
            if let Some(ahead) = schedule.steps.get(position + PREFETCH_STEPS) {
                for entry in ahead {
                    packed[*entry as usize / 2][0].prefetch();
                    packed[*entry as usize / 2][1].prefetch();
                }
            }
            let rows = entries.map(|entry| &packed[entry as usize / 2]);
            let mut negative = 0;
            for (lane, entry) in entries.iter().enumerate() {
                negative |= ((entry & 1) as u8) << lane;
            }
            let completed = sum.add_affine(&unpack_affine(zero, rows), Mask::from_bits(negative));
            position += 1;
            if position == end {
                for (number, point) in numbers.iter().zip(pack_extended(&completed.extended())) {
                    buckets[*number as usize - 1] = point;
                }
                break;
            }
            sum = completed.augend();
        }
    }
}

/// The sums of d times bucket d of eight windows.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn weigh_buckets(cpu: Cpu, buckets: &[PackedExtended], half: usize) -> Extended {
    const POSITIVE: Mask = Mask::from_bits(0);
    let mut above = Extended::identity(cpu).cached();
    let mut weighted = Extended::identity(cpu).augend();
    let mut bucket = half;
    loop {
        bucket -= 1;
        let at = |window: usize| &buckets[window * half + bucket];
        let rows = [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)];
        let next = unpack_extended(cpu, rows);
        above = next.augend().add(&above, POSITIVE).extended().cached();
        let completed = weighted.add(&above, POSITIVE);
        if bucket == 0 {
            return completed.extended();
        }
        weighted = completed.augend();
    }
}
