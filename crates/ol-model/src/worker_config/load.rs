//! Reads the text of a `config.json` into a [`WorkerConfig`], including what the original writes differently.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::WorkerConfigError;
use super::merge::{kind, merge};
use super::{HostFacts, WorkerConfig};
use crate::warnings::Warning;

pub(super) fn from_json(
    text: &str,
    dir: &Path,
    host: HostFacts,
) -> Result<(WorkerConfig, Vec<Warning>), WorkerConfigError> {
    let patch: Value = serde_json::from_str(text).map_err(|error| WorkerConfigError::Syntax {
        line: error.line(),
        column: error.column(),
        message: without_position(&error),
    })?;
    let Value::Object(mut patch) = patch else {
        return Err(WorkerConfigError::NotAnObject {
            found: kind(&patch),
        });
    };
    adopt_original(&mut patch);
    let mut base = to_map(&WorkerConfig::defaults(dir, &host));
    let mut warnings = Vec::new();
    merge(&mut base, patch, &mut warnings)?;
    let config = from_map(base, host)?;
    config.enforce_strict(&warnings)?;
    Ok((config, warnings))
}

/// The configuration as the JSON object that `merge` works on.
pub(super) fn to_map(config: &WorkerConfig) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("a configuration serializes to an object, not {other:?}"),
    }
}

/// The inverse of [`to_map`]. Fails on values that `merge` can't check by their JSON type: words and ports.
pub(super) fn from_map(
    map: Map<String, Value>,
    host: HostFacts,
) -> Result<WorkerConfig, WorkerConfigError> {
    let mut config: WorkerConfig =
        serde_path_to_error::deserialize(Value::Object(map)).map_err(|error| {
            WorkerConfigError::Value {
                key: error.path().to_string(),
                message: error.into_inner().to_string(),
            }
        })?;
    config.host = host;
    Ok(config)
}

/// Converts what the original spells differently.
///
/// - The original writes a function's time limit as `max_runtime_default`, with `runtime_sec: 0` beside it.
/// - In the original's templates, an empty path or a pool of zero means "use the default".
fn adopt_original(patch: &mut Map<String, Value>) {
    for key in ["worker_dir", "Pkgs_dir", "sock_base_path", "registry"] {
        remove_if(patch, key, |value| value.as_str() == Some(""));
    }
    remove_if(patch, "mem_pool_mb", |value| value.as_u64() == Some(0));
    for (name, section) in patch.iter_mut() {
        let (true, Value::Object(limits)) = (is_limits(name), section) else {
            continue;
        };
        let Some(key) = find(limits, OLD_RUNTIME) else {
            continue;
        };
        let old = limits.remove(&key).filter(|old| old.as_u64() != Some(0));
        let ours = find(limits, "runtime_sec").unwrap_or_else(|| "runtime_sec".to_owned());
        let unset = limits
            .get(&ours)
            .is_none_or(|v| v.is_null() || v.as_u64() == Some(0));
        if let (true, Some(old)) = (unset, old) {
            limits.insert(ours, old);
        }
    }
}

const OLD_RUNTIME: &str = "max_runtime_default";

/// The present path of a key for which the original has another path.
pub(super) fn current_path(path: &str) -> String {
    match path.split_once('.') {
        Some((section, key)) if is_limits(section) && key.eq_ignore_ascii_case(OLD_RUNTIME) => {
            format!("{section}.runtime_sec")
        }
        _ => path.to_owned(),
    }
}

fn is_limits(section: &str) -> bool {
    ["limits", "installer_limits", "zygote_limits"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(section))
}

fn find(map: &Map<String, Value>, key: &str) -> Option<String> {
    super::merge::spelling(map, key)
}

fn remove_if(map: &mut Map<String, Value>, key: &str, unset: impl Fn(&Value) -> bool) {
    if let Some(key) = find(map, key)
        && map.get(&key).is_some_and(unset)
    {
        map.remove(&key);
    }
}

/// A message of serde_json without the position at its end, since the worker's message begins with it.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
