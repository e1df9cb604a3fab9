//! The store's errors: those about a package are for whoever asked for it, those about the disk for the operator.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ol_archive::{ExtractError, Refusal};
use thiserror::Error;

use crate::pin::{Pin, Sha256};

/// Why the store could not do what was asked. All callers that wait for the same package get the same error.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file that says for which Python the packages were installed can't be read or written. Occurs at start, for the operator.
    #[error(
        "failed to read or write {}, which says for which Python the packages are; remove it and start again", file.display()
    )]
    Mark {
        /// The file.
        file: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// The folder can't be used at all. Occurs at start, for the operator; no error that a caller sees names a path.
    #[error(
        "failed to open the package store {folder:?}; make it a directory that this user may write"
    )]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// This host failed, for example its disk; the package may be fine.
    #[error("failed to {what}; check the space and the rights in the package store")]
    Host {
        /// What was tried, and with which package.
        what: String,
        /// What the file system said.
        source: Arc<io::Error>,
    },
    /// At a package's path in the store lies something else.
    #[error("what lies at {0} in the package store is no package; remove it")]
    Occupied(String),
    /// The archive contains a member that is not allowed.
    #[error("package {package} is refused: \"{member}\": {fact}; ask for another version of it")]
    Refused {
        /// `NAME==VERSION`.
        package: String,
        /// The file, escaped and cut.
        member: String,
        /// What is wrong with it.
        fact: String,
    },
    /// The package is over the limit in bytes.
    #[error(
        "package {package} unpacks to over {limit} bytes, the limit of a package; ask for a smaller one"
    )]
    Bytes {
        /// `NAME==VERSION`.
        package: String,
        /// The limit.
        limit: u64,
    },
    /// The package is over the limit in files and directories.
    #[error(
        "package {package} holds over {limit} files and directories, the limit of a package; ask for a smaller one"
    )]
    Entries {
        /// `NAME==VERSION`.
        package: String,
        /// The limit.
        limit: u64,
    },
    /// The archive ended early or is none.
    #[error(
        "what the installer handed over of package {package} is no whole archive, {place}; try again"
    )]
    Damaged {
        /// `NAME==VERSION`.
        package: String,
        /// The member at or after which the damage is.
        place: String,
    },
    /// The archive contains no file.
    #[error("the installer handed over no file of package {0}; try again")]
    Empty(String),
    /// The version is installed already, but from another archive than those that were locked.
    #[error(
        "package {package} is installed already, from another archive than the one that is wanted: the installed has {installed}, wanted \
         is {wanted}; change the --hash, or delete the function and install it anew to lock what the index has now; if no function uses the \
         installed one, `ol packages rm {package}` lets it be installed anew"
    )]
    OtherArchive {
        /// `NAME==VERSION`.
        package: String,
        /// The hashes of the installed one, shortened.
        installed: String,
        /// The wanted hashes, shortened.
        wanted: String,
    },
    /// The installer failed.
    #[error("failed to install package {package}")]
    Installer {
        /// `NAME==VERSION`.
        package: String,
        /// The installer's error.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The package can't be removed because it is in use.
    #[error("package {package} is in use by {by}; remove these first")]
    Held {
        /// `NAME==VERSION`.
        package: String,
        /// The holders of its leases, separated by commas.
        by: String,
    },
}

impl StoreError {
    pub(super) fn host(what: &str, pin: &Pin, source: impl Into<io::Error>) -> Self {
        StoreError::Host {
            what: format!("{what} package {pin}"),
            source: Arc::new(source.into()),
        }
    }

    pub(super) fn other_archive(pin: &Pin, installed: &[Sha256]) -> Self {
        StoreError::OtherArchive {
            package: pin.to_string(),
            installed: some(installed),
            wanted: some(pin.hashes()),
        }
    }

    /// Wraps the installer's error, unless it is a [`StoreError`] that the installer passed on.
    pub(super) fn installer(pin: &Pin, error: Box<dyn Error + Send + Sync>) -> Self {
        match error.downcast::<StoreError>() {
            Ok(ours) => *ours,
            Err(source) => StoreError::Installer {
                package: pin.to_string(),
                source: source.into(),
            },
        }
    }

    pub(super) fn unpacking(pin: &Pin, error: ExtractError) -> Self {
        let package = pin.to_string();
        match error {
            ExtractError::Refused { member, why } => match why {
                Refusal::Bytes(limit) => StoreError::Bytes { package, limit },
                Refusal::Entries(limit) => StoreError::Entries { package, limit },
                why => StoreError::Refused {
                    package,
                    member,
                    fact: why.fact(),
                },
            },
            ExtractError::CutShort { place }
            | ExtractError::NotGzip { place }
            | ExtractError::NotTar { place }
            | ExtractError::TrailingData { place } => StoreError::Damaged { package, place },
            // The archive itself is damaged, like a packed copy whose checksum is wrong.
            ExtractError::Read { source } if is_of_the_bytes(&source) => StoreError::Damaged {
                package,
                place: source.to_string(),
            },
            ExtractError::Read { source } => Self::host("read what was installed of", pin, source),
            ExtractError::Write { source, .. } | ExtractError::Into { source } => {
                Self::host("write", pin, source)
            }
        }
    }
}

fn is_of_the_bytes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

/// The first few hashes, for messages.
fn some(hashes: &[Sha256]) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<String> = hashes
        .iter()
        .take(SHOWN)
        .map(|hash| format!("sha256:{hash}"))
        .collect();
    let shown = shown.join(" or ");
    match hashes.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} or one of {more} more"),
    }
}
