//! Parses what a request to a proxy asks for. Strict: an ambiguous request is refused, since the next reader might understand it
//! differently.

use hyper::Method;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::Uri;

/// How the client wants to reach the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `CONNECT`: bytes both ways.
    Tunnel,
    /// `GET` or `HEAD` of an absolute `http://` URL.
    Plain,
}

/// A host and port in the form used for comparison: lower case, no final dot, no brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestTarget {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) way: Way,
}

/// Parses a request; the error holds the host that it names, if any, and what is wrong.
pub(super) fn of(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap<HeaderValue>,
) -> Result<RequestTarget, (String, &'static str)> {
    let named = uri.authority().map_or_else(String::new, |authority| {
        // Without user information, which may be a password.
        let text = authority.as_str();
        text.rsplit_once('@')
            .map_or(text, |(_, host)| host)
            .to_owned()
    });
    let refused = |why| (named.clone(), why);
    if headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
    {
        return Err(refused("is asked for with a body: this proxy carries none"));
    }
    let Some(authority) = uri.authority() else {
        return Err(refused(
            "no host: this is a proxy, ask for an absolute URL or CONNECT",
        ));
    };
    if authority.as_str().contains('@') {
        return Err(refused(
            "is asked for with a user name: send it in a header",
        ));
    }
    let way = match (method, uri.scheme_str()) {
        (&Method::CONNECT, None) => Way::Tunnel,
        (&Method::GET | &Method::HEAD, Some("http")) => Way::Plain,
        (&Method::GET | &Method::HEAD, Some(_)) => {
            return Err(refused(
                "is asked for with another scheme than http: use CONNECT",
            ));
        }
        _ => {
            return Err(refused(
                "is asked for with another method than CONNECT, GET or HEAD",
            ));
        }
    };
    let port = match (authority.port_u16(), way) {
        (Some(port), _) if port != 0 => port,
        (None, Way::Plain) if !authority.as_str().ends_with(':') => 80,
        _ => return Err(refused("is asked for without a port")),
    };
    let host = authority.host();
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').unwrap_or(""),
        None => host.strip_suffix('.').unwrap_or(host),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(refused("is no name of a host"));
    }
    Ok(RequestTarget {
        host: host.to_ascii_lowercase(),
        port,
        way,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str) -> Result<RequestTarget, (String, &'static str)> {
        let method = method.parse().expect("a method");
        of(&method, &uri.parse().expect("a URI"), &HeaderMap::new())
    }

    #[test]
    fn one_way_to_read_each() {
        for (uri, host, port) in [
            ("PyPI.org:443", "pypi.org", 443),
            ("pypi.org.:443", "pypi.org", 443),
            ("[fd00::1]:8443", "fd00::1", 8443),
        ] {
            let found = target("CONNECT", uri).expect(uri);
            assert_eq!(
                (found.host.as_str(), found.port, found.way),
                (host, port, Way::Tunnel)
            );
        }
        let found = target("GET", "http://Mirror/simple/").expect("plain");
        assert_eq!(
            (found.host.as_str(), found.port, found.way),
            ("mirror", 80, Way::Plain)
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, uri) in [
            ("CONNECT", "pypi.org"),
            ("CONNECT", "pypi.org:0"),
            ("CONNECT", "me:secret@pypi.org:443"),
            ("CONNECT", "pypi.org@evil.example:443"),
            ("GET", "/simple/"),
            ("GET", "https://pypi.org/simple/"),
            ("GET", "ftp://pypi.org/simple/"),
            ("GET", "http://me@pypi.org/"),
            ("POST", "http://pypi.org/"),
            ("OPTIONS", "*"),
            ("CONNECT", ".:443"),
        ] {
            let (_, why) = target(method, uri).expect_err(uri);
            assert!(!why.contains("secret"), "{why}");
        }
        let (named, _) = target("CONNECT", "me:secret@pypi.org:443").expect_err("credentials");
        assert_eq!(named, "pypi.org:443");
    }
}
