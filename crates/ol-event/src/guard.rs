//! Refuses requests that a browser may have been tricked into making. Nothing here authenticates the client.
//!
//! Any web page can make its visitor's browser send requests to this machine; if the page's own host name is pointed to this machine,
//! the page can even read the answers (DNS rebinding). Therefore every route requires a `Host` that such a page can't have, and routes
//! that change the worker or tell something of it also require a request that no page can make. Only heads are looked at; nothing is
//! allocated unless a request is refused.

use crate::respond::Problem;
use http::header::{HOST, HeaderValue, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri};
use std::net::Ipv6Addr;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A call of a function: the function decides whom it answers, pages of other sites included.
    Run,
    /// Whether the worker is well: for load balancers and everybody.
    Health,
    /// Everything else.
    Control,
}

impl Route {
    /// The route of a path; `functions` says whether `/run` is for functions rather than for sandboxes that are driven directly.
    pub(crate) fn of(path: &str, functions: bool) -> Self {
        match path {
            _ if functions && path.starts_with("/run/") => Self::Run,
            "/status" | "/healthz" | "/readyz" => Self::Health,
            _ => Self::Control,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The request asks for a host name that isn't this worker's.
    Host,
    /// A web page made it, as this header shows.
    Page(&'static str),
}

/// Knows the host names that requests may ask for.
#[derive(Debug)]
pub(crate) struct Guard {
    names: Vec<String>,
}

impl Guard {
    /// `names` are allowed beside `localhost` and IP addresses; `*.NAME` means any name below NAME, `*` any at all.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    /// Is this request allowed on the public port? Requests by the worker's own socket needn't be checked.
    pub(crate) fn check<B>(&self, route: Route, request: &Request<B>) -> Result<(), Refused> {
        self.judge(route, request.uri(), request.headers())
    }

    fn judge(&self, route: Route, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        // A host in the request's target takes precedence over the header (RFC 9112, 3.2.2).
        let known = match uri.authority() {
            Some(authority) => self.knows(authority.as_str()),
            // No `Host` at all is accepted: HTTP/1.0 needs none, and no browser speaks HTTP/1.0.
            None => headers
                .get_all(HOST)
                .iter()
                .all(|host| host.to_str().is_ok_and(|host| self.knows(host))),
        };
        if !known {
            return Err(Refused::Host);
        }
        match route {
            Route::Control => page(headers).map_or(Ok(()), |header| Err(Refused::Page(header))),
            Route::Run | Route::Health => Ok(()),
        }
    }

    /// Is the host of `authority`, which is `HOST[:PORT]`, allowed?
    fn knows(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else {
            return false;
        };
        is_address(host)
            || host.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|name| matches(host, name))
    }
}

/// Which header shows that a web page made the request.
///
/// A page can't leave out `Sec-Fetch-Site`, nor `Origin` in a request that changes something. Its `Referer` can be any path of its own
/// origin, functions' pages and control routes alike.
fn page(headers: &HeaderMap) -> Option<&'static str> {
    let not_typed = |site: &HeaderValue| site != "none";
    if headers.get_all(SEC_FETCH_SITE).iter().any(not_typed) {
        Some("Sec-Fetch-Site")
    } else if headers.contains_key(ORIGIN) {
        Some("Origin")
    } else {
        headers.contains_key(REFERER).then_some("Referer")
    }
}

/// The host of `authority`, without its port and a dot at its end; `None` if there is no valid host.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (
                address,
                port.strip_prefix(':')
                    .or_else(|| port.is_empty().then_some(""))?,
            )
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let host = host.strip_suffix('.').unwrap_or(host);
    (is_port && !host.is_empty()).then_some(host)
}

/// Is `host` an IP address rather than a name?
///
/// No name ends in a number: whatever does is read as an address everywhere (`127.1`, `0x7f000001`), so no attacker's DNS can resolve it.
fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let number = match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    };
    let plain = |b: u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b'x' | b'X');
    (number && host.bytes().all(plain)) || host.parse::<Ipv6Addr>().is_ok()
}

fn matches(host: &str, name: &str) -> bool {
    if name == "*" {
        return true;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.strip_prefix('*') {
        None => host.eq_ignore_ascii_case(name),
        // `end` begins with the dot.
        Some(end) => {
            let at = host.len().checked_sub(end.len()).filter(|at| *at > 0);
            at.and_then(|at| host.get(at..))
                .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Host => Self::new(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown-host",
                "this worker isn't known by the name in Host: ask for localhost or its address, or add the name to allowed_hosts in config.json",
            ),
            Refused::Page(header) => Self::new(
                StatusCode::FORBIDDEN,
                "from-a-page",
                format!(
                    "this route takes no requests of web pages, and this one has {header}: use ol or curl, or call a function at /run/NAME"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Route::{Control, Health, Run};

    fn judged(route: Route, target: &str, headers: &[(&str, &str)]) -> Result<(), Refused> {
        let names = ["Worker.Example.com", "*.apps.example.org"];
        let guard = Guard::new(names.map(str::to_owned).to_vec());
        let mut request = http::Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        guard.judge(route, &head.uri, &head.headers)
    }

    #[test]
    fn a_host_is_localhost_an_address_or_a_name_that_is_configured() {
        for host in [
            "localhost",
            "localhost:5000",
            "LocalHost.:5000",
            "localhost:",
            "127.0.0.1",
            "127.0.0.1:5000",
            "10.1.2.3:80",
            "127.1",
            "0x7f000001:5000",
            "2130706433",
            "[::1]",
            "[::1]:5000",
            "[FE80::1]:80",
            "worker.example.com",
            "WORKER.example.COM.:5000",
            "a.apps.example.org",
            "a.b.apps.example.org:1",
        ] {
            for route in [Run, Health, Control] {
                assert_eq!(judged(route, "/x", &[("host", host)]), Ok(()), "{host}");
            }
        }
        for host in [
            "",
            ".",
            ":80",
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "evil-localhost",
            "localhost@evil.example",
            "user@localhost",
            "localhost:80:80",
            "localhost:http",
            "localhost:999999",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil",
            "evil.1x",
            "ev il.1",
            "evil.7",
            "[::1",
            "::1]:80",
            "[::1]80",
            "[evil]:80",
            "[::1%lo]",
            "apps.example.org",
            ".apps.example.org",
            "xapps.example.org",
            "worker.example.com.evil.example",
            "local%68ost",
            "localhost, evil.example",
            "*",
            "*.apps.example.com",
        ] {
            for route in [Run, Health, Control] {
                assert_eq!(
                    judged(route, "/x", &[("host", host)]),
                    Err(Refused::Host),
                    "{host}"
                );
            }
        }
    }

    #[test]
    fn the_target_outranks_the_header_and_each_header_counts() {
        let evil = [("host", "evil.example")];
        assert_eq!(judged(Run, "http://localhost:5000/run/f", &evil), Ok(()));
        let good = [("host", "localhost")];
        assert_eq!(
            judged(Run, "http://evil.example/run/f", &good),
            Err(Refused::Host)
        );
        assert_eq!(
            judged(Run, "http://localhost@evil.example/", &good),
            Err(Refused::Host)
        );
        assert_eq!(judged(Run, "/", &[good[0], evil[0]]), Err(Refused::Host));
        // HTTP/1.0 needs no `Host`.
        assert_eq!(judged(Control, "/", &[]), Ok(()));
    }

    #[test]
    fn control_routes_take_nothing_of_pages() {
        let (site, origin, referer) = ("Sec-Fetch-Site", "Origin", "Referer");
        for (headers, control) in [
            (vec![], None),
            (vec![(site, "none")], None),
            // Node's fetch sends this header, and it is a program, not a page.
            (vec![("Sec-Fetch-Mode", "cors")], None),
            (vec![(site, "cross-site")], Some(site)),
            (vec![(site, "same-site")], Some(site)),
            (vec![(site, "same-origin")], Some(site)),
            (vec![(site, "None")], Some(site)),
            (vec![(site, "none"), (site, "cross-site")], Some(site)),
            (
                vec![(site, "none"), (origin, "http://localhost:5000")],
                Some(origin),
            ),
            (vec![(origin, "null")], Some(origin)),
            (vec![(origin, "https://evil.example")], Some(origin)),
            (
                vec![(referer, "http://localhost:5000/run/page")],
                Some(referer),
            ),
            (
                vec![(referer, "http://localhost:5000/debug")],
                Some(referer),
            ),
            (vec![(referer, "")], Some(referer)),
        ] {
            let mut sent = vec![("host", "localhost:5000")];
            sent.extend(headers);
            let expected = control.map_or(Ok(()), |header| Err(Refused::Page(header)));
            assert_eq!(judged(Control, "/registry/f", &sent), expected, "{sent:?}");
            for open in [Run, Health] {
                assert_eq!(judged(open, "/x", &sent), Ok(()), "{sent:?}");
            }
        }
    }

    #[test]
    fn everything_but_calls_and_health_is_control() {
        for (path, functions, sandboxes) in [
            ("/run/f", Run, Control),
            ("/run/f/a?b", Run, Control),
            ("/run", Control, Control),
            ("//run/f", Control, Control),
            ("/RUN/f", Control, Control),
            ("/status", Health, Health),
            ("/healthz", Health, Health),
            ("/readyz", Health, Health),
            ("/status/", Control, Control),
            ("/metrics", Control, Control),
            ("/registry/f/config", Control, Control),
            ("/create", Control, Control),
            ("*", Control, Control),
            ("/", Control, Control),
        ] {
            assert_eq!(
                (Route::of(path, true), Route::of(path, false)),
                (functions, sandboxes),
                "{path}"
            );
        }
    }
}
