//! CEL rules that several kinds share, each with the message a user reads when it refuses a value.
//!
//! The policy engine parses the same grammars into canonical types and has the last word; these rules are here so that a
//! mistake is answered at `kubectl apply`.

/// An image by digest.
pub const IMAGE: &str = r"self.matches('^[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9._-]+)?@sha256:[a-f0-9]{64}$')";
/// Message of [`IMAGE`].
pub const IMAGE_MESSAGE: &str =
    "give the image by digest: NAME@sha256:64 hexadecimal digits; a tag alone can be moved";

/// One label of a host name.
macro_rules! label {
    () => {
        "[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?"
    };
}

/// A character of a literal path segment, in canonical form: encoded only where RFC 3986 asks for it, and never an
/// encoded slash, backslash, percent sign, semicolon or control character.
macro_rules! segment_character {
    () => {
        "([A-Za-z0-9._~!$&-)+,=:@-]|%([89A-F][0-9A-F]|2[0-46-9A-C]|3[AC-F]|40|5[BDE]|60|7[BCD]))"
    };
}

/// A name whose last label is a number, which parsers of IPv4 addresses disagree about.
macro_rules! numeric_name {
    () => {
        "(^|[.])(0x[0-9a-f]*|[0-9]+)$"
    };
}

/// `.` or `..` as a segment.
macro_rules! dot_segment {
    () => {
        "/[.][.]?(/|$)"
    };
}

/// Host and port of a URL.
macro_rules! authority {
    () => {
        concat!(
            "(",
            label!(),
            "([.]",
            label!(),
            ")*|[[][0-9A-Fa-f]*:[0-9A-Fa-f:.]+[]])",
            "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
        )
    };
}

/// What [`authority!`] does not say about a URL's host: its length, and that one which ends in a number is an address.
///
/// It speaks of the whole URL because the API server knows no bound for the length of what `url(self)` returns, and so
/// refuses rules that look at that.
macro_rules! host_is_valid {
    () => {
        concat!(
            "(!self.contains('[') || isIP(self.substring(self.indexOf('[') + 1, self.indexOf(']')))) && ",
            "!self.matches('^https?://[^/:]{254}') && ",
            "(!self.matches('^https?://([^/:]*[.])?(0x[0-9a-f]*|[0-9]+)(:[0-9]+)?(/|$)') || ",
            "self.matches('^https?://((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(:|/|$)'))"
        )
    };
}

/// Host patterns: exact names or one leading wildcard label above at least two labels.
pub const HOSTS: &str = concat!(
    "self.all(h, isIP(h) || (h.matches('^([*][.]",
    label!(),
    "[.])?",
    label!(),
    "([.]",
    label!(),
    ")*$') && !h.matches('",
    numeric_name!(),
    "')))"
);
/// Message of [`HOSTS`].
pub const HOSTS_MESSAGE: &str = "each host is a lower-case name such as api.example.com, *.example.com for exactly one label in front, or an IP address; no scheme, port, path, trailing dot or other wildcard; IDNs in their xn-- form";

/// Host patterns of ceilings and denies: those of [`HOSTS`], any depth below a name, and all hosts.
pub const WIDE_HOSTS: &str = concat!(
    "self.all(h, h == '*' || isIP(h) || (h.matches('^([*]{1,2}[.]",
    label!(),
    "[.])?",
    label!(),
    "([.]",
    label!(),
    ")*$') && !h.matches('",
    numeric_name!(),
    "')))"
);
/// Message of [`WIDE_HOSTS`].
pub const WIDE_HOSTS_MESSAGE: &str = "each host is a lower-case name such as api.example.com, *.example.com for exactly one label in front, **.example.com for any number of them, '*' for all hosts, or an IP address; no scheme, port, path, trailing dot or other wildcard; IDNs in their xn-- form";

/// A quantity of Kubernetes above zero.
pub const QUANTITY: &str = "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))";
/// Message of [`QUANTITY`].
pub const QUANTITY_MESSAGE: &str = "give a quantity above zero, for example 500m or 512Mi";

/// Methods.
pub const METHODS: &str = "self.all(m, m in ['*', 'GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) && (self.size() == 1 || !('*' in self))";
/// Message of [`METHODS`].
pub const METHODS_MESSAGE: &str =
    "methods are upper-case: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; or '*' alone for all of them";

/// Path patterns.
pub const PATHS: &str = concat!(
    "self.all(p, p != '' && p.matches('^(/(",
    segment_character!(),
    "+|[*]))*(/|/[*][*])?$') && !p.matches('",
    dot_segment!(),
    "'))"
);
/// Message of [`PATHS`].
pub const PATHS_MESSAGE: &str = "each path starts with / and has literal segments, * for exactly one whole segment, and may end in /** for the path and all below; no . or .. segments, no empty segments, no query, nothing percent-encoded that need not or must not be";

/// The template of a function's path.
pub const PATH_TEMPLATE: &str = concat!(
    "self != '' && self.matches('^(/(",
    segment_character!(),
    "+|[{][A-Za-z_][A-Za-z0-9_]*[}]))*/?$') && !self.matches('",
    dot_segment!(),
    "')"
);
/// Message of [`PATH_TEMPLATE`].
pub const PATH_TEMPLATE_MESSAGE: &str = "the path starts with / and has literal segments and whole segments of the form {argument}; no . or .. segments, no empty segments, no query, nothing percent-encoded that need not or must not be";

/// A base URL of an HTTP API.
pub const BASE_URL: &str = concat!(
    "self.matches('^https?://",
    authority!(),
    "(/",
    segment_character!(),
    "+)*/?$') && !self.matches('",
    dot_segment!(),
    "') && ",
    host_is_valid!()
);
/// Message of [`BASE_URL`].
pub const BASE_URL_MESSAGE: &str = "give an absolute http or https URL with a lower-case host and no user, query or fragment, for example https://api.example.com/v1";

/// The address of a Vault server.
pub const VAULT_ADDRESS: &str =
    concat!("self.matches('^https://", authority!(), "/?$') && ", host_is_valid!());
/// Message of [`VAULT_ADDRESS`].
pub const VAULT_ADDRESS_MESSAGE: &str =
    "give the address as https://HOST:PORT; Vault is only ever spoken to over TLS";

/// A mount or path in Vault.
pub const VAULT_PATH: &str =
    r"self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')";
/// Message of [`VAULT_PATH`].
pub const VAULT_PATH_MESSAGE: &str = "give segments of letters, digits, '.', '_' and '-' separated by single slashes, without a leading or trailing slash";

/// Name of a header that may carry a credential.
pub const INJECTED_HEADER: &str = "!(self.lowerAscii() in ['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive', 'expect', 'content-type', 'proxy-authorization', 'proxy-connection'])";
/// Message of [`INJECTED_HEADER`].
pub const INJECTED_HEADER_MESSAGE: &str =
    "this header frames or routes the request and cannot carry a credential";
