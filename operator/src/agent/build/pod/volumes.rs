//! Which volumes there are and who sees which: the wall between the containers.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use redoubt_crds::{Agent, names};
use redoubt_policy::envelope::ENVELOPE_KEY;
use redoubt_policy::envelope::keyring::ANNOUNCEMENTS_KEY;

use super::super::AGENT_CONFIG_KEY;
use crate::agent::validate::VaultToken;

pub(super) const POLICY_DIR: &str = "/etc/redoubt/policy";
pub(super) const POLICY_FILE: &str = "/etc/redoubt/policy/policy.dsse.json";
pub(super) const AGENT_DIR: &str = "/etc/redoubt/agent";
pub(super) const AGENT_FILE: &str = "/etc/redoubt/agent/agent.json";
pub(super) const VAULT_TOKENS: &str = "/var/run/secrets/redoubt/vault";
pub(super) const EGRESS_SOCKET_DIR: &str = "/run/redoubt/egress";
pub(super) const TOOLS_SOCKET_DIR: &str = "/run/redoubt/tools";
pub(super) const AGENT_SOCKET_DIR: &str = "/run/redoubt/agent";
pub(super) const WORKSPACE: &str = "/workspace";

/// The token that the policy stream is asked for with.
pub(super) const OPERATOR_TOKEN: &str = "/var/run/secrets/redoubt/operator/token";
const OPERATOR_TOKEN_DIR: &str = "/var/run/secrets/redoubt/operator";

/// Life of a token, in seconds: the shortest that Kubernetes issues.
const TOKEN_SECONDS: i64 = 600;

pub(super) fn all(agent: &Agent, tokens: &[VaultToken]) -> Vec<Volume> {
    let mut volumes = vec![
        config(agent, "policy", &[ENVELOPE_KEY, ANNOUNCEMENTS_KEY]),
        config(agent, "agent", &[AGENT_CONFIG_KEY]),
        operator_token(),
        socket("egress-socket"),
        socket("tools-socket"),
        socket("agent-socket"),
        Volume {
            name: "workspace".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: None,
                size_limit: Some(Quantity(agent.spec.workspace.size_limit.clone())),
            }),
            ..Default::default()
        },
    ];
    if !tokens.is_empty() {
        volumes.push(vault_tokens(tokens));
    }
    volumes
}

pub(super) fn of_egress(vault: bool) -> Vec<VolumeMount> {
    let mut mounts = vec![
        read_only("policy", POLICY_DIR),
        read_only("operator-token", OPERATOR_TOKEN_DIR),
        writable("egress-socket", EGRESS_SOCKET_DIR),
        read_only("agent-socket", AGENT_SOCKET_DIR),
    ];
    if vault {
        mounts.push(read_only("vault-token", VAULT_TOKENS));
    }
    mounts
}

pub(super) fn of_tools() -> Vec<VolumeMount> {
    vec![
        read_only("policy", POLICY_DIR),
        read_only("egress-socket", EGRESS_SOCKET_DIR),
        writable("tools-socket", TOOLS_SOCKET_DIR),
    ]
}

pub(super) fn of_agent() -> Vec<VolumeMount> {
    vec![
        read_only("agent", AGENT_DIR),
        read_only("egress-socket", EGRESS_SOCKET_DIR),
        read_only("tools-socket", TOOLS_SOCKET_DIR),
        writable("agent-socket", AGENT_SOCKET_DIR),
        writable("workspace", WORKSPACE),
    ]
}

fn config(agent: &Agent, name: &str, keys: &[&str]) -> Volume {
    let item = |key: &&str| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None };
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::child(&agent.name_any()),
            items: Some(keys.iter().map(item).collect()),
            default_mode: Some(0o444),
            optional: None,
        }),
        ..Default::default()
    }
}

fn socket(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("1Mi".to_owned())),
        }),
        ..Default::default()
    }
}

fn operator_token() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(redoubt_stream::AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    let sources = vec![VolumeProjection { service_account_token: Some(token), ..Default::default() }];
    Volume {
        name: "operator-token".to_owned(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), default_mode: Some(0o444) }),
        ..Default::default()
    }
}

fn vault_tokens(tokens: &[VaultToken]) -> Volume {
    let sources = tokens.iter().map(|token| VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: Some(token.audience.clone()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: format!("{}/token", token.connection),
        }),
        ..Default::default()
    });
    Volume {
        name: "vault-token".to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources.collect()),
            default_mode: Some(0o444),
        }),
        ..Default::default()
    }
}

fn read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..writable(volume, path) }
}

fn writable(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..Default::default() }
}
