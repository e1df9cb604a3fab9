//! Why a wheel can't be had.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::index::ClientError;

/// Why a wheel can't be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WheelError {
    /// The index doesn't answer as one.
    #[error(transparent)]
    Index(Arc<ClientError>),
    /// There is none for this interpreter.
    #[error("{index} has no wheel of {pin} for this Python and machine{has}")]
    NoWheel {
        /// Which package.
        pin: String,
        /// Whom was asked.
        index: String,
        /// What there is instead, ready to be appended.
        has: String,
    },
    /// The index has other files than those that are wanted.
    #[error(
        "{index} has {file}, but with the hash {found}, which is not one of those that are locked or listed"
    )]
    OtherHash {
        /// The wheel that would suit.
        file: String,
        /// Whom was asked.
        index: String,
        /// Its SHA-256.
        found: String,
    },
    /// A file isn't what its page promises.
    #[error("{file} has the hash {found}, not one of those that are locked or listed")]
    WrongHash {
        /// The wheel.
        file: String,
        /// Its SHA-256.
        found: String,
    },
    /// A file ended early.
    #[error("{file} broke off after {bytes} bytes: {why}")]
    BrokeOff {
        /// The wheel.
        file: String,
        /// What came.
        bytes: u64,
        /// What the system says.
        why: String,
    },
    /// It takes too long.
    #[error("{file} didn't come within {seconds} s")]
    TooSlow {
        /// The wheel, or the page.
        file: String,
        /// The limit.
        seconds: u64,
    },
    /// Nobody wants it any more.
    #[error("nobody waits for it any more")]
    Stopped,
    /// It is too long.
    #[error("{file} is longer than {mib} MiB")]
    TooLong {
        /// The wheel.
        file: String,
        /// The limit.
        mib: u64,
    },
    /// This host's disk. Where on it is for the operator: [`Self::place`].
    #[error("the wheel can't be kept on this worker's disk: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
}

impl WheelError {
    pub(super) fn disk(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Disk {
            path: path.clone(),
            source: Arc::new(source),
        }
    }

    /// The place on this host that failed, for its operator; callers are not told.
    #[must_use]
    pub fn place(&self) -> Option<&Path> {
        match self {
            Self::Disk { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Is it worth another attempt?
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::BrokeOff { .. } => true,
            Self::Index(error) => match **error {
                ClientError::Unreachable { .. } => true,
                ClientError::Status { status, .. } => status == 429 || status >= 500,
                ClientError::Refused { .. } | ClientError::Garbage { .. } => false,
            },
            _ => false,
        }
    }

    /// Which of the installer's codes says the same; `inside/f.py` lists them.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Index(error) => match **error {
                ClientError::Garbage { .. } => "garbage-index",
                ClientError::Unreachable { .. }
                | ClientError::Status { .. }
                | ClientError::Refused { .. } => "index-unreachable",
            },
            Self::NoWheel { .. } => "no-matching-wheel",
            Self::OtherHash { .. } | Self::WrongHash { .. } => "hash-mismatch",
            Self::BrokeOff { .. } => "index-unreachable",
            Self::TooSlow { .. } => "timeout",
            Self::TooLong { .. } => "too-large",
            Self::Disk { .. } | Self::Stopped => "failed",
        }
    }
}

impl From<ClientError> for WheelError {
    fn from(error: ClientError) -> Self {
        Self::Index(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_for_the_operator() {
        let place = Path::new("/w/lambda/packages/.wheels/4711-1");
        let error = WheelError::disk(place)(io::ErrorKind::StorageFull.into());
        assert_eq!(error.place(), Some(place));
        assert!(
            !error.to_string().contains('/') && !error.to_string().contains("4711"),
            "{error}"
        );
    }
}
