//! A package on its way into the store, in two phases: [`Partial`], which has no files yet, and [`Filled`], which has all
//! of them, read-only and on disk, but not its name. Either removes itself unless the next takes over.

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
use super::lease::Lease;
use super::record::Record;
use super::{remove, seal};
use crate::pin::Pin;

/// How a directory that isn't a package yet is called; a name that no pin displays as.
pub(super) const PARTIAL: &str = ".partial-";

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A name for something of `pin` that no other of this or another process has.
pub(super) fn unique(prefix: &str, pin: &Pin) -> String {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{pin}-{}-{number}", std::process::id())
}

/// A directory in the store that is removed when dropped.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    /// Its directory, locked: another program's [`Store::open`] leaves it alone.
    lock: Option<File>,
}

impl Scratch {
    fn new(shared: &Shared, pin: &Pin) -> io::Result<Self> {
        loop {
            let path = shared.folder.join(unique(PARTIAL, pin));
            // Nobody but us looks inside until it is whole.
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Until it is locked, a sweep may take it; then there is nothing left to lock or in it, and the next name
            // is tried.
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

    /// Lets it stay.
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

/// Never blocks a task: within a runtime the removal goes to its threads for that. If it ends first, the next open sweeps.
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

/// A package's place before it has files.
#[derive(Debug)]
pub struct Partial {
    shared: Arc<Shared>,
    pin: Pin,
    scratch: Scratch,
}

impl Partial {
    /// Makes room for `pin`. Blocking.
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

    /// Room for the same once more, should filling this fail. Blocking.
    ///
    /// # Errors
    /// When this host fails.
    pub fn another(&self) -> Result<Self, StoreError> {
        Self::new(&self.shared, &self.pin)
    }

    /// Unpacks `archive`, a plain tar of what is to lie in `files`, read to its end. All of it is then read-only (0444, or
    /// 0555 when anybody could execute it), this user's, and synced. Blocking, for as long as `archive` takes.
    ///
    /// # Errors
    /// When the archive is damaged, over a limit, without a file, or holds anything but files and directories beneath, or
    /// this host fails. Nothing is left of it then.
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

/// A whole package that nobody sees yet.
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

    /// Gives it its name and leases it for `holder`. When this returns it survives a power cut; cut at any moment before,
    /// it is there whole or not at all. If it is there already, that one is leased and this one removed. Blocking.
    ///
    /// # Errors
    /// When this host fails, or something that is no package lies in its place. Nothing is left of it then.
    pub fn commit(self, holder: &str) -> Result<Lease, StoreError> {
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
            let lease = Lease::take(&shared, &mut table, &pin, holder);
            (renamed, lease)
        };
        let (lease, ours) = match renamed {
            (Ok(()), Some(lease)) => {
                scratch.keep();
                (lease, true)
            }
            // Another program was faster, or somebody put it there by hand.
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
                    // Refused when another leased it already, who then uses what may be gone after a power cut.
                    let _ = Store(Arc::clone(&shared)).remove(&pin);
                }
                Err(failed(error))
            }
        }
    }
}

/// The last steps before the name: the record, and the directory itself, readable by all from here on.
fn close(directory: &Path, record: &Record) -> io::Result<()> {
    record.write(directory)?;
    let opened = File::open(directory)?;
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o555))?;
    opened.sync_all()
}
