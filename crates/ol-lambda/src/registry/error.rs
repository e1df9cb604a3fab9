//! Why a registry could not do what was asked, in words for the operator; the only path told is the folder's, once.

use ol_model::FunctionName;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why the registry could not do what was asked.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The folder can't be used at all.
    ///
    /// This happens when the worker starts and only the operator sees it, so the message names the path, which the others never do.
    #[error("failed to open the registry {folder:?}; make it a directory that this user may write")]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The folder could not be listed.
    #[error("failed to list the registry; check that its folder is there and readable")]
    List {
        /// What the file system said.
        source: io::Error,
    },
    /// The bundle's file isn't a regular file: a link would let the folder point anywhere.
    #[error(
        "{name}.tar.gz in the registry is not a regular file; replace it with the bundle itself"
    )]
    NotAFile {
        /// The function.
        name: FunctionName,
    },
    /// A bundle could not be opened.
    #[error("failed to open the bundle of {name}; check that the worker may read its file")]
    Read {
        /// The function.
        name: FunctionName,
        /// What the file system said.
        source: io::Error,
    },
    /// A bundle could not be stored.
    ///
    /// The previous one is still in place, unless only the last step failed: making the new one durable.
    #[error("failed to store the bundle of {name}; check the registry's disk and upload it again")]
    Put {
        /// The function.
        name: FunctionName,
        /// What the file system said.
        source: io::Error,
    },
    /// The bundle was stored, and removed by somebody else before this call returned.
    #[error("the bundle of {name} was deleted while it was stored; upload it again")]
    Vanished {
        /// The function.
        name: FunctionName,
    },
    /// A bundle could not be deleted, or not durably.
    #[error("failed to delete the bundle of {name}; check the registry's disk and delete it again")]
    Delete {
        /// The function.
        name: FunctionName,
        /// What the file system said.
        source: io::Error,
    },
}
