//! One request to one destination: name to addresses, addresses judged, connection made or taken from the pool, answer
//! awaited. Redirects are never followed and nothing is tried a second time that may have been received.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use redoubt_policy::Authorized;
use redoubt_policy::address::VettedAddress;
use redoubt_policy::host::Host;
use redoubt_policy::target::{Scheme, Source, Target};
use redoubt_policy::wire::PodPolicy;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::body::{Progress, RequestBody};
use crate::fault::{Fault, upstream_malformed, upstream_silent};
use crate::http1::ResponseGuard;
use crate::pool::{Connection, Key, Lease};
use crate::refuse::Refused;
use crate::shared::Shared;

/// How long a name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(5);
/// Most addresses of a Vault that are remembered.
const VAULT_ADDRESSES_MAX: usize = 256;
/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The addresses of the target that a connection may be made to. One that may not refuses them all.
pub(crate) async fn addresses(
    shared: &Shared,
    target: &Target,
    authorized: &Authorized<'_>,
    policy: &PodPolicy,
) -> Result<Vec<VettedAddress>, Refused> {
    let found = lookup(shared, &target.host).await?;
    let mut vetted = Vec::new();
    for ip in found {
        let address = authorized.vet(ip)?;
        if !vetted.contains(&address) {
            vetted.push(address);
        }
    }
    refuse_vault(shared, target, &vetted, policy).await?;
    shared.control_plane.refuse(&target.host, &vetted)?;
    vetted.truncate(ADDRESSES_MAX);
    if vetted.is_empty() {
        return Err(unresolved(&target.host, "it has no address"));
    }
    Ok(vetted)
}

async fn lookup(shared: &Shared, host: &Host) -> Result<Vec<IpAddr>, Refused> {
    match host {
        Host::Ip(ip) => Ok(vec![*ip]),
        Host::Name(name) => match timeout(LOOKUP, shared.resolver.lookup(name.as_str())).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(detail)) => Err(unresolved(host, &detail)),
            Err(_) => Err(unresolved(host, "no name server answered in time")),
        },
    }
}

/// Vault is the sidecar's alone, by whatever name or address.
async fn refuse_vault(
    shared: &Shared,
    target: &Target,
    addresses: &[VettedAddress],
    policy: &PodPolicy,
) -> Result<(), Refused> {
    for vault in &policy.vaults {
        let Some(own) = vault_target(&vault.address) else { continue };
        if own.port != target.port {
            continue;
        }
        let same_host = own.host == target.host;
        let same_address = match same_host {
            true => true,
            false => {
                let found = lookup(shared, &own.host).await;
                let known = shared.vaults.addresses(&own.host, found)?;
                addresses.iter().any(|it| known.iter().any(|vault| it.reaches(*vault)))
            }
        };
        if same_host || same_address {
            return Err(Refused::forbidden(
                "VaultNotReachable",
                "this is the address of Vault, which only the sidecar speaks to",
                "Bind the secret with a SecretBinding.",
            )
            .because_of(format!("VaultConnection/{}", vault.name), "spec.address"));
        }
    }
    Ok(())
}

/// The addresses that Vaults were seen at. A name server that does not answer, or gives one address of several, must not
/// make a Vault a host like any other.
#[derive(Default)]
pub(crate) struct Vaults(Mutex<HashMap<Host, Vec<IpAddr>>>);

impl Vaults {
    /// All that are known, with those that were just found.
    ///
    /// # Errors
    /// When none was ever found: then nothing can be told from Vault.
    fn addresses(&self, vault: &Host, found: Result<Vec<IpAddr>, Refused>) -> Result<Vec<IpAddr>, Refused> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) => {
                let known = all.entry(vault.clone()).or_default();
                known.retain(|it| !found.contains(it));
                known.extend(found);
                // The latest are at the end.
                let surplus = known.len().saturating_sub(VAULT_ADDRESSES_MAX);
                known.drain(..surplus);
                Ok(known.clone())
            }
            Err(refused) => all.get(vault).cloned().ok_or(refused),
        }
    }
}

/// Host and port of a Vault's address, whose port is 8200 if none is named.
fn vault_target(address: &str) -> Option<Target> {
    let authority = address.strip_prefix("https://")?.trim_end_matches('/');
    let with_port = Target::parse(Scheme::Https, authority).ok()?;
    let names_port =
        authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    Some(if names_port { with_port } else { Target { port: 8200, ..with_port } })
}

/// How and for whom a request is sent.
pub(crate) struct Route<'a> {
    pub(crate) source: &'a Source,
    pub(crate) target: &'a Target,
    pub(crate) addresses: &'a [VettedAddress],
    pub(crate) ca_bundle: Option<&'a str>,
    pub(crate) epoch: u64,
    pub(crate) fault: &'a Fault,
    pub(crate) progress: &'a Progress,
}

/// Sends a request and waits for the head of the answer.
pub(crate) async fn send(
    shared: &Shared,
    route: &Route<'_>,
    mut request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Refused> {
    let key = |address: VettedAddress| Key {
        source: route.source.clone(),
        target: route.target.clone(),
        address,
        ca_bundle: route.ca_bundle.map(str::to_owned),
        epoch: route.epoch,
    };
    while let Some(mut lease) = route.addresses.iter().find_map(|address| shared.pool.take(&key(*address))) {
        match exchange(shared, route, &mut lease.connection, request).await {
            Ok(response) => return Ok((response, lease)),
            // The connection was closed in the meantime and nothing was sent on it.
            Err((_, Some(unsent))) => request = unsent,
            Err((refused, None)) => return Err(refused),
        }
    }
    let (connection, address) = connect_any(shared, route).await?;
    let mut lease = shared.pool.lease(connection, key(address));
    match exchange(shared, route, &mut lease.connection, request).await {
        Ok(response) => Ok((response, lease)),
        Err((refused, _)) => Err(refused),
    }
}

type Unsent = Option<Request<RequestBody>>;

async fn exchange(
    shared: &Shared,
    route: &Route<'_>,
    connection: &mut Connection,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, (Refused, Unsent)> {
    let answer = connection.sender.try_send_request(request);
    tokio::pin!(answer);
    let mut sent = 0;
    loop {
        match timeout(shared.limits.response, &mut answer).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(mut failure)) => {
                let unsent = failure.take_message();
                let refused = route.fault.get().unwrap_or_else(|| failed(failure.error()));
                return Err((refused, unsent));
            }
            // Time counts from when the request was last seen to go on.
            Err(_) if route.progress.sent() > sent => sent = route.progress.sent(),
            Err(_) => return Err((upstream_silent(), None)),
        }
    }
}

fn failed(error: &hyper::Error) -> Refused {
    let invalid = std::iter::successors(std::error::Error::source(error), |it| it.source())
        .find_map(|it| it.downcast_ref::<std::io::Error>())
        .filter(|it| it.kind() == std::io::ErrorKind::InvalidData);
    match invalid {
        Some(detail) => upstream_malformed(&detail.to_string()),
        None if error.is_parse() => upstream_malformed("its head cannot be read"),
        None => upstream_malformed("the connection ended before an answer"),
    }
}

async fn connect_any(shared: &Shared, route: &Route<'_>) -> Result<(Connection, VettedAddress), Refused> {
    let mut last = None;
    for address in route.addresses {
        match connect(shared, route, *address).await {
            Ok(connection) => return Ok((connection, *address)),
            Err(refused) => last = Some(refused),
        }
    }
    Err(last.unwrap_or_else(|| unresolved(&route.target.host, "it has no address")))
}

async fn connect(shared: &Shared, route: &Route<'_>, address: VettedAddress) -> Result<Connection, Refused> {
    let target = route.target;
    let whole = async {
        let stream =
            shared.dialer.dial(address, target.port).await.map_err(|error| unreachable(target, &error))?;
        match target.scheme {
            Scheme::Http => handshake(stream).await,
            Scheme::Https => handshake(tls(shared, route, stream).await?).await,
        }
    };
    timeout(shared.limits.connect, whole).await.map_err(|_| {
        Refused::by_pod(
            StatusCode::GATEWAY_TIMEOUT,
            "ConnectTimeout",
            format!("{target} did not take the connection in time"),
            "Check that the destination runs and that the pod's network reaches it.",
        )
    })?
}

async fn tls(
    shared: &Shared,
    route: &Route<'_>,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Refused> {
    let target = route.target;
    let config = shared.trust.config(route.ca_bundle)?;
    let name = match &target.host {
        Host::Ip(ip) => ServerName::from(*ip),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
            .map_err(|_| unresolved(&target.host, "it is no name for TLS"))?,
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        Refused::by_pod(
            StatusCode::BAD_GATEWAY,
            "UpstreamTLS",
            format!("no TLS connection to {target}: {error}"),
            "Put the authority that signed the destination's certificate into caBundle, or correct the certificate.",
        )
    })
}

async fn handshake<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
) -> Result<Connection, Refused> {
    let (guard, expect_head) = ResponseGuard::new(stream);
    let (sender, connection) = http1::Builder::new()
        .max_headers(crate::http1::HEADER_LINES_MAX)
        .handshake(TokioIo::new(guard))
        .await
        .map_err(|error| failed(&error))?;
    let task = tokio::spawn(async move {
        let _ended = connection.await;
    });
    Ok(Connection::new(sender, task.abort_handle(), expect_head))
}

fn unresolved(host: &Host, detail: &str) -> Refused {
    Refused::by_pod(
        StatusCode::BAD_GATEWAY,
        "NameNotResolved",
        format!("{host} has no address that can be used: {detail}"),
        "Check the host's name; names are taken whole, without a search list.",
    )
}

fn unreachable(target: &Target, error: &std::io::Error) -> Refused {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return Refused::forbidden(
            "AddressForbidden",
            format!("{target} is {error}"),
            "No policy can grant it.",
        );
    }
    Refused::by_pod(
        StatusCode::BAD_GATEWAY,
        "ConnectFailed",
        format!("no connection to {target}: {error}"),
        "Check that the destination runs and that the pod's network reaches it.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_of_vaults() {
        let check = |address: &str, expected: Option<&str>| {
            assert_eq!(vault_target(address).map(|it| it.to_string()).as_deref(), expected, "{address}");
        };
        check("https://vault.example:8200", Some("https://vault.example:8200"));
        check("https://vault.example/", Some("https://vault.example:8200"));
        check("https://vault.example:443", Some("https://vault.example:443"));
        check("https://[fd00::1]", Some("https://[fd00::1]:8200"));
        check("http://vault.example", None);
    }
}
