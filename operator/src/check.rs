//! Whether an installation is whole, seen with the operator's own rights: what `helm test` runs. It changes nothing.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use redoubt_crds::{VERSION, names, yaml};

/// One thing that was tried, and what is wrong with it if anything is.
#[derive(Debug)]
pub struct Tried {
    /// What it was.
    pub what: String,
    /// Why it failed.
    pub failure: Option<kube::Error>,
}

/// Lists each kind of ours and reads the operator's key Secret in `namespace`.
pub async fn check(client: &Client, namespace: &str) -> Vec<Tried> {
    let mut tried = Vec::new();
    for definition in yaml::definitions() {
        let (names, group) = (&definition.spec.names, &definition.spec.group);
        let kind = GroupVersionKind::gvk(group, VERSION, &names.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, &names.plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let outcome = api.list_metadata(&ListParams::default().limit(1)).await;
        tried.push(Tried { what: format!("list {}.{group}", names.plural), failure: outcome.err() });
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let outcome = secrets.get_metadata(names::SIGNING_KEY_SECRET).await;
    let what = format!("get the Secret {namespace}/{}", names::SIGNING_KEY_SECRET);
    tried.push(Tried { what, failure: outcome.err() });
    tried
}
