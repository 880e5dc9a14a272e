//! Names that several parts must agree on: of an agent's children, of labels, of the operator itself.
//!
//! The prefix of the children's names is reserved. Admission policies see only the name of a pod or an account in a
//! token request or an exec, so the guards against namespace editors rest on it.

/// Every object that the operator makes for an Agent has this prefix before the Agent's own name.
pub const CHILD_PREFIX: &str = "redoubt-agent-";

/// Longest name of an Agent, in characters, so that each child's name is a DNS label (63).
pub const AGENT_NAME_MAX: usize = 45;

/// Label on every child; its value is the Agent's name.
pub const AGENT_LABEL: &str = "redoubt.dev/agent";

/// Label on every child beside [`AGENT_LABEL`]; its value is [`FIELD_MANAGER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Annotation that makes an IsolationClass the default one when it is `"true"`.
pub const DEFAULT_CLASS_ANNOTATION: &str = "isolationclass.redoubt.dev/is-default-class";

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "redoubt-system";

/// Service account of the operator, in [`OPERATOR_NAMESPACE`]. Admission policies know the operator by it.
pub const OPERATOR_ACCOUNT: &str = "redoubt-operator";

/// Field manager of every server-side apply that the operator does.
pub const FIELD_MANAGER: &str = "redoubt-operator";

/// The one Secret the operator may read, in [`OPERATOR_NAMESPACE`]: its signing key.
pub const SIGNING_KEY_SECRET: &str = "redoubt-signing-key";

/// The Lease in [`OPERATOR_NAMESPACE`] whose holder is the replica that writes.
pub const LEASE: &str = "redoubt-operator";

/// The ConfigMap in [`OPERATOR_NAMESPACE`] that lists who is let in to which pod. The guard of agents' pods reads it.
pub const OPEN_GRANTS: &str = "redoubt-open-grants";

/// The Service of the policy stream, in [`OPERATOR_NAMESPACE`].
pub const POLICY_SERVICE: &str = "redoubt-policy";

/// Labels of the operator's pods, in [`OPERATOR_NAMESPACE`].
pub const OPERATOR_LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/name", "redoubt"), ("app.kubernetes.io/component", "operator")];

/// The name that all children of the Agent called `agent` carry.
#[must_use]
pub fn child(agent: &str) -> String {
    format!("{CHILD_PREFIX}{agent}")
}

/// The audience a caller's service-account token must name to be let in to an agent.
#[must_use]
pub fn audience(namespace: &str, agent: &str) -> String {
    format!("redoubt.dev/agents/{namespace}/{agent}")
}
