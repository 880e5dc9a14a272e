//! What the chart gives the operator, read from the files that its templates take their rules from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::rbac::v1::PolicyRule;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/redoubt")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(chart().join(path)).unwrap()
}

fn rules(path: &str) -> Vec<PolicyRule> {
    serde_saphyr::from_str(&read(path)).unwrap()
}

/// Resources that would let the operator see a credential or get into a pod.
const FORBIDDEN: [&str; 12] = [
    "*",
    "secrets",
    "serviceaccounts/token",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/ephemeralcontainers",
    "pods/proxy",
    "services/proxy",
    "nodes/proxy",
    "roles",
    "clusterroles",
];

/// What is wrong with rules for the whole cluster.
fn faults(rules: &[PolicyRule]) -> Vec<String> {
    let mut faults = Vec::new();
    for rule in rules {
        let resources = rule.resources.iter().flatten();
        faults.extend(resources.filter(|resource| FORBIDDEN.contains(&resource.as_str())).cloned());
        let wild = rule
            .verbs
            .iter()
            .chain(rule.api_groups.iter().flatten())
            .chain(rule.non_resource_urls.iter().flatten());
        faults.extend(wild.filter(|text| text.contains('*')).cloned());
        let powers = ["escalate", "bind", "impersonate", "deletecollection"];
        faults.extend(rule.verbs.iter().filter(|verb| powers.contains(&verb.as_str())).cloned());
    }
    faults
}

#[test]
fn the_cluster_role_reads_no_secret_and_gets_into_no_pod() {
    let rules = rules("files/cluster-rules.yaml");
    assert!(rules.len() > 5);
    assert_eq!(faults(&rules), Vec::<String>::new());
    // The check itself sees what it is there for.
    let bad: Vec<PolicyRule> = serde_saphyr::from_str(
        "[{apiGroups: [''], resources: [secrets, pods/exec], verbs: ['*']}, {apiGroups: ['*'], resources: [x], verbs: [bind]}]",
    )
    .unwrap();
    assert_eq!(faults(&bad).len(), 5);
}

#[test]
fn pods_are_created_and_deleted_and_a_guard_stands_over_changes() {
    let verbs: BTreeSet<String> = rules("files/cluster-rules.yaml")
        .into_iter()
        .filter(|rule| rule.resources.iter().flatten().any(|resource| resource == "pods"))
        .flat_map(|rule| rule.verbs)
        .collect();
    assert_eq!(verbs, ["create", "delete", "get", "list", "patch", "watch"].map(str::to_owned).into());
    // RBAC cannot limit a patch to one field; the cluster's tests show what the guard lets pass.
    assert!(read("files/policies/operator-pods.yaml").contains("name: redoubt-operator-pods"));
}

#[test]
fn the_one_secret_and_the_one_lease_by_name() {
    let rules = rules("files/namespace-rules.yaml");
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| {
            let [resource] = rule.resources.as_deref().unwrap() else { panic!("one resource: {rule:?}") };
            let names = rule.resource_names.clone().unwrap_or_default();
            (resource.as_str(), names.join(","), rule.verbs.join(","))
        })
        .collect();
    let expected = [
        ("secrets", redoubt_crds::names::SIGNING_KEY_SECRET, "get,patch,update"),
        ("leases", redoubt_crds::names::LEASE, "get,list,watch,patch"),
        ("leases", "", "create"),
    ];
    assert_eq!(rules, expected.map(|(a, b, c)| (a, b.to_owned(), c.to_owned())));
}

#[test]
fn the_templates_take_the_rules_from_these_files() {
    let template = read("templates/rbac.yaml");
    let rules: Vec<_> = template.lines().filter(|line| line.starts_with("rules:")).collect();
    assert_eq!(rules.len(), 2);
    assert!(rules[0].contains("files/cluster-rules.yaml") && rules[1].contains("files/namespace-rules.yaml"));
    // Those for people bind nothing.
    assert!(!read("templates/roles.yaml").contains("Binding"));
    let other: Vec<_> = std::fs::read_dir(chart().join("templates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("rbac.yaml") && !path.ends_with("roles.yaml"))
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("rbac.authorization.k8s.io"))
        .collect();
    assert_eq!(other, Vec::<PathBuf>::new());
}

/// An upgrade must not wipe the key: no template may give the Secret data.
#[test]
fn the_signing_secret_is_made_empty_and_kept() {
    let template = read("templates/signing-key.yaml");
    let fields: Vec<_> = template.lines().map(str::trim_start).collect();
    assert!(!fields.iter().any(|line| line.starts_with("data:") || line.starts_with("stringData:")));
    assert!(template.contains("helm.sh/resource-policy: keep"));
    assert!(template.contains(&format!("name: {}", redoubt_crds::names::SIGNING_KEY_SECRET)));
}

/// An upgrade must not take the lead from whoever has it.
#[test]
fn the_lease_is_made_without_a_holder() {
    let template = read("templates/lease.yaml");
    assert!(template.contains(&format!("name: {}\n", redoubt_crds::names::LEASE)));
    assert!(!template.lines().any(|line| line.starts_with("spec")));
    assert!(read("templates/deployment.yaml").contains("--identity=$(POD_NAME)"));
}

#[test]
fn the_definitions_are_those_of_the_types() {
    let expected: BTreeMap<String, String> = redoubt_crds::yaml::files().unwrap().into_iter().collect();
    let installed: BTreeMap<String, String> = std::fs::read_dir(chart().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    assert_eq!(installed.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(installed == expected, "print them anew: cargo run -p redoubt-crds -- crds/yaml");
}

#[test]
fn the_admission_policies_are_those_of_the_library() {
    let guards: Vec<_> = std::fs::read_dir(chart().join("files/policies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    assert!(guards.iter().any(|text| text.contains("kind: ValidatingAdmissionPolicyBinding")));
    assert!(read("templates/admission.yaml").contains("files/policies/*.yaml"));
}
