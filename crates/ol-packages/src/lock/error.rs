//! Why something is no lock.

use thiserror::Error;

use crate::pin::PinError;
use crate::requirements::RequirementsError;

/// Why a lock can't be made or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LockError {
    /// A line of the resolver's output isn't understood.
    #[error("the resolver's output is not understood: {0}")]
    Text(#[from] RequirementsError),
    /// A package has no exact version.
    #[error(
        "{0} is not pinned; lock what a resolver wrote, like 'uv pip compile --generate-hashes'"
    )]
    Unpinned(String),
    /// A package has no hash.
    #[error(
        "{0} has no hash; let the resolver write them, with 'uv pip compile --generate-hashes'"
    )]
    Unhashed(String),
    /// A package occurs twice.
    #[error(
        "one package is there twice, {0} and {1} (in version or hashes); resolve for one platform, without --universal"
    )]
    Twice(String, String),
    /// Too many packages.
    #[error("over {0} packages; ask for less")]
    Many(usize),
    /// The input is over the limit in bytes.
    #[error("the lock is over {0} bytes long; ask for less")]
    Bytes(usize),
    /// Not a Python version and platform.
    #[error("\"{0}\" is no Python and platform; write them like 3.11 and linux_x86_64")]
    Target(String),
    /// A name, version or hash is not valid.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Not JSON, or JSON of another structure.
    #[error("{what} doesn't have the form expected: {why}; make it again")]
    Form {
        /// Which text.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// A lock that a newer program wrote.
    #[error(
        "the lock has format {0}, and this program knows formats up to {1}; use the program that wrote it, or install the function again"
    )]
    Format(u64, u64),
    /// pip reports a package that doesn't come from an index.
    #[error(
        "{0} doesn't come from the index as an archive with a SHA-256; name a version that the index has"
    )]
    Elsewhere(String),
}
