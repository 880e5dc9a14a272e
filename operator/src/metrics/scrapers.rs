//! Who may scrape agents' sidecars, as the platform team writes it.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;

/// Peers of a NetworkPolicy, each of which names someone.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrapers(pub Vec<NetworkPolicyPeer>);

/// Reads them from a JSON list.
///
/// # Errors
/// When it is none, or when a peer has no field that is known: the API server would refuse the policy of every agent.
pub fn scrapers(text: &str) -> Result<Scrapers, String> {
    let peers: Vec<NetworkPolicyPeer> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let named = |peer: &NetworkPolicyPeer| {
        peer.pod_selector.is_some() || peer.namespace_selector.is_some() || peer.ip_block.is_some()
    };
    match peers.iter().position(|peer| !named(peer)) {
        None => Ok(Scrapers(peers)),
        Some(at) => Err(format!("peer {at} names nobody: give podSelector, namespaceSelector or ipBlock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_names_someone() {
        assert_eq!(scrapers("[]"), Ok(Scrapers(Vec::new())));
        let two = r#"[{"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]"#;
        assert_eq!(scrapers(two).unwrap().0.len(), 2);
        for (bad, said) in [
            ("[{}]", "peer 0 names nobody"),
            (r#"[{"namespaceSelector": {}}, {"nameSpaceSelector": {}}]"#, "peer 1 names nobody"),
            ("{}", "invalid type"),
            ("", "EOF"),
        ] {
            let error = scrapers(bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }
}
