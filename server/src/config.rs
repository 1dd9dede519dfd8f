//! The node's one configuration file. Unknown keys are refused; what is left out has the default given here.

mod span;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use overlap_crypto::backend::Backend;
use overlap_proto::policy_file::{one_line, position};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason};

pub use span::Span;

/// The file's name inside the node's directory.
pub const FILE_NAME: &str = "overlapd.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This organisation's name, as partners see it.
    pub organization: String,
    /// ISO 3166-1 alpha-2 region of phone numbers without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_region: Option<String>,
    /// The engine for curve arithmetic: `auto`, or one that `overlapd doctor` lists.
    #[serde(default = "auto")]
    pub backend: String,
    /// A file with the 32-byte key (raw, or 64 hexadecimal digits) under which secrets are sealed at rest. Keep it on another
    /// volume than the node's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The listener that partners' nodes call.
    #[serde(default)]
    pub exchange: Exchange,
    /// The listener that this organisation's own tools and platform call.
    #[serde(default)]
    pub api: Api,
    /// The listener that monitoring reads.
    #[serde(default)]
    pub metrics: Metrics,
    /// Everything has a limit.
    #[serde(default)]
    pub limits: Limits,
    /// Runs: what a partner may do from one to the next, and what is kept of them.
    #[serde(default)]
    pub matching: Matching,
    /// What is logged, and how.
    #[serde(default)]
    pub log: Log,
}

/// The listener that partners' nodes call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exchange {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// host:port at which partners reach it. If left out: the listening address where that is a loopback address (for trying
    /// things out), else partners cannot call this node and it collects what waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 7650)),
            endpoint: None,
        }
    }
}

/// The listener that this organisation's own tools and platform call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// PEM certificate chain; without it the listener is plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_certificate_file: Option<PathBuf>,
    /// PEM private key of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    /// Allows a plaintext listener on an address that is not loopback: bearer tokens and customers then cross the network in
    /// the clear.
    pub danger_plaintext_api: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7651)),
            tls_certificate_file: None,
            tls_key_file: None,
            danger_plaintext_api: false,
        }
    }
}

/// The listener that monitoring reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address to listen on, plain HTTP and without tokens: keep it to a network of your own. Left out: no listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// Everything has a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Keys a side may bring to a run.
    pub max_set_size: u64,
    /// Bytes of one run frame's payload.
    pub max_frame_bytes: usize,
    /// Bytes of one API request: 512 KiB to 256 MiB.
    pub max_request_bytes: usize,
    /// Connections and run streams that one partner is allowed, beside those that every partner is. It has one run at a time,
    /// whatever this says.
    pub max_runs_per_partner: usize,
    /// Connections to the exchange listener.
    pub max_exchange_connections: usize,
    /// Connections to the API listener.
    pub max_api_connections: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Span,
    /// Time to connect to a partner's node.
    pub connect_timeout: Span,
    /// Time for one call that is not a run.
    pub call_timeout: Span,
    /// Time without a frame after which a run's connection counts as broken.
    pub idle_timeout: Span,
    /// How long a run looks for another connection after one broke, or waits for the partner to.
    pub resume_timeout: Span,
    /// Most connections of a run after its first.
    pub max_reconnections: u32,
    /// Longest time for one attempt at a run.
    pub run_timeout: Span,
    /// Time for calls under way to end when the node stops.
    pub drain_timeout: Span,
    /// Longest wait between two attempts to deliver a notice.
    pub notice_retry: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_set_size: 1 << 24,
            max_frame_bytes: 1 << 20,
            max_request_bytes: 4 << 20,
            max_runs_per_partner: 1,
            max_exchange_connections: 256,
            max_api_connections: 1024,
            handshake_timeout: Span::seconds(10),
            connect_timeout: Span::seconds(10),
            call_timeout: Span::seconds(30),
            idle_timeout: Span::seconds(120),
            resume_timeout: Span::seconds(120),
            max_reconnections: 16,
            run_timeout: Span::seconds(24 * 3600),
            drain_timeout: Span::seconds(10),
            notice_retry: Span::seconds(60),
        }
    }
}

/// Runs: what a partner may do from one to the next, and what is kept of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Matching {
    /// By how many percent a partner's set may grow from one run to the next; always by 10,000 keys.
    pub max_growth_percent: u32,
    /// Records the frames of every run, for an audit with `overlap receipts verify --frames`.
    pub record_frames: bool,
    /// Bytes of one recording.
    pub max_recording_bytes: u64,
    /// Recordings kept for each partner, the newest.
    pub keep_recordings: usize,
}

impl Default for Matching {
    fn default() -> Self {
        Self {
            max_growth_percent: 100,
            record_frames: false,
            max_recording_bytes: 1 << 30,
            keep_recordings: 10,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A level or a filter such as `info,overlap_server::exchange=debug`.
    pub level: String,
    /// One line of text, or one JSON object, an event.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// One line of text, or one JSON object, an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

impl Config {
    /// The defaults for an organisation.
    #[must_use]
    pub fn new(organization: impl Into<String>) -> Self {
        Self {
            organization: organization.into(),
            default_region: None,
            backend: auto(),
            key_file: None,
            exchange: Exchange::default(),
            api: Api::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
            matching: Matching::default(),
            log: Log::default(),
        }
    }

    /// Reads a node directory's file.
    ///
    /// # Errors
    /// `FILE_UNREADABLE`; `CONFIG_INVALID` with file, line and column.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|error| {
            let hint = if error.kind() == std::io::ErrorKind::NotFound {
                "; make a node with `overlapd init`"
            } else {
                ""
            };
            Error::new(
                Reason::FileUnreadable,
                format!("{}: {error}{hint}", path.display()),
            )
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a configuration; `file` is the name that errors give.
    ///
    /// # Errors
    /// `CONFIG_INVALID` with file, line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            Error::new(
                Reason::ConfigInvalid,
                format!("{file}:{line}:{column}: {}", one_line(error.message())),
            )
        })?;
        config
            .check()
            .map_err(|problem| Error::new(Reason::ConfigInvalid, format!("{file}: {problem}")))?;
        Ok(config)
    }

    /// What is wrong with values that parse one by one.
    fn check(&self) -> Result<(), String> {
        check_organization(&self.organization)
            .map_err(|problem| format!("organization {problem}"))?;
        if let Some(region) = &self.default_region
            && phonenumber::country::Id::from_str(region).is_err()
        {
            return Err(format!(
                "default_region \"{region}\" is not an ISO 3166-1 alpha-2 region such as \"US\""
            ));
        }
        self.engine()?;
        if let Some(endpoint) = &self.exchange.endpoint {
            check_endpoint(endpoint).map_err(|problem| format!("exchange.endpoint {problem}"))?;
        }
        if self.api.tls_certificate_file.is_some() != self.api.tls_key_file.is_some() {
            return Err(
                "api.tls_certificate_file and api.tls_key_file must be given together".to_owned(),
            );
        }
        if self.api.tls_certificate_file.is_none()
            && !self.api.listen.ip().is_loopback()
            && !self.api.danger_plaintext_api
        {
            return Err(format!(
                "api.listen {} is not a loopback address and has no TLS: set api.tls_certificate_file and api.tls_key_file, \
                 or api.danger_plaintext_api = true",
                self.api.listen
            ));
        }
        let limits = &self.limits;
        for (name, value, range) in [
            (
                "max_frame_bytes",
                limits.max_frame_bytes,
                64 << 10..=16 << 20,
            ),
            (
                "max_request_bytes",
                limits.max_request_bytes,
                // Clients send files and batches in messages of 256 KiB and a little.
                512 << 10..=256 << 20,
            ),
            ("max_runs_per_partner", limits.max_runs_per_partner, 1..=16),
            (
                "max_exchange_connections",
                limits.max_exchange_connections,
                1..=65_536,
            ),
            (
                "max_api_connections",
                limits.max_api_connections,
                1..=65_536,
            ),
        ] {
            if !range.contains(&value) {
                return Err(format!(
                    "limits.{name} must be between {} and {}",
                    range.start(),
                    range.end()
                ));
            }
        }
        if self.matching.keep_recordings == 0 {
            return Err("matching.keep_recordings must be at least 1".to_owned());
        }
        if limits.max_set_size == 0 {
            return Err("limits.max_set_size must be at least 1".to_owned());
        }
        Ok(())
    }

    /// The engine for curve arithmetic.
    ///
    /// # Errors
    /// The engines there are, if this machine has none of the configured name.
    pub fn engine(&self) -> Result<Backend, String> {
        if self.backend == "auto" {
            return Ok(Backend::detect());
        }
        let available = Backend::available();
        available
            .iter()
            .find(|engine| engine.name() == self.backend)
            .copied()
            .ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|engine| engine.name()).collect();
                format!(
                    "backend \"{}\" is not one this machine can run: auto, {}",
                    self.backend,
                    names.join(", ")
                )
            })
    }

    /// The file's text.
    ///
    /// # Errors
    /// `INTERNAL`: every configuration can be written.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|error| Error::internal(format!("configuration: {error}")))
    }
}

/// Refuses names that cannot be shown, typed or told apart.
pub(crate) fn check_organization(name: &str) -> Result<(), String> {
    if name.trim() != name || name.is_empty() {
        return Err("must not be empty, nor begin or end with a space".to_owned());
    }
    if name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(
            "must have at most 100 characters, none of them a control character".to_owned(),
        );
    }
    Ok(())
}

/// Refuses what is not host:port.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let problem = || format!("\"{endpoint}\" is not host:port");
    let authority = http::uri::Authority::from_str(endpoint).map_err(|_| problem())?;
    if endpoint.len() > 300
        || endpoint.contains('@')
        || authority.host().is_empty()
        || authority.port_u16().is_none_or(|port| port == 0)
    {
        return Err(problem());
    }
    Ok(())
}

fn auto() -> String {
    "auto".to_owned()
}

#[cfg(test)]
mod tests;
