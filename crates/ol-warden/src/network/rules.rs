//! The packet filter's rules, as input for `nft -f -`. Pure.
//!
//! They are loaded once, at start; making or ending a sandbox changes nothing in them.

use super::plan::{Net, Plan, Uplink};
use std::fmt::Write;

/// The router's end of the uplink.
pub(super) const UPLINK: &str = "up";

/// Addresses that are not public (the special-purpose registry of RFC 6890, and multicast).
const PRIVATE: [&str; 14] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// The most tracked connections that a sandbox may have at a time; the host's connection table is shared by everything on it.
const CONNECTIONS: u32 = 1024;

fn net((address, length): &Net) -> String {
    format!("{address}/{length}")
}

/// The definition of a set of networks, without `elements` if it is empty, since `nft` takes no empty list.
fn set(name: &str, elements: &[String]) -> String {
    let elements = if elements.is_empty() {
        String::new()
    } else {
        format!("elements = {{ {} }};", elements.join(", "))
    };
    format!("set {name} {{ type ipv4_addr; flags interval; auto-merge; {elements} }}")
}

/// The router's rules. `s*` are the sandboxes' interfaces.
pub(super) fn of_router(plan: &Plan) -> String {
    let private: Vec<String> = PRIVATE
        .iter()
        .map(|net| (*net).to_owned())
        .chain([net(&plan.range)])
        .collect();
    let allowed: Vec<String> = plan.allow.iter().map(net).collect();
    let (private, allowed) = (set("private", &private), set("allowed", &allowed));
    let router = plan.router();
    format!(
        "table inet ol {{
  {private}
  {allowed}
  set connections {{ type ipv4_addr; size 65535; flags dynamic; }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    meta nfproto != ipv4 drop
    iifname \"s*\" fib saddr . iif oif missing drop
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname \"s*\" ip daddr {router} udp dport 53 accept
    iifname \"s*\" ip daddr {router} tcp dport 53 accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state != new drop
    iifname != \"s*\" drop
    oifname != \"{UPLINK}\" reject with icmp type admin-prohibited
    ip daddr != @allowed ip daddr @private reject with icmp type admin-prohibited
    add @connections {{ ip saddr ct count over {CONNECTIONS} }} reject with icmp type admin-prohibited
    accept
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    meta nfproto != ipv4 drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"{UPLINK}\" masquerade
  }}
}}
"
    )
}

/// The host's rules, in a table of the worker's own. They concern only packets that come from the uplink `name` or go there.
pub(super) fn of_host(plan: &Plan, name: &str, uplink: &Uplink) -> String {
    // Allowing a whole network must not give access to the host's own addresses in it; a host address allowed by itself does.
    let named: Vec<String> = plan
        .allow
        .iter()
        .filter(|(_, length)| *length == 32)
        .map(net)
        .collect();
    let named = set("named", &named);
    let router = uplink.router;
    let mut text = String::new();
    let _ = write!(
        text,
        "table inet {name} {{
  {named}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname != \"{name}\" accept
    meta nfproto != ipv4 drop
    ip saddr != {router} drop
    ip daddr @named accept
    fib daddr type != unicast reject with icmp type admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname \"{name}\" ip daddr != @named drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname \"{name}\" tcp flags syn tcp option maxseg size set rt mtu
    oifname \"{name}\" ct state established,related accept
    oifname \"{name}\" drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iifname \"{name}\" masquerade
  }}
}}
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_in_the_router_and_only_what_is_named_alone_on_the_host() {
        let address = |text: &str| text.parse().expect("an address");
        let plan = Plan {
            range: (address("100.127.0.0"), 16),
            allow: vec![(address("10.0.0.0"), 8), (address("192.168.1.7"), 32)],
        };
        let router = of_router(&plan);
        assert!(router.contains("auto-merge; elements = { 10.0.0.0/8, 192.168.1.7/32 };"));
        assert!(router.contains("224.0.0.0/3, 100.127.0.0/16 };"));
        assert!(router.contains("ip daddr 100.127.0.1 udp dport 53 accept"));
        let uplink = plan.uplinks("ol-1").next().expect("one");
        let host = of_host(&plan, "ol-1", &uplink);
        assert!(host.contains("elements = { 192.168.1.7/32 };"));
        assert!(!host.contains("10.0.0.0/8"));
        assert!(host.contains(&format!("ip saddr != {} drop", uplink.router)));
        let none = Plan {
            allow: Vec::new(),
            ..plan
        };
        assert!(of_router(&none).contains("auto-merge;  }"));
    }
}
