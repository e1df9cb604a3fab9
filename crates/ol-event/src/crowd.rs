//! Limits how many connections, or uploads, there are at once: in all, and from one address, so that one client can't shut out all
//! others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A limited number of places.
pub(crate) struct Crowd {
    all: usize,
    each: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    count: usize,
    of: HashMap<IpAddr, usize>,
}

/// Why a client gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// There is no place left.
    All,
    /// The client's address has as many places as one address may have.
    Each,
}

/// A place that is taken; its drop frees it.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    from: Option<IpAddr>,
}

impl Crowd {
    /// `all` places, of which one address may have `each`.
    pub(crate) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            inside: Mutex::default(),
        })
    }

    /// How many places one address may have.
    pub(crate) fn each(&self) -> usize {
        self.each
    }

    /// Is a place free?
    pub(crate) fn has_room(&self) -> bool {
        self.inside().count < self.all
    }

    /// Takes a place for a client at this address.
    ///
    /// `from` is `None` for the operator, who came by the worker's own socket: he always gets a place, and it isn't counted.
    pub(crate) fn enter(self: &Arc<Self>, from: Option<IpAddr>) -> Result<Place, Full> {
        let from = from.map(network);
        if let Some(from) = from {
            let mut inside = self.inside();
            if inside.count >= self.all {
                return Err(Full::All);
            }
            let of = inside.of.entry(from).or_default();
            if *of >= self.each {
                return Err(Full::Each);
            }
            *of += 1;
            inside.count += 1;
        }
        Ok(Place {
            crowd: Arc::clone(self),
            from,
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut inside = self.crowd.inside();
        inside.count -= 1;
        if let Some(of) = inside.of.get_mut(&from) {
            *of -= 1;
            if *of == 0 {
                inside.of.remove(&from);
            }
        }
    }
}

/// What counts as one address: of IPv6 only the first 64 bits, since one client usually has all addresses that begin with them.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let half = u128::from(six) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(half))
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let crowd = Crowd::new(3, 2);
        let first = crowd.enter(at("10.0.0.1"));
        let second = crowd.enter(at("10.0.0.1"));
        assert!(first.is_ok() && second.is_ok());
        // The same address, written otherwise.
        assert_eq!(crowd.enter(at("::ffff:10.0.0.1")).err(), Some(Full::Each));
        let third = crowd.enter(at("10.0.0.2"));
        assert!(third.is_ok() && !crowd.has_room());
        assert_eq!(crowd.enter(at("10.0.0.3")).err(), Some(Full::All));
        assert!(crowd.enter(None).is_ok());
        drop(first);
        assert!(crowd.has_room() && crowd.enter(at("10.0.0.1")).is_ok());
        drop((second, third));
        assert!(crowd.inside().of.is_empty() && crowd.inside().count == 0);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let crowd = Crowd::new(9, 1);
        let first = crowd.enter(at("2001:db8::1"));
        assert!(first.is_ok());
        assert_eq!(crowd.enter(at("2001:db8::2:3")).err(), Some(Full::Each));
        assert!(crowd.enter(at("2001:db8:0:1::1")).is_ok());
    }
}
