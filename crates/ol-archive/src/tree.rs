//! Writes members beneath one directory, and nowhere else.
//!
//! The names were checked (see [`MemberPath`]) and no link is ever made, so nothing here should lead
//! outside. The kernel is asked to hold us to that all the same: every open is an openat2(2) relative
//! to the directory's descriptor that fails on `..` beyond it and on any link on the way.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::member::{MemberPath, split};

/// Directories are opened for reading, not `O_PATH`: fchmod(2) needs it.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// `EXCL`: a member never lands in a file that is there already.
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Why a member could not be given its place.
#[derive(Debug)]
pub(super) enum TreeError {
    /// A file of this name is there.
    FileThere,
    /// The name is a directory here and a file there.
    FileAndDirectory,
    /// Making the directories above it would go over the limit on entries.
    NoneLeft,
    /// The host's file system said no.
    Io(io::Error),
}

impl From<Errno> for TreeError {
    fn from(errno: Errno) -> Self {
        TreeError::Io(errno.into())
    }
}

/// How many more files and directories may be made. Directories that no member names count too:
/// otherwise each member could bring as many as a name has parts.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    made: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Budget {
        Budget { limit, made: 0 }
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
    budget: Budget,
}

impl Tree {
    pub(super) fn open(into: &Path, budget: Budget) -> io::Result<Tree> {
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

    /// Makes `path` and what is missing above it. One that exists already is fine.
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
        // After the open, so that the worker's umask has no say; setuid and its kin never survive.
        let mode = if executable { 0o755 } else { 0o644 };
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Makes `self.last` the directory `path` (none: the root).
    fn enter(&mut self, path: &[u8]) -> Result<(), TreeError> {
        if path.is_empty() {
            self.last = None;
            return Ok(());
        }
        if matches!(&self.last, Some((last, _)) if last == path) {
            return Ok(());
        }
        // Down from the deepest directory that exists, so that a deep name costs its missing parts only.
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
