//! docs/PROTOCOL.md lists what the code has: abort codes, frame kinds, domain strings.

use std::path::Path;

use overlap_crypto::{
    fault::Fault,
    wire::{AbortBody, FrameKind},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    std::fs::read_to_string(root().join("../docs/PROTOCOL.md")).expect("the specification")
}

#[test]
fn every_abort_code_is_documented() {
    let document = document();
    for &fault in Fault::ALL {
        let row = format!(
            "| {} | {} | {} |",
            fault.code(),
            fault.name(),
            fault.description()
        );
        assert!(document.contains(&row), "{row}");
        assert!(
            fault.code() < AbortBody::CANCELLED,
            "1000 and up are not faults"
        );
    }
}

#[test]
fn every_frame_kind_is_documented() {
    let document = document();
    for &kind in FrameKind::ALL {
        let row = format!("| {} | {} |", kind.code(), kind.name());
        assert!(document.contains(&row), "{row}");
    }
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("a source file").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(std::fs::read_to_string(path).expect("a text file"));
        }
    }
}

#[test]
fn every_domain_string_is_documented() {
    let document = document();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let strings: Vec<&str> = files
        .iter()
        .flat_map(|file| file.split('"'))
        .filter(|text| text.starts_with("OVL1/"))
        .collect();
    assert!(strings.len() > 20);
    for text in strings {
        assert!(document.contains(&format!("\"{text}\"")), "{text}");
    }
}
