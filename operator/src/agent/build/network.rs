//! The second ring around the pod, and the way in.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use redoubt_crds::{Agent, names};

use crate::stream;

use super::{INBOUND_PORT, METRICS_PORT, metadata, selector};

const DNS_PORT: u16 = 53;

/// Out: DNS, the operator's policy stream, and the ports that rules and Vault need, at any address, because hosts are names; the sidecar vets every
/// address. In: the sidecar's port, where someone may call, and that of its metrics, for those who may scrape them.
pub(super) fn policy(
    agent: &Agent,
    ports: &BTreeSet<u16>,
    callers: bool,
    scrapers: &[NetworkPolicyPeer],
) -> NetworkPolicy {
    let mut egress = vec![NetworkPolicyEgressRule {
        ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]),
        to: None,
    }];
    egress.push(NetworkPolicyEgressRule {
        ports: Some(vec![port("TCP", stream::PORT)]),
        to: Some(vec![operator()]),
    });
    // A rule without ports would allow all of them.
    if !ports.is_empty() {
        egress.push(NetworkPolicyEgressRule {
            ports: Some(ports.iter().map(|number| port("TCP", *number)).collect()),
            to: None,
        });
    }
    let mut ingress = if callers {
        vec![NetworkPolicyIngressRule { from: None, ports: Some(vec![port("TCP", INBOUND_PORT)]) }]
    } else {
        Vec::new()
    };
    // A rule without peers would let everyone in.
    if !scrapers.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: Some(scrapers.to_vec()),
            ports: Some(vec![port("TCP", METRICS_PORT)]),
        });
    }
    NetworkPolicy {
        metadata: metadata(agent),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(selector(agent)),
                match_expressions: None,
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

/// The operator's pods, which the policy stream comes from.
fn operator() -> NetworkPolicyPeer {
    let labels = |labels: &[(&str, &str)]| LabelSelector {
        match_labels: Some(labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()),
        match_expressions: None,
    };
    NetworkPolicyPeer {
        ip_block: None,
        namespace_selector: Some(labels(&[("kubernetes.io/metadata.name", names::OPERATOR_NAMESPACE)])),
        pod_selector: Some(labels(&names::OPERATOR_LABELS)),
    }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

/// The way in.
pub(super) fn service(agent: &Agent) -> Service {
    Service {
        metadata: metadata(agent),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(agent)),
            ports: Some(vec![ServicePort {
                name: Some("https".to_owned()),
                app_protocol: Some("https".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: i32::from(INBOUND_PORT),
                target_port: Some(IntOrString::Int(i32::from(INBOUND_PORT))),
                node_port: None,
            }]),
            ..Default::default()
        }),
        status: None,
    }
}
