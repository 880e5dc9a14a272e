//! What is made on the cluster: namespaces with what a team writes, and objects at a steady rate.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kube::api::{ApiResource, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::seen::key;
use super::{Failure, floor};

/// How many namespaces the objects are spread over.
pub const NAMESPACES: usize = 50;

/// The kind of `group` (version `v1alpha1`) as the client needs it.
#[must_use]
pub fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, redoubt_crds::VERSION, kind), plural)
}

/// The kind Agent.
#[must_use]
pub fn agents() -> ApiResource {
    resource(redoubt_crds::TEAM_GROUP, "Agent", "agents")
}

/// An Agent with a tool, a credential and a caller, as in the quickstart.
#[must_use]
pub fn agent(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": "helper" } },
        "spec": {
            "runtime": {
                "model": { "baseURL": "https://model.example.com/v1", "name": "some-model" },
                "instructions": "You answer questions about notes. Read a note before you speak of it.",
            },
            "tools": [{ "name": "notes" }],
            "secretBindings": [{ "name": "notes-token" }],
            "callers": [{ "serviceAccount": { "name": "alice" } }],
        },
    })
}

/// An object of the floor.
#[must_use]
pub fn floor_object(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "text": "some text" } })
}

async fn apply(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<(), Failure> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), resource.api_version.clone().into());
        fields.insert("kind".into(), resource.kind.clone().into());
    }
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    api.patch(&name, &PatchParams::apply("redoubt-bench").force(), &Patch::Apply(&object)).await?;
    Ok(())
}

/// Makes the one VaultConnection.
///
/// # Errors
/// When the API server refuses it.
async fn vault_connection(client: &Client) -> Result<(), Failure> {
    let kind = resource(redoubt_crds::PLATFORM_GROUP, "VaultConnection", "vaultconnections");
    let spec = json!({
        "address": "https://vault.example.com:8200",
        "auth": { "kubernetes": { "mount": "kubernetes", "role": "redoubt-agents", "audience": "vault" } },
        "grants": [{
            "namespaceSelector": { "matchLabels": { "redoubt.dev/vault": "bench" } },
            "paths": [{ "mount": "secret", "prefix": "agents/bench" }],
        }],
    });
    apply(client, &kind, None, json!({ "metadata": { "name": "main" }, "spec": spec })).await
}

/// Makes or changes a ceiling that selects every Agent, and takes `host` from all of them.
///
/// # Errors
/// When the API server refuses it.
pub async fn ceiling(client: &Client, host: &str) -> Result<(), Failure> {
    let kind = resource(redoubt_crds::PLATFORM_GROUP, "ClusterAgentPolicy", "clusteragentpolicies");
    let spec = json!({
        "namespaceSelector": { "matchLabels": { "redoubt.dev/vault": "bench" } },
        "denies": [{ "hosts": [host] }],
    });
    apply(client, &kind, None, json!({ "metadata": { "name": "bench" }, "spec": spec })).await
}

/// Makes what the objects need.
///
/// # Errors
/// When the API server refuses something.
pub async fn prepare(client: &Client) -> Result<(), Failure> {
    let definitions: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(client.clone());
    definitions.create(&PostParams::default(), &floor::definition()?).await?;
    vault_connection(client).await?;
    try_join_all((0..NAMESPACES).map(|i| namespace(client, i))).await?;
    Ok(())
}

async fn namespace(client: &Client, index: usize) -> Result<(), Failure> {
    let name = format!("bench-{index}");
    let namespaces = ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&());
    let labels = json!({ "redoubt.dev/vault": "bench", "pod-security.kubernetes.io/enforce": "restricted" });
    apply(client, &namespaces, None, json!({ "metadata": { "name": name, "labels": labels } })).await?;
    let team = |kind, plural| resource(redoubt_crds::TEAM_GROUP, kind, plural);
    let tool = json!({ "metadata": { "name": "notes" }, "spec": { "http": {
        "baseURL": "https://notes.example.com/v1",
        "functions": [{
            "name": "get_note", "description": "Read one note by its number.", "effect": "Read",
            "method": "GET", "path": "/notes/{id}",
            "parameters": {
                "type": "object", "properties": { "id": { "type": "string", "pattern": "^[0-9]{1,6}$" } },
                "required": ["id"], "additionalProperties": false,
            },
        }],
    } } });
    let binding = json!({ "metadata": { "name": "notes-token" }, "spec": {
        "vault": { "connectionName": "main", "kv2": { "mount": "secret", "path": "agents/bench/notes", "key": "token" } },
        "inject": { "bearer": {} },
        "destinations": [{ "hosts": ["notes.example.com"], "methods": ["GET"], "paths": ["/v1/notes/*"] }],
        "consumers": [{ "kind": "Tool", "name": "notes" }],
    } });
    let policy = json!({ "metadata": { "name": "helper" }, "spec": {
        "agentSelector": { "matchLabels": { "app": "helper" } },
        "allow": [
            { "from": [{ "kind": "Agent" }], "hosts": ["model.example.com"], "methods": ["POST"], "paths": ["/v1/chat/completions"] },
            { "from": [{ "kind": "Tool", "name": "notes" }], "hosts": ["notes.example.com"], "methods": ["GET"], "paths": ["/v1/notes/*"] },
        ],
    } });
    apply(client, &team("Tool", "tools"), Some(&name), tool).await?;
    apply(client, &team("SecretBinding", "secretbindings"), Some(&name), binding).await?;
    apply(client, &team("EgressPolicy", "egresspolicies"), Some(&name), policy).await
}

/// Creates one object; gives its key and when it was asked for.
///
/// # Errors
/// When the API server refuses it.
pub async fn create(
    client: &Client,
    resource: &ApiResource,
    index: usize,
    name: &str,
    object: Value,
) -> Result<(String, Instant), Failure> {
    let mut object = object;
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), resource.api_version.clone().into());
        fields.insert("kind".into(), resource.kind.clone().into());
    }
    let object: DynamicObject = serde_json::from_value(object)?;
    let namespace = format!("bench-{}", index % NAMESPACES);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, resource);
    let asked = Instant::now();
    let made =
        api.create(&PostParams::default(), &object).await.map_err(|error| format!("{name}: {error}"))?;
    Ok((key(&made), asked))
}

/// Creates objects number `from` to `to` at `rate` per second.
///
/// # Errors
/// When the API server refuses one.
pub async fn fill(
    client: &Client,
    resource: &ApiResource,
    (from, to): (usize, usize),
    rate: u32,
    object: fn(&str) -> Value,
) -> Result<Vec<(String, Instant)>, Failure> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let mut tasks = JoinSet::new();
    let mut made = Vec::new();
    for index in from..to {
        tick.tick().await;
        let (client, resource) = (client.clone(), resource.clone());
        tasks.spawn(async move {
            let name = format!("a{index}");
            create(&client, &resource, index, &name, object(&name)).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        made.push(done??);
    }
    Ok(made)
}
