//! `kubectl redoubt check -f DIR`: what the operator would say of objects, without a cluster.

use std::path::PathBuf;

use kube::ResourceExt as _;
use redoubt_crds::EffectiveRule;
use redoubt_policy::compile::{effective_lines, refused_lines, unneeded_lines, would_refuse_lines};
use redoubt_policy::wire::PodPolicy;
use serde::Serialize;

use crate::cluster;
use crate::error::Error;
use crate::files;
use crate::judge::judge;
use crate::objects::{Found, Objects};
use crate::output::{self, FINE, FOUND, Format, count, emit};

/// Flags of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files and directories (with those below) of YAML or JSON; `-` is standard input.
    #[arg(short, long = "filename", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// What `kubectl redoubt snapshot` wrote: the objects that the files lack.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// What an Agent may do by the policy that was compiled for it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lines {
    /// Namespace of the Agent.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub effective: Vec<EffectiveRule>,
    /// What it needs and may not do.
    pub refused: Vec<EffectiveRule>,
    /// What policies in mode `Audit` would refuse.
    pub would_refuse: Vec<EffectiveRule>,
    /// What is granted and not needed.
    pub unneeded: Vec<EffectiveRule>,
    /// The policies that select it.
    pub selected_by: Vec<String>,
}

impl Lines {
    /// The lines of a policy.
    #[must_use]
    pub fn of(policy: &PodPolicy) -> Self {
        Self {
            namespace: policy.agent.namespace.clone(),
            name: policy.agent.name.clone(),
            effective: effective_lines(policy),
            refused: refused_lines(policy),
            would_refuse: would_refuse_lines(policy),
            unneeded: unneeded_lines(policy),
            selected_by: policy.explanation.selected_by.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    passed: bool,
    checked: usize,
    ignored: usize,
    problems: Vec<Found>,
    agents: Vec<Lines>,
    notes: Vec<String>,
}

/// Runs the command and gives its exit status.
///
/// # Errors
/// When the files cannot be read, or hold nothing to check.
pub fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    let namespace = cluster.offline_namespace()?;
    let read = files::read(&args.files, &namespace)?;
    let base = against(args.against.as_ref())?;
    if read.objects.0.is_empty() && read.problems.is_empty() {
        return Err(Error::Nothing);
    }
    let all = base.overlaid(&read.objects);
    let judged = judge(&all, read.objects.0.keys());
    let mut problems = read.problems;
    // Of what has not its form already, the reader's words would be a repetition.
    let broken = |found: &Found| {
        found.problem.field.is_empty()
            && found.problem.message.starts_with("the object cannot be read")
            && problems.iter().any(|other| other.problem.object == found.problem.object)
    };
    let mut found: Vec<Found> = judged.problems.into_iter().filter(|found| !broken(found)).collect();
    problems.append(&mut found);
    let agents: Vec<Lines> =
        judged.agents.values().flatten().map(|agent| Lines::of(agent.policy())).collect();
    let report = Report {
        passed: problems.is_empty(),
        checked: read.objects.0.len(),
        ignored: read.foreign,
        notes: notes(&all, args.against.is_some()),
        problems,
        agents,
    };
    emit(args.output, &report, &human(&report))?;
    Ok(if report.passed { FINE } else { FOUND })
}

/// The objects of a snapshot; none without one.
///
/// # Errors
/// When it cannot be read whole.
pub fn against(path: Option<&PathBuf>) -> Result<Objects, Error> {
    let Some(path) = path else { return Ok(Objects::default()) };
    let read = files::read(std::slice::from_ref(path), "default")?;
    match read.problems.first() {
        Some(found) => Err(Error::Snapshot(found.problem.to_string())),
        None => Ok(read.objects),
    }
}

/// What a verdict rests on that nobody told.
fn notes(all: &Objects, snapshot: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if !snapshot {
        notes.push(
            "no snapshot was given with --against, so what the files lack counts as missing".to_owned(),
        );
    }
    let mut unknown: Vec<String> = all.agents().iter().filter_map(|agent| agent.namespace()).collect();
    unknown.dedup();
    unknown.retain(|name| !all.0.keys().any(|key| key.kind == "Namespace" && key.name == *name));
    for name in unknown {
        notes.push(format!("Namespace/{name} is not among the objects: it is taken to have no labels"));
    }
    notes
}

fn human(report: &Report) -> String {
    let mut text: String = report.problems.iter().map(output::problem).collect();
    for agent in &report.agents {
        text.push_str(&format!(
            "{} Agent/{}: may do {}, is refused {}\n",
            agent.namespace,
            agent.name,
            agent.effective.len(),
            agent.refused.len()
        ));
        for line in &agent.refused {
            text.push_str(&format!(
                "    refused: {} for {} ({})\n",
                line.request, line.from, line.decided_by
            ));
        }
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    let problems = match report.problems.len() {
        0 => "no problems".to_owned(),
        number => count(number, "problem"),
    };
    text.push_str(&format!("{} checked, {problems}", count(report.checked, "object")));
    if report.ignored > 0 {
        text.push_str(&format!("; {} of other kinds not looked at", report.ignored));
    }
    text.push('\n');
    text
}
