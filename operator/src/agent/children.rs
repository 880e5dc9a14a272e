//! The objects of one Agent. What was built and what the API server returned are different types: status can only speak
//! of the latter.

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use redoubt_crds::AgentPolicyRevision;

use super::apply::{InForce, Live, PodOutcome};

/// How far the objects have come.
pub trait Stage {
    /// An object of kind `K` at this stage.
    type Of<K>;
    /// The pod at this stage.
    type Pod;
    /// The revision at this stage.
    type Revision;
}

/// As built.
pub enum Prepared {}

/// As the API server has it.
pub enum Applied {}

impl Stage for Prepared {
    type Of<K> = K;
    type Pod = Option<Box<Pod>>;
    type Revision = Box<AgentPolicyRevision>;
}

impl Stage for Applied {
    type Of<K> = Live<K>;
    type Pod = PodOutcome;
    type Revision = InForce;
}

/// All objects of one Agent. Whoever takes it apart does so without `..`, so that a new one cannot be forgotten.
pub struct Children<S: Stage> {
    /// The identity of the pod.
    pub service_account: S::Of<ServiceAccount>,
    /// The signed policy and the brain's configuration.
    pub config_map: S::Of<ConfigMap>,
    /// The second ring around the pod.
    pub network_policy: S::Of<NetworkPolicy>,
    /// The way in, only where someone may call.
    pub service: Option<S::Of<Service>>,
    /// The record of what the Agent is now.
    pub revision: S::Revision,
    /// The pod; none while the Agent is suspended.
    pub pod: S::Pod,
}
