//! The verdict of the self-test, told to the egress sidecar with a single-use nonce. Only when the sidecar took a
//! verdict that says "passed" does it let this container's requests through.

use crate::checks::Outcome;
use crate::http::{self, HttpError};
use crate::selftest::Findings;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the sidecar's socket is waited for.
pub const WAIT: Duration = Duration::from_secs(30);

/// Body of `POST /v1/jail/verdict`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// From `GET /v1/jail/nonce`.
    pub nonce: String,
    /// True when no way out was open.
    pub passed: bool,
    /// Every check that could be tried.
    pub checks: Vec<CheckResult>,
}

/// One check of a verdict.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Stable name.
    pub name: String,
    /// True when the attempt was refused as it should be.
    pub passed: bool,
    /// How it was refused, or what happened instead. For people.
    pub detail: String,
}

/// The sidecar did not take the verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerdictError {
    /// It could not be talked to.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It answered with another status than success.
    #[error("the sidecar answered {status} to {request}")]
    Refused {
        /// The request.
        request: &'static str,
        /// HTTP status code.
        status: u16,
    },
    /// Its nonce cannot be read.
    #[error("the sidecar's nonce cannot be read: {0}")]
    Nonce(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

/// The verdict on what was found.
pub fn verdict(findings: &Findings, nonce: String) -> Verdict {
    let checks = findings.0.iter().filter_map(|finding| {
        let (passed, detail) = match &finding.outcome {
            Outcome::Refused { how, .. } => (true, how.clone()),
            Outcome::Open { how } => (false, how.clone()),
            Outcome::Unavailable { .. } => return None,
        };
        Some(CheckResult { name: finding.name.clone(), passed, detail })
    });
    Verdict { nonce, passed: findings.first_open().is_none(), checks: checks.collect() }
}

/// Fetches a nonce and delivers the verdict; the socket is waited for up to `wait`.
pub fn deliver(findings: &Findings, socket: &Path, wait: Duration) -> Result<(), VerdictError> {
    let end = Instant::now() + wait;
    let request = "GET /v1/jail/nonce";
    let response = http::send(socket, "GET", "/v1/jail/nonce", None, end)?;
    if response.status != 200 {
        return Err(VerdictError::Refused { request, status: response.status });
    }
    let Nonce { nonce } = serde_json::from_slice(&response.body).map_err(VerdictError::Nonce)?;
    let body = serde_json::to_vec(&verdict(findings, nonce)).map_err(VerdictError::Nonce)?;
    let request = "POST /v1/jail/verdict";
    let response = http::send(socket, "POST", "/v1/jail/verdict", Some(&body), end)?;
    if !(200..300).contains(&response.status) {
        return Err(VerdictError::Refused { request, status: response.status });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::Finding;

    #[test]
    fn verdicts() {
        let check = |outcome: Outcome, passed: bool, checks: usize| {
            let findings = Findings(vec![Finding { name: "a".into(), outcome }]);
            let verdict = verdict(&findings, "n".into());
            assert_eq!((verdict.passed, verdict.checks.len()), (passed, checks));
            assert!(verdict.checks.iter().all(|check| check.passed == passed));
        };
        check(Outcome::Refused { by_jail: true, how: String::new() }, true, 1);
        check(Outcome::Refused { by_jail: false, how: String::new() }, true, 1);
        check(Outcome::Open { how: String::new() }, false, 1);
        check(Outcome::Unavailable { why: String::new() }, true, 0);
    }

    #[test]
    fn no_sidecar() {
        let socket = Path::new("/nowhere/egress.sock");
        let found = deliver(&Findings::default(), socket, Duration::from_millis(60));
        assert!(matches!(found, Err(VerdictError::Http(HttpError::Connect(_)))), "{found:?}");
    }
}
