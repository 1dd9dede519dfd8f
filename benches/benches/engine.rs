//! Every batch function on every engine, as items a second.
//!
//! For core cycles an item, which do not depend on the clock, see the binary `engine-cycles`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use overlap_crypto::backend::{Backend, Encoded, Messages, RistrettoPoint, Scalar, Weight};

const ITEMS: usize = 1024;
/// Chunks of the protocol, for what depends on the size.
const CHUNKS: [usize; 2] = [8192, 16384];
const DST: &[u8] = b"HashToGroup-OPRFV1-\x01-ristretto255-SHA512";

struct Inputs {
    messages: Messages,
    elements: Vec<Encoded>,
    scalars: Vec<Scalar>,
    weights: Vec<Weight>,
    base: RistrettoPoint,
}

impl Inputs {
    fn new(items: usize) -> Self {
        let mut messages = Messages::default();
        for item in 0..items {
            let address = format!("customer{item:08}@ex.org");
            messages.push(&[b"OVL1/item", &[7; 16], &[1, 1, 0, 24], address.as_bytes()]);
        }
        let backend = Backend::detect();
        let elements = backend.encode(&backend.hash_to_group(b"bench", &messages));
        let scalars = backend.hash_to_scalars(b"bench", &messages);
        let hashes = backend.sha512(&messages);
        let weights = hashes.iter().map(|hash| hash.as_chunks().0[0]).collect();
        let base = RistrettoPoint::from_uniform_bytes(&hashes[0]);
        Self {
            messages,
            elements,
            scalars,
            weights,
            base,
        }
    }
}

fn batches(criterion: &mut Criterion) {
    let inputs = Inputs::new(ITEMS);
    let scalar = inputs.scalars[0];
    for backend in Backend::available() {
        let mut group = criterion.benchmark_group(backend.name());
        group
            .throughput(Throughput::Elements(ITEMS as u64))
            .sample_size(20);
        let hashed = || backend.hash_to_group(DST, &inputs.messages);
        let points = hashed();
        let base = backend.fixed_base(&inputs.base);
        group.bench_function("sha512", |b| b.iter(|| backend.sha512(&inputs.messages)));
        group.bench_function("hash_to_scalars", |b| {
            b.iter(|| backend.hash_to_scalars(DST, &inputs.messages))
        });
        group.bench_function("hash_to_group", |b| b.iter(hashed));
        group.bench_function("decode", |b| b.iter(|| backend.decode(&inputs.elements)));
        group.bench_function("encode", |b| b.iter(|| backend.encode(&points)));
        group.bench_function("double_encode", |b| {
            b.iter(|| backend.double_encode(&points))
        });
        group.bench_function("multiply_encode", |b| {
            b.iter(|| backend.multiply_encode(&scalar, &points))
        });
        group.bench_function("offset", |b| {
            b.iter_batched_ref(
                hashed,
                |points| backend.offset(points, &base, &inputs.scalars),
                BatchSize::LargeInput,
            )
        });
        group.finish();
        criterion.bench_function(&format!("{}/fixed_base", backend.name()), |b| {
            b.iter(|| backend.fixed_base(&inputs.base))
        });
    }
}

fn multiscalar(criterion: &mut Criterion) {
    for items in CHUNKS {
        let inputs = Inputs::new(items);
        for backend in Backend::available() {
            let mut group = criterion.benchmark_group(backend.name());
            group
                .throughput(Throughput::Elements(items as u64))
                .sample_size(10);
            let points = backend
                .decode(&inputs.elements)
                .expect("these are elements");
            group.bench_function(BenchmarkId::new("vartime_multiscalar", items), |b| {
                b.iter(|| black_box(backend.vartime_multiscalar(&inputs.scalars, &points)))
            });
            group.bench_function(BenchmarkId::new("vartime_weighted_sum", items), |b| {
                b.iter(|| black_box(backend.vartime_weighted_sum(&inputs.weights, &points)))
            });
            group.finish();
        }
    }
}

criterion_group!(benches, batches, multiscalar);
criterion_main!(benches);
