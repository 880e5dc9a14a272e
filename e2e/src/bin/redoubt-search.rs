//! Looks for a secret in processes, files and a stream.
//!
//! Exit status: 0 nothing found and everything read; 1 found; 2 not found, but something could not be read.

use std::io::{Write as _, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use redoubt_e2e::search::{
    Needles, Report, Secret, Verdict, processes_of_container, search_path, search_process, search_stream,
};

/// Looks for a secret in processes, files and a stream. Exit status: 0 not found, 1 found, 2 could not look everywhere.
#[derive(Parser)]
struct Args {
    /// File with the value; one line feed at its end does not belong to it.
    #[arg(long, required_unless_present = "secret_stdin", conflicts_with = "secret_stdin")]
    secret_file: Option<PathBuf>,
    /// Read the value from standard input.
    #[arg(long)]
    secret_stdin: bool,
    /// A process: memory, environment, arguments, nameless open files; may be repeated.
    #[arg(long)]
    pid: Vec<u32>,
    /// A container, as in a Pod's status, on this node: all its processes; may be repeated.
    #[arg(long)]
    container: Vec<String>,
    /// A file, or a folder with everything below it; may be repeated.
    #[arg(long)]
    path: Vec<PathBuf>,
    /// Search standard input, for instance a log.
    #[arg(long, conflicts_with = "secret_stdin")]
    stdin: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(report) => {
            let text = if args.json {
                serde_json::to_string(&report).unwrap_or_else(|error| error.to_string()) + "\n"
            } else {
                report.to_string()
            };
            if stdout().write_all(text.as_bytes()).is_err() {
                return ExitCode::from(2);
            }
            match report.verdict() {
                Verdict::NotFound => ExitCode::SUCCESS,
                Verdict::Found => ExitCode::from(1),
                Verdict::CouldNotLook => {
                    let _ = writeln!(
                        stderr(),
                        "redoubt-search: not everything could be read: this is NOT a clean result"
                    );
                    ExitCode::from(2)
                }
            }
        }
        Err(error) => {
            let _ = writeln!(stderr(), "redoubt-search: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<Report, Box<dyn std::error::Error>> {
    if args.pid.is_empty() && args.container.is_empty() && args.path.is_empty() && !args.stdin {
        return Err("nowhere to look: give --pid, --container, --path or --stdin".into());
    }
    let secret = match &args.secret_file {
        Some(path) => Secret::from_file(path)?,
        None => Secret::read(&mut stdin().lock())?,
    };
    let needles = Needles::new(&secret)?;
    let mut processes = args.pid.clone();
    for id in &args.container {
        processes.extend(processes_of_container(Path::new("/proc"), id)?);
    }
    processes.sort_unstable();
    processes.dedup();
    let mut report = Report::default();
    for pid in processes {
        search_process(&needles, pid, &mut report);
    }
    for path in &args.path {
        search_path(&needles, path, &mut report);
    }
    if args.stdin {
        search_stream(&needles, "standard input", &mut stdin().lock(), &mut report);
    }
    Ok(report)
}
