//! The process that makes the shells into which one zygote forks; their namespaces must lie below those of the zygote's shell.
//!
//! The kernel lets a process without any capability enter a user namespace if that process owns the namespace and is in its parent
//! namespace. Therefore the maker joins the zygote's user and pid namespaces, and has the zygote's effective uid when it makes a
//! shell. Its other uids are the keeper's, so that the zygote can't signal it. It stays in the warden's mount namespace, holds only
//! its socket and the keeper's program, and the keepers that it makes are children of the warden.
//!
//! ```text
//!   warden ──fork──▶ joins the namespaces ──fork (PARENT)──▶ maker ──clone (PARENT)──▶ keeper
//!      ◀───────────────────── a handle of each keeper ─────────┘
//! ```

use crate::child::{self, Failed, NameStep};
use crate::identity::{ShellIdentity, ShellKind};
use crate::shell;
use crate::uids::Pair;
use ol_sys::process::{ForkOptions, InChild, SingleThread, close_all_but, exit_now, fork};
use ol_sys::{namespaces, privilege};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A request of the warden for one shell. With it comes the pipe to which the keeper writes what fails.
#[derive(Serialize, Deserialize)]
struct ShellOrder {
    slot: u32,
    pair: (u32, u32),
    block: (u32, u32),
    /// The depth, if the shell is for a zygote; `None` if it is for a leaf.
    depth: Option<u32>,
}

/// The maker's answer to one request.
#[derive(Serialize, Deserialize)]
pub(crate) enum MakerAnswer {
    /// The keeper of this slot's shell runs. With it comes the keeper's pidfd.
    Made(u32),
    /// This slot's shell could not be made, for this reason.
    Failed(u32, String),
}

/// A running maker. It ends when its socket is closed, or when the zygote's keeper ends.
#[derive(Debug)]
pub(crate) struct ShellMaker {
    socket: OwnedFd,
}

impl ShellMaker {
    /// Starts the maker of the zygote whose shell `keeper` holds.
    pub fn start(
        proof: &SingleThread,
        config: &shell::ShellConfig,
        keeper: BorrowedFd<'_>,
        zygote: Pair,
    ) -> io::Result<Self> {
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let warden = std::process::id();
        fork(proof, ForkOptions::default(), |child| {
            child::run_logged(child, "a maker of sandboxes ended", || {
                namespaces::join(keeper, libc::CLONE_NEWUSER | libc::CLONE_NEWPID)
                    .step("join the zygote's namespaces")?;
                let sibling = ForkOptions {
                    sibling: true,
                    ..ForkOptions::default()
                };
                // A pid namespace takes effect for children only.
                fork(proof, sibling, |child| {
                    child::run_logged(child, "a maker of sandboxes ended", || {
                        become_maker(child, proof, config, &theirs, zygote, warden)
                    })
                })
                .step("fork the maker")?;
                exit_now(0)
            })
        })?;
        rustix::fs::fcntl_setfl(&socket, rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self { socket })
    }

    /// Asks for the shell of `slot`. What fails once its keeper runs is written to `error_pipe`.
    pub fn ask(
        &self,
        slot: u32,
        identity: &ShellIdentity,
        error_pipe: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let wanted = ShellOrder {
            slot,
            pair: (identity.pair.leaf, identity.pair.keeper),
            block: identity.block,
            depth: match identity.kind {
                ShellKind::Leaf => None,
                ShellKind::Zygote { depth } => Some(depth),
            },
        };
        crate::protocol::send(self.socket.as_fd(), &wanted, &[error_pipe])
    }

    /// The next answer; `None` when there is none now.
    ///
    /// # Errors
    /// When the maker is gone.
    pub fn answer(&self) -> io::Result<Option<(MakerAnswer, Vec<OwnedFd>)>> {
        match crate::protocol::receive(self.socket.as_fd()) {
            Ok(Some(answer)) => Ok(Some(answer)),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for ShellMaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn become_maker(
    child: &InChild,
    proof: &SingleThread,
    config: &shell::ShellConfig,
    socket: &OwnedFd,
    zygote: Pair,
    warden: u32,
) -> Result<Infallible, Failed> {
    close_all_but(
        child,
        &[0, 1, 2, socket.as_raw_fd(), config.keeper.as_raw_fd()],
    )
    .step("close descriptors")?;
    // So that `ps` shows what the process is.
    let _ = rustix::thread::set_name(c"ol-maker");
    privilege::keep_capabilities_over_setuid().step("keep capabilities")?;
    privilege::become_user(zygote.keeper).step("become the keeper's uid")?;
    privilege::act_as(zygote.leaf).step("act as the zygote's uid")?;
    // The maker writes its keepers' uid maps through /proc, and the files there belong to root while a process is not dumpable.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
        .step("open its own /proc")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step("set the parent's death signal")?;
    if !shell::is_child_of(warden).step("ask for the parent")? {
        return Err(Errno::SRCH).step("look for the warden");
    }
    loop {
        let received = crate::protocol::receive::<ShellOrder>(socket.as_fd());
        let Some((wanted, error_pipe)) = received.step("receive")? else {
            exit_now(0);
        };
        let slot = wanted.slot;
        if let Err(error) = make(proof, config, socket, &wanted, &error_pipe, warden) {
            let answer = MakerAnswer::Failed(slot, crate::protocol::reason(&error.to_string()));
            crate::protocol::send(socket.as_fd(), &answer, &[]).step("answer")?;
        }
    }
}

fn make(
    proof: &SingleThread,
    config: &shell::ShellConfig,
    socket: &OwnedFd,
    wanted: &ShellOrder,
    error_pipe: &[OwnedFd],
    warden: u32,
) -> io::Result<()> {
    let error_pipe = error_pipe.first().ok_or(io::ErrorKind::InvalidData)?;
    let identity = ShellIdentity {
        kind: wanted
            .depth
            .map_or(ShellKind::Leaf, |depth| ShellKind::Zygote { depth }),
        pair: Pair {
            leaf: wanted.pair.0,
            keeper: wanted.pair.1,
        },
        block: wanted.block,
    };
    let (keeper, permit) = shell::make(proof, config, &identity, true, warden, error_pipe.as_fd())?;
    let pid = host_number(&keeper.pidfd)?;
    let answer = MakerAnswer::Made(wanted.slot);
    // Sent before the keeper may go on: when the keeper's pipe says that the shell is ready, the warden must know the keeper already.
    crate::protocol::send(socket.as_fd(), &answer, &[keeper.pidfd.as_fd()])?;
    shell::settle(pid, &identity, &permit)
}

/// The number that the process behind a pidfd has in the pid namespace of the mounted `/proc`.
///
/// # Errors
/// If the process was reaped already.
pub(crate) fn host_number(pidfd: &OwnedFd) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|pid| pid.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::other("the process is gone"))
}
