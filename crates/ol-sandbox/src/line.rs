//! One end of a local socket, of which only arrivals are watched.
//!
//! Exists because the usual way, which also watches for room to write, wakes this process whenever the other end reads
//! something: once for each call, in the very moment in which the function begins to work. Room is watched for only
//! after a write found none.

use bytes::BytesMut;
use ol_sys::socket::{receive, watch};
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, send, sendmsg, shutdown};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One end of a local socket. Its drop closes it.
#[derive(Debug)]
pub struct Line(AsyncFd<OwnedFd>);

/// What one try to read brought.
pub(crate) enum Got<T> {
    /// Something, and there may be more.
    More(T),
    /// Something, and it was all.
    All(T),
}

impl Line {
    /// Watches `socket`, which must not block. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket can't be watched.
    pub fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        watch(socket.into(), Interest::READABLE).map(Self)
    }

    /// Waits until something came, and appends it to `into` as far as that has room, which it must have. Returns how many bytes that
    /// were: 0 when the other end is closed. Safe to cancel.
    ///
    /// # Errors
    /// Those of recv(2).
    pub async fn receive(&self, into: &mut BytesMut) -> io::Result<usize> {
        let room = into.capacity() - into.len();
        debug_assert!(room > 0, "nothing received would read as the end");
        self.read(|socket| {
            // Less than there was room for is all that there was.
            receive(socket, into).map(|count| match count {
                _ if count == room => Got::More(count),
                _ => Got::All(count),
            })
        })
        .await
    }

    /// Sends all of `bytes`. Not to be dropped half way: what was sent by then can't be taken back.
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

    /// Tries to read until there is something.
    pub(crate) async fn read<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Got<T>>,
    ) -> io::Result<T> {
        loop {
            let mut ready = self.0.readable().await?;
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

    /// Tries to write until there is room.
    pub(crate) async fn write<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt(self.0.as_fd()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.room().await.is_err() {
                        // No descriptor is left to watch it by; the socket itself is well.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Waits until there is room for more.
    async fn room(&self) -> io::Result<()> {
        // The same socket by another descriptor: one descriptor is watched for one thing. What is so already is told at once.
        let again = self.0.as_fd().try_clone_to_owned()?;
        let watched = watch(again, Interest::WRITABLE)?;
        watched.writable().await?.retain_ready();
        Ok(())
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

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

    /// How often a thread is woken for it is what this type is about.
    #[test]
    fn who_waits_for_an_answer_is_woken_by_it_and_not_by_his_question_being_read() {
        const EXCHANGES: usize = 50;
        let wakes = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&wakes);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .on_thread_unpark(move || {
                counting.fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (line, mut theirs) = pair();
            std::thread::spawn(move || {
                let mut byte = [0];
                while theirs.read_exact(&mut byte).is_ok() {
                    // Long enough for a wake-up by what was read to be one of its own.
                    std::thread::sleep(Duration::from_millis(2));
                    theirs.write_all(&byte).expect("open");
                }
            });
            let mut into = BytesMut::with_capacity(2 * EXCHANGES);
            for _ in 0..EXCHANGES {
                line.send_all(b"?").await.expect("open");
                assert_eq!(line.receive(&mut into).await.expect("open"), 1);
            }
        });
        let wakes = wakes.load(Ordering::Relaxed);
        assert!(wakes < EXCHANGES * 3 / 2, "{wakes} for {EXCHANGES}");
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
