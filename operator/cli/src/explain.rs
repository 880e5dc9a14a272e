//! `kubectl redoubt explain AGENT [METHOD URL]`: which object and field decides, and the way out.

use std::path::PathBuf;

use redoubt_crds::{Agent, EffectiveRule};
use redoubt_policy::compile::effective_lines;
use redoubt_policy::wire::PodPolicy;
use redoubt_policy::{SigningKey, VerifiedPolicy, sign, verify};
use serde::Serialize;

use crate::check::{Lines, against};
use crate::cluster::{self, Cluster};
use crate::decision::{Asked, Decision, told};
use crate::error::Error;
use crate::files;
use crate::judge::{agent_verdict, title};
use crate::objects::{Found, Objects, name_of};
use crate::output::{self, FINE, FOUND, Format, NOT_JUDGED, emit};
use crate::snapshot;

/// Flags of `explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// Method of the request.
    #[arg(requires = "url")]
    pub method: Option<String>,
    /// URL of the request, for example <https://api.example.com/v1/notes/7>.
    pub url: Option<String>,
    /// The Tool or ClusterTool that sends the request; the agent's own process unless given.
    #[arg(long, requires = "url")]
    pub from: Option<String>,
    /// Read these files in place of the cluster; `-` is standard input.
    #[arg(short, long = "filename", num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// What `kubectl redoubt snapshot` wrote: the objects that the files lack.
    #[arg(long, requires = "files")]
    pub against: Option<PathBuf>,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Lines>,
    notes: Vec<String>,
}

/// Runs the command and gives its exit status.
///
/// # Errors
/// When there is no such agent, the objects cannot be read, or the request cannot be one.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    cluster::check_name(&args.agent)?;
    let asked =
        args.method.as_deref().zip(args.url.as_deref()).map(|(method, url)| Asked::parse(method, url));
    let asked = asked.transpose()?;
    let (objects, namespace, mut problems) = objects(cluster, args).await?;
    let agent = objects
        .agents()
        .into_iter()
        .find(|agent| name_of(agent) == (namespace.clone(), args.agent.clone()))
        .ok_or_else(|| Error::NoAgent { namespace: namespace.clone(), name: args.agent.clone() })?;
    let mut report = Report {
        namespace: namespace.clone(),
        name: args.agent.clone(),
        problems: Vec::new(),
        decision: None,
        policy: None,
        notes: Vec::new(),
    };
    match agent_verdict(&objects.world(), &agent) {
        Err(found) => problems.extend(found.into_iter().map(|problem| objects.locate(&namespace, problem))),
        Ok(built) => {
            if args.files.is_empty() {
                report.notes.extend(in_force(&agent, built.policy()));
            }
            match &asked {
                Some(asked) => {
                    report.decision = Some(asked.decide(args.from.as_deref(), &verified(built.policy())?))
                }
                None => report.policy = Some(Lines::of(built.policy())),
            }
        }
    }
    report.problems = problems;
    emit(args.output, &report, &human(&agent, &report))?;
    Ok(match &report.decision {
        _ if report.decision.is_none() && report.policy.is_none() => NOT_JUDGED,
        Some(decision) if !decision.allowed => FOUND,
        _ => FINE,
    })
}

async fn objects(cluster: &cluster::Args, args: &Args) -> Result<(Objects, String, Vec<Found>), Error> {
    if args.files.is_empty() {
        let cluster = Cluster::connect(cluster).await?;
        let namespaces = [cluster.namespace.clone()];
        let all = snapshot::with_namespaces(&cluster, &namespaces).await?;
        return Ok((all, cluster.namespace, Vec::new()));
    }
    let namespace = cluster.offline_namespace()?;
    let read = files::read(&args.files, &namespace)?;
    let all = against(args.against.as_ref())?.overlaid(&read.objects);
    Ok((all, namespace, read.problems))
}

/// Whether the policy in force is the one that the objects make.
fn in_force(agent: &Agent, policy: &PodPolicy) -> Option<String> {
    let Some(status) = agent.status.as_ref().and_then(|status| status.policy.as_ref()) else {
        return Some("no policy is in force yet; this is what the objects make".to_owned());
    };
    let same = status.effective == effective_lines(policy);
    (!same).then(|| {
        "the policy in force is another than the objects make now; kubectl redoubt why tells what holds it up".to_owned()
    })
}

/// The policy as a sidecar would hold it. Only a signed one can judge, so it is signed with a key that nobody keeps.
fn verified(policy: &PodPolicy) -> Result<VerifiedPolicy, Error> {
    let defect =
        |error: &dyn std::fmt::Display| Error::Defect(format!("the policy cannot be tried: {error}"));
    let key = SigningKey::generate()
        .and_then(|key| SigningKey::from_pkcs8(&key))
        .map_err(|error| defect(&error))?;
    let envelope = sign(policy, &key).map_err(|error| defect(&error))?;
    verify(envelope.as_bytes(), &key.public(), &policy.agent, 0).map_err(|error| defect(&error))
}

fn human(agent: &Agent, report: &Report) -> String {
    let mut text: String = report.problems.iter().map(output::problem).collect();
    if report.decision.is_none() && report.policy.is_none() {
        text.push_str(&format!("Agent {} makes no policy until this is put right\n", title(agent)));
    }
    if let Some(decision) = &report.decision {
        text.push_str(&told(decision));
    }
    if let Some(lines) = &report.policy {
        let selected = match lines.selected_by.as_slice() {
            [] => "no policy".to_owned(),
            names => names.join(", "),
        };
        text.push_str(&format!("Agent {} is selected by {selected}\n", title(agent)));
        for (head, list) in [
            ("may do", &lines.effective),
            ("is refused, though needed", &lines.refused),
            ("would be refused by policies in mode Audit", &lines.would_refuse),
            ("is granted and does not need", &lines.unneeded),
        ] {
            section(head, list, &mut text);
        }
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

fn section(head: &str, lines: &[EffectiveRule], text: &mut String) {
    if lines.is_empty() {
        return;
    }
    text.push_str(&format!("{head}:\n"));
    for line in lines {
        text.push_str(&format!("  {}: {} ({})\n", line.from, line.request, line.decided_by));
    }
}
