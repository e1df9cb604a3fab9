//! The router: a network namespace of this worker's own between its sandboxes and the host.
//!
//! It is made once, before any sandbox. It exists as long as a process holds a socket in it, and its uplink exists as long as it.

use super::link::RouterSockets;
use super::netlink::{Batch, LinkEnd, Netlink, remove_table};
use super::plan::{Plan, Uplink};
use super::rules::{self, UPLINK};
use ol_sys::process::exit_now;
use ol_sys::{loopback, namespaces};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The message for a machine without `nft`.
pub const NFT_MISSING: &str =
    "there is no nft: install nftables (apt-get install nftables), then start the worker again";

const LOOPBACK: u32 = 1;
/// The number of the router's end of the uplink.
const UP: u32 = 2;

/// The router, once it was made.
pub(super) struct Router {
    /// Opened inside the router's namespace.
    pub netlink: Netlink,
    pub plan: Plan,
}

/// The path of `nft`. `PATH` is not searched, since it may be set by whoever starts the worker.
#[must_use]
pub fn find_nft() -> Option<PathBuf> {
    ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/bin/nft"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// The calling thread's network namespace.
pub(super) fn current() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        CWD,
        "/proc/self/ns/net",
        flags,
        Mode::empty(),
    )?)
}

/// Goes back to the network namespace `home`, or exits.
///
/// In another namespace, whatever the warden did next would be in the wrong place. When it exits, the kernel ends all sandboxes.
pub(super) fn go_back(home: &OwnedFd) {
    if namespaces::join(home.as_fd(), libc::CLONE_NEWNET).is_err() {
        exit_now(70);
    }
}

impl Router {
    /// Makes the router, with its rules and the host's; returns also whether packet forwarding on the host was off before.
    ///
    /// `name` is the name of the uplink and of the table of rules on the host.
    ///
    /// # Errors
    /// A sentence, with the remedy where there is one. Nothing remains on the host then.
    pub fn make(
        plan: &Plan,
        name: &str,
        home: &OwnedFd,
    ) -> Result<(Self, RouterSockets, bool), String> {
        let nft = find_nft().ok_or(NFT_MISSING)?;
        namespaces::leave(libc::CLONE_NEWNET).map_err(with_context("make a network namespace"))?;
        let made = inside(plan, &nft);
        go_back(home);
        let (netlink, sockets) = made?;
        let router = Self {
            netlink,
            plan: plan.clone(),
        };
        match router.connect(name, &nft, &sockets) {
            Ok(turned_on) => Ok((router, sockets, turned_on)),
            Err(why) => {
                // If this fails, the next start removes what is left.
                let _ = remove_all(name);
                Err(why)
            }
        }
    }

    /// Makes the uplink between host and router; returns whether packet forwarding on the host was off before.
    fn connect(&self, name: &str, nft: &Path, sockets: &RouterSockets) -> Result<bool, String> {
        let uplink = self.plan.uplinks(name).find(|uplink| !is_taken(uplink));
        let uplink = uplink.ok_or(
            "every uplink's address is in use: set network.range to a network that nothing else uses",
        )?;
        let Uplink { host, router } = uplink;
        // The rules come first, so that the uplink never exists without them.
        load(nft, &rules::of_host(&self.plan, name, &uplink))?;
        let ends = [
            ([2, 0x6f, 0x6c, 0, 0, 1], name),
            ([2, 0x6f, 0x6c, 0, 0, 2], UPLINK),
        ];
        let [near, far] = ends.map(|(mac, name)| LinkEnd {
            index: 0,
            name,
            mac,
        });
        let far = LinkEnd { index: UP, ..far };
        let netlink = Netlink::open().map_err(with_context("open rtnetlink"))?;
        // The kernel chooses the number of the host's end, since others make interfaces there too.
        netlink
            .run(Batch::default().pair_into(&near, &far, sockets.namespace.as_fd()))
            .map_err(with_context("make the uplink"))?;
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), b"1");
        let index = rustix::net::netdevice::name_to_index(
            &UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(with_context("make a socket"))?,
            name,
        )
        .map_err(|e| with_context("find the uplink")(e.into()))?;
        netlink
            .run(
                Batch::default()
                    .address(index, host, 31)
                    .neighbour(index, router, far.mac),
            )
            .map_err(with_context("address the uplink"))?;
        self.netlink
            .run(
                Batch::default()
                    .up(UP)
                    .address(UP, router, 31)
                    .neighbour(UP, host, near.mac)
                    .default_route(host, UP),
            )
            .map_err(with_context("address the router"))?;
        forward()
    }
}

/// Sets up the router's namespace; called inside it.
fn inside(plan: &Plan, nft: &Path) -> Result<(Netlink, RouterSockets), String> {
    for (key, value) in [
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
    ] {
        let path = format!("/proc/sys/net/{key}");
        // A kernel without IPv6 has no such files.
        if Path::new(&path).exists() {
            fs::write(&path, value).map_err(with_context(&format!("write {value} to {path}")))?;
        }
    }
    load(nft, &rules::of_router(plan))?;
    loopback::up().map_err(with_context("bring loopback up"))?;
    let netlink = Netlink::open().map_err(with_context("open rtnetlink"))?;
    let router = plan.router();
    netlink
        .run(Batch::default().address(LOOPBACK, router, 32))
        .map_err(with_context("address the router"))?;
    let at = SocketAddrV4::new(router, 53);
    let sockets = RouterSockets {
        udp: UdpSocket::bind(at).map_err(with_context("listen for questions"))?,
        tcp: TcpListener::bind(at).map_err(with_context("listen for questions"))?,
        namespace: current().map_err(with_context("open the namespace"))?,
    };
    Ok((netlink, sockets))
}

/// Whether this machine uses the address of either end already.
///
/// A socket that is connected to one of the machine's own addresses gets that same address as its local one.
fn is_taken(uplink: &Uplink) -> bool {
    [uplink.host, uplink.router].into_iter().any(|address| {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.connect((address, 9)).map(|()| socket))
            .and_then(|socket| socket.local_addr())
            .is_ok_and(|own| own.ip() == address)
    })
}

/// Switches on packet forwarding on the host; returns true if it was off.
fn forward() -> Result<bool, String> {
    const FILE: &str = "/proc/sys/net/ipv4/ip_forward";
    let before = fs::read_to_string(FILE).map_err(with_context(&format!("read {FILE}")))?;
    let off = before.trim() == "0";
    if off {
        fs::write(FILE, "1").map_err(with_context(&format!(
            "write 1 to {FILE} (run `sysctl net.ipv4.ip_forward=1`)"
        )))?;
    }
    Ok(off)
}

/// Has `nft` load a program in the current network namespace: all of it or nothing.
fn load(nft: &Path, program: &str) -> Result<(), String> {
    let child = Command::new(nft)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(with_context("start nft"))?;
    if let Some(mut input) = child.stdin.take() {
        // If nft exits before it has read everything, its error output says why.
        let _ = input.write_all(program.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(with_context("wait for nft"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it says nothing");
    Err(format!(
        "nft refused the rules ({first}): it takes a kernel with nf_tables, NAT, fib and connlimit (most distributions' has them)"
    ))
}

/// Removes the uplink and the table of rules of the worker `name` from the host; returns how many of the two there were.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_all(name: &str) -> io::Result<usize> {
    let link = match Netlink::open()?.run(Batch::default().remove_link(name)) {
        Ok(()) => 1,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => 0,
        Err(error) => return Err(error),
    };
    Ok(link + usize::from(remove_table(name)?))
}

fn with_context(what: &str) -> impl Fn(io::Error) -> String {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}
