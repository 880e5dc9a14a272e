//! Step five: the Agent's status, computed only from what was applied, and written only when it changed.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use redoubt_crds::condition::{Reason, kind};
use redoubt_crds::{Agent, AgentStatus, PolicyStatus};
use redoubt_policy::compile::{Problem, effective_lines, refused_lines, unneeded_lines, would_refuse_lines};
use redoubt_policy::wire::PodPolicy;

use super::apply::{Live, PodOutcome};
use super::build::{POLICY_DIGEST, POLICY_EPOCH};
use super::children::{Applied, Children};
use super::pod_report::{PodReport, is_started, report};
use crate::conditions::{Truth, Verdict, merge};
use crate::stream::hub::Report;

/// How a visit went.
pub enum Outcome<'a> {
    /// The Agent or something it refers to is not acceptable.
    Rejected(&'a [Problem]),
    /// A child could not be applied.
    Failed(String),
    /// Everything was applied: the objects, the policy, and what the sidecar said last.
    Applied(&'a Children<Applied>, &'a PodPolicy, Option<&'a Report>),
}

/// The status after a visit. `drift` is what makes the ring around the pod wider, if anything does.
#[must_use]
pub fn next(agent: &Agent, outcome: &Outcome<'_>, drift: Option<&str>, now: Timestamp) -> AgentStatus {
    let previous = agent.status.clone().unwrap_or_default();
    let mut verdicts = verdicts(outcome);
    verdicts
        .extend(drift.map(|drift| (kind::POLICY_DRIFT, Verdict::yes(Reason::ForeignNetworkPolicy, drift))));
    let conditions = merge(&previous.conditions, &verdicts, agent.metadata.generation, now);
    let observed_generation = agent.metadata.generation;
    match outcome {
        Outcome::Rejected(_) => AgentStatus {
            observed_generation,
            conditions,
            revision: previous.revision,
            pod_name: None,
            runtime_class_name: None,
            // Its epoch must not be forgotten.
            policy: previous.policy,
        },
        Outcome::Failed(_) => AgentStatus { observed_generation, conditions, ..previous },
        Outcome::Applied(children, policy, said) => {
            let Children { service_account: _, config_map, network_policy: _, service: _, revision, pod } =
                children;
            let pod = match pod {
                PodOutcome::Present(pod) | PodOutcome::BackOff(pod, ..) => Some(pod),
                PodOutcome::Absent | PodOutcome::Ending(_) => None,
            };
            AgentStatus {
                observed_generation,
                conditions,
                revision: Some(revision.number()),
                pod_name: pod.map(|pod| pod.name_any()),
                runtime_class_name: pod
                    .and_then(|pod| pod.spec.as_ref())
                    .and_then(|spec| spec.runtime_class_name.clone()),
                policy: Some(PolicyStatus {
                    acknowledged_epoch: acknowledged(pod.map(AsRef::as_ref), *said, previous.policy.as_ref()),
                    ..policy_status(config_map, policy, previous.policy.as_ref())
                }),
            }
        }
    }
}

fn policy_status(
    map: &Live<k8s_openapi::api::core::v1::ConfigMap>,
    policy: &PodPolicy,
    previous: Option<&PolicyStatus>,
) -> PolicyStatus {
    let epoch = map.annotations().get(POLICY_EPOCH).and_then(|text| text.parse().ok()).unwrap_or_default();
    PolicyStatus {
        epoch: previous.map_or(0, |previous| previous.epoch).max(epoch),
        digest: map.annotations().get(POLICY_DIGEST).cloned().unwrap_or_default(),
        acknowledged_epoch: None,
        effective: effective_lines(policy),
        refused: refused_lines(policy),
        would_refuse: would_refuse_lines(policy),
        unneeded: unneeded_lines(policy),
        selected_by: policy.explanation.selected_by.clone(),
    }
}

/// The highest epoch that the sidecar of this pod has acknowledged. Another operator may have heard it; what that one has
/// written holds as long as there is no other pod.
fn acknowledged(
    pod: Option<&Live<Pod>>,
    said: Option<&Report>,
    previous: Option<&PolicyStatus>,
) -> Option<i64> {
    let pod = pod?;
    let written = previous.and_then(|previous| previous.acknowledged_epoch);
    match said {
        Some(said) if pod.metadata.uid.as_ref() == Some(&said.pod_uid) => i64::try_from(said.epoch).ok(),
        Some(_) => None,
        None => written.filter(|_| is_started(pod)),
    }
}

/// A newest policy that the sidecar would not take is not enforced.
fn refused(report: PodReport, pod: &Pod, said: Option<&Report>) -> PodReport {
    let said = said.filter(|said| pod.metadata.uid.as_ref() == Some(&said.pod_uid));
    let Some((reason, message)) = said.and_then(|said| said.refused.as_ref()) else { return report };
    let reason = match reason.as_str() {
        "VersionUnsupported" => Reason::VersionUnsupported,
        _ => Reason::PolicyRefused,
    };
    let told = format!("the sidecar keeps an older policy: {message}");
    PodReport { enforced: Verdict::no(reason, told), ..report }
}

/// Every condition, in the order in which they come about.
fn verdicts(outcome: &Outcome<'_>) -> Vec<(&'static str, Verdict)> {
    let waiting = |what: &str| Verdict::unknown(Reason::Unknown, what);
    match outcome {
        Outcome::Rejected(problems) => {
            let accepted = rejection(problems);
            let idle = "nothing runs until the Agent is accepted";
            sum(
                accepted.clone(),
                Verdict::no(accepted.reason, idle),
                PodReport {
                    credentials: waiting(idle),
                    enforced: waiting(idle),
                    running: Verdict::no(accepted.reason, idle),
                },
            )
        }
        Outcome::Failed(message) => {
            let unclear = "not every object could be applied";
            sum(
                accepted(),
                Verdict::no(Reason::ApplyFailed, message.clone()),
                PodReport {
                    credentials: waiting(unclear),
                    enforced: waiting(unclear),
                    running: Verdict::no(Reason::ApplyFailed, unclear),
                },
            )
        }
        Outcome::Applied(children, policy, said) => {
            let pod = match &children.pod {
                PodOutcome::Present(pod) => refused(report(pod, !policy.bindings.is_empty()), pod, *said),
                PodOutcome::BackOff(pod, why, until) => {
                    let report = report(pod, !policy.bindings.is_empty());
                    let until = Timestamp::from_second(until.as_second()).unwrap_or(*until);
                    let plan = format!("the pod is replaced at {until}, because {}", why.text());
                    let running = match report.running.truth {
                        Truth::False => Verdict {
                            message: format!("{}; {plan}", report.running.message.trim_end_matches('.')),
                            ..report.running
                        },
                        _ => Verdict::no(Reason::Replacing, plan),
                    };
                    // Verdicts of a sidecar that is to go are worth nothing.
                    let lost = |verdict: Verdict| match verdict.truth {
                        Truth::True => Verdict::unknown(Reason::Replacing, running.message.clone()),
                        _ => verdict,
                    };
                    PodReport {
                        credentials: lost(report.credentials),
                        enforced: lost(report.enforced),
                        running: running.clone(),
                    }
                }
                PodOutcome::Ending(why) => {
                    let because = why.map(|why| format!(", because {}", why.text())).unwrap_or_default();
                    without_pod(Reason::Replacing, &format!("the pod is being deleted{because}"))
                }
                PodOutcome::Absent => without_pod(
                    Reason::Suspended,
                    "spec.suspend is true, so there is no pod; set it to false to go on",
                ),
            };
            sum(accepted(), Verdict::yes(Reason::Applied, "every object is as built"), pod)
        }
    }
}

fn accepted() -> Verdict {
    Verdict::yes(Reason::Valid, "the Agent and all it refers to are valid")
}

fn without_pod(reason: Reason, message: &str) -> PodReport {
    PodReport {
        credentials: Verdict::unknown(reason, message),
        enforced: Verdict::unknown(reason, message),
        running: Verdict::no(reason, message),
    }
}

/// `Accepted` for problems: the first one's reason, and all of them as text.
#[must_use]
pub fn rejection(problems: &[Problem]) -> Verdict {
    let reason =
        problems.first().and_then(|problem| Reason::parse(&problem.reason)).unwrap_or(Reason::Invalid);
    let texts: Vec<String> = problems
        .iter()
        .map(|problem| {
            let place = match problem.field.as_str() {
                "" => problem.object.clone(),
                field => format!("{} {field}", problem.object),
            };
            format!("{place}: {}. {}", problem.message.trim_end_matches('.'), problem.help)
        })
        .collect();
    Verdict::no(reason, texts.join(" "))
}

/// Adds `Ready`, and kstatus's `Reconciling` or `Stalled` while they hold.
fn sum(accepted: Verdict, programmed: Verdict, pod: PodReport) -> Vec<(&'static str, Verdict)> {
    let PodReport { credentials, enforced, running } = pod;
    let parts = [&accepted, &programmed, &credentials, &enforced, &running];
    // What is known to be wrong says more than what is not known yet.
    let worst = parts
        .iter()
        .find(|verdict| verdict.truth == Truth::False)
        .or_else(|| parts.iter().find(|verdict| verdict.truth == Truth::Unknown));
    let ready = match worst {
        None => Verdict::yes(Reason::Ready, "the agent is ready"),
        Some(verdict) => Verdict::no(verdict.reason, verdict.message.clone()),
    };
    let progress = match &ready {
        Verdict { truth: Truth::True, .. } | Verdict { reason: Reason::Suspended, .. } => None,
        verdict if matches!(verdict.reason, Reason::Starting | Reason::Replacing | Reason::Unknown) => {
            Some((kind::RECONCILING, Verdict::yes(verdict.reason, verdict.message.clone())))
        }
        verdict => Some((kind::STALLED, Verdict::yes(verdict.reason, verdict.message.clone()))),
    };
    let mut all = vec![
        (kind::ACCEPTED, accepted),
        (kind::PROGRAMMED, programmed),
        (kind::CREDENTIALS_READY, credentials),
        (kind::POLICY_ENFORCED, enforced),
        (kind::READY, ready),
    ];
    all.extend(progress);
    all
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "health_tests.rs"]
mod health_tests;
