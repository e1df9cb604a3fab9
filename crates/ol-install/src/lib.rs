//! Resolves and installs the packages of functions. Whatever runs code of a package runs in a sandbox, which the layer above makes.
//!
//! ```text
//!   Requirements ──▶ Lock (kept since the last time, or resolved) ──▶ each in the store, or installed ──▶ Prepared
//!                            └── a Job with a way to the index      └── its wheel, fetched here, a Job without one
//! ```
//!
//! - [`workshop`]: what is asked of whoever makes sandboxes
//! - [`prepare`]: all steps for one version; `prepared`: what comes of them
//! - [`resolve`]: from requirements to a lock, once for all who ask for the same
//! - [`install`]: installs what is missing, once for all who want it
//! - [`job`]: one installer sandbox, and orders to it
//! - [`tools`]: what installer sandboxes are made from
//! - [`interpreter`]: what is learned of the base image's Python before the first of them
//! - [`kept`]: the locks of functions on disk
//! - [`care`]: what the store holds, and how it is kept small
//! - [`failure`]: what went wrong, in words for a function's owner

mod care;
mod failure;
mod install;
mod interpreter;
mod job;
mod kept;
mod prepare;
mod prepared;
mod resolve;
mod tools;
mod workshop;

pub use care::{StoredPackage, care};
pub use failure::Failure;
pub use prepare::{keep, prepare};
pub use prepared::{Held, Prepared};
pub use workshop::{Blueprint, Cause, Installer, Pending, Program, Reply, Trouble, Workshop};

use kept::{Kept, Question};
use ol_model::{Limits, WorkerConfig};
use ol_packages::index::Index;
use ol_packages::packed::Packed;
use ol_packages::requirements::Requirements;
use ol_packages::store::Store;
use ol_packages::wheels::Wheels;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// How many installer sandboxes run at once; more would take the cores and the memory of calls.
const JOBS: usize = 2;

/// How many wheels are fetched or wait for a sandbox at once, for all functions together.
const FETCHES: usize = 8;

/// What packages are resolved and installed with.
#[derive(Debug)]
pub struct PackagesSettings {
    /// The folder of installed packages; sandboxes see it as `/packages`.
    pub store: Store,
    /// The folder of wheels that are being installed: `.wheels` of the store's folder.
    pub wheels: Wheels,
    /// Packed copies of packages.
    pub packed: Packed,
    /// A directory that outlives the worker: locks, and uv if it had to be fetched.
    pub state: PathBuf,
    /// The package index, or why there is none: the setting on this host can't be used.
    pub index: Result<Index, String>,
    /// The Python that functions run on; a lock is made for one.
    pub python: String,
    /// What an installer sandbox may use; the limit of its memory includes its files.
    pub limits: Limits,
    /// May code of packages be run to build them?
    pub allow_sdist: bool,
    /// The size of the store, in bytes, beyond which unused packages are removed.
    pub quota: u64,
}

impl PackagesSettings {
    /// The limits of an installer sandbox according to `config`.
    #[must_use]
    pub fn limits(config: &WorkerConfig) -> Limits {
        let mut limits = config.installer_limits();
        let whole = limits.mem.0.saturating_add(limits.scratch.0);
        // The pool could never hold a sandbox with more.
        limits.mem.0 = whole.min(config.mem_pool().0);
        limits
    }
}

/// The packages of all functions.
pub struct Packages {
    workshop: Arc<dyn Workshop>,
    settings: PackagesSettings,
    kept: Kept,
    tools: tools::LazyTools,
    resolving: resolve::Resolving,
    jobs: Semaphore,
    fetching: Semaphore,
    /// Held while packages are collected: two collections at once would each find the store too large, and remove twice as much.
    collecting: Mutex<()>,
}

impl Packages {
    /// Packages of `settings`, whose installers run in sandboxes of `workshop`.
    #[must_use]
    pub fn new(settings: PackagesSettings, workshop: Arc<dyn Workshop>) -> Self {
        Self {
            workshop,
            kept: Kept::in_folder(settings.state.join("locks")),
            tools: tools::LazyTools::default(),
            resolving: resolve::Resolving::default(),
            jobs: Semaphore::new(JOBS),
            fetching: Semaphore::new(FETCHES),
            collecting: Mutex::new(()),
            settings,
        }
    }

    /// What packages are resolved and installed with.
    #[must_use]
    pub fn settings(&self) -> &PackagesSettings {
        &self.settings
    }

    /// The question that a lock for `wanted` answers.
    fn question(&self, wanted: &Requirements) -> Question {
        let Self { settings, .. } = self;
        Question::new(wanted.digest(), &settings.python, settings.allow_sdist)
    }

    /// Removes the kept lock of a function that is deleted. Blocks for a moment.
    pub fn forget(&self, name: &ol_model::FunctionName) {
        self.kept.forget(name);
    }
}
