//! Prepares a forked process for its program: which descriptors stay open, what it executes, how it reports failure; and signals.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use crate::fork::{Child, ForkOptions, InChild, SingleThread, exit_now, fork};

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
    // SAFETY: takes integers only; see `InChild` for why no owner in this process will close them again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor but those numbered in `kept`.
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_but(_child: &InChild, kept: &[RawFd]) -> io::Result<()> {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first = 0;
    for last in kept.into_iter().map(Some).chain([None]) {
        let end = last.map_or(libc::c_uint::MAX, |last| {
            last.cast_unsigned().wrapping_sub(1)
        });
        if last.is_none_or(|last| last > first) {
            // SAFETY: takes integers only; see `InChild` for why no owner in this process will close them again.
            if unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = last.map_or(first, |last| last + 1);
    }
    Ok(())
}

/// Receives one message on a socket that has `SO_PASSCRED` set, without waiting (unix(7)).
///
/// Returns the message's length, 0 at the end of the connection, and the sender's process number in this pid namespace.
///
/// # Errors
/// Those of recvmsg(2); `WouldBlock` if there is none.
pub fn host_pid_of_sender(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
) -> io::Result<(usize, Option<i32>)> {
    const SPACE: usize = 64; // more than the one message that is expected, and aligned like it
    let mut control = [0_u64; SPACE / 8];
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: a msghdr is plain data for which zeroes are valid; all pointers are to locals that outlive the call and have the lengths
    // passed. The kernel drops descriptors for which there is no room, and the loop below closes the others.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = SPACE;
        let got = libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
        );
        let Ok(length) = usize::try_from(got) else {
            return Err(io::Error::last_os_error());
        };
        let mut sender = None;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match (*header).cmsg_type {
                libc::SCM_CREDENTIALS => {
                    sender = Some(data.cast::<libc::ucred>().read_unaligned().pid);
                }
                libc::SCM_RIGHTS => {
                    let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                    for index in 0..bytes / size_of::<RawFd>() {
                        libc::close(data.cast::<RawFd>().add(index).read_unaligned());
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok((length, sender.filter(|pid| *pid > 0)))
    }
}

/// Marks every descriptor above standard error so that programs started from here don't inherit it (close_range(2) with
/// `CLOSE_RANGE_CLOEXEC`, Linux 5.11).
///
/// # Errors
/// Those of close_range(2).
pub fn close_on_exec_above_stderr() -> io::Result<()> {
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

/// Renumbers descriptors from 0: first `inherited`, which survive an exec, then `private`, which don't; closes all others.
///
/// # Errors
/// Those of fcntl(2), dup3(2) and close_range(2).
pub fn arrange_fds(
    child: &InChild,
    inherited: &[BorrowedFd<'_>],
    private: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let count = RawFd::try_from(inherited.len() + private.len()).map_err(io::Error::other)?;
    // First duplicate all of them to numbers above those that will be overwritten, then move them into place.
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

/// Writes `text`, the reason why a child fails, to descriptor number `fd`; whatever can't be written is lost.
pub fn write_failure(_child: &InChild, fd: RawFd, text: &str) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
}

/// Sets whether this process ignores `signal`; if not, the signal has its default effect.
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

/// Whether this process ignores `signal`, as it does with SIGHUP under nohup(1).
///
/// # Errors
/// When `/proc` can't be read.
pub fn is_ignored(signal: i32) -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1)
        .ok()
        .and_then(|bit| 1_u64.checked_shl(bit));
    Ok(mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0))
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
