//! Where a Vault server is.

use http::HeaderValue;
use rustls_pki_types::ServerName;
use url::{Host, Url};

/// Vault's own port, where an address names none.
const DEFAULT_PORT: u16 = 8200;

/// A server's address, in parts.
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) authority: HeaderValue,
    pub(crate) text: String,
}

impl Address {
    /// Parses `https://HOST[:PORT]`, and nothing else.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        if url.scheme() != "https" {
            return Err(
                "the address does not begin with https://; Vault is only ever spoken to over TLS".to_owned()
            );
        }
        let extra = !matches!(url.path(), "" | "/")
            || url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some();
        if extra {
            return Err("the address has more than https://HOST:PORT".to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("the address has no host".to_owned()),
        };
        // A URL's own default port (443) is dropped by the parser, and only seen in the text.
        let port = match url.port() {
            Some(port) => port,
            None if text.trim_end_matches('/').ends_with(":443") => 443,
            None => DEFAULT_PORT,
        };
        let server_name = ServerName::try_from(host.clone())
            .map_err(|_| format!("{host} cannot be the name in a certificate"))?;
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority =
            HeaderValue::try_from(format!("{shown}:{port}")).map_err(|error| error.to_string())?;
        Ok(Self { text: format!("https://{shown}:{port}"), host, port, server_name, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Address::parse(text).ok().map(|it| it.text).as_deref(), expected, "{text}");
        };
        check("https://vault.example.com:8200", Some("https://vault.example.com:8200"));
        check("https://vault.example.com/", Some("https://vault.example.com:8200"));
        check("https://vault.example.com:443", Some("https://vault.example.com:443"));
        check("https://vault.example.com:443/", Some("https://vault.example.com:443"));
        check("https://127.0.0.1:1", Some("https://127.0.0.1:1"));
        check("https://[::1]:8200", Some("https://[::1]:8200"));
        check("http://vault.example.com:8200", None);
        check("https://vault.example.com/v1", None);
        check("https://user@vault.example.com", None);
        check("https://vault.example.com?x", None);
        check("https://vault.example.com#x", None);
        check("unix:///run/vault", None);
        check("", None);
    }
}
