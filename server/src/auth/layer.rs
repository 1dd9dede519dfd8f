//! Around every API service: no valid token, no call. Health and reflection, which tell nothing, are open.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::Caller;
use crate::{
    error::{Error, Reason},
    node::Node,
};

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
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if !OPEN.iter().any(|service| path.starts_with(service)) {
            match caller(&self.node, request.headers()) {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Err(error) => {
                    return Either::Right(ready(Ok(Status::from(error).into_http())));
                }
            }
        }
        Either::Left(self.inner.call(request))
    }
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
