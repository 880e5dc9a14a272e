//! Puts the jail on and tries it, ring by ring. Attempts run in a forked child that has the same restrictions, so
//! that one that gets through, or kills, does nothing to the process that goes on.

use crate::checks::{self, Check, Outcome, Ring};
use crate::fence::Paths;
use crate::outside::Outside;
use crate::restrict::{self, RestrictError};
use crate::rules::Rules;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Longest time that the attempts of one ring may take together.
pub const RING_TIME: Duration = Duration::from_secs(10);

/// A check and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the check.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of all checks, in their order.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// The first way out that is open.
    pub fn first_open(&self) -> Option<&Finding> {
        self.0.iter().find(|finding| matches!(finding.outcome, Outcome::Open { .. }))
    }
}

/// The jail could not be put on or not be tried.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A restriction failed.
    #[error(transparent)]
    Restrict(#[from] RestrictError),
    /// What the attempts aim at could not be made.
    #[error("the self-test cannot be prepared: {0}")]
    Prepare(#[source] io::Error),
}

/// Restricts this process for good and tries every check.
pub fn run(rules: Rules, landlock_abi: i32, mut paths: Paths) -> Result<Findings, SelfTestError> {
    // Reading the jail's own binary is harmless, and leaves execution as the only thing to refuse there.
    paths.read.push(std::env::current_exe().map_err(SelfTestError::Prepare)?);
    let outside = Outside::prepare(landlock_abi, paths.clone()).map_err(SelfTestError::Prepare)?;
    let checks = checks::all();
    let of = |ring: Ring| -> Vec<&Check> { checks.iter().filter(|check| check.ring == ring).collect() };
    restrict::first(rules, landlock_abi, &paths)?;
    let mut findings = apart(&of(Ring::Landlock), &outside);
    restrict::second(rules)?;
    findings.extend(apart(&of(Ring::Seccomp), &outside));
    restrict::last(rules)?;
    findings.extend(of(Ring::Closing).into_iter().map(|check| finding(check, check.run(&outside))));
    outside.finish();
    Ok(Findings(findings))
}

fn finding(check: &Check, outcome: Outcome) -> Finding {
    Finding { name: check.name.clone(), outcome }
}

/// Runs the checks in a child. One of which nothing is heard counts as open.
fn apart(checks: &[&Check], outside: &Outside) -> Vec<Finding> {
    let said = in_child(checks, outside).unwrap_or_default();
    let mut lines = said.split(|byte| *byte == b'\n');
    checks
        .iter()
        .map(|check| {
            let outcome = lines.next().and_then(|line| serde_json::from_slice(line).ok());
            let silent = || Outcome::Open { how: "the self-test ended or hung before it could say".into() };
            finding(check, outcome.unwrap_or_else(silent))
        })
        .collect()
}

fn in_child(checks: &[&Check], outside: &Outside) -> io::Result<Vec<u8>> {
    let (answer, mut tell) = io::pipe()?;
    let child = sys::fork(|| {
        outside.forked();
        for check in checks {
            let Ok(mut line) = serde_json::to_vec(&check.run(outside)) else { return 1 };
            line.push(b'\n');
            if tell.write_all(&line).is_err() {
                return 1;
            }
        }
        0
    })?;
    drop(tell);
    let (said, ended) = read_until(answer, Instant::now() + RING_TIME);
    if ended {
        sys::wait(child)?;
    }
    Ok(said)
}

/// What the child said until it ended (true) or the time was over (false).
fn read_until(mut answer: PipeReader, end: Instant) -> (Vec<u8>, bool) {
    let mut said = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        if left == 0 || !sys::readable(answer.as_raw_fd(), i32::try_from(left).unwrap_or(i32::MAX)) {
            return (said, false);
        }
        match answer.read(&mut part) {
            Ok(0) | Err(_) => return (said, true),
            Ok(length) => said.extend(part.iter().take(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_hangs_is_not_waited_for() {
        let (answer, mut tell) = io::pipe().unwrap();
        tell.write_all(b"one\n").unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        assert_eq!(read_until(answer.try_clone().unwrap(), soon()), (b"one\n".to_vec(), false));
        drop(tell);
        assert_eq!(read_until(answer, Instant::now() + RING_TIME), (Vec::new(), true));
    }
}
