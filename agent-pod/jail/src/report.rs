//! What is left behind when the command is not started: one line of JSON in the container's termination log, which
//! the operator turns into a condition, and on standard error.

use crate::fence::FenceError;
use crate::restrict::RestrictError;
use crate::run::RunError;
use crate::selftest::SelfTestError;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;

/// Where Kubernetes reads a container's last words.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// The last words, in the shape of `redoubt_policy::Refusal`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Stable reason.
    pub reason: &'static str,
    /// Always `Pod`.
    pub object: &'static str,
    /// The check or argument that it is about.
    pub field: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub help: &'static str,
}

/// Opens the termination log, while that is still possible. It closes at exec.
pub fn open() -> Option<File> {
    OpenOptions::new().write(true).open(TERMINATION_LOG).ok()
}

/// Writes the report to the termination log, where there is one, and to standard error.
pub fn write(report: &Report, log: Option<File>) {
    let Ok(mut line) = serde_json::to_vec(report) else { return };
    line.push(b'\n');
    if let Some(mut log) = log {
        let _ = log.write_all(&line);
    }
    let _ = std::io::stderr().write_all(&line);
}

/// The report on an error.
pub fn report(error: &RunError) -> Report {
    let (reason, field, help) = match error {
        RunError::Arguments(_) => (
            "JailFailed",
            "arguments".to_owned(),
            "redoubt-jail --verdict SOCK [--allow-write PATH]... [--allow-read PATH]... -- COMMAND [ARGS]...",
        ),
        RunError::SelfTest(SelfTestError::Restrict(RestrictError::Fence(error))) => match error {
            FenceError::Unsupported { .. } => (
                "JailUnsupported",
                "landlock".to_owned(),
                "run the pod on nodes (or a Kata guest) with Linux 6.7 or newer and landlock in the list of lsm=",
            ),
            FenceError::Path { path, .. } | FenceError::TooWide(path) => (
                "JailFailed",
                path.display().to_string(),
                "name existing, absolute paths other than / in --allow-read, --allow-write and the command",
            ),
            FenceError::Rules(_) | FenceError::Partial => {
                ("JailUnsupported", "landlock".to_owned(), CONTAINER)
            }
        },
        RunError::SelfTest(SelfTestError::Restrict(RestrictError::Filter(_))) => {
            ("JailUnsupported", "seccomp".to_owned(), CONTAINER)
        }
        RunError::SelfTest(_) => ("JailFailed", "jail".to_owned(), CONTAINER),
        RunError::Open { name, .. } => (
            "SelfTestFailed",
            name.clone(),
            "the kernel or container runtime differs from what the jail knows; run redoubt-jail --self-test there",
        ),
        RunError::Verdict(_) => (
            "VerdictNotTaken",
            "--verdict".to_owned(),
            "look at the log of the container egress: it must run, and takes one verdict per container start",
        ),
        RunError::Command { .. } => (
            "CommandNotStarted",
            "command".to_owned(),
            "the command must be an absolute path of a static binary that this user may read and execute",
        ),
    };
    Report { reason, object: "Pod", field, message: error.to_string(), help }
}

const CONTAINER: &str =
    "the container's seccomp profile must be RuntimeDefault or allow landlock, seccomp and close_range";
