//! The typed kinds of the Redoubt API: schemas, CEL rules, conditions and reasons. No IO.
//!
//! Two groups, so that RBAC tells teams from the platform on one glance: [`TEAM_GROUP`] holds the namespaced kinds that
//! teams write, [`PLATFORM_GROUP`] the cluster-scoped ones of the platform team. The YAML under `crds/yaml/` is printed
//! from these types by `cargo run --package redoubt-crds -- crds/yaml`, `docs/reference/api.md` by `cargo run --package
//! redoubt-crds -- --reference docs/reference/api.md`; a test fails when they differ.

pub mod condition;
pub mod grammar;
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive makes undocumented helper types, wants `pub` and has one attribute per printer column; every field of ours is documented"
)]
mod kinds;
pub mod names;
pub mod reference;
pub mod yaml;

pub use kinds::agent::{
    Agent, AgentResources, AgentRuntime, AgentSpec, AgentStatus, Caller, EffectiveRule, Limits, Model,
    Placement, PolicyStatus, Toleration, ToolKind, ToolReference, Workspace,
};
pub use kinds::agent_policy_revision::{
    AgentPolicyRevision, AgentPolicyRevisionSpec, RevisedAgent, RevisedPolicy, RevisedRule,
};
pub use kinds::break_glass::{BreakGlass, BreakGlassSpec, BreakGlassStatus, GlassAgent};
pub use kinds::cluster_agent_policy::{
    CeilingRule, Ceilings, ClusterAgentPolicy, ClusterAgentPolicySpec, Floors, LimitCeilings, PolicyMode,
    Quotas, ResourceCeilings,
};
pub use kinds::cluster_tool::{ClusterTool, ClusterToolSpec};
pub use kinds::egress_policy::{AllowRule, EgressPolicy, EgressPolicySpec};
pub use kinds::host_set::{HostSet, HostSetSpec};
pub use kinds::isolation_class::{Images, IsolationClass, IsolationClassSpec, Tee};
pub use kinds::secret_binding::{
    BearerInjection, Destination, HeaderInjection, Injection, Kv2Source, SecretBinding, SecretBindingSpec,
    VaultSource,
};
pub use kinds::shared::{
    DenyRule, HostSetReference, LocalReference, Protocol, ServiceAccountReference, Source, SourceKind, Status,
};
pub use kinds::tool::{Effect, HttpFunction, HttpTool, Tool, ToolSpec};
pub use kinds::vault_connection::{
    KubernetesAuth, VaultAuth, VaultConnection, VaultConnectionSpec, VaultGrant, VaultPath,
};

/// API group of the kinds that teams write in their own namespaces.
pub const TEAM_GROUP: &str = "redoubt.dev";

/// API group of the cluster-scoped kinds that the platform team writes.
pub const PLATFORM_GROUP: &str = "platform.redoubt.dev";

/// The one version of both groups.
pub const VERSION: &str = "v1alpha1";
