//! Gives one sandbox its network once its function is known: an interface to the router, a socket of the worker's inside, or nothing.

use super::netlink::Netlink;
use super::netlink::{Batch, LinkEnd, Mac};
use super::plan::Plan;
use super::router::{Router, current, go_back, remove_all};
use crate::protocol::{Egress, Network, reason};
use ol_sys::namespaces;
use ol_sys::process::Child;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

/// The address at which the proxy of a [`Network::Gate`] is reached from inside.
const GATE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3128);

/// The first interface number for sandboxes in the router.
const FIRST_INDEX: u32 = 1000;
/// The number of a sandbox's own interface in its namespace, after the loopback.
const INNER_INDEX: u32 = 2;

/// How many numbers to try for a link: one may still be in use by a sandbox that the kernel has not finished removing.
const TRIES: u32 = 64;

/// The router's sockets for DNS queries, which the worker gets, and its network namespace.
pub(super) struct RouterSockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
    pub namespace: OwnedFd,
}

/// What a sandbox got of its network.
#[derive(Debug, Default)]
pub(crate) struct SandboxNetwork {
    /// The number of its link, to be released when the sandbox is gone.
    pub link: Option<u32>,
    /// The listening socket of a [`Network::Gate`], for the worker.
    pub gate: Option<OwnedFd>,
}

/// The networks that this warden can give to sandboxes.
pub(crate) struct Networking {
    home: OwnedFd,
    name: String,
    router: Result<Router, String>,
    host: bool,
    next: u32,
    taken: BTreeSet<u32>,
}

impl Networking {
    /// Makes the router, if there is a plan; returns also the message and the descriptors for the worker.
    ///
    /// `host` says whether sandboxes may have the host's network; `name` is the worker's name for its interface and rules on the host.
    pub fn begin(
        plan: Option<&Plan>,
        host: bool,
        name: &str,
    ) -> io::Result<(Self, Egress, Vec<OwnedFd>)> {
        let home = current()?;
        let (router, egress, fds) = match plan.map(|plan| Router::make(plan, name, &home)) {
            None => (
                Err("it is switched off".to_owned()),
                Egress::Off,
                Vec::new(),
            ),
            Some(Err(why)) => {
                let egress = Egress::Unable(reason(&why));
                (Err(why), egress, Vec::new())
            }
            Some(Ok((router, sockets, forwarding_is_new))) => {
                let egress = Egress::On { forwarding_is_new };
                let fds = vec![sockets.udp.into(), sockets.tcp.into()];
                (Ok(router), egress, fds)
            }
        };
        let networking = Self {
            home,
            name: name.to_owned(),
            router,
            host,
            next: 0,
            taken: BTreeSet::new(),
        };
        Ok((networking, egress, fds))
    }

    /// The address at which DNS queries are answered, if there is one.
    pub fn resolver(&self) -> Option<Ipv4Addr> {
        self.router.as_ref().ok().map(|router| router.plan.router())
    }

    /// Why a sandbox can't have `network`; `None` if it can.
    pub fn objection(&self, network: Network) -> Option<String> {
        match (network, &self.router) {
            (Network::Host, _) if !self.host => {
                Some("the host's network is not permitted (network.host)".to_owned())
            }
            (Network::Egress, Err(why)) => Some(format!("there is no egress: {why}")),
            _ => None,
        }
    }

    /// Gives the sandbox of `keeper` what it needs for `network`.
    pub fn fit(&mut self, keeper: &Child, network: Network) -> io::Result<SandboxNetwork> {
        let mut given = SandboxNetwork::default();
        match network {
            Network::None | Network::Host => {}
            Network::Egress => given.link = Some(self.attach(keeper)?),
            Network::Gate => {
                let listener = self.visit(keeper, || TcpListener::bind(GATE));
                given.gate = Some(with_context("open the gate", listener)?.into());
            }
        }
        Ok(given)
    }

    fn visit<T>(&self, keeper: &Child, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        namespaces::join(keeper.pidfd.as_fd(), libc::CLONE_NEWNET)?;
        let done = act();
        go_back(&self.home);
        done
    }

    fn attach(&mut self, keeper: &Child) -> io::Result<u32> {
        let inner = self.visit(keeper, || {
            // Done before there is an interface, which would get an address. A kernel without IPv6 has no such file.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", b"1");
            Netlink::open()
        });
        let inner = with_context("enter its network", inner)?;
        let router = match &self.router {
            Ok(router) => router,
            Err(why) => return Err(io::Error::other(why.clone())),
        };
        let (plan, gateway) = (&router.plan, router.plan.router());
        for _ in 0..TRIES {
            let number = self.next;
            self.next = (self.next + 1) % plan.sandboxes();
            if self.taken.contains(&number) {
                continue;
            }
            let index = FIRST_INDEX + number;
            let address = plan.sandbox(number);
            let [near, far] = [1, 2].map(|end| mac(end, number));
            let name = format!("s{number}");
            let mut outer = Batch::default();
            outer
                .pair(
                    &LinkEnd {
                        index,
                        name: &name,
                        mac: near,
                    },
                    &LinkEnd {
                        index: INNER_INDEX,
                        name: "eth0",
                        mac: far,
                    },
                    keeper.pid,
                )
                .neighbour(index, address, far)
                .route(address, index);
            match router.netlink.run(&outer) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                done => with_context("lay its link", done)?,
            }
            self.taken.insert(number);
            let settled = inner.run(
                Batch::default()
                    .up(INNER_INDEX)
                    .address(INNER_INDEX, address, 32)
                    .neighbour(INNER_INDEX, gateway, near)
                    .route(gateway, INNER_INDEX)
                    .default_route(gateway, INNER_INDEX),
            );
            if settled.is_err() {
                // The caller ends the sandbox, and the link disappears with its namespace.
                self.taken.remove(&number);
            }
            return with_context("address it", settled.map(|()| number));
        }
        Err(io::Error::other(
            "no address is free: set network.range to a larger network",
        ))
    }

    /// Frees the number `link`, whose sandbox is gone.
    pub fn release(&mut self, link: u32) {
        self.taken.remove(&link);
    }

    /// Removes what is on the host; the router disappears with its last socket.
    pub fn end(&self) -> io::Result<()> {
        if self.router.is_ok() {
            remove_all(&self.name)?;
        }
        Ok(())
    }
}

/// The hardware address of one end of a sandbox's link: locally administered, and unique in the router.
fn mac(end: u8, number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    [2, end, a, b, c, d]
}

fn with_context<T>(what: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
}
