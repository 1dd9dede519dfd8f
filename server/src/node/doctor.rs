//! `overlapd doctor`: what is wrong with a node's directory and its surroundings, and what to do.

use std::{fmt, net::TcpListener, path::Path};

use jiff::{SignedDuration, Timestamp};
use overlap_crypto::backend::Backend;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::Serialize;

use super::{RUN_DIRECTORY, init::ADMIN_TOKEN};
use crate::{
    clock::Clock,
    config::Config,
    error::Error,
    identity::{Identity, Vault, validity},
    serve::Addresses,
    storage,
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Good,
    /// It works, and should be better.
    Warning,
    /// It does not work, or is not safe.
    Bad,
}

impl fmt::Display for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub check: &'static str,
    /// How it is.
    pub health: Health,
    /// What was found, and what to do about it.
    pub detail: String,
}

/// A certificate is due for replacement when it ends within this time.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Less free space than this is worth a word: a run of a million customers a side writes some hundred megabytes.
const LITTLE_ROOM: u64 = 1 << 30;
/// No node was made before this; a clock that shows an earlier time is wrong.
const EARLIEST: &str = "2025-01-01T00:00:00Z";

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &'static str, health: Health, detail: impl Into<String>) {
        self.0.push(Finding {
            check,
            health,
            detail: detail.into(),
        });
    }

    fn of<T>(
        &mut self,
        check: &'static str,
        result: Result<T, Error>,
        good: impl FnOnce(T) -> String,
    ) {
        match result {
            Ok(value) => self.add(check, Health::Good, good(value)),
            Err(error) => self.add(check, Health::Bad, error.message()),
        }
    }
}

/// Looks at everything; nothing is changed.
#[must_use]
pub fn examine(directory: &Path, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = Findings::default();
    private(&mut findings, "directory", directory, 0o700);
    room(&mut findings, directory);
    let config = Config::read(directory);
    findings.of("configuration", config.clone().map(|_| ()), |()| {
        "parses".to_owned()
    });
    let now = clock.now();
    if let Ok(config) = &config {
        secrets(&mut findings, directory, config, now);
        if let Some(file) = &config.api.tls_certificate_file {
            let advice = "renew it and restart the node";
            let found = api_certificate(file);
            certificate(&mut findings, "api certificate", found, now, advice);
        }
    }
    findings.of("store", storage::examine(directory), |detail| detail);
    if let Ok(config) = &config {
        ports(&mut findings, directory, config);
        endpoint(&mut findings, config);
    }
    let earliest: Timestamp = EARLIEST.parse().expect("a valid time");
    if now < earliest {
        findings.add("clock", Health::Bad, format!("shows {now}: set it"));
    } else {
        findings.add("clock", Health::Good, format!("shows {now}"));
    }
    engine(&mut findings, config.as_ref().ok());
    core_dumps(&mut findings);
    findings.0
}

fn secrets(findings: &mut Findings, directory: &Path, config: &Config, now: Timestamp) {
    for file in Identity::files(directory) {
        private(findings, "key files", &file, 0o600);
    }
    let token = directory.join(ADMIN_TOKEN);
    if token.exists() {
        private(findings, "key files", &token, 0o600);
    }
    let vault = match Vault::configured(config) {
        Ok(vault) if vault.is_sealing() => {
            findings.add("sealing", Health::Good, "secrets are sealed under a key");
            vault
        }
        Ok(vault) => {
            findings.add(
                "sealing",
                Health::Warning,
                "secrets are stored as they are: set key_file or OVERLAP_KEY_FILE before making a node, \
                 to seal them under a key that is kept elsewhere",
            );
            vault
        }
        Err(error) => {
            findings.add("sealing", Health::Bad, error.message());
            return;
        }
    };
    let identity = match Identity::load(directory, &vault) {
        Ok(identity) => identity,
        Err(error) => {
            findings.add("identity", Health::Bad, error.message());
            return;
        }
    };
    findings.add(
        "identity",
        Health::Good,
        format!("fingerprint {}", identity.fingerprint()),
    );
    let found = validity(identity.certificate());
    let advice = "make a new node and pair again";
    certificate(findings, "certificate", found, now, advice);
}

/// How long a certificate is valid, and what to do when it is not.
fn certificate(
    findings: &mut Findings,
    check: &'static str,
    found: Result<(Timestamp, Timestamp), String>,
    now: Timestamp,
    advice: &str,
) {
    let (health, detail) = match found {
        Err(problem) => (Health::Bad, problem),
        Ok((from, _)) if now < from => (
            Health::Bad,
            format!("is valid from {from}, and the clock shows {now}: set the clock"),
        ),
        Ok((_, until)) if now >= until => (Health::Bad, format!("expired {until}: {advice}")),
        Ok((_, until)) if now + EXPIRES_SOON >= until => (
            Health::Warning,
            format!("expires {until}: {advice} before that"),
        ),
        Ok((_, until)) => (Health::Good, format!("is valid until {until}")),
    };
    findings.add(check, health, detail);
}

/// The validity of the certificate that API clients see: the first of the file.
fn api_certificate(file: &Path) -> Result<(Timestamp, Timestamp), String> {
    let certificate = CertificateDer::from_pem_file(file)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    validity(&certificate).map_err(|problem| format!("{}: {problem}", file.display()))
}

/// Room for what the node writes: a run needs some hundred bytes a key, and the store room to work.
fn room(findings: &mut Findings, directory: &Path) {
    #[cfg(unix)]
    {
        let bytes = match rustix::fs::statvfs(directory) {
            Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
            Err(error) => {
                findings.add(
                    "disk",
                    Health::Bad,
                    format!("{}: {error}", directory.display()),
                );
                return;
            }
        };
        let detail = format!("{:.1} GiB free", bytes as f64 / (1_u64 << 30) as f64);
        if bytes < LITTLE_ROOM {
            let advice = "make room: writes that do not fit fail with DISK_FULL";
            findings.add("disk", Health::Warning, format!("{detail}: {advice}"));
        } else {
            findings.add("disk", Health::Good, detail);
        }
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        findings.add("disk", Health::Warning, "cannot be checked on this system");
    }
}

/// Whether only its owner can read something.
fn private(findings: &mut Findings, check: &'static str, path: &Path, mode: u32) {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            findings.add(check, Health::Bad, format!("{}: {error}", path.display()));
            return;
        }
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let found = metadata.permissions().mode() & 0o777;
        if found & !mode & 0o777 != 0 {
            findings.add(
                check,
                Health::Bad,
                format!(
                    "{}: others may read it (mode {found:o}): chmod {mode:o} it",
                    path.display()
                ),
            );
            return;
        }
    }
    let _ = (metadata, mode);
    findings.add(check, Health::Good, format!("{}: private", path.display()));
}

fn ports(findings: &mut Findings, directory: &Path, config: &Config) {
    if let Ok(addresses) = Addresses::read(directory) {
        // A node that serves holds them itself.
        if std::net::TcpStream::connect_timeout(&addresses.api, std::time::Duration::from_secs(1))
            .is_ok()
        {
            findings.add(
                "ports",
                Health::Good,
                format!(
                    "the node is running: api {}, exchange {}",
                    addresses.api, addresses.exchange
                ),
            );
            return;
        }
        findings.add(
            "ports",
            Health::Warning,
            format!(
                "{}/{RUN_DIRECTORY} names a node that does not answer: it did not stop cleanly",
                directory.display()
            ),
        );
    }
    let listeners = [
        ("exchange.listen", Some(config.exchange.listen)),
        ("api.listen", Some(config.api.listen)),
        ("metrics.listen", config.metrics.listen),
    ];
    for (key, address) in listeners {
        let Some(address) = address else { continue };
        match TcpListener::bind(address) {
            Ok(_) => findings.add("ports", Health::Good, format!("{key} {address} is free")),
            Err(error) => {
                findings.add("ports", Health::Bad, format!("{key} {address}: {error}"));
            }
        }
    }
}

fn endpoint(findings: &mut Findings, config: &Config) {
    if config.exchange.endpoint.is_none() && !config.exchange.listen.ip().is_loopback() {
        findings.add(
            "endpoint",
            Health::Warning,
            "exchange.endpoint is not set: partners cannot call this node, nor can it invite them",
        );
    }
}

fn engine(findings: &mut Findings, config: Option<&Config>) {
    let names: Vec<_> = Backend::available()
        .iter()
        .map(|engine| engine.name())
        .collect();
    let engine = config.map_or_else(|| Ok(Backend::detect()), Config::engine);
    match engine {
        Ok(engine) => findings.add(
            "engine",
            Health::Good,
            format!("{} (this machine has {})", engine.name(), names.join(", ")),
        ),
        Err(problem) => findings.add("engine", Health::Bad, problem),
    }
}

fn core_dumps(findings: &mut Findings) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        let limit = getrlimit(Resource::Core).current;
        let detail = match limit {
            Some(0) => "off",
            _ => "the shell allows them; overlapd turns them off for itself when it starts",
        };
        findings.add("core dumps", Health::Good, detail);
    }
    #[cfg(not(unix))]
    findings.add(
        "core dumps",
        Health::Warning,
        "cannot be checked on this system",
    );
}
