//! What the sidecar counts, read by Prometheus' own parser, and who may ask for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use redoubt_metrics::egress;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::support::{SECRET, Setup, World, exchange, parse};

const ASK: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async fn scraped() -> World {
    let extra = vec!["--metrics".to_owned(), "127.0.0.1:0".to_owned()];
    World::with(Setup { outside: true, extra, ..Setup::default() }).await
}

async fn scrape(world: &World) -> String {
    let mut stream = TcpStream::connect(world.metrics.unwrap()).await.unwrap();
    let answer = parse(&exchange(&mut stream, ASK).await, false).unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

/// Value of a sample; zero if it is not there.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Type, by family, as Prometheus' own parser for Python reads it.
fn families(text: &str) -> BTreeMap<String, String> {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e");
    let made = Command::new(e2e.join("venv")).stderr(Stdio::inherit()).output().unwrap();
    assert!(made.status.success(), "e2e/venv failed; it says why above");
    let mut child = Command::new(String::from_utf8(made.stdout).unwrap().trim())
        .arg(e2e.join("tests/referees/openmetrics.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    let families: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let field = |family: &Value, field: &str| family[field].as_str().unwrap().to_owned();
    families.iter().map(|family| (field(family, "name"), field(family, "type"))).collect()
}

#[tokio::test]
async fn requests_and_refusals_are_counted_and_nothing_of_them_is_told() {
    let world = scraped().await;
    assert_eq!(world.refusal("GET", "https://api.test/v1/notes", "", "").await.0, 200);
    assert_eq!(world.refusal("GET", "https://free.test/a-path", "", "").await.0, 200);
    assert_eq!(world.refusal("GET", "https://other.test/", "", "").await.1, "NotDeclared");
    assert_eq!(world.refusal("GET", "https://free.test:8443/", "", "").await.1, "PortNotAllowed");
    // A record is made when the answer has ended, which the client may see first.
    let text = loop {
        let text = scrape(&world).await;
        let requests = |decision: &str| {
            value(
                &text,
                &format!("redoubt_egress_records_total{{event=\"request\",decision=\"{decision}\"}}"),
            )
        };
        if (requests("allow"), requests("refuse")) == (2.0, 2.0) {
            break text;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(value(&text, "redoubt_egress_records_total{event=\"lease\",decision=\"allow\"}"), 1.0);
    assert_eq!(value(&text, "redoubt_egress_refusals_total{reason=\"NotDeclared\"}"), 1.0);
    assert_eq!(value(&text, "redoubt_egress_refusals_total{reason=\"PortNotAllowed\"}"), 1.0);
    assert_eq!(value(&text, "redoubt_egress_refusals_total{reason=\"other\"}"), 0.0);
    assert!(text.contains("redoubt_egress_request_duration_seconds_count"), "{text}");
    for told in [SECRET, "api.test", "free.test", "a-path", "notes", "helper", "team", "echo"] {
        assert!(!text.contains(told), "{told} is told:\n{text}");
    }
    let families = families(&text);
    let listed: BTreeSet<_> = egress::ALL.iter().map(|metric| metric.family()).collect();
    // No credential is missing.
    let expected: BTreeSet<_> =
        listed.iter().filter(|name| *name != "redoubt_egress_credentials_missing").cloned().collect();
    let found: BTreeSet<_> =
        families.keys().filter(|name| name.starts_with("redoubt_egress_")).cloned().collect();
    assert_eq!(found, expected);
    assert_eq!(families["redoubt_egress_refusals"], "counter");
}

#[tokio::test]
async fn no_process_of_the_pod_is_answered() {
    let extra = vec!["--metrics".to_owned(), "127.0.0.1:0".to_owned()];
    let world = World::with(Setup { extra, ..Setup::default() }).await;
    let mut stream = TcpStream::connect(world.metrics.unwrap()).await.unwrap();
    assert!(parse(&exchange(&mut stream, ASK).await, false).is_none(), "it is closed without a word");
    // The benign twin: the very same, from outside.
    let world = scraped().await;
    assert!(scrape(&world).await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn nothing_is_served_unless_asked_for() {
    assert_eq!(World::new().await.metrics, None);
}

/// Every reason that stands in the code is in the list, so that it does not count as something else.
#[test]
fn reasons_of_refusals_are_in_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in [root.join("src"), root.join("src/http1"), root.join("../../policies/src")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Those of the start end the process, so nobody could ask.
            if path.is_dir()
                || path.ends_with("start.rs")
                || path.ends_with("main.rs")
                || path.ends_with("health.rs")
            {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for call in ["Refused::bad(", "Refused::forbidden(", "Refused::by_pod(", "StatusCode::"] {
                for after in text.split(call).skip(1) {
                    let literal = after.split_once('"').filter(|(before, _)| {
                        before
                            .chars()
                            .all(|c| c.is_whitespace() || c.is_ascii_uppercase() || ",_".contains(c))
                    });
                    found.extend(
                        literal
                            .and_then(|(_, rest)| rest.split_once('"'))
                            .map(|(reason, _)| reason.to_owned()),
                    );
                }
            }
        }
    }
    found.retain(|text| {
        text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(char::is_alphanumeric)
    });
    assert!(found.len() > 30, "{found:?}");
    let unlisted: Vec<_> =
        found.iter().filter(|reason| !egress::REASONS.contains(&reason.as_str())).collect();
    assert!(unlisted.is_empty(), "add them to metrics/src/egress.rs: {unlisted:?}");
}
