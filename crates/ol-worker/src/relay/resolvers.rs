//! Which resolvers to ask: those in the configuration, or those in the host's current `/etc/resolv.conf`.

use ol_model::WorkerConfig;
use std::fs;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const FILE: &str = "/etc/resolv.conf";

/// The most resolvers in the file that are used, as in the C library.
const MOST: usize = 3;

/// The file is read again after this time.
const FRESH: Duration = Duration::from_secs(5);

/// The resolvers, shared between clones.
#[derive(Clone, Debug)]
pub(crate) struct Resolvers(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    /// When the file was read; `None` if the addresses are from the configuration.
    read: Option<Instant>,
}

impl Resolvers {
    /// The resolvers for `config`. Call this before confining the worker: if the file is a link into `/run`, it can't be read afterwards.
    pub(crate) fn of(config: &WorkerConfig) -> Self {
        let configured = config.network_resolvers();
        let known = if configured.is_empty() {
            Known {
                addresses: fs::read_to_string(FILE)
                    .map_or_else(|_| Vec::new(), |text| parse(&text)),
                read: Some(Instant::now()),
            }
        } else {
            Known {
                addresses: configured,
                read: None,
            }
        };
        Self(Arc::new(Mutex::new(known)))
    }

    /// The resolvers to ask now, in order.
    pub(super) fn now(&self) -> Vec<IpAddr> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.read.is_some_and(|read| read.elapsed() > FRESH) {
            known.read = Some(Instant::now());
            let text = fs::read_to_string(FILE).unwrap_or_default();
            let addresses = parse(&text);
            if !addresses.is_empty() {
                known.addresses = addresses;
            }
        }
        known.addresses.clone()
    }
}

/// The addresses in a resolv.conf(5).
fn parse(text: &str) -> Vec<IpAddr> {
    let word = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next()?.parse().ok())
            .flatten()
    };
    text.lines().filter_map(word).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn addresses_are_found_among_what_else_the_file_says() {
        let text = "# nameserver 1.1.1.1\nsearch corp\nnameserver 127.0.0.53\n nameserver\tfd00::1 # two\nnameserver fe80::1%eth0\noptions edns0\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53", "fd00::1"]);
    }
}
