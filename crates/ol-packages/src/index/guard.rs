//! Where the names that a client asks for may lead.
//!
//! What the operator wrote himself may lie in his own networks. Every other host is the word of a page, or of a server that sends on:
//! it must be one of the internet, or whoever writes pages could have the worker ask the machine's own services.

use std::fmt;
use std::net::IpAddr;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::{Destination, Reach};

/// Resolves names and leaves out addresses of the wrong kind. Not asked for what goes through the host's own proxy, which resolves.
#[derive(Debug)]
pub(super) struct Guard {
    known: Vec<Destination>,
    resolver: DefaultResolver,
}

/// All addresses of a name are of the wrong kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strayed(IpAddr);

impl Strayed {
    /// Is that why a call failed?
    pub(super) fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Other(other) => other.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Strayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "leads to {}, which is not an address of the internet",
            self.0
        )
    }
}

impl std::error::Error for Strayed {}

impl Guard {
    pub(super) fn new(known: Vec<Destination>) -> Self {
        Self {
            known,
            resolver: DefaultResolver::default(),
        }
    }

    fn reach(&self, uri: &Uri) -> Reach {
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = uri.host().unwrap_or("").trim_matches(['[', ']']);
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let known = self
            .known
            .iter()
            .find(|known| known.host == host && known.port == port);
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
            (true, Some(bad)) => Err(Error::Other(Box::new(Strayed(bad.ip())))),
            _ => Ok(good),
        }
    }
}
