//! The metrics as a scraper gets them, read by Prometheus' own parser.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use kube::runtime::reflector::ObjectRef;
use redoubt_crds::Agent;
use redoubt_metrics::{Kind, Metric, Values, operator, process};
use redoubt_operator::lead::Fence;
use redoubt_operator::metrics::{self, Metrics, Visited};
use redoubt_operator::stores;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub fn e2e() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e")
}

/// The interpreter with the official clients.
pub fn python() -> String {
    let made = Command::new(e2e().join("venv")).stderr(Stdio::inherit()).output().unwrap();
    assert!(made.status.success(), "e2e/venv failed; it says why above");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Families of an exposition, by name, as Prometheus' own parser for Python reads them; or why it does not.
fn parsed(text: &str) -> Result<BTreeMap<String, Value>, String> {
    let mut child = Command::new(python())
        .arg(e2e().join("tests/referees/openmetrics.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    Ok(families.into_iter().map(|family| (family["name"].as_str().unwrap().to_owned(), family)).collect())
}

/// Head and body of an answer.
async fn get(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: operator\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Metrics of an operator that knows nothing, whose API server is not there.
async fn served() -> (Arc<Metrics>, Arc<stores::World>, SocketAddr) {
    let (metrics, exposition) = Metrics::new();
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    let world = stores::watch(&kube::Client::try_from(nowhere).unwrap(), metrics.clone());
    metrics.know(&world, &Fence::default());
    let address = metrics::serve(([127, 0, 0, 1], 0).into(), exposition).await.unwrap();
    (metrics, world, address)
}

/// What is wrong with a family beside the list's entry.
fn faults(metric: &Metric, family: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("{}: {what}", metric.name));
        }
    };
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
        Kind::Info => "info",
    };
    must(family["type"] == kind, format!("type {}", family["type"]));
    must(
        family["unit"] == metric.unit.map_or("", redoubt_metrics::Unit::as_str),
        format!("unit {}", family["unit"]),
    );
    must(family["help"] == metric.text(), format!("help {}", family["help"]));
    for sample in family["samples"].as_array().unwrap() {
        let labels = sample["labels"].as_object().unwrap();
        let own: BTreeSet<_> = labels.keys().filter(|name| *name != "le").map(String::as_str).collect();
        must(own == metric.labels.iter().map(|(name, _)| *name).collect(), format!("labels {own:?}"));
        for (name, values) in metric.labels {
            if let (Values::Of(values), Some(value)) = (values, labels.get(*name).and_then(Value::as_str)) {
                must(values.contains(&value), format!("{name}={value}"));
            }
        }
    }
    faults
}

#[tokio::test]
async fn the_exposition_is_openmetrics_and_has_just_what_the_list_says() {
    let (metrics, _world, address) = served().await;
    let reference = ObjectRef::<Agent>::new("helper").within("team");
    metrics.queued(&reference);
    metrics.visit(reference, async { Ok::<_, Visited>(()) }, |visited| *visited).await.unwrap();
    metrics.written(&Method::PATCH, Ok(StatusCode::OK), Duration::from_millis(4));
    let (head, text) = get(address, "GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(!text.contains("helper") && !text.contains("team"), "nothing is told of one Agent");
    let families = parsed(&text).unwrap();
    let listed: BTreeMap<_, _> =
        [operator::ALL, process::ALL].concat().into_iter().map(|metric| (metric.family(), metric)).collect();
    // Of no Agent there is nothing to tell.
    let expected: BTreeSet<_> = listed.keys().filter(|name| *name != "redoubt_operator_agents").collect();
    assert_eq!(families.keys().collect::<BTreeSet<_>>(), expected);
    let faults: Vec<_> = families.iter().flat_map(|(name, family)| faults(listed[name], family)).collect();
    assert_eq!(faults, Vec::<String>::new());
    let samples = |family: &str| families[family]["samples"].as_array().unwrap().clone();
    assert!(samples("process_resident_memory_bytes")[0]["value"].as_f64().unwrap() > 1e6);
    let counted =
        samples("redoubt_operator_visits").iter().map(|it| it["value"].as_f64().unwrap()).sum::<f64>();
    assert_eq!(counted, 1.0);
    // The parser itself refuses what is none.
    assert!(parsed(&text.replace("# EOF\n", "")).is_err(), "without its end");
    assert!(parsed(&text.replace(" gauge\n", " counter\n")).is_err(), "a counter without its suffix");
}

#[tokio::test]
async fn watches_that_fail_are_counted() {
    let (_metrics, _world, address) = served().await;
    let end = std::time::Instant::now() + Duration::from_secs(120);
    loop {
        let (_, text) = get(address, "GET", "/metrics").await;
        let failures = text.lines().filter(|line| line.starts_with("redoubt_operator_watch_failures_total{"));
        let failed = failures.filter(|line| !line.ends_with("} 0")).count();
        if failed == operator::WATCHED.len() - 1 {
            return;
        }
        assert!(std::time::Instant::now() < end, "{failed} kinds have failed:\n{text}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let (_metrics, _world, address) = served().await;
    for (method, path) in
        [("GET", "/"), ("GET", "/metrics/"), ("POST", "/metrics"), ("GET", "/healthz"), ("GET", "/debug")]
    {
        let (head, body) = get(address, method, path).await;
        assert!(head.starts_with("http/1.1 404"), "{method} {path}: {head}");
        assert_eq!(body, "not found\n");
    }
}
