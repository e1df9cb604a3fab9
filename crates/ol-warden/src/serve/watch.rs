//! The descriptors that the loop waits for, each with a token that says to what it belongs (epoll(7)).

use rustix::event::epoll::{
    CreateFlags, Event, EventData, EventFlags, add, create, delete, modify, wait,
};
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Why the loop woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The worker's socket.
    Worker,
    /// A signal is pending.
    Signals,
    /// There is news of the shell or occupant that is being made in this slot.
    Status(u32),
    /// The slot's sandbox ran out of memory.
    Alarm(u32),
    /// The shell maker of the zygote in this slot has answered.
    ShellMaker(u32),
}

impl Token {
    fn number(self) -> u64 {
        let of = |slot: u32, kind: u64| u64::from(slot) << 3 | kind;
        match self {
            Self::Worker => 0,
            Self::Signals => 1,
            Self::Status(slot) => of(slot, 2),
            Self::Alarm(slot) => of(slot, 3),
            Self::ShellMaker(slot) => of(slot, 4),
        }
    }

    fn of(number: u64) -> Self {
        let slot = u32::try_from(number >> 3).unwrap_or(u32::MAX);
        match number & 7 {
            0 => Self::Worker,
            1 => Self::Signals,
            2 => Self::Status(slot),
            3 => Self::Alarm(slot),
            _ => Self::ShellMaker(slot),
        }
    }
}

/// The set of descriptors that are waited for.
#[derive(Clone, Debug)]
pub(super) struct Watch(Rc<OwnedFd>);

/// A descriptor that is waited for until this value is dropped.
#[derive(Debug)]
pub(super) struct Watched<F: AsFd> {
    fd: F,
    watch: Watch,
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        Ok(Self(Rc::new(create(CreateFlags::CLOEXEC)?)))
    }

    /// Waits for `fd`, without owning it, to have something to read.
    pub fn add(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let data = EventData::new_u64(token.number());
        Ok(add(&*self.0, fd, data, EventFlags::IN)?)
    }

    /// Sets whether to wait also until the worker's socket can be written to.
    pub fn also_to_write(&self, worker: BorrowedFd<'_>, wanted: bool) -> io::Result<()> {
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, wanted);
        let data = EventData::new_u64(Token::Worker.number());
        Ok(modify(&*self.0, worker, data, flags)?)
    }

    pub fn own<F: AsFd>(&self, fd: F, token: Token) -> io::Result<Watched<F>> {
        self.add(fd.as_fd(), token)?;
        Ok(Watched {
            fd,
            watch: self.clone(),
        })
    }

    /// Waits for events, at most for `patience`; returns none if that time is over.
    pub fn wait(&self, patience: Option<Duration>) -> io::Result<Vec<Token>> {
        let mut events = Vec::<Event>::with_capacity(64);
        let patience = patience.and_then(|p| Timespec::try_from(p).ok());
        match wait(
            &*self.0,
            rustix::buffer::spare_capacity(&mut events),
            patience.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().map(|e| Token::of(e.data.u64())).collect())
    }
}

impl<F: AsFd> std::ops::Deref for Watched<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.fd
    }
}

impl<F: AsFd> Drop for Watched<F> {
    fn drop(&mut self) {
        // Closing alone is not enough: a child forked meanwhile may hold the same open file description for a moment.
        let _ = delete(&*self.watch.0, self.fd.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was() {
        for token in [
            Token::Worker,
            Token::Signals,
            Token::Status(0),
            Token::Alarm(7),
            Token::ShellMaker(524_287),
        ] {
            assert_eq!(Token::of(token.number()), token);
        }
    }
}
