//! Traces as a collector gets them, read with OpenTelemetry's own messages.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use kube::runtime::reflector::ObjectRef;
use redoubt_crds::Agent;
use redoubt_operator::lead::Fence;
use redoubt_operator::metrics::{Metrics, Visited};
use redoubt_operator::traces::Traces;
use serde_json::Value;
use tokio::runtime::Handle;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::layer::SubscriberExt as _;

use super::metrics::{e2e, python};

/// It ends with the test.
struct Collector(Child, Lines<BufReader<ChildStdout>>);

impl Collector {
    fn start() -> (Self, String) {
        let mut child = Command::new(python())
            .arg(e2e().join("tests/referees/otlp.py"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap();
        (Self(child, lines), format!("http://127.0.0.1:{port}/v1/traces"))
    }

    fn span(&mut self) -> Value {
        serde_json::from_str(&self.1.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Two visits, traced to `endpoint`.
async fn visits(endpoint: &str) {
    let traces = Traces::begin(Handle::current(), endpoint, "operator-0").unwrap();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let (metrics, _) = Metrics::new();
    let of = |name: &str| ObjectRef::<Agent>::new(name).within("team");
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    let reads = kube::Client::try_from(nowhere.clone()).unwrap();
    let client = Fence::default().client(&nowhere, reads, metrics.clone()).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client, "team");
    let judge = |judged: &Visited| *judged;
    async {
        let inner = async {
            // Of a library, and of a secret's kind: neither is sent.
            tracing::info_span!("other", token = "s3cr3t")
                .in_scope(|| tracing::info!(password = "s3cr3t", "said"));
            // This replica does not lead, so it is not sent; the attempt is a span all the same.
            api.delete("one", &DeleteParams::default()).await.unwrap_err();
            Ok::<_, Visited>(())
        };
        metrics.visit(of("one"), inner, judge).await.unwrap();
        metrics.visit(of("two"), async { Err::<(), _>(Visited::Stale) }, judge).await.unwrap_err();
    }
    .with_subscriber(subscriber)
    .await;
    tokio::task::spawn_blocking(move || drop(traces)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_visit_is_a_span_with_what_it_was_to_and_how_it_ended() {
    let (mut collector, endpoint) = Collector::start();
    visits(&endpoint).await;
    let write = collector.span();
    assert_eq!(
        (&write["name"], &write["attributes"]["verb"]),
        (&"write".into(), &"DELETE".into()),
        "{write}"
    );
    let mut parents = Vec::new();
    for (name, result) in [("one", "done"), ("two", "stale")] {
        let span = collector.span();
        let expected =
            serde_json::json!({"kind": "Agent", "namespace": "team", "name": name, "result": result});
        let mut attributes = span["attributes"].clone();
        attributes.as_object_mut().unwrap().retain(|key, _| expected.get(key).is_some());
        assert_eq!((&span["name"], &attributes), (&Value::from("visit"), &expected), "{span}");
        parents.push(span["id"].clone());
        assert_eq!(span["resource"]["service.name"], "redoubt-operator");
        assert_eq!(span["resource"]["service.instance.id"], "operator-0");
        assert!(!span.to_string().contains("s3cr3t"), "{span}");
    }
    assert_eq!(write["parent"], parents[0], "it is part of its visit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let begun = Instant::now();
    visits("http://127.0.0.1:9/v1/traces").await;
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "the end waits for 2 s at most, and the visits do not wait"
    );
}
