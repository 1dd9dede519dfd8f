//! Gives files of the last run to the next one.

use std::{fs::File, path::Path};

use rustix::io::Errno;

use super::{disk, new_file};
use crate::error::Error;

/// Gives a file of the last run to this one as well: under a second name, or where the file system has none of these, as a copy.
pub(crate) fn link(from: &Path, to: &Path, name: &str) -> Result<(), Error> {
    link_by(&|from, to| std::fs::hard_link(from, to), from, to, name)
}

/// [`link`] with what makes the second name.
fn link_by(
    hard_link: &dyn Fn(&Path, &Path) -> std::io::Result<()>,
    from: &Path,
    to: &Path,
    name: &str,
) -> Result<(), Error> {
    let (from, to) = (from.join(name), to.join(name));
    match hard_link(&from, &to) {
        Err(error) if is_without_links(&error) => copy(&from, &to),
        outcome => outcome.map_err(|error| disk(&to, &error)),
    }
}

/// Whether a file system says that it has no second names, or no more of this file, or that the other place is none of its own.
fn is_without_links(error: &std::io::Error) -> bool {
    let codes = [
        Errno::PERM,
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::MLINK,
        Errno::XDEV,
    ];
    let code = error.raw_os_error();
    codes.iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// Copies a file and makes the copy durable, as a linked file is.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut file = File::open(from).map_err(|error| disk(from, &error))?;
    let mut copied = new_file(to)?;
    std::io::copy(&mut file, &mut copied)
        .and_then(|_| copied.sync_all())
        .map_err(|error| disk(to, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::error::Reason;

    #[test]
    fn a_file_that_cannot_have_a_second_name_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        for path in [&from, &to] {
            std::fs::create_dir(path).unwrap();
        }
        let bytes: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        std::fs::write(from.join("file"), &bytes).unwrap();
        let link_failing = |errno: Errno| {
            let fail = |_: &Path, _: &Path| Err(errno.into());
            link_by(&fail, &from, &to, "file")
        };
        let copied = to.join("file");
        for errno in [Errno::PERM, Errno::OPNOTSUPP, Errno::MLINK, Errno::XDEV] {
            link_failing(errno).unwrap();
            assert_eq!(std::fs::read(&copied).unwrap(), bytes, "{errno}");
            let mode = copied.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{errno}");
            // What is there is never written over.
            let failed = link_failing(errno).unwrap_err();
            assert_eq!(failed.reason(), Reason::StorageFailed, "{errno}");
            std::fs::remove_file(&copied).unwrap();
        }
        for (errno, reason) in [
            (Errno::NOENT, Reason::StorageFailed),
            (Errno::IO, Reason::StorageFailed),
            (Errno::NOSPC, Reason::DiskFull),
        ] {
            assert_eq!(link_failing(errno).unwrap_err().reason(), reason);
            assert!(!copied.exists(), "{errno}");
        }
    }
}
