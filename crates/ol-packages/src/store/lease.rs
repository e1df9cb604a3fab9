//! Who uses which package, and when each package was last used.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

use super::error::StoreError;
use super::folder::Shared;
use super::record::Record;
use crate::pin::Pin;

/// The precision of a package's last use on disk.
const TOUCHED_EVERY: Duration = Duration::from_secs(60);

/// What is known about packages apart from the disk. Keys are directory names.
#[derive(Debug, Default)]
pub(super) struct Table {
    holders: HashMap<String, BTreeMap<u64, Arc<str>>>,
    touched: HashMap<String, Instant>,
    used: HashSet<String>,
    next: u64,
}

impl Table {
    /// The holders of leases on `pin`, each once; empty when nobody has one.
    pub fn holders(&self, pin: &Pin) -> BTreeSet<Arc<str>> {
        let holders = self.holders.get(&pin.to_string());
        holders
            .into_iter()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }

    pub fn first_use(&mut self, pin: &Pin) -> bool {
        self.used.insert(pin.to_string())
    }

    /// Forgets the last use of `pin`, which was removed.
    pub fn forget(&mut self, pin: &Pin) {
        self.touched.remove(&pin.to_string());
    }

    /// Whether a use of `directory` at `now` should be written to disk; if so, `now` is remembered.
    fn is_due(&mut self, directory: &str, now: Instant) -> bool {
        match self.touched.get_mut(directory) {
            Some(last) if now.duration_since(*last) < TOUCHED_EVERY => false,
            Some(last) => {
                *last = now;
                true
            }
            None => {
                self.touched.insert(directory.to_owned(), now);
                true
            }
        }
    }
}

/// A lease on one installed package, which can't be removed while this lives.
#[derive(Debug)]
pub struct PackageLease {
    shared: Arc<Shared>,
    pin: Pin,
    /// [`PackageLease::pin`] as a directory's name.
    directory: String,
    id: u64,
}

impl PackageLease {
    /// Takes a lease under the table's lock: a removal either comes before, and there is nothing to lease, or sees the lease.
    pub(super) fn take(
        shared: &Arc<Shared>,
        table: &mut Table,
        pin: &Pin,
        holder: &str,
    ) -> Option<Self> {
        if !shared.files(pin).is_dir() {
            return None;
        }
        let directory = pin.to_string();
        let id = table.next;
        table.next += 1;
        let holders = table.holders.entry(directory.clone()).or_default();
        holders.insert(id, holder.into());
        let lease = Self {
            shared: Arc::clone(shared),
            pin: pin.clone(),
            directory,
            id,
        };
        if table.is_due(&lease.directory, Instant::now()) {
            lease.write_down();
        }
        Some(lease)
    }

    /// Checks that the package comes from a wanted archive. Blocking.
    ///
    /// The locks of two tools may list few or all archives of a version, thus one common hash is enough; a package without hashes, put
    /// there by hand, is accepted. Called with the lease already taken, so that the package checked is the one held.
    pub(super) fn verified(self) -> Result<Self, StoreError> {
        let directory = self.shared.path(&self.pin);
        let installed = Record::read(&directory).map_or_else(Vec::new, |record| record.hashes);
        let wanted = self.pin.hashes();
        let known = !installed.is_empty() && !wanted.is_empty();
        if known && !wanted.iter().any(|hash| installed.contains(hash)) {
            return Err(StoreError::other_archive(&self.pin, &installed));
        }
        Ok(self)
    }

    /// Which package.
    #[must_use]
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// The path of its files on the host.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.shared.files(&self.pin)
    }

    /// Records that the package is used now, for `Store::collect`. Blocking: at most once a minute it writes a directory's time.
    pub fn touch(&self) {
        let due = self.shared.table().is_due(&self.directory, Instant::now());
        if due {
            self.write_down();
        }
    }

    fn write_down(&self) {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        // If the time can't be written, the package only looks older than it is.
        let path = self.shared.folder.join(&self.directory);
        if let Err(error) = rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()) {
            tracing::debug!(package = %self.directory, %error, "can't note a package's use");
        }
    }
}

/// The end of a lease counts as a use, since a function may have served for days. Safe to drop anywhere: it takes a short lock, and at most
/// once a minute writes one inode's time.
impl Drop for PackageLease {
    fn drop(&mut self) {
        let due = {
            let mut table = self.shared.table();
            if let Some(holders) = table.holders.get_mut(&self.directory) {
                holders.remove(&self.id);
                if holders.is_empty() {
                    table.holders.remove(&self.directory);
                }
            }
            table.is_due(&self.directory, Instant::now())
        };
        if due {
            self.write_down();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_written_down_once_a_minute() {
        let mut table = Table::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(table.is_due("a", at(0)) && table.is_due("b", at(1)));
        assert!(!table.is_due("a", at(59)) && table.is_due("a", at(60)));
        assert!(!table.is_due("a", at(119)) && table.is_due("a", at(120)));
    }
}
