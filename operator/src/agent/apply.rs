//! Step four: brings the cluster to what was built. It reads what is there, decides nothing but whether a write is
//! needed, and writes no more than that.
//!
//! Nothing that another controls, or that nobody controls, is taken over: someone else made it.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt as _};
use redoubt_crds::{Agent, AgentPolicyRevision, names};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::info;

use super::build::ATTEMPT;
use super::children::{Applied, Children, Prepared};
use super::dereference::Observed;
use super::replace::{Step, Why, decide};
use super::revision::{Known, outdated};
use crate::drift::covers;
use crate::events::Events;
use crate::index::WatchedAgent;
use crate::signing::Signer;

/// Annotation of every child but the pod: digest of the child as it was built. An object that carries the digest and
/// differs was changed by someone else.
const BUILT: &str = "redoubt.dev/built";

/// An object as the API server returned it. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Live<K>(K);

impl<K> Deref for Live<K> {
    type Target = K;
    fn deref(&self) -> &K {
        &self.0
    }
}

/// The number of the revision that is in force. Only this module makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce(i64);

impl InForce {
    /// The number.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }
}

/// What became of the pod.
#[derive(Clone, Debug)]
pub enum PodOutcome {
    /// None is wanted and there is none.
    Absent,
    /// It is there.
    Present(Box<Live<Pod>>),
    /// It failed and is replaced then.
    BackOff(Box<Live<Pod>>, Why, Timestamp),
    /// It is going.
    Ending(Option<Why>),
}

/// Why an object was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused it, and will again.
    #[error("{object}: {message}")]
    Refused {
        /// `Kind/name`.
        object: String,
        /// What the API server said.
        message: String,
    },
    /// An object of this name is there and is not this Agent's.
    #[error("{object} exists and is not controlled by this Agent; delete it, and the operator makes its own")]
    Foreign {
        /// `Kind/name`.
        object: String,
    },
    /// What the watches have told is not up to date; the next visit will see it.
    #[error("{0} has changed meanwhile")]
    Stale(String),
    /// The API server could not be asked.
    #[error("{object}: {source}")]
    Unavailable {
        /// `Kind/name`.
        object: String,
        /// What went wrong.
        #[source]
        source: kube::Error,
    },
}

/// Applies the children of one Agent.
pub struct Applier<'a> {
    /// For the API server.
    pub client: &'a Client,
    /// For what was restored or replaced.
    pub events: &'a Events,
    /// Tells which keys lead to the one that signs now.
    pub signer: &'a Signer,
    /// The Agent, which may be one that cannot be read.
    pub agent: &'a WatchedAgent,
    /// How many pods in a row have failed, if one was just deleted for that.
    pub attempt: u32,
    /// The clock.
    pub now: Timestamp,
}

impl Applier<'_> {
    /// Applies all of `children`, orphans last. The second value is the attempt to remember, if a pod was deleted.
    ///
    /// # Errors
    /// At the first object that cannot be applied.
    pub async fn apply(
        &self,
        children: Children<Prepared>,
        observed: &Observed,
    ) -> Result<(Children<Applied>, Option<u32>), ApplyError> {
        let Children { service_account, config_map, network_policy, service, revision, pod } = children;
        let policy = self.policy(service_account, network_policy, config_map, observed).await;
        if let Err(ApplyError::Refused { .. } | ApplyError::Foreign { .. }) = &policy {
            // Fails closed: the pod would go on under a policy that no longer holds.
            self.stop(observed).await?;
        }
        let (service_account, network_policy, config_map) = policy?;
        let service = match service {
            Some(service) => {
                Some(self.ensure(service, observed.service.as_deref(), &["/spec/selector"]).await?)
            }
            None => None,
        };
        let (pod, attempt) = self.pod(pod.as_deref(), observed.pod.as_deref()).await?;
        if service.is_none() {
            self.remove(observed.service.as_deref()).await?;
        }
        // Last: nothing that runs waits for the record of it.
        let revision = self.revision(&revision, &observed.revisions).await?;
        Ok((Children { service_account, config_map, network_policy, service, revision, pod }, attempt))
    }

    /// What brings the policy into force.
    async fn policy(
        &self,
        service_account: ServiceAccount,
        network_policy: NetworkPolicy,
        config_map: ConfigMap,
        observed: &Observed,
    ) -> Result<(Live<ServiceAccount>, Live<NetworkPolicy>, Live<ConfigMap>), ApplyError> {
        let service_account =
            self.ensure::<ServiceAccount>(service_account, observed.service_account.as_deref(), &[]).await?;
        let network_policy = self
            .ensure::<NetworkPolicy>(network_policy, observed.network_policy.as_deref(), &["/spec"])
            .await?;
        let config_map = self.ensure::<ConfigMap>(config_map, observed.config_map.as_deref(), &[]).await?;
        Ok((service_account, network_policy, config_map))
    }

    /// Makes the revision unless it is there, and removes those that are too old. None is ever changed.
    async fn revision(
        &self,
        wanted: &AgentPolicyRevision,
        observed: &[Arc<PartialObjectMeta<AgentPolicyRevision>>],
    ) -> Result<InForce, ApplyError> {
        let name = wanted.name_any();
        let known: Vec<Known> = observed.iter().filter_map(|revision| Known::of(revision)).collect();
        let number = match known.iter().find(|known| known.name == name) {
            Some(known) => known.number,
            None => self.create_revision(wanted).await?,
        };
        for name in outdated(&known, &name) {
            let old = observed.iter().find(|revision| revision.name_any() == name);
            if let Some(old) = old.filter(|old| old.metadata.deletion_timestamp.is_none()) {
                self.delete(old.as_ref()).await?;
            }
        }
        Ok(InForce(number))
    }

    /// Creates, and never applies. If one of this name is there, our watch is late; the number is that of the one there.
    async fn create_revision(&self, wanted: &AgentPolicyRevision) -> Result<i64, ApplyError> {
        let object = format!("AgentPolicyRevision/{}", wanted.name_any());
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), dry_run: false };
        let api = self.api::<AgentPolicyRevision>();
        match api.create(&params, wanted).await {
            Ok(revision) => {
                info!(object, number = revision.spec.revision, "created");
                Ok(revision.spec.revision)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let found = api.get(&wanted.name_any()).await.map_err(|source| failed(&object, source))?;
                if self.controls(&found.metadata) && found.spec.digest == wanted.spec.digest {
                    Ok(found.spec.revision)
                } else {
                    Err(ApplyError::Foreign { object })
                }
            }
            Err(source) => Err(failed(&object, source)),
        }
    }

    /// Removes the pod of an Agent that may not run.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn stop(&self, observed: &Observed) -> Result<(), ApplyError> {
        self.pod(None, observed.pod.as_deref()).await.map(|_| ())
    }

    /// Applies `wanted` unless it is there as built.
    async fn ensure<K>(
        &self,
        mut wanted: K,
        observed: Option<&K>,
        exact: &[&str],
    ) -> Result<Live<K>, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object = format!("{}/{}", K::kind(&()), wanted.name_any());
        let failed = |source| failed(&object, source);
        let built = digest(&wanted).map_err(failed)?;
        wanted.annotations_mut().insert(BUILT.to_owned(), built.clone());
        let api = self.api::<K>();
        let found = match observed {
            Some(observed) => Some(observed.clone()),
            // Our watches see only what carries our label, so one more look before something is made.
            None => api.get_opt(&wanted.name_any()).await.map_err(failed)?,
        };
        if let Some(found) = &found {
            if self.precedes(found.meta()) {
                return Err(ApplyError::Stale(object));
            }
            if !self.controls(found.meta()) {
                return Err(ApplyError::Foreign { object });
            }
            if same(&wanted, found, exact).map_err(failed)? {
                return Ok(Live(found.clone()));
            }
            // What the operator has written meanwhile must not be taken for what was there before.
            wanted.meta_mut().resource_version = found.resource_version();
        }
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let applied = api.patch(&wanted.name_any(), &params, &Patch::Apply(&wanted)).await.map_err(failed)?;
        let restored = found.is_some_and(|found| found.annotations().get(BUILT) == Some(&built));
        info!(object, restored, "applied");
        if restored {
            let note = format!("{object} had been changed by someone else and is as built again");
            self.events.warning(self.agent, "Restored", "Apply", &note).await;
        }
        Ok(Live(applied))
    }

    async fn remove<K>(&self, observed: Option<&K>) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        match observed {
            Some(orphan) if self.controls(orphan.meta()) && orphan.meta().deletion_timestamp.is_none() => {
                self.delete(orphan).await
            }
            _ => Ok(()),
        }
    }

    async fn pod(
        &self,
        wanted: Option<&Pod>,
        observed: Option<&Pod>,
    ) -> Result<(PodOutcome, Option<u32>), ApplyError> {
        if let Some(observed) = observed
            && !self.controls(&observed.metadata)
        {
            return match wanted {
                None => Ok((PodOutcome::Absent, None)),
                Some(_) if self.precedes(&observed.metadata) => Ok((PodOutcome::Ending(None), None)),
                Some(_) => Err(ApplyError::Foreign { object: format!("Pod/{}", observed.name_any()) }),
            };
        }
        match (decide(wanted, observed, self.signer, self.now), wanted, observed) {
            (Step::Create, Some(wanted), _) => {
                Ok((PodOutcome::Present(Box::new(self.create_pod(wanted).await?)), None))
            }
            (Step::Keep, _, Some(pod)) => Ok((PodOutcome::Present(Box::new(Live(pod.clone()))), None)),
            (Step::BackOff { why, until }, _, Some(pod)) => {
                Ok((PodOutcome::BackOff(Box::new(Live(pod.clone())), why, until), None))
            }
            (Step::Delete { why, attempt }, _, Some(pod)) => {
                self.delete(pod).await?;
                let note = format!("Pod/{} was deleted: {}", pod.name_any(), why.text());
                self.events.normal(self.agent, "PodDeleted", "Replace", &note).await;
                Ok((PodOutcome::Ending(Some(why)), Some(attempt)))
            }
            (Step::WaitGone, ..) => Ok((PodOutcome::Ending(None), None)),
            (Step::Nothing | Step::Create | Step::Keep | Step::BackOff { .. } | Step::Delete { .. }, ..) => {
                Ok((PodOutcome::Absent, None))
            }
        }
    }

    /// Creates, and never applies: applying could join an object that is on its way out.
    async fn create_pod(&self, wanted: &Pod) -> Result<Live<Pod>, ApplyError> {
        let object = format!("Pod/{}", wanted.name_any());
        let mut wanted = wanted.clone();
        wanted.annotations_mut().insert(ATTEMPT.to_owned(), self.attempt.to_string());
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), dry_run: false };
        match self.api::<Pod>().create(&params, &wanted).await {
            Ok(pod) => {
                info!(object, attempt = self.attempt, "created");
                Ok(Live(pod))
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                // Either our watch is late, or the pod lost the label that our watch goes by.
                let name = wanted.name_any();
                let found =
                    self.api::<Pod>().get_opt(&name).await.map_err(|source| failed(&object, source))?;
                match found {
                    Some(found) if !self.controls(&found.metadata) => Err(ApplyError::Foreign { object }),
                    Some(found)
                        if found.metadata.deletion_timestamp.is_none()
                            && found.labels().get(names::AGENT_LABEL)
                                != wanted.labels().get(names::AGENT_LABEL) =>
                    {
                        self.delete(&found).await?;
                        Err(ApplyError::Stale(object))
                    }
                    _ => Err(ApplyError::Stale(object)),
                }
            }
            Err(source) => Err(failed(&object, source)),
        }
    }

    /// Deletes this very object, not a later one of the same name.
    async fn delete<K>(&self, object: &K) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let text = format!("{}/{}", K::kind(&()), object.name_any());
        let only_this = Preconditions { uid: object.uid(), resource_version: None };
        let params = DeleteParams::background().preconditions(only_this);
        match self.api::<K>().delete(&object.name_any(), &params).await {
            Ok(_) => {
                info!(object = text, "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(failed(&text, source)),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.agent.namespace().unwrap_or_default())
    }

    fn controls(&self, child: &ObjectMeta) -> bool {
        child
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == self.agent.meta().uid.as_ref())
    }

    /// Whether the child is that of an earlier Agent of the same name: the garbage collector is about to take it.
    fn precedes(&self, child: &ObjectMeta) -> bool {
        child.owner_references.iter().flatten().any(|owner| {
            owner.controller == Some(true)
                && owner.kind == Agent::kind(&())
                && Some(&owner.name) == self.agent.meta().name.as_ref()
                && Some(&owner.uid) != self.agent.meta().uid.as_ref()
        })
    }
}

fn failed(object: &str, source: kube::Error) -> ApplyError {
    match source {
        kube::Error::Api(status) if status.is_conflict() => ApplyError::Stale(object.to_owned()),
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            ApplyError::Refused { object: object.to_owned(), message: status.message }
        }
        source => ApplyError::Unavailable { object: object.to_owned(), source },
    }
}

fn same<K: Serialize>(wanted: &K, found: &K, exact: &[&str]) -> Result<bool, kube::Error> {
    let wanted = serde_json::to_value(wanted).map_err(kube::Error::SerdeError)?;
    let found = serde_json::to_value(found).map_err(kube::Error::SerdeError)?;
    Ok(covers(&wanted, &found, exact))
}

fn digest<K: Serialize>(object: &K) -> Result<String, kube::Error> {
    let text = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    Ok(digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// As if the API server had taken everything as it was built.
    pub(crate) fn applied(
        children: Children<Prepared>,
        outcome: impl FnOnce(Live<Pod>) -> PodOutcome,
    ) -> Children<Applied> {
        let Children { service_account, config_map, network_policy, service, revision, pod } = children;
        Children {
            service_account: Live(service_account),
            config_map: Live(config_map),
            network_policy: Live(network_policy),
            service: service.map(Live),
            revision: InForce(revision.spec.revision),
            pod: outcome(Live(pod.map(|pod| *pod).unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::agent::fixtures;

    /// An API server that takes one request, says that it succeeded, and gives its body.
    async fn api_server() -> (Client, tokio::task::JoinHandle<(String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let request = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            let body = loop {
                let mut space = [0; 4096];
                let n = stream.read(&mut space).await.unwrap();
                assert!(n > 0, "{}", String::from_utf8_lossy(&read));
                read.extend_from_slice(&space[..n]);
                let text = String::from_utf8_lossy(&read);
                let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                if let Some(body) = body {
                    break body;
                }
            };
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                status.len()
            );
            stream.write_all((head + &status).as_bytes()).await.unwrap();
            let text = String::from_utf8_lossy(&read).into_owned();
            (text.lines().next().unwrap_or_default().to_owned(), body)
        });
        (Client::try_from(Config::new(url)).unwrap(), request)
    }

    #[tokio::test]
    async fn a_pod_is_deleted_by_its_uid() {
        let (client, request) = api_server().await;
        let events = Events::new(client.clone());
        let signer = fixtures::signer();
        let agent = kube::core::DeserializeGuard(Ok(fixtures::agent("a")));
        let pod: Pod = fixtures::object(json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "redoubt-agent-a", "namespace": "team", "uid": "uid-of-the-pod" } }));
        let applier = Applier {
            client: &client,
            events: &events,
            signer: &signer,
            agent: &agent,
            attempt: 0,
            now: Timestamp::UNIX_EPOCH,
        };
        applier.delete(&pod).await.unwrap();
        let (line, body) = request.await.unwrap();
        assert!(line.starts_with("DELETE /api/v1/namespaces/team/pods/redoubt-agent-a"), "{line}");
        assert_eq!(body["preconditions"], json!({ "uid": "uid-of-the-pod" }));
    }
}
