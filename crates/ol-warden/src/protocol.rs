//! The messages between worker and warden: one datagram each on a SEQPACKET socket, descriptors beside them.
//!
//! Every field is a number or a kind. There is no path and no name: code is meant by the number of its directory, so
//! the warden resolves nothing that a tenant wrote.

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

/// Raised whenever a message changes its shape; both ends are of one program, so a difference means a mixed install.
pub const VERSION: u16 = 4;

/// The longest message in bytes.
pub const MAX_MESSAGE: usize = 4096;
/// The most descriptors beside one.
pub const MAX_FDS: usize = 4;

/// A sandbox's number, chosen by the worker, never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxId(pub u64);

/// The number of a code directory beneath the one both ends know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CodeId(pub u64);

/// What of the package store lies at `/packages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packages {
    /// Nothing.
    #[default]
    None,
    /// The entries of the store that have the names of the empty directories in this one, which lies beneath the directory of code: of
    /// `NAME` its `files`, and of one that begins with a dot all.
    Named(CodeId),
    /// All of it.
    All,
}

/// How a sandbox reaches a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// An empty namespace with loopback only.
    #[default]
    None,
    /// A namespace of its own with a way out, and to nothing private.
    Egress,
    /// The host's namespace. Only for what is forked from none: a zygote's children can't leave for it.
    Host,
    /// As [`Self::None`], and the worker gets a socket that listens inside, at 127.0.0.1:3128.
    Gate,
}

/// Whether sandboxes can have [`Network::Egress`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    /// They can. Beside it: a UDP and a listening TCP socket, to which they send their questions of names.
    On {
        /// The host forwards packets only since now.
        forwarding_is_new: bool,
    },
    /// It was not asked for.
    Off,
    /// This machine can't, and why.
    Unable(String),
}

/// What a sandbox is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It serves calls.
    #[default]
    Leaf,
    /// It forks other sandboxes.
    Zygote {
        /// How many shells to keep ready for its children, at most.
        shells: u16,
    },
}

impl Role {
    /// Is it a zygote?
    pub fn is_zygote(self) -> bool {
        self != Self::Leaf
    }
}

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What it is for.
    pub role: Role,
    /// The zygote that it is forked from; its program is started anew if `None`.
    pub parent: Option<SandboxId>,
    /// What it may use, and has inside.
    pub content: Content,
}

/// What of a sandbox can be settled when it is there already.
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

/// How much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// This many bytes.
    Bytes(u64),
    /// What is in use now and this many bytes more, if that is less than the limit before.
    UsedAnd(u64),
}

/// From the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make a sandbox. Beside it: its end of the guest socket, and the pipe for its standard output and error.
    Create {
        /// Its number from now on.
        id: SandboxId,
        /// What it is.
        spec: Spec,
    },
    /// Give a sandbox that was made without code its code and its limits.
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
    /// End a sandbox, whatever it does, and remove all of it. A zygote's children live on, and its namespaces with them.
    Destroy {
        /// Which.
        id: SandboxId,
    },
}

/// Which files came beside [`Event::Created`].
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
    /// It never ran: the step of its set-up that failed, and why.
    NotStarted(String),
}

/// From the warden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// First message: the warden is ready to make sandboxes.
    Ready {
        /// [`VERSION`] of the warden.
        version: u16,
        /// Which networks there are.
        egress: Egress,
    },
    /// It runs (its program is about to start, or it is forked and confined). Beside it: the freezer's files, then the socket of a
    /// [`Network::Gate`].
    Created {
        /// Which.
        id: SandboxId,
        /// Its process id on the host.
        pid: i32,
        /// Which freezer files follow.
        freezer: FreezerKind,
    },
    /// It could not be made; nothing of it remains.
    Refused {
        /// Which.
        id: SandboxId,
        /// Why, with the value that was written where there is one.
        reason: String,
        /// It was its zygote that failed: another way of making it may do.
        by_parent: bool,
    },
    /// It has the code and the limits of [`Request::Assign`].
    Assigned {
        /// Which.
        id: SandboxId,
        /// Why not, if not; it is of no use then.
        refused: Option<String>,
    },
    /// An answer to [`Request::Resize`].
    Resized {
        /// Which.
        id: SandboxId,
        /// Its memory limit now, in bytes: what it was before if it could not be set.
        memory: u64,
    },
    /// Its first process ended; the sandbox stays until it is destroyed.
    Died {
        /// Which.
        id: SandboxId,
        /// How.
        death: Death,
        /// Processes of it that the kernel killed for want of memory.
        oom_kills: u64,
    },
    /// Nothing of the sandbox is left: no process, no mount, no cgroup.
    Destroyed {
        /// Which.
        id: SandboxId,
    },
}

/// A reason cut to what fits a message with room to spare.
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
/// Those of recvmsg(2), `WouldBlock` when there is none on a non-blocking socket, and `InvalidData` for a message that
/// isn't one.
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
