//! Whether the pod that is there may stay: a pure decision. There is one pod name, a new pod is only created when the old
//! one is gone, and a pod that failed is kept for its back-off, so that its logs can be read meanwhile.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::build::{ATTEMPT, MIN_EPOCH, POD_HASH, POLICY_KEY_FLAG};
use crate::signing::Signer;

/// Wait before the first replacement of a pod that failed.
pub const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(5);
/// Longest wait before a replacement.
pub const BACKOFF_MAX: SignedDuration = SignedDuration::from_secs(300);
/// A pod that lived this long has not failed in a row with those before it.
pub const STEADY: SignedDuration = SignedDuration::from_secs(600);

/// Why a pod is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The Agent is suspended or was rejected.
    Unwanted,
    /// It is built differently now.
    Changed,
    /// Someone changed its images or labels, or put a container into it.
    Tampered,
    /// Nothing announces today's key under the one that it knows.
    KeyUnknown,
    /// Its sidecar never came up, and there is a newer policy.
    Outdated,
    /// A person was let in to it, and its time is up.
    Opened,
    /// It failed.
    Failed,
    /// It finished, which an agent does not do.
    Finished,
    /// Its sidecar was restarted and no longer knows the self-tests' verdicts.
    SidecarRestarted,
}

impl Why {
    /// For a person.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Unwanted => "the Agent is suspended or not accepted",
            Self::Changed => "it is built differently now",
            Self::Tampered => "its images or labels were changed, or a container was put into it",
            Self::KeyUnknown => {
                "no announcement leads from the key in its arguments to the one that signs policies now"
            }
            Self::Outdated => "its sidecar did not come up, and there is a newer policy",
            Self::Opened => "a person was let in to it, and that is over",
            Self::Failed => "it failed",
            Self::Finished => "it finished",
            Self::SidecarRestarted => {
                "its sidecar was restarted and no longer knows the verdicts of the self-tests"
            }
        }
    }
}

/// What to do about the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none and none is wanted.
    Nothing,
    /// It stays.
    Keep,
    /// Create it.
    Create,
    /// Delete it; the next one is this attempt.
    Delete {
        /// Why.
        why: Why,
        /// How many pods in a row have failed then.
        attempt: u32,
    },
    /// It is being deleted: wait until it is gone, however long its node is lost.
    WaitGone,
    /// It failed and is kept until then.
    BackOff {
        /// Why it will be replaced.
        why: Why,
        /// When.
        until: Timestamp,
    },
}

/// Decides. `wanted` is the pod as built, `actual` as the API server has it; `signer` tells which keys lead to today's.
#[must_use]
pub fn decide(wanted: Option<&Pod>, actual: Option<&Pod>, signer: &Signer, now: Timestamp) -> Step {
    let (wanted, actual) = match (wanted, actual) {
        (None, None) => return Step::Nothing,
        (Some(_), None) => return Step::Create,
        (_, Some(actual)) if actual.metadata.deletion_timestamp.is_some() => return Step::WaitGone,
        (None, Some(_)) => return Step::Delete { why: Why::Unwanted, attempt: 0 },
        (Some(wanted), Some(actual)) => (wanted, actual),
    };
    if annotation(wanted, POD_HASH) != annotation(actual, POD_HASH) {
        return Step::Delete { why: Why::Changed, attempt: 0 };
    }
    if !pinned_keys(actual).all(|key| signer.leads_from(key)) {
        return Step::Delete { why: Why::KeyUnknown, attempt: 0 };
    }
    if tampered(wanted, actual) {
        return Step::Delete { why: Why::Tampered, attempt: 0 };
    }
    if ended_by_deadline(actual) {
        return Step::Delete { why: Why::Opened, attempt: 0 };
    }
    if let Some((why, since)) = broken(actual) {
        let (attempt, wait) = back_off(actual, since);
        let until = since.checked_add(wait).unwrap_or(now);
        return if now >= until { Step::Delete { why, attempt } } else { Step::BackOff { why, until } };
    }
    if crashed_before_start(actual) && number(actual, MIN_EPOCH) < number(wanted, MIN_EPOCH) {
        return Step::Delete { why: Why::Outdated, attempt: 0 };
    }
    Step::Keep
}

/// The container statuses of init containers and containers, by name.
#[must_use]
pub fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.into_iter().find(|container| container.name == name)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a String> {
    pod.annotations().get(key)
}

/// The keys in the arguments of the sidecar and the hands.
fn pinned_keys(pod: &Pod) -> impl Iterator<Item = &str> {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.filter_map(|container| {
        let args = container.args.as_ref()?;
        let flag = args.iter().position(|arg| arg == POLICY_KEY_FLAG)?;
        args.get(flag.checked_add(1)?).map(String::as_str)
    })
}

fn number(pod: &Pod, key: &str) -> u64 {
    annotation(pod, key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether what the API server lets others change in a pod was changed.
fn tampered(wanted: &Pod, actual: &Pod) -> bool {
    fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
        let spec = pod.spec.iter();
        spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
    }
    let images = |pod: &Pod| -> Vec<(String, Option<String>)> {
        containers(pod).map(|container| (container.name.clone(), container.image.clone())).collect()
    };
    let ephemeral =
        actual.spec.iter().any(|spec| spec.ephemeral_containers.iter().flatten().next().is_some());
    let labels = wanted.labels().iter().all(|(key, value)| actual.labels().get(key) == Some(value));
    ephemeral || !labels || images(wanted) != images(actual)
}

/// Whether the kubelet ended it at the time that a BreakGlass had set. Nothing else sets one.
fn ended_by_deadline(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.active_deadline_seconds.is_some())
        && pod.status.as_ref().is_some_and(|status| {
            status.phase.as_deref() == Some("Failed") && status.reason.as_deref() == Some("DeadlineExceeded")
        })
}

/// Why the pod has to be replaced by a new one of the same kind, and since when.
fn broken(pod: &Pod) -> Option<(Why, Timestamp)> {
    let ended = |why| Some((why, last_end(pod).or_else(|| created(pod)).unwrap_or(Timestamp::UNIX_EPOCH)));
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Failed") => ended(Why::Failed),
        Some("Succeeded") => ended(Why::Finished),
        _ => {
            let running = |name| container_status(pod, name)?.state.as_ref()?.running.as_ref();
            let started = |name| Some(running(name)?.started_at.as_ref()?.0);
            let guarded = [started("tools"), started("agent")];
            let earliest = guarded.into_iter().flatten().min()?;
            match started("egress") {
                Some(egress) if egress <= earliest => None,
                Some(egress) => Some((Why::SidecarRestarted, egress)),
                // The kubelet may tell of the others first; only an end shows a restart.
                None => {
                    let end = container_end(container_status(pod, "egress")?)?;
                    Some((Why::SidecarRestarted, end))
                }
            }
        }
    }
}

/// Whether the sidecar has ended and never come up.
fn crashed_before_start(pod: &Pod) -> bool {
    container_status(pod, "egress")
        .is_some_and(|egress| egress.started != Some(true) && container_end(egress).is_some())
}

fn container_end(container: &ContainerStatus) -> Option<Timestamp> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
    ended.filter_map(|terminated| Some(terminated.finished_at.as_ref()?.0)).max()
}

fn last_end(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.filter_map(container_end).max()
}

fn created(pod: &Pod) -> Option<Timestamp> {
    Some(pod.metadata.creation_timestamp.as_ref()?.0)
}

/// The number of the next attempt and the wait before it, for a pod that broke at `since`.
fn back_off(pod: &Pod, since: Timestamp) -> (u32, SignedDuration) {
    let lived = created(pod).map_or(SignedDuration::ZERO, |created| since.duration_since(created));
    let before = if lived >= STEADY {
        0
    } else {
        annotation(pod, ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(0_u32)
    };
    let factor = 1_i32 << before.min(16);
    let wait = BACKOFF_FIRST.checked_mul(factor).unwrap_or(BACKOFF_MAX).min(BACKOFF_MAX);
    (before.saturating_add(1), wait)
}

#[cfg(test)]
#[path = "replace_tests.rs"]
mod tests;
