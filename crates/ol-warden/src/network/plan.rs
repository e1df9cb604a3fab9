//! The addresses of a worker's network, as numbers. Pure.
//!
//! ```text
//!   first half of the range              second half
//!   .0 unused  .1 the router  .2/.3 …    one address for each sandbox, by number
//!                             a pair for each worker's uplink
//! ```

use std::net::Ipv4Addr;

/// A network: its first address, and the length of its prefix in bits.
pub type Net = (Ipv4Addr, u8);

/// What the operator configures of the network of functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The network from which addresses are taken; its prefix has 12 to 24 bits.
    pub range: Net,
    /// Private networks that sandboxes can reach all the same.
    pub allow: Vec<Net>,
}

/// The two ends of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uplink {
    pub host: Ipv4Addr,
    pub router: Ipv4Addr,
}

impl Plan {
    fn first(&self) -> u32 {
        self.range.0.to_bits()
    }

    fn half(&self) -> u32 {
        1 << (31 - u32::from(self.range.1.clamp(1, 24)))
    }

    /// The router's address for sandboxes: their gateway and DNS server.
    pub fn router(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first() + 1)
    }

    /// How many sandboxes can have an address.
    pub(super) fn sandboxes(&self) -> u32 {
        // Without the last address, which programs take for the broadcast address.
        self.half() - 1
    }

    /// The address of sandbox `number`, which is below [`Self::sandboxes`].
    pub(super) fn sandbox(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first() + self.half() + number)
    }

    /// The uplinks that a worker may take, in the order in which it tries them. Where it begins depends on its `prefix`.
    pub(super) fn uplinks(&self, prefix: &str) -> impl Iterator<Item = Uplink> {
        let pairs = self.half() / 2 - 1;
        let seed = prefix
            .bytes()
            .fold(0_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        let first = self.first();
        (0..pairs).map(move |try_number| {
            let pair = (seed % pairs + try_number) % pairs + 1;
            let host = first + 2 * pair;
            Uplink {
                host: Ipv4Addr::from_bits(host),
                router: Ipv4Addr::from_bits(host + 1),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn nobody_has_anothers_address(length in 12_u8..=24, prefix in "[a-z0-9-]{1,11}", a: u32, b: u32) {
            let plan = Plan { range: ("10.0.0.0".parse().expect("an address"), length), allow: Vec::new() };
            let (a, b) = (a % plan.sandboxes(), b % plan.sandboxes());
            let mut all = BTreeSet::from([plan.router(), plan.sandbox(a), plan.sandbox(b)]);
            prop_assert_eq!(all.len(), if a == b { 2 } else { 3 });
            for uplink in plan.uplinks(&prefix).take(300) {
                prop_assert!(all.insert(uplink.host) && all.insert(uplink.router));
            }
            let end = 0x0A00_0000 + (1_u64 << (32 - u32::from(length)));
            prop_assert!(all.iter().all(|address| (0x0A00_0001..end - 1).contains(&u64::from(address.to_bits()))));
        }
    }
}
