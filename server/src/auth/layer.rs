//! Around every API service: every answer has the request's id, and without a valid token there is no call. Health and
//! reflection, which tell nothing, are open.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::Caller;
use crate::{
    error::{Error, Reason},
    identity::new_id,
    node::Node,
};

/// Names a request in the answer and in the node's log. Not in an error's details: what is hidden is answered exactly like what
/// does not exist.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of the longest request id.
const MAX_REQUEST_ID: usize = 64;

/// Services that anyone may call.
const OPEN: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Puts a [`Caller`] into the extensions of every request, or refuses it.
#[derive(Clone)]
pub(crate) struct AuthenticationLayer(pub(crate) Arc<Node>);

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authentication {
            inner,
            node: Arc::clone(&self.0),
        }
    }
}

/// See [`AuthenticationLayer`].
#[derive(Clone)]
pub(crate) struct Authentication<S> {
    inner: S,
    node: Arc<Node>,
}

impl<S, B> Service<Request<B>> for Authentication<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let id = request_id(request.headers());
        let span = tracing::info_span!("call", request_id = ?id, path);
        let mut refused = None;
        if !OPEN.iter().any(|service| path.starts_with(service)) {
            match caller(&self.node, request.headers()) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Err(error) => refused = Some(Status::from(error).into_http()),
            }
        }
        let admitted = match refused {
            Some(refusal) => Err(refusal),
            None => Ok(span.in_scope(|| self.inner.call(request))),
        };
        let answer = async move {
            let mut response = match admitted {
                Ok(answering) => answering.await?,
                Err(refusal) => refusal,
            };
            if let Some(id) = id {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

/// The caller's id of its request, or a new one.
fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let own = headers.get(REQUEST_ID).filter(|id| {
        let id = id.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(is_plain)
    });
    own.cloned().or_else(|| {
        // The call goes on without an id should the system have no randomness to give.
        let new = new_id("req").ok()?;
        HeaderValue::try_from(new).ok()
    })
}

fn caller(node: &Node, headers: &HeaderMap) -> Result<Caller, Error> {
    let unauthenticated = |problem| Error::new(Reason::Unauthenticated, problem);
    let header = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| unauthenticated("no bearer token: send \"authorization: Bearer SECRET\""))?;
    header
        .to_str()
        .ok()
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, secret)| node.tokens.caller(secret.trim(), node.now()))
        .ok_or_else(|| unauthenticated("the bearer token is unknown, expired or revoked"))
}
