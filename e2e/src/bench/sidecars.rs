//! Many sidecars in one process: each is the real policy client, with the arguments of its pod, the policy of its ConfigMap and
//! a token that the API server has made for its pod as it does for the kubelet.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser as _;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use redoubt_crds::names;
use redoubt_egress::Follower;
use redoubt_egress::config::{Args, Config};
use redoubt_policy::envelope::ENVELOPE_KEY;
use tokio::task::JoinSet;

use super::Failure;

/// The audience of a sidecar's token.
const POLICY_AUDIENCE: &str = "redoubt.dev/policy";
/// How many are started at the same time.
const AT_A_TIME: usize = 16;

/// Sidecars that follow the operator.
pub struct Sidecars(Vec<Follower>);

impl Sidecars {
    /// Starts one for every pod of an Agent. `nodes` gives a client that acts as the kubelet of a node. Files go into `folder`.
    ///
    /// # Errors
    /// When a token cannot be had or a policy is not accepted.
    pub async fn start(
        client: &Client,
        nodes: impl Fn(&str) -> Result<Client, Failure>,
        folder: &Path,
    ) -> Result<Self, Failure> {
        let of_agents = ListParams::default().labels(names::AGENT_LABEL);
        let pods = Api::<Pod>::all(client.clone()).list(&of_agents).await?;
        let maps = Api::<ConfigMap>::all(client.clone()).list(&of_agents).await?;
        let maps: HashMap<_, _> =
            maps.items.into_iter().map(|map| ((map.namespace(), map.name_any()), map)).collect();
        let maps = &maps;
        let mut kubelets: HashMap<String, Client> = HashMap::new();
        for pod in &pods.items {
            let node = node_of(pod);
            if !kubelets.contains_key(node) {
                kubelets.insert(node.to_owned(), nodes(node)?);
            }
        }
        let starting = pods.items.into_iter().map(|pod| {
            let client = kubelets.get(node_of(&pod)).cloned().ok_or("a pod without a node");
            async move {
                let map = maps.get(&(pod.namespace(), pod.name_any())).ok_or("a pod without a ConfigMap")?;
                start_one(&client?, &pod, map, folder).await
            }
        });
        Ok(Self(futures::stream::iter(starting).buffer_unordered(AT_A_TIME).try_collect().await?))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until every one has a policy of at least this epoch; gives how long each took from `began`, and themselves.
    ///
    /// # Errors
    /// When one has none within `limit`.
    pub async fn reached(
        self,
        epoch: u64,
        began: Instant,
        limit: Duration,
    ) -> Result<(Self, Vec<f64>), Failure> {
        let mut waiting = JoinSet::new();
        for mut follower in self.0 {
            waiting.spawn(async move {
                follower.reached(epoch).await;
                (follower, began.elapsed().as_secs_f64())
            });
        }
        let (all, mut followers, mut took) = (waiting.len(), Vec::new(), Vec::new());
        let waited = tokio::time::timeout(limit, async {
            while let Some(done) = waiting.join_next().await {
                let (follower, seconds) = done?;
                followers.push(follower);
                took.push(seconds);
            }
            Ok::<_, Failure>(())
        });
        match waited.await {
            Ok(done) => done.map(|()| (Self(followers), took)),
            Err(_) => Err(format!("{} of {all} sidecars have the policy after {limit:?}", took.len()).into()),
        }
    }
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

async fn start_one(client: &Client, pod: &Pod, map: &ConfigMap, folder: &Path) -> Result<Follower, Failure> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let folder = folder.join(format!("{namespace}.{name}"));
    fs::create_dir_all(&folder)?;
    let envelope = map.data.as_ref().and_then(|data| data.get(ENVELOPE_KEY)).ok_or("no policy")?;
    let (policy, token) = (folder.join(ENVELOPE_KEY), folder.join("token"));
    fs::write(&policy, envelope)?;
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![POLICY_AUDIENCE.to_owned()],
            expiration_seconds: Some(3600),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name.clone()),
                uid: pod.uid(),
            }),
        },
        ..Default::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let made = accounts.create_token_request(&name, &PostParams::default(), &request).await;
    let made = made.map_err(|error| format!("{namespace}/{name}: {error}"))?;
    fs::write(&token, made.status.ok_or("no token")?.token)?;

    let spec = pod.spec.as_ref().ok_or("no spec")?;
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let egress = all.into_iter().find(|container| container.name == "egress").ok_or("no sidecar")?;
    let mut arguments = vec!["redoubt-egress".to_owned()];
    arguments.extend(egress.args.iter().flatten().cloned());
    replace(&mut arguments, "--policy", &policy)?;
    replace(&mut arguments, "--operator-token", &token)?;
    let arguments = Args::try_parse_from(arguments).map_err(|error| error.to_string())?;
    let config = Config::try_from(arguments).map_err(|error| error.to_string())?;
    Follower::start(config).await.map_err(|refusal| format!("{namespace}/{name}: {}", refusal.message).into())
}

/// Puts a file of this machine in place of one in the pod.
fn replace(arguments: &mut [String], flag: &str, file: &Path) -> Result<(), Failure> {
    let place = arguments.iter().position(|argument| argument == flag).ok_or_else(|| format!("no {flag}"))?;
    *arguments.get_mut(place + 1).ok_or("no value")? = file.display().to_string();
    Ok(())
}
