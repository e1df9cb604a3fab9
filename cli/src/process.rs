//! Finds the process that is a directory's worker, and sends signals to it and no other.
//!
//! A pid in a file proves nothing: the process may be gone and the pid reused. Thus a pidfd is opened first, and then it is checked that
//! the pid still means the worker. If so, the pidfd refers to the worker, and the signal is sent through it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ol_worker::directory::Directory;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::private_socket::ask_socket;

/// How long stopping may take beyond the drain limit: sandboxes end, and their cgroups are removed.
const GRACE: Duration = Duration::from_secs(15);

/// A process that was the worker or its supervisor when it was checked.
pub(crate) struct PinnedProcess {
    pub(crate) pid: Pid,
    pidfd: OwnedFd,
}

impl PinnedProcess {
    /// The process `pid`, if `is_it` says so after its pidfd was opened.
    fn pin(pid: Pid, is_it: impl FnOnce() -> bool) -> Option<Self> {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        is_it().then_some(Self { pid, pidfd })
    }

    /// Sends `signal`; a process that has already ended is fine.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::PERM) => bail!("the worker is another user's process; run with sudo"),
            Err(error) => Err(error).context("failed to signal the worker"),
        }
    }
}

/// The supervisor: the process that holds the directory's lock.
pub(crate) fn supervisor(directory: &Directory) -> Option<PinnedProcess> {
    let pid = directory.holder()?;
    PinnedProcess::pin(pid, || directory.holder() == Some(pid))
}

/// The worker: the process in its pid file, or else the one that its socket names, if it is the supervisor or a child of it.
///
/// The file comes first, because a worker that hangs would answer the socket late or never.
pub(crate) fn worker(directory: &Directory) -> Option<PinnedProcess> {
    let from_file = || parse(&fs::read_to_string(directory.pid_file()).ok()?);
    let from_socket = || match ask_socket(directory, "/pid") {
        Ok((200, text)) => parse(&text),
        _ => None,
    };
    let pinned = |pid: Pid| {
        PinnedProcess::pin(pid, || {
            let holder = directory.holder();
            holder.is_some() && (holder == Some(pid) || holder == parent(pid))
        })
    };
    from_file()
        .and_then(pinned)
        .or_else(|| from_socket().and_then(pinned))
}

fn parse(text: &str) -> Option<Pid> {
    text.trim().parse().ok().and_then(Pid::from_raw)
}

fn parent(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    parse(status.lines().find_map(|line| line.strip_prefix("PPid:"))?)
}

/// Stops the directory's worker and waits until all of its processes have ended; `None` when none runs.
pub(crate) fn stop(directory: &Directory, drain: Duration) -> Result<Option<Pid>> {
    if !is_running(directory)? {
        return Ok(None);
    }
    // A worker that is still starting has neither socket nor pid file; then its supervisor gets the signal and passes it on.
    let process = worker(directory).or_else(|| supervisor(directory));
    let Some(process) = process else {
        if !is_running(directory)? {
            return Ok(None);
        }
        return unidentified(directory);
    };
    if !drains(directory) {
        process.signal(Signal::TERM)?;
    }
    let patience = drain + GRACE;
    if !directory.wait_unlocked(patience)? {
        bail!(
            "the worker still runs {} s after it was asked to stop; end it with \
             `ol worker force-cleanup -p {}`",
            patience.as_secs(),
            directory.root().display()
        );
    }
    Ok(Some(process.pid))
}

/// Whether the worker was told to stop before; it no longer listens then. A second signal would mean not to wait for calls in flight, which
/// only a person may decide.
fn drains(directory: &Directory) -> bool {
    let connected = UnixStream::connect(directory.socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    connected.is_err_and(refused) && directory.pid_file().exists()
}

/// Whether a worker lives in `directory`.
pub(crate) fn is_running(directory: &Directory) -> Result<bool> {
    directory.locked().with_context(|| {
        let lock = directory.lock_file();
        format!("failed to read {}; run with sudo", lock.display())
    })
}

/// The error when the lock is held, but not by a process that this user can identify.
pub(crate) fn unidentified<T>(directory: &Directory) -> Result<T> {
    bail!(
        "a worker holds {} but its process can't be identified; run with sudo, in the same container as the worker; `lslocks` names \
         who else may have locked it or {}",
        directory.lock_file().display(),
        directory.root().display()
    )
}
