//! From a request as it was read to what is asked for, in canonical form. What can be read in two ways is refused.

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use redoubt_policy::method::Method;
use redoubt_policy::path::CanonicalPath;
use redoubt_policy::target::{Scheme, Target};

use crate::headers;
use crate::http1::{MALFORMED_HEADER, MALFORMED_TARGET, Violation};
use crate::refuse::Refused;

/// Most header lines of a request.
const HEADERS_MAX: usize = 100;
/// Header in which the hands name the tool that they act for.
pub(crate) const TOOL_HEADER: &str = "redoubt-tool";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) method: Method,
    pub(crate) path: CanonicalPath,
    pub(crate) query: Option<String>,
}

impl Wanted {
    /// Path and query as they are sent.
    pub(crate) fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }
}

/// The refusal of a request that the framing guard replaced.
pub(crate) fn malformed(parts: &Parts) -> Option<Refused> {
    let name = parts.headers.get(MALFORMED_HEADER)?;
    if parts.uri.path() != MALFORMED_TARGET {
        return None;
    }
    let violation = Violation::named(name.as_bytes())?;
    let mut refused = Refused::bad(
        "RequestMalformed",
        format!("the request is not HTTP as it should be: {violation}"),
        "Send a request as RFC 9112 describes it.",
    );
    refused.status = violation.status();
    Some(refused)
}

/// Reads a request that names its destination itself (absolute form) or came through the tunnel to `tunnel`.
///
/// # Errors
/// 4xx when there is more than one way to read it.
pub(crate) fn read(parts: &Parts, tunnel: Option<&Target>) -> Result<Wanted, Refused> {
    if parts.headers.len() > HEADERS_MAX {
        return Err(Refused {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ..Refused::bad("RequestMalformed", "the request has too many headers", "Send fewer headers.")
        });
    }
    let target = match tunnel {
        Some(target) => inner_target(parts, target)?,
        None => absolute_target(parts)?,
    };
    let method = parts.method.as_str().parse::<Method>().map_err(|unknown| {
        Refused::bad("MethodUnknown", unknown.to_string(), "Send one of these methods, in capitals.")
    })?;
    let path = parts.uri.path().parse::<CanonicalPath>().map_err(|error| {
        Refused::bad("PathMalformed", error.to_string(), "Send the path in its plain form.")
    })?;
    let query = parts.uri.query().map(str::to_owned);
    if query
        .as_deref()
        .is_some_and(|query| !query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\')))
    {
        return Err(Refused::bad(
            "QueryMalformed",
            "the query has characters that must be encoded",
            "Encode them.",
        ));
    }
    if let Some(what) = headers::method_override(&parts.headers, query.as_deref()) {
        return Err(Refused::bad(
            "MethodOverride",
            format!("{what} asks for another method than that of the request"),
            "Send the method itself.",
        ));
    }
    if let Some(what) = headers::target_override(&parts.headers) {
        return Err(Refused::bad(
            "TargetOverride",
            format!("{what} can name another host or path than those of the request"),
            "Name host and path in the URL alone.",
        ));
    }
    if headers::is_upgrade(&parts.headers) {
        return Err(Refused::forbidden(
            "UpgradeNotAllowed",
            "the request asks for another protocol; WebSocket and other upgrades are not let through",
            "Use plain requests; for streams, server-sent events.",
        ));
    }
    if let Some(expect) = parts.headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refused {
            status: StatusCode::EXPECTATION_FAILED,
            ..Refused::bad("ExpectationUnknown", "Expect is not 100-continue", "Leave Expect out.")
        });
    }
    Ok(Wanted { target, method, path, query })
}

/// The destination of a `CONNECT`.
///
/// # Errors
/// 400 when the authority is not `HOST:PORT`, or Host says otherwise.
pub(crate) fn connect_target(parts: &Parts) -> Result<Target, Refused> {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let port = authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if !port {
        return Err(Refused::bad("HostMalformed", "CONNECT names no HOST:PORT", "Name host and port."));
    }
    let target = parse(Scheme::Https, authority)?;
    same_host(&parts.headers, &target)?;
    Ok(target)
}

fn absolute_target(parts: &Parts) -> Result<Target, Refused> {
    let scheme = match parts.uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => {
            return Err(Refused::bad(
                "SchemeUnknown",
                "the request names no http:// or https:// URL",
                "Send the whole URL in the first line, as to a proxy.",
            ));
        }
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let target = parse(scheme, authority)?;
    same_host(&parts.headers, &target)?;
    Ok(target)
}

fn inner_target(parts: &Parts, tunnel: &Target) -> Result<Target, Refused> {
    let named = parts.uri.authority().map(http::uri::Authority::as_str);
    let scheme = parts.uri.scheme_str().unwrap_or("https");
    if scheme != "https" || named.is_some_and(|it| parse(Scheme::Https, it).ok().as_ref() != Some(tunnel)) {
        return Err(other_host());
    }
    if named.is_none() && !parts.headers.contains_key(header::HOST) {
        return Err(other_host());
    }
    same_host(&parts.headers, tunnel)?;
    Ok(tunnel.clone())
}

/// Whether every Host header names the target.
fn same_host(headers: &HeaderMap, target: &Target) -> Result<(), Refused> {
    let same = |value: &http::HeaderValue| {
        value.to_str().ok().and_then(|text| Target::parse(target.scheme, text).ok()).as_ref() == Some(target)
    };
    if headers.get_all(header::HOST).iter().all(same) { Ok(()) } else { Err(other_host()) }
}

fn other_host() -> Refused {
    Refused::bad(
        "HostMismatch",
        "URL, Host header and tunnel do not name the same destination",
        "Name the same host and port everywhere.",
    )
}

fn parse(scheme: Scheme, authority: &str) -> Result<Target, Refused> {
    Target::parse(scheme, authority)
        .map_err(|error| Refused::bad("HostMalformed", error.to_string(), "Name the host in its plain form."))
}

#[cfg(test)]
mod tests;
