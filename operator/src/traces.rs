//! Traces of what the operator does, sent in OTLP over HTTP where the environment names a collector.
//!
//! A span tells kind, namespace and name of the object that is visited, and of each write its verb and status; nothing that
//! an object holds. A collector that is slow or away costs spans and nothing else: they wait in a bounded queue, and what
//! does not fit is dropped.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{Subscriber, error};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// Target of the spans that are sent. Nothing is logged under it.
pub const TARGET: &str = "redoubt_trace";
/// Variables that name a collector (OpenTelemetry's specification of the exporter).
pub const VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Longest wait for the collector, and longest answer of it that is read, in bytes.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for the last spans at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The collector's address is of no use.
    #[error(
        "{0} is {1:?}: give the address of a collector in plain HTTP, such as http://collector.monitoring:4318"
    )]
    Endpoint(&'static str, String),
    /// The exporter cannot be made.
    #[error("no exporter of traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Sends spans until it is dropped.
pub struct Traces(SdkTracerProvider);

/// Where the environment wants traces to be sent, if it does. `variable` reads it.
///
/// # Errors
/// When the address is of no use.
pub fn endpoint(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, TracesError> {
    let mut found = VARIABLES.iter().filter_map(|name| Some((*name, variable(name)?)));
    let Some((name, endpoint)) = found.find(|(_, endpoint)| !endpoint.is_empty()) else { return Ok(None) };
    let is_http = endpoint
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    match name {
        _ if !is_http => Err(TracesError::Endpoint(name, endpoint)),
        // That of traces alone is taken as it is.
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => Ok(Some(endpoint)),
        _ => Ok(Some(format!("{}/v1/traces", endpoint.trim_end_matches('/')))),
    }
}

impl Traces {
    /// For the collector at `endpoint`. Requests are made on `runtime`.
    ///
    /// # Errors
    /// When the exporter cannot be made.
    pub fn begin(runtime: Handle, endpoint: &str, identity: &str) -> Result<Self, TracesError> {
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector { http, runtime })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(ANSWER_MAX)
            .build()?;
        let resource = Resource::builder()
            .with_service_name("redoubt-operator")
            .with_attributes([
                opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                opentelemetry::KeyValue::new("service.instance.id", identity.to_owned()),
            ])
            .build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// Takes the spans of [`TARGET`] out of what is traced.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.0.tracer("redoubt-operator");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_SPANS) {
            error!(%error, "the last traces are not sent");
        }
    }
}

/// The way to the collector. The exporter waits on a thread of its own, so the requests are made by the runtime.
struct Collector {
    http: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
}

impl fmt::Debug for Collector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Collector")
    }
}

impl HttpClient for Collector {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> BoxFuture<'f, Result<Response<Bytes>, HttpError>>
    where
        's: 'f,
        Self: 'f,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let exchange = async {
                let (head, body) = http.request(request.map(Full::new)).await?.into_parts();
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
                Ok::<_, HttpError>(Response::from_parts(head, body))
            };
            timeout(ANSWER_MAX, exchange).await?
        });
        Box::pin(async move { sent.await? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_sent_where_the_environment_says_so() {
        let check = |given: &[(&str, &str)]| {
            endpoint(|name| {
                given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
            .map_err(|error| error.to_string())
        };
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Ok(None));
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.monitoring:4318/");
        assert_eq!(check(&[all]), Ok(Some("http://collector.monitoring:4318/v1/traces".to_owned())));
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://10.0.0.1:4318/spans");
        assert_eq!(check(&[all, own]), Ok(Some("http://10.0.0.1:4318/spans".to_owned())));
        for bad in ["https://collector:4318", "collector:4318", "http://", "grpc://collector", "/v1/traces"] {
            let error = check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", bad)]).unwrap_err();
            assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && error.contains("plain HTTP"), "{error}");
        }
    }
}
