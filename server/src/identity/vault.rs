//! Secrets at rest: sealed under a key that lives elsewhere, or plain where none is configured.

use std::{fmt, fs, path::Path};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Secret, random, unusable};
use crate::{
    config::Config,
    error::{Error, Reason},
};

/// Begins every sealed secret.
const MAGIC: &[u8] = b"OVS1";
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// The environment variable that names the key file.
const KEY_FILE_VARIABLE: &str = "OVERLAP_KEY_FILE";

/// Seals and opens secrets (ChaCha20-Poly1305, RFC 8439).
pub struct Vault(Option<LessSafeKey>);

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.is_sealing() {
            "Vault(sealing)"
        } else {
            "Vault(plain)"
        })
    }
}

impl Vault {
    /// The vault under the key file that the environment or the configuration names; a plain one if neither does.
    ///
    /// # Errors
    /// `KEY_UNUSABLE` if the file cannot be read or is not a key.
    pub fn configured(config: &Config) -> Result<Self, Error> {
        let path = std::env::var_os(KEY_FILE_VARIABLE)
            .map(Into::into)
            .or_else(|| config.key_file.clone());
        let Some(path) = path else {
            return Ok(Self::plain());
        };
        let contents =
            Zeroizing::new(fs::read(&path).map_err(|error| unusable(&path, &error.to_string()))?);
        let mut key = [0; 32];
        if contents.len() == 32 {
            key.copy_from_slice(&contents);
        } else if hex::decode_to_slice(contents.trim_ascii(), &mut key).is_err() {
            return Err(unusable(
                &path,
                "a sealing key is 32 bytes, raw or as 64 hexadecimal digits",
            ));
        }
        Ok(Self::sealing(key))
    }

    /// A vault that seals under a key.
    #[must_use]
    pub fn sealing(mut key: [u8; 32]) -> Self {
        let unbound =
            UnboundKey::new(&CHACHA20_POLY1305, &key).expect("the key has the right length");
        key.zeroize();
        Self(Some(LessSafeKey::new(unbound)))
    }

    /// A vault that leaves secrets as they are: file permissions alone protect them.
    #[must_use]
    pub const fn plain() -> Self {
        Self(None)
    }

    /// Whether secrets are sealed.
    #[must_use]
    pub const fn is_sealing(&self) -> bool {
        self.0.is_some()
    }

    /// Seals a secret. `purpose` says what it is; it opens for the same purpose only.
    ///
    /// # Errors
    /// `INTERNAL` if the operating system has no random bytes.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = MAGIC.to_vec();
        match &self.0 {
            None => {
                out.push(PLAIN);
                out.extend_from_slice(secret);
            }
            Some(key) => {
                let nonce = random::<NONCE_LEN>()?;
                let mut body = Vec::with_capacity(secret.len() + CHACHA20_POLY1305.tag_len());
                body.extend_from_slice(secret);
                key.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(purpose),
                    &mut body,
                )
                .map_err(|_| Error::internal("a secret could not be sealed"))?;
                out.push(SEALED);
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&body);
            }
        }
        Ok(out)
    }

    /// Opens a sealed file.
    ///
    /// # Errors
    /// `KEY_UNUSABLE` with the file's name.
    pub fn open(&self, purpose: &str, path: &Path) -> Result<Secret, Error> {
        let sealed =
            Zeroizing::new(fs::read(path).map_err(|error| unusable(path, &error.to_string()))?);
        self.unseal(purpose, &sealed)
            .map_err(|error| unusable(path, error.message()))
    }

    /// Opens what [`Vault::seal`] returned.
    ///
    /// # Errors
    /// `KEY_UNUSABLE` if it is damaged, or sealed under another key or for another purpose.
    pub fn unseal(&self, purpose: &str, sealed: &[u8]) -> Result<Secret, Error> {
        let refused = |problem: &str| Error::new(Reason::KeyUnusable, problem);
        let body = sealed
            .strip_prefix(MAGIC)
            .ok_or_else(|| refused("not a secret of this program"))?;
        match (body.split_first(), &self.0) {
            // What was written before a key was configured stays readable.
            (Some((&PLAIN, secret)), _) => Ok(Zeroizing::new(secret.to_vec())),
            (Some((&SEALED, _)), None) => Err(refused(
                "sealed, but no key is configured: set key_file or OVERLAP_KEY_FILE",
            )),
            (Some((&SEALED, body)), Some(key)) => {
                let (nonce, body) = body
                    .split_first_chunk::<NONCE_LEN>()
                    .ok_or_else(|| refused("truncated"))?;
                let mut body = Zeroizing::new(body.to_vec());
                let length = key
                    .open_in_place(
                        Nonce::assume_unique_for_key(*nonce),
                        Aad::from(purpose),
                        &mut body,
                    )
                    .map_err(|_| refused("damaged, or sealed under another key"))?
                    .len();
                body.truncate(length);
                Ok(body)
            }
            _ => Err(refused("not a secret of this version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_key_and_purpose_only() {
        let vault = Vault::sealing([1; 32]);
        let sealed = vault.seal("a", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(*vault.unseal("a", &sealed).unwrap(), b"secret");
        assert!(vault.unseal("b", &sealed).is_err());
        assert!(Vault::sealing([2; 32]).unseal("a", &sealed).is_err());
        assert!(Vault::plain().unseal("a", &sealed).is_err());
        for end in 0..sealed.len() {
            assert!(vault.unseal("a", &sealed[..end]).is_err());
        }
        let plain = Vault::plain().seal("a", b"secret").unwrap();
        assert_eq!(*vault.unseal("a", &plain).unwrap(), b"secret");
    }
}
