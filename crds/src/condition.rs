//! Condition types and reasons. Reasons are part of the API: they are documented and do not change their meaning.
//!
//! `Ready` is the sum. `Reconciling` and `Stalled` are those of kstatus and are only present while they are true; so is
//! `PolicyDrift`.

/// Constants with a table of them, so that there is one list and its documentation is that of the reference.
macro_rules! conditions {
    ($($(#[doc = $meaning:literal])+ $name:ident = $text:literal;)+) => {
        /// Types of conditions, as `metav1.Condition` names them.
        pub mod kind {
            $($(#[doc = $meaning])+ pub const $name: &str = $text;)+

            /// Every type and its meaning.
            pub const ALL: &[(&str, &str)] = &[$(($text, concat!($($meaning),+))),+];
        }
    };
}

conditions! {
    /// The object and all it refers to are valid and present.
    ACCEPTED = "Accepted";
    /// Every child object was applied as built from this generation.
    PROGRAMMED = "Programmed";
    /// The sidecar holds every credential that the agent's bindings name.
    CREDENTIALS_READY = "CredentialsReady";
    /// The sidecar has accepted the signed policy and each jail has failed to get out in its self-test.
    POLICY_ENFORCED = "PolicyEnforced";
    /// The sum of all others.
    READY = "Ready";
    /// kstatus: the operator is still working towards this generation.
    RECONCILING = "Reconciling";
    /// kstatus: the operator cannot go on without someone's help.
    STALLED = "Stalled";
    /// Someone else's object lets more through to or from the pod than the operator's own. Only present while it holds;
    /// `Ready` does not depend on it.
    POLICY_DRIFT = "PolicyDrift";
    /// Of a BreakGlass: the person is let in to the pod.
    ACTIVE = "Active";
}

/// The enumeration with its texts and meanings, from one list.
macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $name:ident,)+) => {
        /// Why a condition has its status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The text in `reason` of a condition.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What it says, for the reference.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+),)+
                }
            }
        }
    };
}

reasons! {
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
    /// A ceiling of a ClusterAgentPolicy leaves it out.
    ExceedsPolicy,
    /// A ClusterAgentPolicy's quota of Agents in the namespace is used up by Agents that were made earlier.
    QuotaExceeded,
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
    /// The sidecar cannot read policies of the operator's version, and keeps the one it has until that is too old.
    VersionUnsupported,
    /// A self-test found a way out; the process behind it was not started.
    SelfTestFailed,
    /// The kernel lacks what the jail needs.
    JailUnsupported,
    /// A container of the pod failed for another reason, given in the message.
    PodFailed,
    /// A NetworkPolicy that is not the operator's own selects the pod and allows more than that one.
    ForeignNetworkPolicy,
    /// The person is let in.
    Open,
    /// The pod that the person is to be let in to does not run yet.
    PodNotRunning,
    /// Its time is up.
    Expired,
    /// The pod that was open is gone or ends.
    PodEnded,
    /// So many are open at the same time that no other is opened.
    TooManyOpen,
    /// Not known yet.
    Unknown,
}

impl Reason {
    /// The reason with this text, as the pod's own processes report it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}
