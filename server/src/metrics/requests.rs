//! Counts API requests by method and outcome.

use std::{
    collections::HashSet,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::error::Error;

/// What is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: String,
}

/// The API's requests since the process started. Clones share the numbers.
#[derive(Clone)]
pub(crate) struct Requests {
    /// The paths of the API: others are counted together, as callers may ask for anything.
    known: Arc<HashSet<String>>,
    ended: Family<Outcome, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
}

impl Requests {
    /// Counts from zero.
    ///
    /// # Errors
    /// `INTERNAL` if the API's own description cannot be read.
    pub(crate) fn new() -> Result<Self, Error> {
        let pool = DescriptorPool::decode(overlap_proto::DESCRIPTORS)
            .map_err(|error| Error::internal(format!("descriptors: {error}")))?;
        let known = pool
            .services()
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                let methods: Vec<String> = service
                    .methods()
                    .map(|method| format!("/{name}/{}", method.name()))
                    .collect();
                methods
            })
            .collect();
        Ok(Self {
            known: Arc::new(known),
            ended: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 8))
            }),
        })
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "api_requests",
            "API requests, by the status that the answer began with",
            self.ended.clone(),
        );
        registry.register(
            "api_request_seconds",
            "Time until the answer of an API request began",
            self.seconds.clone(),
        );
    }

    fn method(&self, path: &str) -> String {
        if self.known.contains(path) {
            path.trim_start_matches('/').to_owned()
        } else {
            "other".to_owned()
        }
    }

    fn count(&self, method: String, code: Code, seconds: f64) {
        let code = format!("{code:?}");
        self.seconds
            .get_or_create(&Method {
                method: method.clone(),
            })
            .observe(seconds);
        self.ended.get_or_create(&Outcome { method, code }).inc();
    }
}

/// Counts every request that passes.
#[derive(Clone)]
pub(crate) struct RequestsLayer(pub(crate) Requests);

impl<S> Layer<S> for RequestsLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            requests: self.0.clone(),
        }
    }
}

/// See [`RequestsLayer`].
#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "how long an answer takes is told to monitoring alone"
    )]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let requests = self.requests.clone();
        let method = requests.method(request.uri().path());
        let began = Instant::now();
        self.inner
            .call(request)
            .map(move |answer| {
                if let Ok(response) = &answer {
                    // An answer without a status in its head has a body; what ends it is not seen here.
                    let code = Status::from_header_map(response.headers())
                        .map_or(Code::Ok, |status| status.code());
                    requests.count(method, code, began.elapsed().as_secs_f64());
                }
                answer
            })
            .boxed()
    }
}
