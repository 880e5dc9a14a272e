//! The signed policy: signed anew only when its content or the key changed, with an epoch that only rises.

use redoubt_policy::wire::PodPolicy;
use redoubt_policy::{digest, sign, verify};

use super::BuildError;
use crate::agent::validate::ValidatedAgent;
use crate::signing::Signer;

/// A signed policy.
pub(super) struct Signed {
    pub(super) envelope: String,
    pub(super) epoch: u64,
    pub(super) digest: String,
}

/// Which epoch a policy gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// The one it has: nothing changed.
    Keep(u64),
    /// A new one.
    New(u64),
}

/// The epoch of a policy with `digest`. `previous` is epoch and digest of the policy that is there, verified with the
/// operator's own key; `recorded` is the highest epoch that was ever recorded; `now` is in milliseconds.
///
/// A new epoch is above all that were seen, so that neither a clock that went back nor a ConfigMap that was put back
/// brings an old policy into force.
#[must_use]
pub fn next_epoch(previous: Option<(u64, &str)>, recorded: u64, digest: &str, now: u64) -> Epoch {
    match previous {
        Some((epoch, before)) if before == digest && epoch >= recorded => Epoch::Keep(epoch),
        previous => {
            let highest = previous.map_or(0, |(epoch, _)| epoch).max(recorded);
            Epoch::New(now.max(highest.saturating_add(1)))
        }
    }
}

/// The policy of `agent` as it is signed already, or signed now.
pub(super) fn signed(agent: &ValidatedAgent, signer: &Signer, now: u64) -> Result<Signed, BuildError> {
    let wanted = digest(&agent.policy);
    // Its epoch counts only if this operator signed it for this very Agent; what else is there is overwritten.
    let previous = agent.envelope.as_ref().and_then(|envelope| {
        let policy = verify(envelope.as_bytes(), signer.public(), &agent.policy.agent, 0).ok()?;
        Some((envelope, policy.epoch, digest(&policy)))
    });
    let seen = previous.as_ref().map(|(_, epoch, digest)| (*epoch, digest.as_str()));
    match (next_epoch(seen, agent.recorded_epoch, &wanted, now), previous) {
        (Epoch::Keep(epoch), Some((envelope, ..))) => {
            Ok(Signed { envelope: envelope.clone(), epoch, digest: wanted })
        }
        (Epoch::Keep(epoch) | Epoch::New(epoch), _) => {
            let policy = PodPolicy { epoch, ..agent.policy.clone() };
            Ok(Signed { envelope: sign(&policy, signer.key())?, epoch, digest: wanted })
        }
    }
}
