//! Reads only what lies beneath one directory, even if somebody replaces parts of it meanwhile.
//!
//! A directory to pack may belong to somebody with fewer rights than the process that packs it. Everything in it is therefore opened
//! relative to the directory's descriptor, without following a link: if a file or directory was replaced by a link after it was
//! listed, opening it fails.

use crate::tree::BENEATH;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat2};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The kind of an entry in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// A directory.
#[derive(Debug)]
pub struct Beneath(OwnedFd);

impl Beneath {
    /// Opens the directory `path`. Links in `path` are followed, since the caller chose it.
    ///
    /// # Errors
    /// When it doesn't exist, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// The entries of `folder`, a path beneath the directory, ordered by name. An empty path means the directory itself.
    ///
    /// # Errors
    /// When it can't be read, or its path leads through a link.
    pub fn list(&self, folder: &Path) -> io::Result<Vec<(PathBuf, EntryKind)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let at = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let opened = openat2(&self.0, at, flags, Mode::empty(), BENEATH)?;
        let mut entries = Vec::new();
        for entry in Dir::new(opened)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let path = folder.join(name);
            let kind = match entry.file_type() {
                // Some file systems don't report the kind in a listing.
                FileType::Unknown => self.look(&path)?,
                kind => kind,
            };
            let kind = match kind {
                FileType::Directory => EntryKind::Directory,
                FileType::RegularFile => EntryKind::File,
                FileType::Symlink => EntryKind::Link,
                _ => EntryKind::Other,
            };
            entries.push((path, kind));
        }
        entries.sort();
        Ok(entries)
    }

    fn look(&self, path: &Path) -> io::Result<FileType> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat2(&self.0, path, flags, Mode::empty(), BENEATH) {
            Ok(found) => Ok(FileType::from_raw_mode(fstat(found)?.st_mode)),
            Err(rustix::io::Errno::LOOP) => Ok(FileType::Symlink),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file at `path` beneath the directory for reading.
    ///
    /// # Errors
    /// When it can't be opened, is no file (any more), or its path leads through a link.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        let opened = openat2(&self.0, path, FILE, Mode::empty(), BENEATH);
        let opened = opened.map_err(|error| match error {
            rustix::io::Errno::LOOP => io::Error::other(
                "a link has taken its place, or that of a directory above it; links are not followed",
            ),
            other => other.into(),
        })?;
        regular(opened)
    }
}

/// The flags for a file. `NONBLOCK` is for pipes: if one was put in the file's place, opening it must not wait for its other end.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Opens the regular file `path` for reading. Links in `path` are followed; opening a pipe doesn't wait.
///
/// # Errors
/// When it can't be opened, or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = FILE.difference(OFlags::NOFOLLOW);
    regular(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn regular(opened: OwnedFd) -> io::Result<File> {
    match FileType::from_raw_mode(fstat(&opened)?.st_mode) {
        FileType::RegularFile => Ok(File::from(opened)),
        _ => Err(io::Error::other("it is not a file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_there_is_listed_by_kind_and_read() {
        let scratch = tempfile::tempdir().expect("a directory");
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("lib")).expect("made");
        fs::write(at("lib/a"), "inner").expect("written");
        fs::write(at("f.py"), "outer").expect("written");
        symlink("f.py", at("link")).expect("linked");
        rustix::fs::mknodat(
            CWD,
            at("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        let beneath = Beneath::open(scratch.path()).expect("opened");
        let listed = beneath.list(Path::new("")).expect("listed");
        let expected = [
            ("f.py", EntryKind::File),
            ("lib", EntryKind::Directory),
            ("link", EntryKind::Link),
            ("pipe", EntryKind::Other),
        ];
        assert_eq!(
            listed,
            expected.map(|(name, kind)| (PathBuf::from(name), kind))
        );
        let inner = beneath.list(Path::new("lib")).expect("listed");
        assert_eq!(inner, [(PathBuf::from("lib/a"), EntryKind::File)]);
        let file = beneath.file(Path::new("lib/a")).expect("opened");
        assert_eq!(io::read_to_string(file).expect("read"), "inner");
        for no_file in ["lib", "link", "pipe", "absent", "../escaped"] {
            beneath
                .file(Path::new(no_file))
                .expect_err("it is no file beneath");
        }
        open_regular(&at("link")).expect("who names it may mean a link");
        open_regular(&at("pipe")).expect_err("nobody waits for a pipe");
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_leads_nowhere() {
        let scratch = tempfile::tempdir().expect("a directory");
        let secret = tempfile::tempdir().expect("another");
        fs::write(secret.path().join("a"), "secret").expect("written");
        fs::create_dir(scratch.path().join("lib")).expect("made");
        fs::write(scratch.path().join("lib/a"), "mine").expect("written");
        let beneath = Beneath::open(scratch.path()).expect("opened");
        fs::rename(scratch.path().join("lib"), scratch.path().join("old")).expect("moved");
        symlink(secret.path(), scratch.path().join("lib")).expect("linked");
        let error = beneath
            .file(Path::new("lib/a"))
            .expect_err("it leads outside");
        assert!(error.to_string().contains("link"), "{error}");
        beneath
            .list(Path::new("lib"))
            .expect_err("it leads outside");
    }
}
