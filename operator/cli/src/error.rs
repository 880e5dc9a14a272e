//! How a command fails, and what the person can do about it.

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable kubeconfig.
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A name that no object can have.
    #[error("{0:?} is not a name of a Kubernetes object of this kind")]
    Name(String),
    /// The API server refused something or did not answer.
    #[error("cannot {action}: {why}")]
    Cluster {
        /// What was tried.
        action: String,
        /// Why it failed, in the API server's words where it said some.
        why: String,
    },
    /// Nobody in the agent's namespace may call it.
    #[error("Agent {namespace}/{agent} lists no service account of its namespace in spec.callers")]
    NoCaller {
        /// Namespace of the Agent.
        namespace: String,
        /// Name of the Agent.
        agent: String,
    },
    /// The API server gave a response without a token.
    #[error("the API server gave no token for service account {0}")]
    NoToken(String),
    /// The agent, its sidecar or the API server answered with an error.
    #[error("{said}")]
    Refused {
        /// HTTP status; 0 where the error came in the middle of the answer.
        status: u16,
        /// What the answer says.
        said: String,
        /// The agent's name.
        agent: String,
    },
    /// The answer broke off.
    #[error("the answer broke off")]
    Cut(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The answer is not what an agent answers.
    #[error("the answer is not that of an agent: {0}")]
    Protocol(String),
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Where it is.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// The files have no object of our kinds.
    #[error("there is no object of Redoubt's in the files")]
    Nothing,
    /// The snapshot is not what `snapshot` writes.
    #[error("the snapshot cannot be used: {0}")]
    Snapshot(String),
    /// There is no such Agent.
    #[error("Agent/{name} does not exist in namespace {namespace}")]
    NoAgent {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The Agent has no pod now.
    #[error("Agent {namespace}/{agent} has no pod")]
    NoPod {
        /// Namespace of the Agent.
        namespace: String,
        /// Name of the Agent.
        agent: String,
    },
    /// An object is not one that the operator makes for this Agent.
    #[error("{0} is not that of this Agent")]
    NotOurs(String),
    /// The agent's pod would not take its policy.
    #[error("the agent's pod does not take its policy: {}", .0.message)]
    NotAccepted(redoubt_policy::Refusal),
    /// There is no revision to go back to.
    #[error("{0}")]
    NoRevision(String),
    /// The Agent was changed meanwhile.
    #[error("Agent/{0} was changed meanwhile, so it was left as it is")]
    Changed(String),
    /// The request cannot be one.
    #[error("{0}")]
    Request(String),
    /// Something that cannot happen did.
    #[error("a defect of this program: {0}")]
    Defect(String),
    /// The person interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The terminal, or what stands in its place.
    #[error("cannot read or write the terminal")]
    Terminal(#[source] std::io::Error),
}

impl Error {
    /// The failure of `action`.
    pub(crate) fn cluster(action: String, error: &kube::Error) -> Self {
        let why = match error {
            kube::Error::Api(status) => status.message.clone(),
            other => {
                let causes =
                    std::iter::successors(Some(other as &dyn std::error::Error), |cause| cause.source());
                causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
            }
        };
        Self::Cluster { action, why }
    }

    /// Exit status of the command.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Name(_) | Self::Request(_) => 2,
            Self::Interrupted => 130,
            _ => 1,
        }
    }

    /// The way out, where the error does not say it itself.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Kubeconfig(_) => Some("Set KUBECONFIG, or give --kubeconfig and --context.".to_owned()),
            Self::Nothing => Some(
                "Is the path right? Kinds of redoubt.dev and platform.redoubt.dev are looked for.".to_owned(),
            ),
            Self::Snapshot(_) => Some("Write it anew: kubectl redoubt snapshot > FILE.".to_owned()),
            Self::NoAgent { .. } => {
                Some("Give its namespace with -n; kubectl get agents -A lists all.".to_owned())
            }
            Self::NoPod { namespace, agent } => Some(format!(
                "Does the Agent exist, and is it Ready? kubectl redoubt why {agent} -n {namespace}. Without a pod, kubectl redoubt \
                 explain tells what its objects allow."
            )),
            Self::NotOurs(_) => Some("Wait until the operator has replaced it, and try again.".to_owned()),
            Self::NotAccepted(refusal) => Some(refusal.help.clone()),
            Self::NoRevision(_) => Some(
                "kubectl get apr -l redoubt.dev/agent=NAME lists the revisions; name one by its number with --to.".to_owned(),
            ),
            Self::Changed(_) => Some("Look at it, and try again.".to_owned()),
            Self::NoCaller { namespace, agent } => Some(format!(
                "Add one: kubectl -n {namespace} patch agent {agent} --type=merge -p \
                 '{{\"spec\":{{\"callers\":[{{\"serviceAccount\":{{\"name\":\"NAME\"}}}}]}}}}' (this replaces the list). \
                 Or name a caller of its list with --service-account."
            )),
            Self::Refused { status: 404 | 502 | 503 | 504, agent, .. } => {
                Some(format!("Is the agent Ready? kubectl get agent {agent}"))
            }
            _ => None,
        }
    }
}
