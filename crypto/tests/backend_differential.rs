//! Every engine against the portable one, byte for byte.
#![expect(clippy::unwrap_used, reason = "tests")]

use overlap_crypto::backend::{
    Backend, DecodeError, Encoded, Messages, RistrettoPoint, SEAL_BYTES, Scalar, SealBatch, Weight,
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

const DST: &[u8] = b"OVL1 engine differential test";

fn others() -> Vec<Backend> {
    let portable = Backend::portable();
    Backend::available()
        .into_iter()
        .filter(|backend| *backend != portable)
        .collect()
}

fn random_bytes<const N: usize>(rng: &mut ChaCha20Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn random_scalar(rng: &mut ChaCha20Rng) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&random_bytes(rng))
}

fn random_scalars(rng: &mut ChaCha20Rng, count: usize) -> Vec<Scalar> {
    (0..count).map(|_| random_scalar(rng)).collect()
}

/// Messages of `lengths` bytes in turn.
fn random_messages(rng: &mut ChaCha20Rng, count: usize, lengths: &[usize]) -> Messages {
    let mut messages = Messages::default();
    for index in 0..count {
        let mut message = vec![0; lengths[index % lengths.len()]];
        rng.fill_bytes(&mut message);
        messages.push(&[&message]);
    }
    messages
}

fn random_elements(rng: &mut ChaCha20Rng, count: usize) -> Vec<Encoded> {
    (0..count)
        .map(|_| {
            RistrettoPoint::from_uniform_bytes(&random_bytes(rng))
                .compress()
                .to_bytes()
        })
        .collect()
}

/// Scalars at which digits, carries and halvings are extreme.
fn edge_scalars() -> Vec<Scalar> {
    let two = Scalar::from(2_u8);
    let half = two.invert();
    let mut scalars = vec![
        Scalar::ZERO,
        Scalar::ONE,
        two,
        -Scalar::ONE,
        -two,
        half,
        -half,
        half - Scalar::ONE,
    ];
    for exponent in [3, 4, 5, 63, 64, 124, 125, 126, 248, 250, 251, 252] {
        let power = (0..exponent).fold(Scalar::ONE, |power, _| power + power);
        scalars.extend([
            power,
            -power,
            power - Scalar::ONE,
            power + Scalar::ONE,
            power * half,
        ]);
    }
    for nibble in [0x77_u8, 0x78, 0x87, 0x88, 0x0f, 0xf0, 0xff, 0x11] {
        let mut bytes = [nibble; 32];
        scalars.push(Scalar::from_bytes_mod_order(bytes));
        bytes[31] = 0x07;
        scalars.push(Scalar::from_bytes_mod_order(bytes));
        scalars.push(Scalar::from_bytes_mod_order(bytes) + Scalar::from_bytes_mod_order(bytes));
    }
    scalars
}

fn outcome(backend: Backend, encoded: &[Encoded]) -> Result<Vec<Encoded>, DecodeError> {
    backend
        .decode(encoded)
        .map(|points| backend.encode(&points))
}

/// Every operation on `count` random inputs.
fn compare(rng: &mut ChaCha20Rng, count: usize, lengths: &[usize]) {
    let portable = Backend::portable();
    let messages = random_messages(rng, count, lengths);
    let elements = random_elements(rng, count);
    let scalar = random_scalar(rng);
    let scalars = random_scalars(rng, count);
    let base = RistrettoPoint::from_uniform_bytes(&random_bytes(rng));

    let expected_hashes = portable.sha512(&messages);
    let expected_scalars = portable.hash_to_scalars(DST, &messages);
    let mut hashed = portable.hash_to_group(DST, &messages);
    let expected_hashed = portable.encode(&hashed);
    let expected_doubled = portable.double_encode(&hashed);
    let expected_own = portable.multiply_encode(&scalar, &hashed);
    let decoded = portable.decode(&elements).unwrap();
    let expected_products = portable.multiply_encode(&scalar, &decoded);
    portable.offset(&mut hashed, &portable.fixed_base(&base), &scalars);
    let expected_blinded = portable.encode(&hashed);
    let expected_doubled_blinded = portable.double_encode(&hashed);

    for backend in others() {
        let name = backend.name();
        assert_eq!(backend.sha512(&messages), expected_hashes, "{name}");
        assert_eq!(
            backend.hash_to_scalars(DST, &messages),
            expected_scalars,
            "{name}"
        );
        let mut hashed = backend.hash_to_group(DST, &messages);
        assert_eq!(hashed.len(), count, "{name}");
        assert_eq!(backend.encode(&hashed), expected_hashed, "{name}");
        assert_eq!(backend.double_encode(&hashed), expected_doubled, "{name}");
        assert_eq!(
            backend.multiply_encode(&scalar, &hashed),
            expected_own,
            "{name}"
        );
        let decoded = backend.decode(&elements).unwrap();
        assert_eq!(backend.encode(&decoded), elements, "{name}");
        assert_eq!(
            backend.multiply_encode(&scalar, &decoded),
            expected_products,
            "{name}"
        );
        backend.offset(&mut hashed, &backend.fixed_base(&base), &scalars);
        assert_eq!(backend.encode(&hashed), expected_blinded, "{name}");
        assert_eq!(
            backend.double_encode(&hashed),
            expected_doubled_blinded,
            "{name}"
        );
    }
}

/// Weights at which digits and carries are extreme, and random ones.
fn weights(rng: &mut ChaCha20Rng, count: usize) -> Vec<Weight> {
    let edges = [
        [0; 16], [0xff; 16], [0x77; 16], [0x88; 16], [0x7f; 16], [0x80; 16],
    ];
    let powers = (0..128).map(|exponent| (1_u128 << exponent).to_le_bytes());
    let mut weights: Vec<Weight> = edges.into_iter().chain(powers).collect();
    weights.truncate(count / 2);
    while weights.len() < count {
        weights.push(random_bytes(rng));
    }
    weights
}

/// Multi-scalar multiplication and weighted sums of decoded and of computed points.
fn compare_multiscalar(rng: &mut ChaCha20Rng, count: usize, scalars: &[Scalar]) {
    let weights = weights(rng, count);
    let as_scalars: Vec<Scalar> = weights
        .iter()
        .map(|weight| Scalar::from(u128::from_le_bytes(*weight)))
        .collect();
    let portable = Backend::portable();
    let elements = random_elements(rng, count);
    let base = RistrettoPoint::from_uniform_bytes(&random_bytes(rng));
    let offsets = random_scalars(rng, count);
    let mut points = portable.decode(&elements).unwrap();
    let expected = portable.vartime_multiscalar(scalars, &points);
    let expected_weighted = portable.vartime_multiscalar(&as_scalars, &points);
    assert_eq!(
        portable.vartime_weighted_sum(&weights, &points),
        expected_weighted
    );
    portable.offset(&mut points, &portable.fixed_base(&base), &offsets);
    let expected_weighted_offset = portable.vartime_multiscalar(&as_scalars, &points);
    let expected_offset = portable.vartime_multiscalar(scalars, &points);
    for backend in others() {
        let mut points = backend.decode(&elements).unwrap();
        assert_eq!(
            backend.vartime_multiscalar(scalars, &points),
            expected,
            "{} {count}",
            backend.name()
        );
        assert_eq!(
            backend.vartime_weighted_sum(&weights, &points),
            expected_weighted,
            "{} {count}",
            backend.name()
        );
        backend.offset(&mut points, &backend.fixed_base(&base), &offsets);
        assert_eq!(
            backend.vartime_multiscalar(scalars, &points),
            expected_offset,
            "{} {count}",
            backend.name()
        );
        assert_eq!(
            backend.vartime_weighted_sum(&weights, &points),
            expected_weighted_offset,
            "{} {count}",
            backend.name()
        );
    }
}

/// SHA-512 behind a common prefix, against the general function on messages written out.
fn compare_fixed_messages(rng: &mut ChaCha20Rng, count: usize, prefix_bytes: usize) {
    let items: Vec<[u8; 32]> = (0..count).map(|_| random_bytes(rng)).collect();
    let mut prefix = vec![0; prefix_bytes];
    rng.fill_bytes(&mut prefix);
    let mut messages = Messages::default();
    for item in &items {
        messages.push(&[&prefix, item]);
    }
    let hashes = Backend::portable().sha512(&messages);
    for backend in Backend::available() {
        let name = backend.name();
        assert_eq!(
            backend.sha512_after(&prefix, items.iter()),
            hashes,
            "{name} {count}"
        );
    }
}

#[test]
fn fixed_messages_of_every_batch_and_prefix_length() {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    for count in 0..=65 {
        compare_fixed_messages(&mut rng, count, 4 * count);
    }
    // One block, two, and either side of what padding adds.
    for prefix_bytes in [0, 1, 78, 79, 80, 95, 96, 97, 128, 206, 207, 208] {
        compare_fixed_messages(&mut rng, 9, prefix_bytes);
    }
    compare_fixed_messages(&mut rng, 3000, 37);
}

/// Sealed texts are the same on every engine, open on every engine, and do not once a bit of them changed.
fn compare_sealed(rng: &mut ChaCha20Rng, count: usize, bytes: usize) {
    let stride = bytes + SEAL_BYTES;
    let mut keys = vec![[0; 32]; count];
    let mut aads = vec![[0; 16]; count];
    let mut plain = vec![0; count * stride];
    keys.iter_mut().for_each(|key| rng.fill_bytes(key));
    aads.iter_mut().for_each(|aad| rng.fill_bytes(aad));
    rng.fill_bytes(&mut plain);
    let keys: Vec<&[u8; 32]> = keys.iter().collect();
    let aads: Vec<&[u8; 16]> = aads.iter().collect();
    fn batch<'a>(
        keys: &'a [&'a [u8; 32]],
        aads: &'a [&'a [u8; 16]],
        texts: &'a mut [u8],
    ) -> SealBatch<'a> {
        let stride = texts.len().checked_div(keys.len()).unwrap_or(SEAL_BYTES);
        SealBatch {
            keys,
            aads,
            texts,
            stride,
        }
    }
    let mut expected = plain.clone();
    Backend::portable().seal_each(batch(&keys, &aads, &mut expected));
    for backend in Backend::available() {
        let name = backend.name();
        let mut texts = plain.clone();
        backend.seal_each(batch(&keys, &aads, &mut texts));
        assert_eq!(texts, expected, "{name} {count} {bytes}");
        let opened = backend.open_each(batch(&keys, &aads, &mut texts));
        assert_eq!(opened, vec![true; count], "{name} {count} {bytes}");
        for (text, plain) in texts.chunks(stride).zip(plain.chunks(stride)) {
            assert_eq!(text[..bytes], plain[..bytes], "{name} {count} {bytes}");
        }
        if count > 0 {
            let changed = rng.next_u32() as usize % count;
            let at = changed * stride + rng.next_u32() as usize % stride;
            let mut texts = expected.clone();
            texts[at] ^= 1 << (rng.next_u32() % 8);
            let opened = backend.open_each(batch(&keys, &aads, &mut texts));
            let wanted: Vec<bool> = (0..count).map(|index| index != changed).collect();
            assert_eq!(opened, wanted, "{name} {count} {bytes}");
            let mut bound: Vec<&[u8; 16]> = aads.clone();
            bound[changed] = &[7; 16];
            let mut texts = expected.clone();
            let opened = backend.open_each(batch(&keys, &bound, &mut texts));
            assert_eq!(opened, wanted, "{name} {count} {bytes}");
        }
    }
}

#[test]
fn sealed_texts_of_every_batch_and_text_length() {
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    for count in 0..=65 {
        compare_sealed(&mut rng, count, 17);
    }
    for bytes in (0..=130).chain([255, 256, 257, 4_080]) {
        compare_sealed(&mut rng, 19, bytes);
    }
    compare_sealed(&mut rng, 3_000, 40);
}

#[test]
fn every_batch_length() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for count in 0..=65 {
        compare(&mut rng, count, &[0, 1, 30, 31, 32]);
    }
    for count in [511, 512, 513, 1025] {
        compare(&mut rng, count, &[40, 41]);
    }
}

#[test]
fn every_message_length_about_a_block() {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let lengths: Vec<usize> = (0..=300).collect();
    compare(&mut rng, lengths.len(), &lengths);
}

#[test]
fn every_tag_length() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let messages = random_messages(&mut rng, 9, &[3, 50]);
    for length in 0..=255 {
        let dst = vec![b'x'; length];
        let expected = Backend::portable().hash_to_scalars(&dst, &messages);
        for backend in others() {
            assert_eq!(
                backend.hash_to_scalars(&dst, &messages),
                expected,
                "{} {length}",
                backend.name()
            );
        }
    }
}

#[test]
fn extreme_scalars() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let portable = Backend::portable();
    let elements = random_elements(&mut rng, 9);
    let scalars = edge_scalars();
    let many = random_elements(&mut rng, scalars.len());
    let base = RistrettoPoint::from_uniform_bytes(&random_bytes(&mut rng));
    for backend in others() {
        let points = backend.decode(&elements).unwrap();
        let expected_points = portable.decode(&elements).unwrap();
        for scalar in &scalars {
            let expected = portable.multiply_encode(scalar, &expected_points);
            assert_eq!(
                backend.multiply_encode(scalar, &points),
                expected,
                "{} {scalar:?}",
                backend.name()
            );
        }
        let mut expected = portable.decode(&many).unwrap();
        portable.offset(&mut expected, &portable.fixed_base(&base), &scalars);
        let mut points = backend.decode(&many).unwrap();
        backend.offset(&mut points, &backend.fixed_base(&base), &scalars);
        assert_eq!(
            backend.encode(&points),
            portable.encode(&expected),
            "{}",
            backend.name()
        );
        let expected = portable.vartime_multiscalar(&scalars, &portable.decode(&many).unwrap());
        let sum = backend.vartime_multiscalar(&scalars, &backend.decode(&many).unwrap());
        assert_eq!(sum, expected, "{}", backend.name());
    }
}

/// Results that are the identity, and additions of equal, opposite and identity points.
#[test]
fn identities_and_coincidences() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    for backend in others() {
        let name = backend.name();
        let bases: Vec<Scalar> = random_scalars(&mut rng, 20);
        let generator = curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
        let elements: Vec<Encoded> = bases
            .iter()
            .map(|k| (k * generator).compress().to_bytes())
            .collect();
        let base = backend.fixed_base(&generator);
        // To the identity in every other lane, to the double in the rest.
        let offsets: Vec<Scalar> = bases
            .iter()
            .enumerate()
            .map(|(index, k)| if index % 2 == 0 { -k } else { *k })
            .collect();
        let mut points = backend.decode(&elements).unwrap();
        backend.offset(&mut points, &base, &offsets);
        let expected: Vec<Encoded> = bases
            .iter()
            .zip(&offsets)
            .map(|(k, offset)| ((k + offset) * generator).compress().to_bytes())
            .collect();
        assert_eq!(expected[0], [0; 32]);
        assert_eq!(backend.encode(&points), expected, "{name}");
        let doubled: Vec<Encoded> = bases
            .iter()
            .zip(&offsets)
            .map(|(k, offset)| {
                let sum = (k + offset) * generator;
                (sum + sum).compress().to_bytes()
            })
            .collect();
        assert_eq!(backend.double_encode(&points), doubled, "{name}");
        let scalar = random_scalar(&mut rng);
        let products = backend.multiply_encode(&scalar, &points);
        for (index, product) in products.iter().enumerate() {
            let expected = (scalar * (bases[index] + offsets[index]) * generator)
                .compress()
                .to_bytes();
            assert_eq!(*product, expected, "{name} {index}");
        }
        assert_eq!(
            backend.multiply_encode(&Scalar::ZERO, &points),
            vec![[0; 32]; 20],
            "{name}"
        );
        let sum = backend.vartime_multiscalar(&offsets, &points);
        let expected: Scalar = bases
            .iter()
            .zip(&offsets)
            .map(|(k, offset)| (k + offset) * offset)
            .sum();
        assert_eq!(sum, expected * generator, "{name}");
        // The identity as a base.
        let identity = backend.fixed_base(&(Scalar::ZERO * generator));
        let mut points = backend.decode(&elements).unwrap();
        backend.offset(&mut points, &identity, &bases);
        assert_eq!(backend.encode(&points), elements, "{name}");
    }
}

/// Encodings that are refused, each alone, in every lane, and as a whole batch.
#[test]
fn refused_elements() {
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let good = random_elements(&mut rng, 65);
    let mut bad: Vec<Encoded> = vec![[0; 32], [0xff; 32]];
    // p - 1, p, p + 1, 2^255 - 1; one with the high bit, also on zero; one; -1 of a good one.
    for low in [0xec, 0xed, 0xee, 0xff] {
        let mut bytes = [0xff; 32];
        bytes[0] = low;
        bytes[31] = 0x7f;
        bad.push(bytes);
    }
    let mut high = good[0];
    high[31] |= 0x80;
    bad.push(high);
    bad.push(core::array::from_fn(
        |index| if index == 31 { 0x80 } else { 0 },
    ));
    bad.push(core::array::from_fn(|index| u8::from(index == 0)));
    let mut negative = [0_u8; 32];
    let mut borrow = 0_i16;
    for (index, byte) in negative.iter_mut().enumerate() {
        let p = match index {
            0 => 0xed,
            31 => 0x7f,
            _ => 0xff,
        };
        let difference = p - i16::from(good[1][index]) - borrow;
        borrow = i16::from(difference < 0);
        *byte = difference.rem_euclid(256) as u8;
    }
    bad.push(negative);
    for backend in others() {
        for wrong in &bad {
            assert_eq!(
                outcome(backend, &[*wrong; 65]),
                outcome(Backend::portable(), &[*wrong; 65])
            );
            for index in 0..good.len() {
                let mut elements = good.clone();
                elements[index] = *wrong;
                let expected = outcome(Backend::portable(), &elements);
                assert!(expected.as_ref().is_err_and(|error| error.index == index));
                assert_eq!(
                    outcome(backend, &elements),
                    expected,
                    "{} {wrong:?}",
                    backend.name()
                );
            }
        }
    }
}

/// Random strings, most of them refused, one at a time.
#[test]
fn random_strings_as_elements() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    for backend in others() {
        for _ in 0..400 {
            let mut bytes: Encoded = random_bytes(&mut rng);
            bytes[31] &= 0x7f;
            bytes[0] &= 0xfe;
            assert_eq!(
                outcome(backend, &[bytes]),
                outcome(Backend::portable(), &[bytes]),
                "{}",
                backend.name()
            );
        }
    }
}

#[test]
fn multiscalar_at_many_sizes() {
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    for count in (0..=18).chain([31, 32, 65, 127, 128, 300, 800, 1600, 3100, 7000]) {
        let scalars = random_scalars(&mut rng, count);
        compare_multiscalar(&mut rng, count, &scalars);
    }
    // One bucket for all, the highest digits, and none at all.
    for scalar in [Scalar::ONE, -Scalar::ONE, Scalar::ZERO] {
        compare_multiscalar(&mut rng, 100, &[scalar; 100]);
    }
}

#[test]
#[ignore = "slow: a million random inputs through every operation, about two minutes in release"]
fn slow_million_random_inputs_match_portable() {
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    let batch = 4000;
    for _ in 0..250 {
        let lengths = [(rng.next_u32() % 200) as usize, 32, 48];
        compare(&mut rng, batch, &lengths);
    }
    for _ in 0..20 {
        let scalars = random_scalars(&mut rng, 8192);
        compare_multiscalar(&mut rng, 8192, &scalars);
    }
}
