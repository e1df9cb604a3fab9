//! Accessors for the rest of the worker, which return types with units.
//!
//! Values of zero that mean "inherit" or "derive from the host" are replaced by the value that they mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::error::WorkerConfigError;
use super::sections::LimitsSection;
use super::{HostFacts, WorkerConfig, registry};
use crate::limits::{Limits, MaxLimits};
use crate::units::{CpuPercent, MiB};
use crate::warnings::Warning;

/// Where the zygote tree comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum ImportCacheTree<'a> {
    /// Only a root, which has imported nothing.
    RootOnly,
    /// The tree is in this file.
    File(&'a Path),
    /// The tree is in the configuration itself.
    Inline(&'a Value),
}

impl WorkerConfig {
    /// The limits of a function that asks for none.
    #[must_use]
    pub fn default_limits(&self) -> Limits {
        let l = &self.limits;
        Limits {
            procs: l.procs,
            mem: MiB(l.mem_mb),
            cpu: CpuPercent(l.cpu_percent),
            swappiness: swappiness(l.swappiness),
            runtime: seconds(l.runtime_sec),
            scratch: MiB(l.scratch_mb),
        }
    }

    /// The limits of a package installation. Its memory never exceeds the pool.
    ///
    /// Otherwise the default could exceed a small pool, and every installation would be refused.
    #[must_use]
    pub fn installer_limits(&self) -> Limits {
        self.inheriting(&self.installer_limits)
    }

    /// The limits of a zygote; its memory never exceeds the pool.
    #[must_use]
    pub fn zygote_limits(&self) -> Limits {
        self.inheriting(&self.zygote_limits)
    }

    fn inheriting(&self, section: &LimitsSection) -> Limits {
        let own = |number: u32, inherited: u32| if number == 0 { inherited } else { number };
        let l = &self.limits;
        Limits {
            procs: own(section.procs, l.procs),
            mem: MiB(own(section.mem_mb, l.mem_mb).min(self.mem_pool_mb)),
            cpu: CpuPercent(own(section.cpu_percent, l.cpu_percent)),
            swappiness: swappiness(own(section.swappiness, l.swappiness)),
            runtime: seconds(own(section.runtime_sec, l.runtime_sec)),
            scratch: MiB(own(section.scratch_mb, l.scratch_mb)),
        }
    }

    /// The most an `ol.yaml` may ask for.
    ///
    /// Never below `limits`: a function may ask for what it would get without asking.
    #[must_use]
    pub fn max_limits(&self) -> MaxLimits {
        let derived = |number: u32, from_host: u32| if number == 0 { from_host } else { number };
        let (m, l) = (&self.max_limits, &self.limits);
        let all_cores = CpuPercent::of_cores(self.host.cores).0;
        let mem = derived(m.mem_mb, self.mem_pool_mb / 2).max(l.mem_mb);
        MaxLimits {
            procs: m.procs.max(l.procs),
            // No sandbox could ever get more than the whole pool.
            mem: MiB(mem.min(self.mem_pool_mb)),
            cpu: CpuPercent(derived(m.cpu_percent, all_cores).max(l.cpu_percent)),
            runtime: seconds(m.runtime_sec.max(l.runtime_sec)),
            scratch: MiB(m.scratch_mb.max(l.scratch_mb)),
        }
    }

    /// The registry's folder, from a path or a `file://` URL.
    ///
    /// # Errors
    /// For `s3://` and `gs://`, which are not supported yet, and for any other scheme.
    pub fn registry_path(&self) -> Result<PathBuf, WorkerConfigError> {
        registry::registry_path(&self.registry)
    }

    /// Where the zygote tree comes from.
    ///
    /// A value that is neither a text nor an object, which `validate` refuses, counts as no tree.
    #[must_use]
    pub fn import_cache_tree(&self) -> ImportCacheTree<'_> {
        match &self.import_cache_tree {
            Value::String(path) if !path.is_empty() => ImportCacheTree::File(Path::new(path)),
            Value::Object(_) => ImportCacheTree::Inline(&self.import_cache_tree),
            _ => ImportCacheTree::RootOnly,
        }
    }

    /// The facts about the machine for which the configuration was made.
    #[must_use]
    pub fn host(&self) -> HostFacts {
        self.host
    }

    /// Port to listen on; 0 picks a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.worker_port.0
    }

    /// Memory for all sandboxes together.
    #[must_use]
    pub fn mem_pool(&self) -> MiB {
        MiB(self.mem_pool_mb)
    }

    /// How long a version is used before the registry is looked at again.
    #[must_use]
    pub fn registry_cache(&self) -> Duration {
        Duration::from_millis(self.registry_cache_ms.into())
    }

    /// How long an invocation may wait in its queue.
    #[must_use]
    pub fn queue_wait(&self) -> Duration {
        seconds(self.queue_wait_sec)
    }

    /// How long a worker that is stopping lets running invocations finish.
    #[must_use]
    pub fn drain(&self) -> Duration {
        seconds(self.drain_sec)
    }

    /// Idle time before a sandbox is frozen.
    #[must_use]
    pub fn pause_after(&self) -> Duration {
        Duration::from_millis(self.pause_after_ms.into())
    }

    /// Outstanding work for one instance above which another is started.
    #[must_use]
    pub fn scaling_target(&self) -> Duration {
        Duration::from_millis(self.scaling.target_ms.into())
    }

    /// How long an instance that nobody uses is kept.
    #[must_use]
    pub fn keep_idle(&self) -> Duration {
        seconds(self.scaling.keep_idle_sec)
    }

    /// The largest request body.
    #[must_use]
    pub fn max_body(&self) -> MiB {
        MiB(self.max_body_mb)
    }

    /// The most bytes of all uploads at once.
    #[must_use]
    pub fn max_uploads(&self) -> MiB {
        match self.max_uploads_mb {
            0 => self.max_body(),
            together => MiB(together),
        }
    }

    /// The most connections that one address may have, of `all` that are allowed.
    #[must_use]
    pub fn connections_each(&self, all: usize) -> usize {
        match self.max_connections_per_address {
            0 => all.div_ceil(2),
            each => usize::try_from(each).unwrap_or(usize::MAX),
        }
    }

    /// The largest head of a request in bytes.
    #[must_use]
    pub fn max_header_bytes(&self) -> usize {
        usize::try_from(u64::from(self.max_header_kb) * 1024).unwrap_or(usize::MAX)
    }

    /// Size at which a function's log is rotated.
    #[must_use]
    pub fn log_file(&self) -> MiB {
        MiB(self.log_file_mb)
    }

    /// Under `strict_config`, turns the first unknown key among `warnings` into an error.
    ///
    /// [`Self::from_json`] does so already; this is for an override that switches `strict_config` on afterwards.
    ///
    /// # Errors
    /// [`WorkerConfigError::UnknownKey`].
    pub fn enforce_strict(&self, warnings: &[Warning]) -> Result<(), WorkerConfigError> {
        let unknown = warnings.iter().find_map(|warning| match warning {
            Warning::UnknownKey { key, nearest, .. } => Some((key, nearest)),
            _ => None,
        });
        match unknown {
            Some((key, nearest)) if self.strict_config => Err(WorkerConfigError::UnknownKey {
                key: key.clone(),
                nearest: nearest.clone(),
            }),
            _ => Ok(()),
        }
    }
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

/// `number` as a swappiness; `validate` has refused more than the kernel's maximum, 200.
fn swappiness(number: u32) -> u8 {
    u8::try_from(number.min(200)).unwrap_or(200)
}
