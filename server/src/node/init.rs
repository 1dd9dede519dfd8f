//! Making a node's directory.

use std::{net::SocketAddr, path::Path};

use crate::{
    audit, auth,
    clock::Clock,
    config::{self, Config},
    error::Error,
    identity::{Identity, Vault, create_private_directory, write_private},
    storage::Store,
};

/// The file with the first administrator's token, inside the node's directory.
pub const ADMIN_TOKEN: &str = "admin.token";

/// What `overlapd init` is told.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// This organisation's name, as partners see it.
    pub organization: String,
    /// Address of the listener that partners' nodes call.
    pub exchange_listen: Option<SocketAddr>,
    /// host:port at which partners reach it.
    pub exchange_endpoint: Option<String>,
    /// Address of the API listener.
    pub api_listen: Option<SocketAddr>,
    /// The file with the key under which secrets are sealed.
    pub key_file: Option<std::path::PathBuf>,
}

/// Makes a node's directory: configuration, keys, certificate, store, and a token for its first administrator. Nothing is ever
/// overwritten.
///
/// # Errors
/// `ALREADY_EXISTS` if there is something in the directory; `CONFIG_INVALID`; `STORAGE_FAILED`.
pub fn init(directory: &Path, options: InitOptions, clock: &dyn Clock) -> Result<Identity, Error> {
    let mut config = Config::new(options.organization);
    if let Some(listen) = options.exchange_listen {
        config.exchange.listen = listen;
    }
    config.exchange.endpoint = options.exchange_endpoint;
    if let Some(listen) = options.api_listen {
        config.api.listen = listen;
    }
    // The node may be served from elsewhere.
    config.key_file = options
        .key_file
        .map(|path| std::path::absolute(&path).unwrap_or(path));
    // Nothing is made of a configuration that cannot be served.
    let text = config.to_toml()?;
    let config = Config::parse(&text, "init")?;
    let vault = Vault::configured(&config)?;
    create_private_directory(directory)?;
    write_private(
        &directory.join(config::FILE_NAME),
        format!("# overlapd's configuration; deploy/overlapd.toml explains every key.\n\n{text}")
            .as_bytes(),
    )?;
    let now = clock.now();
    let identity = Identity::create(directory, &vault, now)?;
    // The store's file is private before it holds anything.
    write_private(&directory.join(crate::storage::FILE_NAME), b"")?;
    let store = Store::open(directory)?;
    let secret = store.write_blocking(|tx| {
        audit::record(
            tx,
            now,
            audit::SYSTEM,
            "node.initialised",
            None,
            &[("certificate", &hex::encode(identity.certificate_sha256()))],
        )?;
        let (_, secret) = auth::create(
            tx,
            now,
            audit::SYSTEM,
            "admin",
            auth::Role::Admin,
            None,
            None,
        )?;
        Ok(secret)
    })?;
    write_private(
        &directory.join(ADMIN_TOKEN),
        format!("{secret}\n").as_bytes(),
    )?;
    Ok(identity)
}
