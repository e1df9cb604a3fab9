//! The messages between worker and warden: one datagram each on a SEQPACKET socket, descriptors beside them.
//!
//! Requests hold only numbers, flags and enums, no path and no name: code is identified by the number of its directory. Thus the
//! warden resolves nothing that a tenant wrote.

use crate::cgroup::GroupLimits;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The protocol's version, raised whenever a message changes its shape.
///
/// Both ends belong to one program, so a difference means that two versions are installed at once.
pub const VERSION: u16 = 4;

/// The longest message in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// The most descriptors sent with one message.
pub const MAX_FDS: usize = 4;

/// A sandbox's number. The worker chooses it, and never uses one twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxId(pub u64);

/// The number of a code directory, which is its name beneath the directory of code that both ends know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CodeId(pub u64);

/// Which part of the package store a sandbox sees at `/packages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packages {
    /// Nothing.
    #[default]
    None,
    /// The packages that a layout directory names. It lies beneath the directory of code and holds one empty directory per package.
    /// For an entry `NAME` the sandbox sees the store's `NAME/files`; for a name that begins with a dot, the store's whole entry.
    Named(CodeId),
    /// The whole store.
    All,
}

/// How a sandbox reaches a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// An empty namespace with loopback only.
    #[default]
    None,
    /// A namespace of its own, from which the Internet is reached but no private address.
    Egress,
    /// The host's namespace. Only for sandboxes that are started anew: a zygote's children can't join the host's namespace.
    Host,
    /// As [`Self::None`]; in addition the worker gets a socket that listens inside, at 127.0.0.1:3128.
    Gate,
}

/// Whether sandboxes can have [`Network::Egress`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    /// They can. With it come a UDP and a listening TCP socket, to which sandboxes send their DNS queries.
    On {
        /// The warden has just switched on packet forwarding on the host; it was off before.
        forwarding_is_new: bool,
    },
    /// The configuration doesn't ask for it.
    Off,
    /// This machine can't provide it, for this reason.
    Unable(String),
}

/// What a sandbox is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The sandbox serves calls.
    #[default]
    Leaf,
    /// The sandbox forks other sandboxes.
    Zygote {
        /// How many shells to keep ready for its children, at most.
        shells: u16,
    },
}

impl Role {
    /// Whether the role is that of a zygote.
    pub fn is_zygote(self) -> bool {
        self != Self::Leaf
    }
}

/// A sandbox to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What it is for.
    pub role: Role,
    /// The zygote to fork it from; if `None`, its program is started anew.
    pub parent: Option<SandboxId>,
    /// What it may use and what it sees.
    pub content: Content,
}

/// The part of a [`Spec`] that can also be set on a sandbox that runs already ([`Request::Assign`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// What it may use.
    pub limits: GroupLimits,
    /// Size of its scratch (`/host`, `/tmp`) in bytes.
    pub scratch: u64,
    /// What lies at `/handler`; nothing if `None`.
    pub code: Option<CodeId>,
    /// What lies at `/packages`.
    pub packages: Packages,
    /// Its network.
    pub network: Network,
}

/// A memory limit to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// This many bytes.
    Bytes(u64),
    /// What is in use now plus this many bytes, but never more than the present limit.
    UsedAnd(u64),
}

/// A message from the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make a sandbox. With it come the sandbox's end of the guest socket, and the pipe for its standard output and error.
    Create {
        /// The sandbox's number from now on.
        id: SandboxId,
        /// What to make.
        spec: Spec,
    },
    /// Give code and limits to a sandbox that was made without code.
    Assign {
        /// Which.
        id: SandboxId,
        /// What it gets.
        content: Content,
    },
    /// Set a sandbox's memory limit.
    Resize {
        /// Which.
        id: SandboxId,
        /// To what.
        memory: Size,
    },
    /// End a sandbox, whatever it is doing, and remove everything it used. A zygote's children live on, and so do its namespaces
    /// until the last of them ends.
    Destroy {
        /// Which.
        id: SandboxId,
    },
}

/// Which freezer files come with [`Event::Created`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreezerKind {
    /// `cgroup.freeze`, `cgroup.events`.
    V2,
    /// `freezer.state`.
    V1,
}

/// How a sandbox's first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
    /// It never ran; the text says which step of its set-up failed, and why.
    NotStarted(String),
}

/// A message from the warden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The first message: the warden is ready to make sandboxes.
    Ready {
        /// [`VERSION`] of the warden.
        version: u16,
        /// Whether sandboxes can have [`Network::Egress`].
        egress: Egress,
    },
    /// A sandbox runs: its program is about to start, or it is forked and confined. With it come the freezer's files, then the
    /// socket of a [`Network::Gate`].
    Created {
        /// Which.
        id: SandboxId,
        /// Its process id on the host.
        pid: i32,
        /// Which freezer files follow.
        freezer: FreezerKind,
    },
    /// A sandbox could not be made; nothing of it remains.
    Refused {
        /// Which.
        id: SandboxId,
        /// Why; if writing a value to a file failed, with that value.
        reason: String,
        /// The zygote failed, so making the sandbox in another way may succeed.
        by_parent: bool,
    },
    /// An answer to [`Request::Assign`].
    Assigned {
        /// Which.
        id: SandboxId,
        /// `None` if the sandbox has its code and limits now; otherwise why not, and the sandbox is of no use any more.
        refused: Option<String>,
    },
    /// An answer to [`Request::Resize`].
    Resized {
        /// Which.
        id: SandboxId,
        /// Its memory limit now, in bytes; the same as before if it could not be set.
        memory: u64,
    },
    /// A sandbox's first process ended; the sandbox stays until it is destroyed.
    Died {
        /// Which.
        id: SandboxId,
        /// How.
        death: Death,
        /// How many of its processes the kernel killed because memory ran out.
        oom_kills: u64,
    },
    /// Nothing of the sandbox is left: no process, no mount, no cgroup.
    Destroyed {
        /// Which.
        id: SandboxId,
    },
}

/// Cuts a reason to a length that fits a message with room to spare.
pub fn reason(text: &str) -> String {
    text.chars().take(MAX_MESSAGE / 8).collect()
}

/// Sends one message; blocks only if the socket does.
///
/// # Errors
/// Those of sendmsg(2); `WouldBlock` on a full non-blocking socket.
pub fn send<M: Serialize>(
    socket: BorrowedFd<'_>,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    loop {
        match sendmsg(
            socket,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives one message and its descriptors; `None` when the other end is gone.
///
/// # Errors
/// Those of recvmsg(2), `WouldBlock` if a non-blocking socket has no message now, and `InvalidData` for bytes that can't be
/// decoded.
pub fn receive<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = [0_u8; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let message = bytes
        .get(..received.bytes)
        .and_then(|b| postcard::from_bytes(b).ok())
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "not a message of this version")
        })?;
    Ok(Some((message, fds)))
}

/// Borrows each of `fds`, for [`send`].
pub fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a socketpair")
    }

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (a, b) = pair();
        let event = Event::Created {
            id: SandboxId(7),
            pid: 42,
            freezer: FreezerKind::V2,
        };
        send(a.as_fd(), &event, &[a.as_fd(), b.as_fd()]).expect("send");
        let (got, fds) = receive::<Event>(b.as_fd())
            .expect("receive")
            .expect("a message");
        assert_eq!((got, fds.len()), (event, 2));
        drop(a);
        drop(fds);
        assert!(receive::<Event>(b.as_fd()).expect("end of file").is_none());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            let (a, b) = pair();
            rustix::net::send(&a, &bytes, SendFlags::empty()).expect("send");
            let _ = receive::<Request>(b.as_fd());
        }
    }
}
