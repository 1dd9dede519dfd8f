//! Logs. They never carry identifiers, group elements, tags, keys, or counts under a threshold.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{Log, LogFormat},
    error::{Error, Reason},
};

/// Writes the process's log to standard error. To be called once, by binaries.
///
/// # Errors
/// `CONFIG_INVALID` if the level is not one.
pub fn start(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        Error::new(
            Reason::ConfigInvalid,
            format!("log.level \"{}\": {error}", log.level),
        )
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
    started.map_err(|error| Error::internal(format!("logs: {error}")))
}
