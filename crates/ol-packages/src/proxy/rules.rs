//! What may be reached through a proxy, and how much it may carry.

use std::time::Duration;

use crate::index::{Destination, Index, Upstream};

use super::report::Refusal;
use super::target::{RequestTarget, Way};

/// The limits of one proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Connections at once; further ones wait in the socket's queue. An installer opens at most 50.
    pub connections: usize,
    /// Bytes of one request's line and headers; at least 8192, the minimum that the parser accepts.
    pub head_bytes: usize,
    /// Bytes in both directions, of all connections together.
    pub total_bytes: u64,
    /// How long a connection may carry nothing.
    pub idle: Duration,
    /// How long connecting may take, including resolving the name.
    pub connect: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 16 << 10,
            total_bytes: 4 << 30,
            idle: Duration::from_secs(60),
            connect: Duration::from_secs(20),
        }
    }
}

/// What one proxy allows.
#[derive(Debug, Clone)]
pub struct ProxyRules {
    /// Everything that may be reached.
    pub destinations: Vec<Destination>,
    /// The host's own proxy.
    pub upstream: Upstream,
    /// Its limits.
    pub limits: ProxyLimits,
}

impl ProxyRules {
    /// Allows what an installer needs for this index.
    #[must_use]
    pub fn of(index: &Index, limits: ProxyLimits) -> Self {
        Self {
            destinations: index.destinations.clone(),
            upstream: index.upstream.clone(),
            limits,
        }
    }

    /// The destination that a request may reach, or why it is refused. Plain requests and tunnels may go to the same destinations.
    pub(super) fn judge(&self, target: &RequestTarget) -> Result<&Destination, Refusal> {
        let known = self
            .destinations
            .iter()
            .find(|known| known.host == target.host);
        let refused = |reason| Refusal {
            host: target.host.clone(),
            port: target.port,
            reason,
        };
        let Some(known) = known else {
            return Err(refused("is not a host of the package index"));
        };
        let exact = self
            .destinations
            .iter()
            .find(|known| known.host == target.host && known.port == target.port);
        exact.ok_or_else(|| {
            refused(match target.way {
                Way::Tunnel if known.port != target.port => {
                    "is a host of the package index, but on another port"
                }
                _ => "is a host of the package index, but is not asked for on its port",
            })
        })
    }
}
