//! Sets up interfaces, addresses, routes and neighbours by rtnetlink(7), and removes a table by nfnetlink.
//!
//! A batch is sent in one system call, and the kernel has carried it out when that call returns.

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A hardware address.
pub(super) type Mac = [u8; 6];

const INET: u8 = 2;
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// Create the object, and fail if it exists (`NLM_F_CREATE | NLM_F_EXCL`).
const CREATE: u16 = 0x400 | 0x200;
/// The type of an acknowledgement (`NLMSG_ERROR`).
const ERROR: u16 = 2;

const UP: u32 = 1;
/// No ARP: all neighbours are set by hand, so nobody asks for one, and nobody can answer in another's place.
const NO_ARP: u32 = 0x80;

/// A netlink socket, bound to the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

/// One end of a pair of interfaces.
pub(super) struct LinkEnd<'a> {
    /// The interface's number in its namespace.
    pub index: u32,
    pub name: &'a str,
    pub mac: Mac,
}

/// Messages that are sent together.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    count: u32,
    /// Where each message or attribute begins that is not complete yet.
    open: Vec<usize>,
}

impl Netlink {
    /// Opens a socket for rtnetlink in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        // rtnetlink is protocol 0, which is what `None` stands for.
        Self::of(None)
    }

    fn of(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends `batch` and waits for the answers. Returns the first error; the other messages are carried out all the same.
    pub fn run(&self, batch: &Batch) -> io::Result<()> {
        send(&self.0, &batch.bytes, SendFlags::empty())?;
        let mut first = Ok(());
        let mut missing = batch.count;
        let mut space = [0_u8; 8192];
        while missing > 0 {
            let (length, _) = match recv(&self.0, &mut space, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            let mut rest = space.get(..length).unwrap_or_default();
            while let Some(error) = acknowledgement(&mut rest) {
                missing = missing.saturating_sub(1);
                if error != 0 && first.is_ok() {
                    first = Err(io::Error::from_raw_os_error(-error));
                }
            }
        }
        first
    }
}

/// Takes one acknowledgement off `rest`, and returns the error number in it; 0 means success.
fn acknowledgement(rest: &mut &[u8]) -> Option<i32> {
    let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
    let error = i32::from_ne_bytes(*rest.get(16..)?.first_chunk()?);
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    (kind == ERROR).then_some(error)
}

impl Batch {
    fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) -> &mut Self {
        self.open.push(self.bytes.len());
        self.count += u32::from(flags & ACK != 0);
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(header);
        self
    }

    fn end(&mut self) -> &mut Self {
        let at = self.open.pop().unwrap_or_default();
        let length = u32::try_from(self.bytes.len() - at).unwrap_or(u32::MAX);
        if let Some(field) = self.bytes.get_mut(at..at + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind);
        self.bytes.extend(value);
        self.unnest()
    }

    fn nest(&mut self, kind: u16) -> &mut Self {
        self.open.push(self.bytes.len());
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        self
    }

    fn unnest(&mut self) -> &mut Self {
        let at = self.open.pop().unwrap_or_default();
        let length = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn named(&mut self, kind: u16, text: &str) -> &mut Self {
        self.attribute(kind, &[text.as_bytes(), b"\0"].concat())
    }

    /// Makes a pair of interfaces: `near` here and up, `far` in the network namespace of process `pid`.
    ///
    /// `far` is down and must be [raised](Self::up) afterwards: the kernel can't do that while it makes the pair.
    pub fn pair(&mut self, near: &LinkEnd<'_>, far: &LinkEnd<'_>, pid: i32) -> &mut Self {
        const NS_PID: u16 = 19;
        self.pair_in(near, far, NS_PID, pid)
    }

    /// Like [`Self::pair`], with `far` in `namespace`.
    pub fn pair_into(
        &mut self,
        near: &LinkEnd<'_>,
        far: &LinkEnd<'_>,
        namespace: BorrowedFd<'_>,
    ) -> &mut Self {
        const NS_FD: u16 = 28;
        self.pair_in(near, far, NS_FD, namespace.as_raw_fd())
    }

    fn pair_in(
        &mut self,
        near: &LinkEnd<'_>,
        far: &LinkEnd<'_>,
        kind: u16,
        place: i32,
    ) -> &mut Self {
        const ADDRESS: u16 = 1;
        const NAME: u16 = 3;
        const INFO: u16 = 18;
        const INFO_KIND: u16 = 1;
        const INFO_DATA: u16 = 2;
        const PEER: u16 = 1;
        self.begin(
            NEW_LINK,
            ACK | CREATE,
            &link_header(near.index, UP | NO_ARP),
        );
        self.named(NAME, near.name).attribute(ADDRESS, &near.mac);
        self.nest(INFO).attribute(INFO_KIND, b"veth");
        self.nest(INFO_DATA).nest(PEER);
        self.bytes.extend(link_header(far.index, NO_ARP));
        self.named(NAME, far.name)
            .attribute(ADDRESS, &far.mac)
            .attribute(kind, &place.to_ne_bytes());
        self.unnest().unnest().unnest().end()
    }

    /// Raises interface `index`.
    pub fn up(&mut self, index: u32) -> &mut Self {
        self.begin(NEW_LINK, ACK, &link_header(index, UP | NO_ARP))
            .end()
    }

    /// Removes the interface of this name, and with it the other end of its pair.
    pub fn remove_link(&mut self, name: &str) -> &mut Self {
        self.begin(DEL_LINK, ACK, &[0; 16]).named(3, name).end()
    }

    /// Gives interface `index` an address whose network has a prefix of `length` bits.
    pub fn address(&mut self, index: u32, address: Ipv4Addr, length: u8) -> &mut Self {
        let mut header = [INET, length, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        self.begin(NEW_ADDRESS, ACK | CREATE, &header);
        self.attribute(1, &address.octets())
            .attribute(2, &address.octets())
            .end()
    }

    /// Adds the route to one address: directly through interface `index`.
    pub fn route(&mut self, to: Ipv4Addr, index: u32) -> &mut Self {
        const LINK_SCOPE: u8 = 253;
        self.route_header(32, LINK_SCOPE);
        self.attribute(1, &to.octets())
            .attribute(4, &index.to_ne_bytes())
            .end()
    }

    /// Adds the default route, through `gateway`.
    pub fn default_route(&mut self, gateway: Ipv4Addr, index: u32) -> &mut Self {
        self.route_header(0, 0);
        self.attribute(5, &gateway.octets())
            .attribute(4, &index.to_ne_bytes())
            .end()
    }

    fn route_header(&mut self, length: u8, scope: u8) {
        const MAIN: u8 = 254;
        const STATIC: u8 = 4;
        const UNICAST: u8 = 1;
        let header = [INET, length, 0, 0, MAIN, STATIC, scope, UNICAST, 0, 0, 0, 0];
        self.begin(NEW_ROUTE, ACK | CREATE, &header);
    }

    /// Sets the hardware address of the neighbour `address` behind interface `index`, for good.
    ///
    /// Entries that are not permanent count towards a limit of a thousand that the whole machine shares.
    pub fn neighbour(&mut self, index: u32, address: Ipv4Addr, mac: Mac) -> &mut Self {
        const PERMANENT: u16 = 0x80;
        let mut header = [0; 12];
        header[0] = INET;
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
        // Replaces an entry that is left from the sandbox that had the address before (`NLM_F_CREATE | NLM_F_REPLACE`).
        self.begin(NEW_NEIGHBOUR, ACK | 0x400 | 0x100, &header);
        self.attribute(1, &address.octets())
            .attribute(2, &mac)
            .end()
    }
}

fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&(UP | NO_ARP).to_ne_bytes());
    header
}

/// Removes the nftables table `name` of family inet; false if there is none.
pub(super) fn remove_table(name: &str) -> io::Result<bool> {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const SUBSYSTEM: u16 = 10;
    const DELETE: u16 = 2;
    const FAMILY_INET: u8 = 1;
    let socket = match Netlink::of(Some(netlink::NETFILTER)) {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(false),
        other => other?,
    };
    let mut batch = Batch::default();
    let whole = [0, 0, 0, 10];
    batch.begin(BATCH_BEGIN, 0, &whole).end();
    batch
        .begin(SUBSYSTEM << 8 | DELETE, ACK, &[FAMILY_INET, 0, 0, 0])
        .named(1, name)
        .end();
    batch.begin(BATCH_END, 0, &whole).end();
    match socket.run(&batch) {
        Ok(()) => Ok(true),
        // There is no such table, or the kernel has no nftables.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
