//! Finds the keys of an `ol.yaml` that nothing reads.
//!
//! This reads the document a second time, since serde either refuses unknown keys or drops them silently.

use serde_json::Value;

use crate::nearest::nearest_key;
use crate::warnings::Warning;

/// Every known key, as a dotted path; list elements have the path of their list.
pub(super) const KNOWN: &[&str] = &[
    "triggers",
    "triggers.http",
    "triggers.http.method",
    "triggers.cron",
    "triggers.kafka",
    "environment",
    "reuse-sandbox",
    "limits",
    "limits.procs",
    "limits.mem_mb",
    "limits.cpu_percent",
    "limits.runtime_sec",
    "limits.scratch_mb",
    "concurrency",
    "instances",
    "instances.min",
    "instances.max",
    "network",
    "oom",
    "errors",
];

/// Keys whose contents are free, so that no key within them is unknown.
const OPAQUE: &[&str] = &["triggers.cron", "triggers.kafka", "environment"];

/// A file can hold tens of thousands of wrong keys; nobody reads more than a few.
const MOST_WARNINGS: usize = 20;

/// One warning for each unknown key, in the order of their paths.
pub(super) fn warnings(document: &Value) -> Vec<Warning> {
    let mut found = Vec::new();
    walk(document, "", &mut found);
    found
}

fn walk(value: &Value, path: &str, found: &mut Vec<Warning>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, found)),
        Value::Object(map) => {
            for (key, inner) in map {
                if found.len() == MOST_WARNINGS {
                    return;
                }
                let here = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                if !KNOWN.contains(&here.as_str()) {
                    let nearest = nearest_key(&here, KNOWN.iter().copied()).unwrap_or_default();
                    found.push(Warning::UnknownKey {
                        file: "ol.yaml",
                        nearest: nearest.to_owned(),
                        key: here,
                    });
                } else if !OPAQUE.contains(&here.as_str()) {
                    walk(inner, &here, found);
                }
            }
        }
        _ => {}
    }
}
