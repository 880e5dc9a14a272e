//! What the sidecar counts, and where the platform team's Prometheus asks for it. The list of all metrics is
//! `redoubt_metrics::egress`.
//!
//! Counts come from the audit log's records, so the two cannot tell different things. The agent's containers are in the
//! same network namespace; a connection from any address of this pod is closed without a word, so that they cannot learn
//! from it what the sidecar does.

use std::convert::Infallible;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use redoubt_metrics::egress::{self as list, OTHER};
use redoubt_metrics::{Counters, Exposition, Histograms, Sample};
use tokio::net::TcpListener;

use crate::audit::Record;
use crate::body::Body;
use crate::listen::pause;
use crate::peer::Peer;
use crate::refuse::plain;
use crate::shared::Shared;
use crate::strangers::Strangers;

/// Most connections at once. A scraper needs one.
const CONNECTIONS: usize = 16;
/// How long one may take.
const LASTS: Duration = Duration::from_secs(30);

/// Whether an address is one of this pod.
pub type IsOwn = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// What was counted so far.
pub(crate) struct Metrics {
    records: Counters<2>,
    refusals: Counters<1>,
    request_duration: Histograms<0>,
    sent: Counters<0>,
    received: Counters<0>,
    redactions: Counters<0>,
    shared: OnceLock<Weak<Shared>>,
}

impl Metrics {
    /// Nothing yet, and how it is exposed.
    pub(crate) fn new() -> (Arc<Self>, Exposition) {
        let mut out = Exposition::default();
        out.info(&list::BUILD, [env!("CARGO_PKG_VERSION")]);
        let metrics = Arc::new(Self {
            records: out.counters(&list::RECORDS),
            refusals: out.counters(&list::REFUSALS),
            request_duration: out.histograms(&list::REQUEST_DURATION),
            sent: out.counters(&list::SENT),
            received: out.counters(&list::RECEIVED),
            redactions: out.counters(&list::REDACTIONS),
            shared: OnceLock::new(),
        });
        let read = Arc::clone(&metrics);
        out.read(move || {
            read.shared.get().and_then(Weak::upgrade).map(|shared| state(&shared)).unwrap_or_default()
        });
        let started = SystemTime::now();
        out.read(move || redoubt_metrics::process::read(started));
        (metrics, out)
    }

    /// From now on its state can be read too.
    pub(crate) fn know(&self, shared: &Arc<Shared>) {
        let _first = self.shared.set(Arc::downgrade(shared));
    }

    /// A record is written.
    pub(crate) fn recorded(&self, record: &Record, took: Duration) {
        let event = known(list::EVENTS, record.event);
        self.records.add([event, known(list::DECISIONS, record.decision)]);
        if let Some(reason) = record.reason.as_deref().filter(|_| record.decision == "refuse") {
            self.refusals.add([known(list::REASONS, reason)]);
        }
        if event == "request" && record.decision == "allow" {
            self.request_duration.observe([], took);
        }
        self.sent.add_many([], record.bytes_sent.unwrap_or_default());
        self.received.add_many([], record.bytes_received.unwrap_or_default());
        self.redactions.add_many([], record.redactions.unwrap_or_default());
    }
}

/// The same text from the list, and no other.
fn known(list: &'static [&'static str], text: &str) -> &'static str {
    list.iter().find(|known| **known == text).copied().unwrap_or(OTHER)
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn state(shared: &Shared) -> Vec<Sample> {
    let one = |metric, value: f64| Sample::new(metric, Vec::new(), value);
    let flag = |holds: bool| f64::from(u8::from(holds));
    let policy = shared.policy();
    let mut samples: Vec<_> = [Peer::Agent, Peer::Tools]
        .into_iter()
        .map(|peer| {
            Sample::new(
                &list::UNDER_WAY,
                vec![known(list::PEERS, peer.name())],
                shared.under_way.count(peer) as f64,
            )
        })
        .collect();
    let missing = shared.credentials.missing(&policy);
    let reason = |refusal: &redoubt_policy::Refusal| known(list::REASONS, &refusal.reason);
    for wanted in list::REASONS {
        let count = missing.iter().filter(|refusal| reason(refusal) == *wanted).count();
        if count > 0 {
            samples.push(Sample::new(&list::CREDENTIALS_MISSING, vec![wanted], count as f64));
        }
    }
    samples.extend([
        one(&list::POLICY_SIGNED, policy.epoch as f64 / 1000.0),
        one(&list::POLICY_STALE, flag(shared.fresh.check(&policy).is_err())),
        one(&list::OPERATOR_SILENCE, shared.fresh.silence().as_secs_f64()),
        one(&list::POLICY_STREAMS, shared.fresh.streams() as f64),
        one(&list::AUDIT_WRITABLE, flag(shared.audit.is_open())),
    ]);
    samples
}

/// Whether an address is one of this machine's, as the kernel says: only such a one can be bound.
pub(crate) fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address.to_canonical(), 0)).is_ok()
}

/// Serves `/metrics` for ever, to everyone outside of this pod.
pub(crate) async fn serve(listener: TcpListener, exposition: Exposition, is_own: IsOwn) {
    let strangers = Strangers::new(CONNECTIONS);
    let exposition = Arc::new(exposition);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            pause().await;
            continue;
        };
        if is_own(peer.ip()) {
            tracing::warn!("a process of this pod asked for the metrics");
            continue;
        }
        let exposition = Arc::clone(&exposition);
        let (stranger, has_to_leave) = strangers.admit();
        tokio::spawn(async move {
            let _among = stranger;
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.method(), request.uri().path(), &exposition);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ended = connection => {}
                () = tokio::time::sleep(LASTS) => {}
                () = has_to_leave => {}
            }
        });
    }
}

fn answer(method: &Method, path: &str, exposition: &Exposition) -> Response<Body> {
    let (&Method::GET | &Method::HEAD, "/metrics") = (method, path) else {
        return plain(StatusCode::NOT_FOUND, "text/plain", "not found");
    };
    match exposition.encode() {
        Ok(text) => {
            let mut answer = plain(StatusCode::OK, "text/plain", text);
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(redoubt_metrics::CONTENT_TYPE));
            answer
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "the metrics cannot be written")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn own_addresses_are_known_from_others() {
        for own in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv4Addr::new(127, 1, 2, 3).into(),
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
        ] {
            assert!(is_own(own), "{own}");
        }
        let foreign: [IpAddr; 3] = [
            Ipv4Addr::new(192, 0, 2, 1).into(),
            Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped().into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ];
        for foreign in foreign {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn no_text_becomes_a_label() {
        let (metrics, out) = Metrics::new();
        let record = Record {
            decision: "refuse",
            reason: Some("Secret\"} 1".to_owned()),
            host: Some("host.example".to_owned()),
            tool: Some("tool-x".to_owned()),
            ..Record::new("request")
        };
        metrics.recorded(&record, Duration::from_secs(1));
        let text = out.encode().unwrap();
        assert!(text.contains("redoubt_egress_refusals_total{reason=\"other\"} 1\n"), "{text}");
        assert!(!["Secret", "host.example", "tool-x"].iter().any(|word| text.contains(word)), "{text}");
    }
}
