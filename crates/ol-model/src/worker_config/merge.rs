//! Replaces settings in a JSON object that has every key, and checks names and types against the replaced values.
//!
//! Both `config.json` and `-o` are merged here, so that names and types of keys are the same in both.

use serde_json::{Map, Value};

use super::error::WorkerConfigError;
use crate::nearest::nearest_key;
use crate::warnings::Warning;

/// Keys whose value has no fixed shape; it is replaced as a whole.
const OPAQUE: &[&str] = &["import_cache_tree", "sandbox_config", "kafka"];

/// The description of a number; all numbers have the same range, so that one check serves them.
const NUMBER: &str = "a whole number from 0 to 4294967295";

pub(super) fn is_opaque(path: &str) -> bool {
    OPAQUE.contains(&path)
}

/// Replaces values of `base` by those of `patch`. Keys that `base` lacks are left out and reported in `warnings`.
pub(super) fn merge(
    base: &mut Map<String, Value>,
    patch: Map<String, Value>,
    warnings: &mut Vec<Warning>,
) -> Result<(), WorkerConfigError> {
    let known = paths(base);
    merge_section(base, patch, "", &known, warnings)
}

fn merge_section(
    base: &mut Map<String, Value>,
    patch: Map<String, Value>,
    section: &str,
    known: &[String],
    warnings: &mut Vec<Warning>,
) -> Result<(), WorkerConfigError> {
    for (key, value) in patch {
        let path = join(section, &key);
        let Some(spelled) = spelling(base, &key) else {
            warnings.push(Warning::UnknownKey {
                file: "config.json",
                nearest: nearest(&path, known),
                key: path,
            });
            continue;
        };
        let known_path = join(section, &spelled);
        if spelled != key {
            warnings.push(Warning::KeyCase {
                file: "config.json",
                key: path,
                known: known_path.clone(),
            });
        }
        // Go writes null for a value that was never set, and when it reads null, leaves the value as it is.
        let (Some(slot), false) = (base.get_mut(&spelled), value.is_null()) else {
            continue;
        };
        match (slot, value) {
            (slot, value) if is_opaque(&known_path) => *slot = value,
            (Value::Object(inner), Value::Object(patch)) => {
                merge_section(inner, patch, &known_path, known, warnings)?;
            }
            (slot, value) => {
                check_type(&known_path, slot, &value)?;
                *slot = value;
            }
        }
    }
    Ok(())
}

fn check_type(path: &str, default: &Value, value: &Value) -> Result<(), WorkerConfigError> {
    let fits = match (default, value) {
        (Value::Number(_), Value::Number(n)) => n.as_u64().is_some_and(|n| n <= u32::MAX.into()),
        (Value::Bool(_), Value::Bool(_)) | (Value::String(_), Value::String(_)) => true,
        (Value::Array(_), Value::Array(list)) => list.iter().all(Value::is_string),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(wrong_type(path, default, describe(value)))
}

/// The error for a value of a type that `path` doesn't accept; `default` is the present value there.
pub(super) fn wrong_type(path: &str, default: &Value, found: String) -> WorkerConfigError {
    let (expected, example) = match default {
        Value::Bool(_) => ("true or false", format!("{path}=true")),
        Value::Number(n) => (NUMBER, format!("{path}={n}")),
        Value::Array(_) => ("a list of strings", format!("{path}=[\"…\"]")),
        Value::String(s) => ("a string", format!("{path}={}", Value::from(s.as_str()))),
        _ => {
            let inner = default.as_object().and_then(|map| map.iter().next());
            let example = inner.map_or_else(
                || format!("{path}={{}}"),
                |(key, value)| format!("{path}={{\"{key}\":{value}}}"),
            );
            ("a JSON object", example)
        }
    };
    WorkerConfigError::WrongType {
        key: path.to_owned(),
        expected,
        found,
        example,
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Number(n) => format!("{n}"),
        Value::String(s) => format!("the string {s:?}"),
        other => kind(other).to_owned(),
    }
}

/// The kind of a value, as words in a sentence.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// How `map` spells `key`: in the same way if it has that, else with other case, which Go's decoder allows.
pub(super) fn spelling(map: &Map<String, Value>, key: &str) -> Option<String> {
    if map.contains_key(key) {
        return Some(key.to_owned());
    }
    map.keys().find(|k| k.eq_ignore_ascii_case(key)).cloned()
}

/// The known path most similar to `path`.
pub(super) fn nearest(path: &str, known: &[String]) -> String {
    nearest_key(path, known.iter().map(String::as_str))
        .unwrap_or_default()
        .to_owned()
}

/// The dotted paths of every key.
pub(super) fn paths(base: &Map<String, Value>) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in base {
        all.push(key.clone());
        if let (Value::Object(inner), false) = (value, is_opaque(key)) {
            all.extend(inner.keys().map(|leaf| join(key, leaf)));
        }
    }
    all
}

pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}
