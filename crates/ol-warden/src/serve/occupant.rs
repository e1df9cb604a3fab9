//! The leaf or zygote in a cell: what the warden knows of it, from its start to its death.

use super::watch::Watched;
use crate::cgroup::GroupLimits;
use crate::fork_order::PendingFork;
use crate::protocol::{Death, SandboxId};
use crate::shell_maker::ShellMaker;
use rustix::process::WaitStatus;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The leaf or zygote in a cell.
pub(super) struct Occupant {
    pub id: SandboxId,
    /// The number of its first process on the host, once it is known.
    pub pid: Option<i32>,
    pub startup: Startup,
    pub failure: String,
    /// Readable when memory has run out; only set if that must end the whole sandbox, and only on cgroup v1.
    pub alarm: Option<Watched<OwnedFd>>,
    /// The alarm went off, and the whole sandbox was killed.
    pub out_of_memory: bool,
    /// The sandbox has its code.
    pub assigned: bool,
    /// The limits to set once it runs, if forking it needs more processes than they allow.
    pub limits: Option<GroupLimits>,
    /// A socket that listens inside, until the worker gets it.
    pub gate: Option<OwnedFd>,
    /// Only for a zygote, as long as it can fork.
    pub zygote_state: Option<ZygoteState>,
}

/// How far the start of the first process has come.
pub(super) enum Startup {
    /// Its program is about to start. The status pipe becomes readable when that is done or has failed.
    Exec(Watched<OwnedFd>),
    /// A zygote has the order to fork it.
    Fork(Watched<PendingFork>),
    /// It runs, or has failed.
    Done,
}

/// What the warden needs to have a zygote fork.
pub(super) struct ZygoteState {
    /// The socket on which the zygote receives its orders.
    pub channel: OwnedFd,
    pub maker: Option<Watched<ShellMaker>>,
    /// How many forks were ordered whose outcome is not known yet.
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

    /// Reads the status pipe of a program that is about to start; never waits.
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

/// Reads the error that a child wrote to its status pipe; never waits.
///
/// `None` while the pipe is open and nothing was written; empty if it was closed without an error, which means success.
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
    // The child writes once, and less than this buffer holds; a pipe keeps such a write in one piece.
    let mut bytes = [0_u8; 1024];
    let length = rustix::io::read(status, &mut bytes).unwrap_or(0);
    Some(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::process::Command;

    fn ended(script: &str) -> WaitStatus {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn();
        let pid = Pid::from_child(&child.expect("a shell"));
        let ended = waitpid(Some(pid), WaitOptions::empty()).expect("a child");
        ended.expect("waited for").1
    }

    #[test]
    fn a_status_pipe_says_nothing_success_or_why_not() {
        let (status, child) = pipe().expect("a pipe");
        assert_eq!(read_failure(status.as_fd()), None, "nothing yet");
        drop(child);
        assert_eq!(read_failure(status.as_fd()), Some(String::new()));
        let (status, child) = pipe().expect("a pipe");
        rustix::io::write(&child, b"mount /proc: no").expect("room");
        let told = Some("mount /proc: no".to_owned());
        assert_eq!(read_failure(status.as_fd()), told);
        assert_eq!(read_failure(status.as_fd()), None, "the child still has it");
    }

    #[test]
    fn a_death_is_an_exit_a_signal_or_a_start_that_failed() {
        let mut occupant = Occupant::new(SandboxId(1), Startup::Done);
        assert_eq!(occupant.death(ended("exit 7")), Death::Exited(7));
        assert_eq!(occupant.death(ended("kill -9 $$")), Death::Signalled(9));
        // Its end tells less than its own words.
        occupant.failure = "enter the group: no".to_owned();
        let told = Death::NotStarted("enter the group: no".to_owned());
        assert_eq!(occupant.death(ended("exit 1")), told);
    }
}
