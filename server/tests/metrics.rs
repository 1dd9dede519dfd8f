//! What monitoring reads: the listener that `[metrics] listen` opens (docs/OPERATIONS.md "Health and numbers").

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod node_support;

use std::net::SocketAddr;

use node_support::{TestNode, eventually};
use overlap_proto::v1::GetNodeRequest;
use overlap_server::{node::Registry, serve::Addresses};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn monitored() -> (TestNode, SocketAddr) {
    let node = TestNode::start_configured("Acme Observed", Registry::standard, |config| {
        config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let address = Addresses::read(node.directory.path()).unwrap().metrics;
    (node, address.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_count_requests_and_name_no_organisation() {
    let (node, address) = monitored().await;
    for _ in 0..3 {
        node.admin()
            .await
            .get_node(GetNodeRequest {})
            .await
            .unwrap();
    }
    let refused = overlap_proto::v1::admin_service_client::AdminServiceClient::new(
        node.api_as("no-such-token").await,
    )
    .get_node(GetNodeRequest {})
    .await;
    assert!(refused.is_err());
    let text = get(address, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(text.contains("content-type: application/openmetrics-text"));
    let requests = "overlap_api_requests_total{method=\"overlap.v1.AdminService/GetNode\"";
    assert!(
        text.contains(&format!("{requests},code=\"Ok\"}} 3\n")),
        "{text}"
    );
    assert!(
        text.contains(&format!("{requests},code=\"Unauthenticated\"}} 1\n")),
        "{text}"
    );
    assert!(text.contains("overlap_certificate_expiry_timestamp_seconds "));
    assert!(text.trim_end().ends_with("# EOF"));
    assert!(!text.contains("Observed"), "names stay inside");
    assert!(get(address, "/healthz").await.ends_with("ok\n"));
    assert!(get(address, "/readyz").await.ends_with("ready\n"));
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_not_the_apis_are_counted_together() {
    let (node, address) = monitored().await;
    let api = Addresses::read(node.directory.path()).unwrap().api;
    let channel = tonic::transport::Endpoint::new(format!("http://{api}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap();
    let text = get(address, "/metrics").await;
    assert!(
        text.contains("overlap_api_requests_total{method=\"other\",code=\"Ok\"} 1\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_listener_unless_configured_and_none_after_the_end() {
    let silent = TestNode::start("Silent").await;
    assert_eq!(
        Addresses::read(silent.directory.path()).unwrap().metrics,
        None
    );
    let (mut node, address) = monitored().await;
    node.stop().await;
    eventually("the listener ends", || async {
        TcpStream::connect(address).await.is_err()
    })
    .await;
}
