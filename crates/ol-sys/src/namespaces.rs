//! Joins and makes namespaces. All calls act on the calling thread only, so only single-threaded processes use them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The flags for all namespaces that a sandbox's keeper is made in.
///
/// The cgroup namespace is not among them: the leaf makes it once it is in its own group, so that it sees that group as the root.
pub const SANDBOX: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET;

/// The namespaces of [`SANDBOX`] that a process can join itself; joining a pid namespace takes effect for its children only.
pub const JOINABLE: libc::c_int = SANDBOX & !libc::CLONE_NEWPID;

/// Joins namespaces (setns(2)).
///
/// `target` is a pidfd, whose process's namespaces `flags` are joined, all or none (Linux 5.8), or a descriptor of a file in
/// `/proc/PID/ns/`, which stands for one namespace.
///
/// # Errors
/// Those of setns(2).
pub fn join(target: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: setns takes integers; it changes what later calls see, not memory.
    if unsafe { libc::setns(target.as_raw_fd(), flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Moves this process into new namespaces `flags` (unshare(2)). `CLONE_FILES` and `CLONE_VM` are not accepted.
///
/// # Errors
/// Those of unshare(2); `EINVAL` for a flag that isn't a namespace.
pub fn leave(flags: libc::c_int) -> io::Result<()> {
    if flags & !(SANDBOX | libc::CLONE_NEWCGROUP) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: namespace flags change what later calls see, not memory or descriptors.
    if unsafe { libc::unshare(flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
