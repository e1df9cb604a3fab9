//! One end of a local socket, which one task can read and others write through a shared reference.
//!
//! The socket is watched for arriving bytes and for room to write, as every tokio socket is, although that wakes this process whenever
//! the other end reads something: once for each call, just as the function begins to work. Watching for arriving bytes only was tried.
//! That saves the wake-up, but made the calls of a lone client 6% slower: the core that would have been awake has fallen asleep by the
//! time the answer comes.

use bytes::BytesMut;
use ol_sys::socket::{receive, watch};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, shutdown};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// One end of a local socket. Its drop closes it.
#[derive(Debug)]
pub struct Line(AsyncFd<OwnedFd>);

/// What one attempt to read returned.
pub(crate) enum Got<T> {
    /// Something, and there may be more.
    More(T),
    /// Something, and nothing more is there at present.
    All(T),
}

impl Line {
    /// Watches `socket`, which must be non-blocking. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket can't be watched.
    pub fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        watch(socket.into()).map(Self)
    }

    /// Waits for bytes, and appends them to `into` as far as it has spare capacity, which it must have.
    ///
    /// Returns how many bytes were received: 0 when the other end is closed. Safe to cancel.
    ///
    /// # Errors
    /// Those of recv(2).
    pub async fn receive(&self, into: &mut BytesMut) -> io::Result<usize> {
        let room = into.capacity() - into.len();
        debug_assert!(room > 0, "nothing received would read as the end");
        self.read(|socket| {
            // If fewer bytes came than there was room for, nothing more is there.
            receive(socket, into).map(|count| match count {
                _ if count == room => Got::More(count),
                _ => Got::All(count),
            })
        })
        .await
    }

    /// Sends all of `bytes`. The future must not be dropped half way: what was sent by then can't be taken back.
    ///
    /// # Errors
    /// Those of send(2).
    pub async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let attempt = |socket: BorrowedFd<'_>| Ok(send(socket, bytes, SendFlags::NOSIGNAL)?);
            let sent = self.write(attempt).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends all of `parts`, one after the other, as [`Self::send_all`].
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub async fn send_parts(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        while parts.iter().any(|part| !part.is_empty()) {
            let attempt = |socket: BorrowedFd<'_>| {
                let mut nothing = SendAncillaryBuffer::default();
                Ok(sendmsg(socket, parts, &mut nothing, SendFlags::NOSIGNAL)?)
            };
            let sent = self.write(attempt).await?;
            IoSlice::advance_slices(&mut parts, sent);
        }
        Ok(())
    }

    /// Tells the other end that nothing more will come.
    ///
    /// # Errors
    /// When it is gone.
    pub fn end(&self) -> io::Result<()> {
        Ok(shutdown(&self.0, Shutdown::Write)?)
    }

    /// Repeats `attempt` until something can be read.
    pub(crate) async fn read<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Got<T>>,
    ) -> io::Result<T> {
        loop {
            // `AsyncFd::readable` does the same for several tasks at once, and costs more. Here one task reads at a time, by the contract of
            // this type.
            let mut ready = poll_fn(|context| self.0.poll_read_ready(context)).await?;
            match ready.try_io(|socket| attempt(socket.as_fd())) {
                Ok(Ok(Got::More(got))) => return Ok(got),
                Ok(Ok(Got::All(got))) => {
                    ready.clear_ready();
                    return Ok(got);
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_nothing) => {}
            }
        }
    }

    /// Repeats `attempt` until there is room to write.
    pub(crate) async fn write<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        // The first attempt doesn't wait for the event loop: there is nearly always room, and for a new socket the loop hasn't said so yet.
        match attempt(self.0.as_fd()) {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            done => return done,
        }
        loop {
            let mut room = self.0.writable().await?;
            match room.try_io(|socket| attempt(socket.as_fd())) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(done) => return done,
                Err(_full) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;
    use bytes::BytesMut;
    use futures_util::poll;
    use std::io::{IoSlice, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::pin::pin;

    fn pair() -> (Line, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        (Line::new(ours).expect("a reactor"), theirs)
    }

    #[tokio::test]
    async fn what_comes_is_received_and_the_end_too() {
        let (line, mut theirs) = pair();
        let mut into = BytesMut::with_capacity(4);
        {
            let mut waits = pin!(line.receive(&mut into));
            assert!(poll!(&mut waits).is_pending());
            theirs.write_all(b"abcdef").expect("open");
            assert_eq!(waits.await.expect("open"), 4);
        }
        into.reserve(64);
        assert_eq!(line.receive(&mut into).await.expect("open"), 2);
        theirs.write_all(b"g").expect("open");
        drop(theirs);
        assert_eq!(line.receive(&mut into).await.expect("open"), 1);
        assert_eq!(into, "abcdefg");
        assert_eq!(line.receive(&mut into).await.expect("closed"), 0);
        assert_eq!(line.receive(&mut into).await.expect("closed"), 0);
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_and_all_arrives_in_order() {
        let (line, mut theirs) = pair();
        let all: Vec<u8> = (0..4 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        let (first, second) = all.split_at(1 << 20);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).map(|_| got)
        });
        line.send_all(first).await.expect("open");
        let (a, b) = second.split_at(1);
        let mut parts = [a, &[], b].map(IoSlice::new);
        line.send_parts(&mut parts).await.expect("open");
        line.end().expect("open");
        let got = reader.join().expect("no panic").expect("open");
        assert!(got == all);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_an_error() {
        let (line, theirs) = pair();
        drop(theirs);
        let error = line.send_all(b"x").await.expect_err("closed");
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
}
