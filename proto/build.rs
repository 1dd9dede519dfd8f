//! Compiles the .proto files with a pure-Rust compiler: no protoc is needed.

use std::{env, fs, io, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for package in ["overlap/v1", "overlap/exchange/v1"] {
        println!("cargo:rerun-if-changed={package}");
        let mut names = fs::read_dir(package)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        names.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
        names.sort();
        files.extend(names);
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".overlap.exchange.v1.Frame")
        .compile_well_known_types(false)
        .compile_fds(descriptors)?;
    Ok(())
}
