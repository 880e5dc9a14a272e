//! Which addresses a pod may be connected to. The one classifier of IP addresses.
//!
//! An IPv6 address that embeds an IPv4 address is judged by the embedded one, because that is where its packets may end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::Refusal;

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Globally reachable.
    Public,
    /// RFC 1918, the shared address space of RFC 6598 (CGNAT), or unique local IPv6 (RFC 4193): only where a grant names
    /// a range that contains it.
    Private,
    /// Never, whatever is granted; and why.
    Forbidden(&'static str),
}

const METADATA: &str = "an address of a cloud's metadata service";
const LOOPBACK: &str = "a loopback address";
const LINK_LOCAL: &str = "a link-local address";
const MULTICAST: &str = "a multicast address";
const UNSPECIFIED: &str = "an unspecified address";
const DOCUMENTATION: &str = "an address for documentation";
const RESERVED: &str = "a reserved address";

/// IPv4 addresses of metadata services outside 169.254.0.0/16: Alibaba Cloud, Azure, Oracle Cloud.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// IPv6 ranges of metadata services, as first two groups: AWS `fd00:ec2::/32`, Google Cloud `fd20:ce::/32`,
/// Oracle Cloud `fd00:c1::/32`, Scaleway `fd00:42::/32`.
const METADATA_V6: [[u16; 2]; 4] = [[0xfd00, 0x0ec2], [0xfd20, 0x00ce], [0xfd00, 0x00c1], [0xfd00, 0x0042]];

/// The class of `ip` (IANA's special-purpose address registries, RFC 6890).
#[must_use]
pub fn classify(ip: IpAddr) -> AddressClass {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => match Embedded::of(ip) {
            Embedded::None => classify_v6(ip),
            Embedded::One(inner) => classify_v4(inner),
            Embedded::Teredo { server, client } => match classify_v4(server) {
                AddressClass::Public => classify_v4(client),
                other => other,
            },
        },
    }
}

fn classify_v4(ip: Ipv4Addr) -> AddressClass {
    use AddressClass::{Forbidden, Private, Public};
    if METADATA_V4.contains(&ip) {
        return Forbidden(METADATA);
    }
    match ip.octets() {
        [0, ..] => Forbidden(UNSPECIFIED),
        [127, ..] => Forbidden(LOOPBACK),
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] => Forbidden(METADATA),
        [169, 254, ..] => Forbidden(LINK_LOCAL),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Private,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Forbidden(DOCUMENTATION),
        [198, 18 | 19, ..] => Forbidden("an address for benchmarks"),
        [192, 0, 0, _] | [192, 88, 99, _] => Forbidden(RESERVED),
        [224..=239, ..] => Forbidden(MULTICAST),
        [255, 255, 255, 255] => Forbidden("the broadcast address"),
        [240..=255, ..] => Forbidden(RESERVED),
        _ => Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> AddressClass {
    use AddressClass::{Forbidden, Private, Public};
    let [first, second, ..] = ip.segments();
    if METADATA_V6.contains(&[first, second]) {
        return Forbidden(METADATA);
    }
    match (first, second) {
        _ if ip.is_unspecified() => Forbidden(UNSPECIFIED),
        _ if ip.is_loopback() => Forbidden(LOOPBACK),
        (0xfe80..=0xfebf, _) => Forbidden(LINK_LOCAL),
        (0xff00..=0xffff, _) => Forbidden(MULTICAST),
        (0xfc00..=0xfdff, _) => Private,
        (0x2001, 0x0db8) | (0x3fff, 0..=0x0fff) => Forbidden(DOCUMENTATION),
        (0x2001, 0..=0x01ff) => Forbidden(RESERVED),
        (0x2000..=0x3fff, _) => Public,
        _ => Forbidden(RESERVED),
    }
}

/// IPv4 addresses inside an IPv6 address.
enum Embedded {
    None,
    One(Ipv4Addr),
    Teredo { server: Ipv4Addr, client: Ipv4Addr },
}

impl Embedded {
    fn of(ip: Ipv6Addr) -> Self {
        let from = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
        match ip.segments() {
            // The unspecified and the loopback address are their own.
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::None,
            // IPv4-compatible, IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
            [0, 0, 0, 0, 0, 0, high, low]
            | [0, 0, 0, 0, 0, 0xffff, high, low]
            | [0, 0, 0, 0, 0xffff, 0, high, low]
            | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Self::One(from(high, low)),
            // 6to4 (RFC 3056).
            [0x2002, high, low, ..] => Self::One(from(high, low)),
            // Teredo (RFC 4380); the client's address is inverted.
            [0x2001, 0, high, low, _, _, client_high, client_low] => {
                Self::Teredo { server: from(high, low), client: from(!client_high, !client_low) }
            }
            // ISATAP (RFC 5214): the interface identifier holds the address.
            [.., 0x0000 | 0x0200, 0x5efe, high, low] => Self::One(from(high, low)),
            _ => Self::None,
        }
    }
}

/// The form in which private ranges are compared: the embedded IPv4 address if there is one.
fn judged(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match Embedded::of(v6) {
            Embedded::None => ip,
            Embedded::One(inner) | Embedded::Teredo { client: inner, .. } => inner.into(),
        },
    }
}

/// An address that a connection may be made to. Only [`vet`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VettedAddress(IpAddr);

impl VettedAddress {
    /// The address to connect to.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Whether packets to both may end at the same place: the same address, or one that embeds the other.
    #[must_use]
    pub fn reaches(self, ip: IpAddr) -> bool {
        judged(self.0) == judged(ip)
    }
}

impl fmt::Display for VettedAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// `ip`, if it may be connected to where `private_cidrs` are granted.
///
/// # Errors
/// A [`Refusal`] with reason `AddressForbidden` or `PrivateAddressNotGranted`. Its object is the pod;
/// [`crate::Authorized::vet`] names the grant instead.
pub fn vet(ip: IpAddr, private_cidrs: &[IpNet]) -> Result<VettedAddress, Refusal> {
    match classify(ip) {
        AddressClass::Public => Ok(VettedAddress(ip)),
        AddressClass::Private if private_cidrs.iter().any(|range| range.contains(&judged(ip))) => {
            Ok(VettedAddress(ip))
        }
        AddressClass::Private => Err(Refusal::new(
            "PrivateAddressNotGranted",
            "Pod",
            "",
            format!("{ip} is a private address, and the grant names no private range that contains it"),
            format!(
                "If it is meant, add a range that contains {ip} to privateCIDRs of the EgressPolicy's rule."
            ),
        )),
        AddressClass::Forbidden(what) => Err(Refusal::new(
            "AddressForbidden",
            "Pod",
            "",
            format!("{ip} is {what}"),
            "No policy can grant it; use a host that resolves to a public or a granted private address.",
        )),
    }
}

#[cfg(test)]
mod tests;
