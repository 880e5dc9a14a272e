//! The chart as a platform team uses it: check, upgrade and rollback of a release that is in use.

use redoubt_e2e::cluster::{Cluster, Failed, Output, Team};
use serde_json::Value;

use super::cluster;

pub(super) fn helm(cluster: &Cluster, arguments: &[&str]) -> Result<Output, Failed> {
    cluster.run("helm", &[arguments, &["--namespace", "redoubt-system"]].concat(), "")
}

pub(super) fn chart() -> String {
    format!("{}/../charts/redoubt", env!("CARGO_MANIFEST_DIR"))
}

fn upgrade(cluster: &Cluster, set: &str) -> Result<Output, Failed> {
    helm(cluster, &["upgrade", "redoubt", &chart(), "--reuse-values", "--skip-crds", "--set-string", set])
}

pub(super) fn rolled_out(cluster: &Cluster) {
    let arguments =
        ["rollout", "status", "-n", "redoubt-system", "deployment/redoubt-operator", "--timeout=120s"];
    cluster.kubectl(&arguments).expect("the operator is there");
}

fn log_filter(cluster: &Cluster) -> Value {
    let deployment = cluster.get("redoubt-system", "deployment/redoubt-operator").expect("the operator");
    deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone()
}

/// Puts the release back as it was found, also when the test fails.
pub(super) struct Restored<'a>(pub(super) &'a Cluster, pub(super) String);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        helm(self.0, &["rollback", "redoubt", &self.1]).expect("the release as it was");
        rolled_out(self.0);
    }
}

pub(super) fn revision(cluster: &Cluster) -> String {
    let output = helm(cluster, &["list", "--filter", "^redoubt$", "-o", "json"]).expect("releases");
    let releases: Value = serde_json::from_str(&output.stdout).expect("JSON");
    releases[0]["revision"].as_str().expect("a revision").to_owned()
}

#[test]
fn an_upgrade_and_a_rollback_leave_agents_and_key_alone() {
    let cluster = cluster();
    let team = Team::with_agent(&cluster, "chart-upgrade").expect("the team");
    cluster.wait_ready("chart-upgrade", "helper").expect("ready");
    let uid = || {
        cluster.get("chart-upgrade", "pod/redoubt-agent-helper").expect("its pod")["metadata"]["uid"].clone()
    };
    let key =
        || cluster.get("redoubt-system", "secret/redoubt-signing-key").expect("the key")["data"].clone();
    let (pod, secret, filter) = (uid(), key(), log_filter(&cluster));
    assert!(secret.is_object(), "there is a key");
    let before = revision(&cluster);

    let restored = Restored(&cluster, before.clone());
    upgrade(&cluster, "log=debug").expect("upgraded");
    rolled_out(&cluster);
    assert_ne!(log_filter(&cluster), filter);
    helm(&cluster, &["test", "redoubt"]).expect("all is well after the upgrade");
    cluster.wait_ready("chart-upgrade", "helper").expect("ready");
    assert_eq!((uid(), key()), (pod.clone(), secret.clone()));

    let refusal = upgrade(&cluster, "image=registry.example/operator:latest").expect_err("an image by tag");
    assert!(refusal.stderr.contains("image"), "{refusal}");
    drop(restored);
    assert_eq!(log_filter(&cluster), filter);
    helm(&cluster, &["test", "redoubt"]).expect("all is well after the rollback");
    cluster.wait_ready("chart-upgrade", "helper").expect("ready");
    assert_eq!((uid(), key()), (pod, secret));
    drop(team);
}

#[test]
fn an_upgrade_over_older_definitions_is_refused() {
    let cluster = cluster();
    let name = "customresourcedefinitions/tools.redoubt.dev";
    let path = "/spec/versions/0/schema/openAPIV3Schema/description";
    let set = |text: &str| {
        let patch = serde_json::json!([{"op": "replace", "path": path, "value": text}]).to_string();
        cluster.kubectl(&["patch", name, "--type=json", "-p", &patch]).expect("the definition is changed");
    };
    let today = cluster.get("default", name).expect("the definition");
    let today = today.pointer(path).and_then(Value::as_str).expect("a description").to_owned();
    let dry = || {
        let arguments = ["upgrade", "redoubt", &chart(), "--reuse-values", "--skip-crds", "--dry-run=server"];
        helm(&cluster, &arguments)
    };
    dry().expect("the definitions are those of the chart");
    set("That of an older chart.");
    let refusal = dry();
    set(&today);
    let refusal = refusal.expect_err("it is refused");
    assert!(
        refusal.stderr.contains("the definition tools.redoubt.dev is not that of this chart"),
        "{refusal}"
    );
    dry().expect("with the definitions it goes on");
}

/// It is no check if it cannot fail.
#[test]
fn helm_test_notices_a_right_that_is_missing() {
    let cluster = cluster();
    let name = "clusterrole/redoubt-operator";
    let found = cluster.get("default", name).expect("the role");
    // As Helm applies it, so that the next upgrade meets no other owner of its fields.
    let put = |rules: &Value| {
        let (labels, annotations) = (&found["metadata"]["labels"], &found["metadata"]["annotations"]);
        let role = serde_json::json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": rules,
            "metadata": {"name": "redoubt-operator", "labels": labels, "annotations": annotations}});
        let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-"];
        cluster.run("kubectl", &arguments, &role.to_string()).expect("the role is changed");
    };
    let mut fewer = found["rules"].clone();
    fewer.as_array_mut().expect("rules").retain(|rule| !rule.to_string().contains("vaultconnections"));
    put(&fewer);
    let outcome = helm(&cluster, &["test", "redoubt", "--logs"]);
    put(&found["rules"]);
    let failure = outcome.expect_err("it fails");
    let told = format!("{}{}", failure.stdout, failure.stderr);
    assert!(told.contains("list vaultconnections.platform.redoubt.dev: failed"), "{told}");
    helm(&cluster, &["test", "redoubt"]).expect("it passes with the right");
}
