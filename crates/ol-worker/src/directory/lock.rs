//! One worker per directory: a lock that the kernel releases when its holder dies, however it dies.
//!
//! A pid file can't do that: after a crash its number may name another process. Thus the lock shows *that* a worker lives, and the file's
//! text only *which* process it is; that is checked before anybody is signalled ([`Directory::holder`]).
//!
//! The lock is flock(2). It belongs to the open file, thus a child made by fork without exec holds it too; it is free once the last of them
//! is gone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Directory;
use super::error::LockError;

/// How often a held lock is tried again. flock(2) has no time limit, a signal would need a handler, and a thread blocked in it might get
/// the lock after the caller stopped waiting.
const AGAIN: Duration = Duration::from_millis(5);

/// How long a starting worker tries to take the lock. [`Directory::locked`] briefly takes it to see whether it is free, which must never
/// turn a starting worker away.
const GLIMPSE: Duration = Duration::from_millis(50);

/// The right to run a worker in a directory; released when dropped, or when the process ends.
///
/// Both the lock file and the directory itself are locked: even if the file is removed or replaced while a worker runs, no second one can
/// start.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// `None` if directories can't be locked, as on some network file systems.
    _directory: Option<File>,
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
        let directory = File::open(&self.root).map_err(failed)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OPEN;
        let mode = Mode::from_raw_mode(0o644);
        let file = rustix::fs::open(&path, flags, mode).map_err(|error| failed(error.into()))?;
        let mut file = File::from(file);
        let take = |file: &File| {
            retry(GLIMPSE, || {
                try_flock(file, FlockOperation::NonBlockingLockExclusive)
            })
        };
        let directory = match take(&directory) {
            Ok(true) => Some(directory),
            Ok(false) => return Err(self.held()),
            Err(_) => None,
        };
        if !take(&file).map_err(failed)? {
            return Err(self.held());
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Lock {
            file,
            _directory: directory,
        })
    }

    /// The error that says that somebody holds the lock, and who.
    #[must_use]
    pub fn held(&self) -> LockError {
        LockError::Held {
            directory: self.root.clone(),
            pid: self.holder().map(Pid::as_raw_pid),
        }
    }

    /// Whether a worker lives in this directory.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn locked(&self) -> io::Result<bool> {
        // A shared lock, so that two processes that look don't see each other; released when the file closes.
        let look =
            |file: &File| try_flock(file, FlockOperation::NonBlockingLockShared).map(|free| !free);
        let path = self.lock_file();
        match rustix::fs::open(&path, OFlags::RDONLY | OPEN, Mode::empty()) {
            Ok(file) => {
                if look(&File::from(file))? {
                    return Ok(true);
                }
            }
            // There is no lock file, or something else in its place, which `lock` refuses: then the directory's lock decides.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {}
            Err(error) => {
                let error = io::Error::from(error);
                let text = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
        match File::open(&self.root) {
            // If directories can't be locked, nobody has locked this one.
            Ok(directory) => Ok(look(&directory).unwrap_or(false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until no worker lives in this directory; false when `timeout` passes first.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn wait_unlocked(&self, timeout: Duration) -> io::Result<bool> {
        retry(timeout, || self.locked().map(|held| !held))
    }

    /// The process that holds the lock, if it can be found.
    ///
    /// It is the one named in the file, if that really holds a lock, or else one that holds both locks. Before signalling it, open a pidfd
    /// and ask again.
    #[must_use]
    pub fn holder(&self) -> Option<Pid> {
        let identity = |path: &Path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let (file, root) = (identity(&self.lock_file()), identity(&self.root));
        let named = written_pid(&self.lock_file()).filter(|pid| {
            let held = held_by(*pid);
            held.iter().any(|lock| Some(lock.identity) == file) || both(&held, root)
        });
        named.or_else(|| {
            let locks = fs::read_to_string("/proc/locks").ok()?;
            let holders = flock_holders(&locks, root?.1).into_iter();
            let mut holders = holders.filter_map(Pid::from_raw);
            holders.find(|pid| both(&held_by(*pid), root))
        })
    }
}

/// Refuses if the sandboxes `pids` belong to a worker whose directory was moved while it runs.
///
/// Such a worker holds the lock of its directory at the new place, while its cgroups are named after the place where it was started.
pub(crate) fn refuse_moved(pids: &[i32]) -> Result<(), LockError> {
    let parents: BTreeSet<i32> = pids.iter().filter_map(|pid| parent(*pid)).collect();
    // If the worker was killed, its sandboxes have other parents, which hold no lock.
    let moved = parents
        .into_iter()
        .filter_map(Pid::from_raw)
        .find_map(|pid| {
            let held = held_by(pid);
            let lock = held.iter().find_map(|lock| lock.directory.clone())?;
            Some(LockError::Moved {
                directory: lock,
                pid: pid.as_raw_pid(),
            })
        });
    moved.map_or(Ok(()), Err)
}

fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// Flags for opening the lock file: a link or pipe in its place is neither followed nor waited for.
const OPEN: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

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

/// Whether both the directory `root` and a file named like the lock, removed or not, are locked, which only a worker does.
///
/// Other programs may lock the directory alone, and must not be signalled.
fn both(held: &[Held], root: Option<(u64, u64)>) -> bool {
    root.is_some()
        && held.iter().any(|lock| Some(lock.identity) == root)
        && held.iter().any(|lock| lock.directory.is_some())
}

/// A file that a process has locked.
struct Held {
    /// Device and inode.
    identity: (u64, u64),
    /// The worker directory whose lock file this is, removed or not; `None` for other files.
    directory: Option<PathBuf>,
}

/// The files that `pid` has open and locked. A descriptor's fdinfo lists the locks taken through it (proc_pid_fdinfo(5)).
fn held_by(pid: Pid) -> Vec<Held> {
    let process = Path::new("/proc").join(pid.as_raw_pid().to_string());
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return Vec::new();
    };
    let held = descriptors.filter_map(Result::ok).filter_map(|descriptor| {
        let info = process.join("fdinfo").join(descriptor.file_name());
        let info = fs::read_to_string(info).ok()?;
        let mut locks = info.lines().filter(|line| line.starts_with("lock:"));
        if !locks.any(|lock| lock.contains("FLOCK")) {
            return None;
        }
        let open = fs::metadata(descriptor.path()).ok()?;
        let path = fs::read_link(descriptor.path()).ok()?;
        let path = path.to_string_lossy();
        Some(Held {
            identity: (open.dev(), open.ino()),
            directory: path
                // The kernel's mark for a removed file.
                .trim_end_matches(" (deleted)")
                .strip_suffix("/worker/lock")
                .map(PathBuf::from),
        })
    });
    held.collect()
}

/// Pids of the holders of flock(2) locks on files with this inode number, by the text of `/proc/locks`.
///
/// The device numbers there may differ from those of stat(2), thus callers must examine the holders further.
fn flock_holders(locks: &str, inode: u64) -> Vec<i32> {
    let held = locks.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, _, access) = (words.next()?, words.next()?, words.next()?);
        let (pid, file) = (words.next()?, words.next()?);
        let same = file.rsplit(':').next()?.parse() == Ok(inode);
        (kind == "FLOCK" && access == "WRITE" && same).then(|| pid.parse().ok())?
    });
    held.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_read_as_the_kernel_lists_them() {
        let locks = "\
1: POSIX  ADVISORY  WRITE 500 00:15:77 0 EOF
2: FLOCK  ADVISORY  WRITE 612 fe:01:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 700 fe:01:77 0 EOF
3: FLOCK  ADVISORY  READ  613 fe:01:77 0 EOF
4: FLOCK  ADVISORY  WRITE 614 fe:01:78 0 EOF
5: FLOCK  ADVISORY  WRITE 615 00:21:77 0 EOF
";
        assert_eq!(flock_holders(locks, 77), [612, 615]);
        assert_eq!(flock_holders("", 77), Vec::<i32>::new());
    }
}
