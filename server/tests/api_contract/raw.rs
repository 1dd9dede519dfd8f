//! Calls of any method of `overlap.v1`, with requests and answers in the protobuf JSON mapping.

use std::{sync::LazyLock, time::Duration};

use http::uri::PathAndQuery;
use overlap_proto::DESCRIPTORS;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::Value;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());

/// Every method of the API as `Service.Method`.
pub fn methods() -> Vec<(String, MethodDescriptor)> {
    POOL.services()
        .filter(|service| service.parent_file().package_name() == "overlap.v1")
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| {
            let name = format!("{}.{}", method.parent_service().name(), method.name());
            (name, method)
        })
        .collect()
}

pub fn method(name: &str) -> MethodDescriptor {
    let found = methods().into_iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("{name} is no method")).1
}

/// A caller of a node's API.
#[derive(Clone)]
pub struct Caller {
    pub channel: Channel,
    /// Empty: sends none.
    pub token: String,
}

impl Caller {
    /// The first answer of a method to one request message. Every answer must name the request by its id.
    pub async fn call(
        &self,
        method: &MethodDescriptor,
        request: &Value,
    ) -> Result<DynamicMessage, Status> {
        let message = DynamicMessage::deserialize(method.input(), request)
            .unwrap_or_else(|error| panic!("{}: {request}: {error}", method.full_name()));
        let id = format!("t-{}", method.name());
        let mut request = Request::new(tokio_stream::once(message));
        let metadata = request.metadata_mut();
        metadata.insert("x-request-id", id.parse().unwrap());
        if !self.token.is_empty() {
            let bearer: MetadataValue<Ascii> = format!("Bearer {}", self.token).parse().unwrap();
            metadata.insert("authorization", bearer);
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let answer = client
            .streaming(
                request,
                path.parse::<PathAndQuery>().unwrap(),
                Json(method.clone()),
            )
            .await;
        let named = match &answer {
            Ok(response) => response.metadata().get("x-request-id"),
            Err(status) => status.metadata().get("x-request-id"),
        };
        assert_eq!(
            named.unwrap().to_str().unwrap(),
            id,
            "{}",
            method.full_name()
        );
        let mut stream = answer?.into_inner();
        tokio::time::timeout(Duration::from_secs(30), stream.message())
            .await
            .unwrap_or_else(|_| panic!("{} does not answer", method.full_name()))
            .map(|message| message.unwrap_or_else(|| DynamicMessage::new(method.output())))
    }
}

struct Json(MethodDescriptor);

impl Codec for Json {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Json {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).unwrap();
        Ok(())
    }
}

impl Decoder for Json {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        Ok(Some(
            DynamicMessage::decode(self.0.output(), buffer).unwrap(),
        ))
    }
}
