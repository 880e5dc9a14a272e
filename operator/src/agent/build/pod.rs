//! The pod: three containers under three uids, each with only the volumes it needs, within Pod Security "restricted".
//!
//! What must not be swapped by someone who can write ConfigMaps is a literal argument: the policy's key, the Agent's UID
//! and the lowest epoch.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, Pod, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use redoubt_crds::names;
use redoubt_policy::quantity::smaller;

use super::{ATTEMPT, INBOUND_PORT, METRICS_PORT, MIN_EPOCH, POD_HASH, metadata};
use crate::agent::validate::ValidatedAgent;
use crate::signing::Signer;
use crate::stream;

mod probes;
mod volumes;

/// Uid and gid of the sidecar.
pub const EGRESS_UID: i64 = 65001;
/// Uid and gid of the hands.
pub const TOOLS_UID: i64 = 65002;
/// Uid and gid of the brain.
pub const AGENT_UID: i64 = 65003;

/// What precedes the key in the arguments of the sidecar and the hands.
pub const POLICY_KEY_FLAG: &str = "--policy-key";

const HEALTH_PORT: u16 = 8081;
const GRACE_SECONDS: i64 = 30;
const EGRESS_SOCKET: &str = "/run/redoubt/egress/egress.sock";
const TOOLS_SOCKET: &str = "/run/redoubt/tools/tools.sock";
const AGENT_SOCKET: &str = "/run/redoubt/agent/agent.sock";

/// The pod of `agent` whose sidecar accepts policies from `epoch` on.
pub(super) fn build(
    agent: &ValidatedAgent,
    signer: &Signer,
    epoch: u64,
    config: &str,
) -> Result<Pod, serde_json::Error> {
    // Epoch and key are left out of the hash: a new policy alone needs no new pod, and whether a pod with another key may
    // stay is told by that key. The brain's configuration is in it, because the brain reads it once.
    let pinned = Pinned { key: String::new(), operator_ca: signer.operator_ca(), epoch: 0 };
    let hashed = serde_json::to_string(&(spec(agent, &pinned), config))?;
    let hash = sha256_hex(hashed.as_bytes());
    let mut metadata = metadata(&agent.agent);
    metadata.annotations = Some(BTreeMap::from([
        (POD_HASH.to_owned(), hash),
        (MIN_EPOCH.to_owned(), epoch.to_string()),
        (ATTEMPT.to_owned(), "0".to_owned()),
    ]));
    let pinned = Pinned { key: signer.public().to_string(), epoch, ..pinned };
    Ok(Pod { metadata, spec: Some(spec(agent, &pinned)), status: None })
}

/// What the pod knows the operator and its policies by.
struct Pinned<'a> {
    key: String,
    operator_ca: &'a str,
    epoch: u64,
}

fn sha256_hex(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spec(agent: &ValidatedAgent, pinned: &Pinned<'_>) -> PodSpec {
    let placement = &agent.agent.spec.placement;
    PodSpec {
        service_account_name: Some(names::child(&agent.agent.name_any())),
        automount_service_account_token: Some(false),
        runtime_class_name: Some(agent.runtime_class.clone()),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        enable_service_links: Some(false),
        share_process_namespace: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(runtime_default()),
            ..Default::default()
        }),
        init_containers: Some(vec![egress(agent, pinned), tools(agent, pinned)]),
        containers: vec![brain(agent)],
        volumes: Some(volumes::all(&agent.agent, &agent.vault_tokens)),
        node_selector: (!placement.node_selector.is_empty()).then(|| placement.node_selector.clone()),
        tolerations: (!placement.tolerations.is_empty())
            .then(|| placement.tolerations.iter().map(toleration).collect()),
        ..Default::default()
    }
}

fn toleration(wanted: &redoubt_crds::Toleration) -> Toleration {
    Toleration {
        key: Some(wanted.key.clone()),
        operator: wanted.operator.clone(),
        value: wanted.value.clone(),
        effect: wanted.effect.clone(),
        toleration_seconds: None,
    }
}

fn egress(agent: &ValidatedAgent, pinned: &Pinned<'_>) -> Container {
    let mut args = policy_args(agent, pinned);
    args.extend(flags(&[
        ("--operator", &operator()),
        ("--operator-ca", pinned.operator_ca),
        ("--operator-token", volumes::OPERATOR_TOKEN),
        ("--socket", EGRESS_SOCKET),
        ("--inbound", &format!("0.0.0.0:{INBOUND_PORT}")),
        ("--health", &format!("0.0.0.0:{HEALTH_PORT}")),
        ("--agent-socket", AGENT_SOCKET),
        ("--vault-tokens", volumes::VAULT_TOKENS),
        ("--tools-uid", &TOOLS_UID.to_string()),
        ("--agent-process-uid", &AGENT_UID.to_string()),
    ]));
    let mut ports = vec![container_port("inbound", INBOUND_PORT), container_port("health", HEALTH_PORT)];
    if !agent.scrapers.is_empty() {
        args.extend(flags(&[("--metrics", &format!("0.0.0.0:{METRICS_PORT}"))]));
        ports.push(container_port("metrics", METRICS_PORT));
    }
    Container {
        restart_policy: Some("Always".to_owned()),
        command: Some(vec!["/redoubt-egress".to_owned()]),
        args: Some(args),
        ports: Some(ports),
        startup_probe: Some(probes::startup(HEALTH_PORT)),
        readiness_probe: Some(probes::readiness(HEALTH_PORT)),
        liveness_probe: Some(probes::liveness(HEALTH_PORT)),
        volume_mounts: Some(volumes::of_egress(!agent.vault_tokens.is_empty())),
        ..container("egress", &agent.images.egress, EGRESS_UID, ("1", "256Mi"))
    }
}

/// Where the policy stream is.
fn operator() -> String {
    format!("{}.{}.svc:{}", names::POLICY_SERVICE, names::OPERATOR_NAMESPACE, stream::PORT)
}

fn tools(agent: &ValidatedAgent, pinned: &Pinned<'_>) -> Container {
    let jail = flags(&[
        ("--verdict", EGRESS_SOCKET),
        ("--allow-write", volumes::TOOLS_SOCKET_DIR),
        ("--allow-read", volumes::POLICY_DIR),
    ]);
    let mut args: Vec<String> = jail.into_iter().chain(["--".into(), "/redoubt-tools".into()]).collect();
    args.extend(policy_args(agent, pinned));
    args.extend(flags(&[
        ("--egress", EGRESS_SOCKET),
        ("--listen", TOOLS_SOCKET),
        ("--agent-process-uid", &AGENT_UID.to_string()),
    ]));
    Container {
        restart_policy: Some("Always".to_owned()),
        command: Some(vec!["/redoubt-jail".to_owned()]),
        args: Some(args),
        volume_mounts: Some(volumes::of_tools()),
        ..container("tools", &agent.images.tools, TOOLS_UID, ("1", "256Mi"))
    }
}

fn brain(agent: &ValidatedAgent) -> Container {
    let jail = flags(&[
        ("--verdict", EGRESS_SOCKET),
        ("--allow-write", volumes::AGENT_SOCKET_DIR),
        ("--allow-write", volumes::WORKSPACE),
        ("--allow-read", volumes::AGENT_DIR),
    ]);
    let mut args: Vec<String> = jail.into_iter().chain(["--".into(), "/redoubt-agent".into()]).collect();
    args.extend(flags(&[
        ("--config", volumes::AGENT_FILE),
        ("--egress", EGRESS_SOCKET),
        ("--tools", TOOLS_SOCKET),
        ("--listen", AGENT_SOCKET),
        ("--egress-uid", &EGRESS_UID.to_string()),
    ]));
    Container {
        command: Some(vec!["/redoubt-jail".to_owned()]),
        args: Some(args),
        volume_mounts: Some(volumes::of_agent()),
        ..container("agent", &agent.images.agent, AGENT_UID, (&agent.resources.cpu, &agent.resources.memory))
    }
}

/// What tells a process which policy to accept.
fn policy_args(agent: &ValidatedAgent, pinned: &Pinned<'_>) -> Vec<String> {
    let identity = &agent.policy.agent;
    flags(&[
        ("--policy", volumes::POLICY_FILE),
        (POLICY_KEY_FLAG, &pinned.key),
        ("--agent-namespace", &identity.namespace),
        ("--agent-name", &identity.name),
        ("--agent-uid", &identity.uid),
        ("--min-epoch", &pinned.epoch.to_string()),
    ])
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}

/// What all three have in common.
fn container(name: &str, image: &str, uid: i64, most: (&str, &str)) -> Container {
    let quantities = |cpu: &str, memory: &str| {
        Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ]))
    };
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        resources: Some(ResourceRequirements {
            requests: quantities(smaller("10m", most.0), smaller("32Mi", most.1)),
            limits: quantities(most.0, most.1),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            run_as_user: Some(uid),
            run_as_group: Some(uid),
            run_as_non_root: Some(true),
            read_only_root_filesystem: Some(true),
            allow_privilege_escalation: Some(false),
            privileged: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            seccomp_profile: Some(runtime_default()),
            ..Default::default()
        }),
        termination_message_policy: Some("File".to_owned()),
        ..Default::default()
    }
}

fn container_port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}
