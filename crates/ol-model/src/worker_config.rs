//! `config.json`: everything that an operator decides.
//!
//! Key names and their meaning are the original worker's, so that a file written by that worker loads here; this worker adds keys.
//!
//! The path of a setting, from text to use:
//!
//! ```text
//!   defaults ─► merge(config.json) ─► merge(-o k=v, …) ─► validate ─► typed accessors
//!                └ warnings            └ types checked     └ values that contradict each other
//! ```
//!
//! Defaults serve as the schema: `merge` takes key names and types from them, so a key is declared
//! once, as a field in this file or in `sections`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::function_config::ErrorDetail;
use crate::warnings::Warning;

mod access;
mod defaults;
mod error;
mod hosts;
mod load;
mod merge;
mod network;
mod overrides;
mod registry;
mod sections;
mod validate;
mod words;

pub use access::ImportCacheTree;
pub use error::WorkerConfigError;
pub use network::{NetworkRefused, Networks, Subnet};
pub use sections::{
    BlanksSection, DockerSection, FeaturesSection, LimitsSection, MaxLimitsSection, NetworkSection,
    PackagesSection, ScalingSection, StorageSection, TraceSection,
};
pub use words::{
    CodeStorage, DefaultNetwork, ImportCache, Port, RootStorage, SandboxKind, ScalingPolicy,
    ScratchStorage, ServerMode,
};

/// The facts about a machine on which the defaults depend. The caller measures them, so that this crate does no I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// The memory of the machine, or of the cgroup that limits this process, in MiB.
    pub memory_mb: u64,
    /// How many processor cores this process may use.
    pub cores: u32,
}

/// A whole `config.json`.
///
/// Fields have the names of their keys. The names of times and sizes contain the unit; read these through the accessors, which return
/// types with units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Absolute path of the `worker` folder inside the directory: pid file, logs, scratch.
    #[serde(with = "sections::path_text")]
    pub worker_dir: PathBuf,
    /// Host name or address to listen on.
    pub worker_url: String,
    /// Further names under which requests may ask for this worker.
    pub allowed_hosts: Vec<String>,
    /// Port to listen on, a string in the file; `"0"` picks a free one.
    pub worker_port: Port,
    /// Whether functions' output goes to the worker's log as well.
    pub log_output: bool,
    /// How sandboxes are made.
    pub sandbox: SandboxKind,
    /// Whether the worker serves functions, or bare sandboxes for experiments.
    pub server_mode: ServerMode,
    /// Where the bundles are; read it through [`Self::registry_path`].
    pub registry: String,
    /// How long a version is used before the registry is looked at again.
    pub registry_cache_ms: u32,
    /// The package store.
    #[serde(rename = "Pkgs_dir", with = "sections::path_text")]
    pub pkgs_dir: PathBuf,
    /// Package index to install from; empty for the installer's own default.
    pub pip_mirror: String,
    /// Memory for all sandboxes together.
    pub mem_pool_mb: u32,
    /// Path of a zygote tree, a tree, or `""`; read it through [`Self::import_cache_tree`].
    pub import_cache_tree: Value,
    /// The base image that sandboxes see as their root.
    #[serde(with = "sections::path_text")]
    pub sock_base_path: PathBuf,
    /// Passed to sandboxes unchanged.
    pub sandbox_config: Value,
    /// Settings of the Docker sandbox.
    pub docker: DockerSection,
    /// The limits of a function that asks for none.
    pub limits: LimitsSection,
    /// The limits of a package installation; zero inherits `limits`.
    pub installer_limits: LimitsSection,
    /// The most an `ol.yaml` may ask for. Zero means a default that depends on the host: half the pool, all cores.
    pub max_limits: MaxLimitsSection,
    /// The limits of a zygote; zero inherits `limits`.
    pub zygote_limits: LimitsSection,
    /// Features that can be switched on and off.
    pub features: FeaturesSection,
    /// What is traced in the log.
    pub trace: TraceSection,
    /// How many instances a function has.
    pub scaling: ScalingSection,
    /// Leaves forked ahead of any demand.
    pub blanks: BlanksSection,
    /// Which networks functions can reach.
    pub network: NetworkSection,
    /// How packages are installed, and how many are kept.
    pub packages: PackagesSection,
    /// What a sandbox's folders are made of.
    pub storage: StorageSection,
    /// Settings of the Kafka trigger, which checks them itself.
    pub kafka: Value,
    /// What callers are told of errors, if the function's `ol.yaml` doesn't say.
    pub errors: ErrorDetail,
    /// Refuse unknown keys instead of warning about them.
    pub strict_config: bool,
    /// The largest request body.
    pub max_body_mb: u32,
    /// The largest head of a request, in KiB.
    pub max_header_kb: u32,
    /// The most header lines of a request.
    pub max_header_lines: u32,
    /// The most connections to the port from one address; zero means half of all that are allowed.
    pub max_connections_per_address: u32,
    /// The most uploads of bundles at once; one address may have half of them.
    pub max_uploads: u32,
    /// The most MiB of all uploads at once; zero means as much as one body may have.
    pub max_uploads_mb: u32,
    /// The most invocations that may wait for one function.
    pub queue_per_function: u32,
    /// How long, in seconds, an invocation may wait.
    pub queue_wait_sec: u32,
    /// How long a worker that stops lets running invocations finish.
    pub drain_sec: u32,
    /// Idle time before a sandbox is frozen, so that back-to-back calls pay no freeze.
    pub pause_after_ms: u32,
    /// How many shells are kept ready.
    pub shells_ready: u32,
    /// Size at which a function's log is rotated.
    pub log_file_mb: u32,
    /// Log files kept for a function, the current one included.
    pub log_files: u32,
    /// The facts from which defaults are derived; not part of the file.
    #[serde(skip)]
    host: HostFacts,
}

impl WorkerConfig {
    /// The configuration of a new worker directory. `dir` should be absolute; [`Self::validate`]
    /// refuses it otherwise.
    #[must_use]
    pub fn defaults(dir: &Path, host: &HostFacts) -> Self {
        defaults::defaults(dir, *host)
    }

    /// Reads a `config.json`; what it leaves out is as in [`Self::defaults`].
    ///
    /// Does not [`validate`](Self::validate), since overrides may still correct what is wrong.
    ///
    /// # Errors
    /// Malformed JSON, values of the wrong type, and, under `strict_config`, unknown keys.
    pub fn from_json(
        text: &str,
        dir: &Path,
        host: &HostFacts,
    ) -> Result<(Self, Vec<Warning>), WorkerConfigError> {
        load::from_json(text, dir, *host)
    }

    /// This configuration with some settings replaced by those of `-o k=v,k2=v2`.
    ///
    /// Keys are dotted paths. Strings are bare words, or quoted as in JSON if they contain a comma; lists and objects are JSON; a value may
    /// contain `=`. Does not validate.
    ///
    /// # Errors
    /// An unknown key, with the nearest known one, or a value of the wrong type.
    pub fn with_overrides(&self, overrides: &str) -> Result<Self, WorkerConfigError> {
        overrides::apply(self, overrides)
    }

    /// Checks for numbers that contradict each other, zeros with which nothing could run, and paths that are not absolute.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn validate(&self) -> Result<(), WorkerConfigError> {
        validate::validate(self)
    }

    /// The text of a `config.json` with every key.
    #[must_use]
    pub fn to_json_pretty(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("strings, numbers and JSON values always serialize");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests;
