//! Core cycles an item of every batch function on every engine, and the ratio to the portable engine, in one process.
//!
//! The engines take turns, and the least time of the rounds is reported, in the least time that a cycle took meanwhile: a
//! chain of dependent instructions of known latency is the clock. On a shared machine many short samples are best, so that
//! some go undisturbed.

use std::{fmt::Write as _, hint::black_box, time::Duration};

use clap::{Parser, ValueEnum};
use overlap_crypto::{
    backend::{Backend, Messages, RistrettoPoint, Scalar, Weight},
    voprf::{Blinded, PublicKey, SecretKey, Statement, prove, verify},
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Core cycles an item of every batch function on every engine.
#[derive(Parser)]
struct Arguments {
    /// Items a batch; an eighth of it for the portable engine.
    #[arg(long, default_value_t = 512)]
    items: usize,
    /// Items a batch of the functions whose cost an item depends on it: a chunk of the protocol.
    #[arg(long, default_value_t = 16_384)]
    chunk: usize,
    /// Samples of each function on each engine; an eighth of it for whole chunks.
    #[arg(long, default_value_t = 400)]
    rounds: usize,
    /// Measure only functions whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Measure only this engine; ratios are then to itself.
    #[arg(long)]
    backend: Option<String>,
    /// Form of the report.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// One line of the report.
#[derive(Serialize)]
struct Measurement {
    function: &'static str,
    backend: &'static str,
    cycles_per_item: f64,
    /// The portable engine's cycles over this engine's.
    ratio_to_portable: f64,
}

/// Steps of the calibration chain; each waits for the last and takes three cycles (shift, exclusive or, add).
const CHAIN_STEPS: u32 = 100_000;
const CYCLES_PER_STEP: f64 = 3.0;

/// Nanoseconds of CPU time that this thread takes: others may run in between.
fn nanoseconds(run: &mut dyn FnMut()) -> f64 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("time goes on");
    let start = now();
    run();
    (now() - start).as_nanos() as f64
}

/// As [`nanoseconds`], after a first run: memory that the system hands out anew with each use would be measured otherwise.
fn warm_nanoseconds(run: &mut dyn FnMut()) -> f64 {
    run();
    nanoseconds(run)
}

/// Nanoseconds a core cycle takes now.
fn cycle() -> f64 {
    let elapsed = nanoseconds(&mut || {
        let mut x = black_box(1_u64);
        for _ in 0..CHAIN_STEPS {
            x = (x ^ (x >> 7)).wrapping_add(1);
        }
        black_box(x);
    });
    elapsed / (f64::from(CHAIN_STEPS) * CYCLES_PER_STEP)
}

/// What one engine works on.
struct Bench {
    backend: Backend,
    items: usize,
    messages: Messages,
    elements: Vec<[u8; 32]>,
    scalar: Scalar,
    scalars: Vec<Scalar>,
    weights: Vec<Weight>,
    base: RistrettoPoint,
}

const DST: &[u8] = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512";

/// Its name, and what takes the nanoseconds of one call.
type Function = (&'static str, fn(&Bench) -> f64);

/// Whether a function's cost an item depends on the number of items.
fn is_of_chunks(function: &str) -> bool {
    function.contains("vartime_") || function.contains("a chunk")
}

/// Every batch function, and the protocol's steps made of them.
const FUNCTIONS: &[Function] = &[
    ("sha512", |b| {
        nanoseconds(&mut || drop(black_box(b.backend.sha512(&b.messages))))
    }),
    ("hash_to_scalars", |b| {
        nanoseconds(&mut || drop(black_box(b.backend.hash_to_scalars(DST, &b.messages))))
    }),
    ("hash_to_group", |b| {
        nanoseconds(&mut || drop(black_box(b.backend.hash_to_group(DST, &b.messages))))
    }),
    ("decode", |b| {
        nanoseconds(&mut || drop(black_box(b.backend.decode(&b.elements))))
    }),
    ("encode", |b| {
        let points = b.backend.hash_to_group(DST, &b.messages);
        nanoseconds(&mut || drop(black_box(b.backend.encode(&points))))
    }),
    ("double_encode", |b| {
        let points = b.backend.hash_to_group(DST, &b.messages);
        nanoseconds(&mut || drop(black_box(b.backend.double_encode(&points))))
    }),
    ("multiply_encode", |b| {
        let points = b.backend.hash_to_group(DST, &b.messages);
        nanoseconds(&mut || drop(black_box(b.backend.multiply_encode(&b.scalar, &points))))
    }),
    ("offset", |b| {
        let mut points = b.backend.hash_to_group(DST, &b.messages);
        let base = b.backend.fixed_base(&b.base);
        nanoseconds(&mut || b.backend.offset(&mut points, &base, &b.scalars))
    }),
    ("fixed_base", |b| {
        // Once a base, not once an item.
        b.items as f64 * nanoseconds(&mut || drop(black_box(b.backend.fixed_base(&b.base))))
    }),
    ("vartime_multiscalar", |b| {
        let points = b.backend.decode(&b.elements).expect("these are elements");
        nanoseconds(&mut || _ = black_box(b.backend.vartime_multiscalar(&b.scalars, &points)))
    }),
    ("vartime_weighted_sum", |b| {
        let points = b.backend.decode(&b.elements).expect("these are elements");
        nanoseconds(&mut || _ = black_box(b.backend.vartime_weighted_sum(&b.weights, &points)))
    }),
    ("vartime_weighted_sum (computed points)", |b| {
        let points = b.backend.hash_to_group(DST, &b.messages);
        nanoseconds(&mut || _ = black_box(b.backend.vartime_weighted_sum(&b.weights, &points)))
    }),
    ("evaluate: decode, multiply_encode", |b| {
        nanoseconds(&mut || {
            let points = b.backend.decode(&b.elements).expect("these are elements");
            drop(black_box(b.backend.multiply_encode(&b.scalar, &points)));
        })
    }),
    ("own items: hash_to_group, multiply_encode", |b| {
        nanoseconds(&mut || {
            let points = b.backend.hash_to_group(DST, &b.messages);
            drop(black_box(b.backend.multiply_encode(&b.scalar, &points)));
        })
    }),
    ("blind: hash_to_group, offset, double_encode", |b| {
        let base = b.backend.fixed_base(&b.base);
        nanoseconds(&mut || {
            let mut points = b.backend.hash_to_group(DST, &b.messages);
            b.backend.offset(&mut points, &base, &b.scalars);
            drop(black_box(b.backend.double_encode(&points)));
        })
    }),
    ("unblind: offset, double_encode", |b| {
        let base = b.backend.fixed_base(&b.base);
        let mut points = b.backend.decode(&b.elements).expect("these are elements");
        nanoseconds(&mut || {
            b.backend.offset(&mut points, &base, &b.scalars);
            drop(black_box(b.backend.double_encode(&points)));
        })
    }),
    ("prove a chunk", |b| {
        let asked = b.backend.decode(&b.elements).expect("these are elements");
        let evaluated = b.backend.multiply_encode(&b.scalar, &asked);
        let (key, public_key) = b.key();
        warm_nanoseconds(&mut || {
            let proof = prove(
                b.backend,
                &key,
                &public_key,
                &asked,
                Statement {
                    blinded: &b.elements,
                    evaluated: &evaluated,
                },
                &mut ChaCha20Rng::from_seed([1; 32]),
            );
            black_box(proof);
        })
    }),
    ("verify a chunk", |b| {
        // The verifier holds what it sent as its computation left it.
        let mut halves = b.backend.hash_to_group(DST, &b.messages);
        let base = b.backend.fixed_base(&b.base);
        b.backend.offset(&mut halves, &base, &b.scalars);
        let blinded = b.backend.double_encode(&halves);
        let asked = b.backend.decode(&blinded).expect("these are elements");
        let evaluated = b.backend.multiply_encode(&b.scalar, &asked);
        let answered = b.backend.decode(&evaluated).expect("these are elements");
        let (key, public_key) = b.key();
        let statement = Statement {
            blinded: &blinded,
            evaluated: &evaluated,
        };
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let proof = prove(b.backend, &key, &public_key, &asked, statement, &mut rng);
        warm_nanoseconds(&mut || {
            verify(
                b.backend,
                &public_key,
                Blinded::Halves(&halves),
                &answered,
                statement,
                &proof,
            )
            .expect("the proof is right");
        })
    }),
];

/// Bytes that differ from item to item and from one use to the next.
fn seed(purpose: &[u8], item: usize) -> [u8; 64] {
    let mut message = Messages::default();
    message.push(&[purpose, &item.to_le_bytes()]);
    Backend::portable().sha512(&message)[0]
}

impl Bench {
    fn new(backend: Backend, items: usize) -> Self {
        // An OPRF input of the protocol: label, context, type, version, length, and an e-mail address.
        let mut messages = Messages::default();
        for item in 0..items {
            messages.push(&[
                b"OVL1/item",
                &[7; 16],
                &[1, 1, 0, 24],
                format!("customer{item:08}@ex.org").as_bytes(),
            ]);
        }
        let elements = Backend::detect();
        let elements = elements.encode(&elements.hash_to_group(b"engine-cycles", &messages));
        let scalars = (0..items)
            .map(|item| Scalar::from_bytes_mod_order_wide(&seed(b"scalar", item)))
            .collect();
        let weights = (0..items)
            .map(|item| seed(b"weight", item).as_chunks().0[0])
            .collect();
        let base = RistrettoPoint::from_uniform_bytes(&seed(b"base", 0));
        let scalar = Scalar::from_bytes_mod_order_wide(&seed(b"key", 0));
        Self {
            backend,
            items,
            messages,
            elements,
            scalar,
            scalars,
            weights,
            base,
        }
    }

    fn key(&self) -> (SecretKey, PublicKey) {
        let key = SecretKey::from_bytes(self.scalar.as_bytes()).expect("the scalar is not zero");
        let public_key = key.public_key();
        (key, public_key)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let is_wanted = |backend: &Backend| match &arguments.backend {
        Some(name) => backend.name() == name,
        None => true,
    };
    let backends: Vec<Backend> = Backend::available().into_iter().filter(is_wanted).collect();
    let chunks: Vec<Bench> = backends
        .iter()
        .map(|backend| Bench::new(*backend, arguments.chunk))
        .collect();
    // Samples longer than a time slice would hardly ever go undisturbed.
    let items_for = |backend: &Backend| match *backend == Backend::portable() {
        true => arguments.items.div_ceil(8),
        false => arguments.items,
    };
    let batches: Vec<Bench> = backends
        .iter()
        .map(|backend| Bench::new(*backend, items_for(backend)))
        .collect();
    let mut report = Vec::new();
    for (function, measure) in FUNCTIONS
        .iter()
        .filter(|(name, _)| name.contains(&arguments.only))
    {
        let (benches, rounds) = match is_of_chunks(function) {
            true => (&chunks, arguments.rounds.div_ceil(8)),
            false => (&batches, arguments.rounds),
        };
        let mut least = vec![f64::INFINITY; benches.len()];
        let mut least_cycle = f64::INFINITY;
        for _ in 0..rounds {
            for (least, bench) in least.iter_mut().zip(benches) {
                least_cycle = least_cycle.min(cycle());
                *least = least.min(measure(bench) / bench.items as f64);
            }
        }
        for (nanoseconds, bench) in least.iter().zip(benches) {
            report.push(Measurement {
                function,
                backend: bench.backend.name(),
                cycles_per_item: (nanoseconds / least_cycle).round(),
                ratio_to_portable: (least[0] / nanoseconds * 100.0).round() / 100.0,
            });
        }
    }
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Table => print!("{}", table(&report)?),
    }
    Ok(())
}

fn table(report: &[Measurement]) -> Result<String, std::fmt::Error> {
    let mut text = String::from(
        "| function | engine | cycles an item | ratio to portable |\n|---|---|---:|---:|\n",
    );
    for line in report {
        let Measurement {
            function,
            backend,
            cycles_per_item,
            ratio_to_portable,
        } = line;
        writeln!(
            text,
            "| {function} | {backend} | {cycles_per_item:.0} | {ratio_to_portable:.2} |"
        )?;
    }
    Ok(text)
}
