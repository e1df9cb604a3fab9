//! Sockets of an event loop: watching one, and reading into memory that was not zeroed before.

use bytes::BytesMut;
use rustix::net::{RecvFlags, recv};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Lets the event loop watch `socket`, which must be non-blocking. Call it inside a tokio runtime.
///
/// # Errors
/// When the socket can't be watched.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same descriptor, for as long as it lives; the result owns it.
    let watched = unsafe { AsyncFd::register(socket) };
    Ok(watched?)
}

/// Appends to `into` what `socket` has received, as far as there is room.
///
/// Returns the number of bytes; 0 when the other end is closed.
///
/// # Errors
/// Those of recv(2); `WouldBlock` when nothing has been received.
pub fn receive(socket: impl AsFd, into: &mut BytesMut) -> io::Result<usize> {
    let ((received, _), _) = recv(socket, into.spare_capacity_mut(), RecvFlags::empty())?;
    let count = received.len();
    // SAFETY: `received` is the beginning of the spare capacity, and the kernel has filled all of it.
    unsafe { into.set_len(into.len() + count) };
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::receive;
    use bytes::BytesMut;
    use std::io::{ErrorKind, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_came_is_appended_up_to_the_room() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        let mut into = BytesMut::with_capacity(8);
        into.extend_from_slice(b"<");
        let nothing = receive(&ours, &mut into).expect_err("nothing came");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        theirs.write_all(b"0123456789").expect("open");
        assert_eq!(receive(&ours, &mut into).expect("something came"), 7);
        assert_eq!(into, "<0123456");
        into.reserve(100);
        assert_eq!(receive(&ours, &mut into).expect("the rest"), 3);
        assert_eq!(into, "<0123456789");
        drop(theirs);
        assert_eq!(receive(&ours, &mut into).expect("an end"), 0);
    }
}
