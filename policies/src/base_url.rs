//! Base URLs of HTTP APIs: scheme, host, port and a leading path. They are configuration, so they are written in
//! canonical form or refused.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::host::{Host, HostError};
use crate::path::{PathError, literal_segment};
use crate::target::{Scheme, Target, TargetError};

/// A base URL. Only [`BaseUrl::from_str`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    target: Target,
    /// Canonical, without a trailing slash: empty where the URL has no path.
    path: String,
}

/// Why a text is not a base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It starts with neither `https://` nor `http://`.
    #[error("a base URL starts with https:// or http://")]
    Scheme,
    /// It has a query or a fragment.
    #[error("a base URL has no query and no fragment")]
    Query,
    /// Host or port.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl BaseUrl {
    /// Scheme, host and port.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The path under which every request is: canonical and without a trailing slash, so empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(BaseUrlError::Scheme);
        };
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let target = Target::parse(scheme, authority)?;
        if let Host::Name(name) = &target.host
            && authority.split(':').next() != Some(name.as_str())
        {
            return Err(TargetError::from(HostError::NotCanonical).into());
        }
        if let Host::Ip(IpAddr::V6(ip)) = &target.host
            && ip.to_ipv4_mapped().is_some()
        {
            return Err(TargetError::from(HostError::Character).into());
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        for segment in path.split('/').skip(1) {
            if segment.is_empty() {
                return Err(PathError::EmptySegment.into());
            }
            literal_segment(segment)?;
        }
        let path = path.to_owned();
        Ok(Self { target, path })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.target, self.path)
    }
}
