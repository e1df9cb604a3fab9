//! Why a wheel can't be fetched.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::index::ClientError;

/// Why a wheel can't be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WheelError {
    /// The index can't be reached or doesn't answer properly.
    #[error(transparent)]
    Index(Arc<ClientError>),
    /// The index has no wheel for this interpreter.
    #[error("{index} has no wheel of {pin} for this Python and machine{has}")]
    NoWheel {
        /// Which package.
        pin: String,
        /// The indexes that were asked.
        index: String,
        /// What the index has instead, ready to be appended.
        has: String,
    },
    /// The suitable wheel has an unwanted hash, by the index's page.
    #[error(
        "{index} has {file}, but with the hash {found}, which is not one of those that are locked or listed"
    )]
    OtherHash {
        /// The wheel that would suit.
        file: String,
        /// The index that was asked.
        index: String,
        /// Its SHA-256.
        found: String,
    },
    /// The downloaded file has an unwanted hash.
    #[error("{file} has the hash {found}, not one of those that are locked or listed")]
    WrongHash {
        /// The wheel.
        file: String,
        /// Its SHA-256.
        found: String,
    },
    /// The download ended early.
    #[error("{file} broke off after {bytes} bytes: {why}")]
    BrokeOff {
        /// The wheel.
        file: String,
        /// How many bytes came.
        bytes: u64,
        /// What the system says.
        why: String,
    },
    /// The fetch takes too long.
    #[error("{file} didn't come within {seconds} s")]
    TooSlow {
        /// The wheel, or the page.
        file: String,
        /// The limit.
        seconds: u64,
    },
    /// All callers that wanted the wheel have left.
    #[error("nobody waits for it any more")]
    Stopped,
    /// The file is too long.
    #[error("{file} is longer than {mib} MiB")]
    TooLong {
        /// The wheel.
        file: String,
        /// The limit.
        mib: u64,
    },
    /// This host's disk failed. The path is only for the operator: [`Self::place`].
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

    /// The path on this host that failed, for the operator; callers must not see it.
    #[must_use]
    pub fn place(&self) -> Option<&Path> {
        match self {
            Self::Disk { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Whether another attempt may succeed.
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

    /// The corresponding failure code of the installer program in `inside/`.
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
