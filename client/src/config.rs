//! Where a node is and how to be let in.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::Error;

/// A bearer token: never printed, wiped from memory when dropped.
#[derive(Clone)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// A token; surrounding white space is removed.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Zeroizing::new(secret.trim().to_owned()))
    }

    /// Reads a token from a file.
    ///
    /// # Errors
    /// If the file cannot be read or is empty.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = Zeroizing::new(read(path)?);
        if text.trim().is_empty() {
            return Err(Error::config(format!("{}: holds no token", path.display())));
        }
        Ok(Self::new(&text))
    }

    pub(crate) fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("BearerToken([redacted])")
    }
}

/// How to reach a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// `https://HOST:PORT`, or `http://HOST:PORT` on loopback.
    pub endpoint: String,
    /// Sent with every call.
    pub token: Option<BearerToken>,
    /// PEM file with the authorities that may vouch for the node; the system's if unset.
    pub tls_ca_file: Option<PathBuf>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// Deadline of a call that returns one answer.
    pub call_timeout: Duration,
    /// Deadline of a call that carries many customers one way.
    pub transfer_timeout: Duration,
    /// Deadline of watching one run.
    pub watch_timeout: Duration,
    /// Send the token in the clear to a host other than this one. Anyone on the way can read it.
    pub danger_plaintext: bool,
}

impl ClientConfig {
    /// A node at an endpoint, e.g. `https://overlap.example.com:8443`.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            token: None,
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            transfer_timeout: Duration::from_secs(60 * 60),
            watch_timeout: Duration::from_secs(24 * 60 * 60),
            danger_plaintext: false,
        }
    }

    /// The node that serves from `dir` on this machine: its address is in `run/addresses.json`, its administrator's
    /// token in `admin.token`.
    ///
    /// # Errors
    /// If either file cannot be read or makes no sense.
    pub fn from_node_dir(dir: impl AsRef<Path>) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Addresses {
            api: SocketAddr,
            #[serde(default)]
            tls: bool,
        }
        let dir = dir.as_ref();
        let path = dir.join("run").join("addresses.json");
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound if dir.is_dir() => Error::config(format!(
                "{}: no such file: no node is running from this directory (overlapd serve --dir {})",
                path.display(),
                dir.display()
            )),
            _ => Error::file(&path, source),
        })?;
        let addresses: Addresses = serde_json::from_str(&text)
            .map_err(|error| Error::config(format!("{}: {error}", path.display())))?;
        let mut config = Self::new(local_endpoint(addresses.api, addresses.tls));
        config.token = Some(BearerToken::from_file(dir.join("admin.token"))?);
        Ok(config)
    }

    /// Sets the bearer token.
    #[must_use]
    pub fn with_token(mut self, token: BearerToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Trusts the authorities in a PEM file instead of the system's.
    #[must_use]
    pub fn with_tls_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_ca_file = Some(path.into());
        self
    }

    /// The endpoint, checked: a token only travels inside TLS or within this machine.
    pub(crate) fn checked_uri(&self) -> Result<Uri, Error> {
        let invalid = |problem: &str| {
            Error::config(format!(
                "node address \"{}\" {problem}; it looks like https://HOST:PORT",
                self.endpoint
            ))
        };
        let uri: Uri = self
            .endpoint
            .parse()
            .map_err(|_| invalid("is not an address"))?;
        let host = uri.host().ok_or_else(|| invalid("names no host"))?;
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if self.tls_ca_file.is_some() => {
                Err(invalid("has no TLS for the given CA file to check"))
            }
            Some("http") if self.danger_plaintext || is_loopback(host) => Ok(uri),
            Some("http") => Err(invalid(
                "would carry the token in the clear beyond this machine",
            )),
            _ => Err(invalid("lacks a scheme")),
        }
    }
}

/// The endpoint at which this machine reaches a local listener; certificates name hosts rather than addresses.
fn local_endpoint(mut api: SocketAddr, tls: bool) -> String {
    let local = api.ip().is_loopback() || api.ip().is_unspecified();
    match (tls, local) {
        (true, true) => format!("https://localhost:{}", api.port()),
        (true, false) => format!("https://{api}"),
        (false, _) => {
            if api.ip().is_unspecified() {
                api.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            format!("http://{api}")
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::file(path, source))
}

#[cfg(test)]
mod tests {
    use super::{BearerToken, ClientConfig, local_endpoint};

    #[test]
    fn a_token_is_never_printed() {
        let config = ClientConfig::new("http://127.0.0.1:1").with_token(BearerToken::new("hush\n"));
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn plaintext_stays_on_this_machine() {
        for endpoint in [
            "http://127.0.0.1:7",
            "http://[::1]:7",
            "http://localhost:7",
            "https://node.example",
        ] {
            assert!(
                ClientConfig::new(endpoint).checked_uri().is_ok(),
                "{endpoint}"
            );
        }
        for endpoint in [
            "http://10.0.0.1:7",
            "http://node.example",
            "node.example:7",
            "ftp://127.0.0.1",
            "http://localhost.example:7",
            "",
        ] {
            assert!(
                ClientConfig::new(endpoint).checked_uri().is_err(),
                "{endpoint}"
            );
        }
        let mut config = ClientConfig::new("http://10.0.0.1:7");
        config.danger_plaintext = true;
        assert!(config.checked_uri().is_ok());
    }

    #[test]
    fn a_local_listener_has_an_endpoint() {
        for (api, tls, endpoint) in [
            ("127.0.0.1:9", false, "http://127.0.0.1:9"),
            ("[::1]:9", false, "http://[::1]:9"),
            ("0.0.0.0:9", false, "http://127.0.0.1:9"),
            ("0.0.0.0:9", true, "https://localhost:9"),
            ("127.0.0.1:9", true, "https://localhost:9"),
            ("10.1.2.3:9", true, "https://10.1.2.3:9"),
        ] {
            assert_eq!(local_endpoint(api.parse().unwrap(), tls), endpoint);
        }
    }
}
