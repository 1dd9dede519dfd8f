//! Fixed powers, several vectors at a time: one squaring waits about twice as long for its result as it occupies the
//! multipliers, so the chains of a few independent vectors are interleaved.

use super::{super::lanes::Mask, Fe, ONE, SQRT_M1};

/// Vectors a chain.
const WIDTH: usize = 4;

type Block = [Fe; WIDTH];

/// Squares `count` times.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn square_times(block: &Block, count: usize) -> Block {
    let [mut a, mut b, mut c, mut d] = *block;
    for _ in 0..count {
        a = a.square();
        b = b.square();
        c = c.square();
        d = d.square();
    }
    [a, b, c, d]
}

#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
#[inline(never)]
fn multiply(x: &Block, y: &Block) -> Block {
    [
        x[0].mul(&y[0]),
        x[1].mul(&y[1]),
        x[2].mul(&y[2]),
        x[3].mul(&y[3]),
    ]
}

/// x^(2^250 - 1) and x^11: the common part of both powers.
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn pow_2_250_minus_1(x: &Block) -> (Block, Block) {
    let x2 = square_times(x, 1);
    let x9 = multiply(x, &square_times(&x2, 2));
    let x11 = multiply(&x2, &x9);
    let e5 = multiply(&x9, &square_times(&x11, 1));
    let e10 = multiply(&square_times(&e5, 5), &e5);
    let e20 = multiply(&square_times(&e10, 10), &e10);
    let e40 = multiply(&square_times(&e20, 20), &e20);
    let e50 = multiply(&square_times(&e40, 10), &e10);
    let e100 = multiply(&square_times(&e50, 50), &e50);
    let e200 = multiply(&square_times(&e100, 100), &e100);
    let e250 = multiply(&square_times(&e200, 50), &e50);
    (e250, x11)
}

/// Calls `block_function` on blocks of elements, the last one filled up with its own first element.
macro_rules! in_blocks {
    ($elements:expr, $block:ident => $result:expr) => {
        for chunk in $elements.chunks_mut(WIDTH) {
            let mut $block = [chunk[0]; WIDTH];
            $block[..chunk.len()].copy_from_slice(chunk);
            let result: Block = $result;
            chunk.copy_from_slice(&result[..chunk.len()]);
        }
    };
}

/// Replaces each x by 1/x, and zero by zero: x^(p - 2).
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(in super::super) fn invert_each(elements: &mut [Fe]) {
    in_blocks!(elements, block => {
        let (e250, x11) = pow_2_250_minus_1(&block);
        multiply(&square_times(&e250, 5), &x11)
    });
}

/// Replaces each x by x^((p - 5) / 8).
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
fn pow_p58_each(elements: &mut [Fe]) {
    in_blocks!(elements, block => {
        let (e250, _) = pow_2_250_minus_1(&block);
        multiply(&square_times(&e250, 2), &block)
    });
}

/// Replaces each w by the non-negative r with r^2 = 1/w where w is a nonzero square, r^2 = sqrt(-1)/w where w is not a
/// square, and r = 0 where w = 0. The masks say where w is a nonzero square.
///
/// This is SQRT_RATIO_M1(1, w) of RFC 9496 §4.2, and SQRT_RATIO_M1(u, v) = |u * r| for w = u * v. With
/// r = w^((p - 5) / 8), w * r^2 = w^((p - 1) / 4) is a fourth root of one: 1 or -1 for a square. Multiplying r by sqrt(-1)
/// turns -1 into 1 and -sqrt(-1) into sqrt(-1).
#[target_feature(enable = "avx512f,avx512ifma,avx512dq,avx512vl,avx512bw")]
pub(in super::super) fn inverse_square_root_each(elements: &mut [Fe], is_square: &mut [Mask]) {
    for (chunk, masks) in elements.chunks_mut(WIDTH).zip(is_square.chunks_mut(WIDTH)) {
        let mut roots = [chunk[0]; WIDTH];
        roots[..chunk.len()].copy_from_slice(chunk);
        pow_p58_each(&mut roots);
        for ((w, root), mask) in chunk.iter_mut().zip(&roots).zip(masks) {
            let check = w.mul(&root.square());
            // The five possible values differ in their lowest limb.
            let low = check.canonical()[0];
            let one = low.equals(low.with(ONE[0]));
            let minus_one = low.equals(low.with(super::P[0] - 1));
            let minus_i = low.equals(low.with(MINUS_SQRT_M1_LOW));
            *mask = one.or(minus_one);
            let turned = root.mul(&root.with(SQRT_M1));
            *w = root.or_where(minus_one.or(minus_i), &turned).abs();
        }
    }
}

/// The lowest limb of -sqrt(-1).
const MINUS_SQRT_M1_LOW: u64 = super::P[0] - SQRT_M1[0];
const _: () = assert!(super::P[0] > SQRT_M1[0], "no borrow");
