//! The worker directory: everything that a worker stores, under one path that the operator chose.
//!
//! It has the layout of the original OpenLambda worker: either worker can be started on it, and scripts find the files they expect. One
//! lock decides who may change it, held for as long as any process of a worker lives there.
//!
//! ```text
//!   DIR/config.json (.bak)      settings                 DIR/worker/   this run's
//!   DIR/lambda/base.json        which base image          ├ lock        held while a worker lives
//!   DIR/lambda/usr/ …           the image, unless it lies elsewhere (host, dir:)
//!   DIR/lambda/packages/        package store             ├ worker.pid  ol.sock  worker.url
//!   DIR/registry/               bundles                   ├ logs/       one per function
//!   DIR/default-zygotes-40.json                           ├ stats.json  written at shutdown
//!   DIR/worker.out              log when detached         └ code/ runtime/ root/ uploads/  scratch
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `base/` | which base image, how it is made, and whether its Python runs |
//! | `error` | what can be wrong, with the remedy |
//! | `host` | what the defaults are derived from |
//! | `init` | creating a directory, and setting up an existing one again |
//! | `lock` | one worker per directory |
//! | `private` | what only root may read; restricts modes that are too open |
//! | `residue` | what a crashed worker leaves, and its removal |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ol_model::{HostFacts, Warning, WorkerConfig};

mod base;
mod error;
mod host;
mod init;
mod lock;
mod private;
mod residue;

pub use base::{BaseChoice, BaseInUse, PythonVersion, UnpackError, in_path, python};
pub use error::{DirectoryError, LockError};
pub use host::host_facts;
pub use init::InitReport;
pub use lock::Lock;
pub(crate) use lock::refuse_moved;
pub use residue::Removed;

/// Keys that identify a `config.json` as a worker's. One of them suffices, since people shorten their files.
const KEYS: [&str; 5] = [
    "worker_dir",
    "worker_port",
    "sock_base_path",
    "Pkgs_dir",
    "registry",
];

/// An existing worker directory, of this worker or of the original one.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Absolute; symbolic links in it are kept, since the path is shown to people.
    root: PathBuf,
}

impl Directory {
    /// The directory at `root`, which must be a worker's.
    ///
    /// # Errors
    /// When nothing is there, or something that isn't a worker directory.
    pub fn open(root: &Path) -> Result<Self, DirectoryError> {
        let root = absolute(root)?;
        let directory = Self { root };
        let contents = directory.contents();
        // Even if files were removed or broken meanwhile: a running worker must be found, to be stopped.
        if !matches!(contents, Ok(Contents::Worker)) && directory.holder().is_some() {
            return Ok(directory);
        }
        match contents? {
            Contents::Worker => Ok(directory),
            Contents::Absent | Contents::Empty => Err(DirectoryError::Absent {
                path: directory.root,
            }),
            // An `init` was interrupted before it wrote the configuration, or somebody removed the file.
            Contents::Begun => Err(DirectoryError::Unconfigured {
                path: directory.config(),
                root: directory.root,
            }),
            Contents::Foreign => Err(DirectoryError::NotOurs {
                path: directory.root,
            }),
        }
    }

    /// What is at the root now.
    fn contents(&self) -> Result<Contents, DirectoryError> {
        let read = |source| DirectoryError::Read {
            path: self.root.clone(),
            source,
        };
        match fs::metadata(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contents::Absent),
            Err(error) => return Err(read(error)),
            Ok(metadata) if !metadata.is_dir() => return Ok(Contents::Foreign),
            Ok(_) => {}
        }
        let folders = [self.worker(), self.base_image(), self.registry()];
        let laid_out = folders.iter().all(|folder| folder.is_dir());
        let contents = match fs::read(self.config()) {
            // If the rest of the layout is there, even an unreadable configuration is a worker's; loading it will say what is wrong.
            Ok(text) if laid_out || has_a_workers_key(&text) => Contents::Worker,
            Ok(_) => Contents::Foreign,
            Err(error) if laid_out => match error.kind() {
                io::ErrorKind::NotFound => Contents::Begun,
                // Loading the file will say what is wrong with it.
                _ => Contents::Worker,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let recorded = base::recorded(&self.base_image());
                if recorded.is_ok_and(|recorded| recorded.is_some())
                    || self.root.join(base::STAGING).is_dir()
                {
                    Contents::Begun
                } else if fs::read_dir(&self.root).map_err(read)?.next().is_none() {
                    Contents::Empty
                } else {
                    Contents::Foreign
                }
            }
            Err(error) => return Err(read(error)),
        };
        Ok(contents)
    }

    /// The configuration, with the overrides from the command line applied in order.
    ///
    /// # Errors
    /// When the file can't be read, or the result can't be used.
    pub fn load(
        &self,
        overrides: &[String],
        host: &HostFacts,
    ) -> Result<(WorkerConfig, Vec<Warning>), DirectoryError> {
        let path = self.config();
        let text =
            fs::read_to_string(&path).map_err(|source| DirectoryError::Read { path, source })?;
        let (mut config, mut warnings) = WorkerConfig::from_json(&text, &self.root, host)?;
        for given in overrides {
            config = config.with_overrides(given)?;
        }
        config.enforce_strict(&warnings)?;
        config.validate()?;
        self.refuse_elsewhere(&config)?;
        if !config.is_for_this_machine_only() {
            let host = config.worker_url.clone();
            warnings.push(Warning::OpenToAll { host });
        }
        Ok((config, warnings))
    }

    /// Refuses a `worker_dir` that isn't this directory's `worker/`: other programs look for its files only there.
    ///
    /// # Errors
    /// [`DirectoryError::Elsewhere`].
    pub fn refuse_elsewhere(&self, config: &WorkerConfig) -> Result<(), DirectoryError> {
        let (given, real) = (&config.worker_dir, self.worker());
        let resolved = |path: &Path| fs::canonicalize(path).ok();
        if *given == real || (resolved(given).is_some() && resolved(given) == resolved(&real)) {
            return Ok(());
        }
        let given = given.clone();
        Err(DirectoryError::Elsewhere { given, real })
    }

    /// The base image that `config` names.
    ///
    /// # Errors
    /// When there is none at the configured place.
    pub fn base(&self, config: &WorkerConfig) -> Result<BaseInUse, DirectoryError> {
        base::of(&config.sock_base_path, &self.root)
    }

    /// The choice from which the base image was last made, to make it again; `None` when that wasn't recorded.
    #[must_use]
    pub fn recorded_base(&self) -> Option<BaseChoice> {
        let record = base::recorded(&self.base_image()).ok()??;
        record.source().parse().ok()
    }

    /// A prefix for this directory's cgroups: the same at each start, different for each directory.
    #[must_use]
    pub fn prefix(&self) -> String {
        // Canonical, so that two spellings of the path don't count as two workers.
        let canonical = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let hash = fnv1a(canonical.as_os_str().as_encoded_bytes());
        format!("ol-{hash:08x}")
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.json`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// The configuration before the last `init`.
    #[must_use]
    pub fn config_backup(&self) -> PathBuf {
        self.root.join("config.json.bak")
    }

    /// The file with the default tree of zygotes.
    #[must_use]
    pub fn zygote_tree(&self) -> PathBuf {
        self.root.join("default-zygotes-40.json")
    }

    /// The base image, or the record that says where it is.
    #[must_use]
    pub fn base_image(&self) -> PathBuf {
        self.root.join("lambda")
    }

    /// The package store, unless the configuration names another.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.base_image().join("packages")
    }

    /// The registry, unless the configuration names another.
    #[must_use]
    pub fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }

    /// The folder for one run of the worker; also holds the lock.
    #[must_use]
    pub fn worker(&self) -> PathBuf {
        self.root.join("worker")
    }

    /// Holds the worker process's id, as text.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.worker().join("worker.pid")
    }

    /// Holds the URL that the running worker answers at.
    #[must_use]
    pub fn url_file(&self) -> PathBuf {
        self.worker().join("worker.url")
    }

    /// The operator's socket: `/pid`, `/status`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.worker().join("ol.sock")
    }

    /// The file that [`Self::lock`] locks. Never removed: otherwise two processes could each lock a file of this name.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.worker().join("lock")
    }

    /// One `NAME.log` per function.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.worker().join("logs")
    }

    /// Unpacked versions of functions.
    #[must_use]
    pub fn code(&self) -> PathBuf {
        self.worker().join("code")
    }

    /// Where the sandboxes' root file system is put together.
    #[must_use]
    pub fn template(&self) -> PathBuf {
        self.worker().join("root")
    }

    /// Bundles that are still arriving.
    #[must_use]
    pub fn uploads(&self) -> PathBuf {
        self.worker().join("uploads")
    }

    /// Locked versions of functions' packages, and uv if it had to be fetched. Survives restarts.
    #[must_use]
    pub fn packages_state(&self) -> PathBuf {
        self.worker().join("packages")
    }

    /// The counters of the last run, written when it ended.
    #[must_use]
    pub fn stats_file(&self) -> PathBuf {
        self.worker().join("stats.json")
    }

    /// The log of a worker in the background.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.root.join("worker.out")
    }
}

/// What is found where a worker directory is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    /// Nothing.
    Absent,
    /// A directory without entries.
    Empty,
    /// An `init` that was interrupted.
    Begun,
    /// A worker directory.
    Worker,
    /// Something else, not to be touched.
    Foreign,
}

fn has_a_workers_key(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text)
        .is_ok_and(|object| KEYS.iter().any(|key| object.contains_key(*key)))
}

fn absolute(root: &Path) -> Result<PathBuf, DirectoryError> {
    std::path::absolute(root).map_err(|source| DirectoryError::Read {
        path: root.to_owned(),
        source,
    })
}

/// FNV-1a, 32 bits. Not secret and not secure, but the same in every build, which the standard library's hash doesn't promise.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests;
