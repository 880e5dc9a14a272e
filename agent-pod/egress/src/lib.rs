//! The egress sidecar: the only process of the pod with a network.
