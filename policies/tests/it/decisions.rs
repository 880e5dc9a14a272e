//! What a verified policy says to a request, and how it explains a refusal.

use serde_json::json;

use crate::compiled::tracker;
use crate::objects::{Namespace, agent, allow, decide, egress_policy, tool};

/// `expected` is the reason, object and field of the refusal.
fn check(namespace: &Namespace, from: &str, request: &str, expected: Result<(), (&str, &str, &str)>) {
    let policy = namespace.verified();
    match (decide(&policy, from, request), expected) {
        (Ok(_), Ok(())) => {}
        (Err(refusal), Err(expected)) => {
            let given = (refusal.reason.as_str(), refusal.object.as_str(), refusal.field.as_str());
            assert_eq!(given, expected, "{from} {request}");
            assert!(!refusal.message.is_empty() && !refusal.help.is_empty());
        }
        (Ok(_), Err(_)) => panic!("allowed: {from} {request}"),
        (Err(refusal), Ok(())) => panic!("refused: {from} {request}: {refusal}"),
    }
}

#[test]
fn requests_that_are_needed_and_granted_pass() {
    let namespace = tracker();
    check(&namespace, "Agent", "POST https://model.example.com/v1/chat/completions", Ok(()));
    check(&namespace, "Agent", "POST https://MODEL.example.com.:443/v1/chat/%63ompletions", Ok(()));
    check(&namespace, "issues", "GET https://api.example.com/v1/issues/7", Ok(()));
}

#[test]
fn a_refusal_of_what_is_not_declared_names_the_closest_need() {
    let namespace = tracker();
    let model = ("Agent/coder", "spec.runtime.model.baseURL");
    let f0 = |reason| Err((reason, "Tool/issues", "spec.http.functions[0].path"));
    for (request, reason) in [
        ("GET https://evil.example/", "NotDeclared"),
        ("GET https://10.0.0.1/", "NotDeclared"),
        ("POST http://model.example.com:443/v1/chat/completions", "SchemeNotAllowed"),
        ("POST https://model.example.com:8443/v1/chat/completions", "PortNotAllowed"),
        ("GET https://model.example.com/v1/chat/completions", "MethodNotAllowed"),
        ("POST https://model.example.com/v1/files", "PathNotAllowed"),
        ("POST https://model.example.com/v1/chat/completions/", "PathNotAllowed"),
        // Of the tool, not of the agent's own process.
        ("GET https://api.example.com/v1/issues/7", "NotDeclared"),
    ] {
        check(&namespace, "Agent", request, Err((reason, model.0, model.1)));
    }
    check(
        &namespace,
        "issues",
        "GET https://evil.example/",
        Err(("NotDeclared", "Tool/issues", "spec.http.baseURL")),
    );
    check(
        &namespace,
        "issues",
        "GET https://api.example.com:8443/v1/issues/7",
        Err(("PortNotAllowed", "Tool/issues", "spec.http.baseURL")),
    );
    check(
        &namespace,
        "issues",
        "DELETE https://api.example.com/v1/issues/7",
        Err(("MethodNotAllowed", "Tool/issues", "spec.http.functions[0].method")),
    );
    check(&namespace, "issues", "GET https://api.example.com/v1/users", f0("PathNotAllowed"));
    check(&namespace, "issues", "GET https://api.example.com/v1/issues", f0("PathNotAllowed"));
    // Its own tool's host, asked for under the name of a tool that the agent does not use.
    check(
        &namespace,
        "other",
        "GET https://api.example.com/v1/issues/7",
        Err(("NotDeclared", "Agent/coder", "spec.tools")),
    );
}

#[test]
fn a_refusal_of_what_is_declared_names_the_closest_grant() {
    let request = "POST https://api.example.com/v1/issues";
    let grant = |entry: serde_json::Value, expected: (&str, &str)| {
        let mut namespace = tracker();
        let far = allow("issues", "far.example", &["GET"], "/");
        namespace.egress_policies = vec![egress_policy("p", &[far, entry])];
        check(&namespace, "issues", request, Err((expected.0, "EgressPolicy/p", expected.1)));
    };
    grant(
        allow("issues", "api.example.com", &["GET"], "/v1/**"),
        ("MethodNotAllowed", "spec.allow[1].methods"),
    );
    grant(allow("issues", "api.example.com", &["POST"], "/v2/**"), ("PathNotAllowed", "spec.allow[1].paths"));
    let mut entry = allow("issues", "*.example.com", &["POST"], "/v1/**");
    entry["ports"] = json!([8443]);
    grant(entry, ("PortNotAllowed", "spec.allow[1].ports"));
    let mut entry = allow("issues", "*.example.com", &["POST"], "/v1/**");
    entry["protocol"] = json!("HTTP");
    grant(entry, ("SchemeNotAllowed", "spec.allow[1].protocol"));
    // No grant for the host: the one that is otherwise closest.
    grant(allow("issues", "other.example", &["POST"], "/v1/**"), ("HostNotAllowed", "spec.allow[1].hosts"));

    let mut namespace = tracker();
    namespace.egress_policies.truncate(1);
    check(&namespace, "issues", request, Err(("NotGranted", "Tool/issues", "spec.http.functions[1]")));
    let policy = namespace.verified();
    let help = decide(&policy, "issues", request).unwrap_err().help;
    assert_eq!(
        help,
        "If it is meant, add to an EgressPolicy that selects the Agent: allow from Tool/issues, hosts [api.example.com], ports [443], protocol HTTPS, methods [POST], paths [/v1/issues]."
    );
}

/// A grant to one tool is none to another, nor to the agent's own process, whoever declares the same request.
#[test]
fn grants_are_for_whom_they_name() {
    let mut namespace = Namespace::of(agent("coder", &["a", "b"], &[]));
    namespace.tools = ["a", "b"].map(|name| tool(name, "https://api.example.com", &[("GET", "/x")])).to_vec();
    namespace.egress_policies = vec![egress_policy("p", &[allow("a", "api.example.com", &["GET"], "/**")])];
    let request = "GET https://api.example.com/x";
    check(&namespace, "a", request, Ok(()));
    check(&namespace, "b", request, Err(("NotGranted", "Tool/b", "spec.http.functions[0]")));
    check(&namespace, "Agent", request, Err(("NotDeclared", "Agent/coder", "spec.runtime.model.baseURL")));
}

#[test]
fn anchors_and_private_ranges_come_from_every_rule_that_allows_it() {
    let mut namespace = Namespace::of(agent("coder", &["t"], &[]));
    namespace.tools = vec![tool("t", "https://api.example.com", &[("GET", "/{x}")])];
    let mut private = allow("t", "api.example.com", &["GET"], "/**");
    private["privateCIDRs"] = json!(["10.0.0.0/8"]);
    private["caBundle"] = json!("PEM");
    let public = allow("t", "*.example.com", &["GET"], "/a");
    namespace.egress_policies = vec![egress_policy("p", &[public, private])];
    let policy = namespace.verified();
    for (path, grant) in [("/a", "spec.allow[0]"), ("/b", "spec.allow[1]")] {
        let allowed = decide(&policy, "t", &format!("GET https://api.example.com{path}")).unwrap();
        assert_eq!(allowed.rule.grant.field, grant);
        assert_eq!(allowed.ca_bundle(), Some("PEM"));
        assert!(allowed.vet("10.1.2.3".parse().unwrap()).is_ok());
        let refusal = allowed.vet("192.168.0.1".parse().unwrap()).unwrap_err();
        assert_eq!(refusal.object, "EgressPolicy/p");
        assert_eq!(refusal.field, format!("{grant}.privateCIDRs"));
        assert_eq!(allowed.vet("169.254.169.254".parse().unwrap()).unwrap_err().reason, "AddressForbidden");
    }
}
