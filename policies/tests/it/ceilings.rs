//! ClusterAgentPolicies, HostSets, ClusterTools and denies: what they leave, and whom a refusal names.

use std::collections::{BTreeMap, BTreeSet};

use redoubt_crds::EffectiveRule;
use redoubt_policy::ceilings::Selecting;
use redoubt_policy::compile::{
    Inputs, check_binding_within, check_cluster_policy, check_host_set, effective_lines, refused_lines,
    unneeded_lines, would_refuse_lines,
};
use redoubt_policy::grants::HostSets;
use redoubt_policy::host::{Host, HostPattern};
use serde_json::{Value, json};

use crate::compiled::tracker;
use crate::objects::{
    Namespace, agent, allow, binding, cluster_policy, cluster_tool, decide, egress_policy, host_set,
};

const READ: &str = "GET https://api.example.com/v1/issues/7";
const ASK: &str = "POST https://model.example.com/v1/chat/completions";

/// The tracker under these ClusterAgentPolicies.
fn under(policies: &[Value]) -> Namespace {
    let mut namespace = tracker();
    let named =
        policies.iter().enumerate().map(|(i, fields)| cluster_policy(&format!("p{i}"), fields.clone()));
    namespace.cluster_policies = named.collect();
    namespace
}

fn refusal(namespace: &Namespace, from: &str, request: &str) -> Option<(String, String, String)> {
    let refusal = decide(&namespace.verified(), from, request).err()?;
    assert!(!refusal.message.is_empty() && !refusal.help.is_empty());
    Some((refusal.reason, refusal.object, refusal.field))
}

fn check(namespace: &Namespace, from: &str, request: &str, expected: Option<(&str, &str, &str)>) {
    let given = refusal(namespace, from, request);
    let given =
        given.as_ref().map(|(reason, object, field)| (reason.as_str(), object.as_str(), field.as_str()));
    assert_eq!(given, expected, "{from} {request}");
}

fn text(lines: Vec<EffectiveRule>) -> Vec<String> {
    lines.into_iter().map(|line| format!("{} {} by {}", line.from, line.request, line.decided_by)).collect()
}

fn egress(hosts: &[&str]) -> Value {
    json!({ "ceilings": { "egress": [{ "hosts": hosts }] } })
}

#[test]
fn a_ceiling_leaves_out_what_it_does_not_name_and_the_refusal_names_it() {
    let over = Some(("ExceedsPolicy", "ClusterAgentPolicy/p0", "spec.ceilings.egress"));
    let namespace = under(&[egress(&["model.example.com"])]);
    check(&namespace, "Agent", ASK, None);
    check(&namespace, "issues", READ, over);
    let policy = namespace.compile().unwrap();
    assert_eq!(
        text(effective_lines(&policy)),
        ["Agent POST https://model.example.com/v1/chat/completions by EgressPolicy/model spec.allow[0]"]
    );
    assert_eq!(
        text(refused_lines(&policy)),
        [
            "Tool/issues GET https://api.example.com/v1/issues/* by ClusterAgentPolicy/p0 spec.ceilings.egress",
            "Tool/issues POST https://api.example.com/v1/issues by Tool/issues spec.http.functions[1]",
        ]
    );
    assert_eq!(
        policy.explanation.selected_by,
        ["ClusterAgentPolicy/p0", "EgressPolicy/issues", "EgressPolicy/model"]
    );
    for (hosts, read, ask) in [
        (vec!["**.example.com"], None, None),
        (vec!["*"], None, None),
        (vec!["*.other.example"], over, over),
        (vec![], over, over),
    ] {
        // A list without entries is a ceiling of nothing; one that is absent is none.
        let fields = if hosts.is_empty() { json!({ "ceilings": { "egress": [] } }) } else { egress(&hosts) };
        let namespace = under(&[fields]);
        check(&namespace, "issues", READ, read);
        check(&namespace, "Agent", ASK, ask);
    }
    check(&under(&[json!({ "ceilings": {} })]), "issues", READ, None);
}

#[test]
fn each_part_of_a_ceiling_counts() {
    let over = Some(("ExceedsPolicy", "ClusterAgentPolicy/p0", "spec.ceilings.egress"));
    for (part, passes) in [
        (json!({}), true),
        (json!({ "ports": [8443] }), false),
        (json!({ "ports": [8443, 443] }), true),
        (json!({ "protocol": "HTTP" }), false),
        (json!({ "methods": ["POST"] }), false),
        (json!({ "methods": ["GET", "POST"] }), true),
        (json!({ "paths": ["/v2/**"] }), false),
        (json!({ "paths": ["/v1/issues/*"] }), true),
        (json!({ "fromKinds": ["Agent"] }), false),
        (json!({ "fromKinds": ["ClusterTool"] }), false),
        (json!({ "fromKinds": ["Tool"] }), true),
    ] {
        let mut rule = json!({ "hosts": ["api.example.com"] });
        for (name, value) in part.as_object().unwrap() {
            rule[name] = value.clone();
        }
        let namespace = under(&[json!({ "ceilings": { "egress": [rule] } })]);
        check(&namespace, "issues", READ, if passes { None } else { over });
    }
}

#[test]
fn disjoint_ceilings_leave_nothing_and_order_does_not_matter() {
    let policies = [egress(&["api.example.com"]), egress(&["model.example.com"])];
    let namespace = under(&policies);
    check(
        &namespace,
        "issues",
        READ,
        Some(("ExceedsPolicy", "ClusterAgentPolicy/p1", "spec.ceilings.egress")),
    );
    check(&namespace, "Agent", ASK, Some(("ExceedsPolicy", "ClusterAgentPolicy/p0", "spec.ceilings.egress")));
    let mut turned = namespace.clone();
    turned.cluster_policies.reverse();
    assert_eq!(namespace.compile().unwrap(), turned.compile().unwrap());
    assert!(namespace.compile().unwrap().rules.is_empty());
}

#[test]
fn only_policies_that_select_the_agent_count() {
    let mut fields = egress(&["other.example"]);
    for (selector, value, selects) in [
        ("namespaceSelector", json!({ "matchLabels": { "team": "a" } }), true),
        ("namespaceSelector", json!({ "matchLabels": { "team": "b" } }), false),
        ("agentSelector", json!({ "matchLabels": { "app": "coder" } }), true),
        ("agentSelector", json!({ "matchLabels": { "app": "x" } }), false),
    ] {
        fields["namespaceSelector"] = json!({});
        fields["agentSelector"] = json!({});
        fields[selector] = value;
        let namespace = under(&[fields.clone()]);
        let over = Some(("ExceedsPolicy", "ClusterAgentPolicy/p0", "spec.ceilings.egress"));
        check(&namespace, "issues", READ, if selects { over } else { None });
    }
}

#[test]
fn a_deny_of_either_level_wins() {
    let deny = json!([{ "hosts": ["**.example.com"], "paths": ["/v1/issues/**"] }]);
    let mut namespace = tracker();
    namespace.egress_policies[0].spec.deny = serde_json::from_value(deny.clone()).unwrap();
    check(&namespace, "issues", READ, Some(("Denied", "EgressPolicy/model", "spec.deny[0]")));
    check(&namespace, "Agent", ASK, None);
    let policy = namespace.compile().unwrap();
    assert!(!text(effective_lines(&policy)).iter().any(|line| line.starts_with("Tool/issues")));
    assert!(text(refused_lines(&policy)).contains(
        &"Tool/issues GET https://api.example.com/v1/issues/* by EgressPolicy/model spec.deny[0]".to_owned()
    ));
    check(
        &under(&[json!({ "denies": deny })]),
        "issues",
        READ,
        Some(("Denied", "ClusterAgentPolicy/p0", "spec.denies[0]")),
    );
    for (part, passes) in [
        (json!({ "hosts": ["api.example.com"] }), false),
        (json!({ "hosts": ["*"], "ports": [8443] }), true),
        (json!({ "hosts": ["*"], "methods": ["POST"] }), true),
        (json!({ "hosts": ["*"], "fromKinds": ["Agent"] }), true),
        (json!({ "hosts": ["example.com"] }), true),
        (json!({ "hosts": ["*"], "paths": ["/v1/issues/8"] }), true),
    ] {
        let denied = Some(("Denied", "ClusterAgentPolicy/p0", "spec.denies[0]"));
        let namespace = under(&[json!({ "denies": [part] })]);
        check(&namespace, "issues", READ, if passes { None } else { denied });
    }
}

#[test]
fn audit_changes_nothing_and_says_what_it_would_refuse() {
    let mut fields = egress(&["model.example.com"]);
    fields["mode"] = json!("Audit");
    fields["denies"] = json!([{ "hosts": ["model.example.com"] }]);
    let namespace = under(&[fields.clone()]);
    let verified = namespace.verified();
    let read = decide(&verified, "issues", READ).unwrap();
    assert_eq!(read.would_refuse.unwrap().to_string(), "ClusterAgentPolicy/p0 spec.ceilings.egress");
    let ask = decide(&verified, "Agent", ASK).unwrap();
    assert_eq!(ask.would_refuse.unwrap().to_string(), "ClusterAgentPolicy/p0 spec.denies[0]");
    assert_eq!(verified.rules, tracker().compile().unwrap().rules);
    assert_eq!(
        text(would_refuse_lines(&verified)),
        [
            "Agent POST https://model.example.com/v1/chat/completions by ClusterAgentPolicy/p0 spec.denies[0]",
            "Tool/issues GET https://api.example.com/v1/issues/* by ClusterAgentPolicy/p0 spec.ceilings.egress",
        ]
    );
    fields["mode"] = json!("Enforce");
    let enforced = under(&[fields]);
    assert!(would_refuse_lines(&enforced.compile().unwrap()).is_empty());
    assert!(refusal(&enforced, "issues", READ).is_some() && refusal(&enforced, "Agent", ASK).is_some());
}

#[test]
fn a_floor_of_tls_leaves_out_the_clear() {
    let mut namespace = under(&[json!({ "floors": { "requireTLS": true } })]);
    check(&namespace, "issues", READ, None);
    namespace.agent.spec.runtime.model.base_url = "http://model.example.com/v1".to_owned();
    let mut entry = allow("Agent", "model.example.com", &["POST"], "/v1/**");
    entry["protocol"] = json!("HTTP");
    entry["ports"] = json!([80]);
    namespace.egress_policies.push(egress_policy("clear", &[entry]));
    let clear = "POST http://model.example.com/v1/chat/completions";
    check(
        &namespace,
        "Agent",
        clear,
        Some(("ExceedsPolicy", "ClusterAgentPolicy/p0", "spec.floors.requireTLS")),
    );
    namespace.cluster_policies.clear();
    check(&namespace, "Agent", clear, None);
}

#[test]
fn private_ranges_are_those_of_grant_and_every_ceiling() {
    let ranges = |ceilings: &[&[&str]]| {
        let fields: Vec<Value> =
            ceilings.iter().map(|list| json!({ "ceilings": { "privateCIDRs": list } })).collect();
        let mut namespace = under(&fields);
        namespace.egress_policies[0].spec.allow[0].private_cidrs = vec!["10.0.0.0/8".to_owned()];
        let policy = namespace.verified();
        let asked = decide(&policy, "Agent", ASK).unwrap();
        let refused = asked.vet("10.2.0.1".parse().unwrap()).err().map(|refusal| refusal.object);
        (asked.private_cidrs().iter().map(ToString::to_string).collect::<Vec<_>>(), refused)
    };
    let p0 = Some("ClusterAgentPolicy/p0".to_owned());
    assert_eq!(ranges(&[]), (vec!["10.0.0.0/8".to_owned()], None));
    assert_eq!(ranges(&[&["10.1.0.0/16", "192.168.0.0/16"]]), (vec!["10.1.0.0/16".to_owned()], p0.clone()));
    assert_eq!(ranges(&[&["10.0.0.0/7"]]), (vec!["10.0.0.0/8".to_owned()], None));
    assert_eq!(ranges(&[&["10.1.0.0/16"], &["10.2.0.0/16"]]), (vec![], p0.clone()));
    assert_eq!(ranges(&[&[]]), (vec![], p0));
}

#[test]
fn host_sets_stand_for_their_hosts_and_a_missing_one_is_told() {
    let mut namespace = tracker();
    namespace.egress_policies[1] = egress_policy(
        "issues",
        &[
            json!({ "from": [{ "kind": "Tool", "name": "issues" }], "hostSets": [{ "name": "apis" }], "methods": ["GET"], "paths": ["/**"] }),
        ],
    );
    assert_eq!(
        namespace.problems(),
        ["ReferenceNotFound EgressPolicy/issues spec.allow[0].hostSets[0].name"]
    );
    namespace.host_sets = vec![host_set("apis", &["api.example.com"])];
    check(&namespace, "issues", READ, None);
    namespace.cluster_policies = vec![cluster_policy(
        "p0",
        json!({ "denies": [{ "hostSets": [{ "name": "apis" }], "methods": ["GET"] }] }),
    )];
    check(&namespace, "issues", READ, Some(("Denied", "ClusterAgentPolicy/p0", "spec.denies[0]")));
    let bad = host_set("bad", &["api.example.com", "*", "EXAMPLE.com", "https://x"]);
    let fields: Vec<String> = check_host_set(&bad).into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["spec.hosts[1]", "spec.hosts[2]", "spec.hosts[3]"]);
}

#[test]
fn a_grant_to_a_tool_is_none_to_a_cluster_tool_of_the_same_name() {
    let mut namespace = tracker();
    namespace.cluster_tools =
        vec![cluster_tool("issues", "https://api.example.com/v1", &[("GET", "/issues/{id}")])];
    namespace.agent.spec.tools[0].kind = redoubt_crds::ToolKind::ClusterTool;
    let ungranted = Some(("NotGranted", "ClusterTool/issues", "spec.http.functions[0]"));
    check(&namespace, "issues", READ, ungranted);
    namespace.egress_policies[1].spec.allow[0].from[0].kind = redoubt_crds::SourceKind::ClusterTool;
    check(&namespace, "issues", READ, None);
    namespace.agent.spec.tools[0].kind = redoubt_crds::ToolKind::Tool;
    check(&namespace, "issues", READ, Some(("NotGranted", "Tool/issues", "spec.http.functions[0]")));
    let mut both = namespace.agent.spec.tools[0].clone();
    both.kind = redoubt_crds::ToolKind::ClusterTool;
    namespace.agent.spec.tools.push(both);
    assert_eq!(namespace.problems(), ["Invalid Agent/coder spec.tools[1].name"]);
    namespace.agent.spec.tools.remove(0);
    namespace.cluster_tools.clear();
    assert_eq!(namespace.problems(), ["ReferenceNotFound Agent/coder spec.tools[0].name"]);
}

#[test]
fn a_credential_that_no_ceiling_lets_out_is_not_asked_for() {
    let bound = |fields: Value| {
        let mut namespace = Namespace::of(agent("coder", &[], &["b"]));
        namespace.bindings = vec![binding("b", &["Agent"], "model.example.com", "/v1/**")];
        namespace.cluster_policies = vec![cluster_policy("p0", fields)];
        namespace
    };
    let count = |namespace: &Namespace| {
        let policy = namespace.compile().unwrap();
        (policy.bindings.len(), policy.vaults.len())
    };
    let within = |namespace: &Namespace| {
        let problems = check_binding_within(
            &namespace.bindings[0],
            &namespace.cluster_policies,
            &namespace.labels,
            HostSets(&[]),
        );
        problems.iter().map(|problem| format!("{} {}", problem.reason, problem.field)).collect::<Vec<_>>()
    };
    let near = bound(egress(&["**.example.com"]));
    assert_eq!((count(&near), within(&near)), ((1, 1), vec![]));
    let far = bound(egress(&["other.example"]));
    assert_eq!((count(&far), within(&far)), ((0, 0), vec!["ExceedsPolicy spec.destinations".to_owned()]));
    let vault = bound(json!({ "ceilings": { "vaultConnectionNames": ["other"] } }));
    assert_eq!(vault.problems(), ["ExceedsPolicy SecretBinding/b spec.vault.connectionName"]);
    assert_eq!(within(&vault), ["ExceedsPolicy spec.vault.connectionName"]);
}

#[test]
fn of_scalars_the_most_restrictive_counts() {
    let namespace = under(&[
        json!({ "ceilings": { "limits": { "maxTurns": 4 }, "resources": { "cpu": "500m", "memory": "1Gi" }, "policyTTLSeconds": 600 } }),
        json!({ "ceilings": { "limits": { "maxTurns": 8, "timeoutSeconds": 60 }, "resources": { "memory": "256Mi" }, "policyTTLSeconds": 900 } }),
        json!({ "mode": "Audit", "ceilings": { "limits": { "maxTurns": 1 }, "policyTTLSeconds": 30, "isolationClassNames": [] } }),
        json!({ "ceilings": { "isolationClassNames": ["kata", "snp"] } }),
        json!({ "ceilings": { "isolationClassNames": ["kata"] } }),
    ]);
    let inputs = Inputs {
        agent: &namespace.agent,
        tools: &[],
        cluster_tools: &[],
        egress_policies: &[],
        cluster_policies: &namespace.cluster_policies,
        host_sets: &[],
        bindings: &[],
        vaults: &[],
        namespace_labels: &namespace.labels,
        inbound_issuer: "",
        inbound_jwks: &Value::Null,
    };
    let selecting = Selecting::of(&inputs);
    let limits = selecting.limits(&namespace.agent.spec.runtime.limits);
    assert_eq!((limits.max_turns, limits.timeout_seconds), (4, 60));
    let resources = selecting.resources(&namespace.agent.spec.resources);
    assert_eq!((resources.cpu.as_str(), resources.memory.as_str()), ("500m", "256Mi"));
    assert_eq!(selecting.policy_ttl_seconds(), 600);
    assert!(selecting.isolation_class("Agent/coder", "kata").is_ok());
    let refused = selecting.isolation_class("Agent/coder", "snp").unwrap_err();
    assert_eq!(
        (refused.reason.as_str(), refused.field.as_str()),
        ("ExceedsPolicy", "spec.isolationClassName")
    );
    assert!(refused.message.contains("ClusterAgentPolicy/p4 spec.ceilings.isolationClassNames"), "{refused}");
}

#[test]
fn a_quota_lets_the_earliest_in() {
    let quota = |most: i32, earlier: usize, other: usize| {
        let mut namespace = under(&[json!({
            "agentSelector": { "matchLabels": { "app": "coder" } }, "quotas": { "agentsPerNamespace": most },
        })]);
        namespace.cluster_policies.push(cluster_policy("none", json!({})));
        let label = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
        let labels: Vec<_> =
            (0..earlier).map(|_| label("coder")).chain((0..other).map(|_| label("x"))).collect();
        Selecting::every_agent(&[], &namespace.labels).quota("Agent/coder", &labels).unwrap();
        let inputs = Inputs {
            agent: &namespace.agent,
            tools: &[],
            cluster_tools: &[],
            egress_policies: &[],
            cluster_policies: &namespace.cluster_policies,
            host_sets: &[],
            bindings: &[],
            vaults: &[],
            namespace_labels: &namespace.labels,
            inbound_issuer: "",
            inbound_jwks: &Value::Null,
        };
        Selecting::of(&inputs).quota("Agent/coder", &labels).err().map(|problem| problem.reason)
    };
    assert_eq!(quota(2, 1, 5), None);
    assert_eq!(quota(2, 2, 0), Some("QuotaExceeded".to_owned()));
    assert_eq!(quota(0, 0, 0), Some("QuotaExceeded".to_owned()));
}

#[test]
fn what_is_granted_and_not_needed_is_told() {
    let mut namespace = tracker();
    assert!(unneeded_lines(&namespace.compile().unwrap()).is_empty());
    namespace
        .egress_policies
        .push(egress_policy("idle", &[allow("issues", "idle.example", &["GET"], "/**")]));
    assert_eq!(
        text(unneeded_lines(&namespace.compile().unwrap())),
        ["Tool/issues GET https://idle.example/** by EgressPolicy/idle spec.allow[0]"]
    );
}

#[test]
fn what_cannot_be_read_in_a_policy_is_told_and_stops_the_agent() {
    let bad = json!({
        "ceilings": {
            "egress": [{ "hosts": ["***.x.y"], "ports": [0], "methods": ["get"], "paths": ["x"] }],
            "privateCIDRs": ["10.0.0.1"], "resources": { "cpu": "much" },
        },
        "denies": [{ "hosts": ["a*.example"] }],
    });
    let problems = check_cluster_policy(&cluster_policy("p0", bad.clone()), HostSets(&[]));
    let fields: BTreeSet<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        BTreeSet::from([
            "spec.ceilings.egress[0].hosts[0]",
            "spec.ceilings.egress[0].ports[0]",
            "spec.ceilings.egress[0].methods",
            "spec.ceilings.egress[0].paths[0]",
            "spec.ceilings.privateCIDRs[0]",
            "spec.ceilings.resources.cpu",
            "spec.denies[0].hosts[0]",
        ])
    );
    assert!(!under(&[bad]).problems().is_empty());
    assert!(check_cluster_policy(&cluster_policy("p0", egress(&["*"])), HostSets(&[])).is_empty());
}

#[test]
fn wide_patterns_are_exact() {
    let universe: Vec<Host> = ["x.y", "a.x.y", "b.a.x.y", "ax.y", "y.x", "c.b.a.x.y", "1.2.3.4"]
        .iter()
        .map(|name| name.parse().unwrap())
        .collect();
    let patterns: Vec<HostPattern> =
        ["*", "**.x.y", "**.a.x.y", "*.x.y", "*.a.x.y", "*.b.a.x.y", "a.x.y", "x.y", "1.2.3.4", "**.y.x"]
            .iter()
            .map(|text| HostPattern::parse_wide(text).unwrap())
            .collect();
    for a in &patterns {
        assert_eq!(HostPattern::parse_wide(&a.to_string()).as_ref(), Ok(a));
        for b in &patterns {
            let both = a.intersect(b);
            for host in &universe {
                let expected = a.matches(host) && b.matches(host);
                assert_eq!(both.as_ref().is_some_and(|both| both.matches(host)), expected, "{a} {b} {host}");
            }
            assert_eq!(both, b.intersect(a));
        }
    }
    for text in ["**", "**.", "**.x", "***.x.y", "*.**.x.y", "a.**.x.y", "**.1.2.3.4", ""] {
        assert!(HostPattern::parse_wide(text).is_err(), "{text}");
    }
    // A grant has none of them.
    for text in ["*", "**.x.y"] {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
}
