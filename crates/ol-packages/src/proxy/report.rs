//! What an installer asked for and didn't get. The installer sees only closed connections; its user should see why.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The most entries of each kind; further refusals are only counted: a hostile installer could ask for ever new hosts.
const KEPT: usize = 32;

/// A request that the rules forbid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The requested host.
    pub host: String,
    /// The requested port; 0 if unknown.
    pub port: u16,
    /// The rest of the sentence that begins with the host.
    pub reason: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.as_str(), self.port) {
            ("", _) => f.write_str(self.reason),
            (host, 0) => write!(f, "{host} {}", self.reason),
            (host, port) => write!(f, "{host}:{port} {}", self.reason),
        }
    }
}

/// Why an allowed request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A name can't be resolved.
    #[error("the name {host} can't be resolved: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver says.
        why: String,
    },
    /// A name leads to an address that isn't allowed.
    #[error(
        "{host} leads to {address}, which is not an address of the internet; if that is your own index, name it in pip_mirror or packages.hosts"
    )]
    WrongAddress {
        /// The name.
        host: String,
        /// Its address.
        address: std::net::IpAddr,
    },
    /// The destination or proxy can't be reached.
    #[error("{host} can't be reached: {why}")]
    Unreachable {
        /// Host and port, or the proxy's.
        host: String,
        /// What the system says.
        why: String,
    },
    /// The host's own proxy refuses.
    #[error("the proxy {proxy} answered {status} when asked for {host}")]
    Upstream {
        /// The host's own proxy.
        proxy: String,
        /// The status of its answer.
        status: u16,
        /// The requested destination.
        host: String,
    },
    /// A connection carried nothing for too long.
    #[error("a connection to {host} carried nothing for {seconds} s")]
    Idle {
        /// The connection's destination.
        host: String,
        /// The limit.
        seconds: u64,
    },
    /// All connections together carried too much.
    #[error("more than {mib} MiB went through the proxy")]
    TooMuch {
        /// The limit.
        mib: u64,
    },
    /// A request's line and headers are too long.
    #[error("a request had headers of more than {bytes} bytes")]
    LongHead {
        /// The limit.
        bytes: usize,
    },
}

/// What was refused or went wrong so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyReport {
    /// The first 32 different refusals, in the order of the requests.
    pub refused: Vec<Refusal>,
    /// The first 32 different failures.
    pub troubles: Vec<Trouble>,
    /// How many requests were refused in all.
    pub refusals: u64,
    /// Bytes carried in both directions.
    pub bytes: u64,
}

/// The report that connections add to.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<ProxyReport>>);

impl Notes {
    pub(super) fn refused(&self, refusal: Refusal) {
        self.with(|report| {
            report.refusals += 1;
            if report.refused.len() < KEPT && !report.refused.contains(&refusal) {
                report.refused.push(refusal);
            }
        });
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        self.with(|report| {
            if report.troubles.len() < KEPT && !report.troubles.contains(&trouble) {
                report.troubles.push(trouble);
            }
        });
    }

    /// A copy of the report.
    pub(super) fn read(&self) -> ProxyReport {
        self.with(|report| report.clone())
    }

    fn with<T>(&self, act: impl FnOnce(&mut ProxyReport) -> T) -> T {
        // No change under the lock can be left half done, thus a poisoned lock is fine.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
