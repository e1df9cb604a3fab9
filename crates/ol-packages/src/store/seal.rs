//! Makes what was unpacked read-only, and makes sure that it is on disk.
//!
//! Each file and directory is synced on its own: one syncfs(2) would be quicker, but waits for whatever else the disk has
//! to write, and says nothing of a file whose writing failed before.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub files: u64,
    /// Lengths of the files together.
    pub bytes: u64,
}

/// Seals `directory` and all in it. Blocking.
pub(super) fn seal(directory: &Path) -> io::Result<Sealed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    let mut sealed = Sealed::default();
    seal_directory(root, &mut sealed)?;
    Ok(sealed)
}

/// Recursion is as deep as unpacking allows, 64.
fn seal_directory(directory: OwnedFd, sealed: &mut Sealed) -> io::Result<()> {
    let mut entries = Dir::read_from(&directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            seal_entry(&directory, name, sealed)?;
        }
    }
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o555))?;
    File::from(directory).sync_all()
}

fn seal_entry(parent: &OwnedFd, name: &CStr, sealed: &mut Sealed) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&opened)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => seal_directory(opened, sealed),
        FileType::RegularFile => {
            let executable = stat.st_mode & 0o111 != 0;
            let mode = if executable { 0o555 } else { 0o444 };
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode))?;
            sealed.files += 1;
            sealed.bytes += u64::try_from(stat.st_size).unwrap_or(0);
            File::from(opened).sync_all()
        }
        // Unpacking makes neither links nor devices.
        other => Err(io::Error::other(format!("found a {other:?}"))),
    }
}
