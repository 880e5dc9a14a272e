//! Base URLs of HTTP APIs: scheme, host, port and a leading path, in canonical form.

use std::fmt;
use std::str::FromStr;

use crate::path::{CanonicalPath, PathError};
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
        let path = match path.strip_suffix('/').unwrap_or(path) {
            "" => String::new(),
            path => {
                // It becomes a part of path patterns, where a wildcard would be one.
                if path.contains('*') {
                    return Err(PathError::Wildcard.into());
                }
                path.parse::<CanonicalPath>()?.as_str().to_owned()
            }
        };
        if path.ends_with('/') {
            return Err(PathError::EmptySegment.into());
        }
        Ok(Self { target, path })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.target, self.path)
    }
}
