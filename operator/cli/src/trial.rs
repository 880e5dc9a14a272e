//! `kubectl redoubt test AGENT METHOD URL`: what the agent's sidecar says of one request, by the very policy that its pod was
//! given. It decides and does not send: see docs/cli.md for why.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, ResourceExt as _};
use redoubt_crds::{Agent, names};
use redoubt_policy::envelope::ENVELOPE_KEY;
use redoubt_policy::wire::AgentIdentity;
use redoubt_policy::{Refusal, VerifiedPolicy, VerifyingKey, verify};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::{self, Cluster};
use crate::decision::{Asked, Decision, told};
use crate::error::Error;
use crate::output::{FINE, FOUND, Format, emit};

/// Flags of `test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// Method of the request.
    pub method: String,
    /// URL of the request, for example <https://api.example.com/v1/notes/7>.
    pub url: String,
    /// The Tool or ClusterTool that sends the request; the agent's own process unless given.
    #[arg(long)]
    pub from: Option<String>,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    /// The policy that decided.
    epoch: u64,
    /// Nothing was sent.
    sent: bool,
    decision: Decision,
    notes: Vec<String>,
}

/// Runs the command and gives its exit status: 1 where the request is refused.
///
/// # Errors
/// When there is no such agent or no pod of it, its policy is not what the pod accepts, or the request cannot be one.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    cluster::check_name(&args.agent)?;
    let asked = Asked::parse(&args.method, &args.url)?;
    let cluster = Cluster::connect(cluster).await?;
    let (agent, policy) = held(&cluster, &args.agent).await?;
    let decision = asked.decide(args.from.as_deref(), &policy);
    let report = Report {
        namespace: cluster.namespace.clone(),
        name: args.agent.clone(),
        epoch: policy.epoch,
        sent: false,
        decision,
        notes: notes(&agent, &policy),
    };
    emit(args.output, &report, &human(&report))?;
    Ok(if report.decision.allowed { FINE } else { FOUND })
}

/// The Agent, and the policy that its pod was given.
///
/// # Errors
/// When there is no such agent or no pod of it, or its policy is not what the pod accepts.
pub async fn held(cluster: &Cluster, name: &str) -> Result<(Agent, VerifiedPolicy), Error> {
    let child = names::child(name);
    let agent: Option<Agent> = get(cluster, "Agent", name).await?;
    let agent = agent
        .ok_or_else(|| Error::NoAgent { namespace: cluster.namespace.clone(), name: name.to_owned() })?;
    let no_pod = || Error::NoPod { namespace: cluster.namespace.clone(), agent: name.to_owned() };
    let pod: Pod = get(cluster, "Pod", &child).await?.ok_or_else(no_pod)?;
    let map: ConfigMap = get(cluster, "ConfigMap", &child).await?.ok_or_else(no_pod)?;
    let policy = accepted(&agent, &pod, &map)?;
    Ok((agent, policy))
}

async fn get<K>(cluster: &Cluster, kind: &str, name: &str) -> Result<Option<K>, Error>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
        .get_opt(name)
        .await
        .map_err(|error| Error::cluster(format!("read {kind}/{name}"), &error))
}

/// What tells the sidecar which policy to accept: literal arguments in its pod.
struct Expected {
    keys: Vec<VerifyingKey>,
    agent: AgentIdentity,
    lowest_epoch: u64,
}

impl Expected {
    fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let args = containers.find(|container| container.name == "egress")?.args.as_ref()?;
        let values = |flag: &'static str| {
            let pairs = args.iter().zip(args.iter().skip(1));
            pairs.filter(move |(name, _)| *name == flag).map(|(_, value)| value.clone())
        };
        let value = |flag| values(flag).next();
        Some(Self {
            keys: values("--policy-key").filter_map(|key| key.parse().ok()).collect(),
            agent: AgentIdentity {
                namespace: value("--agent-namespace")?,
                name: value("--agent-name")?,
                uid: value("--agent-uid")?,
            },
            lowest_epoch: value("--min-epoch")?.parse().ok()?,
        })
    }
}

/// The policy in the ConfigMap, if the sidecar of this pod would take it, and the pod is this Agent's.
fn accepted(agent: &Agent, pod: &Pod, map: &ConfigMap) -> Result<VerifiedPolicy, Error> {
    let (Some(expected), Some(uid)) = (Expected::of(pod), agent.uid()) else {
        return Err(Error::NotOurs(format!("Pod/{}", pod.name_any())));
    };
    if expected.agent.uid != uid {
        return Err(Error::NotOurs(format!("Pod/{}", pod.name_any())));
    }
    let text = map.data.as_ref().and_then(|data| data.get(ENVELOPE_KEY)).map_or("", String::as_str);
    let mut refused: Option<Refusal> = None;
    for key in &expected.keys {
        match verify(text.as_bytes(), key, &expected.agent, expected.lowest_epoch) {
            Ok(policy) => return Ok(policy),
            Err(refusal) => refused = Some(refusal),
        }
    }
    Err(refused.map_or_else(|| Error::NotOurs(format!("Pod/{}", pod.name_any())), Error::NotAccepted))
}

/// What else decides about a request now, as the status tells.
fn notes(agent: &Agent, policy: &VerifiedPolicy) -> Vec<String> {
    let mut notes = Vec::new();
    let status = agent.status.as_ref();
    let acknowledged = status.and_then(|status| status.policy.as_ref()?.acknowledged_epoch);
    let epoch = i64::try_from(policy.epoch).unwrap_or(i64::MAX);
    match acknowledged {
        Some(acknowledged) if acknowledged >= epoch => {}
        Some(older) => notes.push(format!(
            "the sidecar has acknowledged epoch {older} only, so it may still decide by an older policy than this"
        )),
        None => notes.push("the sidecar has acknowledged no policy yet".to_owned()),
    }
    let held = |kind: &str| {
        let conditions = status.into_iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    if !held("PolicyEnforced") || !held("Ready") {
        notes.push(
            "the Agent is not Ready, and until it is its sidecar may refuse what this policy allows; kubectl redoubt why tells more"
                .to_owned(),
        );
    }
    notes
}

fn human(report: &Report) -> String {
    let mut text = told(&report.decision);
    text.push_str(&format!("  policy: epoch {}, as its pod holds it\n", report.epoch));
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str("Nothing was sent.\n");
    text
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
