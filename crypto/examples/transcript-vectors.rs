//! Writes docs/vectors/*.json: `cargo run -p overlap-crypto --example transcript-vectors`.

#[path = "../tests/support/vectors.rs"]
mod vectors;

fn main() -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in vectors::all() {
        std::fs::write(folder.join(name), text)?;
        println!("docs/vectors/{name}");
    }
    Ok(())
}
