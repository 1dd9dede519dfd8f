//! Imports of files: what is refused is the caller's fault, for a reason that fits a screen.

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

use crate::node::{NOW, clock};

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

/// Imports customers into this thread's store.
pub fn customers(format: Format, file: &[u8]) {
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
}

/// Reads records.
pub fn records(kind: RecordKind, format: RecordFileFormat, file: &[u8]) {
    let now = NOW.parse().expect("a time");
    check(fuzzing::records(now, kind, format, file).map(|_| ()));
}
