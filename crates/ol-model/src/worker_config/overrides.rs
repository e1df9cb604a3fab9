//! `-o k=v,k2=v2`: settings on the command line.
//!
//! ```text
//!   list    = [ pair ] { "," [ pair ] }
//!   pair    = path "=" value
//!   value   = string in quotes, as in JSON        may hold commas
//!           | JSON object or list                 may hold commas
//!           | anything else, up to the next comma may hold "="
//! ```
//!
//! Empty pairs are skipped, since scripts join lists that may be empty.

use serde_json::{Map, Value, json};

use super::WorkerConfig;
use super::error::WorkerConfigError;
use super::load::{current_path, from_map, to_map};
use super::merge::{is_opaque, join, merge, nearest, paths, spelling, wrong_type};
use crate::warnings::Warning;

/// The value after the `=`.
enum Written<'a> {
    /// A bare word, whose meaning depends on the key.
    Bare(&'a str),
    /// Quoted or bracketed, and therefore JSON.
    Json(Value),
}

pub(super) fn apply(config: &WorkerConfig, text: &str) -> Result<WorkerConfig, WorkerConfigError> {
    let mut base = to_map(config);
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
            continue;
        }
        let (path, written, after) = next_pair(rest)?;
        set(&mut base, path.trim(), written)?;
        rest = after;
    }
    from_map(base, config.host)
}

/// Splits the first pair off `rest`, which is not empty and does not begin with a comma.
fn next_pair(rest: &str) -> Result<(&str, Written<'_>, &str), WorkerConfigError> {
    let end = rest.find(',').unwrap_or(rest.len());
    let refuse = |problem| WorkerConfigError::Override {
        text: rest[..end].to_owned(),
        problem,
    };
    let equals = rest[..end].find('=').ok_or(refuse("has no '='"))?;
    let path = &rest[..equals];
    if path.trim().is_empty() {
        return Err(refuse("has no key"));
    }
    let value = &rest[equals + 1..];
    if !value.starts_with(['"', '{', '[']) {
        return Ok((path, Written::Bare(&rest[equals + 1..end]), &rest[end..]));
    }
    // Only the JSON parser knows where the value ends; it tells how far it read.
    let mut stream = serde_json::Deserializer::from_str(value).into_iter::<Value>();
    let Some(Ok(json)) = stream.next() else {
        return Err(refuse("begins like JSON but is none"));
    };
    let after = &value[stream.byte_offset()..];
    if !after.is_empty() && !after.starts_with(',') {
        return Err(refuse("goes on after its JSON value"));
    }
    Ok((path, Written::Json(json), after))
}

fn set(
    base: &mut Map<String, Value>,
    path: &str,
    written: Written<'_>,
) -> Result<(), WorkerConfigError> {
    let path = current_path(path);
    let known = paths(base);
    let unknown = || WorkerConfigError::UnknownKey {
        key: path.clone(),
        nearest: nearest(&path, &known),
    };
    let (first, inner) = match path.split_once('.') {
        Some((first, inner)) => (first, Some(inner)),
        None => (path.as_str(), None),
    };
    let first = spelling(base, first).ok_or_else(unknown)?;
    let current = base.get_mut(&first).ok_or_else(unknown)?;
    let patch = match inner {
        None if is_opaque(&first) => json!({ &first: opaque(written) }),
        None => json!({ &first: typed(&first, current, written)? }),
        Some(inner) if is_opaque(&first) => {
            // `kafka.x=…`: the keys in such a section are not known here.
            let Value::Object(section) = current else {
                return Err(unknown());
            };
            return set_opaque(section, inner, written).ok_or_else(unknown);
        }
        Some(inner) => {
            let section = current.as_object().ok_or_else(unknown)?;
            let leaf = spelling(section, inner).ok_or_else(unknown)?;
            let current = section.get(&leaf).ok_or_else(unknown)?;
            let value = typed(&join(&first, &leaf), current, written)?;
            json!({ &first: { leaf: value } })
        }
    };
    let Value::Object(patch) = patch else {
        unreachable!("every patch above is an object");
    };
    let mut warnings = Vec::new();
    merge(base, patch, &mut warnings)?;
    // Inside an object given as JSON a key can still be unknown; on the command line that is an error.
    match warnings.into_iter().next() {
        Some(Warning::UnknownKey { key, nearest, .. }) => {
            Err(WorkerConfigError::UnknownKey { key, nearest })
        }
        _ => Ok(()),
    }
}

/// Converts a bare word to the type that its key accepts. A value in JSON is left for `merge` to check.
fn typed(path: &str, current: &Value, written: Written<'_>) -> Result<Value, WorkerConfigError> {
    let word = match written {
        Written::Json(value) => return Ok(value),
        Written::Bare(word) => word,
    };
    let value = match current {
        Value::String(_) => Some(Value::from(word)),
        Value::Bool(_) => match word.trim().to_ascii_lowercase().as_str() {
            // The spellings that Go's ParseBool accepts, since scripts for the original use them.
            "true" | "t" | "1" => Some(Value::Bool(true)),
            "false" | "f" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Value::Number(_) => word.trim().parse::<u32>().ok().map(Value::from),
        _ => None,
    };
    value.ok_or_else(|| wrong_type(path, current, format!("{word:?}")))
}

fn opaque(written: Written<'_>) -> Value {
    match written {
        Written::Json(value) => value,
        Written::Bare(word) => Value::from(word),
    }
}

/// Sets a dotted path inside a section of unknown shape, and makes missing objects on the way.
///
/// `None` if a value on the way is no object.
fn set_opaque(section: &mut Map<String, Value>, path: &str, written: Written<'_>) -> Option<()> {
    let Some((first, rest)) = path.split_once('.') else {
        let value = match written {
            // There is no type to convert to, so numbers, booleans and null are read as JSON.
            Written::Bare(word) => serde_json::from_str(word).unwrap_or_else(|_| Value::from(word)),
            Written::Json(value) => value,
        };
        section.insert(path.to_owned(), value);
        return Some(());
    };
    let inner = section.entry(first).or_insert_with(|| json!({}));
    set_opaque(inner.as_object_mut()?, rest, written)
}
