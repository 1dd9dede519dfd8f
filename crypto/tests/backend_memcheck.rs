//! Whether the portable engine branches on secrets or uses them as addresses: they are marked undefined, and Valgrind's
//! memcheck complains about every jump and address that depends on undefined bits (Adam Langley's "ctgrind").
//!
//! Valgrind knows no AVX-512, and tells programs so: under it only the portable engine is available.
//! `cargo test --release -p overlap-crypto --test backend_memcheck -- --ignored` runs the tests of this file again, one by
//! one, under Valgrind.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![expect(unsafe_code, reason = "Valgrind's client requests are machine code")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use overlap_crypto::backend::{Backend, Encoded, Messages, Scalar};

const RUNNING_ON_VALGRIND: usize = 0x1001;
const MAKE_MEM_UNDEFINED: usize = 0x4d43_0001;
const MAKE_MEM_DEFINED: usize = 0x4d43_0002;

/// A client request of valgrind.h, which does nothing outside Valgrind and then returns zero.
fn client_request(request: usize, address: *const u8, bytes: usize) -> usize {
    let arguments: [usize; 6] = [request, address.addr(), bytes, 0, 0, 0];
    let mut result = 0_usize;
    // SAFETY: the sequence rotates a register by 128 bits in all and exchanges another with itself. Under Valgrind it reads
    // the arguments and changes no memory, only what memcheck knows about it.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") result,
            inout("rdi") 0_usize => _,
        );
    }
    result
}

fn is_on_valgrind() -> bool {
    client_request(RUNNING_ON_VALGRIND, core::ptr::null(), 0) != 0
}

fn mark_secret<T: ?Sized>(value: &T) {
    client_request(
        MAKE_MEM_UNDEFINED,
        core::ptr::from_ref(value).cast(),
        size_of_val(value),
    );
}

fn mark_public<T: ?Sized>(value: &T) {
    client_request(
        MAKE_MEM_DEFINED,
        core::ptr::from_ref(value).cast(),
        size_of_val(value),
    );
}

fn secret_messages(count: usize) -> Messages {
    let mut messages = Messages::default();
    for index in 0..count {
        let message = [index as u8; 50];
        mark_secret(&message);
        messages.push(&[&message]);
    }
    messages
}

fn secret_scalars(count: usize) -> Vec<Scalar> {
    let scalars: Vec<Scalar> = (1..=count as u64)
        .map(|index| Scalar::from(index).invert())
        .collect();
    mark_secret(scalars.as_slice());
    scalars
}

/// Uses every byte, as the program that receives the result does.
fn publish(encoded: &[Encoded]) {
    mark_public(encoded);
    assert!(encoded.iter().all(|bytes| *bytes != [0; 32]));
}

#[test]
#[ignore = "runs under Valgrind only, by slow_portable_engine_under_memcheck"]
fn memcheck_hashes() {
    let hashes = Backend::portable().sha512(&secret_messages(3));
    mark_public(hashes.as_slice());
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
#[ignore = "runs under Valgrind only, by slow_portable_engine_under_memcheck"]
fn memcheck_own_items() {
    let backend = Backend::portable();
    let points = backend.hash_to_group(b"memcheck", &secret_messages(3));
    let scalar = secret_scalars(1);
    publish(&backend.multiply_encode(&scalar[0], &points));
}

#[test]
#[ignore = "runs under Valgrind only, by slow_portable_engine_under_memcheck"]
fn memcheck_blinding() {
    let backend = Backend::portable();
    let base = backend.fixed_base(&curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT);
    let mut points = backend.hash_to_group(b"memcheck", &secret_messages(3));
    backend.offset(&mut points, &base, &secret_scalars(3));
    publish(&backend.double_encode(&points));
}

/// The control: a function in variable time must be caught.
#[test]
#[ignore = "runs under Valgrind only, by slow_portable_engine_under_memcheck"]
fn memcheck_control() {
    let backend = Backend::portable();
    let mut messages = Messages::default();
    messages.push(&[b"public"]);
    let points = backend.hash_to_group(b"memcheck", &messages);
    let sum = backend.vartime_multiscalar(&secret_scalars(1), &points);
    mark_public(&sum);
}

/// Runs one test of this file under memcheck: whether it found nothing, and its report.
fn under_memcheck(test: &str) -> (bool, String) {
    let output = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99", "--track-origins=no"])
        .arg(format!(
            "--suppressions={}",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/memcheck.supp")
        ))
        .arg(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            test,
            "--test-threads",
            "1",
            "--nocapture",
        ])
        .output()
        .expect("Valgrind is installed");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
#[ignore = "slow: runs the portable engine under Valgrind, which must be installed"]
fn slow_portable_engine_under_memcheck() {
    assert!(!is_on_valgrind());
    for test in ["memcheck_hashes", "memcheck_own_items", "memcheck_blinding"] {
        let (is_clean, report) = under_memcheck(test);
        println!("{test}: {}", if is_clean { "clean" } else { "LEAK" });
        assert!(is_clean, "{test}:\n{report}");
    }
    let (is_clean, _) = under_memcheck("memcheck_control");
    println!(
        "memcheck_control: {}",
        if is_clean { "NOT CAUGHT" } else { "caught" }
    );
    assert!(
        !is_clean,
        "memcheck did not notice a function in variable time"
    );
}
