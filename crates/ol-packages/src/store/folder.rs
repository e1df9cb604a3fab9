//! [`Store`]: the folder of installed packages.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ol_archive::ExtractLimits;

use super::error::StoreError;
use super::flight::Flights;
use super::lease::{PackageLease, Table};
use super::{record, remove};
use crate::modules;
use crate::pin::Pin;

/// The limits of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of its tar archive, headers included.
    pub bytes: u64,
    /// The number of its files and directories.
    pub entries: u64,
}

impl Default for StoreLimits {
    /// 4 GiB, as much as the largest wheels unpack to; 60,000 files and directories.
    fn default() -> Self {
        Self {
            bytes: 4 << 30,
            entries: 60_000,
        }
    }
}

impl StoreLimits {
    pub(super) fn extract(&self) -> ExtractLimits {
        ExtractLimits {
            bytes: self.bytes,
            entries: self.entries,
            ..ExtractLimits::default()
        }
    }
}

/// A package in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Name and version, with the hashes that were known when it was installed.
    pub pin: Pin,
    /// The total length of its files.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
    /// When it was last leased, to within a minute, or else when it was installed.
    pub last_used: SystemTime,
}

/// The folder of installed packages. Clones share it.
#[derive(Debug, Clone)]
pub struct Store(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub folder: PathBuf,
    pub limits: StoreLimits,
    /// Renames into and out of the folder happen under this lock, thus its holder knows what is there.
    table: Mutex<Table>,
    pub flights: Flights,
}

impl Shared {
    pub fn path(&self, pin: &Pin) -> PathBuf {
        self.folder.join(pin.to_string())
    }

    pub fn files(&self, pin: &Pin) -> PathBuf {
        self.path(pin).join(FILES)
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        // No step under the lock leaves the table half changed, thus a poisoned lock is fine.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// The folder of a package's files in its directory, named as in the original OpenLambda worker.
pub(super) const FILES: &str = "files";

impl Store {
    /// Opens the store in `folder`, creating it if needed, and removes what interrupted installs and removals left. Blocking.
    ///
    /// # Errors
    /// When it is not a directory, or can't be read or written.
    pub fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let opened = fs::create_dir_all(folder).and_then(|()| remove::sweep(folder));
        opened.map_err(|source| StoreError::Open {
            folder: folder.to_owned(),
            source: Arc::new(source),
        })?;
        Ok(Self(Arc::new(Shared {
            folder: folder.to_owned(),
            limits,
            table: Mutex::default(),
            flights: Flights::default(),
        })))
    }

    /// Whether `pin` is installed, by name and version, from whatever archive. One stat. Blocking.
    #[must_use]
    pub fn has(&self, pin: &Pin) -> bool {
        self.0.files(pin).is_dir()
    }

    /// The installed packages, sorted. Blocking.
    ///
    /// Entries that aren't called `NAME==VERSION` in normal form are ignored. Packages that were put there by hand are measured file by
    /// file.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn list(&self) -> Result<Vec<Installed>, StoreError> {
        let mut installed = Vec::new();
        let failed = |source| StoreError::Host {
            what: "list the packages".to_owned(),
            source: Arc::new(source),
        };
        for entry in fs::read_dir(&self.0.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(pin) = name.to_str().and_then(Pin::of_directory) else {
                continue;
            };
            // A package may be removed meanwhile.
            if let Ok(one) = self.measure(pin) {
                installed.push(one);
            }
        }
        installed.sort_unstable_by(|a, b| a.pin.cmp(&b.pin));
        Ok(installed)
    }

    fn measure(&self, pin: Pin) -> io::Result<Installed> {
        let directory = self.0.path(&pin);
        let last_used = fs::metadata(&directory)?.modified()?;
        fs::metadata(directory.join(FILES))?;
        let record = record::read_or_measure(&directory)?;
        let (name, version) = (pin.name().clone(), pin.version().clone());
        Ok(Installed {
            pin: Pin::new(name, version, record.hashes),
            bytes: record.bytes,
            files: record.files,
            last_used,
        })
    }

    /// Leases `pin` for `holder`; `None` when it isn't installed. Blocking.
    ///
    /// The package can't be removed as long as the lease lives. `holder` appears in errors, like a function's name. Only name and version
    /// are compared; [`Store::get_or_install`] also compares the hashes.
    #[must_use]
    pub fn lease(&self, pin: &Pin, holder: &str) -> Option<PackageLease> {
        PackageLease::take(&self.0, &mut self.0.table(), pin, holder)
    }

    /// What can be imported from `pin`: see [`modules::top_level`]. Blocking.
    #[must_use]
    pub fn top_level_modules(&self, pin: &Pin) -> Vec<String> {
        modules::top_level(&self.0.files(pin), pin.name().as_str())
    }

    /// The holders of leases on `pin`, sorted, each once.
    #[must_use]
    pub fn holders(&self, pin: &Pin) -> Vec<String> {
        let holders = self.0.table().holders(pin);
        holders.iter().map(ToString::to_string).collect()
    }

    /// Returns true on the first call for `pin` since this store was opened, else false.
    #[must_use]
    pub fn first_use(&self, pin: &Pin) -> bool {
        self.0.table().first_use(pin)
    }
}
