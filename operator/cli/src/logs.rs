//! `kubectl redoubt logs AGENT`: what the agent asked for and what became of it, as its sidecar recorded it, told plainly.
//!
//! What brain and hands write to their own logs is their word. Only lines of the sidecar are read as records, and whatever
//! is in a line reaches the terminal as text only.

use std::io::Write as _;

use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use redoubt_crds::names;

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::terminal::{json_line, printable};

pub(crate) mod lines;
pub(crate) mod record;

use lines::Lines;
use record::Record;

/// Flags of `logs`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// Go on until the container ends.
    #[arg(short, long)]
    pub follow: bool,
    /// Only what was refused.
    #[arg(long)]
    pub refused: bool,
    /// Whose log: the sidecar's, which holds the decisions, or what the hands or the brain say themselves.
    #[arg(short, long, value_enum, default_value_t)]
    pub container: Container,
    /// Begin with this many lines of the log before its end.
    #[arg(long)]
    pub tail: Option<u32>,
    /// Of the container's previous run.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// How it is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// A container of an agent's pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Container {
    /// The sidecar.
    #[default]
    Egress,
    /// The hands.
    Tools,
    /// The brain.
    Agent,
}

impl Container {
    fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Tools => "tools",
            Self::Agent => "agent",
        }
    }
}

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Text for a person.
    #[default]
    Human,
    /// One JSON object per line: records as the sidecar wrote them, other lines as `container` and `text`.
    Json,
}

/// Runs the command.
///
/// # Errors
/// When the log cannot be read or written.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<(), Error> {
    cluster::check_name(&args.agent)?;
    let cluster = Cluster::connect(cluster).await?;
    let name = names::child(&args.agent);
    let params = LogParams {
        container: Some(args.container.name().to_owned()),
        follow: args.follow,
        previous: args.previous,
        tail_lines: args.tail.map(i64::from),
        ..LogParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let stream = pods.log_stream(&name, &params).await.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 404 => {
            Error::NoPod { namespace: cluster.namespace.clone(), agent: args.agent.clone() }
        }
        other => Error::cluster(format!("read the log of {} in Pod/{name}", args.container.name()), other),
    })?;
    let mut stream = std::pin::pin!(stream);
    let mut lines = Lines::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|error| Error::Cut(Some(error.into())))?;
        let piece = buffer.get(..read).unwrap_or_default();
        let ended = piece.is_empty();
        let text: String = lines.feed(piece).iter().filter_map(|line| told(line, args)).collect();
        if !write(&text)? || ended {
            return Ok(());
        }
    }
}

/// Whether somebody still reads.
fn write(text: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Terminal(error)),
    }
}

/// One line as it is shown, if it is.
fn told(line: &str, args: &Args) -> Option<String> {
    let record = Some(line).filter(|_| args.container == Container::Egress).and_then(Record::parse);
    let shown = match (&record, args.output) {
        (Some(record), _) if args.refused && !record.is_refusal() => return None,
        (Some(record), Form::Human) => one_line(&record.told()),
        (Some(_), Form::Json) => json_line(line),
        (None, _) if args.refused => return None,
        (None, Form::Human) => one_line(&format!("{}: {line}", args.container.name())),
        (None, Form::Json) => {
            let value = serde_json::json!({ "container": args.container.name(), "text": line });
            json_line(&value.to_string())
        }
    };
    Some(shown + "\n")
}

/// Text that stays on its line and moves no cursor.
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\u{240a}").replace('\t', "\u{2409}")
}

#[cfg(test)]
#[path = "logs/logs_tests.rs"]
mod tests;
