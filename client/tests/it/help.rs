//! `--help` of every command, compared with files. `UPDATE_SNAPSHOTS=1 cargo test -p overlap-client help` writes them.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{command, outcome};

fn snapshots() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/help"))
}

/// The names that a help text lists under "Commands:".
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_the_help_on_file() {
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    if update {
        fs::create_dir_all(snapshots()).unwrap();
    }
    let mut found = BTreeSet::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = outcome(&mut command(&arguments)).done();
        for name in subcommands(&help) {
            let mut path = path.clone();
            path.push(name);
            open.push(path);
        }
        let file_name = format!(
            "{}.txt",
            [&["overlap".to_owned()], &path[..]].concat().join("-")
        );
        let file = snapshots().join(&file_name);
        if update {
            fs::write(&file, &help).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            help, expected,
            "{file_name}: UPDATE_SNAPSHOTS=1 rewrites the files"
        );
        found.insert(file_name);
    }
    let on_file: BTreeSet<String> = fs::read_dir(snapshots())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, on_file, "files without a command");
}
