//! The floor: a controller as plain as they come, to compare the operator with in the same run. For each object it applies
//! one ConfigMap and sets one condition.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Config};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use super::Failure;

/// API group of the floor's objects.
pub const GROUP: &str = "bench.redoubt.dev";
const MANAGER: &str = "bench-floor";

/// The definition of the floor's objects.
///
/// # Errors
/// Never with what is written here.
pub fn definition() -> Result<CustomResourceDefinition, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("floors.{GROUP}") },
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": { "kind": "Floor", "plural": "floors", "singular": "floor" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": { "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                } },
            }],
        },
    }))
}

/// The kind as the client needs it.
#[must_use]
pub fn resource() -> kube::core::ApiResource {
    kube::core::ApiResource::from_gvk_with_plural(
        &kube::core::GroupVersionKind::gvk(GROUP, "v1", "Floor"),
        "floors",
    )
}

/// Runs until the process ends.
pub async fn run(client: Client) {
    let resource = resource();
    let floors: Api<kube::core::DynamicObject> = Api::all_with(client.clone(), &resource);
    let maps: Api<ConfigMap> = Api::all(client.clone());
    Controller::new_with(floors, watcher::Config::default(), resource.clone())
        .owns_with(maps, (), watcher::Config::default().labels(MANAGER))
        .with_config(Config::default().concurrency(16))
        .shutdown_on_signal()
        .run(visit, |_, _, _| Action::requeue(Duration::from_secs(5)), Arc::new((client, resource)))
        .for_each(|_| async {})
        .await;
}

type Context = (Client, kube::core::ApiResource);

async fn visit(floor: Arc<kube::core::DynamicObject>, context: Arc<Context>) -> Result<Action, Failure> {
    let (client, resource) = &*context;
    let (namespace, name) = (floor.namespace().unwrap_or_default(), floor.name_any());
    let params = PatchParams::apply(MANAGER).force();
    let map = json!({
        "apiVersion": "v1", "kind": ConfigMap::kind(&()),
        "metadata": {
            "name": name, "labels": { MANAGER: "" },
            "ownerReferences": floor.controller_owner_ref(resource).map(|owner| vec![owner]),
        },
        "data": { "text": floor.data.pointer("/spec/text") },
    });
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    maps.patch(&name, &params, &Patch::Apply(&map)).await?;
    if floor.data.pointer("/status/conditions").is_none() {
        let status = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "Floor",
            "status": { "conditions": [{ "type": "Programmed", "status": "True" }] },
        });
        let floors: Api<kube::core::DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace, resource);
        floors.patch_status(&name, &params, &Patch::Apply(&status)).await?;
    }
    Ok(Action::await_change())
}
