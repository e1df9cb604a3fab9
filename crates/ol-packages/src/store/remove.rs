//! Removes packages from the store: a given one, the ones unused for longest until the rest fits, and what a crash left.
//!
//! A package is first renamed, in one step, and then deleted: nobody ever imports from half a package.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::StoreError;
use super::folder::Store;
use super::partial::{PARTIAL, unique};
use crate::pin::Pin;

/// Prefix of a package's directory while it is deleted.
const REMOVED: &str = ".removed-";

impl Store {
    /// Removes `pin`; false when it wasn't there. Blocking.
    ///
    /// # Errors
    /// When it is leased (the error names the holders), or this host fails.
    pub fn remove(&self, pin: &Pin) -> Result<bool, StoreError> {
        let failed = |error: io::Error| StoreError::host("remove", pin, error);
        let removed = self.0.folder.join(unique(REMOVED, pin));
        {
            let mut table = self.0.table();
            let holders = table.holders(pin);
            if !holders.is_empty() {
                let by: Vec<_> = holders.iter().map(AsRef::as_ref).collect();
                return Err(StoreError::Held {
                    package: pin.to_string(),
                    by: by.join(", "),
                });
            }
            match fs::rename(self.0.path(pin), &removed) {
                Ok(()) => table.forget(pin),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(failed(error)),
            }
        }
        // Before the deletion: a power cut must not bring the name back with only some of the files.
        self.0.sync_folder().map_err(failed)?;
        delete(&removed).map_err(failed)?;
        Ok(true)
    }

    /// Removes packages, those unused for longest first, until all together have at most `quota` bytes; returns the removed ones. Blocking.
    ///
    /// Leased packages stay, thus more than `quota` may remain.
    ///
    /// # Errors
    /// When this host fails.
    pub fn collect(&self, quota: u64) -> Result<Vec<Pin>, StoreError> {
        let mut installed = self.list()?;
        let mut bytes: u64 = installed.iter().map(|package| package.bytes).sum();
        installed.sort_by_key(|package| package.last_used);
        let mut removed = Vec::new();
        for package in installed {
            if bytes <= quota {
                break;
            }
            match self.remove(&package.pin) {
                Ok(_) => {
                    bytes -= package.bytes;
                    removed.push(package.pin);
                }
                Err(StoreError::Held { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

/// Deletes a package's directory and everything in it, without following links.
///
/// Its directories are read-only: without capabilities even root can't delete from them before changing their mode.
pub(super) fn delete(directory: &Path) -> io::Result<()> {
    match make_writable(directory).and_then(|()| fs::remove_dir_all(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        deleted => deleted,
    }
}

fn make_writable(directory: &Path) -> io::Result<()> {
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        if !fs::symlink_metadata(&directory)?.is_dir() {
            continue;
        }
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Deletes what processes that ended left in `folder`: packages that were never completed, or whose deletion was interrupted.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let (partial, removed) = (name.starts_with(PARTIAL), name.starts_with(REMOVED));
        if !(partial || removed) || (partial && is_alive(&entry.path())?) {
            continue;
        }
        tracing::info!(directory = %name, "removing what was left of a package");
        delete(&entry.path())?;
    }
    Ok(())
}

/// Whether a process still works on this partial package, which it then holds a lock on.
fn is_alive(partial: &Path) -> io::Result<bool> {
    let opened = match File::open(partial) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}
