//! A cell that is leased: what is known of the leaf or zygote in it, from its first sign of life to its death.

use super::watch::Watched;
use crate::cgroup::GroupLimits;
use crate::fork_order::PendingFork;
use crate::protocol::{Death, SandboxId};
use crate::shell_maker::ShellMaker;
use rustix::process::WaitStatus;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a cell is leased for.
pub(super) struct Occupant {
    pub id: SandboxId,
    /// The first process on the host, once it is known.
    pub pid: Option<i32>,
    pub startup: Startup,
    pub failure: String,
    /// Tells that memory ran out, if that is to be the end of all of it.
    pub alarm: Option<Watched<OwnedFd>>,
    /// It told, and so all of it was killed.
    pub out_of_memory: bool,
    /// It has its code.
    pub assigned: bool,
    /// The limits that hold once it is born, if being born takes more than they allow.
    pub limits: Option<GroupLimits>,
    /// A socket that listens inside, until the worker gets it.
    pub gate: Option<OwnedFd>,
    /// What makes it a zygote, as long as it can fork.
    pub zygote_state: Option<ZygoteState>,
}

/// How the first process comes to run.
pub(super) enum Startup {
    /// Its program is about to start; readable when it started or failed to.
    Exec(Watched<OwnedFd>),
    /// It is being forked.
    Fork(Watched<PendingFork>),
    /// It runs, or failed to.
    Done,
}

/// A zygote's side of its children.
pub(super) struct ZygoteState {
    /// Where it hears its orders.
    pub channel: OwnedFd,
    pub maker: Option<Watched<ShellMaker>>,
    /// Children ordered and not heard of yet.
    pub forks: u32,
}

impl Occupant {
    pub fn new(id: SandboxId, startup: Startup) -> Self {
        Self {
            id,
            pid: None,
            startup,
            failure: String::new(),
            alarm: None,
            out_of_memory: false,
            assigned: false,
            limits: None,
            gate: None,
            zygote_state: None,
        }
    }

    /// Reads what the status pipe of a program says by now.
    pub fn read_status(&mut self) {
        if let Startup::Exec(status) = &self.startup
            && let Some(failure) = read_failure(status.as_fd())
        {
            self.failure = failure;
            self.startup = Startup::Done;
        }
    }

    pub fn death(&self, status: WaitStatus) -> Death {
        match status.terminating_signal() {
            _ if !self.failure.is_empty() => Death::NotStarted(self.failure.clone()),
            Some(signal) => Death::Signalled(signal),
            None => Death::Exited(status.exit_status().unwrap_or(-1)),
        }
    }
}

/// What a child said before its pipe closed: `None` while it is open and silent, empty if it succeeded.
pub(super) fn read_failure(status: BorrowedFd<'_>) -> Option<String> {
    let mut poll = [rustix::event::PollFd::from_borrowed_fd(
        status,
        rustix::event::PollFlags::IN,
    )];
    let at_once = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if !matches!(rustix::event::poll(&mut poll, Some(&at_once)), Ok(1..)) {
        return None;
    }
    // One write of a line: a pipe keeps it in one piece, and it fits.
    let mut bytes = [0_u8; 1024];
    let length = rustix::io::read(status, &mut bytes).unwrap_or(0);
    Some(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned())
}
