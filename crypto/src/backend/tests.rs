//! The same cases through every engine this CPU can run.

use super::{Backend, Messages, Scalar};

#[test]
fn offset_by_the_scalar_of_a_known_difference() {
    for backend in Backend::available() {
        let mut messages = Messages::default();
        messages.push(&[b"a"]);
        let mut points = backend.hash_to_group(b"test", &messages);
        let before = backend.encode(&points);
        let base = backend.fixed_base(&curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT);
        backend.offset(&mut points, &base, &[Scalar::from(7_u8)]);
        assert_ne!(before, backend.encode(&points), "{}", backend.name());
        backend.offset(&mut points, &base, &[-Scalar::from(7_u8)]);
        assert_eq!(before, backend.encode(&points), "{}", backend.name());
    }
}
