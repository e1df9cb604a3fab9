//! Making processes from a single-threaded one, and turning them into other programs.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Proof that this process had one thread when asked. A fork copies only the calling thread, so locks that other
/// threads hold would stay locked for ever in the child; the proof can't leave the thread that made it.
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

/// Proof of being in a child made by [`fork`], which ends in an exec or an exit: owners of descriptors live on in the
/// parent, and no destructor of theirs runs here. So what would break them elsewhere is sound with this in hand.
pub struct InChild(PhantomData<*const ()>);

/// A child that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its process id as this process sees it.
    pub pid: i32,
    /// A handle that never means another process.
    pub pidfd: OwnedFd,
}

/// Forks a child that runs `body` and never returns, in new namespaces (`flags`, `CLONE_NEW*`) and, where `cgroup` is
/// a cgroup v2 directory, inside that group from its first instruction (clone3(2), `CLONE_INTO_CGROUP`, Linux 5.7).
///
/// The child inherits every descriptor; `body` ends in an exec or [`exit_now`]. A panic in it ends the child with 101.
///
/// # Errors
/// Those of clone3(2).
pub fn fork(
    _proof: &SingleThread,
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce(&InChild) -> Infallible,
) -> io::Result<Child> {
    let body = || body(&InChild(PhantomData));
    if flags == 0 && cgroup.is_none() {
        return plain_fork(body);
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a plain structure of integers, for which zeroes mean "not asked".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory, and the proof says no other thread held a lock
    // when it was copied; `args` outlives the call and has the size passed.
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

/// By the C library, so that what it keeps of a thread (its number) is right in a child that will have more of them.
fn plain_fork(body: impl FnOnce() -> Infallible) -> io::Result<Child> {
    // SAFETY: the caller proved that no other thread holds a lock; see `fork`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => be_child(body),
        pid => {
            let handle = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
            // Not reaped yet, so the number still means it.
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

fn pointers(strings: &[&CStr]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Replaces this process by the program open at number `program` (execveat(2), `AT_EMPTY_PATH`). Returns only on failure.
pub fn exec_fd(program: RawFd, argv: &[&CStr], env: &[&CStr]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both vectors end in a null pointer and their strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Replaces this process by the program at `path` (execve(2)). Returns only on failure.
pub fn exec_path(path: &CStr, argv: &[&CStr], env: &[&CStr]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both vectors end in a null pointer and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// Those of close_range(2).
pub fn close_from(_child: &InChild, first: RawFd) -> io::Result<()> {
    // SAFETY: takes integers only; see above for why no owner in this process will close them again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Marks every descriptor above standard error so that programs started from here don't inherit it (close_range(2) with
/// `CLOSE_RANGE_CLOEXEC`, Linux 5.11).
///
/// # Errors
/// Those of close_range(2).
pub fn bequeath_standard_only() -> io::Result<()> {
    // SAFETY: takes integers only and closes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes descriptors `0..` of this process those of `inherited`, which survive an exec, then those of `private`, which
/// don't, in that order; closes all others.
///
/// # Errors
/// Those of fcntl(2), dup3(2) and close_range(2).
pub fn arrange_fds(
    child: &InChild,
    inherited: &[BorrowedFd<'_>],
    private: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let count = RawFd::try_from(inherited.len() + private.len()).map_err(io::Error::other)?;
    // First lift all of them above the numbers that will be overwritten, then place them.
    let lift = |fd: &BorrowedFd<'_>| -> io::Result<RawFd> {
        // SAFETY: fcntl with F_DUPFD_CLOEXEC touches no memory.
        let new = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, count) };
        if new < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(new)
        }
    };
    let lifted = inherited
        .iter()
        .chain(private)
        .map(lift)
        .collect::<io::Result<Vec<_>>>()?;
    for ((to, from), index) in (0..).zip(lifted).zip(0..) {
        let flags = if index < inherited.len() {
            0
        } else {
            libc::O_CLOEXEC
        };
        // SAFETY: dup3 touches no memory; what it closes is closed for a child that is about to exec.
        if unsafe { libc::dup3(from, to, flags) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    close_from(child, count)
}

/// Closes descriptor `fd`, whose owner lives on in the parent.
pub fn close_inherited(_child: &InChild, fd: RawFd) {
    // SAFETY: takes an integer only; no destructor of the child closes the number again, since it ends in exec or exit.
    unsafe { libc::close(fd) };
}

/// Writes `text` to descriptor `fd` by number, as far as it goes: the last words of a child.
pub fn last_words(_child: &InChild, fd: RawFd, text: &str) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
}

/// Sets what this process does on `signal`: ignore it, or the default.
///
/// # Errors
/// Those of signal(2).
pub fn ignore_signal(signal: i32, ignore: bool) -> io::Result<()> {
    let action = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither disposition runs code of ours.
    if unsafe { libc::signal(signal, action) } == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Blocks `signals` and returns a descriptor that becomes readable when one of them is pending (signalfd(2)).
///
/// # Errors
/// Those of sigprocmask(2) and signalfd(2).
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: a sigset_t of zeroes is a valid object for sigemptyset; all pointers are to locals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Takes one pending signal's number from a [`signal_fd`], if there is one.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: signalfd_siginfo is plain integers; the kernel writes at most its size.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let got = libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size);
        (usize::try_from(got) == Ok(size)).then(|| info.ssi_signo.cast_signed())
    }
}

/// Unblocks all signals, which a child inherits blocked from a process that uses [`signal_fd`].
pub fn unblock_signals() {
    // SAFETY: an empty set is valid, and the old mask is not asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
