//! [`Wheels`]: where wheels lie while sandboxes install them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::index::Client;
use crate::pin::{Pin, Sha256};

use super::error::WheelError;
use super::fetch::{Deadline, download, find};
use super::tags::Tags;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A folder of wheels that are being installed. Two processes must not share it.
#[derive(Debug, Clone)]
pub struct Wheels {
    folder: PathBuf,
}

/// A wheel whose hash was checked, alone in a folder; both go when this does.
#[derive(Debug)]
pub struct Wheel {
    folder: Folder,
    hash: Sha256,
}

impl Wheel {
    /// The name of its folder.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.folder.name
    }

    /// Its SHA-256.
    #[must_use]
    pub fn hash(&self) -> Sha256 {
        self.hash
    }
}

impl Wheels {
    /// Opens `folder`, making it if it isn't there, and removes what a crash left. Blocking.
    ///
    /// # Errors
    /// When it can't be made, read or emptied.
    pub fn open(folder: &Path) -> io::Result<Self> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(folder)?,
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Fetches the wheel of `pin` that suits `tags` best. Blocking, for at most about `within`.
    ///
    /// # Errors
    /// By name: the index can't be reached, has none that suits or none with a wanted hash, the disk is full, …
    pub fn fetch(
        &self,
        pin: &Pin,
        tags: &Tags,
        client: &Client,
        within: Duration,
    ) -> Result<Wheel, WheelError> {
        let deadline = Deadline::within(within);
        let file = find(client, pin, tags, deadline)?;
        let folder = Folder::new(&self.folder)?;
        let path = folder.path.join(&file.filename);
        let hash = download(client, &file, pin, &path, deadline)?;
        Ok(Wheel { folder, hash })
    }
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    name: String,
}

impl Folder {
    fn new(within: &Path) -> Result<Self, WheelError> {
        let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        let path = within.join(&name);
        fs::create_dir(&path).map_err(WheelError::disk(&path))?;
        Ok(Self { path, name })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One file of a gigabyte at most: a moment. What stays goes when the folder is next opened.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = ?self.path, "can't remove a wheel");
        }
    }
}
