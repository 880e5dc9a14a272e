//! One module per kind, and one for the types they share.

pub(crate) mod agent;
pub(crate) mod egress_policy;
pub(crate) mod isolation_class;
pub(crate) mod secret_binding;
pub(crate) mod shared;
pub(crate) mod tool;
pub(crate) mod vault_connection;
