//! Names to addresses and addresses to connections: what the sidecar asks of the network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use redoubt_policy::address::VettedAddress;
use redoubt_vault::Resolver;
use tokio::net::TcpStream;

/// Looks names up. Whatever it says is judged before it is used.
pub trait Resolve: Send + Sync {
    /// The addresses of a name.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;
}

/// Opens connections, to addresses that were judged only.
pub trait Dial: Send + Sync {
    /// A connection to this very address.
    fn dial(&self, address: VettedAddress, port: u16) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// The name servers of the pod's `/etc/resolv.conf`.
pub(crate) struct SystemResolver(pub(crate) Arc<Resolver>);

impl Resolve for SystemResolver {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move { self.0.lookup(name).await.map_err(|error| error.to_string()) })
    }
}

/// The pod's own network.
pub(crate) struct SystemDialer;

impl Dial for SystemDialer {
    fn dial(&self, address: VettedAddress, port: u16) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(async move {
            if is_own(address.ip()) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "an address of this pod"));
            }
            let stream = TcpStream::connect(SocketAddr::new(address.ip(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// Whether packets to `ip` come back to this pod: then the kernel sends them from that very address. Nothing is sent to
/// find out.
fn is_own(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || -> io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    source().is_ok_and(|source| source == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()));
    }
}
