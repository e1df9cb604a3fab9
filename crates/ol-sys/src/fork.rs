//! Forks children from a single-threaded process.

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Proof that this process had only one thread when it was checked.
///
/// A fork copies only the calling thread, so locks that other threads hold would stay locked for ever in the child. The proof
/// can't be sent to another thread.
pub struct SingleThread(PhantomData<*const ()>);

impl SingleThread {
    /// Counts the threads of this process (`/proc/self/task`).
    ///
    /// # Errors
    /// When `/proc` can't be read, or there is more than one thread.
    pub fn prove() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self(PhantomData))
        } else {
            Err(io::Error::other(format!(
                "{threads} threads run where only one may: can't fork safely"
            )))
        }
    }
}

/// Proof of being in a child made by [`fork`], which ends in an exec or an exit.
///
/// The Rust values that own descriptors live on in the parent, and their destructors never run in the child. Functions that take
/// this proof may therefore close descriptors by number, which would be unsound elsewhere.
pub struct InChild(PhantomData<*const ()>);

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its process id as this process sees it.
    pub pid: i32,
    /// A handle that never means another process.
    pub pidfd: OwnedFd,
}

/// How a child is to differ from one that fork(2) makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForkOptions<'a> {
    /// New namespaces for the child, `CLONE_NEW*`.
    pub namespaces: libc::c_int,
    /// A cgroup v2 directory in which the child starts (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child's number in the pid namespace in which it starts (`set_tid`, Linux 5.5).
    pub number: Option<i32>,
    /// The child's parent becomes this process's own parent (`CLONE_PARENT`).
    pub sibling: bool,
}

/// Forks a child that runs `body` and never returns (clone3(2)).
///
/// The child inherits every descriptor; `body` ends in an exec or [`exit_now`]. A panic in it ends the child with 101.
///
/// # Errors
/// Those of clone3(2).
pub fn fork(
    _proof: &SingleThread,
    options: ForkOptions<'_>,
    body: impl FnOnce(&InChild) -> Infallible,
) -> io::Result<Child> {
    let body = || body(&InChild(PhantomData));
    let ForkOptions {
        namespaces,
        cgroup,
        number,
        sibling,
    } = options;
    if namespaces == 0 && cgroup.is_none() && number.is_none() && !sibling {
        return plain_fork(body);
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a plain structure of integers, for which zeroes mean "not asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    if sibling {
        // With CLONE_PARENT the kernel takes the exit signal of this process for the child.
        args.flags |= u64::from(libc::CLONE_PARENT.cast_unsigned());
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(group) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    if let Some(number) = &number {
        args.set_tid = (&raw const *number) as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory, and the proof says no other thread held a lock
    // when it was copied; `args` and what it points to outlive the call and have the sizes passed.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match i32::try_from(pid) {
        Ok(0) => be_child(body),
        Ok(pid) if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn be_child(body: impl FnOnce() -> Infallible) -> ! {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(never) => match never {},
        Err(_) => exit_now(101),
    }
}

/// Forks by the C library, which updates its record of the thread's number; a child that starts threads needs that to be right.
fn plain_fork(body: impl FnOnce() -> Infallible) -> io::Result<Child> {
    // SAFETY: the caller proved that no other thread holds a lock; see `fork`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => be_child(body),
        pid => {
            let handle = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
            // The child is not reaped yet, so the number still means it.
            let pidfd = rustix::process::pidfd_open(handle, rustix::process::PidfdFlags::empty())?;
            Ok(Child { pid, pidfd })
        }
    }
}

/// Ends this process at once, running no destructor (those belong to the process it was forked from).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any integer and does not return.
    unsafe { libc::_exit(status) }
}
