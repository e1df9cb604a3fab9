//! Events on their way to the worker. The warden never waits for a slow worker: what doesn't fit the socket stays here.

use crate::protocol::{self, Event, SandboxId};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

#[derive(Default)]
pub(super) struct Outbox(VecDeque<(Event, Vec<OwnedFd>)>);

impl Outbox {
    pub(super) fn push(&mut self, event: Event, fds: Vec<OwnedFd>) {
        self.0.push_back((event, fds));
    }

    pub(super) fn refuse(&mut self, id: SandboxId, reason: String, by_parent: bool) {
        let refused = Event::Refused {
            id,
            reason,
            by_parent,
        };
        self.push(refused, Vec::new());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends as many events as the socket takes.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some((event, fds)) = self.0.front() {
            match protocol::send(socket, event, &protocol::borrowed(fds)) {
                Ok(()) => drop(self.0.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The worker is gone. The loop ends when it notices the worker's exit, not here.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    self.0.clear();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
