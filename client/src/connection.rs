//! The connection to a node.

use std::{future::Future, time::Duration};

use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    ClientConfig, Error,
    config::{BearerToken, read},
    v1,
};

/// The largest answer accepted, for pages of customers with many fields.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection to one node; cheap to clone, safe to share.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    endpoint: String,
    call_timeout: Duration,
    pub(crate) transfer_timeout: Duration,
    watch_timeout: Duration,
}

pub(crate) type Transport = InterceptedService<Channel, Bearer>;

/// Adds the token to every call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl Bearer {
    fn new(token: Option<&BearerToken>) -> Result<Self, Error> {
        let header = token
            .map(|token| {
                let mut header = MetadataValue::try_from(token.header().as_str())
                    .map_err(|_| Error::config("the token has characters no token has"))?;
                header.set_sensitive(true);
                Ok::<_, Error>(header)
            })
            .transpose()?;
        Ok(Self(header))
    }
}

macro_rules! services {
    ($($method:ident: $module:ident::$client:ident;)*) => {
        impl Client {$(
            pub(crate) fn $method(&self) -> v1::$module::$client<Transport> {
                v1::$module::$client::new(self.transport.clone())
                    .max_decoding_message_size(MAX_ANSWER_BYTES)
            }
        )*}
    };
}

services! {
    admin_api: admin_service_client::AdminServiceClient;
    asset_api: asset_service_client::AssetServiceClient;
    attribution_api: attribution_service_client::AttributionServiceClient;
    change_api: change_service_client::ChangeServiceClient;
    customer_api: customer_service_client::CustomerServiceClient;
    engagement_api: engagement_service_client::EngagementServiceClient;
    intelligence_api: program_intelligence_service_client::ProgramIntelligenceServiceClient;
    match_api: match_service_client::MatchServiceClient;
    overlap_api: overlap_service_client::OverlapServiceClient;
    partner_info_api: partner_info_service_client::PartnerInfoServiceClient;
    partnership_api: partnership_service_client::PartnershipServiceClient;
    program_api: program_service_client::ProgramServiceClient;
    record_api: record_service_client::RecordServiceClient;
    receipt_api: receipt_service_client::ReceiptServiceClient;
    sharing_api: sharing_service_client::SharingServiceClient;
    timeline_api: timeline_service_client::TimelineServiceClient;
}

impl Client {
    /// Connects to a node.
    ///
    /// # Errors
    /// If the configuration makes no sense or the node cannot be reached.
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        let uri = config.checked_uri()?;
        let mut endpoint = Endpoint::from(uri.clone())
            .connect_timeout(config.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .tcp_nodelay(true)
            .user_agent(concat!("overlap-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Error::transport(&config.endpoint, &error))?;
        if uri.scheme_str() == Some("https") {
            let tls = match &config.tls_ca_file {
                Some(path) => {
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?))
                }
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                Error::config(format!("TLS to {}: {cause}", config.endpoint))
            })?;
        }
        let bearer = Bearer::new(config.token.as_ref())?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::transport(&config.endpoint, &error))?;
        Ok(Self {
            transport: InterceptedService::new(channel, bearer),
            endpoint: config.endpoint,
            call_timeout: config.call_timeout,
            transfer_timeout: config.transfer_timeout,
            watch_timeout: config.watch_timeout,
        })
    }

    /// Where the node is.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A request with the deadline of one answer.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_timeout);
        request
    }

    /// A request with the deadline of watching.
    pub(crate) fn watch_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.watch_timeout);
        request
    }

    /// Waits for one answer, also if the node keeps the connection but never gives it.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.answer_within(self.call_timeout, call).await
    }

    /// Like [`Self::answer`], within a time of its own.
    pub(crate) async fn answer_within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.refused(status)),
            Err(_) => Err(Error::Deadline {
                endpoint: self.endpoint.clone(),
            }),
        }
    }

    pub(crate) fn refused(&self, status: Status) -> Error {
        Error::from_status(&self.endpoint, status)
    }
}
