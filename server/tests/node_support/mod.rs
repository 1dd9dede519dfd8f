//! Nodes in this process, over real sockets on loopback.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses its part"
)]

pub mod rogue;

use std::{path::Path, sync::Arc, time::Duration};

use overlap_proto::v1::{
    AcceptInviteRequest, AuditEvent, CreateInviteRequest, GetPartnershipRequest,
    ListAuditEventsRequest, Partnership, admin_service_client::AdminServiceClient,
    partnership_service_client::PartnershipServiceClient,
    sharing_service_client::SharingServiceClient,
};
use overlap_server::{
    clock::MockClock,
    config::{Config, Span},
    node::{self, ADMIN_TOKEN, InitOptions, Registry},
    partnership,
    serve::{self, Running},
};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

pub const START: &str = "2026-03-01T12:00:00Z";

type Bearer = Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send + Sync>;
pub type Authorized = InterceptedService<Channel, Bearer>;

/// A node of one organisation, which can be stopped and started again at the same addresses.
pub struct TestNode {
    pub directory: TempDir,
    pub clock: MockClock,
    pub config: Config,
    running: Option<Running>,
    registry: fn() -> Registry,
}

impl TestNode {
    pub async fn start(organization: &str) -> Self {
        Self::start_with(organization, Registry::standard).await
    }

    pub async fn start_with(organization: &str, registry: fn() -> Registry) -> Self {
        Self::start_configured(organization, registry, |_| ()).await
    }

    pub async fn start_configured(
        organization: &str,
        registry: fn() -> Registry,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = MockClock::new(START.parse().unwrap());
        let options = InitOptions {
            organization: organization.to_owned(),
            exchange_listen: Some("127.0.0.1:0".parse().unwrap()),
            api_listen: Some("127.0.0.1:0".parse().unwrap()),
            ..InitOptions::default()
        };
        node::init(directory.path(), options, &clock).unwrap();
        let mut config = Config::read(directory.path()).unwrap();
        config.limits.notice_retry = Span::milliseconds(200);
        config.limits.drain_timeout = Span::milliseconds(200);
        config.limits.call_timeout = Span::seconds(10);
        configure(&mut config);
        let mut node = Self {
            directory,
            clock,
            config,
            running: None,
            registry,
        };
        node.resume().await;
        node
    }

    /// Starts again, at the same addresses.
    pub async fn resume(&mut self) {
        let running = serve::start_with(
            self.directory.path(),
            Arc::new(self.clock.clone()),
            self.config.clone(),
            (self.registry)(),
        )
        .await
        .unwrap();
        self.config.exchange.listen = running.exchange_addr;
        self.config.api.listen = running.api_addr;
        self.running = Some(running);
    }

    pub async fn stop(&mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }

    pub fn node(&self) -> &Arc<overlap_server::node::Node> {
        &self.running.as_ref().unwrap().node
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn exchange_addr(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().exchange_addr
    }

    pub fn api_addr(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().api_addr
    }

    pub fn admin_token(&self) -> String {
        std::fs::read_to_string(self.path().join(ADMIN_TOKEN))
            .unwrap()
            .trim()
            .to_owned()
    }

    pub async fn channel(&self) -> Channel {
        let address = self.running.as_ref().unwrap().api_addr;
        Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// The API as the holder of a token reaches it.
    pub async fn api_as(&self, token: &str) -> Authorized {
        let header: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
        let bearer: Bearer = Box::new(move |mut request: Request<()>| {
            request
                .metadata_mut()
                .insert("authorization", header.clone());
            Ok(request)
        });
        InterceptedService::new(self.channel().await, bearer)
    }

    pub async fn api(&self) -> Authorized {
        self.api_as(&self.admin_token()).await
    }

    pub async fn partners(&self) -> PartnershipServiceClient<Authorized> {
        PartnershipServiceClient::new(self.api().await)
    }

    pub async fn sharing(&self) -> SharingServiceClient<Authorized> {
        SharingServiceClient::new(self.api().await)
    }

    pub async fn admin(&self) -> AdminServiceClient<Authorized> {
        AdminServiceClient::new(self.api().await)
    }

    pub async fn invite(&self) -> String {
        self.partners()
            .await
            .create_invite(CreateInviteRequest::default())
            .await
            .unwrap()
            .into_inner()
            .invite
    }

    pub async fn accept(&self, invite: &str) -> Result<Partnership, Status> {
        let request = AcceptInviteRequest {
            invite: invite.to_owned(),
            endpoint: String::new(),
        };
        let response = self.partners().await.accept_invite(request).await?;
        Ok(response.into_inner().partnership.unwrap())
    }

    /// The partnership as the node itself has it.
    pub async fn known(&self, partner: &'static str) -> partnership::Partnership {
        self.node()
            .store
            .read(move |connection| partnership::connected(connection, partner))
            .await
            .unwrap()
    }

    pub async fn audit_events(&self) -> Vec<AuditEvent> {
        self.admin()
            .await
            .list_audit_events(ListAuditEventsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .events
    }

    pub async fn partnership(&self, partner: &str) -> Result<Partnership, Status> {
        let request = GetPartnershipRequest {
            partner: partner.to_owned(),
        };
        let response = self.partners().await.get_partnership(request).await?;
        Ok(response.into_inner().partnership.unwrap())
    }
}

/// Two nodes that are partners.
pub async fn pair() -> (TestNode, TestNode) {
    pair_with(Registry::standard).await
}

pub async fn pair_with(registry: fn() -> Registry) -> (TestNode, TestNode) {
    let a = TestNode::start_with("Acme", registry).await;
    let b = TestNode::start_with("Globex", registry).await;
    b.accept(&a.invite().await).await.unwrap();
    (a, b)
}

/// The `ErrorInfo` reason of a refusal.
pub fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// Waits until something holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} does not come true");
}
