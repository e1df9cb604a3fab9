//! Checks that concern several values at once, or whose errors an override could still correct.

use std::path::Path;

use super::WorkerConfig;
use super::error::WorkerConfigError;
use super::merge::kind;
use super::words::{ImportCache, SandboxKind};
use super::{hosts, network};
use serde_json::Value;

pub(super) fn validate(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    paths(config)?;
    not_zero(config)?;
    swappiness(config)?;
    pool(config)?;
    opaque_shapes(config)?;
    hosts::validate(config)?;
    network::validate(config)?;
    if config.sandbox == SandboxKind::Docker && config.features.import_cache != ImportCache::Off {
        return Err(value(
            "features.import_cache",
            "docker sandboxes can't be forked from zygotes; set it to \"\"".to_owned(),
        ));
    }
    config.registry_path().map(|_| ())
}

pub(super) fn value(key: &str, message: String) -> WorkerConfigError {
    WorkerConfigError::Value {
        key: key.to_owned(),
        message,
    }
}

fn paths(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    let all: [(&str, &Path); 3] = [
        ("worker_dir", &config.worker_dir),
        ("Pkgs_dir", &config.pkgs_dir),
        ("sock_base_path", &config.sock_base_path),
    ];
    for (key, path) in all {
        // The meaning of a relative path would change when the worker detaches.
        if !path.is_absolute() {
            let message = format!("{path:?} is not absolute; begin it with /");
            return Err(value(key, message));
        }
        let utf8 = path.to_str().is_some_and(|text| !text.contains('\u{fffd}'));
        if !utf8 || path.to_string_lossy().contains('\0') {
            let message = format!("{path:?} is not plain UTF-8; use another directory");
            return Err(value(key, message));
        }
    }
    Ok(())
}

fn not_zero(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    let all = [
        ("limits.procs", config.limits.procs),
        ("limits.mem_mb", config.limits.mem_mb),
        ("limits.cpu_percent", config.limits.cpu_percent),
        ("limits.runtime_sec", config.limits.runtime_sec),
        ("limits.scratch_mb", config.limits.scratch_mb),
        ("max_limits.procs", config.max_limits.procs),
        ("max_limits.runtime_sec", config.max_limits.runtime_sec),
        ("max_limits.scratch_mb", config.max_limits.scratch_mb),
        ("mem_pool_mb", config.mem_pool_mb),
        ("max_body_mb", config.max_body_mb),
        ("max_header_kb", config.max_header_kb),
        ("max_header_lines", config.max_header_lines),
        ("max_uploads", config.max_uploads),
        ("queue_per_function", config.queue_per_function),
        ("queue_wait_sec", config.queue_wait_sec),
        ("scaling.target_ms", config.scaling.target_ms),
        ("scaling.keep_idle_sec", config.scaling.keep_idle_sec),
        ("log_file_mb", config.log_file_mb),
        ("log_files", config.log_files),
    ];
    match all.into_iter().find(|(_, number)| *number == 0) {
        None => Ok(()),
        Some((key, _)) => Err(value(
            key,
            "0 would let nothing run; use at least 1, or leave the key out for its default"
                .to_owned(),
        )),
    }
}

fn swappiness(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    let all = [
        ("limits.swappiness", config.limits.swappiness),
        (
            "installer_limits.swappiness",
            config.installer_limits.swappiness,
        ),
        ("zygote_limits.swappiness", config.zygote_limits.swappiness),
    ];
    match all.into_iter().find(|(_, number)| *number > 200) {
        None => Ok(()),
        Some((key, number)) => Err(value(
            key,
            format!("{number} is above what the kernel takes; use 0 to 200"),
        )),
    }
}

/// Checks that the pool holds two sandboxes: otherwise the second could start only after the first was ended.
fn pool(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    let (pool_mb, limit_mb) = (config.mem_pool_mb, config.limits.mem_mb);
    if u64::from(pool_mb) < 2 * u64::from(limit_mb) {
        return Err(WorkerConfigError::PoolTooSmall { pool_mb, limit_mb });
    }
    Ok(())
}

fn opaque_shapes(config: &WorkerConfig) -> Result<(), WorkerConfigError> {
    match &config.import_cache_tree {
        Value::String(_) | Value::Object(_) => {}
        other => {
            return Err(value(
                "import_cache_tree",
                format!(
                    "{} is no zygote tree; use a path, a JSON object or \"\"",
                    kind(other)
                ),
            ));
        }
    }
    match &config.kafka {
        Value::Object(_) => Ok(()),
        other => Err(value(
            "kafka",
            format!("{} holds no settings; use a JSON object", kind(other)),
        )),
    }
}
