//! Tests of the section `network`: which values are refused, and which network a function gets.

use super::*;
use crate::Network;
use crate::worker_config::{Networks, Subnet};
use proptest::prelude::*;

#[test]
fn a_subnet_is_read_as_it_is_written_and_nothing_else() {
    let read = |text: &str| text.parse::<Subnet>().map(|net| net.to_string());
    assert_eq!(read("10.1.2.0/24"), Ok("10.1.2.0/24".to_owned()));
    assert_eq!(read("10.1.2.3"), Ok("10.1.2.3/32".to_owned()));
    assert_eq!(read("0.0.0.0/0"), Ok("0.0.0.0/0".to_owned()));
    for bad in [
        "10.1.2.3/24",
        "10.1.2.0/33",
        "10.1.2.0/+8",
        "10.1.2.0/",
        "::1/128",
        "host",
        "",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    assert_eq!(
        read("10.1.2.3/24").expect_err("an address inside"),
        "\"10.1.2.3/24\" names an address inside the network; write 10.1.2.0/24 for all of it, or 10.1.2.3/32 for the one"
    );
}

#[test]
fn what_can_never_be_reached_is_refused_with_the_remedy() {
    over(r#"network.allow=["10.0.0.0/8","169.254.169.254"],network.resolvers=["10.0.0.2","::1"]"#)
        .validate()
        .expect("all of these can be");
    for (text, said) in [
        (
            r#"network.allow=["127.0.0.1"]"#,
            "127.0.0.1/32 has addresses of 127.0.0.0/8",
        ),
        (
            r#"network.allow=["0.0.0.0/0"]"#,
            "has addresses of 0.0.0.0/8",
        ),
        (
            r#"network.allow=["100.64.0.0/10"]"#,
            "set network.range to another network",
        ),
        (r#"network.allow=["10.0.0.1/8"]"#, "write 10.0.0.0/8"),
        (
            r#"network.resolvers=["one.one.one.one"]"#,
            "is no IP address",
        ),
        ("network.range=10.0.0.0/25", "use a length from 12 to 24"),
        ("network.range=127.1.0.0/16", "can't be routed"),
        ("network.default=host", "set network.host to true"),
        (
            "network.egress=false,network.default=egress",
            "set network.egress to true",
        ),
    ] {
        assert!(invalid(text).contains(said), "{text}: {}", invalid(text));
    }
    let wrong = defaults().with_overrides("network.allow=10.0.0.0/8");
    assert_eq!(
        wrong.expect_err("no list").to_string(),
        "configuration key `network.allow` takes a list of strings, not \"10.0.0.0/8\"; write for example network.allow=[\"…\"]"
    );
    assert!(load_error(r#"{"network": {"allow": [7]}}"#).contains("takes a list of strings"));
}

#[test]
fn who_does_not_ask_gets_what_there_is_and_who_asks_gets_that_or_is_told() {
    let get = |overrides: &str, unable: Option<&str>, asked| {
        let section = over(overrides).network;
        Networks::new(&section, unable.map(str::to_owned))
            .resolve(asked)
            .map_err(|refused| refused.to_string())
    };
    assert_eq!(get("", None, None), Ok(Network::Egress));
    assert_eq!(get("", Some("no nft"), None), Ok(Network::None));
    assert_eq!(get("network.egress=false", None, None), Ok(Network::None));
    assert_eq!(
        get("", Some("no nft"), Some(Network::Egress)),
        Err("network: egress can't be had on this worker: no nft".to_owned())
    );
    // If the operator asks for egress explicitly, its absence is an error.
    assert!(get("network.default=egress", Some("no nft"), None).is_err());
    assert_eq!(
        get("", Some("no nft"), Some(Network::None)),
        Ok(Network::None)
    );
    assert!(get("", None, Some(Network::Host)).is_err());
    assert_eq!(
        get("network.host=true", None, Some(Network::Host)),
        Ok(Network::Host)
    );
}

proptest! {
    #[test]
    fn two_networks_meet_when_one_holds_the_other(a: u32, b: u32, long in 0_u8..=32, short in 0_u8..=32) {
        let net = |bits: u32, length: u8| {
            let mask = Subnet::mask(length);
            Subnet { address: std::net::Ipv4Addr::from_bits(bits & mask), length }
        };
        let (x, y) = (net(a, long), net(b, short));
        let holds = |outer: Subnet, inner: Subnet| {
            outer.length <= inner.length && net(inner.address.to_bits(), outer.length) == outer
        };
        prop_assert_eq!(x.meets(&y), holds(x, y) || holds(y, x));
        prop_assert!(x.meets(&net(x.address.to_bits(), short)));
    }
}
