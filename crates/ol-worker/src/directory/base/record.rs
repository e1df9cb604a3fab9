//! `base.json`: which base image a worker directory uses, and where it came from.
//!
//! It lies in the image's own directory, `lambda/`, because the usual base (the host itself) is
//! nothing that lies there. Without it `lambda/` is the image, as the original made it.

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
    /// Where the image is, if its record lies in `image`.
    fn base(&self, image: &Path) -> Base {
        match self {
            Self::Host => Base::Host,
            Self::Dir { path } => Base::Directory(path.clone()),
            Self::Unpacked { .. } => Base::Directory(image.to_owned()),
        }
    }

    /// As `-i` names it.
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
pub struct Found {
    /// What sandboxes are made of.
    pub base: Base,
    /// Where it came from, as `-i` names it.
    pub source: String,
}

/// What is recorded in `image`; `None` when there is no record.
pub(in super::super) fn recorded(image: &Path) -> io::Result<Option<Record>> {
    match fs::read(image.join(RECORD)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The base that lies, or is recorded, at `image`; `root` is the worker directory, for the remedy.
pub(in super::super) fn of(image: &Path, root: &Path) -> Result<Found, DirectoryError> {
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
        _ => Ok(Found { base, source }),
    }
}

fn is_root_file_system(image: &Path) -> bool {
    // Not followed: in an image, `bin` is often a link that means something only inside it.
    ["usr", "bin"]
        .iter()
        .any(|name| image.join(name).symlink_metadata().is_ok())
}
