//! Metrics of the operator.

use crate::table::{Kind, Metric, Unit, Values, table};

/// Kinds that are visited.
pub const VISITED: &[&str] = &[
    "Agent",
    "ClusterAgentPolicy",
    "ClusterTool",
    "EgressPolicy",
    "HostSet",
    "IsolationClass",
    "SecretBinding",
    "Tool",
    "VaultConnection",
];
/// Kinds that are visited but Agent, which is the first.
pub const REFERRED: &[&str] = match VISITED {
    [_, referred @ ..] => referred,
    [] => &[],
};
/// Kinds that are watched.
pub const WATCHED: &[&str] = &[
    "Agent",
    "AgentPolicyRevision",
    "BreakGlass",
    "ClusterAgentPolicy",
    "ClusterTool",
    "ConfigMap",
    "EgressPolicy",
    "HostSet",
    "IsolationClass",
    "Namespace",
    "NetworkPolicy",
    "Pod",
    "RuntimeClass",
    "SecretBinding",
    "Service",
    "ServiceAccount",
    "Tool",
    "VaultConnection",
    OTHER,
];
/// What is in no list.
pub const OTHER: &str = "other";

/// How a visit ended: all was done; what was known was not up to date, so it is repeated at once; the API server could not
/// be asked or would not write, so it is repeated later.
pub const VISIT_RESULTS: &[&str] = &["done", "stale", "failed"];
/// Types of conditions that are told.
pub const CONDITIONS: &[&str] =
    &["Accepted", "Programmed", "CredentialsReady", "PolicyEnforced", "Ready", "PolicyDrift"];
/// Statuses of conditions.
pub const STATUSES: &[&str] = &["True", "False", "Unknown"];
/// Verbs of writes.
pub const VERBS: &[&str] = &["create", "update", "patch", "delete"];
/// What became of a write: it was done; the object had changed; the API server refused it; it failed there; no answer came;
/// the fence did not let it out.
pub const WRITE_RESULTS: &[&str] = &["done", "conflict", "refused", "failed", "unanswered", "fenced"];
/// What became of a write of the Lease.
pub const LEASE_RESULTS: &[&str] = &["done", "lost", "failed"];
/// What became of a question.
pub const RESULTS: &[&str] = &["done", "failed"];
/// What became of a call of a sidecar: its stream was opened; its token is not one; its pod is not that of today; what it
/// said is not the protocol; it cannot read this operator's policies; there are too many; the API server could not be asked.
pub const CALL_RESULTS: &[&str] = &[
    "opened",
    "token_refused",
    "pod_unknown",
    "malformed",
    "version_unsupported",
    "too_many",
    "unavailable",
];
/// Which policy a sidecar holds, as it said to this replica: the newest; an older one; an older one because it refused the
/// newest; it said nothing yet.
pub const HELD: &[&str] = &["current", "behind", "refused", "unheard"];

const VISIT_BOUNDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const WAIT_BOUNDS: &[f64] = &[0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const WRITE_BOUNDS: &[f64] = &[0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

table! {
    /// The program that runs.
    BUILD = Metric::of("redoubt_operator_build", Kind::Info).labels(&[("version", Values::Version)]);
    /// Whether this replica may write: 1 for at most one replica at a time.
    LEADER = Metric::of("redoubt_operator_leader", Kind::Gauge);
    /// Agents by their conditions; an Agent without a condition counts as Unknown, but for PolicyDrift, where it does not count.
    AGENTS = Metric::of("redoubt_operator_agents", Kind::Gauge)
        .labels(&[("condition", Values::Of(CONDITIONS)), ("status", Values::Of(STATUSES)), ("reason", Values::Reasons)]);
    /// Objects that Agents refer to, by their condition Accepted; Unknown are those without it and those that cannot be read.
    OBJECTS = Metric::of("redoubt_operator_objects", Kind::Gauge)
        .labels(&[("kind", Values::Of(REFERRED)), ("accepted", Values::Of(STATUSES))]);
    /// Visits to objects, by how they ended.
    VISITS = Metric::of("redoubt_operator_visits", Kind::Counter)
        .labels(&[("kind", Values::Of(VISITED)), ("result", Values::Of(VISIT_RESULTS))]);
    /// How long visits took.
    VISIT_DURATION = Metric::of("redoubt_operator_visit_duration", Kind::Histogram(VISIT_BOUNDS))
        .unit(Unit::Seconds)
        .labels(&[("kind", Values::Of(VISITED))]);
    /// Objects that have changed and wait for a visit. Replicas that do not lead visit none.
    QUEUE_DEPTH = Metric::of("redoubt_operator_queue_depth", Kind::Gauge).labels(&[("kind", Values::Of(VISITED))]);
    /// How long changed objects waited for their visit, with the 0.1 s in which several changes become one visit.
    QUEUE_WAIT = Metric::of("redoubt_operator_queue_wait", Kind::Histogram(WAIT_BOUNDS))
        .unit(Unit::Seconds)
        .labels(&[("kind", Values::Of(VISITED))]);
    /// Writes to the API server, by what became of them; `fenced` are those that were not sent because this replica does not lead.
    API_WRITES = Metric::of("redoubt_operator_api_writes", Kind::Counter)
        .labels(&[("verb", Values::Of(VERBS)), ("result", Values::Of(WRITE_RESULTS))]);
    /// How long writes to the API server took, with their repetitions; without those that were not sent.
    API_WRITE_DURATION = Metric::of("redoubt_operator_api_write_duration", Kind::Histogram(WRITE_BOUNDS))
        .unit(Unit::Seconds)
        .labels(&[("verb", Values::Of(VERBS))]);
    /// Time since the API server last answered this replica.
    API_SILENCE = Metric::of("redoubt_operator_api_silence", Kind::Gauge).unit(Unit::Seconds);
    /// Watches that failed and were begun anew.
    WATCH_FAILURES = Metric::of("redoubt_operator_watch_failures", Kind::Counter).labels(&[("kind", Values::Of(WATCHED))]);
    /// Writes of the Lease: to make, take or renew it.
    LEASE_WRITES = Metric::of("redoubt_operator_lease_writes", Kind::Counter).labels(&[("result", Values::Of(LEASE_RESULTS))]);
    /// How often the keys by which agents' callers are verified were asked for.
    KEY_FETCHES = Metric::of("redoubt_operator_key_fetches", Kind::Counter).labels(&[("result", Values::Of(RESULTS))]);
    /// Policy streams that are open to this replica.
    POLICY_STREAMS = Metric::of("redoubt_operator_policy_streams", Kind::Gauge);
    /// Calls of sidecars to open a policy stream.
    POLICY_STREAM_CALLS = Metric::of("redoubt_operator_policy_stream_calls", Kind::Counter)
        .labels(&[("result", Values::Of(CALL_RESULTS))]);
    /// Sidecars that have started, by the policy that they hold as they said to this replica.
    SIDECARS = Metric::of("redoubt_operator_sidecars", Kind::Gauge).labels(&[("policy", Values::Of(HELD))]);
    /// Age of the oldest policy that some sidecar has not taken over, of the sidecars that this replica has heard; 0 if there is none.
    UNACKNOWLEDGED_AGE = Metric::of("redoubt_operator_policy_unacknowledged_age", Kind::Gauge).unit(Unit::Seconds);
}
