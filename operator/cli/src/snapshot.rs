//! `kubectl redoubt snapshot`: what the platform has on a cluster, as one file for `check`, `diff` and `explain`. There are
//! no Secrets in it.

use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Map, Value, json};

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::objects::{self, KINDS, Key, Object, Objects, Scope};
use crate::output::Format;

/// Flags of `snapshot`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// When a kind cannot be listed.
pub async fn run(cluster: &cluster::Args, _: &Args) -> Result<(), Error> {
    let cluster = Cluster::connect(cluster).await?;
    let objects = platform(&cluster).await?;
    let list = json!({
        "apiVersion": "v1", "kind": "List",
        "items": objects.0.values().map(|object| plain(&object.value)).collect::<Vec<_>>(),
    });
    crate::output::emit(Format::Yaml, &list, "")
}

/// Everything cluster-scoped that verdicts on Agents rest on.
///
/// # Errors
/// When a kind cannot be listed.
pub async fn platform(cluster: &Cluster) -> Result<Objects, Error> {
    let mut all = Objects::default();
    for (kind, group, scope) in KINDS {
        if *scope == Scope::Cluster {
            list(cluster, (kind, group), None, &mut all).await?;
        }
    }
    Ok(all)
}

/// The platform's objects and those of the namespaces.
///
/// # Errors
/// When a kind cannot be listed.
pub async fn with_namespaces<'a>(
    cluster: &Cluster,
    namespaces: impl IntoIterator<Item = &'a String>,
) -> Result<Objects, Error> {
    let mut all = platform(cluster).await?;
    for namespace in namespaces {
        for (kind, group, scope) in KINDS {
            if *scope == Scope::Namespaced {
                list(cluster, (kind, group), Some(namespace), &mut all).await?;
            }
        }
    }
    Ok(all)
}

/// The objects of every kind in every namespace.
///
/// # Errors
/// When a kind cannot be listed.
pub async fn everything(cluster: &Cluster) -> Result<Objects, Error> {
    let mut all = Objects::default();
    for (kind, group, _) in KINDS {
        list(cluster, (kind, group), None, &mut all).await?;
    }
    Ok(all)
}

async fn list(
    cluster: &Cluster,
    (kind, group): (&str, &str),
    namespace: Option<&str>,
    all: &mut Objects,
) -> Result<(), Error> {
    let version = objects::api_version(kind).unwrap_or_default();
    let short = version.rsplit('/').next().unwrap_or_default();
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, short, kind), &plural(kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, &resource),
        None => Api::all_with(cluster.client.clone(), &resource),
    };
    let place = namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default();
    let failed = |error: &kube::Error| Error::cluster(format!("list {}{place}", resource.plural), error);
    for object in api.list(&ListParams::default()).await.map_err(|error| failed(&error))? {
        let mut value = serde_json::to_value(&object).map_err(|error| Error::Defect(error.to_string()))?;
        // Items of a list need not say what they are.
        if let Some(members) = value.as_object_mut() {
            members.insert("apiVersion".to_owned(), json!(version));
            members.insert("kind".to_owned(), json!(kind));
        }
        let key = Key {
            kind: kind.to_owned(),
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        };
        all.0.insert(key, Object { value, file: None });
    }
    Ok(())
}

/// The name of a kind's collection, as its definition has it.
fn plural(kind: &str) -> String {
    let definitions = redoubt_crds::yaml::definitions();
    let ours = definitions.iter().find(|definition| definition.spec.names.kind == kind);
    match (ours, kind) {
        (Some(definition), _) => definition.spec.names.plural.clone(),
        (None, "RuntimeClass") => "runtimeclasses".to_owned(),
        (None, kind) => format!("{}s", kind.to_lowercase()),
    }
}

/// The object with what a verdict can rest on: name, labels, the mark of a default class, and its spec.
fn plain(value: &Value) -> Value {
    let mut metadata = Map::new();
    for name in ["name", "labels"] {
        if let Some(member) = value.pointer(&format!("/metadata/{name}")) {
            metadata.insert(name.to_owned(), member.clone());
        }
    }
    let mark = redoubt_crds::names::DEFAULT_CLASS_ANNOTATION;
    let marked = value.pointer("/metadata/annotations").and_then(|all| all.get(mark));
    if let Some(marked) = marked {
        metadata.insert("annotations".to_owned(), json!({ mark: marked }));
    }
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let mut plain = json!({ "apiVersion": value.get("apiVersion"), "kind": kind, "metadata": metadata });
    let member = match kind {
        "Namespace" => None,
        "RuntimeClass" => Some("handler"),
        _ => Some("spec"),
    };
    if let (Some(name), Some(members)) = (member, plain.as_object_mut())
        && let Some(member) = value.get(name)
    {
        members.insert(name.to_owned(), member.clone());
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_more_than_a_verdict_needs() {
        let given = json!({"apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": ["kubernetes"]},
            "metadata": {"name": "a", "labels": {"l": "1"}, "uid": "u", "resourceVersion": "1",
                "annotations": {"token": "x"}}, "status": {"phase": "Active"}});
        let expected =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"l": "1"}}});
        assert_eq!(plain(&given), expected);
    }
}
