//! Hosts and host patterns, in one canonical form.
//!
//! A host is a lower-case ASCII name without a trailing dot, or an IP address in its standard form. What is neither is
//! refused rather than repaired: percent-encoding, non-ASCII letters, and the decimal, octal, hexadecimal and short forms
//! of IPv4 addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host in canonical form. Only [`Host::from_str`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A DNS name (RFC 1123, and underscores, which some services use).
    Name(Name),
    /// An address. IPv6 addresses that embed an IPv4 address are kept as written.
    Ip(IpAddr),
}

/// A canonical DNS name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name, lower-case, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has one or more labels before `suffix`.
    fn is_below(&self, suffix: &Self) -> bool {
        self.0.strip_suffix(suffix.0.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// Why a text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Empty, or longer than 253 characters.
    #[error("a host has 1 to 253 characters")]
    Length,
    /// A label is empty, longer than 63 characters, or begins or ends with a hyphen.
    #[error("each label of a host has 1 to 63 characters and neither begins nor ends with a hyphen")]
    Label,
    /// A character that no host has.
    #[error(
        "a host has only ASCII letters, digits, '-', '_' and '.'; write international names in their xn-- form"
    )]
    Character,
    /// A name whose last label is a number: an address in a form that parsers disagree about.
    #[error("write an IPv4 address as four decimal numbers without leading zeros")]
    NumericName,
    /// A pattern with upper-case letters or a trailing dot.
    #[error("write the host in lower case and without a trailing dot")]
    NotCanonical,
    /// A wildcard that is not a whole first label above at least two labels.
    #[error(
        "a wildcard stands for exactly the first label and has at least two labels after it, as in *.example.com"
    )]
    Wildcard,
    /// A wildcard under which anyone can register a name.
    #[error(
        "anyone can register a name under {0} (it is in the Public Suffix List), so a wildcard there stands for strangers' hosts; name the hosts, or put a name of your own after the wildcard"
    )]
    PublicSuffix(String),
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| HostError::Character);
        }
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return Err(HostError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(HostError::Character);
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|b| b.is_ascii_digit())
            || hexadecimal.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return text
                .parse::<Ipv4Addr>()
                .map(|ip| Self::Ip(ip.into()))
                .map_err(|_| HostError::NumericName);
        }
        if text.split('.').any(|l| l.is_empty() || l.len() > 63 || l.starts_with('-') || l.ends_with('-')) {
            return Err(HostError::Label);
        }
        Ok(Self::Name(Name(text.to_ascii_lowercase())))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => out.write_str(&name.0),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(out),
            Self::Ip(IpAddr::V6(ip)) => write!(out, "[{ip}]"),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

/// Which hosts a rule speaks of. Grants and destinations have the first two; ceilings and denies all four.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// Just this host.
    Exact(Host),
    /// `*.NAME`: every name that has exactly one label before `NAME`, as in TLS certificates (RFC 6125).
    OneLabelBelow(Name),
    /// `**.NAME`: every name that has one or more labels before `NAME`.
    Below(Name),
    /// `*`: every name and every address.
    Any,
}

impl FromStr for HostPattern {
    type Err = HostError;

    /// Stricter than [`Host`]: a name is written in its canonical form, and an IPv6 address without brackets.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.starts_with('[') || text.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_ipv4_mapped().is_some()) {
            return Err(HostError::Character);
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.ends_with('.') || name.bytes().any(|b| b.is_ascii_uppercase()) && !name.contains(':') {
            return Err(HostError::NotCanonical);
        }
        match (text.strip_prefix("*."), name.parse()?) {
            (None, host) => Ok(Self::Exact(host)),
            (Some(_), Host::Name(name)) if name.0.contains('.') => Ok(Self::OneLabelBelow(name)),
            (Some(_), _) => Err(HostError::Wildcard),
        }
    }
}

impl HostPattern {
    /// The pattern as someone wrote it into an object: no wildcard stands for names that anyone can register, such as
    /// `*.co.uk` or `*.github.io`.
    ///
    /// A policy on the wire is read without this, since the list that it was written under may have been another one.
    ///
    /// # Errors
    /// As [`FromStr`], and [`HostError::PublicSuffix`].
    pub fn written(text: &str) -> Result<Self, HostError> {
        match text.parse()? {
            Self::OneLabelBelow(name) if is_public(&name) => Err(HostError::PublicSuffix(name.0)),
            pattern => Ok(pattern),
        }
    }
}

/// Whether names of one label below `name` are anyone's to register, or are themselves such as anyone can register under.
fn is_public(name: &Name) -> bool {
    // No entry of the list has this label, so only the entries for `name` and for any label below it are met.
    let below = format!("redoubt-any.{}", name.0);
    psl::suffix(below.as_bytes())
        .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes().len() >= name.0.len())
}

impl From<Host> for HostPattern {
    fn from(host: Host) -> Self {
        Self::Exact(host)
    }
}

impl HostPattern {
    /// The pattern of a ceiling or deny: also `**.NAME` and `*`.
    ///
    /// # Errors
    /// As [`HostPattern::from_str`], for what is neither.
    pub fn parse_wide(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(name) = text.strip_prefix("**.") else {
            return text.parse();
        };
        match format!("*.{name}").parse()? {
            Self::OneLabelBelow(name) => Ok(Self::Below(name)),
            _ => Err(HostError::Wildcard),
        }
    }

    /// Whether the pattern speaks of `host`.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(own), other) => own == other,
            (Self::OneLabelBelow(suffix), Host::Name(name)) => {
                name.0.split_once('.').is_some_and(|(_, rest)| rest == suffix.0)
            }
            (Self::Below(suffix), Host::Name(name)) => name.is_below(suffix),
            (Self::OneLabelBelow(_) | Self::Below(_), Host::Ip(_)) => false,
            (Self::Any, _) => true,
        }
    }

    /// As in a URL: an IPv6 address in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Self::Exact(host) => host.to_string(),
            wildcard => wildcard.to_string(),
        }
    }

    /// The hosts that both patterns speak of.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => {
                pattern.matches(host).then(|| Self::Exact(host.clone()))
            }
            (Self::Any, pattern) | (pattern, Self::Any) => Some(pattern.clone()),
            (Self::Below(wide), Self::Below(name)) | (Self::Below(name), Self::Below(wide))
                if name == wide || name.is_below(wide) =>
            {
                Some(Self::Below(name.clone()))
            }
            (Self::Below(wide), Self::OneLabelBelow(name))
            | (Self::OneLabelBelow(name), Self::Below(wide))
                if name == wide || name.is_below(wide) =>
            {
                Some(Self::OneLabelBelow(name.clone()))
            }
            (a, b) => (a == b).then(|| a.clone()),
        }
    }

    /// Whether it speaks of every host that `other` speaks of.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.intersect(other).as_ref() == Some(other)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(Host::Ip(ip)) => ip.fmt(out),
            Self::Exact(host) => host.fmt(out),
            Self::OneLabelBelow(name) => write!(out, "*.{}", name.0),
            Self::Below(name) => write!(out, "**.{}", name.0),
            Self::Any => out.write_str("*"),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}
