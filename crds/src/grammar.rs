//! CEL rules that several kinds share, each with the message a user reads when it refuses a value.
//!
//! The policy engine parses the same grammars into canonical types and has the last word; these rules are here so that a
//! mistake is answered at `kubectl apply`.

/// An image by digest.
pub const IMAGE: &str = r"self.matches('^[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9._-]+)?@sha256:[a-f0-9]{64}$')";
/// Message of [`IMAGE`].
pub const IMAGE_MESSAGE: &str =
    "give the image by digest: NAME@sha256:64 hexadecimal digits; a tag alone can be moved";

/// Host patterns: exact names or one leading wildcard label above at least two labels.
pub const HOSTS: &str = r"self.all(h, isIP(h) || (h.matches('^([*][.][a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?[.])?[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?([.][a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?)*$') && !h.matches('^[0-9.]+$') && !h.matches('(^|[.])(0[xX][0-9a-fA-F]*|[0-9]+)$')))";
/// Message of [`HOSTS`].
pub const HOSTS_MESSAGE: &str = "each host is a lower-case name such as api.example.com, *.example.com for exactly one label in front, or an IP address; no scheme, port, path, trailing dot or other wildcard; IDNs in their xn-- form";

/// Methods.
pub const METHODS: &str = "self.all(m, m in ['*', 'GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) && (self.size() == 1 || !('*' in self))";
/// Message of [`METHODS`].
pub const METHODS_MESSAGE: &str =
    "methods are upper-case: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; or '*' alone for all of them";

/// Path patterns.
pub const PATHS: &str = r"self.all(p, p.matches('^(/|(/([A-Za-z0-9._~!$&()+,=:@-]|%[0-9A-F]{2})+|/[*])*(/|/[*][*])?)$') && !p.matches('(^|/)[.][.]?(/|$)') && p.startsWith('/'))";
/// Message of [`PATHS`].
pub const PATHS_MESSAGE: &str = "each path starts with / and has literal segments, * for exactly one whole segment, and may end in /** for the path and all below; no . or .. segments, no empty segments, no query";

/// The template of a function's path.
pub const PATH_TEMPLATE: &str = r"self.startsWith('/') && self.matches('^(/|(/([A-Za-z0-9._~!$&()+,=:@-]|%[0-9A-F]{2})+|/[{][A-Za-z_][A-Za-z0-9_]*[}])+/?)$') && !self.matches('(^|/)[.][.]?(/|$)')";
/// Message of [`PATH_TEMPLATE`].
pub const PATH_TEMPLATE_MESSAGE: &str = "the path starts with / and has literal segments and whole segments of the form {argument}; no . or .. segments, no query";

/// A base URL of an HTTP API.
pub const BASE_URL: &str = r"isURL(self) && url(self).getScheme() in ['https', 'http'] && url(self).getHost() != '' && !self.contains('?') && !self.contains('#') && !self.contains('@')";
/// Message of [`BASE_URL`].
pub const BASE_URL_MESSAGE: &str = "give an absolute http or https URL with a host and no user, query or fragment, for example https://api.example.com/v1";

/// The address of a Vault server.
pub const VAULT_ADDRESS: &str = r"isURL(self) && url(self).getScheme() == 'https' && url(self).getHost() != '' && url(self).getEscapedPath() in ['', '/'] && !self.contains('?') && !self.contains('#') && !self.contains('@')";
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
