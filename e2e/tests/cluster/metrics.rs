//! The metrics of the running operator, scraped from each replica and read by Prometheus' own parser.

use std::collections::BTreeMap;

use redoubt_e2e::cluster::{Cluster, Team};
use serde_json::{Value, json};

use super::chart::{Restored, chart, helm, revision, rolled_out};
use super::hostile::{EGRESS, get, hostile_team, order, raw};
use super::{cluster, until};

const PORT: u16 = 8082;
const FETCH: &str = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode(), end='')";

/// The replicas: name and address of each pod.
fn replicas(cluster: &Cluster) -> Vec<(String, String)> {
    let selector = "app.kubernetes.io/component=operator";
    let pods = cluster
        .kubectl(&[
            "get",
            "pods",
            "-n",
            "redoubt-system",
            "-l",
            selector,
            "--field-selector=status.phase=Running",
            "-o",
            "json",
        ])
        .expect("the replicas");
    let pods: Value = serde_json::from_str(&pods.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let each = pods["items"].as_array().expect("a list").iter();
    each.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"])))
        .collect()
}

fn scrape(cluster: &Cluster, pod: &str) -> String {
    let path = format!("/api/v1/namespaces/redoubt-system/pods/{pod}:{PORT}/proxy/metrics");
    cluster.kubectl(&["get", "--raw", &path]).expect("the metrics").stdout
}

/// Every sample, by name with labels in order.
struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn read(cluster: &Cluster, text: &str) -> Self {
        let here = env!("CARGO_MANIFEST_DIR");
        let python = cluster.run(&format!("{here}/venv"), &[], "").expect("the venv").stdout;
        let script = format!("{here}/tests/referees/openmetrics.py");
        let parsed = cluster.run(python.trim(), &[&script], text).expect("OpenMetrics");
        let families: Vec<Value> = serde_json::from_str(&parsed.stdout).expect("JSON");
        let samples = families.iter().flat_map(|family| family["samples"].as_array().expect("samples"));
        let named = samples.map(|sample| {
            let labels: BTreeMap<String, String> =
                serde_json::from_value(sample["labels"].clone()).expect("labels");
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let name = sample["name"].as_str().expect("a name");
            (
                format!("{name} {}", labels.join(",")).trim_end().to_owned(),
                sample["value"].as_f64().expect("a number"),
            )
        });
        Self(named.collect())
    }

    fn of(cluster: &Cluster, pod: &str) -> Self {
        Self::read(cluster, &scrape(cluster, pod))
    }

    fn one(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0.keys()))
    }

    fn sum(&self, name: &str, of: &str) -> f64 {
        let wanted = |(key, _): &(&String, &f64)| {
            key.split(' ').next() == Some(name) && key.split([' ', ',']).any(|label| label == of)
        };
        self.0.iter().filter(wanted).map(|(_, value)| value).sum()
    }
}

/// How many Agents there are, and how many are ready, as kubectl tells.
fn agents(cluster: &Cluster) -> (usize, usize) {
    let listed = cluster.kubectl(&["get", "agents.redoubt.dev", "-A", "-o", "json"]).expect("agents");
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let all = listed["items"].as_array().expect("a list");
    let ready = |agent: &&Value| {
        let conditions = agent["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    (all.len(), all.iter().filter(ready).count())
}

#[test]
fn metrics_tell_what_an_agent_made_the_operator_do() {
    let cluster = cluster();
    let pods = replicas(&cluster);
    assert!(pods.len() >= 2, "{pods:?}");
    let before: BTreeMap<_, _> = pods.iter().map(|(pod, _)| (pod, Samples::of(&cluster, pod))).collect();
    let leads = |samples: &Samples| samples.one("redoubt_operator_leader") == 1.0;
    let leaders: Vec<_> = before.iter().filter(|(_, samples)| leads(samples)).map(|(pod, _)| *pod).collect();
    let [leader] = leaders.as_slice() else { panic!("one replica leads: {leaders:?}") };

    let team = Team::with_agent(&cluster, "metrics-move").expect("the team");
    cluster.wait_ready("metrics-move", "helper").expect("ready");
    until("every replica tells as many Agents as there are, and hears their sidecars", 120, || {
        pods.iter().all(|(pod, _)| {
            let now = Samples::of(&cluster, pod);
            let told = |status: &str| {
                let of = now.0.iter().filter(|(key, _)| {
                    key.starts_with("redoubt_operator_agents condition=Ready,") && key.ends_with(status)
                });
                of.map(|(_, value)| value).sum::<f64>()
            };
            let (all, ready) = agents(&cluster);
            told("") == all as f64
                && told("status=True") == ready as f64
                && now.one("redoubt_operator_policy_streams") >= 1.0
                && now.one("redoubt_operator_sidecars policy=current") >= 1.0
                && now.one("redoubt_operator_policy_unacknowledged_age_seconds") == 0.0
        })
    });

    let text = scrape(&cluster, leader);
    let after = Samples::read(&cluster, &text);
    let rose = |name: &str, least: f64| {
        let (before, after) = (before[leader].one(name), after.one(name));
        assert!(after >= before + least, "{name}: {before}, then {after}");
    };
    rose("redoubt_operator_visits_total kind=Agent,result=done", 2.0);
    rose("redoubt_operator_visits_total kind=SecretBinding,result=done", 1.0);
    rose("redoubt_operator_api_writes_total result=done,verb=create", 1.0);
    rose("redoubt_operator_api_writes_total result=done,verb=patch", 4.0);
    rose("redoubt_operator_policy_stream_calls_total result=opened", 1.0);
    rose("redoubt_operator_lease_writes_total result=done", 1.0);
    assert!(after.one("redoubt_operator_visit_duration_seconds_count kind=Agent") >= 2.0);
    assert!(after.one("redoubt_operator_queue_wait_seconds_count kind=Agent") >= 1.0);
    assert!(after.one("redoubt_operator_api_silence_seconds") < 60.0);
    assert!(after.sum("redoubt_operator_objects", "kind=Tool") >= 1.0);
    let (followers, _): (Vec<_>, Vec<_>) = pods.iter().partition(|(pod, _)| pod != *leader);
    for (pod, _) in followers {
        let written = Samples::of(&cluster, pod).sum("redoubt_operator_api_writes_total", "result=done");
        assert_eq!(
            written,
            before[pod].sum("redoubt_operator_api_writes_total", "result=done"),
            "{pod} follows"
        );
    }
    for name in ["metrics-move", "helper", team.credential.as_str()] {
        assert!(!text.to_lowercase().contains(name), "{name:?} is told:\n{text}");
    }
}

#[test]
fn an_agents_process_cannot_reach_the_metrics() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "metrics-hostile");
    let pods = replicas(&cluster);
    let (pod, address) = &pods[0];
    assert!(scrape(&cluster, pod).ends_with("# EOF\n"), "they are there");
    let outcome = order(&team, &json!({"do": "connect", "address": format!("{address}:{PORT}")}));
    assert_eq!(outcome["succeeded"], false, "{outcome}");
    for url in [
        format!("http://{address}:{PORT}/metrics"),
        format!("http://redoubt-metrics.redoubt-system.svc:{PORT}/metrics"),
    ] {
        let answer = raw(&team, EGRESS, &get(&url, ""));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{url}: {answer}");
        assert!(!answer.contains("redoubt_operator_"), "{url}: {answer}");
    }
}

/// As the platform team turns it on: with the chart. Pods are replaced, and put back at the end. On the local cluster only, as
/// root: it scrapes from the node, and tries from the pod's network.
#[test]
fn a_sidecar_is_scraped_from_outside_and_not_from_its_own_pod() {
    let cluster = cluster();
    let team = hostile_team(&cluster, "metrics-sidecar");
    let pod = "pod/redoubt-agent-helper";
    let get_pod = || cluster.get("metrics-sidecar", pod).expect("its pod");
    let serves = |pod: &Value| pod["spec"]["initContainers"][0]["args"].to_string().contains("--metrics");
    assert!(!serves(&get_pod()), "not unless asked for");

    let restored = Restored(&cluster, revision(&cluster));
    let peers = "metrics.agentScrapers=[{\"namespaceSelector\":{\"matchLabels\":{\"kubernetes.io/metadata.name\":\"monitoring\"}}}]";
    let arguments = ["upgrade", "redoubt", &chart(), "--reuse-values", "--skip-crds", "--set-json", peers];
    helm(&cluster, &arguments).expect("upgraded");
    rolled_out(&cluster);
    until("the pod is replaced by one that serves metrics", 180, || {
        cluster.get("metrics-sidecar", pod).is_ok_and(|pod| serves(&pod))
    });
    cluster.wait_ready("metrics-sidecar", "helper").expect("ready");
    let policy = cluster.get("metrics-sidecar", "networkpolicy/redoubt-agent-helper").expect("its policy");
    let opened = policy["spec"]["ingress"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|rule| rule["ports"][0]["port"] == PORT);
    let from = &opened.expect("a rule for the metrics")["from"];
    assert_eq!(from[0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], "monitoring");

    // Something to be counted.
    let answer = raw(&team, EGRESS, &get("https://exfiltration.example/drop", ""));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let address = get_pod()["status"]["podIP"].as_str().expect("an address").to_owned();
    // The guards let nobody in through the API server; a scraper comes over the network, as the node does here.
    let scrape = || {
        let node = format!("{}/cluster/node", env!("CARGO_MANIFEST_DIR"));
        let url = format!("http://{address}:{PORT}/metrics");
        cluster.run(&node, &["python3", "-c", FETCH, &url], "").expect("the sidecar's metrics").stdout
    };
    until("the refusal is counted, and a stream of each replica", 60, || {
        let now = Samples::read(&cluster, &scrape());
        now.sum("redoubt_egress_refusals_total", "reason=NotDeclared") >= 1.0
            && now.one("redoubt_egress_policy_streams") >= 2.0
            && now.one("redoubt_egress_policy_stale") == 0.0
            && now.one("redoubt_egress_audit_writable") == 1.0
    });
    let text = scrape();
    for name in ["exfiltration", "metrics-sidecar", "helper", "redoubt-e2e", team.credential.as_str()] {
        assert!(!text.contains(name), "{name:?} is told:\n{text}");
    }
    let containers = cluster.containers("metrics-sidecar", "helper").expect("its containers");
    let sidecar = containers.iter().find(|container| container.name == "egress").expect("the sidecar");
    for own in ["127.0.0.1", address.as_str()] {
        let outcome = order(&team, &json!({"do": "connect", "address": format!("{own}:{PORT}")}));
        assert_eq!(outcome["succeeded"], false, "{own}: {outcome}");
        let url = format!("http://{own}:{PORT}/metrics");
        let answer = raw(&team, EGRESS, &get(&url, ""));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{own}: {answer}");
        assert!(!answer.contains("redoubt_egress_"), "{own}: {answer}");
        // And if there were no jail: a process of the pod's network with nothing in its way.
        let pid = sidecar.pids.first().expect("a process").to_string();
        let fetched = cluster.run("nsenter", &["--target", &pid, "--net", "python3", "-c", FETCH, &url], "");
        let failed = fetched.expect_err("closed without a word");
        assert!(
            failed.stderr.contains("RemoteDisconnected") || failed.stderr.contains("ConnectionReset"),
            "{failed}"
        );
    }
    drop(restored);
    until("the pod is as it was", 180, || cluster.get("metrics-sidecar", pod).is_ok_and(|pod| !serves(&pod)));
    drop(team);
}
