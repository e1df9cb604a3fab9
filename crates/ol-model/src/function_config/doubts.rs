//! Finds settings of an `ol.yaml` that are allowed but probably not intended.
//!
//! Nothing here is refused: HTTP has no closed list of methods, and only the author knows how little memory a program needs.

use super::FunctionConfig;
use crate::limits::LEAST_MEM_MB;
use crate::nearest::nearest_key;
use crate::warnings::Warning;

/// IANA's registry of HTTP methods, without those for calendars and version control, but with `QUERY`.
const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "ACL",
    "BIND",
    "UNBIND",
    "REBIND",
    "LINK",
    "UNLINK",
];

/// A file can hold thousands of methods; nobody reads more than a few.
const MOST_WARNINGS: usize = 20;

/// One warning for each doubt.
pub(super) fn warnings(config: &FunctionConfig) -> impl Iterator<Item = Warning> {
    let methods = config.triggers.http.iter().flatten();
    let methods = methods
        .filter(|method| !METHODS.contains(&method.as_str()))
        .take(MOST_WARNINGS)
        .map(|method| Warning::UnlikelyMethod {
            method: method.clone(),
            nearest: nearest_key(method, METHODS.iter().copied()).unwrap_or("GET"),
        });
    // Zero means the worker's default.
    let asked = config.limits.mem_mb.filter(|asked| *asked != 0);
    let little = asked.filter(|asked| *asked < LEAST_MEM_MB);
    let effectless = [
        ("triggers.cron", !config.triggers.cron.is_empty()),
        ("triggers.kafka", !config.triggers.kafka.is_empty()),
    ];
    let effectless = effectless
        .into_iter()
        .filter_map(|(key, asked)| asked.then_some(Warning::NoEffectYet { key }));
    methods
        .chain(little.map(|asked| Warning::LittleMemory { asked }))
        .chain(effectless)
}
