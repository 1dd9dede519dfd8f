//! The API listener: what this organisation's own tools and platform call.

use std::{path::Path, sync::Arc};

use overlap_proto::{
    DESCRIPTORS,
    v1::{
        admin_service_server::AdminServiceServer, asset_service_server::AssetServiceServer,
        attribution_service_server::AttributionServiceServer,
        change_service_server::ChangeServiceServer, customer_service_server::CustomerServiceServer,
        engagement_service_server::EngagementServiceServer,
        match_service_server::MatchServiceServer, overlap_service_server::OverlapServiceServer,
        partner_info_service_server::PartnerInfoServiceServer,
        partnership_service_server::PartnershipServiceServer,
        program_intelligence_service_server::ProgramIntelligenceServiceServer,
        program_service_server::ProgramServiceServer, receipt_service_server::ReceiptServiceServer,
        record_service_server::RecordServiceServer, sharing_service_server::SharingServiceServer,
        timeline_service_server::TimelineServiceServer,
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::{Server, server::Router},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::layer::util::{Identity, Stack};

use crate::{
    admin, assets, attribution,
    auth::AuthenticationLayer,
    changes,
    config::Config,
    customers::service::Customers,
    engagement::Engagement,
    error::{Error, Reason},
    exchange, matching,
    metrics::{Requests, RequestsLayer},
    node::Node,
    overlap, partner_info, partnership,
    program::{Intelligence, ProgramNumbers},
    records::Records,
    sharing, timeline,
};

/// Services by name, each with the configured limit on its requests.
macro_rules! services {
    ($node:expr, $($server:ident($service:expr);)*) => {{
        let limit = $node.config.limits.max_request_bytes;
        let mut routes = RoutesBuilder::default();
        let mut names = Vec::new();
        $(
            let server = $server::new($service).max_decoding_message_size(limit);
            names.push(name(&server));
            routes.add_service(server);
        )*
        (routes.routes(), names)
    }};
}

/// Every service of the API, with its names for health checks: the one place where services are added.
///
/// # Errors
/// What the configuration has wrong.
pub fn api_routes(node: &Arc<Node>) -> Result<(Routes, Vec<&'static str>), Error> {
    Ok(services! { node,
        AdminServiceServer(admin::Service::new(Arc::clone(node)));
        CustomerServiceServer(Customers::of_node(node)?);
        PartnershipServiceServer(partnership::Service::new(Arc::clone(node)));
        SharingServiceServer(sharing::Service::new(Arc::clone(node)));
        MatchServiceServer(matching::Service::new(Arc::clone(node)));
        ReceiptServiceServer(matching::receipts::Service::new(Arc::clone(node)));
        OverlapServiceServer(overlap::Service::new(Arc::clone(node)));
        AttributionServiceServer(attribution::Service::new(Arc::clone(node)));
        AssetServiceServer(assets::Service::new(Arc::clone(node)));
        TimelineServiceServer(timeline::Service::new(Arc::clone(node)));
        PartnerInfoServiceServer(partner_info::Service::new(Arc::clone(node)));
        ChangeServiceServer(changes::Service::new(Arc::clone(node)));
        RecordServiceServer(Records::new(node.store.clone(), Arc::clone(&node.clock)));
        EngagementServiceServer(Engagement::new(node.store.clone(), Arc::clone(&node.clock), node.usage.clone()));
        ProgramServiceServer(ProgramNumbers::new(node.store.clone(), Arc::clone(&node.clock), node.usage.clone()));
        ProgramIntelligenceServiceServer(Intelligence::new(node.store.clone(), Arc::clone(&node.clock), node.usage.clone()));
    })
}

fn name<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

/// What every request passes, the outermost last.
type ApiLayers = Stack<AuthenticationLayer, Stack<RequestsLayer, Identity>>;

/// The API's server, ready for connections.
pub(super) fn server(
    node: &Arc<Node>,
    streams: u32,
    requests: Requests,
) -> Result<Router<ApiLayers>, Error> {
    let (routes, names) = api_routes(node)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Error::internal(format!("reflection: {error}")))?;
    tokio::spawn(report(Arc::clone(node), reporter, names));
    Ok(Server::builder()
        .layer(RequestsLayer(requests))
        .layer(AuthenticationLayer(Arc::clone(node)))
        .http2_keepalive_interval(Some(exchange::KEEPALIVE))
        .max_concurrent_streams(streams)
        .add_routes(routes)
        .add_service(health)
        .add_service(reflection))
}

/// Says that every service serves, and that none does once the node is asked to stop.
async fn report(node: Arc<Node>, reporter: HealthReporter, names: Vec<&'static str>) {
    for name in &names {
        reporter
            .set_service_status(*name, ServingStatus::Serving)
            .await;
    }
    node.stopping().await;
    for name in names.iter().chain(&[""]) {
        reporter
            .set_service_status(*name, ServingStatus::NotServing)
            .await;
    }
}

/// TLS for the API listener, if configured.
pub(super) fn tls(config: &Config) -> Result<Option<TlsAcceptor>, Error> {
    let (Some(certificates), Some(key)) =
        (&config.api.tls_certificate_file, &config.api.tls_key_file)
    else {
        return Ok(None);
    };
    let unusable = |path: &Path, problem: &dyn std::fmt::Display| {
        Error::new(
            Reason::KeyUnusable,
            format!("{}: {problem}", path.display()),
        )
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificates, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::internal(format!("TLS: {error}")))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| unusable(certificates, &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
