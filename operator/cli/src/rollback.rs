//! `kubectl redoubt rollback AGENT`: gives an Agent the workload of an earlier revision. What it may do then is what present
//! policies allow: no permission comes back.

use std::collections::BTreeSet;

use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use redoubt_crds::{Agent, AgentPolicyRevision, AgentPolicyRevisionSpec, names};
use redoubt_policy::compile::effective_lines;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::judge::agent_verdict;
use crate::objects::{Found, Key, Object, Objects};
use crate::output::{self, FINE, FOUND, Format, emit};
use crate::permission::{Line, Permissions};
use crate::snapshot;

mod changes;

use changes::{Change, changes};

/// Flags of `rollback`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// Number of the revision; unless given, the newest up to the one in force that has another workload than the Agent.
    #[arg(long)]
    pub to: Option<i64>,
    /// Change nothing: tell what would change, and let the API server judge it.
    #[arg(long)]
    pub dry_run: bool,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    /// Number of the revision whose workload it is.
    revision: i64,
    dry_run: bool,
    /// Whether the Agent was changed.
    changed: bool,
    changes: Vec<Change>,
    permissions: Permitted,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Found>,
    notes: Vec<String>,
}

/// What the Agent may do after the change.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Permitted {
    /// More than now: present policies grant it, and the present workload does not need it.
    added: Vec<Line>,
    /// Less than now.
    removed: Vec<Line>,
    /// What it might do when the revision was in force, and may not do after the change.
    not_restored: Vec<Line>,
}

/// Runs the command and gives its exit status: 1 where the operator would not accept the outcome, and nothing was changed.
///
/// # Errors
/// When there is no such Agent or revision, or the API server refuses something.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    cluster::check_name(&args.agent)?;
    let cluster = Cluster::connect(cluster).await?;
    let agents: Api<Agent> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let failed = |action: &str| {
        let action = format!("{action} Agent/{}", args.agent);
        move |error: kube::Error| Error::cluster(action, &error)
    };
    let agent = agents
        .get_opt(&args.agent)
        .await
        .map_err(failed("read"))?
        .ok_or_else(|| Error::NoAgent { namespace: cluster.namespace.clone(), name: args.agent.clone() })?;
    let target = choose(&agent, history(&cluster, args).await?, args.to)?;
    let mut report = Report {
        namespace: cluster.namespace.clone(),
        name: args.agent.clone(),
        revision: target.revision,
        dry_run: args.dry_run,
        changed: false,
        changes: changes(&json_of(&agent.spec)?, &json_of(&target.workload)?),
        permissions: Permitted::default(),
        problems: Vec::new(),
        notes: kept_by(&agent).into_iter().collect(),
    };
    match snapshot::with_namespaces(&cluster, std::slice::from_ref(&cluster.namespace)).await {
        Ok(objects) => compare(&objects, &agent, &target, &mut report)?,
        Err(error) => report.notes.push(format!(
            "what the Agent may do before and after is not told: {error}; present policies decide"
        )),
    }
    if report.problems.is_empty() && !report.changes.is_empty() {
        let params = PostParams { dry_run: args.dry_run, field_manager: Some(MANAGER.to_owned()) };
        // With the version that was looked at, so nothing that somebody else changed meanwhile is lost.
        let next = Agent { spec: target.workload.clone(), ..agent.clone() };
        agents.replace(&args.agent, &params, &next).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 409 => Error::Changed(args.agent.clone()),
            _ => failed("change")(error),
        })?;
        report.changed = !args.dry_run;
    }
    emit(args.output, &report, &human(&report))?;
    Ok(if report.problems.is_empty() { FINE } else { FOUND })
}

/// Who changes the Agent, in its `managedFields`.
const MANAGER: &str = "kubectl-redoubt";

fn json_of<T: Serialize>(value: &T) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|error| Error::Defect(error.to_string()))
}

/// The revisions with the Agent's label.
async fn history(cluster: &Cluster, args: &Args) -> Result<Vec<AgentPolicyRevisionSpec>, Error> {
    let api: Api<AgentPolicyRevision> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let own = ListParams::default().labels(&format!("{}={}", names::AGENT_LABEL, args.agent));
    let list = api.list(&own).await;
    let list = list.map_err(|error| Error::cluster("list agentpolicyrevisions".to_owned(), &error))?;
    Ok(list.items.into_iter().map(|revision| revision.spec).collect())
}

/// The revision to go back to. Those of another Agent that had the same name are not looked at.
fn choose(
    agent: &Agent,
    mut history: Vec<AgentPolicyRevisionSpec>,
    to: Option<i64>,
) -> Result<AgentPolicyRevisionSpec, Error> {
    let uid = agent.uid().unwrap_or_default();
    history.retain(|revision| revision.agent.uid == uid && revision.agent.name == agent.name_any());
    history.sort_by_key(|revision| std::cmp::Reverse(revision.revision));
    let name = agent.name_any();
    if let Some(to) = to {
        history.retain(|revision| revision.revision == to);
        history.dedup_by(|a, b| a.workload == b.workload);
        return match <[_; 1]>::try_from(history) {
            Ok([one]) => Ok(one),
            Err(none) if none.is_empty() => {
                Err(Error::NoRevision(format!("Agent/{name} has no revision {to}")))
            }
            Err(_) => Err(Error::NoRevision(format!("Agent/{name} has several revisions {to}"))),
        };
    }
    let in_force = agent.status.as_ref().and_then(|status| status.revision).unwrap_or_default();
    history
        .into_iter()
        .find(|revision| revision.revision <= in_force && revision.workload != agent.spec)
        .ok_or_else(|| {
            Error::NoRevision(format!("Agent/{name} has no earlier revision with another workload"))
        })
}

/// What the operator would say of it, and what it may do then.
fn compare(
    objects: &Objects,
    agent: &Agent,
    target: &AgentPolicyRevisionSpec,
    report: &mut Report,
) -> Result<(), Error> {
    let mut next = agent.clone();
    next.spec = target.workload.clone();
    let key =
        Key { kind: "Agent".to_owned(), namespace: report.namespace.clone(), name: report.name.clone() };
    let mut value = json_of(&next)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("kind".to_owned(), json!("Agent"));
    }
    let one = Objects([(key, Object { value, file: None })].into());
    let now = agent_verdict(&objects.world(), agent);
    let after = objects.overlaid(&one);
    match agent_verdict(&after.world(), &next) {
        Err(problems) => {
            let found = problems.into_iter().map(|problem| after.locate(&report.namespace, problem));
            report.problems = found.collect();
        }
        Ok(after) => {
            let now = now.map(|now| Permissions::of(&now)).unwrap_or_default();
            let permissions = Permissions::of(&after);
            let allowed: BTreeSet<(String, String)> =
                effective_lines(after.policy()).into_iter().map(|line| (line.from, line.request)).collect();
            let then = target.policy.effective.iter();
            report.permissions = Permitted {
                added: permissions.beyond(&now),
                removed: now.beyond(&permissions),
                not_restored: then
                    .filter(|line| !allowed.contains(&(line.from.clone(), line.request.clone())))
                    .map(|line| Line {
                        from: line.from.clone(),
                        what: line.request.clone(),
                        decided_by: line.decided_by.clone(),
                    })
                    .collect(),
            };
        }
    }
    Ok(())
}

/// A pipeline that would undo the change.
fn kept_by(agent: &Agent) -> Option<String> {
    let (labels, annotations) = (agent.labels(), agent.annotations());
    let who = if annotations.contains_key("argocd.argoproj.io/tracking-id") {
        "Argo CD"
    } else if labels.keys().any(|key| key.ends_with(".toolkit.fluxcd.io/name")) {
        "Flux"
    } else {
        return None;
    };
    Some(format!("{who} keeps this Agent and may put its own version back; change it at its source too"))
}

fn human(report: &Report) -> String {
    let mut text: String = report.problems.iter().map(output::problem).collect();
    let title = format!("Agent {}/{}", report.namespace, report.name);
    text.push_str(&match (&report.problems[..], report.changes.is_empty(), report.changed) {
        ([_, ..], ..) => format!(
            "{title} is left as it is: the operator would not accept the workload of revision {}\n",
            report.revision
        ),
        ([], true, _) => format!("{title} has the workload of revision {} already\n", report.revision),
        ([], false, true) => format!("{title} has the workload of revision {} again\n", report.revision),
        ([], false, false) => {
            format!("{title} would get the workload of revision {}; nothing was changed\n", report.revision)
        }
    });
    for change in &report.changes {
        text.push_str(&change.told());
    }
    let Permitted { added, removed, not_restored } = &report.permissions;
    for (head, sign, lines) in [
        ("what it may do, by present policies", '+', added),
        ("what it may not do any more", '-', removed),
        ("what it might do at that time, and is not given back", '!', not_restored),
    ] {
        if lines.is_empty() {
            continue;
        }
        text.push_str(&format!("{head}:\n"));
        for line in lines {
            let from = if line.from.is_empty() { String::new() } else { format!("{}: ", line.from) };
            text.push_str(&format!("  {sign} {from}{} ({})\n", line.what, line.decided_by));
        }
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

#[cfg(test)]
#[path = "rollback/rollback_tests.rs"]
mod tests;
