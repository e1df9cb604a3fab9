//! Writes an image's files beneath one directory, and nowhere else.
//!
//! Images are full of links, absolute ones too, and a member may lie behind one (`lib/x` where
//! `lib` leads to `usr/lib`). The kernel resolves each path as if the directory were the root
//! (openat2(2), `RESOLVE_IN_ROOT`): a link means what it will mean in the sandbox, and none leads
//! out, whatever it says.

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
    /// The directory of the last member: the next one usually shares it.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    pub(super) fn open(into: &Path) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, into, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { root, last: None })
    }

    /// Makes the directory `path` and what is missing above it. One that is there is fine.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.enter(path)?;
        Ok(())
    }

    /// Makes the file `path` for reading by anybody; what was there before goes, unless it is a
    /// directory. `mode` is what the file is to have, whatever the umask.
    pub(super) fn file(&mut self, path: &[u8], mode: u32) -> io::Result<File> {
        let (parent, name) = self.place(path)?;
        let owner_only = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat2(parent, name, NEW_FILE, owner_only, IN_ROOT)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Makes a symbolic link to `target`, of which nothing is asked.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.place(path)?;
        Ok(rustix::fs::symlinkat(target, parent, name)?)
    }

    /// Makes `path` another name of the file that `other` names.
    pub(super) fn hard_link(&mut self, path: &[u8], other: &[u8]) -> io::Result<()> {
        let (folder, other) = split(other);
        let from = open(self.root.as_fd(), folder)?;
        let (parent, name) = self.place(path)?;
        // Not followed: the other name may be a link, and then so is this.
        Ok(rustix::fs::linkat(
            from,
            other,
            parent,
            name,
            AtFlags::empty(),
        )?)
    }

    /// Everything in it onto the disk, so that what is renamed into place is whole after a crash.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// The directory that `path` lies in, and its free name there.
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
            // The later member counts, as everywhere.
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
        // Down from the deepest that exists. In steps, not by recursion: a name has up to 2,048 parts.
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
            // A link that leads nowhere was not found above, and is in the way here (EEXIST).
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
            // A rename anywhere on the machine while `..` of a link was followed: to be tried again.
            Err(Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
}

/// The modification time of a file, for Python compares it with the one in its compiled form.
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
