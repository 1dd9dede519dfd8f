//! Whether the time of a batch function depends on its secrets: Welch's t-test on two classes of inputs, one fixed and one
//! random, measured in random order, after Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?" (2017).
//!
//! A statistic over the limit means a leak; one under it means none was found at this number of samples. Run it on a quiet
//! machine, with optimisation, one test at a time:
//! `cargo test --release -p overlap-crypto --test backend_timing -- --ignored --nocapture --test-threads 1`.
//! docs/CONSTANT_TIME.md has the results.

use std::hint::black_box;

use overlap_crypto::backend::{Backend, Encoded, Messages, RistrettoPoint, Scalar, SealBatch};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

/// Elements a batch: more than one vector.
const ITEMS: usize = 16;
const MESSAGE_BYTES: usize = 48;
/// Samples of each class that are kept to find the cropping thresholds.
const SAMPLES: usize = 20_000;
/// dudect's own limit for "probably not constant time" is 10; a sound function stays under about 4.5.
const LIMIT: f64 = 10.0;
const DST: &[u8] = b"OVL1 timing test";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Fixed,
    Random,
}

/// The secrets of one call. Both classes use the same buffers.
struct Secrets {
    class: Class,
    messages: Messages,
    elements: Vec<Encoded>,
    scalars: Vec<Scalar>,
    /// Elements that are the same in every call.
    public: Vec<Encoded>,
}

/// Batches of random elements, made once.
struct Pool(Vec<Vec<Encoded>>);

impl Pool {
    fn new(rng: &mut ChaCha20Rng) -> Self {
        let element = |_| {
            let mut bytes = [0; 64];
            rng.fill_bytes(&mut bytes);
            RistrettoPoint::from_uniform_bytes(&bytes)
                .compress()
                .to_bytes()
        };
        let elements: Vec<Encoded> = (0..64 * ITEMS).map(element).collect();
        Self(elements.chunks(ITEMS).map(<[Encoded]>::to_vec).collect())
    }
}

impl Secrets {
    fn draw(rng: &mut ChaCha20Rng, pool: &Pool) -> Self {
        let class = if rng.next_u32() & 1 == 0 {
            Class::Fixed
        } else {
            Class::Random
        };
        let mut messages = Messages::with_capacity(ITEMS, MESSAGE_BYTES);
        let mut scalars = Vec::with_capacity(ITEMS);
        // Both classes draw the same randomness and choose without a branch that a predictor could learn from.
        let keep = if class == Class::Fixed { 0 } else { 0xff };
        for _ in 0..ITEMS {
            let mut bytes = [0; 64];
            rng.fill_bytes(&mut bytes);
            let bytes = bytes.map(|byte| byte & keep);
            messages.push(&[&bytes[..MESSAGE_BYTES]]);
            scalars.push(Scalar::from_bytes_mod_order_wide(&bytes) + Scalar::ONE);
        }
        let number = (rng.next_u32() as usize % (pool.0.len() - 1) + 1) & usize::from(keep);
        let (elements, public) = (pool.0[number].clone(), pool.0[0].clone());
        Self {
            class,
            messages,
            elements,
            scalars,
            public,
        }
    }
}

/// Times one call; what comes before the clock is not timed.
type Measure<'a> = dyn FnMut(Backend, &Secrets) -> f64 + 'a;

fn nanoseconds(run: impl FnOnce()) -> f64 {
    #[expect(clippy::disallowed_methods, reason = "a timing test")]
    let start = std::time::Instant::now();
    run();
    start.elapsed().as_nanos() as f64
}

/// Mean and variance by Welford's method.
#[derive(Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let difference = value - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (value - self.mean);
    }

    fn variance_of_mean(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// Welch's statistic over the samples not above `threshold`.
fn welch(samples: &[(Class, f64)], threshold: f64) -> f64 {
    let (mut fixed, mut random) = (Moments::default(), Moments::default());
    for (class, time) in samples.iter().filter(|(_, time)| *time <= threshold) {
        match class {
            Class::Fixed => fixed.add(*time),
            Class::Random => random.add(*time),
        }
    }
    (fixed.mean - random.mean) / (fixed.variance_of_mean() + random.variance_of_mean()).sqrt()
}

/// Measures `function` on every engine, and refuses a statistic over the limit.
fn investigate(function: &str, measure: &mut Measure<'_>) {
    for (backend, worst) in statistics(function, measure) {
        assert!(
            worst < LIMIT,
            "{function} on {}: |t| = {worst:.1}",
            backend.name()
        );
    }
}

/// Measures `function` on every engine: the worst statistic of each.
fn statistics(function: &str, measure: &mut Measure<'_>) -> Vec<(Backend, f64)> {
    let mut results = Vec::new();
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    let pool = Pool::new(&mut rng);
    for backend in Backend::available() {
        let count = if backend == Backend::portable() {
            SAMPLES / 4
        } else {
            SAMPLES
        };
        let mut samples = Vec::with_capacity(2 * count);
        for sample in 0..2 * count + 100 {
            let secrets = Secrets::draw(&mut rng, &pool);
            let time = measure(backend, &secrets);
            // The first calls warm the caches up.
            if sample >= 100 {
                samples.push((secrets.class, time));
            }
        }
        let mut times: Vec<f64> = samples.iter().map(|(_, time)| *time).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let statistics =
            [0.25, 0.5, 0.75, 0.9, 0.99, 1.0].map(|share| (share, welch(&samples, at(share))));
        let worst = statistics.iter().map(|(_, t)| t.abs()).fold(0.0, f64::max);
        let list: Vec<String> = statistics
            .iter()
            .map(|(share, t)| format!("{:.0}%: {t:+.2}", 100.0 * share))
            .collect();
        println!(
            "{function} on {}: {} samples, median {:.0} ns, t cropped at {}; worst {worst:.2}",
            backend.name(),
            samples.len(),
            at(0.5),
            list.join(", "),
        );
        results.push((backend, worst));
    }
    results
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_multiply_encode_by_scalar() {
    investigate("multiply_encode, secret scalar", &mut |backend, secrets| {
        let points = backend.decode(&secrets.public).unwrap();
        nanoseconds(|| {
            drop(black_box(
                backend.multiply_encode(&secrets.scalars[0], &points),
            ))
        })
    });
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_multiply_encode_by_elements() {
    investigate(
        "multiply_encode, secret elements",
        &mut |backend, secrets| {
            let points = backend.decode(&secrets.elements).unwrap();
            let scalar = Scalar::from(0x1234_5678_9abc_def0_u64).invert();
            nanoseconds(|| drop(black_box(backend.multiply_encode(&scalar, &points))))
        },
    );
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_hash_to_group() {
    investigate("hash_to_group, secret messages", &mut |backend, secrets| {
        nanoseconds(|| drop(black_box(backend.hash_to_group(DST, &secrets.messages))))
    });
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_sha512() {
    investigate("sha512, secret messages", &mut |backend, secrets| {
        nanoseconds(|| drop(black_box(backend.sha512(&secrets.messages))))
    });
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_encode() {
    investigate("encode, secret elements", &mut |backend, secrets| {
        let points = backend.decode(&secrets.elements).unwrap();
        nanoseconds(|| drop(black_box(backend.encode(&points))))
    });
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_sha512_after() {
    investigate("sha512_after, secret items", &mut |backend, secrets| {
        let items = secrets.elements.iter();
        nanoseconds(|| drop(black_box(backend.sha512_after(&[1; 37], items))))
    });
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_seal_each() {
    investigate(
        "seal_each, secret keys and texts",
        &mut |backend, secrets| {
            let keys: Vec<&[u8; 32]> = secrets.elements.iter().collect();
            let aads = vec![&[1; 16]; keys.len()];
            // As long as labels are without fields.
            let mut texts = Vec::new();
            for element in &secrets.elements {
                texts.extend_from_slice(&element[..17]);
                texts.extend_from_slice(&[0; 16]);
            }
            nanoseconds(|| {
                backend.seal_each(SealBatch {
                    keys: &keys,
                    aads: &aads,
                    texts: black_box(&mut texts),
                    stride: 33,
                });
            })
        },
    );
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_double_encode() {
    investigate("double_encode, secret elements", &mut |backend, secrets| {
        let points = backend.decode(&secrets.elements).unwrap();
        nanoseconds(|| drop(black_box(backend.double_encode(&points))))
    });
}

#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_offset() {
    // One base for all calls: it is public, and takes long to prepare.
    let generator = curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
    let bases: Vec<_> = Backend::available()
        .into_iter()
        .map(|backend| (backend, backend.fixed_base(&generator)))
        .collect();
    investigate(
        "offset, secret scalars and elements",
        &mut |backend, secrets| {
            let mut points = backend.decode(&secrets.elements).unwrap();
            let (_, base) = bases.iter().find(|(engine, _)| *engine == backend).unwrap();
            nanoseconds(|| backend.offset(&mut points, base, &secrets.scalars))
        },
    );
}

/// The control: a function in variable time must be caught.
#[test]
#[ignore = "slow: timing statistics, for a quiet machine"]
fn slow_timing_of_control() {
    let control = "control: vartime_multiscalar, secret scalars";
    let results = statistics(control, &mut |backend, secrets| {
        let points = backend.decode(&secrets.public).expect("these are elements");
        nanoseconds(|| _ = black_box(backend.vartime_multiscalar(&secrets.scalars, &points)))
    });
    for (backend, worst) in results {
        assert!(
            worst > LIMIT,
            "not caught on {}: |t| = {worst:.1}",
            backend.name()
        );
    }
}
