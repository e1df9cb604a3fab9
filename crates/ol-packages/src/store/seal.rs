//! Makes unpacked files read-only and syncs them to disk.
//!
//! Each file and directory is synced on its own, because one syncfs(2) would wait for everything else that the disk has to write. Many are
//! synced at once, because a file system writes its journal once for all who wait for it: three thousand files of 24 kB took 4.5 s one
//! after the other, 0.2 s with sixteen threads (ext4).

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};

/// Threads that sync. They spend their time waiting.
const SYNCING: usize = 16;

/// The most open files queued for these threads.
const WAITING: usize = 64;

/// The size of what was sealed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub files: u64,
    /// The total length of the files.
    pub bytes: u64,
}

/// Makes `directory` and everything in it read-only and synced. Blocking.
pub(super) fn seal(directory: &Path) -> io::Result<Sealed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    let (sender, receiver) = mpsc::sync_channel::<File>(WAITING);
    let receiver = Mutex::new(receiver);
    let next = || {
        receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv()
    };
    // Continues after an error until all files are received: a thread that left early could leave the walk blocked.
    let sync = || {
        let mut failed = None;
        while let Ok(file) = next() {
            failed = failed.or_else(|| file.sync_all().err());
        }
        failed.map_or(Ok(()), Err)
    };
    thread::scope(|scope| {
        let syncing: Vec<_> = (0..SYNCING).map(|_| scope.spawn(sync)).collect();
        let mut sealing = Sealing {
            sealed: Sealed::default(),
            sync: sender,
        };
        let walked = sealing.directory(root);
        let Sealing { sealed, sync } = sealing;
        drop(sync);
        let panicked = || Err(io::Error::other("a thread panicked"));
        let synced = syncing
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| panicked()));
        synced.collect::<io::Result<()>>()?;
        walked.map(|()| sealed)
    })
}

struct Sealing {
    sealed: Sealed,
    sync: mpsc::SyncSender<File>,
}

impl Sealing {
    /// Recurses as deep as unpacking allows: 64 levels.
    fn directory(&mut self, directory: OwnedFd) -> io::Result<()> {
        let mut entries = Dir::read_from(&directory)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(&directory, name)?;
            }
        }
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o555))?;
        self.send(directory)
    }

    fn entry(&mut self, parent: &OwnedFd, name: &CStr) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&opened)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(opened),
            FileType::RegularFile => {
                let executable = stat.st_mode & 0o111 != 0;
                let mode = if executable { 0o555 } else { 0o444 };
                rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode))?;
                self.sealed.files += 1;
                self.sealed.bytes += u64::try_from(stat.st_size).unwrap_or(0);
                self.send(opened)
            }
            // Unpacking creates neither links nor devices.
            other => Err(io::Error::other(format!("found a {other:?}"))),
        }
    }

    fn send(&self, opened: OwnedFd) -> io::Result<()> {
        let sent = self.sync.send(opened.into());
        sent.map_err(|_| io::Error::other("nothing can be synced any more"))
    }
}
