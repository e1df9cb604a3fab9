//! One worker per directory: a lock that the kernel drops when its holder dies, however it dies.
//!
//! A pid file can't do that: after a crash its number may mean another process. So the lock says
//! *that* a worker lives, and what is written in its file only says *who*, to be checked before
//! anybody is signalled ([`Directory::holder`]).
//!
//! The lock is flock(2): it belongs to the open file, so a child made by fork without exec holds it
//! too, and it is free once the last of them is gone.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Directory;
use super::error::LockError;

/// How often a held lock is tried again. flock(2) has no time limit, a signal would need a handler,
/// and a thread that waits in it could be given the lock after we stopped asking for it.
const AGAIN: Duration = Duration::from_millis(5);

/// [`Directory::locked`] must take the lock to see whether it is free. A worker that starts in that
/// instant tries for this long, so that a look never turns it away.
const GLIMPSE: Duration = Duration::from_millis(50);

/// The right to run a worker in a directory; given back when dropped, or when the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Directory {
    /// Takes the lock for this process and writes its pid into the file.
    ///
    /// # Errors
    /// [`LockError::Held`] when a worker runs there.
    pub fn lock(&self) -> Result<Lock, LockError> {
        let path = self.lock_file();
        let failed = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(self.worker()).map_err(failed)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if !retry(GLIMPSE, || {
            try_flock(&file, FlockOperation::NonBlockingLockExclusive)
        })
        .map_err(failed)?
        {
            return Err(LockError::Held {
                directory: self.root.clone(),
                pid: written_pid(&path).map(Pid::as_raw_pid),
            });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Lock { file })
    }

    /// Does a worker live in this directory?
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn locked(&self) -> io::Result<bool> {
        let file = match File::open(self.lock_file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Shared, so that two who look don't see each other; given back when `file` closes.
        Ok(!try_flock(&file, FlockOperation::NonBlockingLockShared)?)
    }

    /// Waits until no worker lives in this directory; false when `timeout` passes before.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn wait_unlocked(&self, timeout: Duration) -> io::Result<bool> {
        retry(timeout, || self.locked().map(|held| !held))
    }

    /// The process that holds the lock, if the one whose pid the file names really does. Open a
    /// pidfd and ask again before signalling it.
    #[must_use]
    pub fn holder(&self) -> Option<Pid> {
        let path = self.lock_file();
        let pid = written_pid(&path)?;
        holds(pid, &path).then_some(pid)
    }
}

fn try_flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn retry(timeout: Duration, mut attempt: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        if attempt()? {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(AGAIN.min(left));
    }
}

fn written_pid(path: &Path) -> Option<Pid> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().and_then(Pid::from_raw)
}

/// Whether `pid` has the file at `path` open and locked: the kernel lists in a descriptor's fdinfo
/// the locks that were taken through it (proc_pid_fdinfo(5)).
fn holds(pid: Pid, path: &Path) -> bool {
    let Ok(wanted) = fs::metadata(path) else {
        return false;
    };
    let process = Path::new("/proc").join(pid.as_raw_pid().to_string());
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors.filter_map(Result::ok).any(|descriptor| {
        let same = fs::metadata(descriptor.path())
            .is_ok_and(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()));
        let info = process.join("fdinfo").join(descriptor.file_name());
        let locked = |info: String| {
            let mut locks = info.lines().filter(|line| line.starts_with("lock:"));
            locks.any(|lock| lock.contains("FLOCK"))
        };
        same && fs::read_to_string(info).is_ok_and(locked)
    })
}
