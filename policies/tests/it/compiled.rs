//! From objects to a policy.

use redoubt_policy::compile::{check_egress_policy, check_tool, effective_lines, refused_lines};
use redoubt_policy::digest;
use redoubt_policy::grants::HostSets;
use redoubt_policy::selector::selects;
use serde_json::{Value, json};

use crate::objects::{Namespace, agent, allow, egress_policy, tool};

/// A model, and an issue tracker of which reading is granted.
pub(crate) fn tracker() -> Namespace {
    let mut namespace = Namespace::of(agent("coder", &["issues"], &[]));
    namespace.tools =
        vec![tool("issues", "https://api.example.com/v1", &[("GET", "/issues/{id}"), ("POST", "/issues")])];
    namespace.egress_policies = vec![
        egress_policy("model", &[allow("Agent", "model.example.com", &["POST"], "/v1/**")]),
        egress_policy("issues", &[allow("issues", "*.example.com", &["GET"], "/v1/issues/**")]),
    ];
    namespace
}

fn lines(namespace: &Namespace) -> (Vec<String>, Vec<String>) {
    let policy = namespace.compile().unwrap();
    let text = |lines: Vec<redoubt_crds::EffectiveRule>| {
        lines
            .into_iter()
            .map(|line| format!("{} {} by {}", line.from, line.request, line.decided_by))
            .collect()
    };
    (text(effective_lines(&policy)), text(refused_lines(&policy)))
}

#[test]
fn effective_is_needed_and_granted() {
    let (effective, refused) = lines(&tracker());
    assert_eq!(
        effective,
        [
            "Agent POST https://model.example.com/v1/chat/completions by EgressPolicy/model spec.allow[0]",
            "Tool/issues GET https://api.example.com/v1/issues/* by EgressPolicy/issues spec.allow[0]",
        ]
    );
    assert_eq!(
        refused,
        ["Tool/issues POST https://api.example.com/v1/issues by Tool/issues spec.http.functions[1]"]
    );
}

#[test]
fn no_policy_that_selects_means_nothing_is_granted() {
    let mut namespace = tracker();
    for (selector, expected) in [
        (json!({ "matchLabels": { "app": "coder" } }), 1),
        (json!({ "matchLabels": { "app": "other" } }), 0),
        (json!({ "matchExpressions": [{ "key": "app", "operator": "Near", "values": ["coder"] }] }), 0),
    ] {
        namespace.egress_policies = vec![tracker().egress_policies[0].clone()];
        namespace.egress_policies[0].spec.agent_selector = serde_json::from_value(selector).unwrap();
        assert_eq!(namespace.compile().unwrap().rules.len(), expected);
    }
    namespace.egress_policies.clear();
    assert!(namespace.compile().unwrap().rules.is_empty());
}

#[test]
fn objects_of_other_namespaces_and_other_tools_count_for_nothing() {
    let mut foreign = tracker();
    for policy in &mut foreign.egress_policies {
        policy.metadata.namespace = Some("other".to_owned());
    }
    assert!(foreign.compile().unwrap().rules.is_empty());

    let mut foreign = tracker();
    foreign.tools[0].metadata.namespace = Some("other".to_owned());
    assert_eq!(foreign.problems(), ["ReferenceNotFound Agent/coder spec.tools[0].name"]);

    let mut unused = tracker();
    unused.agent.spec.tools.clear();
    let policy = unused.compile().unwrap();
    assert_eq!((policy.rules.len(), policy.tools.len(), policy.explanation.grants.len()), (1, 0, 1));
}

#[test]
fn scheme_and_port_are_part_of_a_grant() {
    for (base, extra, expected) in [
        ("https://a.example", json!({}), 1),
        ("https://a.example:8443", json!({}), 0),
        ("https://a.example:8443", json!({ "ports": [443, 8443] }), 1),
        ("http://a.example:443", json!({}), 0),
        ("http://a.example", json!({ "protocol": "HTTP", "ports": [80] }), 1),
        ("https://a.example", json!({ "protocol": "HTTP" }), 0),
    ] {
        let mut namespace = Namespace::of(agent("coder", &["t"], &[]));
        namespace.tools = vec![tool("t", base, &[("GET", "/")])];
        let mut entry = allow("t", "a.example", &["*"], "/**");
        entry.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        namespace.egress_policies = vec![egress_policy("p", &[entry])];
        assert_eq!(namespace.compile().unwrap().rules.len(), expected, "{base} {extra}");
    }
}

#[test]
fn problems_name_object_and_field() {
    let mut namespace = tracker();
    namespace.agent = agent("coder", &["issues", "gone"], &["lost"]);
    namespace.agent.spec.runtime.model.base_url = "https://model.example.com/../v1".to_owned();
    namespace.agent.spec.callers[0].service_account.name = "a:b".to_owned();
    namespace.tools[0].spec.http.functions[1].method = "TRACE".to_owned();
    namespace.tools[0].spec.http.functions[0].path = "/{id".to_owned();
    let entry = json!({
        "from": [{ "kind": "Agent" }, { "kind": "Tool" }, { "kind": "Agent", "name": "x" }],
        "hosts": ["a.example", "A.example", "0x7f.1"], "ports": [443, 0, 65536, -1], "methods": ["get"],
        "paths": ["/**", "/a%2fb"], "privateCIDRs": ["10.0.0.0/8", "10.0.0.0/33"],
    });
    namespace.egress_policies.push(egress_policy("bad", &[entry]));
    let of_policy = [
        "Invalid EgressPolicy/bad spec.allow[0].from[1]",
        "Invalid EgressPolicy/bad spec.allow[0].from[2]",
        "Invalid EgressPolicy/bad spec.allow[0].hosts[1]",
        "Invalid EgressPolicy/bad spec.allow[0].hosts[2]",
        "Invalid EgressPolicy/bad spec.allow[0].methods",
        "Invalid EgressPolicy/bad spec.allow[0].paths[1]",
        "Invalid EgressPolicy/bad spec.allow[0].ports[1]",
        "Invalid EgressPolicy/bad spec.allow[0].ports[2]",
        "Invalid EgressPolicy/bad spec.allow[0].ports[3]",
        "Invalid EgressPolicy/bad spec.allow[0].privateCIDRs[1]",
    ];
    let of_tool = [
        "Invalid Tool/issues spec.http.functions[0].path",
        "Invalid Tool/issues spec.http.functions[1].method",
    ];
    let mut expected = vec![
        "Invalid Agent/coder spec.callers[0].serviceAccount",
        "Invalid Agent/coder spec.runtime.model.baseURL",
        "ReferenceNotFound Agent/coder spec.secretBindings[0].name",
        "ReferenceNotFound Agent/coder spec.tools[1].name",
    ];
    expected.extend(of_policy);
    expected.extend(of_tool);
    assert_eq!(namespace.problems(), expected);
    assert_eq!(check_egress_policy(&namespace.egress_policies[2], HostSets(&[])).len(), of_policy.len());
    assert_eq!(check_tool(&namespace.tools[0]).len(), of_tool.len());
    let problems = namespace.compile().unwrap_err();
    let message = |field: &str| &problems.iter().find(|p| p.field == field).unwrap().message;
    assert_eq!(message("spec.tools[1].name"), "Tool/gone does not exist in namespace team");
    assert_eq!(message("spec.secretBindings[0].name"), "SecretBinding/lost does not exist in namespace team");
    assert!(problems.iter().all(|p| !p.help.is_empty()));
    assert!(problems.iter().all(|p| redoubt_crds::condition::Reason::parse(&p.reason).is_some()));

    // A policy that does not select the agent is its own trouble.
    namespace = tracker();
    let mut bad = egress_policy("bad", &[allow("Agent", "*", &["GET"], "/")]);
    bad.spec.agent_selector = serde_json::from_value(json!({ "matchLabels": { "app": "other" } })).unwrap();
    namespace.egress_policies.push(bad);
    assert!(namespace.problems().is_empty());
}

#[test]
fn function_names_are_names_and_unique() {
    for names in [
        ["f", "f"],
        ["f", "F"],
        ["f", "1f"],
        ["f", "a-b"],
        ["f", ""],
        ["f", "f234567890123456789012345678901"],
    ] {
        let mut tool = tool("t", "https://a", &[("GET", "/"), ("GET", "/")]);
        for (function, name) in tool.spec.http.functions.iter_mut().zip(names) {
            function.name = name.to_owned();
        }
        let problems = check_tool(&tool);
        assert_eq!(problems.len(), 1, "{names:?}");
        assert_eq!(problems[0].field, "spec.http.functions[1].name");
    }
}

#[test]
fn callers_are_user_names() {
    let mut namespace = tracker();
    namespace.agent.spec.callers = serde_json::from_value(json!([
        { "serviceAccount": { "name": "ci", "namespace": "build" } },
        { "serviceAccount": { "name": "ci" } },
        { "serviceAccount": { "name": "ci", "namespace": "team" } },
    ]))
    .unwrap();
    let inbound = namespace.compile().unwrap().inbound;
    assert_eq!(inbound.callers, ["system:serviceaccount:build:ci", "system:serviceaccount:team:ci"]);
    assert_eq!(inbound.audience, "redoubt.dev/agents/team/coder");
    assert_eq!(inbound.issuer, "https://issuer.example.com");
    namespace.agent.spec.callers.clear();
    assert!(namespace.compile().unwrap().inbound.callers.is_empty());
}

#[test]
fn the_digest_is_of_the_content_without_the_epoch() {
    let mut policy = tracker().compile().unwrap();
    let before = digest(&policy);
    assert_eq!(before.len(), 64);
    policy.epoch = 12;
    assert_eq!(digest(&policy), before);
    policy.inbound.callers.push("x".to_owned());
    assert_ne!(digest(&policy), before);
}

#[test]
fn many_grants_do_not_make_a_large_policy() {
    let mut namespace = tracker();
    let many = |prefix: &str| -> Vec<Value> { (0..32).map(|i| json!(format!("{prefix}{i}"))).collect() };
    let entry = json!({
        "from": [{ "kind": "Agent" }, { "kind": "Tool", "name": "issues" }, { "kind": "Tool", "name": "other" }],
        "hosts": many("h"), "ports": (1..=16).collect::<Vec<_>>(), "methods": ["*"], "paths": many("/p"),
    });
    let before = namespace.compile().unwrap();
    namespace.egress_policies.push(egress_policy("wide", &vec![entry; 32]));
    let after = namespace.compile().unwrap();
    assert_eq!(before.rules, after.rules);
    // One grant per entry and source is kept, to be named in refusals.
    assert_eq!(after.explanation.grants.len(), before.explanation.grants.len() + 64);

    let deep = |ports: i32| {
        let entry = json!({
            "from": [{ "kind": "Tool", "name": "issues" }], "hosts": ["api.example.com", "*.example.com"],
            "methods": ["*"], "paths": many("/v1/issues/p"), "ports": (443..443 + ports).collect::<Vec<_>>(),
        });
        egress_policy("deep", &vec![entry; 16])
    };
    namespace.egress_policies.push(deep(4));
    let policy = namespace.compile().unwrap();
    assert_eq!(policy.explanation.grants.len(), redoubt_policy::compile::EXPLAINED_MAX);
    assert_eq!(policy.rules.len(), before.rules.len() + 32);
    namespace.egress_policies.pop();
    namespace.egress_policies.push(deep(16));
    assert_eq!(namespace.problems(), ["Invalid EgressPolicy/deep spec.allow[8]"]);
}

#[test]
fn trust_anchors_have_a_limit() {
    let mut namespace = tracker();
    let mut entry = allow("issues", "api.example.com", &["GET"], "/");
    entry["paths"] = (0..10).map(|i| json!(format!("/v1/issues/{i}"))).collect();
    entry["caBundle"] = json!("x".repeat(60_000));
    namespace.egress_policies = vec![egress_policy("p", &[entry.clone()])];
    assert_eq!(namespace.problems(), ["Invalid Agent/coder spec.tools"]);
    entry["caBundle"] = json!("x".repeat(50_000));
    namespace.egress_policies = vec![egress_policy("p", &[entry])];
    assert!(namespace.problems().is_empty());
}

#[test]
fn too_many_rules_are_a_problem_and_not_a_truncated_policy() {
    let mut namespace = Namespace::of(agent("coder", &["t"], &[]));
    namespace.tools = vec![tool("t", "https://a.example", &[("GET", "/{a}")])];
    let paths = |i: usize| (0..32).map(|j| format!("/p{i}x{j}")).collect::<Vec<_>>();
    let policy = |n: usize| {
        let entries: Vec<_> = (0..32)
            .map(|i| json!({ "from": [{ "kind": "Tool", "name": "t" }], "hosts": ["a.example"], "methods": ["GET"], "paths": paths(n * 32 + i) }))
            .collect();
        egress_policy(&format!("p{n}"), &entries)
    };
    namespace.egress_policies = (0..4).map(policy).collect();
    assert_eq!(namespace.compile().unwrap().rules.len(), 4096);
    assert_eq!(effective_lines(&namespace.compile().unwrap()).len(), redoubt_policy::compile::LINES_MAX);
    namespace.egress_policies.push(policy(4));
    assert_eq!(namespace.problems(), ["Invalid Agent/coder spec.tools"]);
}

#[test]
fn label_selectors_are_those_of_kubernetes() {
    for (selector, expected) in [
        (json!({}), true),
        (json!({ "matchLabels": {} }), true),
        (json!({ "matchLabels": { "a": "1" } }), true),
        (json!({ "matchLabels": { "a": "2" } }), false),
        (json!({ "matchLabels": { "a": "1", "c": "1" } }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": ["1", "2"] }] }), true),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": ["2"] }] }), false),
        (json!({ "matchExpressions": [{ "key": "c", "operator": "In", "values": ["1"] }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "NotIn", "values": ["1"] }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "NotIn", "values": ["2"] }] }), true),
        (json!({ "matchExpressions": [{ "key": "c", "operator": "NotIn", "values": ["1"] }] }), true),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "Exists" }] }), true),
        (json!({ "matchExpressions": [{ "key": "c", "operator": "Exists" }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "DoesNotExist" }] }), false),
        (json!({ "matchExpressions": [{ "key": "c", "operator": "DoesNotExist" }] }), true),
        (
            json!({ "matchLabels": { "a": "1" }, "matchExpressions": [{ "key": "b", "operator": "DoesNotExist" }] }),
            false,
        ),
        // What Kubernetes would not accept.
        (json!({ "matchExpressions": [{ "key": "a", "operator": "in", "values": ["1"] }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "Gt", "values": ["0"] }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "", "values": [] }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": [] }] }), false),
        (json!({ "matchExpressions": [{ "key": "c", "operator": "NotIn" }] }), false),
        (json!({ "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["1"] }] }), false),
        (json!({ "matchExpressions": [{ "key": "c", "operator": "DoesNotExist", "values": ["1"] }] }), false),
    ] {
        let labels = [("a", "1"), ("b", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let selects = selects(&serde_json::from_value(selector.clone()).unwrap(), &labels.into());
        assert_eq!(selects, expected, "{selector}");
    }
}
