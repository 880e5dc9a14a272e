//! Condition types and reasons. Reasons are part of the API: they are documented and do not change their meaning.
//!
//! `Ready` is the sum. `Reconciling` and `Stalled` are those of kstatus and are only present while they are true.

/// Types of conditions, as `metav1.Condition` names them.
pub mod kind {
    /// The object and all it refers to are valid and present.
    pub const ACCEPTED: &str = "Accepted";
    /// Every child object was applied as built from this generation.
    pub const PROGRAMMED: &str = "Programmed";
    /// The sidecar holds every credential that the agent's bindings name.
    pub const CREDENTIALS_READY: &str = "CredentialsReady";
    /// The sidecar has accepted the signed policy and each jail has failed to get out in its self-test.
    pub const POLICY_ENFORCED: &str = "PolicyEnforced";
    /// The sum of all others.
    pub const READY: &str = "Ready";
    /// kstatus: the operator is still working towards this generation.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: the operator cannot go on without someone's help.
    pub const STALLED: &str = "Stalled";
}

/// Why a condition has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The object and its references are valid.
    Valid,
    /// A field's value is not acceptable.
    Invalid,
    /// An object that is referred to does not exist.
    ReferenceNotFound,
    /// No IsolationClass is named, and none or more than one is the default.
    NoDefaultIsolationClass,
    /// The RuntimeClass of the IsolationClass does not exist on this cluster; nothing weaker is used instead.
    RuntimeClassNotFound,
    /// The VaultConnection grants this namespace no such path.
    VaultPathNotGranted,
    /// The binding does not name this agent or any of its tools as a consumer.
    NotAConsumer,
    /// Every child object was applied.
    Applied,
    /// The API server refused a child object.
    ApplyFailed,
    /// The pod is being started.
    Starting,
    /// The pod is being replaced.
    Replacing,
    /// The Agent is suspended by its author.
    Suspended,
    /// All is well.
    Ready,
    /// The sidecar holds the credentials.
    CredentialsHeld,
    /// The agent has no binding, so there is nothing to hold.
    NoBindings,
    /// Vault could not be reached, or answered with a server error.
    VaultUnavailable,
    /// Vault is sealed.
    VaultSealed,
    /// Vault refused the login: the role, its bound accounts or its audience do not fit.
    VaultLoginRefused,
    /// Vault refused to read the path with the agent's token.
    VaultReadRefused,
    /// There is no secret at the path.
    VaultPathNotFound,
    /// The secret at the path lacks the key.
    VaultKeyNotFound,
    /// The credential's value cannot be injected: empty, too short to be scanned for, or with control characters.
    CredentialUnusable,
    /// The policy is enforced and the self-tests have passed.
    Enforced,
    /// The sidecar refused the policy: malformed, unsigned, signed by another key, for another agent, or too old.
    PolicyRefused,
    /// A self-test found a way out; the process behind it was not started.
    SelfTestFailed,
    /// The kernel lacks what the jail needs.
    JailUnsupported,
    /// A container of the pod failed for another reason, given in the message.
    PodFailed,
    /// Not known yet.
    Unknown,
}

impl Reason {
    /// Every reason, for the reference.
    pub const ALL: &'static [Self] = &[
        Self::Valid,
        Self::Invalid,
        Self::ReferenceNotFound,
        Self::NoDefaultIsolationClass,
        Self::RuntimeClassNotFound,
        Self::VaultPathNotGranted,
        Self::NotAConsumer,
        Self::Applied,
        Self::ApplyFailed,
        Self::Starting,
        Self::Replacing,
        Self::Suspended,
        Self::Ready,
        Self::CredentialsHeld,
        Self::NoBindings,
        Self::VaultUnavailable,
        Self::VaultSealed,
        Self::VaultLoginRefused,
        Self::VaultReadRefused,
        Self::VaultPathNotFound,
        Self::VaultKeyNotFound,
        Self::CredentialUnusable,
        Self::Enforced,
        Self::PolicyRefused,
        Self::SelfTestFailed,
        Self::JailUnsupported,
        Self::PodFailed,
        Self::Unknown,
    ];

    /// The text in `reason` of a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::Invalid => "Invalid",
            Self::ReferenceNotFound => "ReferenceNotFound",
            Self::NoDefaultIsolationClass => "NoDefaultIsolationClass",
            Self::RuntimeClassNotFound => "RuntimeClassNotFound",
            Self::VaultPathNotGranted => "VaultPathNotGranted",
            Self::NotAConsumer => "NotAConsumer",
            Self::Applied => "Applied",
            Self::ApplyFailed => "ApplyFailed",
            Self::Starting => "Starting",
            Self::Replacing => "Replacing",
            Self::Suspended => "Suspended",
            Self::Ready => "Ready",
            Self::CredentialsHeld => "CredentialsHeld",
            Self::NoBindings => "NoBindings",
            Self::VaultUnavailable => "VaultUnavailable",
            Self::VaultSealed => "VaultSealed",
            Self::VaultLoginRefused => "VaultLoginRefused",
            Self::VaultReadRefused => "VaultReadRefused",
            Self::VaultPathNotFound => "VaultPathNotFound",
            Self::VaultKeyNotFound => "VaultKeyNotFound",
            Self::CredentialUnusable => "CredentialUnusable",
            Self::Enforced => "Enforced",
            Self::PolicyRefused => "PolicyRefused",
            Self::SelfTestFailed => "SelfTestFailed",
            Self::JailUnsupported => "JailUnsupported",
            Self::PodFailed => "PodFailed",
            Self::Unknown => "Unknown",
        }
    }

    /// The reason with this text, as the pod's own processes report it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}
