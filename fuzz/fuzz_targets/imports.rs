//! Files that people import: any is taken or refused with a reason that fits a screen. The first byte is the kind (0 customers,
//! else a kind of record), the second the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use overlap_fuzz::node::{NOW, clock, kinds};
use overlap_proto::v1::{RecordFileFormat, RecordKind};
use overlap_server::{
    customers::{
        files::Format,
        import::{ImportOptions, Source, import_reader},
    },
    error::{Blame, Error},
    fuzzing,
    storage::Store,
};

thread_local!(static STORE: (tempfile::TempDir, Store) = {
    let memory = std::path::Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder for the store");
    let store = Store::open(directory.path()).expect("a new store");
    (directory, store)
});

fn check(result: Result<(), Error>) {
    if let Err(error) = result {
        let blame = error.reason().blame();
        assert!(
            matches!(blame, Blame::Caller),
            "{:?}: {error}",
            error.reason()
        );
        assert!(
            error.message().len() < 2_000,
            "{} bytes of error",
            error.message().len()
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, format, file @ ..] = data else {
        return;
    };
    if *kind == 0 {
        let format = if format % 2 == 0 {
            Format::Csv
        } else {
            Format::Ndjson
        };
        let options = ImportOptions {
            default_region: None,
            replace_all: true,
        };
        let source = Source {
            file: "file",
            format,
            reader: &mut &*file,
            total_bytes: None,
        };
        STORE.with(|(_, store)| {
            check(import_reader(store, &clock(), source, &options, &mut |_| ()).map(|_| ()));
        });
        return;
    }
    let format = if format % 2 == 0 {
        RecordFileFormat::Csv
    } else {
        RecordFileFormat::Ndjson
    };
    let kinds = kinds();
    let kind = kinds
        .get(usize::from(*kind) - 1)
        .copied()
        .unwrap_or(RecordKind::Unspecified);
    let now = NOW.parse().expect("a time");
    check(fuzzing::records(now, kind, format, file).map(|_| ()));
});
