//! `kubectl redoubt doctor`: whether a cluster has what Redoubt's promises rest on, as far as the API server can tell.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use redoubt_crds::names;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::objects::{Objects, Scope, scope};
use crate::output::{FINE, FOUND, Format, emit};
use crate::snapshot;

/// The guards as the chart installs them.
const GUARDS: &[&str] = &[
    include_str!("../../../policies/library/agent-accounts.yaml"),
    include_str!("../../../policies/library/agent-objects.yaml"),
    include_str!("../../../policies/library/agent-pod-access.yaml"),
    include_str!("../../../policies/library/agent-pod-deletion.yaml"),
    include_str!("../../../policies/library/agent-pod-status.yaml"),
    include_str!("../../../policies/library/agent-pods.yaml"),
    include_str!("../../../policies/library/break-glass.yaml"),
    include_str!("../../../policies/library/ceilings.yaml"),
    include_str!("../../../policies/library/operator-pods.yaml"),
    include_str!("../../../policies/library/reserved-names.yaml"),
    include_str!("../../../policies/library/status.yaml"),
    include_str!("../../../policies/library/use.yaml"),
];

/// What cannot be seen through the API server.
const UNSEEN: &str = "not seen from here: the nodes' and Kata's kernels (each Agent's PolicyEnforced tells of its own self-tests) \
                      and whether the network plug-in enforces NetworkPolicies";

/// Flags of `doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Mark {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    mark: Mark,
    what: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    help: String,
}

#[derive(Debug, Serialize)]
struct Report {
    healthy: bool,
    checks: Vec<Check>,
    notes: Vec<String>,
}

impl Report {
    fn add(&mut self, mark: Mark, what: impl Into<String>, help: &str) {
        let help = if mark == Mark::Ok { String::new() } else { help.to_owned() };
        self.checks.push(Check { mark, what: what.into(), help });
    }
}

/// Runs the command and gives its exit status: 1 where something fails.
///
/// # Errors
/// When something cannot be read.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    let cluster = Cluster::connect(cluster).await?;
    let mut report = Report { healthy: true, checks: Vec::new(), notes: vec![UNSEEN.to_owned()] };
    definitions(&cluster, &mut report).await?;
    guards(&cluster, &mut report).await?;
    operator(&cluster, &mut report).await?;
    let everywhere = snapshot::everything(&cluster).await?;
    accepted(&everywhere, &mut report);
    namespaces(&cluster, &everywhere, &mut report).await?;
    report.healthy = report.checks.iter().all(|check| check.mark != Mark::Fail);
    emit(args.output, &report, &human(&report))?;
    Ok(if report.healthy { FINE } else { FOUND })
}

async fn definitions(cluster: &Cluster, report: &mut Report) -> Result<(), Error> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    for shipped in redoubt_crds::yaml::definitions() {
        let name = shipped.name_any();
        let help = "Apply the definitions of this version: kubectl apply --server-side -f crds/yaml.";
        let live = api.get_opt(&name).await;
        let live = live.map_err(|error| Error::cluster(format!("read the definition {name}"), &error))?;
        let Some(live) = live else {
            report.add(Mark::Fail, format!("definition {name} is missing"), help);
            continue;
        };
        let conditions = live.status.as_ref().and_then(|status| status.conditions.as_ref());
        let established = conditions
            .is_some_and(|all| all.iter().any(|one| one.type_ == "Established" && one.status == "True"));
        let schema = |definition: &CustomResourceDefinition| {
            let version = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
            version.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default()
        };
        if !established {
            report.add(Mark::Fail, format!("definition {name} is not established"), help);
        } else if within(&schema(&shipped), &schema(&live)) {
            report.add(Mark::Ok, format!("definition {name}"), "");
        } else {
            report.add(Mark::Warn, format!("definition {name} is not that of this version"), help);
        }
    }
    Ok(())
}

async fn guards(cluster: &Cluster, report: &mut Report) -> Result<(), Error> {
    let help = "Install the chart again: what the guards forbid to namespace editors is allowed until then.";
    for shipped in shipped_guards()? {
        let text = |pointer: &str| shipped.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let plural = if kind.ends_with("Binding") {
            "validatingadmissionpolicybindings"
        } else {
            "validatingadmissionpolicies"
        };
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind),
            plural,
        );
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        let live = api.get_opt(name).await;
        let live = live.map_err(|error| Error::cluster(format!("read {kind}/{name}"), &error))?;
        let spec = shipped.get("spec").unwrap_or(&Value::Null);
        match live {
            None => report.add(Mark::Fail, format!("{kind}/{name} is missing"), help),
            Some(live) if within(spec, live.data.get("spec").unwrap_or(&Value::Null)) => {
                report.add(Mark::Ok, format!("{kind}/{name}"), "");
            }
            Some(_) => report.add(Mark::Fail, format!("{kind}/{name} is not as shipped"), help),
        }
    }
    Ok(())
}

fn shipped_guards() -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    for text in GUARDS {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| Error::Defect(error.to_string()))?;
        all.extend(documents);
    }
    Ok(all)
}

/// Whether `live` says all that `shipped` does; the API server adds defaults. A list has exactly its items.
fn within(shipped: &Value, live: &Value) -> bool {
    match (shipped, live) {
        (Value::Object(shipped), Value::Object(live)) => {
            shipped.iter().all(|(name, member)| live.get(name).is_some_and(|other| within(member, other)))
        }
        (Value::Array(shipped), Value::Array(live)) => {
            shipped.len() == live.len() && shipped.iter().zip(live).all(|(one, other)| within(one, other))
        }
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

async fn operator(cluster: &Cluster, report: &mut Report) -> Result<(), Error> {
    let (namespace, name) = (names::OPERATOR_NAMESPACE, names::OPERATOR_ACCOUNT);
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let live = api.get_opt(name).await;
    let live = live.map_err(|error| Error::cluster(format!("read Deployment/{name}"), &error))?;
    let ready =
        live.and_then(|live| live.status).and_then(|status| status.ready_replicas).unwrap_or_default();
    if ready > 0 {
        report.add(Mark::Ok, format!("operator: {ready} ready"), "");
    } else {
        let help = format!("kubectl -n {namespace} describe deployment {name}");
        report.add(Mark::Fail, "operator: no replica is ready", &help);
    }
    Ok(())
}

/// Whether the operator takes what was written, and the Agents are Ready.
fn accepted(all: &Objects, report: &mut Report) {
    for (key, object) in &all.0 {
        let wanted = if key.kind == "Agent" { "Ready" } else { "Accepted" };
        let conditions = object.value.pointer("/status/conditions").and_then(Value::as_array);
        if matches!(key.kind.as_str(), "Namespace" | "RuntimeClass") {
            continue;
        }
        let find = |one: &&Value| one.get("type").and_then(Value::as_str) == Some(wanted);
        let condition = conditions.and_then(|all| all.iter().find(find));
        let text =
            |name: &str| condition.and_then(|one| one.get(name)).and_then(Value::as_str).unwrap_or_default();
        if text("status") == "True" {
            report.add(Mark::Ok, format!("{key} is {wanted}"), "");
            continue;
        }
        // What a team wrote is the team's to put right; what the platform wrote stops all of them.
        let mark = if scope(&key.kind) == Some(Scope::Cluster) { Mark::Fail } else { Mark::Warn };
        let message = match text("message") {
            "" => "The operator has not looked at it yet.",
            message => message,
        };
        report.add(mark, format!("{key} is not {wanted}: {}", text("reason")), message);
    }
}

/// Whether the namespaces with Agents hold pods to the strictest standard.
async fn namespaces(cluster: &Cluster, all: &Objects, report: &mut Report) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let mut with_agents: Vec<&String> =
        all.0.keys().filter(|key| key.kind == "Agent").map(|key| &key.namespace).collect();
    with_agents.dedup();
    for name in with_agents {
        let live = api.get(name).await;
        let live = live.map_err(|error| Error::cluster(format!("read Namespace/{name}"), &error))?;
        let label = live.labels().get("pod-security.kubernetes.io/enforce").map(String::as_str);
        let mark = if label == Some("restricted") { Mark::Ok } else { Mark::Warn };
        let what = format!("Namespace/{name} enforces Pod Security {}", label.unwrap_or("privileged"));
        report.add(
            mark,
            what,
            "Label it pod-security.kubernetes.io/enforce=restricted; agents' pods keep to it.",
        );
    }
    Ok(())
}

fn human(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let mark = match check.mark {
            Mark::Ok => "OK  ",
            Mark::Warn => "WARN",
            Mark::Fail => "FAIL",
        };
        text.push_str(&format!("{mark} {}\n", check.what));
        if !check.help.is_empty() {
            text.push_str(&format!("     {}\n", check.help));
        }
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_guard_of_the_library_is_looked_for() {
        let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/library");
        let files = std::fs::read_dir(library).unwrap().filter(|entry| {
            entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "yaml")
        });
        assert_eq!(files.count(), GUARDS.len(), "GUARDS in doctor.rs lacks a file of policies/library");
        assert!(shipped_guards().unwrap().len() >= 2 * GUARDS.len());
    }

    #[test]
    fn defaults_may_be_added_and_nothing_else_changed() {
        let shipped = json!({"a": [{"b": 1}], "c": "x"});
        for (live, same) in [
            (json!({"a": [{"b": 1.0, "d": true}], "c": "x", "e": []}), true),
            (json!({"a": [{"b": 2}], "c": "x"}), false),
            (json!({"a": [{"b": 1}, {"b": 1}], "c": "x"}), false),
            (json!({"a": [{"b": 1}]}), false),
        ] {
            assert_eq!(within(&shipped, &live), same, "{live}");
        }
    }
}
