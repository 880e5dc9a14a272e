//! The sequence: restrict, try, tell, become the command.

use crate::args::Args;
use crate::checks::{self, Check, Outcome};
use crate::fence::{self, Paths};
use crate::report;
use crate::restrict::RestrictError;
use crate::rules::Rules;
use crate::selftest::{self, Findings, SelfTestError};
use crate::verdict::{self, VerdictError};
use std::convert::Infallible;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command line is wrong.
    #[error("{}", first_part(.0))]
    Arguments(clap::Error),
    /// The jail could not be put on or tried.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// A way out is open.
    #[error("the jail does not hold: {tries}: {how}")]
    Open {
        /// Name of the check.
        name: String,
        /// What it tried.
        tries: String,
        /// What happened.
        how: String,
    },
    /// The sidecar did not take the verdict.
    #[error("the verdict of the jail was not taken: {0}")]
    Verdict(#[from] VerdictError),
    /// The command could not be executed.
    #[error("{command} cannot be started: {source}")]
    Command {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
}

/// What a parser's error says, without the usage that follows it, in one line.
fn first_part(error: &clap::Error) -> String {
    let text = error.to_string();
    let part = text.split("\n\n").next().unwrap_or_default();
    part.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the binary does with its parsed arguments.
pub fn main(args: Result<Args, clap::Error>) -> ExitCode {
    let log = report::open();
    let args = match args {
        Ok(args) => args,
        Err(error) if error.use_stderr() => return failed(&RunError::Arguments(error), log),
        Err(help) => help.exit(),
    };
    if args.self_test {
        return match findings(&args) {
            Ok(findings) => print(&findings),
            Err(error) => failed(&error, None),
        };
    }
    match start(&args) {
        Ok(never) => match never {},
        Err(error) => failed(&error, log),
    }
}

fn failed(error: &RunError, log: Option<std::fs::File>) -> ExitCode {
    report::write(&report::report(error), log);
    ExitCode::FAILURE
}

/// Restricts this process and tries every way out.
fn findings(args: &Args) -> Result<Findings, RunError> {
    let paths = Paths {
        write: args.allow_write.clone(),
        read: args.allow_read.clone(),
        command: args.command.first().map(Into::into),
    };
    let restrict = |error| SelfTestError::from(RestrictError::from(error));
    let abi = fence::kernel_abi().map_err(restrict)?;
    fence::accept_paths(&paths).map_err(restrict)?;
    Ok(selftest::run(Rules::ALL, abi, paths)?)
}

/// Becomes the command, or says why not.
fn start(args: &Args) -> Result<Infallible, RunError> {
    let findings = findings(args)?;
    let socket = args.verdict.as_deref().unwrap_or(std::path::Path::new(""));
    if let Some(error) = open_way(&findings) {
        // The sidecar gets to know; whether it listens changes nothing here.
        let _ = verdict::deliver(&findings, socket, verdict::WAIT);
        return Err(error);
    }
    verdict::deliver(&findings, socket, verdict::WAIT)?;
    let (command, rest) =
        args.command.split_first().map_or(("", [].as_slice()), |(c, rest)| (c.as_str(), rest));
    let source = Command::new(command).args(rest).exec();
    Err(RunError::Command { command: command.to_owned(), source })
}

fn open_way(findings: &Findings) -> Option<RunError> {
    let finding = findings.first_open()?;
    let check = checks::all().into_iter().find(|check| check.name == finding.name);
    let tries = check.map_or_else(String::new, |check: Check| check.tries);
    let how = match &finding.outcome {
        Outcome::Open { how } => how.clone(),
        Outcome::Refused { .. } | Outcome::Unavailable { .. } => String::new(),
    };
    Some(RunError::Open { name: finding.name.clone(), tries, how })
}

/// Prints the table for people.
fn print(findings: &Findings) -> ExitCode {
    let mut out = io::stdout().lock();
    for finding in &findings.0 {
        let (word, detail) = match &finding.outcome {
            Outcome::Refused { by_jail: true, how } => ("refused", how),
            Outcome::Refused { by_jail: false, how } => ("closed", how),
            Outcome::Open { how } => ("OPEN", how),
            Outcome::Unavailable { why } => ("n/a", why),
        };
        let _ = writeln!(out, "{word:8} {:48} {detail}", finding.name);
    }
    let open = findings.0.iter().filter(|finding| matches!(finding.outcome, Outcome::Open { .. })).count();
    let _ = writeln!(out, "{} ways out tried, {open} open", findings.0.len());
    if open == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
