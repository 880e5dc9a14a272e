//! Whether the jails of agent and tools have proven themselves. Until then their requests are refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use crate::peer::Peer;
use crate::refuse::Refused;

/// What a jail says after its self-test.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Verdict {
    pub(crate) nonce: String,
    pub(crate) passed: bool,
    pub(crate) checks: Vec<Check>,
}

/// One entry of the self-test.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) passed: bool,
    #[allow(dead_code, reason = "read so that its presence is checked; it is the jail's to log")]
    pub(crate) detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Asked(String),
    Judged { passed: bool },
}

/// The state of each jail.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<BTreeMap<Peer, State>>);

impl Verdicts {
    /// A new nonce for the jail of `peer`. Whatever it said before is void: a nonce is asked for at the start of a container.
    pub(crate) fn ask(&self, peer: Peer) -> Result<String, Refused> {
        let mut bytes = [0; 24];
        SystemRandom::new().fill(&mut bytes).map_err(|_| {
            Refused::by_pod(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "NoRandomness",
                "no randomness for a nonce",
                "Try again.",
            )
        })?;
        let nonce = URL_SAFE_NO_PAD.encode(bytes);
        self.lock().insert(peer, State::Asked(nonce.clone()));
        Ok(nonce)
    }

    /// Takes a verdict. The nonce is used up, whatever it says.
    pub(crate) fn take(&self, peer: Peer, verdict: &Verdict) -> Result<(), Refused> {
        let mut states = self.lock();
        match states.get(&peer) {
            Some(State::Asked(nonce)) if *nonce == verdict.nonce => {
                // An empty self-test or one with a failed entry did not pass, whatever its sum says.
                let passed =
                    verdict.passed && !verdict.checks.is_empty() && verdict.checks.iter().all(|it| it.passed);
                states.insert(peer, State::Judged { passed });
                Ok(())
            }
            _ => Err(Refused::forbidden(
                "NonceUnknown",
                "the nonce was not given out, or was used before",
                "Ask for a nonce with GET /v1/jail/nonce; it is good for one verdict.",
            )),
        }
    }

    /// Whether the jail of `peer` has passed.
    pub(crate) fn passed(&self, peer: Peer) -> bool {
        self.lock().get(&peer) == Some(&State::Judged { passed: true })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Peer, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(nonce: &str, passed: bool, checks: &[bool]) -> Verdict {
        let check = |passed: &bool| Check { name: "x".to_owned(), passed: *passed, detail: String::new() };
        Verdict { nonce: nonce.to_owned(), passed, checks: checks.iter().map(check).collect() }
    }

    #[test]
    fn a_nonce_is_good_for_one_verdict_of_its_own_jail() {
        let verdicts = Verdicts::default();
        let nonce = verdicts.ask(Peer::Agent).unwrap();
        assert!(verdicts.take(Peer::Tools, &verdict(&nonce, true, &[true])).is_err());
        assert!(verdicts.take(Peer::Agent, &verdict("other", true, &[true])).is_err());
        assert!(!verdicts.passed(Peer::Agent));
        verdicts.take(Peer::Agent, &verdict(&nonce, true, &[true])).unwrap();
        assert!(verdicts.passed(Peer::Agent) && !verdicts.passed(Peer::Tools));
        assert!(verdicts.take(Peer::Agent, &verdict(&nonce, false, &[true])).is_err());
        assert!(verdicts.passed(Peer::Agent));
        verdicts.ask(Peer::Agent).unwrap();
        assert!(!verdicts.passed(Peer::Agent));
    }

    #[test]
    fn what_does_not_pass() {
        let check = |passed, checks: &[bool], expected| {
            let verdicts = Verdicts::default();
            let nonce = verdicts.ask(Peer::Tools).unwrap();
            verdicts.take(Peer::Tools, &verdict(&nonce, passed, checks)).unwrap();
            assert_eq!(verdicts.passed(Peer::Tools), expected, "{passed} {checks:?}");
        };
        check(true, &[true, true], true);
        check(true, &[true, false], false);
        check(false, &[true], false);
        check(true, &[], false);
    }
}
