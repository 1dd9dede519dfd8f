//! The secrets of an epoch, in files beside the budget ledger and outside the database and its backups.
//!
//! An epoch has one VOPRF key (a partner's queries are evaluated with it) and one handle key (it names my customers to that
//! partner). Both are destroyed with the epoch. Nothing is derived across partners.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    delta::kept::destroy_keys,
    spool::{disk, new_directory, new_file, sync_directory},
};
use crate::{
    error::{Error, Reason},
    identity::Vault,
    overlap::graph::{HANDLE_BYTES, Handle},
};

/// An epoch ends after this long.
pub const MAX_EPOCH_AGE_S: i64 = 30 * 24 * 3600;

const MAGIC: &[u8; 8] = b"OVLKEY2\n";
const FILE_NAME: &str = "epoch.key";
const HEADER_BYTES: usize = 8 + 8 + 8 + 32;
const CHECK_BYTES: usize = 32;
/// Stands for the start of an epoch whose keys were destroyed.
const DESTROYED: i64 = i64::MIN;

/// The secrets of one partner's epoch.
pub struct EpochKeys {
    /// Grows by one with each epoch.
    pub epoch: u64,
    /// When it began, Unix time.
    pub started_at: i64,
    /// The terms it began with; other terms end it.
    pub terms: [u8; 32],
    /// The VOPRF key.
    pub secret: Zeroizing<[u8; 32]>,
    handle_key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for EpochKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "EpochKeys(epoch {})", self.epoch)
    }
}

/// Names local customers to one partner during one epoch: SHA-256 after a block that the key fills up.
pub struct HandleKey(Sha256);

impl HandleKey {
    /// The handle of the local customer that row `id` names.
    #[must_use]
    pub fn handle(&self, id: &str) -> Handle {
        let hash = self.0.clone().chain_update(id).finalize();
        hash[..HANDLE_BYTES]
            .try_into()
            .expect("a SHA-256 hash is longer")
    }
}

impl EpochKeys {
    /// What names my customers to the partner.
    #[must_use]
    pub fn handle_key(&self) -> HandleKey {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(self.handle_key.as_ref());
        HandleKey(Sha256::new_with_prefix(block.as_ref()))
    }

    fn header(&self) -> Header {
        Header {
            epoch: self.epoch,
            started_at: self.started_at,
            terms: self.terms,
        }
    }

    fn seal(&self, vault: &Vault) -> Result<Vec<u8>, Error> {
        let secrets = Zeroizing::new([self.secret.as_ref(), self.handle_key.as_ref()].concat());
        vault.seal(&purpose(self.epoch), &secrets)
    }

    fn unseal(header: &Header, sealed: &[u8], vault: &Vault) -> Result<Self, Error> {
        let secrets = vault.unseal(&purpose(header.epoch), sealed)?;
        let (secret, handle_key) = secrets
            .split_first_chunk::<32>()
            .and_then(|(secret, rest)| Some((secret, <&[u8; 32]>::try_from(rest).ok()?)))
            .ok_or_else(|| Error::new(Reason::KeyUnusable, "secrets of the wrong length"))?;
        Ok(Self {
            epoch: header.epoch,
            started_at: header.started_at,
            terms: header.terms,
            secret: Zeroizing::new(*secret),
            handle_key: Zeroizing::new(*handle_key),
        })
    }
}

/// What the secrets are sealed for.
fn purpose(epoch: u64) -> String {
    format!("matching/epoch/{epoch}")
}

/// What is no secret in the file of an epoch.
struct Header {
    epoch: u64,
    started_at: i64,
    terms: [u8; 32],
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + CHECK_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.started_at.to_be_bytes());
        bytes.extend_from_slice(&self.terms);
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(check.as_ref());
        bytes
    }

    /// The header, and the sealed secrets after it.
    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
        let (check, sealed) = rest.split_at_checked(CHECK_BYTES)?;
        if check != Sha256::digest(header).as_slice() || !header.starts_with(MAGIC) {
            return None;
        }
        let header = Self {
            epoch: u64::from_be_bytes(header[8..16].try_into().expect("eight bytes")),
            started_at: i64::from_be_bytes(header[16..24].try_into().expect("eight bytes")),
            terms: header[24..56].try_into().expect("32 bytes"),
        };
        Some((header, sealed))
    }
}

/// The directory that holds the epoch secrets and the ledger of one partnership.
#[must_use]
pub fn directory(node_directory: &Path, partnership_id: &str) -> PathBuf {
    node_directory.join("epochs").join(partnership_id)
}

/// The current epoch's keys, if there are any.
///
/// # Errors
/// `STORAGE_FAILED` if the file is damaged, `KEY_UNUSABLE` if it is sealed under another key, or what the file system reports.
pub fn load(directory: &Path, vault: &Vault) -> Result<Option<EpochKeys>, Error> {
    match read(directory)? {
        Some((header, sealed)) if header.started_at != DESTROYED => {
            open(directory, &header, &sealed, vault).map(Some)
        }
        _ => Ok(None),
    }
}

fn open(
    directory: &Path,
    header: &Header,
    sealed: &[u8],
    vault: &Vault,
) -> Result<EpochKeys, Error> {
    EpochKeys::unseal(header, sealed, vault).map_err(|error| {
        Error::new(
            error.reason(),
            format!("{}: {error}", directory.join(FILE_NAME).display()),
        )
    })
}

/// A key file: its header, and the keys as they were sealed or in the clear.
type KeyFile = (Header, Zeroizing<Vec<u8>>);

/// The current epoch's file, or what is left of a destroyed one: the number of the epoch.
fn read(directory: &Path) -> Result<Option<KeyFile>, Error> {
    let path = directory.join(FILE_NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(&path, &error)),
    };
    let (header, sealed) = Header::decode(&bytes).ok_or_else(|| {
        Error::new(
            Reason::StorageFailed,
            format!(
                "{}: the epoch's key file is damaged: remove it, and the next run starts a new epoch",
                path.display()
            ),
        )
    })?;
    Ok(Some((header, Zeroizing::new(sealed.to_vec()))))
}

/// The keys to run with: the current epoch's if it is young enough and has the same terms, else those of a new epoch, which
/// destroys the old ones. `least_epoch` is the number a new epoch has at least. So is the time in seconds: partners refuse an epoch
/// below the highest they have seen, which this node does not know any more if the directory was lost.
///
/// `new_secret` makes a VOPRF key.
///
/// # Errors
/// As [`load`]; `INTERNAL` without randomness.
pub fn current_or_new(
    directory: &Path,
    vault: &Vault,
    terms: &[u8; 32],
    now: Timestamp,
    least_epoch: u64,
    new_secret: impl FnOnce() -> Result<Zeroizing<[u8; 32]>, Error>,
) -> Result<EpochKeys, Error> {
    let existing = read(directory)?;
    if let Some((header, sealed)) = &existing
        && header.terms == *terms
        && header.epoch >= least_epoch
        && now
            .as_second()
            .checked_sub(header.started_at)
            .is_some_and(|age_s| (0..MAX_EPOCH_AGE_S).contains(&age_s))
    {
        return open(directory, header, sealed, vault);
    }
    let mut handle_key = Zeroizing::new([0; 32]);
    random(handle_key.as_mut())?;
    let keys = EpochKeys {
        epoch: existing
            .map_or(1, |(header, _)| header.epoch.saturating_add(1))
            .max(least_epoch)
            .max(u64::try_from(now.as_second()).unwrap_or(0)),
        started_at: now.as_second(),
        terms: *terms,
        secret: new_secret()?,
        handle_key,
    };
    store(directory, &keys.header(), &keys.seal(vault)?)?;
    Ok(keys)
}

fn store(directory: &Path, header: &Header, sealed: &[u8]) -> Result<(), Error> {
    new_directory(directory)?;
    let path = directory.join(FILE_NAME);
    let temporary = directory.join("epoch.key.new");
    let _ = fs::remove_file(&temporary);
    let mut file = new_file(&temporary)?;
    file.write_all(&header.encode())
        .and_then(|()| file.write_all(sealed))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|error| disk(&path, &error))?;
    sync_directory(directory)
}

/// Destroys the keys of the current epoch, and those of the state that its runs keep. Its number is kept, and so is the ledger: the next epoch has a higher one.
///
/// # Errors
/// As [`load`].
pub fn destroy(directory: &Path) -> Result<(), Error> {
    destroy_keys(directory, None)?;
    match read(directory)? {
        Some((header, _)) if header.started_at != DESTROYED => store(
            directory,
            &Header {
                epoch: header.epoch,
                started_at: DESTROYED,
                terms: [0; 32],
            },
            &[],
        ),
        _ => Ok(()),
    }
}

/// Whether there are keys of an epoch that were not destroyed, or a file that may hold some.
#[must_use]
pub fn exist(directory: &Path) -> bool {
    match read(directory) {
        Ok(found) => found.is_some_and(|(header, _)| header.started_at != DESTROYED),
        Err(_) => true,
    }
}

/// Fills `bytes` with the operating system's randomness.
///
/// # Errors
/// `INTERNAL` if there is none.
pub fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes)
        .map_err(|error| Error::internal(format!("the system gives no randomness: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn vault() -> Vault {
        Vault::sealing([9; 32])
    }

    fn secret(byte: u8) -> impl FnOnce() -> Result<Zeroizing<[u8; 32]>, Error> {
        move || Ok(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn an_epoch_ends_with_its_terms_or_after_thirty_days() {
        let base = tempfile::tempdir().unwrap();
        let directory = directory(base.path(), "p1");
        let first =
            current_or_new(&directory, &vault(), &[1; 32], at(1_000), 0, secret(1)).unwrap();
        assert_eq!((first.epoch, first.secret[0]), (1_000, 1));
        let again =
            current_or_new(&directory, &vault(), &[1; 32], at(2_000), 0, secret(2)).unwrap();
        assert_eq!((again.epoch, again.secret[0]), (1_000, 1));
        assert_eq!(
            again.handle_key().handle("a"),
            first.handle_key().handle("a")
        );
        let tightened =
            current_or_new(&directory, &vault(), &[2; 32], at(2_000), 0, secret(3)).unwrap();
        assert_eq!((tightened.epoch, tightened.secret[0]), (2_000, 3));
        assert_ne!(
            tightened.handle_key().handle("a"),
            first.handle_key().handle("a")
        );
        let aged = at(2_000 + MAX_EPOCH_AGE_S);
        let least = 1 << 40;
        let later = current_or_new(&directory, &vault(), &[2; 32], aged, least, secret(4)).unwrap();
        assert_eq!((later.epoch, later.secret[0]), (least, 4));
        destroy(&directory).unwrap();
        assert!(load(&directory, &vault()).unwrap().is_none());
        let next = current_or_new(&directory, &vault(), &[2; 32], aged, 0, secret(5)).unwrap();
        assert_eq!((next.epoch, next.secret[0]), (least + 1, 5));
    }

    #[test]
    fn the_secrets_of_an_epoch_are_sealed() {
        let base = tempfile::tempdir().unwrap();
        let made =
            current_or_new(base.path(), &vault(), &[1; 32], at(1_000), 0, secret(7)).unwrap();
        let bytes = fs::read(base.path().join(FILE_NAME)).unwrap();
        for key in [&made.secret, &made.handle_key] {
            assert!(!bytes.windows(32).any(|window| window == key.as_ref()));
        }
        for wrong in [Vault::sealing([8; 32]), Vault::plain()] {
            let error = load(base.path(), &wrong).unwrap_err();
            assert_eq!(error.reason(), Reason::KeyUnusable);
        }
        // Destroying takes no key.
        destroy(base.path()).unwrap();
        assert!(load(base.path(), &Vault::plain()).unwrap().is_none());
    }

    #[test]
    fn a_damaged_key_file_is_an_error() {
        let base = tempfile::tempdir().unwrap();
        current_or_new(base.path(), &vault(), &[1; 32], at(1_000), 0, secret(1)).unwrap();
        let path = base.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes[30] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(
            load(base.path(), &vault()).unwrap_err().reason(),
            Reason::StorageFailed
        );
    }
}
