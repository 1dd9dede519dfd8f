//! Sums of scalar multiples of public points, in variable time: Pippenger's buckets, sorted, a bucket a lane.
//!
//! For each window of the scalars, the points are sorted by digit; buckets of about the same size then go through the lanes
//! together, eight at a time, so that no bucket is ever read back. The weighted sums of the buckets are formed with a
//! window a lane.

use curve25519_dalek::scalar::Scalar;

use super::{
    Cpu,
    comb::{affine_cached, normalize},
    edwards::{AffineCached, Augend, Completed, Extended},
    field::{Fe, ONE},
    lanes::{LANES, Lanes, Mask, Row, transpose},
};

/// Bits of a scalar below the group order.
const SCALAR_BITS: usize = 253;

/// (y - x, y + x, 2dxy) of one point, five limbs each and one word of padding.
type PackedAffine = [Row; 2];
/// (X, Y, Z, T) of one point, five limbs each and four words of padding.
type PackedExtended = [Row; 3];

/// Bits a window for that many points: fewer windows against more buckets.
const fn window_bits(points: usize) -> usize {
    match points {
        0..=31 => 4,
        32..=127 => 5,
        128..=255 => 6,
        256..=767 => 7,
        768..=1535 => 8,
        1536..=3071 => 9,
        3072..=6143 => 10,
        _ => 11,
    }
}

/// The sum of `scalars[i]` times point `i`, in lane 0.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(super) fn vartime_sum(cpu: Cpu, scalars: &[Scalar], points: &[Extended]) -> Extended {
    let bits = window_bits(scalars.len());
    let windows = SCALAR_BITS.div_ceil(bits);
    let half = 1_usize << (bits - 1);
    let packed = pack(cpu, scalars.len(), points);
    let digits = signed_digits(scalars, bits, windows);
    let mut sorter = Sorter::new(scalars.len(), half);
    // Bucket `d - 1` of window `w` is at `w * half + d - 1`; those past the last window are there to fill the lanes.
    let identity = pack_extended(&Extended::identity(cpu))[0];
    let mut buckets = vec![identity; windows.next_multiple_of(LANES) * half];
    for (window, buckets) in buckets.chunks_mut(half).take(windows).enumerate() {
        sorter.sort(&digits[window * scalars.len()..(window + 1) * scalars.len()]);
        fill_buckets(cpu, &packed, &sorter, buckets);
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

/// Signed digits of `bits` bits, all scalars of the lowest window first. The highest window is not recentred: it holds at
/// most the scalar's top bits and a carry.
fn signed_digits(scalars: &[Scalar], bits: usize, windows: usize) -> Vec<i16> {
    let mut digits = vec![0; windows * scalars.len()];
    let half = 1_i32 << (bits - 1);
    let mask = (1_u64 << bits) - 1;
    for (index, scalar) in scalars.iter().enumerate() {
        let mut words = [0; 5];
        for (word, bytes) in words.iter_mut().zip(scalar.as_bytes().as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let mut carry = 0;
        for window in 0..windows {
            let (word, shift) = (bits * window / 64, bits * window % 64);
            let pair = u128::from(words[word]) | u128::from(words[word + 1]) << 64;
            let value = ((pair >> shift) as u64 & mask) as i32 + carry;
            let is_last = window + 1 == windows;
            carry = i32::from(!is_last && value >= half);
            digits[window * scalars.len() + index] = (value - (carry << bits)) as i16;
        }
    }
    digits
}

/// One window's points in the order of their buckets.
struct Sorter {
    /// Where bucket `d` begins in `entries`, for each digit `d` from 0, and the end.
    starts: Vec<u32>,
    /// Twice a point's position, plus one if its digit is negative.
    entries: Vec<u32>,
    /// The buckets (digits from 1) by falling size, without the empty ones.
    order: Vec<u32>,
    next: Vec<u32>,
}

impl Sorter {
    fn new(points: usize, half: usize) -> Self {
        Self {
            starts: vec![0; half + 2],
            entries: vec![0; points],
            order: Vec::with_capacity(half),
            next: vec![0; half + 2],
        }
    }

    fn sort(&mut self, digits: &[i16]) {
        self.starts.fill(0);
        for digit in digits {
            self.starts[usize::from(digit.unsigned_abs()) + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
        self.next.copy_from_slice(&self.starts);
        for (position, digit) in (0_u32..).zip(digits) {
            let next = &mut self.next[usize::from(digit.unsigned_abs())];
            self.entries[*next as usize] = 2 * position + u32::from(*digit < 0);
            *next += 1;
        }
        self.order.clear();
        let starts = &self.starts;
        let size = |bucket: u32| starts[bucket as usize + 1] - starts[bucket as usize];
        let last = u32::try_from(starts.len() - 2).expect("a window has at most 16 bits");
        self.order
            .extend((1..=last).filter(|bucket| size(*bucket) != 0));
        self.order
            .sort_unstable_by_key(|bucket| core::cmp::Reverse(size(*bucket)));
    }

    fn bucket(&self, bucket: u32) -> &[u32] {
        &self.entries
            [self.starts[bucket as usize] as usize..self.starts[bucket as usize + 1] as usize]
    }
}

/// Sums the points of each bucket.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn fill_buckets(
    cpu: Cpu,
    packed: &[PackedAffine],
    sorter: &Sorter,
    buckets: &mut [PackedExtended],
) {
    let zero = Lanes::splat(cpu, 0);
    let nothing = 2 * (packed.len() - 1);
    let identity = Extended::identity(cpu).augend();
    for numbers in sorter.order.chunks(LANES) {
        let mut lists: [&[u32]; LANES] = [&[]; LANES];
        for (list, number) in lists.iter_mut().zip(numbers) {
            *list = sorter.bucket(*number);
        }
        let mut sum: Augend = identity;
        let mut completed: Option<Completed> = None;
        // The first is the longest.
        for step in 0..lists[0].len() {
            let mut rows = [&packed[0]; LANES];
            let mut negative = 0;
            for (lane, (row, list)) in rows.iter_mut().zip(&lists).enumerate() {
                let entry = list.get(step).map_or(nothing, |entry| *entry as usize);
                *row = &packed[entry / 2];
                negative |= ((entry & 1) as u8) << lane;
            }
            if let Some(completed) = completed {
                sum = completed.augend();
            }
            completed = Some(sum.add_affine(&unpack_affine(zero, rows), Mask::from_bits(negative)));
        }
        if let Some(completed) = completed {
            for (number, point) in numbers.iter().zip(pack_extended(&completed.extended())) {
                buckets[*number as usize - 1] = point;
            }
        }
    }
}

/// The sums of d times bucket d of eight windows.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn weigh_buckets(cpu: Cpu, buckets: &[PackedExtended], half: usize) -> Extended {
    const POSITIVE: Mask = Mask::from_bits(0);
    let mut above = Extended::identity(cpu);
    let mut weighted = Extended::identity(cpu);
    for bucket in (0..half).rev() {
        let at = |window: usize| &buckets[window * half + bucket];
        let next = unpack_extended(
            cpu,
            [at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)],
        );
        above = next.augend().add(&above.cached(), POSITIVE).extended();
        weighted = weighted.augend().add(&above.cached(), POSITIVE).extended();
    }
    weighted
}
