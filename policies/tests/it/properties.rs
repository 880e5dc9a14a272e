//! Properties that hold for all inputs. Where the inputs are few all of them are tried, else a bounded sample.

use std::collections::BTreeSet;

use proptest::prelude::*;
use redoubt_policy::base_url::BaseUrl;
use redoubt_policy::compose::{Grant, effective};
use redoubt_policy::host::{Host, HostPattern};
use redoubt_policy::method::{Method, MethodSet};
use redoubt_policy::path::{CanonicalPath, PathPattern};
use redoubt_policy::target::{Source, Target};
use redoubt_policy::template::Template;
use redoubt_policy::wire::{Claim, PodPolicy};
use redoubt_policy::{Request, digest};
use serde_json::{Value, json};

use crate::objects::{self, Namespace, agent, egress_policy, tool};

/// Every sequence of at most `most` of `items`.
fn sequences(items: &[&str], most: usize) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..most {
        last = last
            .iter()
            .flat_map(|head: &Vec<String>| {
                items.iter().map(|item| [head.clone(), vec![(*item).to_owned()]].concat())
            })
            .collect();
        all.extend(last.clone());
    }
    all
}

/// `intersect` of every two patterns matches just what both match.
fn check_intersection<P: PartialEq + std::fmt::Display, T>(
    patterns: &[P],
    universe: &[T],
    matches: impl Fn(&P, &T) -> bool,
    intersect: impl Fn(&P, &P) -> Option<P>,
) {
    for a in patterns {
        for b in patterns {
            let both = intersect(a, b);
            for item in universe {
                let expected = matches(a, item) && matches(b, item);
                let given = both.as_ref().is_some_and(|both| matches(both, item));
                assert_eq!(given, expected, "{a} and {b}");
            }
            assert!(both == intersect(b, a), "{a} and {b} are not the same as {b} and {a}");
        }
    }
}

#[test]
fn intersections_of_paths_are_exact() {
    let texts = sequences(&["/a", "/b", "/*"], 3);
    let patterns: Vec<PathPattern> = texts
        .iter()
        .map(|segments| segments.concat())
        .flat_map(|text| [text.clone(), format!("{text}/"), format!("{text}/**")])
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap())
        .collect();
    let universe: Vec<CanonicalPath> = sequences(&["/a", "/b"], 4)
        .iter()
        .map(|segments| segments.concat())
        .flat_map(|text| [text.clone(), format!("{text}/")])
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap())
        .collect();
    check_intersection(&patterns, &universe, PathPattern::matches, PathPattern::intersect);
}

#[test]
fn intersections_of_hosts_are_exact() {
    let names: Vec<String> = sequences(&["a", "b"], 4)
        .iter()
        .map(|labels| labels.join("."))
        .filter(|name| !name.is_empty())
        .collect();
    let universe: Vec<Host> = names
        .iter()
        .map(String::as_str)
        .chain(["1.2.3.4", "[::1]"])
        .map(|name| name.parse().unwrap())
        .collect();
    let wildcards = names.iter().filter(|name| name.contains('.')).map(|name| format!("*.{name}"));
    let patterns: Vec<HostPattern> = names
        .iter()
        .cloned()
        .chain(wildcards)
        .chain(["1.2.3.4".to_owned(), "::1".to_owned()])
        .map(|text| text.parse().unwrap())
        .collect();
    check_intersection(&patterns, &universe, HostPattern::matches, HostPattern::intersect);
}

#[test]
fn intersections_of_methods_are_exact() {
    let sets: Vec<MethodSet> = (1_usize..128)
        .map(|bits| {
            let names: Vec<_> = Method::ALL.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).collect();
            MethodSet::parse(&names.iter().map(|(_, method)| method.as_str()).collect::<Vec<_>>()).unwrap()
        })
        .collect();
    check_intersection(&sets, &Method::ALL, |set, method| set.contains(*method), MethodSet::intersect);
}

/// One entry of `spec.allow` and one function, in the same words.
#[derive(Clone, Debug)]
struct Words {
    from: &'static str,
    host: &'static str,
    port: u16,
    method: &'static str,
    path: &'static str,
}

const HOSTS: [&str; 3] = ["a.x.y", "b.x.y", "x.y"];
const PORTS: [u16; 2] = [443, 8443];
const PATHS: [&str; 6] = ["/", "/v/a", "/v/b", "/v/a/", "/v/a/c", "/v-a"];
const SOURCES: [&str; 3] = ["Agent", "t1", "t2"];

fn grant() -> impl Strategy<Value = Words> {
    let hosts = prop::sample::select(vec!["a.x.y", "b.x.y", "x.y", "*.x.y"]);
    let methods = prop::sample::select(vec!["GET", "POST", "*"]);
    let paths = prop::sample::select(vec!["/", "/**", "/v/*", "/v/a", "/v/a/**", "/*/b"]);
    (prop::sample::select(SOURCES.to_vec()), hosts, prop::sample::select(PORTS.to_vec()), methods, paths)
        .prop_map(|(from, host, port, method, path)| Words { from, host, port, method, path })
}

fn need() -> impl Strategy<Value = Words> {
    let methods = prop::sample::select(vec!["GET", "POST"]);
    let paths = prop::sample::select(vec!["/", "/v/{x}", "/v/a", "/{x}/b", "/v/a/"]);
    let tools = prop::sample::select(vec!["t1", "t2"]);
    (tools, prop::sample::select(HOSTS.to_vec()), prop::sample::select(PORTS.to_vec()), methods, paths)
        .prop_map(|(from, host, port, method, path)| Words { from, host, port, method, path })
}

/// Each tool has one host, so those of its functions that name another are left out.
fn namespace(needs: &[Words], policies: &[Vec<Words>]) -> Namespace {
    let mut namespace = Namespace::of(agent("coder", &["t1", "t2"], &[]));
    namespace.agent.spec.runtime.model.base_url = "https://a.x.y/v".to_owned();
    for name in ["t1", "t2"] {
        let own: Vec<&Words> = own_needs(needs, name);
        let base = own
            .first()
            .map_or("https://x.y".to_owned(), |first| format!("https://{}:{}", first.host, first.port));
        let functions: Vec<_> = own.iter().map(|need| (need.method, need.path)).collect();
        namespace.tools.push(tool(name, &base, &functions));
    }
    for (i, grants) in policies.iter().enumerate() {
        let allow: Vec<Value> = grants
            .iter()
            .map(|grant| {
                json!({
                    "from": [objects::source(grant.from)], "hosts": [grant.host], "ports": [grant.port],
                    "methods": [grant.method], "paths": [grant.path],
                })
            })
            .collect();
        namespace.egress_policies.push(egress_policy(&format!("p{i}"), &allow));
    }
    namespace
}

fn own_needs<'a>(needs: &'a [Words], tool: &str) -> Vec<&'a Words> {
    let own: Vec<&Words> = needs.iter().filter(|need| need.from == tool).collect();
    let first = own.first().map(|need| (need.host, need.port));
    own.into_iter().filter(|need| Some((need.host, need.port)) == first).collect()
}

/// A second way to say what words mean, on plain text.
fn speaks_of(words: &Words, (from, host, port, method, path): (&str, &str, u16, &str, &str)) -> bool {
    let host_fits = match words.host.strip_prefix("*.") {
        Some(suffix) => host.split('.').count() == 3 && host.ends_with(&format!(".{suffix}")),
        None => host == words.host,
    };
    let given: Vec<&str> = path.split('/').skip(1).collect();
    let mut own: Vec<&str> = words.path.split('/').skip(1).collect();
    let rest = own.last() == Some(&"**");
    if rest {
        own.pop();
    }
    let path_fits = (own.len() == given.len() || rest && own.len() < given.len())
        && own
            .iter()
            .zip(&given)
            .all(|(own, given)| own == given || matches!(*own, "*" | "{x}") && !given.is_empty());
    words.from == from
        && host_fits
        && words.port == port
        && ["*", method].contains(&words.method)
        && path_fits
}

/// Each of the requests that the words can tell apart.
fn universe() -> Vec<(&'static str, &'static str, u16, &'static str, &'static str)> {
    let mut all = Vec::new();
    for from in SOURCES {
        for host in HOSTS {
            for port in PORTS {
                for method in ["GET", "POST", "DELETE"] {
                    for path in PATHS.into_iter().chain(["/v/chat/completions"]) {
                        all.push((from, host, port, method, path));
                    }
                }
            }
        }
    }
    all
}

/// Indices of the requests that the policy allows; and every refusal is one that can be understood.
fn allowed(policy: &PodPolicy) -> BTreeSet<usize> {
    let policy = objects::verified(policy);
    let mut allowed = BTreeSet::new();
    for (i, (from, host, port, method, path)) in universe().into_iter().enumerate() {
        match objects::decide(&policy, from, &format!("{method} https://{host}:{port}{path}")) {
            Ok(_) => {
                allowed.insert(i);
            }
            Err(refusal) => {
                let exists = refusal.object == "Agent/coder"
                    || policy.tools.iter().any(|tool| refusal.object == format!("Tool/{}", tool.name))
                    || policy.explanation.grants.iter().any(|grant| {
                        grant.origin.object == refusal.object
                            && refusal.field.starts_with(&grant.origin.field)
                    });
                assert!(exists && refusal.field.starts_with("spec."), "{refusal}");
            }
        }
    }
    allowed
}

fn worlds() -> impl Strategy<Value = (Vec<Words>, Vec<Vec<Words>>)> {
    (prop::collection::vec(need(), 0..5), prop::collection::vec(prop::collection::vec(grant(), 0..4), 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// What passes is what a reader of the objects would say, neither more nor less.
    #[test]
    fn the_policy_allows_exactly_what_is_needed_and_granted((needs, policies) in worlds()) {
        let policy = namespace(&needs, &policies).compile().unwrap();
        let model = Words { from: "Agent", host: "a.x.y", port: 443, method: "POST", path: "/v/chat/completions" };
        let mut declared: Vec<&Words> = vec![&model];
        declared.extend(["t1", "t2"].iter().flat_map(|tool| own_needs(&needs, tool)));
        let expected: BTreeSet<usize> = universe()
            .into_iter()
            .enumerate()
            .filter(|(_, request)| {
                declared.iter().any(|need| speaks_of(need, *request))
                    && policies.iter().flatten().any(|grant| speaks_of(grant, *request))
            })
            .map(|(i, _)| i)
            .collect();
        prop_assert_eq!(allowed(&policy), expected);
    }

    #[test]
    fn the_order_of_objects_does_not_matter((needs, policies) in worlds(), seed in any::<u64>()) {
        let namespace = namespace(&needs, &policies);
        let mut other = namespace.clone();
        other.tools.reverse();
        other.agent.spec.tools.reverse();
        let places = other.egress_policies.len();
        if places > 0 {
            other.egress_policies.rotate_left(usize::try_from(seed).unwrap() % places);
            other.egress_policies.swap(0, places - 1);
        }
        // A list that names an object twice is the same list.
        other.egress_policies.extend(other.egress_policies.first().cloned());
        let (one, two) = (namespace.compile().unwrap(), other.compile().unwrap());
        prop_assert_eq!(digest(&one), digest(&two));
        prop_assert_eq!(one, two);
    }

    #[test]
    fn composing_the_result_again_changes_nothing((needs, policies) in worlds()) {
        let policy = namespace(&needs, &policies).compile().unwrap();
        let as_grants: Vec<Grant> = policy
            .rules
            .iter()
            .map(|rule| Grant {
                claim: Claim { scope: rule.scope.clone(), origin: rule.grant.clone() },
                private_cidrs: rule.private_cidrs.clone(),
                ca_bundle: rule.ca_bundle.as_deref().map(Into::into),
            })
            .collect();
        let again = effective(&policy.explanation.needs, &as_grants).into_iter().map(Into::into).collect();
        let again = PodPolicy { rules: again, ..policy.clone() };
        prop_assert_eq!(allowed(&policy), allowed(&again));
    }

    #[test]
    fn a_grant_more_never_removes_and_one_less_never_adds((needs, policies) in worlds(), more in grant()) {
        let before = allowed(&namespace(&needs, &policies).compile().unwrap());
        let mut wider = policies.clone();
        wider.push(vec![more]);
        let after = allowed(&namespace(&needs, &wider).compile().unwrap());
        prop_assert!(before.is_subset(&after));
        for i in 0..policies.len() {
            let mut narrower = policies.clone();
            narrower.remove(i);
            prop_assert!(allowed(&namespace(&needs, &narrower).compile().unwrap()).is_subset(&before));
        }
    }
}

/// What a ClusterAgentPolicy or an EgressPolicy says beyond grants, in the same words; `from` is ignored.
#[derive(Clone, Debug)]
enum Bound {
    /// One policy with a ceiling of these entries.
    Ceiling(Vec<Words>),
    /// One policy that denies this.
    Deny(Words),
    /// One EgressPolicy that denies this.
    OwnDeny(Words),
}

fn wide() -> impl Strategy<Value = Words> {
    let hosts = prop::sample::select(vec!["a.x.y", "x.y", "*.x.y", "**.x.y", "*"]);
    let methods = prop::sample::select(vec!["GET", "POST", "*"]);
    let paths = prop::sample::select(vec!["/**", "/v/*", "/v/a", "/v/**", "/*/b", "/v/a/**"]);
    (hosts, prop::sample::select(PORTS.to_vec()), methods, paths)
        .prop_map(|(host, port, method, path)| Words { from: "", host, port, method, path })
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![
        prop::collection::vec(wide(), 0..4).prop_map(Bound::Ceiling),
        wide().prop_map(Bound::Deny),
        wide().prop_map(Bound::OwnDeny),
    ]
}

fn bounded(needs: &[Words], policies: &[Vec<Words>], bounds: &[Bound]) -> Namespace {
    let mut namespace = namespace(needs, policies);
    let entry = |words: &Words| json!({ "hosts": [words.host], "ports": [words.port], "methods": [words.method], "paths": [words.path] });
    for (i, bound) in bounds.iter().enumerate() {
        let name = format!("b{i}");
        match bound {
            Bound::Ceiling(entries) => {
                let egress: Vec<Value> = entries.iter().map(entry).collect();
                let fields = json!({ "ceilings": { "egress": egress } });
                namespace.cluster_policies.push(objects::cluster_policy(&name, fields));
            }
            Bound::Deny(words) => {
                let fields = json!({ "denies": [entry(words)] });
                namespace.cluster_policies.push(objects::cluster_policy(&name, fields));
            }
            Bound::OwnDeny(words) => {
                let mut policy = egress_policy(&name, &[]);
                policy.spec.deny = vec![serde_json::from_value(entry(words)).unwrap()];
                namespace.egress_policies.push(policy);
            }
        }
    }
    namespace
}

/// [`speaks_of`] for the wide words of bounds.
fn bounds_speak_of(words: &Words, request: (&'static str, &'static str, u16, &str, &str)) -> bool {
    let host = match words.host {
        "*" => request.1,
        wide => match wide.strip_prefix("**.") {
            Some(suffix) if request.1.ends_with(&format!(".{suffix}")) => request.1,
            Some(_) => return false,
            None => wide,
        },
    };
    speaks_of(&Words { from: request.0, host, ..words.clone() }, request)
}

impl Bound {
    fn lets_pass(&self, request: (&'static str, &'static str, u16, &str, &str)) -> bool {
        match self {
            Self::Ceiling(entries) => entries.iter().any(|words| bounds_speak_of(words, request)),
            Self::Deny(words) | Self::OwnDeny(words) => !bounds_speak_of(words, request),
        }
    }
}

/// What the policy says to each request: nothing, or the object and field that refuse it.
fn verdicts(policy: &PodPolicy) -> Vec<Option<(String, String)>> {
    let policy = objects::verified(policy);
    let decide = |(from, host, port, method, path): (&str, &str, u16, &str, &str)| {
        objects::decide(&policy, from, &format!("{method} https://{host}:{port}{path}"))
            .err()
            .map(|refusal| (refusal.object, refusal.field))
    };
    universe().into_iter().map(decide).collect()
}

/// The namespace without the bound that a refusal names.
fn without(namespace: &Namespace, object: &str) -> Namespace {
    let mut other = namespace.clone();
    let named = |name: &Option<String>, kind: &str| {
        name.as_ref().is_some_and(|name| object == format!("{kind}/{name}"))
    };
    other.cluster_policies.retain(|policy| !named(&policy.metadata.name, "ClusterAgentPolicy"));
    other.egress_policies.retain(|policy| !named(&policy.metadata.name, "EgressPolicy"));
    other
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What passes is what a reader of the objects would say: need ∩ granted ∩ every ceiling − every deny. The order does
    /// not matter, a bound more never lets anything pass, and the bound that a refusal names does make the difference.
    #[test]
    fn bounds_hold_exactly_in_any_order_and_only_narrow(
        (needs, policies) in worlds(),
        bounds in prop::collection::vec(bound(), 0..4),
        more in bound(),
    ) {
        let namespace = bounded(&needs, &policies, &bounds);
        let policy = namespace.compile().unwrap();
        let given = verdicts(&policy);
        let model = Words { from: "Agent", host: "a.x.y", port: 443, method: "POST", path: "/v/chat/completions" };
        let mut declared: Vec<&Words> = vec![&model];
        declared.extend(["t1", "t2"].iter().flat_map(|tool| own_needs(&needs, tool)));
        for (request, verdict) in universe().into_iter().zip(&given) {
            let expected = declared.iter().any(|need| speaks_of(need, request))
                && policies.iter().flatten().any(|grant| speaks_of(grant, request))
                && bounds.iter().all(|bound| bound.lets_pass(request));
            prop_assert_eq!(verdict.is_none(), expected, "{:?}", request);
        }

        let mut turned = namespace.clone();
        turned.cluster_policies.reverse();
        turned.egress_policies.reverse();
        prop_assert_eq!(&turned.compile().unwrap(), &policy);

        let mut tighter = bounds.clone();
        tighter.push(more);
        let after = verdicts(&bounded(&needs, &policies, &tighter).compile().unwrap());
        for (before, after) in given.iter().zip(&after) {
            prop_assert!(before.is_none() || after.is_some(), "a bound more let something pass");
        }

        let by_bound = given.iter().enumerate().find_map(|(i, verdict)| {
            let (object, field) = verdict.as_ref()?;
            let is_bound = object.starts_with("ClusterAgentPolicy/") || field.starts_with("spec.deny");
            is_bound.then_some((i, object))
        });
        if let Some((i, object)) = by_bound {
            let loosened = verdicts(&without(&namespace, object).compile().unwrap());
            prop_assert_ne!(&loosened[i], &given[i], "{} makes no difference", object);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_canonical_reads_as_itself(text in r"(/|https?://|)[aB0x1.%/:;\[\]*_@~2eEfF \\-]{0,16}") {
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse(), Ok(host));
        }
        if let Ok(path) = text.parse::<CanonicalPath>() {
            prop_assert_eq!(path.to_string().parse(), Ok(path.clone()));
            prop_assert!(!path.as_str().split('/').any(|segment| [".", ".."].contains(&segment)));
        }
        if let Ok(host) = text.parse::<HostPattern>() {
            prop_assert_eq!(host.to_string().parse(), Ok(host));
        }
        if let Ok(path) = text.parse::<PathPattern>() {
            prop_assert_eq!(path.to_string(), text.clone());
        }
        if let Ok(url) = text.parse::<BaseUrl>() {
            prop_assert_eq!(url.to_string().parse(), Ok(url));
        }
    }

    /// No argument leaves its segment, whatever it holds.
    #[test]
    fn an_argument_stays_in_its_segment(argument in r"([./%;?#&=\\ 2efF{}*]|\PC){0,8}") {
        let tool = tool("t", "https://a.example/v1", &[("GET", "/x/{a}/y")]);
        let template = Template::new(&tool.spec.http.base_url, &tool.spec.http.functions[0]).unwrap();
        let Value::Object(arguments) = json!({ "a": argument }) else { unreachable!() };
        if let Ok(request) = template.request(&arguments) {
            let segments: Vec<&str> = request.path.as_str().split('/').collect();
            prop_assert_eq!(segments.len(), 5);
            prop_assert_eq!((segments[1], segments[2], segments[4]), ("v1", "x", "y"));
            prop_assert!(request.query.is_none());
            let source = Source::Tool("t".to_owned());
            let target: Target = request.target.clone();
            let asked = Request { source: &source, target: &target, method: request.method, path: &request.path };
            prop_assert!(template.scope(source.clone()).unwrap().matches(&asked));
        }
    }
}
