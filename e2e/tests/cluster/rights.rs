//! What roles give and what they do not: the verb `use`, the roles of the chart, and what only the operator or the platform
//! team writes. As in `guards`, each attempt succeeds when its guard is taken away.

use redoubt_e2e::cluster::{Cluster, Editor, Failed, Output, Team, agent_yaml};
use serde_json::{Value, json};

use super::cluster;
use super::guards::{eventually, guard_refuses};

fn role(namespace: &str, name: &str, rules: &Value) -> String {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": namespace}, "rules": rules})
    .to_string()
}

/// A user who may write Agents and SecretBindings of the namespace, and what `more` says.
fn writer(cluster: &Cluster, namespace: &str, name: &str, more: &[Value]) -> Editor {
    let verbs = json!(["get", "list", "create", "update", "patch"]);
    let mut rules = vec![
        json!({"apiGroups": ["redoubt.dev"], "resources": ["agents", "secretbindings", "egresspolicies"], "verbs": verbs}),
    ];
    rules.extend(more.iter().cloned());
    cluster.apply(&role(namespace, name, &json!(rules))).expect("a role");
    cluster.person(namespace, name, &[("Role", name)]).expect("a user")
}

fn dry(person: &Editor, manifest: &str) -> Result<Output, Failed> {
    person.kubectl(&["create", "--dry-run=server", "-f", "-"], manifest)
}

fn agent(namespace: &str, more: &str) -> String {
    agent_yaml(namespace, "other", more)
}

fn binding(namespace: &str, connection: &str) -> String {
    json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "SecretBinding",
        "metadata": {"name": "other", "namespace": namespace},
        "spec": {"vault": {"connectionName": connection, "kv2": {"mount": "secret", "path": "a", "key": "k"}},
            "inject": {"bearer": {}}, "consumers": [{"kind": "Agent"}],
            "destinations": [{"hosts": ["a.example"], "methods": ["GET"], "paths": ["/"]}]}})
    .to_string()
}

fn grant(namespace: &str, set: &str) -> String {
    let allow =
        json!({"from": [{"kind": "Agent"}], "hostSets": [{"name": set}], "methods": ["GET"], "paths": ["/"]});
    json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "other", "namespace": namespace},
        "spec": {"agentSelector": {}, "allow": [allow, allow]}})
    .to_string()
}

fn use_of(group: &str, resource: &str, names: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": ["use"]});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

#[test]
fn who_has_not_the_verb_use_cannot_refer_to_an_object() {
    let cluster = cluster();
    let namespace = "rights-use";
    let _team = Team::with_agent(&cluster, namespace).expect("the team");
    let without = writer(&cluster, namespace, "without", &[]);
    let (platform, team) = ("platform.redoubt.dev", "redoubt.dev");
    let by_name = [
        use_of(team, "tools", &["notes"]),
        use_of(team, "secretbindings", &["notes-token"]),
        use_of(platform, "clustertools", &["shared"]),
        use_of(platform, "hostsets", &["mirrors"]),
        use_of(platform, "isolationclasses", &["kata"]),
        use_of(platform, "vaultconnections", &[namespace]),
    ];
    let with = writer(&cluster, namespace, "with", &by_name);
    let cases = [
        (
            "redoubt-use-tools",
            "spec.tools gets notes, and you",
            agent(namespace, "  tools: [{name: notes}]"),
            agent(namespace, "  tools: [{name: others}]"),
        ),
        (
            "redoubt-use-secret-bindings",
            "spec.secretBindings gets notes-token, and you",
            agent(namespace, "  secretBindings: [{name: notes-token}]"),
            agent(namespace, "  secretBindings: [{name: others}]"),
        ),
        (
            "redoubt-use-cluster-tools",
            "spec.tools gets shared, and you",
            agent(namespace, "  tools: [{kind: ClusterTool, name: shared}]"),
            // The verb on a Tool is none on the ClusterTool of that name.
            agent(namespace, "  tools: [{kind: ClusterTool, name: notes}]"),
        ),
        (
            "redoubt-use-host-sets",
            "spec.allow[].hostSets gets mirrors, and you",
            grant(namespace, "mirrors"),
            grant(namespace, "others"),
        ),
        (
            "redoubt-use-isolation-classes",
            "spec.isolationClassName names the IsolationClass kata",
            agent(namespace, "  isolationClassName: kata"),
            agent(namespace, "  isolationClassName: hostile"),
        ),
        (
            "redoubt-use-vault-connections",
            "spec.vault.connectionName names the VaultConnection rights-use",
            binding(namespace, namespace),
            binding(namespace, "others"),
        ),
    ];
    for (guard, message, manifest, foreign) in &cases {
        guard_refuses(guard, message, guard, &|| {}, &|| dry(&without, manifest));
        eventually("who has the verb on that name", true, &|| dry(&with, manifest)).expect("accepted");
        let refusal = dry(&with, foreign).expect_err("the verb on another name is none on this one");
        assert!(refusal.stderr.contains("you have not the verb use"), "{refusal}");
    }
    dry(&without, &agent(namespace, "")).expect("an agent that refers to nothing");
}

#[test]
fn only_what_a_change_adds_needs_the_verb() {
    let cluster = cluster();
    let namespace = "rights-added";
    let _team = Team::with_agent(&cluster, namespace).expect("the team");
    let without = writer(&cluster, namespace, "without", &[]);
    let patch = |kind: &str, patch: Value| {
        let patch = patch.to_string();
        without.kubectl(&["patch", kind, "--type=json", "--dry-run=server", "-p", &patch], "")
    };
    let (agent, binding) = ("agents.redoubt.dev/helper", "secretbindings.redoubt.dev/notes-token");
    let label = json!([{"op": "add", "path": "/metadata/labels", "value": {"app": "helper", "seen": "yes"}}]);
    eventually("an agent with references is labelled", true, &|| patch(agent, label.clone()))
        .expect("accepted");
    patch(binding, label).expect("a binding too");
    patch(agent, json!([{"op": "replace", "path": "/spec/tools", "value": []}]))
        .expect("a reference is taken out");
    let added = json!([{"op": "add", "path": "/spec/tools/-", "value": {"name": "more"}}]);
    let refusal = patch(agent, added).expect_err("refused");
    assert!(refusal.stderr.contains("spec.tools gets more, and you"), "{refusal}");
    let other = json!([{"op": "replace", "path": "/spec/vault/connectionName", "value": "other"}]);
    let refusal = patch(binding, other).expect_err("refused");
    assert!(refusal.stderr.contains("names the VaultConnection other"), "{refusal}");
}

/// The API server ends a guard that asks too much; eight names are looked up, and the last of them as well as the first.
#[test]
fn of_many_additions_eight_are_looked_up() {
    let cluster = cluster();
    let namespace = "rights-many";
    let _team = Team::without_agent(&cluster, namespace).expect("the namespace");
    let names: Vec<String> = (0..32).map(|i| format!("t{i}")).collect();
    let some: Vec<&str> = names.iter().take(9).map(String::as_str).collect();
    let nine = writer(&cluster, namespace, "nine", &[use_of("redoubt.dev", "tools", &some)]);
    let seven = writer(&cluster, namespace, "seven", &[use_of("redoubt.dev", "tools", &some[..7])]);
    let all = writer(&cluster, namespace, "all", &[use_of("redoubt.dev", "tools", &[])]);
    let with = |count: usize| {
        let tools: Vec<String> = names.iter().take(count).map(|name| format!("{{name: {name}}}")).collect();
        agent(namespace, &format!("  tools: [{}]", tools.join(", ")))
    };
    eventually("eight by name", true, &|| dry(&nine, &with(8))).expect("accepted");
    let refusal = dry(&nine, &with(9)).expect_err("nine by name");
    assert!(refusal.stderr.contains("more than 8 are added at once"), "{refusal}");
    let refusal = dry(&seven, &with(8)).expect_err("the eighth is not among them");
    assert!(refusal.stderr.contains("t6, t7, and you have not"), "{refusal}");
    eventually("32 of the whole kind", true, &|| dry(&all, &with(32))).expect("accepted");
}

#[test]
fn the_built_in_roles_give_what_the_guide_says() {
    let cluster = cluster();
    let namespace = "rights-roles";
    let team = Team::with_agent(&cluster, namespace).expect("the team");
    let [view, edit, admin] = ["view", "edit", "admin"]
        .map(|name| cluster.person(namespace, name, &[("ClusterRole", name)]).expect("a user"));
    let names_all = agent(namespace, "  tools: [{name: notes}]\n  secretBindings: [{name: notes-token}]");
    let grant = json!({"apiVersion": "redoubt.dev/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "other", "namespace": namespace}, "spec": {"agentSelector": {}, "allow": []}})
    .to_string();
    let refused = |outcome: Result<Output, Failed>, why: &str| {
        let refusal = outcome.expect_err(why);
        assert!(refusal.stderr.contains(why), "{refusal}");
    };
    let all = "agents.redoubt.dev,tools.redoubt.dev,secretbindings.redoubt.dev,egresspolicies.redoubt.dev";
    eventually("view reads", true, &|| view.kubectl(&["get", all], "")).expect("all team kinds");
    refused(dry(&view, &names_all), "cannot create resource \"agents\"");
    eventually("edit writes agents", true, &|| dry(&edit, &names_all)).expect("accepted");
    refused(dry(&edit, &grant), "cannot create resource \"egresspolicies\"");
    refused(dry(&edit, &binding(namespace, namespace)), "cannot create resource \"secretbindings\"");
    eventually("admin grants", true, &|| dry(&admin, &grant)).expect("accepted");
    dry(&admin, &names_all).expect("what edit gives");
    // What is the platform team's is theirs to give, and in one namespace if they like.
    refused(dry(&admin, &binding(namespace, namespace)), "names the VaultConnection rights-roles");
    let own = [
        "create",
        "rolebinding",
        "own",
        "--clusterrole=redoubt-platform-user",
        "--user=admin-of-rights-roles",
    ];
    refused(admin.kubectl(&own, ""), "is attempting to grant RBAC permissions not currently held");
    cluster.give(namespace, "admin-of-rights-roles", "ClusterRole", "redoubt-platform-user").expect("given");
    eventually("admin binds", true, &|| dry(&admin, &binding(namespace, namespace))).expect("accepted");
    dry(&admin, &agent(namespace, "  isolationClassName: kata")).expect("accepted");
    let elsewhere = Team::without_agent(&cluster, "rights-elsewhere").expect("another namespace");
    cluster.give(&elsewhere.namespace, "admin-of-rights-roles", "ClusterRole", "admin").expect("given");
    let there = |more: &str| {
        let arguments = ["create", "-n", "rights-elsewhere", "--dry-run=server", "-f", "-"];
        admin.kubectl(&arguments, &agent(&elsewhere.namespace, more))
    };
    eventually("an agent there", true, &|| there("")).expect("accepted");
    refused(there("  isolationClassName: kata"), "names the IsolationClass kata");
    for what in ["vaultconnections.platform.redoubt.dev", "isolationclasses.platform.redoubt.dev"] {
        refused(admin.kubectl(&["get", what], ""), "forbidden");
    }
    drop(team);
}

#[test]
fn reserved_labels_are_the_platform_teams() {
    let cluster = cluster();
    let namespace = "rights-names";
    let _team = Team::with_agent(&cluster, namespace).expect("the team");
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "update", "patch"]},
        {"apiGroups": ["redoubt.dev"], "resources": ["agents"], "verbs": ["get", "patch"]}]);
    cluster.apply(&role(namespace, "owner", &rules)).expect("a role");
    let owner = cluster.person(namespace, "owner", &[("Role", "owner")]).expect("a user");
    let guard = "redoubt-reserved-names";
    let message = "are the platform team's, and this would change";
    let (own, agent) = (format!("namespace/{namespace}"), "agents.redoubt.dev/helper");
    let attempts = [
        ("label", own.as_str(), "redoubt.dev/vault=another"),
        ("label", own.as_str(), "redoubt.dev/vault-"),
        ("label", agent, "platform.redoubt.dev/trusted=yes"),
        ("annotate", agent, "redoubt.dev/attempt=9"),
    ];
    for (verb, object, change) in attempts {
        guard_refuses(guard, message, change, &|| {}, &|| {
            owner.kubectl(&[verb, "--overwrite", "--dry-run=server", object, change], "")
        });
    }
    for object in [own.as_str(), agent] {
        for change in ["team.example/vault=another", "notredoubt.dev/vault=another", "vault=another"] {
            owner.kubectl(&["label", "--dry-run=server", object, change], "").expect("labels of one's own");
        }
    }
    let platform = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "rights-names"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole", "name": "redoubt-platform-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "owner-of-rights-names"}]});
    cluster.apply(&platform.to_string()).expect("one of the platform team");
    let change = ["label", "--overwrite", "--dry-run=server", own.as_str(), "redoubt.dev/vault=another"];
    let outcome = eventually("the platform team sets it", true, &|| owner.kubectl(&change, ""));
    cluster.kubectl(&["delete", "clusterrolebinding", "rights-names"]).expect("deleted");
    outcome.expect("accepted");
}

#[test]
fn only_the_operator_writes_the_status_of_our_kinds() {
    let cluster = cluster();
    let namespace = "rights-status";
    let _team = Team::with_agent(&cluster, namespace).expect("the team");
    let editor = cluster.editor(namespace).expect("a user who may write the status too");
    let patch = json!({"status": {"policy": {"epoch": i64::MAX, "digest": "0"}}}).to_string();
    let spoof = |what: &str| {
        let arguments =
            ["patch", what, "--subresource=status", "--type=merge", "--dry-run=server", "-p", &patch];
        editor.kubectl(&arguments, "")
    };
    let message = "is written by the operator only";
    guard_refuses("redoubt-status", message, "an epoch that nothing comes after", &|| {}, &|| {
        spoof("agents.redoubt.dev/helper")
    });
    let ready = json!({"status": {"observedGeneration": 9}}).to_string();
    guard_refuses(
        "redoubt-status",
        message,
        "a class said to be well, as the administrator",
        &|| {},
        &|| {
            let arguments = ["patch", "isolationclasses.platform.redoubt.dev/kata", "--subresource=status"];
            cluster.kubectl(&[&arguments[..], &["--type=merge", "--dry-run=server", "-p", &ready]].concat())
        },
    );
    cluster.wait_ready(namespace, "helper").expect("the operator writes it");
}

/// Whoever makes it, the operator too.
#[test]
fn an_agents_pod_has_a_runtime_class_and_images_by_digest() {
    let cluster = cluster();
    let namespace = "rights-pods";
    let _team = Team::with_agent(&cluster, namespace).expect("the team");
    cluster.wait_ready(namespace, "helper").expect("ready");
    let mut pod = cluster.get(namespace, "pod/redoubt-agent-helper").expect("its pod");
    pod["metadata"] = json!({"name": "redoubt-agent-other", "namespace": namespace,
        "labels": {"redoubt.dev/agent": "other"}});
    pod["spec"]["nodeName"] = Value::Null;
    let create = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod.clone();
        change(&mut pod["spec"]);
        let operator = "--as=system:serviceaccount:redoubt-system:redoubt-operator";
        cluster.run("kubectl", &["create", operator, "--dry-run=server", "-f", "-"], &pod.to_string())
    };
    let guard = "redoubt-agent-pods";
    create(&|_| {}).expect("as the operator makes it");
    guard_refuses(guard, "spec.runtimeClassName is missing", "the node's own runtime", &|| {}, &|| {
        create(&|spec| {
            let fields = spec.as_object_mut().expect("a spec");
            // What the RuntimeClass has put in.
            for field in ["runtimeClassName", "overhead"] {
                fields.remove(field);
            }
        })
    });
    for list in ["containers", "initContainers"] {
        guard_refuses(guard, "registry.example/moved:latest", list, &|| {}, &|| {
            create(&|spec| spec[list][0]["image"] = json!("registry.example/moved:latest"))
        });
    }
}

/// Both halves of a selector, of namespaces and of agents; and a policy that is only recorded.
#[test]
fn an_isolation_class_above_a_ceiling_is_refused_where_it_selects() {
    let cluster = cluster();
    let namespace = "rights-ceiling";
    let _team = Team::without_agent(&cluster, namespace).expect("the namespace");
    let policy = |name: &str, mode: &str, namespaces: Value, agents: Value, classes: Value| {
        json!({"apiVersion": "platform.redoubt.dev/v1alpha1", "kind": "ClusterAgentPolicy", "metadata": {"name": name},
            "spec": {"namespaceSelector": namespaces, "agentSelector": agents, "mode": mode,
                "ceilings": {"isolationClassNames": classes}}})
        .to_string()
    };
    let here = json!({"matchLabels": {"redoubt.dev/vault": namespace},
        "matchExpressions": [{"key": "redoubt.dev/vault", "operator": "In", "values": ["x", namespace]},
            {"key": "no-such-label", "operator": "DoesNotExist"}]});
    let others = json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["exempt"]},
        {"key": "app", "operator": "Exists"}]});
    let elsewhere = json!({"matchExpressions": [{"key": "redoubt.dev/vault", "operator": "NotIn", "values": [namespace]}]});
    let policies = [
        policy("rights-ceiling", "Enforce", here.clone(), others, json!(["kata"])),
        policy("rights-ceiling-elsewhere", "Enforce", elsewhere, json!({}), json!(["kata"])),
        policy("rights-ceiling-audit", "Audit", here, json!({}), json!([])),
    ];
    for policy in &policies {
        cluster.apply(policy).expect("a ceiling");
    }
    let create = |name: &str, class: &str| {
        let manifest = agent_yaml(namespace, name, &format!("  isolationClassName: {class}"));
        cluster.run("kubectl", &["create", "--dry-run=server", "-f", "-"], &manifest)
    };
    let refused = std::panic::catch_unwind(|| {
        let message =
            "which is not among spec.ceilings.isolationClassNames of the ClusterAgentPolicy rights-ceiling;";
        guard_refuses("redoubt-ceilings", message, "a class above the ceiling", &|| {}, &|| {
            create("other", "hostile")
        });
        create("other", "kata").expect("a class under it");
        create("exempt", "hostile").expect("an agent that it does not select");
        cluster
            .apply(&agent_yaml(namespace, "plain", ""))
            .expect("the default class is for the operator to judge");
    });
    for name in ["rights-ceiling", "rights-ceiling-elsewhere", "rights-ceiling-audit"] {
        cluster.kubectl(&["delete", "clusteragentpolicies.platform.redoubt.dev", name]).expect("deleted");
    }
    refused.unwrap();
}
