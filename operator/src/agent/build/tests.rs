use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use redoubt_crds::{LocalReference, SecretBinding, ToolKind, ToolReference, VaultConnection};
use redoubt_policy::{SigningKey, verify};
use serde_json::{Value, json};

use super::*;
use crate::agent::dereference::Dereferenced;
use crate::agent::fixtures::{agent, agent_with, object, read, signer};
use crate::agent::validate::validate;

/// An Agent with a binding and a caller.
fn full() -> Dereferenced {
    let mut read = read(agent_with("a", |agent| {
        agent.spec.secret_bindings = vec![LocalReference { name: "b".into() }];
        agent.spec.callers = vec![object(json!({ "serviceAccount": { "name": "someone" } }))];
    }));
    read.bindings.push(object::<SecretBinding>(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": { "name": "b", "namespace": "team" },
        "spec": {
            "vault": { "connectionName": "v", "kv2": { "mount": "secret", "path": "a", "key": "k" } },
            "inject": { "bearer": {} },
            "destinations": [{ "hosts": ["model.example.com"], "methods": ["POST"], "paths": ["/v1/**"] }],
            "consumers": [{ "kind": "Agent" }],
        },
    })));
    read.vaults.push(object::<VaultConnection>(json!({
        "apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "VaultConnection",
        "metadata": { "name": "v" },
        "spec": {
            "address": "https://vault.example.com:8200",
            "auth": { "kubernetes": { "mount": "kubernetes", "role": "r", "audience": "vault-audience" } },
            "grants": [{ "namespaceSelector": {}, "paths": [{ "mount": "secret", "prefix": "a" }] }],
        },
    })));
    read.egress_policies.push(object(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "EgressPolicy",
        "metadata": { "name": "e", "namespace": "team" },
        "spec": { "agentSelector": {}, "allow": [{
            "from": [{ "kind": "Agent" }], "hosts": ["model.example.com"], "methods": ["POST"], "paths": ["/**"],
        }] },
    })));
    read
}

fn built(read: Dereferenced, signer: &Signer, now: u64) -> Children<Prepared> {
    build(&validate(read).unwrap(), signer, now).unwrap()
}

fn pod(read: Dereferenced) -> Pod {
    *built(read, &signer(), 1000).pod.unwrap()
}

fn containers(spec: &PodSpec) -> Vec<&Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers).collect()
}

/// What Pod Security "restricted" (Kubernetes 1.33) asks of a pod, as far as the fields that are set go.
fn restricted(pod: &Pod) -> Vec<String> {
    let spec = serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
    let mut faults = Vec::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(field).is_some_and(|value| value != &Value::Bool(false)) {
            faults.push(field.to_owned());
        }
    }
    for volume in spec["volumes"].as_array().unwrap() {
        let kinds: Vec<_> = volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        if !kinds.iter().all(|kind| ["configMap", "emptyDir", "projected"].contains(&kind.as_str())) {
            faults.push(format!("volume {volume}"));
        }
    }
    let all = ["initContainers", "containers"].map(|key| spec[key].as_array().unwrap().clone()).concat();
    for container in all {
        let context = &container["securityContext"];
        let expected = [
            ("allowPrivilegeEscalation", json!(false)),
            ("privileged", json!(false)),
            ("runAsNonRoot", json!(true)),
            ("capabilities", json!({ "drop": ["ALL"] })),
            ("seccompProfile", json!({ "type": "RuntimeDefault" })),
            ("readOnlyRootFilesystem", json!(true)),
        ];
        for (field, value) in expected {
            if context[field] != value {
                faults.push(format!("{} {field}", container["name"]));
            }
        }
        if context["runAsUser"].as_i64().is_none_or(|uid| uid == 0) {
            faults.push(format!("{} runAsUser", container["name"]));
        }
        let ports = container["ports"].as_array().cloned().unwrap_or_default();
        if ports.iter().any(|port| port.get("hostPort").is_some()) {
            faults.push(format!("{} hostPort", container["name"]));
        }
    }
    faults
}

#[test]
fn the_pod_is_restricted() {
    assert_eq!(restricted(&pod(full())), Vec::<String>::new());
    // The check itself sees what it is there for.
    let mut open = pod(full());
    let spec = open.spec.as_mut().unwrap();
    spec.host_network = Some(true);
    spec.containers[0].security_context.as_mut().unwrap().run_as_user = Some(0);
    spec.init_containers.as_mut().unwrap()[0].security_context.as_mut().unwrap().capabilities = None;
    assert_eq!(restricted(&open).len(), 3);
}

#[test]
fn uids_images_and_kinds_of_containers() {
    let pod = pod(full());
    let spec = pod.spec.unwrap();
    let told: Vec<_> = containers(&spec)
        .iter()
        .map(|container| {
            let context = container.security_context.as_ref().unwrap();
            (
                container.name.as_str(),
                context.run_as_user.unwrap(),
                context.run_as_group.unwrap(),
                container.restart_policy.as_deref(),
                container.command.as_ref().unwrap()[0].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("egress", 65001, 65001, Some("Always"), "/redoubt-egress"),
            ("tools", 65002, 65002, Some("Always"), "/redoubt-jail"),
            ("agent", 65003, 65003, None, "/redoubt-jail"),
        ]
    );
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
    assert_eq!(spec.runtime_class_name.as_deref(), Some("kata-qemu"));
    assert_eq!(spec.automount_service_account_token, Some(false));
    assert_eq!(spec.service_account_name.as_deref(), Some("redoubt-agent-a"));
    assert_eq!((spec.share_process_namespace, spec.enable_service_links), (Some(false), Some(false)));
}

#[test]
fn nothing_in_the_environment() {
    for container in containers(&pod(full()).spec.unwrap()) {
        assert!(container.env.is_none() && container.env_from.is_none(), "{}", container.name);
    }
}

#[test]
fn each_container_sees_its_volumes_alone() {
    let check = |read: Dereferenced, name: &str, expected: &[(&str, &str, bool)]| {
        let spec = pod(read).spec.unwrap();
        let container = containers(&spec).into_iter().find(|container| container.name == name).unwrap();
        let mounts: BTreeSet<_> = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|mount| (mount.name.as_str(), mount.mount_path.as_str(), mount.read_only == Some(true)))
            .collect();
        assert_eq!(mounts, expected.iter().copied().collect(), "{name}");
    };
    let egress = [
        ("policy", "/etc/redoubt/policy", true),
        ("operator-token", "/var/run/secrets/redoubt/operator", true),
        ("egress-socket", "/run/redoubt/egress", false),
        ("agent-socket", "/run/redoubt/agent", true),
    ];
    check(read(agent("a")), "egress", &egress);
    let with_vault = [&egress[..], &[("vault-token", "/var/run/secrets/redoubt/vault", true)]].concat();
    check(full(), "egress", &with_vault);
    check(
        full(),
        "tools",
        &[
            ("policy", "/etc/redoubt/policy", true),
            ("egress-socket", "/run/redoubt/egress", true),
            ("tools-socket", "/run/redoubt/tools", false),
        ],
    );
    check(
        full(),
        "agent",
        &[
            ("agent", "/etc/redoubt/agent", true),
            ("egress-socket", "/run/redoubt/egress", true),
            ("tools-socket", "/run/redoubt/tools", true),
            ("agent-socket", "/run/redoubt/agent", false),
            ("workspace", "/workspace", false),
        ],
    );
}

#[test]
fn volumes() {
    let value = serde_json::to_value(pod(full()).spec.unwrap().volumes).unwrap();
    let find = |name: &str| {
        value.as_array().unwrap().iter().find(|volume| volume["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(
        find("vault-token")["projected"]["sources"],
        json!([{ "serviceAccountToken": {
            "audience": "vault-audience", "expirationSeconds": 600, "path": "v/token",
        } }])
    );
    assert_eq!(
        find("policy")["configMap"]["items"],
        json!([
            { "key": "policy.dsse.json", "path": "policy.dsse.json" },
            { "key": "keys.dsse.jsonl", "path": "keys.dsse.jsonl" },
        ])
    );
    assert_eq!(find("agent")["configMap"]["items"], json!([{ "key": "agent.json", "path": "agent.json" }]));
    for name in ["egress-socket", "tools-socket", "agent-socket"] {
        assert_eq!(find(name)["emptyDir"], json!({ "medium": "Memory", "sizeLimit": "1Mi" }));
    }
    let unbound = serde_json::to_string(&pod(read(agent("a"))).spec.unwrap().volumes).unwrap();
    assert!(!unbound.contains("vault-token"));
}

#[test]
fn what_must_not_be_swapped_is_a_literal_argument() {
    let signer = signer();
    let children = built(full(), &signer, 7000);
    let spec = children.pod.unwrap().spec.unwrap();
    for name in ["egress", "tools"] {
        let container = containers(&spec).into_iter().find(|container| container.name == name).unwrap();
        let args = container.args.as_ref().unwrap();
        let value = |flag: &str| {
            let at = args.iter().position(|arg| arg == flag).unwrap();
            args[at + 1].as_str()
        };
        assert_eq!(value("--policy-key"), signer.public().to_string());
        assert_eq!(value("--agent-uid"), "uid-1");
        assert_eq!(value("--agent-namespace"), "team");
        assert_eq!(value("--agent-name"), "a");
        assert_eq!(value("--min-epoch"), "7000");
    }
}

#[test]
fn the_hash_follows_the_pod_and_not_the_policy() {
    let signer = signer();
    let hash = |read: Dereferenced, now: u64| {
        let pod = built(read, &signer, now).pod.unwrap();
        pod.metadata.annotations.unwrap()[POD_HASH].clone()
    };
    let first = hash(full(), 1000);
    let changed = |change: fn(&mut Dereferenced)| {
        let mut read = full();
        change(&mut read);
        hash(read, 1000)
    };
    assert_eq!(first, hash(full(), 2000), "a later epoch");
    assert_eq!(first, changed(|read| read.egress_policies.clear()), "another policy");
    assert_ne!(first, changed(|read| read.classes[0].spec.images.egress.insert(0, 'b')), "an image");
    assert_ne!(
        first,
        changed(|read| read.agent.spec.runtime.instructions.push('b')),
        "the brain's configuration"
    );
    let other = Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    let pod = built(full(), &other, 1000).pod.unwrap();
    assert_eq!(first, pod.metadata.annotations.unwrap()[POD_HASH], "another key, which is judged by itself");
    let authority = signer.with_operator_ca(b"another");
    let pod = built(full(), &authority, 1000).pod.unwrap();
    assert_ne!(first, pod.metadata.annotations.unwrap()[POD_HASH], "another authority");
}

#[test]
fn every_child_is_named_labelled_and_owned() {
    let Children { service_account, config_map, network_policy, service, mut revision, pod } =
        built(full(), &signer(), 1);
    // There are several of it, so its own name has more behind the common one.
    let name = revision.metadata.name.take().unwrap();
    assert!(name.starts_with("redoubt-agent-a-"), "{name}");
    revision.metadata.name = Some("redoubt-agent-a".into());
    let all = [
        &service_account.metadata,
        &config_map.metadata,
        &network_policy.metadata,
        &service.as_ref().unwrap().metadata,
        &revision.metadata,
        &pod.as_ref().unwrap().metadata,
    ];
    for metadata in all {
        assert_eq!(metadata.name.as_deref(), Some("redoubt-agent-a"));
        assert_eq!(metadata.namespace.as_deref(), Some("team"));
        assert_eq!(metadata.labels.as_ref().unwrap()[names::AGENT_LABEL], "a");
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.uid.as_str(), owner.controller), ("uid-1", Some(true)));
    }
    assert_eq!(service_account.automount_service_account_token, Some(false));
}

#[test]
fn the_network_policy_and_the_service() {
    let dns = json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }] });
    let operator = json!({ "ports": [{ "port": 8444, "protocol": "TCP" }], "to": [{
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "redoubt-system" } },
        "podSelector": { "matchLabels": {
            "app.kubernetes.io/name": "redoubt", "app.kubernetes.io/component": "operator" } } }] });
    let check = |read: Dereferenced, ingress: Value, egress: Value, service: bool| {
        let children = built(read, &signer(), 1);
        let spec = serde_json::to_value(children.network_policy.spec.unwrap()).unwrap();
        assert_eq!(spec["ingress"], ingress);
        assert_eq!(spec["egress"], egress);
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(spec["podSelector"], json!({ "matchLabels": { "redoubt.dev/agent": "a" } }));
        assert_eq!(children.service.is_some(), service);
    };
    check(read(agent("a")), json!([]), json!([dns, operator]), false);
    let tcp = json!({ "ports": [{ "port": 443, "protocol": "TCP" }, { "port": 8200, "protocol": "TCP" }] });
    check(
        full(),
        json!([{ "ports": [{ "port": 8443, "protocol": "TCP" }] }]),
        json!([dns, operator, tcp]),
        true,
    );
}

#[test]
fn metrics_of_the_sidecar_are_served_to_those_who_are_listed_only() {
    let peers =
        json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]);
    let check = |scrapers: &Value, ingress: Value, served: bool| {
        let mut validated = validate(full()).unwrap();
        validated.scraped_by(&serde_json::from_value::<Vec<_>>(scrapers.clone()).unwrap());
        let children = build(&validated, &signer(), 1).unwrap();
        let spec = serde_json::to_value(children.network_policy.spec.unwrap()).unwrap();
        assert_eq!(spec["ingress"], ingress);
        let spec = serde_json::to_value(children.pod.unwrap().spec.unwrap()).unwrap();
        for container in [&spec["initContainers"][0], &spec["initContainers"][1], &spec["containers"][0]] {
            let is_sidecar = container["name"] == "egress";
            let has = |field: &str, text: &str| container[field].to_string().contains(text);
            assert_eq!(has("args", "\"--metrics\",\"0.0.0.0:8082\""), served && is_sidecar, "{container}");
            assert_eq!(has("ports", "8082"), served && is_sidecar, "{container}");
        }
    };
    let callers = json!({ "ports": [{ "port": 8443, "protocol": "TCP" }] });
    check(&json!([]), json!([callers]), false);
    let scraped = json!({ "ports": [{ "port": 8082, "protocol": "TCP" }], "from": peers });
    check(&peers, json!([callers, scraped]), true);
}

#[test]
fn the_sidecar_knows_the_operator_by_arguments_and_the_operator_it_by_a_token() {
    let signer = signer().with_operator_ca(b"certificate");
    let spec = built(full(), &signer, 1).pod.unwrap().spec.unwrap();
    let arguments = |name: &str| {
        let all = containers(&spec);
        let container = all.iter().find(|container| container.name == name).unwrap();
        container.args.clone().unwrap_or_default()
    };
    let egress = arguments("egress");
    let after = |flag: &str| egress[egress.iter().position(|it| it == flag).unwrap() + 1].clone();
    assert_eq!(after("--operator"), "redoubt-policy.redoubt-system.svc:8444");
    assert_eq!(after("--operator-ca"), "Y2VydGlmaWNhdGU=");
    assert_eq!(after("--operator-token"), "/var/run/secrets/redoubt/operator/token");
    for name in ["tools", "agent"] {
        assert!(!arguments(name).iter().any(|it| it.contains("operator")), "{name}");
    }
    let volumes = serde_json::to_value(spec.volumes.as_ref().unwrap()).unwrap();
    let volume = volumes.as_array().unwrap().iter().find(|it| it["name"] == "operator-token").unwrap();
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(
        token,
        &json!({ "audience": "redoubt.dev/policy", "expirationSeconds": 600, "path": "token" })
    );
}

/// After a restore of etcd: neither the ConfigMap nor the status tells of what the pod holds.
#[test]
fn a_policy_is_signed_above_what_a_sidecar_holds() {
    let signer = signer();
    let first = built(full(), &signer, 1000);
    let again = |held: u64| {
        let mut read = full();
        read.envelope = Some(first.config_map.data.as_ref().unwrap()[ENVELOPE_KEY].clone());
        let mut validated = validate(read).unwrap();
        validated.held(held);
        build(&validated, &signer, 2000).unwrap().config_map.metadata.annotations.unwrap()[POLICY_EPOCH]
            .clone()
    };
    assert_eq!(again(0), "1000");
    assert_eq!(again(1000), "1000", "what it was sent is no reason");
    assert_eq!(again(1500), "2000");
    assert_eq!(again(5000), "5001");
}

#[test]
fn suspended_there_is_no_pod() {
    let children = built(read(agent_with("a", |agent| agent.spec.suspend = true)), &signer(), 1);
    assert!(children.pod.is_none());
}

#[test]
fn epochs() {
    let check = |previous: Option<(u64, &str)>, recorded: u64, now: u64, expected: Epoch| {
        assert_eq!(next_epoch(previous, recorded, "d", now), expected, "{previous:?} {recorded} {now}");
    };
    check(None, 0, 1000, Epoch::New(1000));
    check(Some((900, "d")), 900, 1000, Epoch::Keep(900));
    check(Some((900, "d")), 0, 1000, Epoch::Keep(900));
    check(Some((900, "e")), 900, 1000, Epoch::New(1000));
    // A clock that went back.
    check(Some((2000, "e")), 2000, 1000, Epoch::New(2001));
    check(Some((2000, "d")), 2000, 1000, Epoch::Keep(2000));
    // An old ConfigMap that was put back, and one that was deleted.
    check(Some((500, "d")), 900, 1000, Epoch::New(1000));
    check(Some((500, "d")), 3000, 1000, Epoch::New(3001));
    check(None, 3000, 1000, Epoch::New(3001));
}

#[test]
fn a_policy_is_signed_anew_only_when_it_must() {
    let signer = signer();
    let envelope =
        |children: &Children<Prepared>| children.config_map.data.as_ref().unwrap()[ENVELOPE_KEY].clone();
    let first = built(full(), &signer, 1000);
    let mut same = full();
    same.envelope = Some(envelope(&first));
    assert_eq!(envelope(&built(same.clone(), &signer, 2000)), envelope(&first));
    let epoch = |read: Dereferenced, signer: &Signer, now: u64| {
        let children = built(read.clone(), signer, now);
        let identity = validate(read).unwrap().policy().agent.clone();
        let policy = verify(envelope(&children).as_bytes(), signer.public(), &identity, 0).unwrap();
        assert_eq!(children.config_map.metadata.annotations.unwrap()[POLICY_EPOCH], policy.epoch.to_string());
        policy.epoch
    };
    let mut changed = same.clone();
    changed.egress_policies.clear();
    assert_eq!(epoch(changed, &signer, 500), 1001, "another content");
    let mut foreign = same.clone();
    foreign.envelope = Some("{}".into());
    assert_eq!(epoch(foreign, &signer, 3000), 3000, "something else in its place");
    let other = Signer::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
    assert_eq!(epoch(same, &other, 4000), 4000, "another key");
}

#[test]
fn announcements_are_beside_the_policy_that_they_lead_to() {
    let data = |signer: &Signer| built(full(), signer, 1).config_map.data.unwrap();
    assert_eq!(data(&signer())["keys.dsse.jsonl"], "", "always there, because the pod mounts it");
    let announced = signer().with_announcements("{}\n".to_owned());
    assert_eq!(data(&announced)["keys.dsse.jsonl"], "{}\n");
}

#[test]
fn a_number_in_a_tool_does_not_make_every_visit_sign_anew() {
    // Without its feature float_roundtrip, serde_json reads what it has written of this number as another one.
    let number = 1.0510857627375101e131;
    let mut read = full();
    read.agent.spec.tools = vec![ToolReference { kind: ToolKind::Tool, name: "t".into() }];
    read.tools = vec![object(json!({
        "apiVersion": "redoubt.dev/v1alpha1", "kind": "Tool", "metadata": { "name": "t", "namespace": "team" },
        "spec": { "http": { "baseURL": "https://a.example", "functions": [{
            "name": "f", "description": "d", "effect": "Read", "method": "GET", "path": "/",
            "parameters": { "type": "object", "x": number },
        }] } },
    }))];
    let signer = signer();
    let envelope = |read: &Dereferenced, now: u64| {
        built(read.clone(), &signer, now).config_map.data.unwrap()[ENVELOPE_KEY].clone()
    };
    read.envelope = Some(envelope(&read, 1000));
    assert_eq!(Some(envelope(&read, 2000)), read.envelope);
}
