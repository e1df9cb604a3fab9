//! Limits which addresses the client's host names may lead to.
//!
//! Hosts that the operator configured may lie in private networks. Every other host name comes from a page or a redirect and must lead to a
//! public address; otherwise an author of pages could make the worker send requests to services of its own machine.

use std::fmt;
use std::net::IpAddr;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::{Destination, Index, Reach};

/// Resolves names and drops addresses that aren't allowed.
///
/// For requests through the host's own proxy, only the proxy's name is resolved here; see [`permitted`].
#[derive(Debug)]
pub(super) struct Guard {
    known: Vec<Destination>,
    resolver: DefaultResolver,
}

/// A host that must not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strayed {
    /// Host and port.
    pub host: String,
    /// The rest of the sentence that begins with the host.
    pub why: String,
}

impl Strayed {
    /// Returns the `Strayed` that made a call fail, if one did.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Other(other) => other.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Strayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.host, self.why)
    }
}

impl std::error::Error for Strayed {}

/// Checks a host by its name alone, before anything resolves it (for requests through a proxy, the proxy resolves).
///
/// A host that isn't in `known` must be a public address or a name with a dot, on port 80 or 443.
pub(super) fn permitted(known: &[Destination], host: &str, port: u16) -> Result<(), Strayed> {
    if known
        .iter()
        .any(|known| known.host == host && known.port == port)
    {
        return Ok(());
    }
    let why = match host.parse::<IpAddr>() {
        _ if !matches!(port, 80 | 443) => "is not on a port of the web",
        Ok(address) if Reach::Public.allows(address) => return Ok(()),
        Ok(_) => "is not an address of the internet",
        Err(_) if host.contains('.') => return Ok(()),
        Err(_) => "is not a name of the internet",
    };
    Err(Strayed {
        host: format!("{host}:{port}"),
        why: why.to_owned(),
    })
}

impl Guard {
    pub(super) fn of(index: &Index) -> Self {
        let proxies = index.upstream.addresses().map(|proxy| Destination {
            host: proxy.host.to_ascii_lowercase(),
            port: proxy.port,
            reach: Reach::Own,
        });
        Self {
            known: index.destinations.iter().cloned().chain(proxies).collect(),
            resolver: DefaultResolver::default(),
        }
    }

    fn reach(&self, uri: &Uri) -> Reach {
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = uri.host().unwrap_or("").trim_matches(['[', ']']);
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let mut known = self.known.iter();
        let known = known.find(|known| known.host == host && known.port == port);
        known.map_or(Reach::Public, |known| known.reach)
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.resolver.resolve(uri, config, timeout)?;
        let reach = self.reach(uri);
        let mut good = self.empty();
        for address in found.iter().filter(|address| reach.allows(address.ip())) {
            good.push(*address);
        }
        match (good.is_empty(), found.first()) {
            (true, Some(bad)) => Err(Error::Other(Box::new(Strayed {
                host: uri.host().unwrap_or("").to_owned(),
                why: format!(
                    "leads to {}, which is not an address of the internet",
                    bad.ip()
                ),
            }))),
            _ => Ok(good),
        }
    }
}
