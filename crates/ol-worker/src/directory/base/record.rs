//! `base.json`: which base image a worker directory uses, and where it came from.
//!
//! It lies in the image's own directory, `lambda/`: the usual base (the host itself) has no files there. Without `base.json`, `lambda/`
//! itself is the image, as in directories of the original worker.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ol_warden::rootfs::Base;
use serde::{Deserialize, Serialize};

use super::super::error::DirectoryError;

/// The name of the record inside the directory `sock_base_path`.
pub(in super::super) const RECORD: &str = "base.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(in super::super) enum Record {
    /// `{"kind": "host"}`
    Host,
    /// `{"kind": "dir", "path": "/…"}`
    Dir {
        /// Absolute.
        path: PathBuf,
    },
    /// `{"kind": "unpacked", "from": "debian:trixie"}`: the image lies beside the record.
    Unpacked {
        /// As `-i` names it.
        from: String,
    },
}

impl Record {
    /// Where the image is, if `image` is the folder with this record.
    fn base(&self, image: &Path) -> Base {
        match self {
            Self::Host => Base::Host,
            Self::Dir { path } => Base::Directory(path.clone()),
            Self::Unpacked { .. } => Base::Directory(image.to_owned()),
        }
    }

    /// The source, as written after `-i`.
    pub(in super::super) fn source(&self) -> String {
        match self {
            Self::Host => "host".to_owned(),
            Self::Dir { path } => format!("dir:{}", path.display()),
            Self::Unpacked { from } => from.clone(),
        }
    }
}

/// A base image in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseInUse {
    /// What sandboxes are made of.
    pub base: Base,
    /// Where it came from, as written after `-i`.
    pub source: String,
}

/// The record in `image`; `None` when there is none.
pub(in super::super) fn recorded(image: &Path) -> io::Result<Option<Record>> {
    match fs::read(image.join(RECORD)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The base image that lies at `image` or is recorded there. `root` is the worker directory, for the error's remedy.
pub(in super::super) fn of(image: &Path, root: &Path) -> Result<BaseInUse, DirectoryError> {
    let record = recorded(image).map_err(|error| DirectoryError::BaseRecord {
        path: image.join(RECORD),
        problem: format!("can't be understood ({error})"),
        root: root.to_owned(),
    })?;
    let (base, source) = match record {
        Some(record) => (record.base(image), record.source()),
        None => (
            Base::Directory(image.to_owned()),
            format!("dir:{}", image.display()),
        ),
    };
    match &base {
        Base::Directory(path) if !is_root_file_system(path) => Err(DirectoryError::BaseMissing {
            path: path.clone(),
            root: root.to_owned(),
        }),
        _ => Ok(BaseInUse { base, source }),
    }
}

fn is_root_file_system(image: &Path) -> bool {
    // Links are not followed: an image's `bin` is often a link that is valid only inside the image.
    ["usr", "bin"]
        .iter()
        .any(|name| image.join(name).symlink_metadata().is_ok())
}
