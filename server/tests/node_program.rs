//! The program itself: exit codes, one clear line, signals, TLS on the API listener.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use overlap_proto::v1::{GetNodeRequest, admin_service_client::AdminServiceClient};
use overlap_server::{
    clock::SystemClock,
    config::Config,
    node::{self, InitOptions, Registry},
    serve::{self, Addresses},
};
use tokio_rustls::{TlsConnector, rustls};
use tonic::transport::Endpoint;

fn overlapd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_overlapd"))
        .args(arguments)
        .env_remove("OVERLAP_KEY_FILE")
        .output()
        .unwrap()
}

fn init(directory: &Path, more: &[&str]) -> Output {
    let directory = directory.to_str().unwrap();
    let mut arguments = vec![
        "init",
        "--dir",
        directory,
        "--organization",
        "Acme",
        "--exchange-listen",
        "127.0.0.1:0",
        "--api-listen",
        "127.0.0.1:0",
    ];
    arguments.extend(more);
    overlapd(&arguments)
}

fn one_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn init_makes_a_private_directory_and_overwrites_nothing() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let made = init(&directory, &[]);
    assert!(made.status.success(), "{made:?}");
    let token = std::fs::read_to_string(directory.join("admin.token")).unwrap();
    assert!(token.starts_with("overlap_") && token.ends_with('\n'));
    #[cfg(unix)]
    for entry in [
        "",
        "admin.token",
        "overlap.db",
        "overlapd.toml",
        "keys",
        "keys/tls.key",
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(directory.join(entry))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{entry}");
    }
    let again = init(&directory, &[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(one_line(&again).contains("not empty"));
    assert_eq!(
        std::fs::read_to_string(directory.join("admin.token")).unwrap(),
        token
    );
    let healthy = overlapd(&[
        "doctor",
        "--dir",
        directory.to_str().unwrap(),
        "--output",
        "json",
    ]);
    assert_eq!(healthy.status.code(), Some(0), "{healthy:?}");
    let findings: serde_json::Value = serde_json::from_slice(&healthy.stdout).unwrap();
    assert!(
        findings
            .as_array()
            .unwrap()
            .iter()
            .all(|finding| finding["health"] != "bad")
    );
    std::fs::remove_file(directory.join("keys/organization.key")).unwrap();
    let ill = overlapd(&["doctor", "--dir", directory.to_str().unwrap()]);
    assert_eq!(ill.status.code(), Some(1));
}

#[test]
fn secrets_are_sealed_under_a_key_that_is_kept_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("seal.key");
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    let directory = home.path().join("node");
    let made = init(&directory, &["--key-file", key.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let directory = directory.to_str().unwrap();
    assert!(overlapd(&["doctor", "--dir", directory]).status.success());
    std::fs::write(&key, "cd".repeat(32)).unwrap();
    let locked_out = overlapd(&["serve", "--dir", directory]);
    assert_eq!(locked_out.status.code(), Some(1));
    assert!(one_line(&locked_out).contains("sealed under another key"));
}

#[test]
fn mistakes_are_one_line_and_usage_is_two() {
    let home = tempfile::tempdir().unwrap();
    let missing = overlapd(&["serve", "--dir", home.path().to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(one_line(&missing).contains("overlapd init"));
    assert_eq!(overlapd(&["serve"]).status.code(), Some(2));
    assert_eq!(overlapd(&["frobnicate"]).status.code(), Some(2));
    let directory = home.path().join("node");
    let plaintext = overlapd(&[
        "init",
        "--dir",
        directory.to_str().unwrap(),
        "--organization",
        "Acme",
        "--api-listen",
        "0.0.0.0:0",
    ]);
    assert_eq!(plaintext.status.code(), Some(1));
    assert!(one_line(&plaintext).contains("not a loopback address"));
    assert!(!directory.exists(), "a refused init leaves nothing behind");
}

#[cfg(unix)]
#[test]
fn serve_says_when_it_is_ready_and_stops_on_sigterm() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    assert!(init(&directory, &[]).status.success());
    let mut serving = Command::new(env!("CARGO_BIN_EXE_overlapd"))
        .args(["serve", "--dir", directory.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(serving.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let addresses = Addresses::read(&directory).unwrap();
    assert!(ready.starts_with("overlapd ready: Acme, "), "{ready}");
    assert!(
        ready.contains(&addresses.api.to_string())
            && ready.contains(&addresses.exchange.to_string())
    );
    let second = overlapd(&["serve", "--dir", directory.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(one_line(&second).contains("another overlapd serves this directory"));
    let killed = Command::new("kill")
        .arg(serving.id().to_string())
        .status()
        .unwrap();
    assert!(killed.success());
    assert!(serving.wait().unwrap().success());
    assert!(Addresses::read(&directory).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_speaks_tls_where_it_is_told_to() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("node");
    let options = InitOptions {
        organization: "Acme".to_owned(),
        exchange_listen: Some("127.0.0.1:0".parse().unwrap()),
        api_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..InitOptions::default()
    };
    node::init(&directory, options, &SystemClock).unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (home.path().join("api.crt"), home.path().join("api.key"));
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let mut config = Config::read(&directory).unwrap();
    config.api.listen = "0.0.0.0:0".parse().unwrap();
    config.api.tls_certificate_file = Some(certificate);
    config.api.tls_key_file = Some(key);
    let running = serve::start_with(
        &directory,
        Arc::new(SystemClock),
        config,
        Registry::standard(),
    )
    .await
    .unwrap();
    assert!(Addresses::read(&directory).unwrap().tls);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls));
    let port = running.api_addr.port();
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                let name = "localhost".try_into().unwrap();
                let tls = connector.connect(name, tcp).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls))
            }
        }))
        .await
        .unwrap();
    let token = std::fs::read_to_string(directory.join("admin.token")).unwrap();
    let mut request = tonic::Request::new(GetNodeRequest {});
    let header = format!("Bearer {}", token.trim()).parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let answer = AdminServiceClient::new(channel)
        .get_node(request)
        .await
        .unwrap();
    assert_eq!(answer.into_inner().organization, "Acme");
    // Without TLS there is nothing to talk to.
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .unwrap()
        .timeout(Duration::from_secs(5))
        .connect()
        .await;
    if let Ok(channel) = plain {
        let refused = AdminServiceClient::new(channel)
            .get_node(GetNodeRequest {})
            .await;
        assert!(refused.is_err());
    }
    running.shutdown().await;
}
