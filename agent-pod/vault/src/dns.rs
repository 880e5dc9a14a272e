//! Names to addresses, by the pod's own `/etc/resolv.conf` and `/etc/hosts`.
//!
//! The C library's resolver loads plug-ins at run time, which a static binary in an empty image does not have.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// `/etc/resolv.conf` cannot be read or understood.
    #[error("the resolver's configuration cannot be used: {0}")]
    Configuration(String),
    /// The name has no address, or no name server answered.
    #[error("{host} cannot be resolved: {detail}")]
    Lookup {
        /// The name.
        host: String,
        /// What happened.
        detail: String,
    },
}

/// Looks names up.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// By the system's configuration. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn from_system() -> Result<Self, ResolveError> {
        let resolver = TokioResolver::builder_tokio()
            .and_then(hickory_resolver::ResolverBuilder::build)
            .map_err(|error| ResolveError::Configuration(error.to_string()))?;
        Ok(Self(resolver))
    }

    /// The addresses of a host, at least one; an address in digits is its own.
    ///
    /// Names are taken as they stand, without the search list, so that nobody can stand in for `api.example.com` by a
    /// namespace called `com`. Only names that end in `.svc`, and single labels, go through the search list, as
    /// Kubernetes' short names do.
    ///
    /// # Errors
    /// If there is none, or no name server answers.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let failed = |detail: String| ResolveError::Lookup { host: host.to_owned(), detail };
        let answer = self.0.lookup_ip(query_name(host)).await.map_err(|error| failed(error.to_string()))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
    }
}

/// The name as it is asked for: with a final dot where the search list must not be used.
fn query_name(host: &str) -> String {
    let short = !host.contains('.') || host.ends_with(".svc");
    if short || host.ends_with('.') { host.to_owned() } else { format!("{host}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_list_is_for_short_names_only() {
        for (host, expected) in [
            ("api.example.com", "api.example.com."),
            ("api.example.com.", "api.example.com."),
            ("vault.vault.svc", "vault.vault.svc"),
            ("vault.vault.svc.cluster.local", "vault.vault.svc.cluster.local."),
            ("vault", "vault"),
            ("evil.svc.com", "evil.svc.com."),
        ] {
            assert_eq!(query_name(host), expected, "{host}");
        }
    }
}
