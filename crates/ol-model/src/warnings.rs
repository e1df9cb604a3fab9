//! What was odd in a configuration file but did not stop it from loading.
//!
//! Scripts for the original worker write keys that neither worker reads, so an unknown key must
//! not be fatal; but a silently ignored typing error is how a limit goes missing.

use std::fmt;

/// One thing worth a line at start and in `ol doctor`; its `Display` is that line.
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
        }
    }
}
