//! Probes of the sidecar. It is started when it holds policy and credentials, and ready when both jails have been verified.

use k8s_openapi::api::core::v1::{HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn startup(port: u16) -> Probe {
    probe(port, "/startupz", 1, 60)
}

pub(super) fn readiness(port: u16) -> Probe {
    probe(port, "/readyz", 2, 1)
}

pub(super) fn liveness(port: u16) -> Probe {
    probe(port, "/livez", 10, 6)
}

fn probe(port: u16, path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(port)),
            scheme: Some("HTTP".to_owned()),
            ..Default::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(3),
        ..Default::default()
    }
}
