//! Files of a run: an external sorter and append-only record files.
//!
//! Everything whose size follows the set size goes through here, so that memory stays bounded whatever the set size.
//! Files carry a checksum and their number of records; a file that was cut short or changed is an error, never a shorter
//! answer.

mod blocks;
mod link;
mod records;
mod sort;

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

pub(crate) use blocks::{BlockWriter, Checksum};
pub(crate) use link::link;
pub use records::{MAX_RECORD_BYTES, RecordFile, RecordReader, RecordWriter};
pub use sort::{Sorted, SortedStream, Sorter};

use crate::error::{Error, Reason};

/// An error of the file system, with the file it concerns.
pub(crate) fn disk(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::new(
            Reason::DiskFull,
            format!(
                "{}: no space left: free some space and run again; the last result is unchanged",
                path.display()
            ),
        ),
        _ => Error::new(
            Reason::StorageFailed,
            format!("{}: {error}", path.display()),
        ),
    }
}

fn damaged(path: &Path) -> Error {
    Error::new(
        Reason::StorageFailed,
        format!(
            "{}: the file is damaged: check the disk and run again",
            path.display()
        ),
    )
}

/// An error while reading a file: one that ends too early is damaged.
fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        damaged(path)
    } else {
        disk(path, error)
    }
}

/// A file that is removed when this is dropped.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // The run's directory goes as a whole if this fails.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Creates a file only its owner may read.
pub(crate) fn new_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path).map_err(|error| disk(path, &error))
}

/// Creates a directory only its owner may enter, with its parents.
pub(crate) fn new_directory(path: &Path) -> Result<(), Error> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| disk(path, &error))
}

/// Makes what was created, renamed or removed in a directory survive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| disk(path, &error))
}
