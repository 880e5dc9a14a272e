//! What every part of Redoubt answers when it refuses something.

use serde::{Deserialize, Serialize};

/// A refusal as data: a stable reason, the object and field that refused, and the way out.
///
/// It never holds a secret. It is the body of a refused request, a container's termination message and the source of a
/// condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[error("{reason}: {message} ({object}, {field}). {help}")]
pub struct Refusal {
    /// Stable, in upper camel case, as in a condition.
    pub reason: String,
    /// `Kind/name` of the object that refused; `Pod` where a process of the pod did on its own account.
    pub object: String,
    /// Path of the field in that object, for example `spec.allow[0].methods`; empty where no field is to blame.
    pub field: String,
    /// What was refused, in one sentence.
    pub message: String,
    /// What to do about it, in one sentence.
    pub help: String,
}

impl Refusal {
    /// A refusal from its parts.
    pub fn new(
        reason: impl Into<String>,
        object: impl Into<String>,
        field: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            reason: reason.into(),
            object: object.into(),
            field: field.into(),
            message: message.into(),
            help: help.into(),
        }
    }
}
