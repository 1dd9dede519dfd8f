//! The organisation key and the TLS certificate.
//!
//! The organisation key (Ed25519) is who this organisation is: it signs pairings and receipts. The TLS key only carries
//! connections. Both are made once, by `overlapd init`, and partners pin both.

mod files;
mod vault;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{self, Ed25519KeyPair, KeyPair as _},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::error::{Error, Reason};

pub use files::{create_private_directory, write_private};
pub use vault::Vault;

/// How long a node's own certificate is valid.
const CERTIFICATE_YEARS: i32 = 5;

const KEYS: &str = "keys";
const ORGANIZATION_KEY: &str = "organization.key";
const TLS_KEY: &str = "tls.key";
const TLS_CERTIFICATE: &str = "tls.crt";
const ORGANIZATION_KEY_PURPOSE: &str = "identity/organization-key";
const TLS_KEY_PURPOSE: &str = "identity/tls-key";

/// This organisation's keys and certificate.
pub struct Identity {
    organization_key: Ed25519KeyPair,
    certificate: CertificateDer<'static>,
    certificate_sha256: [u8; 32],
    tls_key: PrivatePkcs8KeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("fingerprint", &fingerprint(&self.certificate_sha256))
            .finish_non_exhaustive()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.tls_key.zeroize();
    }
}

impl Identity {
    /// Makes the keys and the certificate of a new node and writes them to its directory.
    ///
    /// # Errors
    /// `STORAGE_FAILED` if they cannot be written or exist.
    pub fn create(directory: &Path, vault: &Vault, now: Timestamp) -> Result<Self, Error> {
        let keys = directory.join(KEYS);
        create_private_directory(&keys)?;
        let random = SystemRandom::new();
        let organization_key = Ed25519KeyPair::generate_pkcs8(&random)
            .map_err(|_| Error::internal("an Ed25519 key could not be made"))?;
        let unusable = |error: rcgen::Error| Error::internal(format!("TLS certificate: {error}"));
        let tls_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(unusable)?;
        let mut parameters =
            rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()]).map_err(unusable)?;
        // The subject says nothing: partners pin the certificate's hash, and the name travels in the pairing.
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "overlap node");
        let utc = now.to_zoned(TimeZone::UTC);
        let day = |day: &jiff::Zoned| {
            rcgen::date_time_ymd(
                i32::from(day.year()),
                day.month().unsigned_abs(),
                day.day().unsigned_abs(),
            )
        };
        parameters.not_before = day(&utc.saturating_sub(1.day()));
        parameters.not_after = day(&utc.saturating_add(CERTIFICATE_YEARS.years()));
        let certificate = parameters.self_signed(&tls_key).map_err(unusable)?;
        write_private(
            &keys.join(ORGANIZATION_KEY),
            &vault.seal(ORGANIZATION_KEY_PURPOSE, organization_key.as_ref())?,
        )?;
        write_private(
            &keys.join(TLS_KEY),
            &vault.seal(TLS_KEY_PURPOSE, tls_key.serialized_der())?,
        )?;
        write_private(&keys.join(TLS_CERTIFICATE), certificate.pem().as_bytes())?;
        Self::load(directory, vault)
    }

    /// Reads a node's keys and certificate.
    ///
    /// # Errors
    /// `KEY_UNUSABLE` says which file and why.
    pub fn load(directory: &Path, vault: &Vault) -> Result<Self, Error> {
        let [key_file, tls_file, certificate_file] = Self::files(directory);
        let key = vault.open(ORGANIZATION_KEY_PURPOSE, &key_file)?;
        let organization_key = Ed25519KeyPair::from_pkcs8(&key)
            .map_err(|error| unusable(&key_file, &format!("not an Ed25519 key: {error}")))?;
        let tls_key = vault.open(TLS_KEY_PURPOSE, &tls_file)?;
        let pem = std::fs::read(&certificate_file)
            .map_err(|error| unusable(&certificate_file, &error.to_string()))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem)
            .map_err(|error| unusable(&certificate_file, &error.to_string()))?;
        let certificate = CertificateDer::from(pem.contents);
        validity(&certificate).map_err(|problem| unusable(&certificate_file, &problem))?;
        Ok(Self {
            organization_key,
            certificate_sha256: Sha256::digest(&certificate).into(),
            certificate,
            tls_key: PrivatePkcs8KeyDer::from(tls_key.to_vec()),
        })
    }

    /// The files that hold the organisation key, the TLS key and the certificate.
    #[must_use]
    pub fn files(directory: &Path) -> [PathBuf; 3] {
        let keys = directory.join(KEYS);
        [ORGANIZATION_KEY, TLS_KEY, TLS_CERTIFICATE].map(|name| keys.join(name))
    }

    /// The organisation's public Ed25519 key.
    #[must_use]
    pub fn organization_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.organization_key.public_key().as_ref());
        key
    }

    /// Signs with the organisation key (RFC 8032). `message` begins with a label that no other use has.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.organization_key.sign(message).as_ref());
        bytes
    }

    /// SHA-256 of the node's certificate, which partners pin.
    #[must_use]
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.certificate_sha256
    }

    /// The node's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate's private key, for the TLS library.
    pub(crate) fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.tls_key.clone_key())
    }

    /// The certificate's fingerprint for people.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate_sha256)
    }
}

/// The name in every node's certificate; identity comes from the pinned hash alone.
pub(crate) const SERVER_NAME: &str = "node.overlap.invalid";

/// Verifies a signature by an organisation key (RFC 8032).
#[must_use]
pub fn verify(organization_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    signature::UnparsedPublicKey::new(&signature::ED25519, organization_key)
        .verify(message, signature)
        .is_ok()
}

/// A hash in groups of four hexadecimal digits, for reading out.
#[must_use]
pub fn fingerprint(hash: &[u8; 32]) -> String {
    hash.chunks(2)
        .map(hex::encode_upper)
        .collect::<Vec<_>>()
        .join(" ")
}

/// From when and until when a certificate is valid.
///
/// # Errors
/// Why it cannot be parsed.
pub fn validity(certificate: &[u8]) -> Result<(Timestamp, Timestamp), String> {
    let (rest, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("not a certificate: {error}"))?;
    if !rest.is_empty() {
        return Err("not a certificate: trailing bytes".to_owned());
    }
    let instant = |seconds| {
        Timestamp::from_second(seconds).map_err(|error| format!("not a certificate: {error}"))
    };
    let validity = parsed.validity();
    Ok((
        instant(validity.not_before.timestamp())?,
        instant(validity.not_after.timestamp())?,
    ))
}

/// Fresh bytes from the operating system.
///
/// # Errors
/// `INTERNAL` if it has none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the operating system gives no random bytes"))?;
    Ok(bytes)
}

/// A new identifier: a prefix that says of what, and 96 random bits.
///
/// # Errors
/// `INTERNAL` if the operating system has no random bytes.
pub fn new_id(prefix: &str) -> Result<String, Error> {
    Ok(format!("{prefix}_{}", hex::encode(random::<12>()?)))
}

fn unusable(path: &Path, problem: &str) -> Error {
    Error::new(
        Reason::KeyUnusable,
        format!("{}: {problem}", path.display()),
    )
}

/// Bytes that are wiped when they go.
type Secret = Zeroizing<Vec<u8>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_and_stay_private() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let vault = Vault::sealing([7; 32]);
        let made = Identity::create(directory.path(), &vault, now).unwrap();
        let loaded = Identity::load(directory.path(), &vault).unwrap();
        assert_eq!(made.organization_key(), loaded.organization_key());
        assert_eq!(made.certificate_sha256(), loaded.certificate_sha256());
        let signature = loaded.sign(b"label: message");
        assert!(verify(
            &made.organization_key(),
            b"label: message",
            &signature
        ));
        assert!(!verify(
            &made.organization_key(),
            b"label: massage",
            &signature
        ));
        let (from, until) = validity(loaded.certificate()).unwrap();
        assert!(from < now && now < until);
        // Another key, or none, opens nothing; the keys are not there in the clear.
        for wrong in [Vault::sealing([8; 32]), Vault::plain()] {
            let error = Identity::load(directory.path(), &wrong).unwrap_err();
            assert_eq!(error.reason(), Reason::KeyUnusable);
        }
        assert!(!format!("{loaded:?}{vault:?}").contains("[7"));
        assert!(
            Identity::create(directory.path(), &vault, now).is_err(),
            "overwrites"
        );
        #[cfg(unix)]
        for file in Identity::files(directory.path()) {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn fingerprints_are_in_groups_of_four() {
        let text = fingerprint(&[0xab; 32]);
        assert_eq!(text.split(' ').count(), 16);
        assert!(text.starts_with("ABAB ABAB "));
    }
}
