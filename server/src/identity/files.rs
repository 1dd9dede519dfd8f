//! Files that only their owner reads.

use std::{fs, io::Write as _, path::Path};

use crate::error::{Error, Reason};

/// Makes a directory that only its owner enters; one that exists must be empty.
///
/// # Errors
/// `ALREADY_EXISTS` if there is something in it; `STORAGE_FAILED` if it cannot be made.
pub fn create_private_directory(path: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| {
        Error::new(
            Reason::StorageFailed,
            format!("{}: {error}", path.display()),
        )
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(failed)?;
    if fs::read_dir(path).map_err(failed)?.next().is_some() {
        return Err(Error::new(
            Reason::AlreadyExists,
            format!(
                "{}: the directory is not empty, and nothing is overwritten",
                path.display()
            ),
        ));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Writes a new file that only its owner reads, durably. Never overwrites.
///
/// # Errors
/// `ALREADY_EXISTS`; `STORAGE_FAILED` if it cannot be written.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let failed = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Reason::AlreadyExists,
            std::io::ErrorKind::StorageFull => Reason::DiskFull,
            _ => Reason::StorageFailed,
        };
        Error::new(reason, format!("{}: {error}", path.display()))
    };
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(contents).map_err(failed)?;
    file.sync_all().map_err(failed)
}
