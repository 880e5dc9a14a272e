//! What a pod's status says about its credentials and its policy: pure.
//!
//! The pod's own processes end with a [`Refusal`] as their termination message. It comes from inside the pod, so it is
//! only ever text and a known reason for a condition.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use redoubt_crds::condition::Reason;
use redoubt_policy::Refusal;

use super::replace::container_status;
use crate::conditions::Verdict;

/// The three conditions that a pod gives rise to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReport {
    /// `CredentialsReady`.
    pub credentials: Verdict,
    /// `PolicyEnforced`.
    pub enforced: Verdict,
    /// Whether the pod as a whole runs, for `Ready`.
    pub running: Verdict,
}

/// Reads a pod's status. `bound` tells whether the policy has bindings.
#[must_use]
pub fn report(pod: &Pod, bound: bool) -> PodReport {
    let egress = container_status(pod, "egress");
    let started = is_started(pod);
    let enforced = started && egress.is_some_and(|egress| egress.ready);
    let refusals = refusals(pod, started, enforced);
    let by = |wanted: fn(Reason) -> bool| {
        refusals.iter().find(|(_, reason, _)| wanted(*reason)).map(|(container, reason, refusal)| {
            Verdict::no(*reason, format!("container {container}: {}", told(refusal)))
        })
    };
    let starting = || Verdict::unknown(Reason::Starting, "the sidecar is being started");
    let failure = failure(pod);

    let credentials = if started {
        held(bound)
    } else if let Some(verdict) = by(is_credential) {
        verdict
    } else if bound {
        failure
            .clone()
            .map_or_else(starting, |failure| Verdict { truth: crate::conditions::Truth::Unknown, ..failure })
    } else {
        held(false)
    };
    let enforcement = if enforced {
        Verdict::yes(
            Reason::Enforced,
            "the sidecar enforces the policy, and both self-tests found no way out",
        )
    } else if let Some(verdict) = by(is_enforcement) {
        verdict
    } else if started {
        Verdict::unknown(
            Reason::Starting,
            "the policy is in force; the self-tests have not both reported yet",
        )
    } else {
        starting()
    };
    let any_refusal = by(|_| true);
    let running = match any_refusal.or(failure) {
        Some(verdict) => verdict,
        None if is_ready(pod) => Verdict::yes(Reason::Ready, "the agent is ready"),
        None => Verdict::unknown(Reason::Starting, "the pod is being started"),
    };
    PodReport { credentials, enforced: enforcement, running }
}

/// Whether the sidecar runs, with a policy and what credentials it needs.
pub fn is_started(pod: &Pod) -> bool {
    container_status(pod, "egress").is_some_and(|egress| egress.started == Some(true) && is_running(egress))
}

fn held(bound: bool) -> Verdict {
    if bound {
        Verdict::yes(Reason::CredentialsHeld, "the sidecar holds every credential that the bindings name")
    } else {
        Verdict::yes(Reason::NoBindings, "the Agent has no binding, so there is nothing to hold")
    }
}

fn is_credential(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::VaultUnavailable
            | Reason::VaultSealed
            | Reason::VaultLoginRefused
            | Reason::VaultReadRefused
            | Reason::VaultPathNotFound
            | Reason::VaultKeyNotFound
            | Reason::CredentialUnusable
    )
}

/// Whether a container can know this of itself. Credentials are the sidecar's alone, and no container says that all is well
/// or merely takes its time.
fn may_claim(container: &str, reason: Reason) -> bool {
    is_enforcement(reason) || (container == "egress" && is_credential(reason))
}

fn is_enforcement(reason: Reason) -> bool {
    matches!(reason, Reason::PolicyRefused | Reason::SelfTestFailed | Reason::JailUnsupported)
}

/// The refusals that still hold: a container that has come up since has got over its own.
fn refusals(pod: &Pod, started: bool, enforced: bool) -> Vec<(&'static str, Reason, Refusal)> {
    [("egress", started), ("tools", enforced), ("agent", enforced)]
        .into_iter()
        .filter_map(|(name, over)| {
            let container = container_status(pod, name)?;
            let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
            let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            let terminated = ended.or(before.filter(|_| !over))?;
            let refusal = parse(terminated)?;
            let reason = Reason::parse(&refusal.reason).filter(|reason| may_claim(name, *reason));
            Some((name, reason.unwrap_or(Reason::PodFailed), refusal))
        })
        .collect()
}

/// The last line of the termination message that is a refusal.
fn parse(terminated: &ContainerStateTerminated) -> Option<Refusal> {
    let message = terminated.message.as_deref()?;
    message.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn told(refusal: &Refusal) -> String {
    let place = match refusal.field.as_str() {
        "" => refusal.object.clone(),
        field => format!("{} {field}", refusal.object),
    };
    format!("{place}: {} {}", refusal.message, refusal.help)
}

/// Why the pod does not run, as scheduler and kubelet tell it.
fn failure(pod: &Pod) -> Option<Verdict> {
    let status = pod.status.as_ref()?;
    let failed = |message: String| Some(Verdict::no(Reason::PodFailed, message));
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    for container in all {
        if let Some(message) = container_failure(container) {
            return failed(message);
        }
    }
    if let Some("Failed" | "Succeeded") = status.phase.as_deref() {
        let told = [status.reason.as_deref(), status.message.as_deref()];
        let told: Vec<_> = told.into_iter().flatten().collect();
        let phase = status.phase.as_deref().unwrap_or_default().to_lowercase();
        return failed(
            format!("the pod {phase}: {}", told.join(": ")).trim_end_matches([':', ' ']).to_owned(),
        );
    }
    let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")?;
    if scheduled.status == "False" {
        let message = scheduled.message.as_deref().unwrap_or("no node takes the pod");
        return failed(format!("the pod cannot be scheduled: {message}"));
    }
    None
}

fn container_failure(container: &ContainerStatus) -> Option<String> {
    let name = &container.name;
    let state = container.state.as_ref()?;
    let ended = |terminated: &ContainerStateTerminated| {
        let told = terminated.message.as_deref().or(terminated.reason.as_deref()).unwrap_or_default();
        format!("container {name} ended with exit code {}: {}", terminated.exit_code, told.trim())
    };
    if let Some(terminated) = &state.terminated {
        return Some(ended(terminated));
    }
    let waiting = state.waiting.as_ref()?;
    match waiting.reason.as_deref()? {
        "ContainerCreating" | "PodInitializing" => None,
        "CrashLoopBackOff" => Some(
            container
                .last_state
                .as_ref()?
                .terminated
                .as_ref()
                .map_or_else(|| format!("container {name} ends again and again"), ended),
        ),
        reason => {
            let message = waiting.message.as_deref().unwrap_or_default();
            Some(format!("container {name}: {reason}: {message}"))
        }
    }
}

fn is_running(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
#[path = "pod_report_tests.rs"]
mod tests;
