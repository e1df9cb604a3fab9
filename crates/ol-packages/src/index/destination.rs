//! A place that an installer may reach: a host, a port, and whether it may lie in the operator's own networks.
//!
//! The owner of a domain can point its names to any address. Thus a name that the operator didn't write must lead to a public address; only
//! the operator's own index may be on this machine or in a private network. Link-local addresses are never a package index: at
//! 169.254.169.254 clouds give a machine its keys.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses a name may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Public addresses only.
    Public,
    /// Also addresses of private networks and of this machine: the operator configured this host.
    Own,
}

/// A host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// Lower case, without a final dot; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Which addresses the name may lead to.
    pub reach: Reach,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Reach {
    /// Whether a name with this reach may lead to `address`.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match (self, kind(address)) {
            (_, AddressKind::Public) | (Reach::Own, AddressKind::Private) => true,
            (Reach::Public, AddressKind::Private) | (_, AddressKind::Never) => false,
        }
    }
}

enum AddressKind {
    Public,
    Private,
    Never,
}

fn kind(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(address: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = address.octets();
    let measured = a == 198 && b & 0xfe == 18;
    if address.is_loopback() || address.is_private() || (a == 100 && b & 0xc0 == 64) || measured {
        return AddressKind::Private; // 198.18/15 is for measurements; 100.64/10 is shared between a provider's customers
    }
    // Addresses of 0/8 reach this machine; 192.0.0.0/24 also holds a cloud's metadata service; from 224 on: multicast and reserved.
    if a == 0 || address.is_link_local() || (a, b, c) == (192, 0, 0) || a >= 224 {
        return AddressKind::Never;
    }
    AddressKind::Public
}

fn kind_v6(address: Ipv6Addr) -> AddressKind {
    let part = address.segments();
    let last_v4 = || {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    if address.is_loopback() || part[0] & 0xfe00 == 0xfc00 {
        // At fd00:ec2::254, within the private range, AWS gives machines their keys.
        return if part[..2] == [0xfd00, 0x0ec2] {
            AddressKind::Never
        } else {
            AddressKind::Private
        };
    }
    // Teredo addresses embed an IPv4 address; 64:ff9b:1::/48 leads wherever a site chooses; fec0::/10 is the old site-local range.
    if part[..2] == [0x2001, 0] || part[..3] == [0x64, 0xff9b, 1] || part[0] & 0xffc0 == 0xfec0 {
        return AddressKind::Never;
    }
    if address.is_unspecified() || part[0] & 0xffc0 == 0xfe80 || part[0] & 0xff00 == 0xff00 {
        return AddressKind::Never;
    }
    // IPv6 addresses that embed an IPv4 address: mapped, compatible, NAT64, 6to4. The embedded address decides.
    if part[..5] == [0; 5] && matches!(part[5], 0 | 0xffff)
        || part[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
    {
        return kind_v4(last_v4());
    }
    if part[0] == 0x2002 {
        let [_, _, a, b, c, d, ..] = address.octets();
        return kind_v4(Ipv4Addr::new(a, b, c, d));
    }
    AddressKind::Public
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_others_must_lead_to_the_internet() {
        let allowed = |text: &str| {
            let address = text.parse().expect("an address");
            (Reach::Public.allows(address), Reach::Own.allows(address))
        };
        for public in [
            "151.101.0.223",
            "1.1.1.1",
            "2a04:4e42::223",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(allowed(public), (true, true), "{public}");
        }
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:0001::1",
            "198.18.0.1",
            "::127.0.0.1",
        ] {
            assert_eq!(allowed(private), (false, true), "{private}");
        }
        for never in [
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "fe80::1",
            "fec0::1",
            "2001::1",
            "64:ff9b:1::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
        ] {
            assert_eq!(allowed(never), (false, false), "{never}");
        }
    }
}
