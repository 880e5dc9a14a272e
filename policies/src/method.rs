//! HTTP methods that Redoubt knows (RFC 9110, RFC 5789). Any other is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A method. `TRACE` and `CONNECT` are not requests to a resource and are never allowed as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// The text is not the name of a method that Redoubt knows; names are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the method is none of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
pub struct UnknownMethod;

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The method's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;
    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        Self::ALL.into_iter().find(|method| method.as_str() == text).ok_or(UnknownMethod)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A set of methods. The empty set matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MethodSet(BTreeSet<Method>);

impl MethodSet {
    /// All methods.
    #[must_use]
    pub fn all() -> Self {
        Self(Method::ALL.into())
    }

    /// The set of these names; `*` alone is all of them.
    ///
    /// # Errors
    /// When a name is unknown, or `*` is not alone.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownMethod> {
        let mut set = BTreeSet::new();
        for name in names {
            match name.as_ref() {
                "*" if names.len() == 1 => return Ok(Self::all()),
                other => {
                    set.insert(other.parse()?);
                }
            }
        }
        Ok(Self(set))
    }

    /// Whether it holds `method`.
    #[must_use]
    pub fn contains(&self, method: Method) -> bool {
        self.0.contains(&method)
    }

    /// The methods in both, unless there are none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let both: BTreeSet<_> = self.0.intersection(&other.0).copied().collect();
        (!both.is_empty()).then_some(Self(both))
    }

    /// The methods, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = Method> + '_ {
        self.0.iter().copied()
    }
}

impl From<Method> for MethodSet {
    fn from(method: Method) -> Self {
        Self(BTreeSet::from([method]))
    }
}

impl fmt::Display for MethodSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == Method::ALL.len() {
            return out.write_str("*");
        }
        for (i, method) in self.0.iter().enumerate() {
            if i > 0 {
                out.write_str(",")?;
            }
            method.fmt(out)?;
        }
        Ok(())
    }
}
