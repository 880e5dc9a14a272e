//! The chart as Helm renders it, without a cluster: values that are good and values that its schema refuses, and what every
//! pod of it must be. Needs `e2e/cluster/build helm` once.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn helm() -> PathBuf {
    let cache = std::env::var_os("REDOUBT_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/redoubt")
    });
    let path = cache.join("bin/helm");
    assert!(path.exists(), "{} is missing: run e2e/cluster/build helm", path.display());
    path
}

fn image(name: &str) -> String {
    format!("registry.example/redoubt/{name}@sha256:{}", "a".repeat(64))
}

/// What everyone has to give.
fn required() -> Value {
    json!({"image": image("operator"), "isolationClass": {"images":
        {"egress": image("egress"), "tools": image("tools"), "agent": image("agent")}}})
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// The objects, or what Helm says against the values.
fn render(namespace: &str, values: &Value) -> Result<Vec<Value>, String> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/redoubt");
    let folder = std::env::temp_dir().join(format!("redoubt-chart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let id = std::thread::current().name().unwrap_or_default().replace("::", "-");
    let file = folder.join(format!("{id}.json"));
    std::fs::write(&file, values.to_string()).unwrap();
    let output = Command::new(helm())
        .args(["template", "redoubt", "--namespace", namespace, "--skip-crds", "--kube-version", "1.33.0"])
        .arg("--values")
        .args([&file, &chart])
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = text.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    Ok(documents.filter(Value::is_object).collect())
}

fn with(more: &Value) -> Result<Vec<Value>, String> {
    let mut values = required();
    merge(&mut values, more);
    render("redoubt-system", &values)
}

fn names(objects: &[Value], kind: &str) -> Vec<String> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The specs of all pods, of their own or in a template.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let of = |object: &'_ Value| object["kind"] == "Pod";
    let templates = objects.iter().filter_map(|object| object.pointer("/spec/template/spec"));
    objects.iter().filter(|object| of(object)).map(|object| &object["spec"]).chain(templates).collect()
}

/// What Pod Security "restricted" (Kubernetes 1.33) says against a pod, and an image that is not given by digest.
fn faults(pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        must(pod[field] != true, field.to_owned());
    }
    let context = &pod["securityContext"];
    must(context["runAsNonRoot"] == true, "runAsNonRoot".to_owned());
    must(context["runAsUser"] != 0, "runAsUser".to_owned());
    must(context["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile".to_owned());
    let volumes = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"];
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let fields = volume.as_object().unwrap();
        must(fields.keys().all(|key| key == "name" || volumes.contains(&key.as_str())), format!("{volume}"));
    }
    let lists = ["initContainers", "containers"].map(|list| pod[list].as_array());
    let mut some = false;
    for container in lists.into_iter().flatten().flatten() {
        some = true;
        let (name, own) = (&container["name"], &container["securityContext"]);
        must(own["allowPrivilegeEscalation"] == false, format!("{name}: allowPrivilegeEscalation"));
        must(own["privileged"] != true, format!("{name}: privileged"));
        must(own["capabilities"]["drop"] == json!(["ALL"]), format!("{name}: capabilities.drop"));
        must(own["capabilities"]["add"].is_null(), format!("{name}: capabilities.add"));
        must(own["runAsUser"] != 0 && own["runAsNonRoot"] != false, format!("{name}: root"));
        must(own["readOnlyRootFilesystem"] == true, format!("{name}: readOnlyRootFilesystem"));
        must(own["seccompProfile"]["type"] != "Unconfined", format!("{name}: seccompProfile"));
        let by_digest = container["image"]
            .as_str()
            .is_some_and(|image| image.split_once("@sha256:").is_some_and(|(_, digest)| digest.len() == 64));
        must(by_digest, format!("{name}: image"));
        must(container["resources"]["limits"]["memory"].is_string(), format!("{name}: no memory limit"));
    }
    must(some, "no container".to_owned());
    faults
}

#[test]
fn good_values_are_rendered_and_every_pod_is_restricted_and_by_digest() {
    let good = [
        json!({}),
        json!({"replicas": 1}),
        json!({"replicas": 3, "podDisruptionBudget": {"enabled": false}}),
        json!({"roles": {"aggregate": false}}),
        json!({"isolationClass": {"create": false, "images": null}}),
        json!({"isolationClass": {"name": "kata-clh", "default": false, "runtimeClassName": "kata-clh"}}),
        json!({"networkPolicy": {"create": false}}),
        json!({"networkPolicy": {"scrapers": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}}),
        json!({"networkPolicy": {"apiServer": {"ports": [6443], "cidrs": ["10.96.0.1/32", "fd00::1/128"]}}}),
        json!({"metrics": {"podMonitor": {"enabled": true, "interval": "15s", "labels": {"release": "prometheus"}}}}),
        json!({"traces": {"endpoint": "http://collector.monitoring:4318"}}),
        json!({"metrics": {"agentScrapers": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}),
        json!({"metrics": {"rules": {"enabled": true, "labels": {"release": "prometheus"}}}}),
        json!({"tolerations": [{"key": "platform", "operator": "Exists", "effect": "NoSchedule"}]}),
        json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}),
        json!({"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}}),
        json!({"log": "debug,kube=warn"}),
        json!({"signingKey": {"rotation": "2026-11"}}),
        json!({"global": {"of": "a parent chart"}}),
        json!({"image": format!("localhost:5000/r:1.0@sha256:{}", "0".repeat(64))}),
    ];
    assert!(good.len() >= 12);
    for more in &good {
        let objects = with(more).unwrap_or_else(|error| panic!("{more}: {error}"));
        let pods = pods(&objects);
        assert_eq!(pods.len(), 2, "the operator and the check: {more}");
        for pod in pods {
            assert_eq!(faults(pod), Vec::<String>::new(), "{more}");
        }
        assert_eq!(names(&objects, "Deployment"), ["redoubt-operator"]);
        let bindings = names(&objects, "ValidatingAdmissionPolicyBinding");
        assert_eq!(bindings, names(&objects, "ValidatingAdmissionPolicy"), "each guard is bound");
        assert!(bindings.len() >= 12);
    }
}

#[test]
fn values_say_what_is_installed() {
    let class = |more: &Value| names(&with(more).unwrap(), "IsolationClass");
    assert_eq!(class(&json!({})), ["kata"]);
    assert!(class(&json!({"isolationClass": {"create": false}})).is_empty());
    let policy = |more: &Value| names(&with(more).unwrap(), "NetworkPolicy");
    assert_eq!(policy(&json!({})), ["redoubt-operator"]);
    assert!(policy(&json!({"networkPolicy": {"create": false}})).is_empty());
    for aggregate in [true, false] {
        let objects = with(&json!({"roles": {"aggregate": aggregate}})).unwrap();
        let label = |role: &str| {
            let name = format!("redoubt-{role}");
            let found =
                objects.iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name.as_str());
            let key = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
            found.unwrap()["metadata"]["labels"].get(key).is_some()
        };
        assert_eq!(["view", "edit", "admin"].map(label), [aggregate; 3]);
        assert_eq!(["platform-viewer", "platform-user", "platform-admin"].map(label), [false; 3]);
    }
    let asked = |more: &Value| {
        let objects = with(more).unwrap();
        let secret = objects.iter().find(|object| object["kind"] == "Secret").unwrap();
        assert!(secret["data"].is_null() && secret["stringData"].is_null(), "the operator's alone");
        secret["metadata"]["annotations"]["redoubt.dev/rotate-key"].clone()
    };
    // As with --reuse-values of a release that had no such value.
    for none in [json!({}), json!({"signingKey": {"rotation": ""}}), json!({"signingKey": null})] {
        assert_eq!(asked(&none), Value::Null, "{none}");
    }
    assert_eq!(asked(&json!({"signingKey": {"rotation": "2026-11"}})), "2026-11");
    let objects =
        with(&json!({"networkPolicy": {"apiServer": {"ports": [6443], "cidrs": ["10.0.0.1/32"]}}})).unwrap();
    let policy = objects.iter().find(|object| object["kind"] == "NetworkPolicy").unwrap();
    let rule =
        json!({"ports": [{"protocol": "TCP", "port": 6443}], "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]});
    assert_eq!(policy["spec"]["egress"][1], rule);
}

fn of<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let found = objects.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    assert!(found.is_some(), "no {kind} {name}");
    found.unwrap()
}

#[test]
fn nobody_reaches_the_metrics_but_who_is_listed() {
    let ingress = |more: &Value| {
        let objects = with(more).unwrap();
        of(&objects, "NetworkPolicy", "redoubt-operator")["spec"]["ingress"].as_array().unwrap().clone()
    };
    let port = |name: &str| json!([{"protocol": "TCP", "port": name}]);
    assert_eq!(ingress(&json!({})), [json!({"ports": port("health")}), json!({"ports": port("policy")})]);
    let peer = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}});
    let opened = ingress(&json!({"networkPolicy": {"scrapers": [peer]}}));
    assert_eq!(opened[1], json!({"ports": port("metrics"), "from": [peer]}));
    assert_eq!(opened.len(), 3);
}

#[test]
fn traces_go_to_the_collector_that_is_named_and_nowhere_else() {
    let check = |more: &Value, variable: Value, egress: usize| {
        let objects = with(more).unwrap();
        let pods = pods(&objects);
        let operator = pods.iter().find(|pod| pod["containers"][0]["name"] == "operator").unwrap();
        let environment = operator["containers"][0]["env"].as_array().unwrap();
        let found = environment.iter().find(|it| it["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(found.map_or(Value::Null, |it| it["value"].clone()), variable);
        let rules = of(&objects, "NetworkPolicy", "redoubt-operator")["spec"]["egress"].as_array().unwrap();
        assert_eq!(rules.len(), egress, "{rules:?}");
        rules[0]["ports"].clone()
    };
    check(&json!({}), Value::Null, 2);
    let endpoint = "http://collector.monitoring:4318";
    let ports = check(&json!({"traces": {"endpoint": endpoint}}), endpoint.into(), 3);
    assert_eq!(ports, json!([{"protocol": "TCP", "port": 4318}]));
}

#[test]
fn what_prometheus_is_given() {
    let plain = with(&json!({})).unwrap();
    let service = of(&plain, "Service", "redoubt-metrics");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "metrics");
    let pod = pods(&plain).into_iter().find(|pod| pod["containers"][0]["name"] == "operator").unwrap();
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let port = ports.iter().find(|port| port["name"] == "metrics").unwrap();
    assert_eq!(port["containerPort"], redoubt_operator::metrics::PORT);
    assert_eq!(service["spec"]["ports"][0]["port"], redoubt_operator::metrics::PORT);
    for kind in ["PodMonitor", "PrometheusRule"] {
        assert!(names(&plain, kind).is_empty(), "not unless asked for: {kind}");
    }
    let peers = json!([{"namespaceSelector": {"matchLabels": {"a": "it's \"b\""}}}]);
    let arguments = |objects: &[Value]| {
        let pods = pods(objects);
        let operator = pods.iter().find(|pod| pod["containers"][0]["name"] == "operator").unwrap();
        operator["containers"][0]["args"].as_array().unwrap().clone()
    };
    let scrapers = |objects: &[Value]| {
        let all = arguments(objects);
        let given = all.iter().find_map(|it| it.as_str().unwrap().strip_prefix("--agent-scrapers="));
        given.map(|text| redoubt_operator::metrics::scrapers(text).unwrap().0)
    };
    assert_eq!(scrapers(&plain), None);
    let opened =
        with(&json!({"metrics": {"agentScrapers": peers, "podMonitor": {"enabled": true}}})).unwrap();
    assert_eq!(serde_json::to_value(scrapers(&opened).unwrap()).unwrap(), peers);
    assert_eq!(names(&opened, "PodMonitor"), ["redoubt-operator", "redoubt-agents"]);
    let labels = json!({"release": "prometheus"});
    let objects = with(&json!({"metrics": {"podMonitor": {"enabled": true, "labels": labels},
        "rules": {"enabled": true, "labels": labels}}}))
    .unwrap();
    let monitor = of(&objects, "PodMonitor", "redoubt-operator");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["spec"]["selector"]);
    let rules = of(&objects, "PrometheusRule", "redoubt");
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/redoubt/files/alerts.yaml"),
    )
    .unwrap();
    assert_eq!(rules["spec"], serde_saphyr::from_str::<Value>(&text).unwrap(), "the file as it is");
    for object in [monitor, rules] {
        assert_eq!(object["metadata"]["labels"]["release"], "prometheus");
    }
}

#[test]
fn values_that_are_mistyped_or_unsafe_are_refused_by_name() {
    let bad = [
        (json!({"image": ""}), "image"),
        (json!({"image": "registry.example/operator:v1"}), "image"),
        (json!({"image": format!("registry.example/operator@sha256:{}", "A".repeat(64))}), "image"),
        (json!({"imagee": "x"}), "imagee"),
        (json!({"replicas": 0}), "replicas"),
        (json!({"replicas": "2"}), "replicas"),
        (json!({"replicas": 1, "podDisruptionBudget": {"enabled": true}}), "podDisruptionBudget"),
        (json!({"isolationClass": {"images": {"agent": "registry.example/agent:latest"}}}), "images/agent"),
        (json!({"isolationClass": {"images": {"brain": image("agent")}}}), "brain"),
        (json!({"isolationClass": {"runtimeClassName": ""}}), "runtimeClassName"),
        (json!({"isolationClass": {"default": "yes"}}), "default"),
        (json!({"isolationClass": {"runtimeClass": "kata-qemu"}}), "runtimeClass"),
        (json!({"roles": {"aggregate": "false"}}), "aggregate"),
        (json!({"roles": {"aggregated": false}}), "aggregated"),
        (json!({"networkPolicy": {"apiServer": {"ports": []}}}), "ports"),
        (json!({"networkPolicy": {"apiServer": {"ports": [0]}}}), "ports"),
        (json!({"networkPolicy": {"apiServer": {"cidrs": ["kubernetes.default"]}}}), "cidrs"),
        (json!({"networkPolicy": {"scrapers": [{}]}}), "scrapers"),
        (json!({"metrics": {"podMonitor": {"enabled": "yes"}}}), "enabled"),
        (json!({"metrics": {"podMonitor": {"interval": "soon"}}}), "interval"),
        (json!({"metrics": {"rules": {"labels": {"a": 1}}}}), "labels"),
        (json!({"metrics": {"agentScrapers": [{"namespace": "monitoring"}]}}), "agentScrapers"),
        (json!({"traces": {"endpoint": "https://collector:4318"}}), "endpoint"),
        (json!({"traces": {"endpoint": "http://collector"}}), "endpoint"),
        (json!({"metrics": {"serviceMonitor": {"enabled": true}}}), "serviceMonitor"),
        (json!({"resources": {"limit": {"memory": "1Gi"}}}), "limit"),
        (json!({"resources": {"limits": {"memory": "1 GB"}}}), "memory"),
        (json!({"tolerations": [{"effects": "NoSchedule"}]}), "effects"),
        (json!({"log": "info\n--namespace"}), "log"),
        (json!({"signingKey": {"rotation": 2026}}), "rotation"),
        (json!({"signingKey": {"rotation": "x".repeat(254)}}), "rotation"),
    ];
    for (more, field) in &bad {
        let error = with(more).map(|_| ()).expect_err(&format!("{more} was rendered"));
        assert!(error.contains(field), "{more}: {error}");
    }
    let error = render("elsewhere", &required()).expect_err("another namespace");
    assert!(error.contains("install into the namespace redoubt-system"), "{error}");
}

/// The check itself sees what it is there for.
#[test]
fn a_pod_that_is_not_restricted_is_noticed() {
    let objects = with(&json!({})).unwrap();
    let good = pods(&objects)[0].clone();
    let spoilt = [
        ("/hostNetwork", json!(true)),
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/runAsUser", json!(0)),
        ("/securityContext/seccompProfile", json!({"type": "Unconfined"})),
        ("/volumes", json!([{"name": "host", "hostPath": {"path": "/"}}])),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/containers/0/securityContext/privileged", json!(true)),
        ("/containers/0/securityContext/capabilities", json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})),
        ("/containers/0/securityContext/runAsUser", json!(0)),
        ("/containers/0/image", json!("registry.example/operator:v1")),
        ("/containers/0/resources", json!({})),
        ("/containers", json!([])),
    ];
    for (path, value) in spoilt {
        let mut pod = good.clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        assert_eq!(faults(&pod).len(), 1, "{path}");
    }
}
