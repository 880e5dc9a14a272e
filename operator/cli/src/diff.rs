//! `kubectl redoubt diff A B`: what the Agents of B may do that those of A may not, and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::check::against;
use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::files;
use crate::judge::{Verdict, judge};
use crate::objects::{Found, Objects};
use crate::output::{self, FINE, FOUND, Format, NOT_JUDGED, count, emit};
use crate::permission::{Line, Permissions};
use crate::snapshot;

/// Flags of `diff`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File or directory with the objects as they are; with `--cluster`, the only one, with the objects as they will be.
    pub a: PathBuf,
    /// File or directory with the objects as they will be.
    #[arg(required_unless_present = "cluster", conflicts_with = "cluster")]
    pub b: Option<PathBuf>,
    /// Compare with the cluster: what it has, and what it would have once the files are applied.
    #[arg(long)]
    pub cluster: bool,
    /// What `kubectl redoubt snapshot` wrote: the objects that the files lack.
    #[arg(long, conflicts_with = "cluster")]
    pub against: Option<PathBuf>,
    /// Exit with 1 when some Agent may do more than before.
    #[arg(long)]
    pub fail_on_widening: bool,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    widened: bool,
    narrowed: bool,
    agents: Vec<Difference>,
    problems: Vec<Found>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    namespace: String,
    name: String,
    added: Vec<Line>,
    removed: Vec<Line>,
}

/// Runs the command and gives its exit status.
///
/// # Errors
/// When the files or the cluster cannot be read.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    let (before, after, mut problems) = sides(cluster, args).await?;
    let (old, new) = (judge(&before, before.0.keys()), judge(&after, after.0.keys()));
    let mut report = Report {
        widened: false,
        narrowed: false,
        agents: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let names: BTreeSet<_> = old.agents.keys().chain(new.agents.keys()).collect();
    let mut broken = !problems.is_empty();
    for name in names {
        let (namespace, agent) = name;
        if let Some(Err(_)) = old.agents.get(name) {
            report.notes.push(format!(
                "{namespace} Agent/{agent} had problems before, so all that it may do now is told as added"
            ));
        }
        if let Some(Err(found)) = new.agents.get(name) {
            broken = true;
            problems.extend(found.iter().map(|problem| after.locate(namespace, problem.clone())));
            continue;
        }
        let (old, new) = (permissions(&old.agents, name), permissions(&new.agents, name));
        let (added, removed) = (new.beyond(&old), old.beyond(&new));
        report.widened |= !added.is_empty();
        report.narrowed |= !removed.is_empty();
        if !added.is_empty() || !removed.is_empty() {
            let (namespace, name) = name.clone();
            report.agents.push(Difference { namespace, name, added, removed });
        }
    }
    report.problems = problems;
    emit(args.output, &report, &human(&report))?;
    Ok(match (broken, report.widened && args.fail_on_widening) {
        (true, _) => NOT_JUDGED,
        (false, true) => FOUND,
        (false, false) => FINE,
    })
}

/// All objects before and after, and what of the files could not be read.
async fn sides(cluster: &cluster::Args, args: &Args) -> Result<(Objects, Objects, Vec<Found>), Error> {
    let Some(b) = &args.b else {
        let cluster = Cluster::connect(cluster).await?;
        let first = files::read(std::slice::from_ref(&args.a), &cluster.namespace)?;
        let mut namespaces: BTreeSet<String> =
            first.objects.0.keys().map(|key| key.namespace.clone()).collect();
        namespaces.remove("");
        namespaces.insert(cluster.namespace.clone());
        let before = snapshot::with_namespaces(&cluster, &namespaces).await?;
        let after = before.overlaid(&first.objects);
        return Ok((before, after, first.problems));
    };
    let namespace = cluster.offline_namespace()?;
    let first = files::read(std::slice::from_ref(&args.a), &namespace)?;
    let second = files::read(std::slice::from_ref(b), &namespace)?;
    if first.objects.0.is_empty() && second.objects.0.is_empty() {
        return Err(Error::Nothing);
    }
    let base = against(args.against.as_ref())?;
    let problems = first.problems.into_iter().chain(second.problems).collect();
    Ok((base.overlaid(&first.objects), base.overlaid(&second.objects), problems))
}

fn permissions(agents: &BTreeMap<(String, String), Verdict>, name: &(String, String)) -> Permissions {
    match agents.get(name) {
        Some(Ok(agent)) => Permissions::of(agent),
        Some(Err(_)) | None => Permissions::default(),
    }
}

fn human(report: &Report) -> String {
    let mut text: String = report.problems.iter().map(output::problem).collect();
    for agent in &report.agents {
        text.push_str(&format!("{} Agent/{}\n", agent.namespace, agent.name));
        for (sign, lines) in [('+', &agent.added), ('-', &agent.removed)] {
            for line in lines {
                let from = if line.from.is_empty() { String::new() } else { format!("{}: ", line.from) };
                text.push_str(&format!("  {sign} {from}{} ({})\n", line.what, line.decided_by));
            }
        }
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&match (report.problems.is_empty(), report.agents.len()) {
        (false, _) => {
            format!("{}: not everything could be compared\n", count(report.problems.len(), "problem"))
        }
        (true, 0) => "no Agent may do anything else than before\n".to_owned(),
        (true, number) => format!(
            "{} may do something else: {}\n",
            count(number, "Agent"),
            match (report.widened, report.narrowed) {
                (true, true) => "widened and narrowed",
                (true, false) => "widened",
                _ => "narrowed",
            }
        ),
    });
    text
}
