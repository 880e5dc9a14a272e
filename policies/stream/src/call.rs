//! Both ends of the call, on any HTTP/2 connection. This is what tonic's generator would write, without the generator.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::BoxStream;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tonic::body::Body;
use tonic::client;
use tonic::server::{self, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::message::{FromOperator, FromSidecar};

pub(crate) const PATH: &str = "/redoubt.policy.v1alpha1.PolicyStream/Follow";

/// Longest message that an operator reads, in bytes.
pub const MESSAGE_FROM_SIDECAR_MAX: usize = 16 * 1024;

/// Longest message that a sidecar reads, in bytes: an envelope of the longest kind, its announcements, and their frames.
const MESSAGE_FROM_OPERATOR_MAX: usize = 1024 * 1024 + 64 * 1024;

/// What an operator sends.
pub type Outgoing = BoxStream<'static, Result<FromOperator, Status>>;

/// What answers calls.
pub trait Follow: Clone + Send + Sync + 'static {
    /// Answers one call. The token is as it was shown, and proves nothing yet.
    fn follow(
        &self,
        token: String,
        incoming: Streaming<FromSidecar>,
    ) -> impl Future<Output = Result<Outgoing, Status>> + Send;
}

/// [`Follow`] as an HTTP service.
#[derive(Clone)]
pub struct FollowService<F>(F);

impl<F: Follow> FollowService<F> {
    /// A service that answers by `follow`.
    pub fn new(follow: F) -> Self {
        Self(follow)
    }

    /// Answers a request: the call, or gRPC's "unimplemented".
    ///
    /// # Errors
    /// Never.
    pub async fn answer(&self, request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
        if request.uri().path() != PATH {
            return Ok(Status::unimplemented("there is no such call").into_http());
        }
        let Some(token) = token(request.headers()) else {
            return Ok(Status::unauthenticated("no bearer token was shown").into_http());
        };
        let answering = Answering { follow: self.0.clone(), token };
        let mut grpc = server::Grpc::new(ProstCodec::<FromOperator, FromSidecar>::default())
            .max_decoding_message_size(MESSAGE_FROM_SIDECAR_MAX);
        Ok(grpc.streaming(answering, request).await)
    }
}

fn token(headers: &HeaderMap) -> Option<String> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?;
    shown.strip_prefix("Bearer ").filter(|token| !token.is_empty()).map(str::to_owned)
}

struct Answering<F> {
    follow: F,
    token: String,
}

impl<F: Follow> StreamingService<FromSidecar> for Answering<F> {
    type Response = FromOperator;
    type ResponseStream = Outgoing;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Outgoing>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<FromSidecar>>) -> Self::Future {
        let (follow, token) = (self.follow.clone(), std::mem::take(&mut self.token));
        Box::pin(async move { follow.follow(token, request.into_inner()).await.map(Response::new) })
    }
}

/// Calls on an open connection, and returns what the operator sends.
///
/// # Errors
/// As the operator answered, or when the connection ended.
pub async fn call(
    connection: SendRequest<Body>,
    authority: &str,
    token: &str,
    outgoing: impl Stream<Item = FromSidecar> + Send + 'static,
) -> Result<Streaming<FromOperator>, Status> {
    let origin = http::Uri::builder().scheme("https").authority(authority).path_and_query("/").build();
    let origin = origin.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let shown = format!("Bearer {token}")
        .parse()
        .map_err(|_| Status::unauthenticated("the token cannot be sent in a header"))?;
    let mut request = Request::new(outgoing);
    request.metadata_mut().insert("authorization", shown);
    let mut grpc = client::Grpc::with_origin(Sending(connection), origin)
        .max_decoding_message_size(MESSAGE_FROM_OPERATOR_MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(PATH);
    let codec = ProstCodec::<FromSidecar, FromOperator>::default();
    grpc.streaming(request, path, codec).await.map(Response::into_inner)
}

struct Sending(SendRequest<Body>);

impl Service<http::Request<Body>> for Sending {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
