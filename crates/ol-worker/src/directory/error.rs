//! What can be wrong with a worker directory. Each message ends with a remedy, because the command line prints it unchanged, followed by
//! the system's error.

use std::io;
use std::path::{Path, PathBuf};

use ol_model::WorkerConfigError;
use thiserror::Error;

use super::base::UnpackError;

/// Why a worker directory can't be used or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Nothing is there.
    #[error("no worker directory at {}; make one with `ol worker init -p {}`", path.display(), path.display())]
    Absent {
        /// Where.
        path: PathBuf,
    },
    /// `worker_dir` names a place where no other program looks for the worker's files.
    #[error(
        "worker_dir is {}, but a worker keeps its files in {}: leave worker_dir out, and choose the directory with -p",
        given.display(), real.display()
    )]
    Elsewhere {
        /// As configured.
        given: PathBuf,
        /// Where they are.
        real: PathBuf,
    },
    /// Something else is there.
    #[error("not a worker directory: {}; run `ol worker init -p DIR` on an empty or new path", path.display())]
    NotOurs {
        /// Where.
        path: PathBuf,
    },
    /// A worker directory without its configuration.
    #[error("{} is missing; write it anew with `ol worker init -p {}`, which keeps bundles, packages and the base image", path.display(), root.display())]
    Unconfigured {
        /// Where it should be.
        path: PathBuf,
        /// The worker directory.
        root: PathBuf,
    },
    /// A file or directory can't be read.
    #[error("failed to read {}; check that it is there and that you may read it", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory can't be written.
    #[error("failed to write {}; check its owner and the space on its disk", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] WorkerConfigError),
    /// The choice of base image is not understood or can't work.
    #[error(
        "base image {given:?} {problem}; use `host`, `debian[:SUITE]`, `tar:PATH`, `dir:PATH` or `docker:IMAGE`"
    )]
    BaseUnknown {
        /// As written.
        given: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no base image at the configured place.
    #[error("no base image at {}; choose one with `ol worker init -b -i BASE -p {}`", path.display(), root.display())]
    BaseMissing {
        /// Where it should be.
        path: PathBuf,
        /// The worker directory.
        root: PathBuf,
    },
    /// `base.json` is not understood.
    #[error("{} {problem}; write it anew with `ol worker init -b -i BASE -p {}`", path.display(), root.display())]
    BaseRecord {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The worker directory.
        root: PathBuf,
    },
    /// The base image has no Python that works.
    #[error(
        "base image {base} {problem}; install Python 3.9 or newer in it, or choose another with -i"
    )]
    Python {
        /// The base image, as `-i` names it.
        base: String,
        /// What is wrong.
        problem: String,
    },
    /// The archive can't be unpacked as a base image.
    #[error("base image {base} {why}")]
    Unpack {
        /// The base image, as `-i` names it.
        base: String,
        /// What is wrong, and what to do.
        why: UnpackError,
    },
    /// A program failed to make the base image.
    #[error("{program} can't make the base image {base} ({said}); {remedy}")]
    BaseProgram {
        /// Which.
        program: &'static str,
        /// The base image, as `-i` names it.
        base: String,
        /// What it said.
        said: String,
        /// What to do.
        remedy: &'static str,
    },
    /// mmdebstrap is not installed.
    #[error(
        "base images of Debian are made by mmdebstrap, which is not in PATH; run `apt-get install mmdebstrap`, or choose another base with -i"
    )]
    NoMmdebstrap,
    /// Making this base image needs root.
    #[error("the files of base image {base} must be root's; run it with sudo")]
    BaseNeedsRoot {
        /// The base image, as `-i` names it.
        base: String,
    },
    /// The existing base image can't be replaced.
    #[error("{} {problem}, then try again", path.display())]
    BaseInUse {
        /// Which file or directory.
        path: PathBuf,
        /// Why not, and what to do.
        problem: &'static str,
    },
    /// The lock can't be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What a crashed worker left can't be removed.
    #[error("failed to remove what a worker left; run it as root, and again when nothing uses it")]
    Residue {
        /// What the system said.
        source: io::Error,
    },
}

/// Why the lock of a worker directory can't be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// A worker holds it.
    #[error("{}", held(directory, *pid))]
    Held {
        /// The worker directory.
        directory: PathBuf,
        /// The process that holds the lock, if known.
        pid: Option<i32>,
    },
    /// The worker that was started here still runs, and its directory was moved elsewhere.
    #[error(
        "the worker that was started here (pid {pid}) still runs, in {}, where its directory was moved: stop it with `ol worker down -p {}`",
        directory.display(), directory.display()
    )]
    Moved {
        /// Where its directory is now.
        directory: PathBuf,
        /// The process that holds its lock.
        pid: i32,
    },
    /// The lock file can't be opened or locked.
    #[error("failed to lock {}; check its owner and that its file system can lock", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn held(directory: &Path, pid: Option<i32>) -> String {
    let directory = directory.display();
    match pid {
        Some(pid) => format!(
            "a worker already runs in {directory} (pid {pid}): stop it with `ol worker down -p {directory}`"
        ),
        None => format!(
            "a worker already runs in {directory} (pid unknown): {directory} or {directory}/worker/lock is locked by a process that can't \
             be identified; `lslocks` names it, and `ol worker down -p {directory}` stops a worker"
        ),
    }
}
