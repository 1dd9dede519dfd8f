//! Listeners, start-up and shutdown.

mod api;
mod hardening;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Server, server::Router};
use tower::layer::util::Identity;

use crate::{
    clock::Clock,
    collaboration,
    config::Config,
    error::{Error, Reason},
    exchange, matching, metrics,
    node::{Node, RUN_DIRECTORY, Registry},
    notices, partnership, program,
};

pub use api::api_routes;
pub use hardening::forbid_core_dumps;

/// The file that says where a running node listens, inside [`RUN_DIRECTORY`].
const ADDRESSES: &str = "addresses.json";
/// Requests under way on one connection.
const STREAMS_PER_CONNECTION: u32 = 64;

/// Connections of one partner besides those of its runs; a call has a connection of its own.
const CONNECTIONS_BESIDE_RUNS: usize = 15;

/// Where a running node listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The API listener.
    pub api: SocketAddr,
    /// Whether the API listener speaks TLS.
    pub tls: bool,
    /// The exchange listener.
    pub exchange: SocketAddr,
    /// The listener that monitoring reads, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

impl Addresses {
    /// Where the node of a directory listens.
    ///
    /// # Errors
    /// `FILE_UNREADABLE` if none runs.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = Self::path(directory);
        let unreadable = |problem: &dyn std::fmt::Display| {
            Error::new(
                Reason::FileUnreadable,
                format!("{}: {problem}: is the node running?", path.display()),
            )
        };
        let text = std::fs::read(&path).map_err(|error| unreadable(&error))?;
        serde_json::from_slice(&text).map_err(|error| unreadable(&error))
    }

    fn path(directory: &Path) -> PathBuf {
        directory.join(RUN_DIRECTORY).join(ADDRESSES)
    }

    fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = Self::path(directory);
        let failed = |error: io::Error| {
            Error::new(
                Reason::StorageFailed,
                format!("{}: {error}", path.display()),
            )
        };
        let text = serde_json::to_vec(self)
            .map_err(|error| Error::internal(format!("addresses: {error}")))?;
        // Whoever waits for the file sees all of it or none.
        let draft = path.with_extension("tmp");
        std::fs::write(&draft, text).map_err(failed)?;
        std::fs::rename(&draft, &path).map_err(failed)
    }
}

/// A node that serves. Dropping it leaves the node running: call [`Running::shutdown`].
pub struct Running {
    /// The node.
    pub node: Arc<Node>,
    /// Where its API listens.
    pub api_addr: SocketAddr,
    /// Where it listens to partners' nodes.
    pub exchange_addr: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

/// Serves the node in a directory that `overlapd init` made.
///
/// # Errors
/// `STORE_LOCKED`, `PORT_IN_USE`, and what the directory's files have wrong.
pub async fn start(directory: &Path, clock: Arc<dyn Clock>) -> Result<Running, Error> {
    let config = Config::read(directory)?;
    start_with(directory, clock, config, Registry::standard()).await
}

/// [`start`] with a configuration and modules of one's own.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    directory: &Path,
    clock: Arc<dyn Clock>,
    config: Config,
    registry: Registry,
) -> Result<Running, Error> {
    let path = directory.to_owned();
    let node =
        crate::storage::blocking(move || Node::open_with(&path, clock, config, registry)).await?;
    let config = &node.config;
    let exchange_listener = bind("exchange.listen", config.exchange.listen).await?;
    let api_listener = bind("api.listen", config.api.listen).await?;
    let metrics_listener = match config.metrics.listen {
        Some(listen) => Some(bind("metrics.listen", listen).await?),
        None => None,
    };
    let exchange_addr = address(&exchange_listener)?;
    let addresses = Addresses {
        api: address(&api_listener)?,
        tls: config.api.tls_certificate_file.is_some(),
        exchange: exchange_addr,
        metrics: metrics_listener.as_ref().map(address).transpose()?,
    };
    if config.exchange.endpoint.is_none() && exchange_addr.ip().is_loopback() {
        node.set_exchange_endpoint(exchange_addr.to_string());
    }
    partnership::announce(&node).await?;
    let limits = &config.limits;
    let exchange_tls = TlsAcceptor::from(Arc::new(exchange::server_config(&node)?));
    let exchange_server = Server::builder()
        .initial_stream_window_size(exchange::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(exchange::CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(exchange::KEEPALIVE))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_routes(exchange::routes(&node));
    let exchange_incoming = exchange::accept(
        exchange_listener,
        Some(exchange_tls),
        exchange::Allowance {
            connections: limits.max_exchange_connections,
            of_one: limits.max_runs_per_partner + CONNECTIONS_BESIDE_RUNS,
            bucket: Box::new({
                let node = Arc::downgrade(&node);
                move |certificate_sha256| {
                    let pinned = node.upgrade().is_some_and(|node| {
                        node.partners.partnership_id(certificate_sha256).is_some()
                    });
                    if pinned { *certificate_sha256 } else { [0; 32] }
                }
            }),
            handshake_timeout: limits.handshake_timeout.duration(),
        },
    );
    let api_incoming = exchange::accept(
        api_listener,
        api::tls(config)?,
        exchange::Allowance {
            connections: limits.max_api_connections,
            of_one: limits.max_api_connections,
            bucket: Box::new(|certificate_sha256| *certificate_sha256),
            handshake_timeout: limits.handshake_timeout.duration(),
        },
    );
    let requests = metrics::Requests::new()?;
    let api_server = api::server(&node, STREAMS_PER_CONNECTION, requests.clone())?;
    addresses.write(directory)?;
    let mut tasks = vec![
        tokio::spawn(serve_exchange(
            Arc::clone(&node),
            exchange_server,
            exchange_incoming,
        )),
        tokio::spawn({
            let node = Arc::clone(&node);
            async move {
                let served = api_server
                    .serve_with_incoming_shutdown(api_incoming, node.stopping())
                    .await;
                ended("API", &served);
            }
        }),
        tokio::spawn(notices::run(Arc::clone(&node))),
        tokio::spawn(collaboration::follow(Arc::clone(&node))),
        tokio::spawn(program::watch(Arc::clone(&node))),
    ];
    if let Some(listener) = metrics_listener {
        let serving = metrics::serve(Arc::clone(&node), requests, listener);
        tasks.push(tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the metrics listener failed");
            }
        }));
    }
    tokio::spawn(matching::restart_interrupted(Arc::clone(&node)));
    tracing::info!(api = %addresses.api, exchange = %addresses.exchange, "ready");
    Ok(Running {
        api_addr: addresses.api,
        exchange_addr,
        node,
        tasks,
    })
}

impl Running {
    /// Stops taking requests, lets those under way end for as long as the configuration grants, and releases the directory.
    pub async fn shutdown(self) {
        self.node.stop();
        let drain = self.node.config.limits.drain_timeout.duration();
        let deadline = tokio::time::sleep(drain + std::time::Duration::from_millis(500));
        let mut deadline = std::pin::pin!(deadline);
        for mut task in self.tasks {
            tokio::select! {
                _ = &mut task => {}
                () = &mut deadline => {
                    task.abort();
                    // Only an abort is possible: the task reports nothing.
                    let _ = task.await;
                }
            }
        }
        if let Err(error) = self.node.usage.write().await {
            tracing::warn!(%error, "use of the dashboard was not written");
        }
        // Whoever looks next finds nobody there.
        let _ = std::fs::remove_file(Addresses::path(&self.node.directory));
        self.node.release();
    }

    /// [`Running::shutdown`] on SIGTERM or SIGINT.
    ///
    /// # Errors
    /// `INTERNAL` if the signals cannot be watched.
    pub async fn until_signal(self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::internal(format!("signals: {error}"));
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.map_err(failed)?;
        tracing::info!("stopping");
        self.shutdown().await;
        Ok(())
    }
}

async fn serve_exchange(
    node: Arc<Node>,
    server: Router<Identity>,
    incoming: tokio_stream::wrappers::ReceiverStream<io::Result<exchange::Accepted>>,
) {
    let served = server
        .serve_with_incoming_shutdown(incoming, node.stopping())
        .await;
    ended("exchange", &served);
}

fn ended(listener: &str, result: &Result<(), tonic::transport::Error>) {
    match result {
        Ok(()) => tracing::debug!("the {listener} listener has ended"),
        Err(error) => tracing::error!(%error, "the {listener} listener failed"),
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        let (reason, problem) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                Reason::PortInUse,
                "another process listens on this port: stop it, or configure another".to_owned(),
            ),
            _ => (Reason::ConfigInvalid, error.to_string()),
        };
        Error::new(reason, format!("{key} {address}: {problem}"))
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|error| Error::internal(format!("a listener has no address: {error}")))
}
