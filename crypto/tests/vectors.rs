//! The transcript vectors in docs/vectors are what this crate computes, on every engine.

#[path = "support/vectors.rs"]
mod vectors;

#[test]
fn transcript_vectors_are_current() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors");
    for (name, text) in vectors::all() {
        let stored = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(
            stored == text,
            "docs/vectors/{name} is out of date: cargo run -p overlap-crypto --example transcript-vectors"
        );
    }
}
