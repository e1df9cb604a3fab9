//! Writes an image's files beneath one directory, and nowhere else.
//!
//! Images are full of links, absolute ones too, and a member may lie behind one (`lib/x` where `lib` is a link to `usr/lib`). The kernel
//! resolves each path as if the directory were the root (openat2(2), `RESOLVE_IN_ROOT`): a link means the same as later in the sandbox, and
//! none leads outside.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// `EXCL`: never into a file that is there already, nor through a link.
const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The directory that an image unpacks into.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    /// The directory of the last member, because the next member usually has the same.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    pub(super) fn open(into: &Path) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, into, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { root, last: None })
    }

    /// Makes the directory `path` and its missing parents; an existing one is fine.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.enter(path)?;
        Ok(())
    }

    /// Creates the file `path` with exactly `mode`, whatever the umask. Replaces what was there, unless that is a directory.
    pub(super) fn file(&mut self, path: &[u8], mode: u32) -> io::Result<File> {
        let (parent, name) = self.place(path)?;
        let owner_only = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat2(parent, name, NEW_FILE, owner_only, IN_ROOT)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Makes a symbolic link to `target`, which need not exist.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.place(path)?;
        Ok(rustix::fs::symlinkat(target, parent, name)?)
    }

    /// Makes `path` another name of the file that `other` names.
    pub(super) fn hard_link(&mut self, path: &[u8], other: &[u8]) -> io::Result<()> {
        let (folder, other) = split(other);
        let from = open(self.root.as_fd(), folder)?;
        let (parent, name) = self.place(path)?;
        // Links are not followed: if `other` is a link, this becomes another name of the link.
        Ok(rustix::fs::linkat(
            from,
            other,
            parent,
            name,
            AtFlags::empty(),
        )?)
    }

    /// Syncs everything in the directory, so that it is complete after a crash once it was renamed into place.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// Opens the directory that `path` lies in and frees its name there; returns both.
    fn place<'a>(&mut self, path: &'a [u8]) -> io::Result<(&OwnedFd, &'a OsStr)> {
        let (folder, name) = split(path);
        let name = OsStr::from_bytes(name);
        let parent = self.enter(folder)?;
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
            Ok(there) if FileType::from_raw_mode(there.st_mode).is_dir() => {
                return Err(Errno::ISDIR.into());
            }
            // If a name occurs twice, the later member counts, as in any tar.
            Ok(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
        }
        Ok((parent, name))
    }

    fn enter(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        if path.is_empty() {
            return Ok(&self.root);
        }
        if !matches!(&self.last, Some((last, _)) if last == path) {
            let directory = self.make(path)?;
            self.last = Some((path.to_vec(), directory));
        }
        let last = self.last.as_ref().map(|(_, directory)| directory);
        Ok(last.expect("it was just set"))
    }

    fn make(&self, path: &[u8]) -> io::Result<OwnedFd> {
        // Starts from the deepest existing directory. A loop, not recursion: a name has up to 2,048 parts.
        let mut missing = Vec::new();
        let mut above = path;
        let mut here = loop {
            match open(self.root.as_fd(), above) {
                Ok(directory) => break directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !above.is_empty() => {}
                Err(error) => return Err(error),
            }
            let (parent, name) = split(above);
            missing.push(name);
            above = parent;
        };
        while let Some(name) = missing.pop() {
            // A dangling link was not found above and makes mkdirat fail here (EEXIST).
            rustix::fs::mkdirat(&here, OsStr::from_bytes(name), Mode::RWXU)?;
            here = open(here.as_fd(), name)?;
            rustix::fs::fchmod(&here, Mode::from_raw_mode(0o755))?;
        }
        Ok(here)
    }
}

fn open(root: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let path = OsStr::from_bytes(path);
    loop {
        match rustix::fs::openat2(root.as_fd(), path, DIRECTORY, Mode::empty(), IN_ROOT) {
            // The kernel gives up when anything is renamed while it follows `..`: try again.
            Err(Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
}

/// Sets a file's modification time, because Python compares it with the time in the compiled file.
pub(super) fn keep_time(file: &File, seconds: u64) -> io::Result<()> {
    let Ok(tv_sec) = i64::try_from(seconds) else {
        return Ok(());
    };
    let at = Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps {
        last_access: at,
        last_modification: at,
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
