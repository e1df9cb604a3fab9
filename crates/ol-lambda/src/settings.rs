//! The settings of the lambda layer, taken from the worker's configuration.

use crate::autoscale::ScalingRule;
use crate::output::Retention;
use ol_model::worker_config::{ImportCache, Networks, ScalingPolicy};
use ol_model::{ErrorDetail, Limits, MaxLimits, MiB, WorkerConfig};
use std::path::PathBuf;
use std::time::Duration;

/// The settings of the lambda layer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where code is unpacked; the pool uses the same directory.
    pub code: PathBuf,
    /// Where functions' logs lie.
    pub logs: PathBuf,
    pub(crate) retention: Retention,
    pub(crate) default_limits: Limits,
    pub(crate) max_limits: MaxLimits,
    pub(crate) registry_cache: Duration,
    pub(crate) queue_per_function: usize,
    pub(crate) queue_wait: Duration,
    pub(crate) pause_after: Duration,
    /// How the number of instances follows the load.
    pub(crate) rule: ScalingRule,
    /// How long an unused instance is kept.
    pub(crate) keep_idle: Duration,
    /// Do functions see the base image's own packages?
    pub(crate) site_packages: bool,
    /// The limits of zygotes, and how many shells are kept ready for the leaves of each; `None` if every start is fresh.
    pub(crate) zygotes: Option<(Limits, u16)>,
    /// Does a paused sandbox give back the memory that it doesn't use?
    pub(crate) downsize: bool,
    /// The most blanks that are kept.
    pub(crate) blanks: usize,
    /// What callers are told about errors of functions whose `ol.yaml` doesn't set that.
    pub(crate) errors: ErrorDetail,
    /// The largest body of a request, after decoding.
    pub(crate) max_body: MiB,
    /// Which networks functions may have.
    pub(crate) networks: Networks,
}

impl Settings {
    /// The settings in `config`; `code` and `logs` are directories that exist.
    ///
    /// `site_packages`: whether the base image has packages of its own that functions are to see.
    #[must_use]
    pub fn new(
        config: &WorkerConfig,
        code: PathBuf,
        logs: PathBuf,
        site_packages: bool,
        networks: Networks,
    ) -> Self {
        Self {
            code,
            logs,
            retention: Retention {
                bytes: config.log_file().bytes(),
                files: config.log_files,
            },
            default_limits: config.default_limits(),
            max_limits: config.max_limits(),
            registry_cache: config.registry_cache(),
            queue_per_function: config.queue_per_function as usize,
            queue_wait: config.queue_wait(),
            pause_after: config.pause_after(),
            rule: match config.scaling.policy {
                ScalingPolicy::Work => ScalingRule::Work {
                    target: config.scaling_target(),
                },
                ScalingPolicy::Original => ScalingRule::Original,
            },
            keep_idle: config.keep_idle(),
            site_packages,
            zygotes: (config.features.import_cache != ImportCache::Off).then(|| {
                let shells = u16::try_from(config.shells_ready).unwrap_or(u16::MAX);
                (config.zygote_limits(), shells)
            }),
            downsize: config.features.downsize_paused_mem,
            blanks: config.blanks.max as usize,
            errors: config.errors,
            max_body: config.max_body(),
            networks,
        }
    }
}
