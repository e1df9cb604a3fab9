//! Writes members beneath one directory, and nowhere else.
//!
//! The names were checked (see [`MemberPath`]) and no link is ever made, so no path should lead outside. The kernel enforces that as
//! well: every open is an openat2(2) relative to the directory's descriptor, which fails on `..` beyond it and on any link on the way.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::member::{MemberPath, split};

/// Directories are opened for reading, not with `O_PATH`, since fchmod(2) needs that.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// With `EXCL`, so that a member is never written to a file that exists already.
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Why a member could not be written.
#[derive(Debug)]
pub(super) enum TreeError {
    /// A file of this name exists already.
    FileThere,
    /// The name stands for a directory in one place of the archive and for a file in another.
    FileAndDirectory,
    /// Making it, or the directories above it, would exceed the limit on entries.
    NoneLeft,
    /// The host's file system failed.
    Io(io::Error),
}

impl From<Errno> for TreeError {
    fn from(errno: Errno) -> Self {
        TreeError::Io(errno.into())
    }
}

/// How many more files and directories may be made.
///
/// Directories that no member names count too: otherwise each member could make as many as its name has parts.
#[derive(Debug)]
pub(super) struct EntryBudget {
    limit: u64,
    made: u64,
}

impl EntryBudget {
    pub(super) fn new(limit: u64) -> EntryBudget {
        EntryBudget { limit, made: 0 }
    }

    pub(super) fn made(&self) -> u64 {
        self.made
    }

    fn spend(&mut self) -> Result<(), TreeError> {
        if self.made >= self.limit {
            return Err(TreeError::NoneLeft);
        }
        self.made += 1;
        Ok(())
    }
}

/// The directory that a bundle unpacks into.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory of the last member: the next one usually shares it.
    last: Option<(Vec<u8>, OwnedFd)>,
    budget: EntryBudget,
}

impl Tree {
    pub(super) fn open(into: &Path, budget: EntryBudget) -> io::Result<Tree> {
        let root = rustix::fs::openat(CWD, into, DIRECTORY, Mode::empty())?;
        Ok(Tree {
            root,
            last: None,
            budget,
        })
    }

    /// Files and directories made so far.
    pub(super) fn made(&self) -> u64 {
        self.budget.made()
    }

    /// Makes the directory `path` and the missing directories above it; an existing one is no error.
    pub(super) fn directory(&mut self, path: &MemberPath) -> Result<(), TreeError> {
        self.enter(path.as_bytes())
    }

    /// Makes an empty file at `path`, readable by everyone: the sandbox's uid is "other".
    pub(super) fn file(&mut self, path: &MemberPath, executable: bool) -> Result<File, TreeError> {
        let (parent, name) = path.split();
        if name.is_empty() {
            return Err(TreeError::FileAndDirectory);
        }
        self.enter(parent)?;
        self.budget.spend()?;
        let parent = match &self.last {
            Some((_, directory)) => directory.as_fd(),
            None => self.root.as_fd(),
        };
        let owner_only = Mode::RUSR | Mode::WUSR;
        let fd = match rustix::fs::openat2(parent, name, NEW_FILE, owner_only, BENEATH) {
            Ok(fd) => fd,
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                return Err(match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => TreeError::FileAndDirectory,
                    _ => TreeError::FileThere,
                });
            }
            Err(errno) => return Err(errno.into()),
        };
        // Set after the open, so that the worker's umask has no effect; setuid, setgid and sticky bits are never set.
        let mode = if executable { 0o755 } else { 0o644 };
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Makes `self.last` the directory `path`, or `None` for the root.
    fn enter(&mut self, path: &[u8]) -> Result<(), TreeError> {
        if path.is_empty() {
            self.last = None;
            return Ok(());
        }
        if matches!(&self.last, Some((last, _)) if last == path) {
            return Ok(());
        }
        // Starts from the deepest directory that exists, so that a deep name costs only its missing parts.
        let mut missing = Vec::new();
        let mut above = path;
        let mut here = loop {
            if above.is_empty() {
                break None;
            }
            match rustix::fs::openat2(&self.root, above, DIRECTORY, Mode::empty(), BENEATH) {
                Ok(directory) => break Some(directory),
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(TreeError::FileAndDirectory),
                Err(errno) => return Err(errno.into()),
            }
            let (parent, name) = split(above);
            missing.push(name);
            above = parent;
        };
        while let Some(name) = missing.pop() {
            self.budget.spend()?;
            let parent = here.as_ref().unwrap_or(&self.root);
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            let directory = rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), BENEATH)?;
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
            here = Some(directory);
        }
        self.last = here.map(|directory| (path.to_vec(), directory));
        Ok(())
    }
}
