//! `kubectl redoubt why AGENT`: what keeps an Agent from being Ready, told plainly.

use kube::Api;
use redoubt_crds::Agent;
use redoubt_crds::condition::Reason;
use serde::Serialize;

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::output::{FINE, FOUND, Format, emit};

/// Flags of `why`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    ready: bool,
    /// The operator has not looked at the newest generation yet.
    stale: bool,
    conditions: Vec<Told>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    /// What the reason says, whatever the object.
    meaning: String,
    /// What the operator says of this object, with the way out.
    message: String,
}

/// Runs the command and gives its exit status: 1 where the Agent is not Ready.
///
/// # Errors
/// When the Agent cannot be read.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    cluster::check_name(&args.agent)?;
    let cluster = Cluster::connect(cluster).await?;
    let api: Api<Agent> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let failed = |error: &kube::Error| Error::cluster(format!("read Agent/{}", args.agent), error);
    let agent = api.get_opt(&args.agent).await.map_err(|error| failed(&error))?;
    let Some(agent) = agent else {
        return Err(Error::NoAgent { namespace: cluster.namespace, name: args.agent.clone() });
    };
    let report = report(&agent, cluster.namespace, args.agent.clone());
    emit(args.output, &report, &human(&report))?;
    Ok(if report.ready && !report.stale { FINE } else { FOUND })
}

fn report(agent: &Agent, namespace: String, name: String) -> Report {
    let status = agent.status.clone().unwrap_or_default();
    let told = |kind: &str| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind)?;
        let meaning = Reason::parse(&condition.reason).map(Reason::meaning).unwrap_or_default();
        Some(Told {
            kind: kind.to_owned(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            meaning: meaning.trim().to_owned(),
            message: condition.message.clone(),
        })
    };
    let conditions: Vec<Told> =
        redoubt_crds::condition::kind::ALL.iter().filter_map(|(kind, _)| told(kind)).collect();
    Report {
        namespace,
        name,
        ready: conditions.iter().any(|told| told.kind == "Ready" && told.status == "True"),
        stale: status.observed_generation != agent.metadata.generation,
        conditions,
    }
}

fn human(report: &Report) -> String {
    let Report { namespace, name, .. } = report;
    let ready = if report.ready { "is Ready" } else { "is not Ready" };
    let mut text = format!("Agent {namespace}/{name} {ready}\n");
    if report.conditions.is_empty() {
        text.push_str(
            "  The operator has not looked at it yet. Is it running? kubectl -n redoubt-system get deployments\n",
        );
    } else if report.stale {
        text.push_str("  The operator has not looked at its newest generation yet.\n");
    }
    for told in &report.conditions {
        // Reconciling and Stalled are good news when they do not hold.
        let bad = matches!(told.kind.as_str(), "Reconciling" | "Stalled");
        if (told.status == "True") != bad {
            continue;
        }
        text.push_str(&format!("  {}={} {}: {}\n", told.kind, told.status, told.reason, told.meaning));
        if !told.message.is_empty() {
            text.push_str(&format!("    {}\n", told.message));
        }
    }
    text
}
