//! Writes the seeds of every target into a folder: `fuzz_seeds FOLDER` makes FOLDER/TARGET/NAME.
//!
//! A target in form only: what has coverage counters can only be linked with libFuzzer.
#![no_main]

use std::{fs, path::PathBuf};

use libfuzzer_sys::fuzz_target;

fn write() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    for (target, seeds) in overlap_fuzz::seeds::all() {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).expect("a folder that can be made");
        for (name, bytes) in &seeds {
            fs::write(folder.join(name), bytes).expect("a file that can be written");
        }
        println!("{target}: {} seeds", seeds.len());
    }
    std::process::exit(0);
}

fuzz_target!(init: write(), |_data: &[u8]| ());
