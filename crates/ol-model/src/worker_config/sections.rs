//! The sections of `config.json`, spelled exactly as in the file.

use serde::{Deserialize, Serialize};

use super::words::{
    CodeStorage, DefaultNetwork, ImportCache, RootStorage, ScalingPolicy, ScratchStorage,
};

/// `docker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerSection {
    /// OCI runtime such as `runc` or `runsc`; empty for the engine's default.
    pub runtime: String,
    /// Image to start containers from.
    pub base_image: String,
}

/// `limits`, `installer_limits` and `zygote_limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsSection {
    /// Processes and threads.
    pub procs: u32,
    /// Memory in MiB.
    pub mem_mb: u32,
    /// Processor time in percent of one core.
    pub cpu_percent: u32,
    /// The kernel's inclination to swap, 0 to 200.
    pub swappiness: u32,
    /// Seconds one invocation may run. The original writes it as `max_runtime_default`.
    pub runtime_sec: u32,
    /// Size of `/tmp` in MiB.
    pub scratch_mb: u32,
}

/// `max_limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxLimitsSection {
    /// Processes and threads.
    pub procs: u32,
    /// Memory in MiB; 0 is half of `mem_pool_mb`.
    pub mem_mb: u32,
    /// Processor time in percent of one core; 0 means all cores.
    pub cpu_percent: u32,
    /// Seconds one invocation may run.
    pub runtime_sec: u32,
    /// Size of `/tmp` in MiB.
    pub scratch_mb: u32,
}

/// `features`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeaturesSection {
    /// Reuse a cgroup after its sandbox ended.
    pub reuse_cgroups: bool,
    /// How zygotes are kept.
    pub import_cache: ImportCache,
    /// Lower the memory limit of a paused sandbox to what it uses.
    pub downsize_paused_mem: bool,
    /// Filter system calls.
    pub enable_seccomp: bool,
}

/// `trace`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceSection {
    /// Cgroups made and removed.
    pub cgroups: bool,
    /// The memory budget.
    pub memory: bool,
    /// What the evictor decides.
    pub evictor: bool,
    /// Package installation.
    pub package: bool,
    /// Time spent in each step of an invocation.
    pub latency: bool,
}

/// `scaling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingSection {
    /// How the number of instances follows the load.
    pub policy: ScalingPolicy,
    /// Outstanding work for one instance, in milliseconds, above which policy `work` starts another.
    pub target_ms: u32,
    /// How long an instance that nobody uses is kept, in seconds.
    pub keep_idle_sec: u32,
}

/// `blanks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlanksSection {
    /// The most leaves that are kept forked ahead; 0 keeps none.
    pub max: u32,
}

/// `network`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSection {
    /// The network of a function whose `ol.yaml` doesn't say.
    pub default: DefaultNetwork,
    /// Whether functions may reach the outside, through a network of their own.
    pub egress: bool,
    /// Whether functions may have the host's network.
    pub host: bool,
    /// Private IPv4 networks that `egress` reaches all the same, as `10.1.2.0/24`.
    pub allow: Vec<String>,
    /// IP addresses of the resolvers to which functions' DNS queries go; if empty, the host's.
    pub resolvers: Vec<String>,
    /// The IPv4 network from which the addresses of sandboxes and uplinks are taken.
    pub range: String,
}

/// `packages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackagesSection {
    /// Whether packages without a wheel may be built, which runs their author's code.
    pub allow_sdist: bool,
    /// Further hosts (`HOST` or `HOST:PORT`) from which files linked in the index's pages may be fetched.
    pub hosts: Vec<String>,
    /// The size of the store in MiB above which unused packages are removed.
    pub quota_mb: u32,
    /// The most MiB of packed copies of packages kept for later installations, 0 for none; those unused for longest are removed first.
    pub packed_mb: u32,
}

/// `storage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSection {
    /// The root file systems of sandboxes.
    pub root: RootStorage,
    /// The `/tmp` of sandboxes.
    pub scratch: ScratchStorage,
    /// Unpacked code.
    pub code: CodeStorage,
}

/// Serializes paths as text.
///
/// JSON can't hold bytes that are not UTF-8. They are replaced by U+FFFD, which `validate` refuses, so that serializing never fails.
pub(super) mod path_text {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(PathBuf::from)
    }
}
