//! Servers of the cluster that no request of the pod may reach, whatever is granted: the operator, and the API server.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use redoubt_policy::address::VettedAddress;
use redoubt_policy::host::Host;

use crate::refuse::Refused;

/// Where they are. The operator's replicas come and go.
pub(crate) struct ControlPlane {
    operator: Option<Host>,
    api_server: Option<IpAddr>,
    replicas: Mutex<Vec<IpAddr>>,
}

impl ControlPlane {
    /// With the name that the operator is looked up by, and the address that the kubelet gives for the API server.
    pub(crate) fn new(operator: Option<Host>, api_server: Option<IpAddr>) -> Self {
        Self { operator, api_server, replicas: Mutex::default() }
    }

    /// The operator was looked up.
    pub(crate) fn replicas_are(&self, found: impl IntoIterator<Item = IpAddr>) {
        *self.replicas.lock().unwrap_or_else(PoisonError::into_inner) = found.into_iter().collect();
    }

    /// Lets pass what goes elsewhere. Ports are not looked at: these addresses are nobody else's.
    ///
    /// # Errors
    /// When the host is the operator's name, or one of the addresses is the operator's or the API server's.
    pub(crate) fn refuse(&self, host: &Host, addresses: &[VettedAddress]) -> Result<(), Refused> {
        let replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let reaches = |own: &IpAddr| addresses.iter().any(|address| address.reaches(*own));
        if self.operator.as_ref() == Some(host) || replicas.iter().chain(&self.api_server).any(reaches) {
            return Err(Refused::forbidden(
                "ControlPlaneNotReachable",
                "this is the address of the operator or of the API server",
                "No policy can grant it; name another host.",
            ));
        }
        Ok(())
    }
}
