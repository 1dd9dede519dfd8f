//! The field against num-bigint, at and up to the limb bounds, and the parts that no public function reaches alone.
//!
//! On a CPU without the features there is nothing to test here; the tests of the batch functions insist on the engines
//! named in `OVERLAP_EXPECT_BACKENDS`.

use num_bigint::BigUint;
use proptest::{prelude::*, sample::select};
use serde::Deserialize;

use super::{
    Cpu,
    edwards::Extended,
    field::{
        Fe, ONE, SQRT_M1,
        pow::{inverse_square_root_each, invert_each},
    },
    lanes::{LANES, Lanes, Mask, Row, transpose},
    ristretto::{BLOCK, decode_block, encode_block, map_block},
    scalar::reduce_wide,
    sha512::State,
};

/// The largest tight limb.
const MOST: u64 = (1 << 51) + (1 << 17) - 1;

type Limbs = [u64; 5];

/// Any tight element, often with limbs at the ends of their range or of the radix.
fn tight() -> impl Strategy<Value = Limbs> {
    let limb = prop_oneof![
        0..=MOST,
        select(vec![
            0,
            1,
            18,
            19,
            (1 << 51) - 19,
            (1 << 51) - 1,
            1 << 51,
            MOST
        ]),
    ];
    prop::array::uniform5(limb)
}

fn tight_lanes() -> impl Strategy<Value = [Limbs; LANES]> {
    prop::array::uniform8(tight())
}

fn load(cpu: Cpu, lanes: &[Limbs; LANES]) -> Fe {
    Fe([0, 1, 2, 3, 4].map(|limb| Lanes::load(cpu, &lanes.map(|limbs| limbs[limb]))))
}

fn prime() -> BigUint {
    (BigUint::from(1_u8) << 255_u32) - 19_u8
}

fn value(limbs: &Limbs) -> BigUint {
    let sum = limbs
        .iter()
        .rev()
        .fold(BigUint::ZERO, |sum, limb| (sum << 51_u32) + limb);
    sum % prime()
}

/// The canonical values of the lanes, after a check that the limbs are tight.
fn values(element: &Fe) -> [BigUint; LANES] {
    assert!(element.is_tight());
    let words = element.to_words().map(Lanes::store);
    core::array::from_fn(|lane| {
        let value = words
            .iter()
            .rev()
            .fold(BigUint::ZERO, |sum, word| (sum << 64_u32) + word[lane]);
        assert!(value < prime(), "canonical");
        value
    })
}

fn constant(limbs: &Limbs) -> BigUint {
    value(limbs)
}

fn check(element: &Fe, expected: impl Fn(usize) -> BigUint) {
    for (lane, value) in values(element).iter().enumerate() {
        assert_eq!(*value, expected(lane) % prime(), "lane {lane}");
    }
}

fn check_mask(mask: Mask, expected: impl Fn(usize) -> bool) {
    for lane in 0..LANES {
        assert_eq!(mask.bits() >> lane & 1 == 1, expected(lane), "lane {lane}");
    }
}

proptest! {
    #[test]
    fn ring_operations(a in tight_lanes(), b in tight_lanes(), bits: u8) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let (x, y) = (load(cpu, &a), load(cpu, &b));
        let mask = Mask::from_bits(bits);
        let is_set = |lane: usize| bits >> lane & 1 == 1;
        let minus = |lane: usize| prime() - value(&b[lane]);
        check(&x, |lane| value(&a[lane]));
        check(&x.mul(&y), |lane| value(&a[lane]) * value(&b[lane]));
        check(&x.square(), |lane| value(&a[lane]) * value(&a[lane]));
        check(&x.add(&y), |lane| value(&a[lane]) + value(&b[lane]));
        check(&x.sub(&y), |lane| value(&a[lane]) + minus(lane));
        check(&y.negate(), minus);
        check(&y.negate_where(mask), |lane| if is_set(lane) { minus(lane) } else { value(&b[lane]) });
        check(&x.or_where(mask, &y), |lane| value(if is_set(lane) { &b[lane] } else { &a[lane] }));
        check(&x.abs(), |lane| {
            let value = value(&a[lane]);
            if value.bit(0) { prime() - value } else { value }
        });
        check_mask(x.is_negative(), |lane| value(&a[lane]).bit(0));
        check_mask(x.is_zero(), |lane| value(&a[lane]) == BigUint::ZERO);
    }

    /// Every combination that the point formulas make of wide products before they carry.
    #[test]
    fn wide_combinations(a in tight_lanes(), b in tight_lanes(), c in tight_lanes(), bits: u8) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let (x, y, z) = (load(cpu, &a), load(cpu, &b), load(cpu, &c));
        let (xx, xy) = (|lane: usize| value(&a[lane]) * value(&a[lane]), |lane: usize| value(&a[lane]) * value(&b[lane]));
        let yy = |lane: usize| value(&b[lane]) * value(&b[lane]);
        let zz = |lane: usize| value(&c[lane]) * value(&c[lane]);
        let square = prime() * prime();
        check(&x.mul_wide(&y).double().carry(), |lane| xy(lane) * 2_u8);
        check(&y.square_wide_biased().sub(x.square_wide()).carry(), |lane| yy(lane) + &square - xx(lane));
        check(&y.square_wide_biased().add(x.square_wide()).carry(), |lane| yy(lane) + xx(lane));
        let f = z.square_wide_biased().double().add(x.square_wide()).sub(y.square_wide_biased());
        check(&f.carry(), |lane| zz(lane) * 2_u8 + xx(lane) + &square - yy(lane));
        let mask = Mask::from_bits(bits);
        let signed = x.mul_wide(&y).negate_where(mask);
        let is_set = |lane: usize| bits >> lane & 1 == 1;
        check(&z.mul_wide_biased(&z).add(signed).carry(), |lane| {
            if is_set(lane) { zz(lane) + &square - xy(lane) } else { zz(lane) + xy(lane) }
        });
        check(&z.mul_wide_biased(&z).sub(signed).carry(), |lane| {
            if is_set(lane) { zz(lane) + xy(lane) } else { zz(lane) + &square - xy(lane) }
        });
        let doubled = z.wide_biased().add(z.wide());
        check(&doubled.sub(signed).carry(), |lane| {
            let twice = value(&c[lane]) * 2_u8;
            if is_set(lane) { twice + xy(lane) } else { twice + &square - xy(lane) }
        });
    }

    #[test]
    fn bytes(words in prop::array::uniform4(prop::array::uniform8(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)]))) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let element = Fe::from_words(words.map(|word| Lanes::load(cpu, &word)));
        check(&element, |lane| {
            let value = words.iter().rev().fold(BigUint::ZERO, |sum, word| (sum << 64_u32) + word[lane]);
            value % (BigUint::from(1_u8) << 255_u32)
        });
    }

    #[test]
    fn reduction_modulo_the_order(
        words in prop::array::uniform8(prop::array::uniform8(prop_oneof![any::<u64>(), Just(0), Just(1), Just(u64::MAX)])),
    ) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let reduced = reduce_wide(&words.map(|word| Lanes::load(cpu, &word))).map(Lanes::store);
        let order = (BigUint::from(1_u8) << 252_u32) + 27_742_317_777_372_353_535_851_937_790_883_648_493_u128;
        let number = |words: &[[u64; LANES]], lane: usize| {
            words.iter().rev().fold(BigUint::ZERO, |sum, word| (sum << 64_u32) + word[lane])
        };
        for lane in 0..LANES {
            prop_assert_eq!(number(&reduced, lane), number(&words, lane) % &order);
        }
    }

    #[test]
    fn transposition(rows in prop::array::uniform8(prop::array::uniform8(any::<u64>()))) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let columns = transpose(rows.map(|row| Lanes::load(cpu, &row))).map(Lanes::store);
        for (row, words) in rows.iter().enumerate() {
            for (column, word) in words.iter().enumerate() {
                prop_assert_eq!(columns[column][row], *word);
            }
        }
    }

    #[test]
    fn look_up(table in prop::array::uniform16(any::<u64>()), indices in prop::array::uniform8(any::<u64>())) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let row = |start: usize| Row(core::array::from_fn(|index| table[start + index]));
        let index = Lanes::load(cpu, &indices);
        let found = index.look_up_16(index.load_row(&row(0)), index.load_row(&row(8))).store();
        for (found, index) in found.iter().zip(indices) {
            prop_assert_eq!(*found, table[index as usize % 16]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn inverses_and_roots(a in tight_lanes(), count in 1..=9_usize) {
        let Some(cpu) = Cpu::detect() else { return Ok(()) };
        let x = load(cpu, &a);
        let mut inverses = vec![x; count];
        // SAFETY: the token proves the CPU features.
        unsafe { invert_each(&mut inverses) };
        let is_nonzero = |lane: usize| u8::from(value(&a[lane]) != BigUint::ZERO);
        for inverse in &inverses {
            check(&inverse.mul(&x), |lane| BigUint::from(is_nonzero(lane)));
        }
        let mut roots = vec![x; count];
        let mut is_square = vec![Mask::from_bits(0); count];
        // SAFETY: the token proves the CPU features.
        unsafe { inverse_square_root_each(&mut roots, &mut is_square) };
        for (root, mask) in roots.iter().zip(&is_square) {
            check_mask(root.is_negative(), |_| false);
            let exponent = (prime() - 1_u8) / 2_u8;
            check_mask(*mask, |lane| value(&a[lane]).modpow(&exponent, &prime()) == BigUint::from(1_u8));
            check(&root.square().mul(&x), |lane| {
                if mask.bits() >> lane & 1 == 1 {
                    constant(&ONE)
                } else {
                    constant(&SQRT_M1) * is_nonzero(lane)
                }
            });
        }
    }
}

/// Multiples of the group order and their neighbours, where the last subtraction decides.
#[test]
fn reduction_beside_multiples_of_the_order() {
    let Some(cpu) = Cpu::detect() else { return };
    let order =
        (BigUint::from(1_u8) << 252_u32) + 27_742_317_777_372_353_535_851_937_790_883_648_493_u128;
    let most = (BigUint::from(1_u8) << 512_u32) / &order;
    let multiples = [1_u8, 2, 3, 16, 255]
        .map(BigUint::from)
        .into_iter()
        .chain([&most - 1_u8, most]);
    for multiple in multiples {
        let number = multiple * &order;
        for (value, expected) in [
            (number.clone(), BigUint::ZERO),
            (&number + 1_u8, BigUint::from(1_u8)),
            (number - 1_u8, &order - 1_u8),
        ] {
            let mut digits = value.to_u64_digits();
            digits.resize(8, 0);
            let words = core::array::from_fn(|word| Lanes::load(cpu, &[digits[word]; LANES]));
            let mut expected = expected.to_u64_digits();
            expected.resize(4, 0);
            for (word, expected) in reduce_wide(&words).iter().zip(expected) {
                assert_eq!(word.store(), [expected; LANES]);
            }
        }
    }
}

#[derive(Deserialize)]
struct Rfc9496 {
    element_derivation: Vec<Derivation>,
}

#[derive(Deserialize)]
struct Derivation {
    uniform: String,
    encoding: String,
}

/// RFC 9496 appendix A.3, which the batch functions reach only through a hash.
#[test]
fn element_derivation() {
    let Some(cpu) = Cpu::detect() else { return };
    let file = include_str!("../../../tests/data/rfc9496-ristretto255.json");
    let vectors = serde_json::from_str::<Rfc9496>(file)
        .unwrap()
        .element_derivation;
    for chunk in vectors.chunks(LANES) {
        let uniform: State = core::array::from_fn(|word| {
            let mut lanes = [0; LANES];
            for (lane, vector) in lanes.iter_mut().zip(chunk) {
                let bytes = hex::decode(&vector.uniform).unwrap();
                *lane = u64::from_le_bytes(bytes[8 * word..8 * word + 8].try_into().unwrap());
            }
            Lanes::load(cpu, &lanes)
        });
        let mut points = [Extended::identity(cpu)];
        let mut encoded = [[0; 32]; LANES];
        // SAFETY: the token proves the CPU features.
        unsafe {
            map_block(cpu, &[uniform], &mut points);
            encode_block(cpu, &points, &mut encoded);
        }
        for (encoded, vector) in encoded.iter().zip(chunk) {
            assert_eq!(hex::encode(encoded), vector.encoding);
        }
    }
}

/// Lanes that hold no element must not disturb those that do.
#[test]
fn garbage_beside_an_element() {
    let Some(cpu) = Cpu::detect() else { return };
    let generator = curve25519_dalek::constants::RISTRETTO_BASEPOINT_COMPRESSED.to_bytes();
    for position in 0..LANES {
        let mut encoded = [[0xff; 32]; LANES];
        encoded[position] = generator;
        let mut points = [Extended::identity(cpu); BLOCK];
        // SAFETY: the token proves the CPU features.
        let valid = unsafe { decode_block(cpu, &encoded, &mut points) };
        check_mask(valid[0], |lane| lane == position);
        let mut again = [[0; 32]; LANES];
        // SAFETY: the token proves the CPU features.
        unsafe { encode_block(cpu, &points[..1], &mut again) };
        assert_eq!(again[position], generator);
    }
}
