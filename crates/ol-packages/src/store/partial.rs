//! A package on its way into the store, in two phases.
//!
//! [`Partial`] has no files yet; [`Filled`] has all of them, read-only and on disk, but not its final name. Each removes itself unless the
//! next phase takes over.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ol_archive::extract_tar;
use rustix::fs::{FlockOperation, Mode, flock};

use super::error::StoreError;
use super::folder::{FILES, Shared, Store};
use super::lease::PackageLease;
use super::record::Record;
use super::{remove, seal};
use crate::pin::Pin;

/// Prefix of a directory that isn't a package yet; no pin displays like that.
pub(super) const PARTIAL: &str = ".partial-";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A name for something of `pin` that is unique in this and all other processes.
pub(super) fn unique(prefix: &str, pin: &Pin) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{pin}-{}-{number}", std::process::id())
}

/// A directory in the store that is removed when dropped.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    /// The directory, opened and locked: the lock makes another program's [`Store::open`] leave it alone.
    lock: Option<File>,
}

impl Scratch {
    fn new(shared: &Shared, pin: &Pin) -> io::Result<Self> {
        loop {
            let path = shared.folder.join(unique(PARTIAL, pin));
            // Only this user may look inside until the package is complete.
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Before it is locked, another program's sweep may remove it; then the next name is tried.
            let locked = File::open(&path).and_then(|lock| {
                flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
                Ok(lock)
            });
            let lock = match locked {
                Ok(lock) => Some(lock),
                Err(error) if is_swept(&error) => continue,
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            };
            let mut scratch = Self { path, lock };
            match fs::create_dir(scratch.files()) {
                Ok(()) => return Ok(scratch),
                Err(error) if is_swept(&error) => scratch.lock = None,
                Err(error) => {
                    scratch.remove();
                    return Err(error);
                }
            }
        }
    }

    fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    /// Removes it now. Blocking.
    fn remove(mut self) {
        if self.lock.take().is_some() {
            remove_logged(&self.path);
        }
    }

    /// Keeps it: dropping no longer removes it.
    fn keep(mut self) {
        self.lock = None;
    }
}

fn is_swept(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
    )
}

fn remove_logged(path: &Path) {
    if let Err(error) = remove::delete(path) {
        tracing::warn!(%error, ?path, "can't remove part of a package; the next start tries again");
    }
}

/// Never blocks a task: within a runtime, a thread for blocking work removes the directory. If the runtime ends first, the next
/// [`Store::open`] does.
impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else {
            return;
        };
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            remove_logged(&path);
            drop(lock);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Room for a package that has no files yet.
#[derive(Debug)]
pub struct Partial {
    shared: Arc<Shared>,
    pin: Pin,
    scratch: Scratch,
}

impl Partial {
    /// Creates the directory for `pin`. Blocking.
    pub(super) fn new(shared: &Arc<Shared>, pin: &Pin) -> Result<Self, StoreError> {
        let scratch = Scratch::new(shared, pin);
        Ok(Self {
            shared: Arc::clone(shared),
            pin: pin.clone(),
            scratch: scratch.map_err(|error| StoreError::host("make room for", pin, error))?,
        })
    }

    /// Which package is wanted.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Makes room for the same package once more, in case filling this one fails. Blocking.
    ///
    /// # Errors
    /// When this host fails.
    pub fn another(&self) -> Result<Self, StoreError> {
        Self::new(&self.shared, &self.pin)
    }

    /// Unpacks `archive`, a plain tar of the package's files, and reads it to its end. Blocking, for as long as `archive` takes.
    ///
    /// Afterwards all files are read-only (0444, or 0555 when anybody could execute them), owned by this user, and synced.
    ///
    /// # Errors
    /// When the archive is damaged, over a limit, contains no file or anything but files and directories below its root, or this host
    /// fails. Nothing is left then.
    pub fn fill(self, archive: impl Read) -> Result<Filled, StoreError> {
        let filled = self.unpack(archive);
        match filled {
            Ok(record) => Ok(Filled {
                partial: self,
                record,
            }),
            Err(error) => {
                self.scratch.remove();
                Err(error)
            }
        }
    }

    fn unpack(&self, archive: impl Read) -> Result<Record, StoreError> {
        let files = self.scratch.files();
        extract_tar(archive, &files, &self.shared.limits.extract())
            .map_err(|error| StoreError::unpacking(&self.pin, error))?;
        let sealed =
            seal::seal(&files).map_err(|error| StoreError::host("write", &self.pin, error))?;
        if sealed.files == 0 {
            return Err(StoreError::Empty(self.pin.to_string()));
        }
        Ok(Record {
            bytes: sealed.bytes,
            files: sealed.files,
            hashes: self.pin.hashes().to_vec(),
        })
    }
}

/// A complete package that isn't visible yet.
#[derive(Debug)]
pub struct Filled {
    partial: Partial,
    record: Record,
}

impl Filled {
    /// Which package it is.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.partial.pin
    }

    /// Gives the package its final name and leases it for `holder`. Blocking.
    ///
    /// After a power cut at any moment it is there completely or not at all; once this returned, it is there. If the same package is there
    /// already, that one is leased and this one removed.
    ///
    /// # Errors
    /// When this host fails, or something that is no package lies at its path. Nothing is left then.
    pub fn commit(self, holder: &str) -> Result<PackageLease, StoreError> {
        let Self { partial, record } = self;
        let Partial {
            shared,
            pin,
            scratch,
        } = partial;
        let failed = |error: io::Error| StoreError::host("store", &pin, error);
        if let Err(error) = close(&scratch.path, &record) {
            scratch.remove();
            return Err(failed(error));
        }
        let renamed = {
            let mut table = shared.table();
            let renamed = fs::rename(&scratch.path, shared.path(&pin));
            let lease = PackageLease::take(&shared, &mut table, &pin, holder);
            (renamed, lease)
        };
        let (lease, ours) = match renamed {
            (Ok(()), Some(lease)) => {
                scratch.keep();
                (lease, true)
            }
            // Another program was faster, or somebody put the package there by hand.
            (Err(_), Some(lease)) => {
                scratch.remove();
                (lease.verified()?, false)
            }
            (Err(error), None) => {
                scratch.remove();
                return Err(match error.kind() {
                    io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::NotADirectory => StoreError::Occupied(pin.to_string()),
                    _ => failed(error),
                });
            }
            // Another program removed it in between.
            (Ok(()), None) => {
                scratch.keep();
                return Err(failed(io::ErrorKind::NotFound.into()));
            }
        };
        match shared.sync_folder() {
            Ok(()) => Ok(lease),
            Err(error) => {
                drop(lease);
                if ours {
                    // Removal fails when another caller leased it already, who then uses a package that a power cut may lose.
                    let _ = Store(Arc::clone(&shared)).remove(&pin);
                }
                Err(failed(error))
            }
        }
    }
}

/// Writes the record and makes the directory readable by all: the last steps before the rename.
fn close(directory: &Path, record: &Record) -> io::Result<()> {
    record.write(directory)?;
    let opened = File::open(directory)?;
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o555))?;
    opened.sync_all()
}
