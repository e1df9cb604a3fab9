//! A cell that is leased: what is known of the leaf or zygote in it, from its first sign of life to its death.

use super::watch::Watched;
use crate::birth::Cradle;
use crate::cgroup::Limits;
use crate::maker::Maker;
use crate::protocol::{Death, SandboxId};
use rustix::process::WaitStatus;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a cell is leased for.
pub(super) struct Lease {
    pub id: SandboxId,
    /// The first process on the host, once it is known.
    pub pid: Option<i32>,
    pub first: First,
    pub words: String,
    /// Tells that memory ran out, if that is to be the end of all of it.
    pub alarm: Option<Watched<OwnedFd>>,
    /// It told, and so all of it was killed.
    pub out_of_memory: bool,
    /// It has its code.
    pub assigned: bool,
    /// The limits that hold once it is born, if being born takes more than they allow.
    pub limits: Option<Limits>,
    /// A socket that listens inside, until the worker gets it.
    pub gate: Option<OwnedFd>,
    /// What makes it a zygote, as long as it can fork.
    pub nest: Option<Nest>,
}

/// How the first process comes to run.
pub(super) enum First {
    /// Its program is about to start; readable when it started or failed to.
    Program(Watched<OwnedFd>),
    /// It is being forked.
    Birth(Watched<Cradle>),
    /// It runs, or failed to.
    Over,
}

/// A zygote's side of its children.
pub(super) struct Nest {
    /// Where it hears its orders.
    pub channel: OwnedFd,
    pub maker: Option<Watched<Maker>>,
    /// Children ordered and not heard of yet.
    pub births: u32,
}

impl Lease {
    pub fn new(id: SandboxId, first: First) -> Self {
        Self {
            id,
            pid: None,
            first,
            words: String::new(),
            alarm: None,
            out_of_memory: false,
            assigned: false,
            limits: None,
            gate: None,
            nest: None,
        }
    }

    /// Reads what the status pipe of a program says by now.
    pub fn listen(&mut self) {
        if let First::Program(status) = &self.first
            && let Some(words) = last_words(status.as_fd())
        {
            self.words = words;
            self.first = First::Over;
        }
    }

    pub fn death(&self, status: WaitStatus) -> Death {
        match status.terminating_signal() {
            _ if !self.words.is_empty() => Death::NotStarted(self.words.clone()),
            Some(signal) => Death::Signalled(signal),
            None => Death::Exited(status.exit_status().unwrap_or(-1)),
        }
    }
}

/// What a child said before its pipe closed: `None` while it is open and silent, empty if it succeeded.
pub(super) fn last_words(status: BorrowedFd<'_>) -> Option<String> {
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
