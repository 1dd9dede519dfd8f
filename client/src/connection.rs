//! The connection to a node.

use std::{future::Future, time::Duration};

use futures::stream::{self, Stream, TryStreamExt as _};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    ClientConfig, Error,
    config::{BearerToken, read},
    v1,
};

/// One call within the deadline of one answer: `ask!(self.run_api().get_run(message)).await?`.
macro_rules! ask {
    ($client:ident.$service:ident().$call:ident($message:expr)) => {
        $client.answer($client.$service().$call($client.request($message)))
    };
}

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

    /// A request with the deadline of moving a whole file.
    pub(crate) fn transfer_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.transfer_timeout);
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
        let response = self.response_within(limit, call).await?;
        Ok(response.into_inner())
    }

    /// Waits for the beginning of an answer of many messages.
    pub(crate) async fn answers_within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Answers<T>, Error> {
        let response = self.response_within(limit, call).await?;
        Ok(Answers {
            request_id: request_id(response.metadata()),
            messages: response.into_inner(),
            endpoint: self.endpoint.clone(),
        })
    }

    /// The messages of an answer that begins within the deadline of one answer, each as `read` has it.
    pub(crate) fn answers<'a, T: Send + 'static, U: Send + 'a>(
        &'a self,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>> + Send + 'a,
        read: fn(T) -> Result<U, Error>,
    ) -> impl Stream<Item = Result<U, Error>> + Send + 'a {
        stream::once(async move {
            let answers = self.answers_within(self.call_timeout, call).await?;
            Ok::<_, Error>(stream::try_unfold(answers, move |mut answers| async move {
                let message = answers.next().await?;
                let item = message.map(read).transpose()?;
                Ok(item.map(|item| (item, answers)))
            }))
        })
        .try_flatten()
    }

    async fn response_within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Error> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|status| {
                let request_id = request_id(status.metadata());
                Error::from_status(&self.endpoint, status, request_id)
            }),
            Err(_) => Err(Error::Deadline {
                endpoint: self.endpoint.clone(),
            }),
        }
    }
}

/// An answer of many messages.
pub(crate) struct Answers<T> {
    messages: Streaming<T>,
    endpoint: String,
    /// Only the beginning of an answer has it, not the status that ends it.
    request_id: Option<String>,
}

impl<T> Answers<T> {
    /// The next message; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Error> {
        self.messages
            .message()
            .await
            .map_err(|status| Error::from_status(&self.endpoint, status, self.request_id.clone()))
    }
}

/// What the node's log calls the call.
fn request_id(answer: &MetadataMap) -> Option<String> {
    let id = answer.get("x-request-id")?.to_str().ok()?;
    Some(id.to_owned())
}
