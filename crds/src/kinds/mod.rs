//! One module per kind, and one for the types they share.

pub(crate) mod agent;
pub(crate) mod agent_policy_revision;
pub(crate) mod break_glass;
pub(crate) mod cluster_agent_policy;
pub(crate) mod cluster_tool;
pub(crate) mod egress_policy;
pub(crate) mod host_set;
pub(crate) mod isolation_class;
pub(crate) mod secret_binding;
pub(crate) mod shared;
pub(crate) mod tool;
pub(crate) mod vault_connection;
