//! What can be wrong with a worker's configuration.
//!
//! `ol worker up` prints these messages, so each is one sentence that ends with what to do.

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerConfigError {
    /// Not JSON.
    #[error(
        "config.json line {line}, column {column}: {message}; mend it, or restore config.json.bak"
    )]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The parser's message.
        message: String,
    },
    /// JSON, but not an object of keys.
    #[error(
        "config.json holds {found} where an object of keys was expected; run `ol worker init` to write a new one"
    )]
    NotAnObject {
        /// The kind of value that it holds instead.
        found: &'static str,
    },
    /// A key that nothing reads, in an override or under `strict_config`.
    #[error("unknown configuration key `{key}`; the nearest known key is `{nearest}`")]
    UnknownKey {
        /// Its dotted path.
        key: String,
        /// The dotted path of the known key most like it.
        nearest: String,
    },
    /// A value of a type that its key doesn't accept.
    #[error("configuration key `{key}` takes {expected}, not {found}; write for example {example}")]
    WrongType {
        /// Its dotted path.
        key: String,
        /// The type that the key accepts.
        expected: &'static str,
        /// What was written.
        found: String,
        /// A setting that is accepted.
        example: String,
    },
    /// A value of the right type that its key doesn't accept.
    #[error("configuration key `{key}`: {message}")]
    Value {
        /// Its dotted path.
        key: String,
        /// What is wrong, and what is accepted.
        message: String,
    },
    /// Text after `-o` that is not `key=value`.
    #[error("override {text:?} {problem}; write key=value, as in limits.mem_mb=100")]
    Override {
        /// The part that can't be read.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two sandboxes would not fit the pool, so that one always evicts the other.
    #[error(
        "mem_pool_mb {pool_mb} is below twice limits.mem_mb {limit_mb}; \
         raise mem_pool_mb to at least {} or lower limits.mem_mb", u64::from(*limit_mb) * 2
    )]
    PoolTooSmall {
        /// The pool.
        pool_mb: u32,
        /// The largest default limit.
        limit_mb: u32,
    },
    /// A registry in a cloud, which is not supported yet.
    #[error("registry {registry:?} comes later; use a path or file://")]
    RegistryLater {
        /// As configured.
        registry: String,
    },
    /// A registry that nothing can read.
    #[error("registry {registry:?} {problem}; use a path or file:///path")]
    RegistryUnusable {
        /// As configured.
        registry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
