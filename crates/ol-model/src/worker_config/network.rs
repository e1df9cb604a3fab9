//! The section `network`: its texts as addresses, which values are refused, and which network a function gets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::error::WorkerConfigError;
use super::validate::value;
use super::words::DefaultNetwork;
use super::{NetworkSection, WorkerConfig};
use crate::function_config::Network;

/// An IPv4 network, as `10.1.2.0/24`. No bit of the address is set beyond its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its first address.
    pub address: Ipv4Addr,
    /// How many leading bits all its addresses share, 0 to 32.
    pub length: u8,
}

impl Subnet {
    pub(super) fn mask(length: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }

    /// Whether the two networks have an address in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let mask = Self::mask(self.length.min(other.length));
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// Reads `ADDRESS/LENGTH`, or an address alone, which is a network of one.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| {
            format!(
                "{text:?} is no IPv4 network; write it as 10.1.2.0/24, or one address as 10.1.2.3"
            )
        })?;
        let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
        let length: u8 = digits
            .then(|| length.parse().ok())
            .flatten()
            .filter(|length| *length <= 32)
            .ok_or_else(|| format!("{text:?} has no length from 0 to 32 behind the slash"))?;
        let network = Ipv4Addr::from_bits(address.to_bits() & Self::mask(length));
        if network != address {
            return Err(format!(
                "{text:?} names an address inside the network; write {network}/{length} for all of it, or {address}/32 for the one"
            ));
        }
        Ok(Self { address, length })
    }
}

/// Networks that can't be allowed: loopback, which is the sandbox's own, "this network" and multicast.
const NEVER: [Subnet; 3] = [
    Subnet {
        address: Ipv4Addr::new(0, 0, 0, 0),
        length: 8,
    },
    Subnet {
        address: Ipv4Addr::new(127, 0, 0, 0),
        length: 8,
    },
    Subnet {
        address: Ipv4Addr::new(224, 0, 0, 0),
        length: 3,
    },
];

pub(super) fn validate(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    let section = &config.network;
    let range: Subnet = section
        .range
        .parse()
        .map_err(|message| value("network.range", message))?;
    if !(12..=24).contains(&range.length) {
        let message = format!("{range} has an unfit size; use a length from 12 to 24");
        return Err(value("network.range", message));
    }
    let never = |net: &Subnet| NEVER.iter().find(|never| never.meets(net)).copied();
    if let Some(never) = never(&range) {
        let message = format!("{range} lies in {never}, which can't be routed; use a private one");
        return Err(value("network.range", message));
    }
    for text in &section.allow {
        let net: Subnet = text
            .parse()
            .map_err(|message| value("network.allow", message))?;
        let refuse = |message: String| Err(value("network.allow", message));
        if let Some(never) = never(&net) {
            return refuse(format!(
                "{net} has addresses of {never}, which never leave a machine; name the addresses that are meant"
            ));
        }
        if net.meets(&range) {
            return refuse(format!(
                "{net} has addresses of sandboxes in it; set network.range to another network"
            ));
        }
    }
    if let Some(text) = section
        .resolvers
        .iter()
        .find(|text| text.parse::<IpAddr>().is_err())
    {
        let message = format!("{text:?} is no IP address; write it as 10.0.0.2, without a port");
        return Err(value("network.resolvers", message));
    }
    let needs = |word, key: &str| {
        let message = format!("{word} is not permitted by this configuration; set {key} to true");
        Err(value("network.default", message))
    };
    match section.default {
        DefaultNetwork::Egress if !section.egress => needs("egress", "network.egress"),
        DefaultNetwork::Host if !section.host => needs("host", "network.host"),
        _ => Ok(()),
    }
}

impl WorkerConfig {
    /// The private networks that `egress` reaches. Texts that `validate` refuses are left out.
    #[must_use]
    pub fn network_allow(&self) -> Vec<Subnet> {
        let texts = self.network.allow.iter();
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// The network from which sandboxes' addresses are taken; `None` for a text that `validate` refuses.
    #[must_use]
    pub fn network_range(&self) -> Option<Subnet> {
        self.network.range.parse().ok()
    }

    /// The resolvers to which functions' DNS queries go; if empty, the host's.
    #[must_use]
    pub fn network_resolvers(&self) -> Vec<IpAddr> {
        let texts = self.network.resolvers.iter();
        texts.filter_map(|text| text.parse().ok()).collect()
    }
}

/// The networks that a worker has for functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks {
    default: DefaultNetwork,
    host: bool,
    /// Why there is no `egress`; `None` if there is.
    no_egress: Option<String>,
}

/// Why a function doesn't get the network that it asks for. `Display` is for the function's owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRefused {
    /// The worker has no `egress`.
    #[error("network: egress can't be had on this worker: {0}")]
    NoEgress(String),
    /// The operator doesn't permit the host's network.
    #[error(
        "network: host is not permitted on this worker; its operator can set network.host to true"
    )]
    NoHost,
}

impl Networks {
    /// The networks of a worker with this configuration; `unable` says why the machine can't provide `egress`, if it can't.
    #[must_use]
    pub fn new(section: &NetworkSection, unable: Option<String>) -> Self {
        let off = || "it is switched off; its operator can set network.egress to true".to_owned();
        Self {
            default: section.default,
            host: section.host,
            no_egress: unable.or_else(|| (!section.egress).then(off)),
        }
    }

    /// The network of a function that asks for `asked`.
    ///
    /// # Errors
    /// When the function can't have that network.
    pub fn resolve(&self, asked: Option<Network>) -> Result<Network, NetworkRefused> {
        let wanted = asked.unwrap_or(match self.default {
            DefaultNetwork::Auto if self.no_egress.is_some() => Network::None,
            DefaultNetwork::Auto | DefaultNetwork::Egress => Network::Egress,
            DefaultNetwork::None => Network::None,
            DefaultNetwork::Host => Network::Host,
        });
        match (wanted, &self.no_egress) {
            (Network::Egress, Some(why)) => Err(NetworkRefused::NoEgress(why.clone())),
            (Network::Host, _) if !self.host => Err(NetworkRefused::NoHost),
            _ => Ok(wanted),
        }
    }
}
