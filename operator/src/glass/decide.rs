//! What becomes of a BreakGlass: a pure decision.
//!
//! It opens one pod: the first that runs in its time. It is over when that pod goes, and never opens another.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use redoubt_crds::condition::{Reason, kind};
use redoubt_crds::{BreakGlass, names};

use super::entry::Entry;
use crate::conditions::Truth;

/// Most that are open at a time: the guard reads all of them for every request.
pub const OPEN_MAX: usize = 32;

/// Where a BreakGlass stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its pod does not run yet.
    Waiting,
    /// Others have to end first.
    Crowded,
    /// The person is let in, once the kubelet is told to end the pod in time.
    Open(Opening),
    /// It is over, and why.
    Over(Reason),
}

/// A pod that is to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which, and for whom.
    pub entry: Entry,
    /// What the pod's `spec.activeDeadlineSeconds` has to become, if it is not there yet: the kubelet ends the pod then,
    /// whether or not there is an operator or an API server.
    pub deadline: Option<i64>,
    /// Whether an earlier end of the pod was set before.
    pub ends_earlier: bool,
}

/// When it ends at the latest.
#[must_use]
pub fn expires(grant: &BreakGlass) -> Option<Timestamp> {
    let made = grant.metadata.creation_timestamp.as_ref()?.0;
    made.checked_add(SignedDuration::from_secs(grant.spec.duration_seconds.into())).ok()
}

/// Whether it is over for good.
#[must_use]
pub fn is_over(grant: &BreakGlass) -> bool {
    over(grant).is_some()
}

fn over(grant: &BreakGlass) -> Option<Reason> {
    let conditions = grant.status.iter().flat_map(|status| &status.conditions);
    let active = conditions
        .filter(|condition| condition.type_ == kind::ACTIVE && condition.status == Truth::False.as_str());
    active
        .filter_map(|condition| Reason::parse(&condition.reason))
        .find(|reason| matches!(reason, Reason::Expired | Reason::PodEnded))
}

/// Decides about every grant. `entries` is the list as it is, by the grants' names; `pod` finds a pod by namespace and name.
#[must_use]
pub fn decide<'g>(
    grants: &'g [BreakGlass],
    entries: &BTreeMap<String, Entry>,
    pod: impl Fn(&str, &str) -> Option<Pod>,
    now: Timestamp,
) -> Vec<(&'g BreakGlass, State)> {
    let mut grants: Vec<&BreakGlass> = grants.iter().collect();
    let age = |grant: &BreakGlass| grant.metadata.creation_timestamp.as_ref().map(|time| time.0);
    grants.sort_by_key(|grant| (age(grant), grant.name_any()));
    let mut open: usize = 0;
    grants
        .into_iter()
        .map(|grant| {
            let agent = &grant.spec.agent;
            let pod = pod(&agent.namespace, &names::child(&agent.name));
            let state = one(grant, entries.get(&grant.name_any()), pod.as_ref(), now);
            let state = match state {
                State::Open(_) if open >= OPEN_MAX => State::Crowded,
                state => state,
            };
            open = open.saturating_add(usize::from(matches!(state, State::Open(_))));
            (grant, state)
        })
        .collect()
}

fn one(grant: &BreakGlass, entry: Option<&Entry>, pod: Option<&Pod>, now: Timestamp) -> State {
    if let Some(reason) = over(grant) {
        return State::Over(reason);
    }
    let Some(expires) = expires(grant).filter(|expires| now < *expires) else {
        return State::Over(Reason::Expired);
    };
    if grant.metadata.deletion_timestamp.is_some() {
        return State::Over(Reason::Expired);
    }
    // A status that was not written is made up for by the list.
    let opened = grant.status.as_ref().and_then(|status| status.pod_uid.clone());
    let opened = opened.or_else(|| entry.map(|entry| entry.uid.clone()));
    let running = pod.and_then(running);
    match (running, opened) {
        (None, None) => State::Waiting,
        (Some((uid, _)), Some(opened)) if uid != opened => State::Over(Reason::PodEnded),
        (None, Some(_)) => State::Over(Reason::PodEnded),
        (Some((uid, started)), _) => {
            let seconds = expires.duration_since(started).as_secs().max(1);
            let set = pod.and_then(|pod| pod.spec.as_ref()).and_then(|spec| spec.active_deadline_seconds);
            let entry = Entry {
                namespace: grant.spec.agent.namespace.clone(),
                pod: names::child(&grant.spec.agent.name),
                uid,
                user: Some(grant.spec.user.clone()),
            };
            State::Open(Opening {
                entry,
                // It can be made sooner and not later.
                deadline: set.is_none_or(|set| set > seconds).then_some(seconds),
                ends_earlier: set.is_some_and(|set| set < seconds),
            })
        }
    }
}

/// UID and start of a pod that can be got in to.
fn running(pod: &Pod) -> Option<(String, Timestamp)> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() || status.phase.as_deref() != Some("Running") {
        return None;
    }
    Some((pod.uid()?, status.start_time.as_ref()?.0))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
