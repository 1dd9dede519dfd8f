//! The listener that monitoring reads: plain HTTP/1.1, no secrets, loopback by default.

use std::sync::Arc;

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use prometheus_client::encoding::text::encode;
use tokio::net::TcpListener;

use super::collect::registry;
use crate::{metrics::Requests, node::Node};

/// OpenMetrics 1.0, which Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Source {
    node: Arc<Node>,
    requests: Requests,
}

/// Answers `/metrics`, `/healthz` (the process answers) and `/readyz` (the store answers, and the node is not stopping) until
/// the node stops.
pub(crate) async fn serve(
    node: Arc<Node>,
    requests: Requests,
    listener: TcpListener,
) -> std::io::Result<()> {
    let stopping = node.stopping();
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Source {
            node: Arc::clone(&node),
            requests,
        });
    axum::serve(listener, routes)
        .with_graceful_shutdown(stopping)
        .await
}

async fn metrics(State(source): State<Source>) -> impl IntoResponse {
    let read = crate::storage::blocking(move || {
        let mut registry = registry(&source.node)?;
        source
            .requests
            .register(registry.sub_registry_with_prefix("overlap"));
        let mut text = String::new();
        encode(&mut text, &registry)
            .map_err(|error| crate::error::Error::internal(format!("metrics: {error}")))?;
        Ok(text)
    })
    .await;
    match read {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => unavailable(&error),
    }
}

async fn ready(State(source): State<Source>) -> impl IntoResponse {
    let store = source.node.store.clone();
    let read = crate::storage::blocking(move || {
        store.read_blocking(|connection| {
            Ok(connection.query_row("SELECT 1", (), |row| row.get::<_, i64>(0))?)
        })
    })
    .await;
    match read {
        Ok(_) => (
            StatusCode::OK,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            "ready\n".to_owned(),
        ),
        Err(error) => unavailable(&error),
    }
}

type Answer = (StatusCode, [(http::HeaderName, &'static str); 1], String);

fn unavailable(error: &crate::error::Error) -> Answer {
    tracing::error!(%error, "monitoring could not be answered");
    (
        StatusCode::SERVICE_UNAVAILABLE,
        [(CONTENT_TYPE, "text/plain; charset=utf-8")],
        format!("{}\n", error.reason().name()),
    )
}
