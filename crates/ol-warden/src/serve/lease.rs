//! A cell that has a leaf: what is known of the leaf, from its last words to its death.

use crate::protocol::{Death, SandboxId};
use rustix::process::WaitStatus;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a cell is leased for.
pub(super) struct Lease {
    pub id: SandboxId,
    pub leaf_pid: i32,
    /// Readable when the leaf's program started or failed to.
    pub status: Option<OwnedFd>,
    pub words: String,
    /// Tells that memory ran out, if that is to be the end of all of it.
    pub alarm: Option<OwnedFd>,
    /// It told, and so all of it was killed.
    pub out_of_memory: bool,
}

impl Lease {
    /// Reads what the leaf's status pipe says by now.
    pub(super) fn listen(&mut self) {
        if let Some(words) = self
            .status
            .as_ref()
            .and_then(|status| last_words(status.as_fd()))
        {
            self.words = words;
            self.status = None;
        }
    }

    pub(super) fn death(&self, status: WaitStatus) -> Death {
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
