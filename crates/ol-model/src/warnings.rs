//! What is odd in a configuration file, but no error.
//!
//! Scripts for the original worker write keys that neither worker reads, so an unknown key must not be an error. But if it were ignored
//! silently, a misspelled limit would have no effect and nobody would notice.

use std::fmt;

use crate::limits::LEAST_MEM_MB;

/// A warning, shown at start and by `ol doctor`; its `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A key that nothing reads.
    UnknownKey {
        /// The file it stands in: `config.json` or `ol.yaml`.
        file: &'static str,
        /// Its dotted path.
        key: String,
        /// The dotted path of the known key that is spelled most like it.
        nearest: String,
    },
    /// A key that differs from a known one in upper and lower case only. The original's JSON
    /// decoder takes such keys, so they are honoured.
    KeyCase {
        /// The file it stands in.
        file: &'static str,
        /// Its dotted path as written.
        key: String,
        /// The dotted path it was read as.
        known: String,
    },
    /// A line of a `.env` that holds a name and no `=`. The warning omits the name, since a secret pasted over several lines looks like
    /// this.
    NoValue {
        /// From 1.
        line: usize,
    },
    /// A variable used in a `.env` that no earlier line sets.
    UnsetVariable {
        /// From 1.
        line: usize,
        /// Its name.
        name: String,
    },
    /// An HTTP method that no standard knows. HTTP allows any method, so it is accepted; but a function that only accepts `GETT` is never
    /// called.
    UnlikelyMethod {
        /// As read: in upper case.
        method: String,
        /// The well-known method that is spelled most like it.
        nearest: &'static str,
    },
    /// A key of `ol.yaml` that is read and checked, but has no effect in this worker.
    NoEffectYet {
        /// Its dotted path.
        key: &'static str,
    },
    /// Other machines can reach the worker, which doesn't authenticate anybody.
    OpenToAll {
        /// The value of `worker_url`.
        host: String,
    },
    /// Less memory than Python reliably needs to start.
    LittleMemory {
        /// What `limits.mem_mb` asks for.
        asked: u32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { file, key, nearest } => write!(
                f,
                "{file}: unknown key `{}` is ignored; the nearest known key is `{nearest}`",
                key.escape_debug()
            ),
            Self::KeyCase { file, key, known } => write!(
                f,
                "{file}: key `{}` is read as `{known}`; spell it so",
                key.escape_debug()
            ),
            Self::NoValue { line } => write!(
                f,
                ".env line {line}: no = follows the name, so that it is ignored; write NAME=value"
            ),
            Self::UnsetVariable { line, name } => write!(
                f,
                ".env line {line}: ${{{name}}} is empty, since only earlier lines of the file count; \
                 set {name} above it, or write ${{{name}:-default}}"
            ),
            Self::UnlikelyMethod { method, nearest } => write!(
                f,
                "ol.yaml: no standard knows the HTTP method {method}; the nearest that one knows is {nearest}"
            ),
            Self::NoEffectYet { key } => write!(
                f,
                "ol.yaml: {key} has no effect on this worker yet: nothing is started or limited by it"
            ),
            Self::OpenToAll { host } => write!(
                f,
                "worker_url {host:?} is reached from other machines, and whoever reaches it may call, install and remove \
                 functions: set it to \"localhost\", or let nobody but those you trust through to it"
            ),
            Self::LittleMemory { asked } => write!(
                f,
                "ol.yaml: limits.mem_mb {asked} may be too little for Python to start; ask for at least {LEAST_MEM_MB}"
            ),
        }
    }
}
