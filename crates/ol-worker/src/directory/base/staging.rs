//! The directory where a base image is built, and how it replaces the old image in one step.
//!
//! ```text
//!   DIR/.ol-base-new/root/   the new image ─┐ both change places (renameat2, EXCHANGE); then the old
//!   DIR/lambda/              the one in use ┘ one's packages/ moves over, and the rest of it goes
//!   DIR/.ol-base-new/tmp/ log               what the programs that make it need
//! ```
//!
//! After a kill at any point, `lambda/` is complete: the old image or the new one. At most the package store is still in the old one;
//! [`settle`] then moves it and removes the rest. Everything here happens under the directory's lock, thus no sandbox is using the image.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::error::DirectoryError;
use super::super::lock::Lock;
use super::super::residue::is_mounted_within;
use super::record::{RECORD, Record};

/// The staging directory's name, which nobody else uses: a directory that contains it was begun by `init`.
pub(in super::super) const STAGING: &str = ".ol-base-new";

const PACKAGES: &str = "packages";

/// The staging directory; dropping it removes it and everything in it.
#[derive(Debug)]
pub(in super::super) struct Staging {
    path: PathBuf,
    image: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If something can't be removed now, the next `init` or `up` tries again.
        let _ = clear(&self.path, &self.image);
    }
}

impl Staging {
    /// Creates an empty staging directory in the worker directory `root`, for the base image at `image`.
    pub(in super::super) fn begin(
        root: &Path,
        image: &Path,
        lock: &Lock,
    ) -> Result<Self, DirectoryError> {
        settle(root, image, lock)?;
        let staging = Self {
            path: root.join(STAGING),
            image: image.to_owned(),
        };
        for folder in [staging.path.clone(), staging.root(), staging.scratch()] {
            make(&folder).map_err(|source| writing(&folder, source))?;
        }
        Ok(staging)
    }

    /// The folder for the image.
    pub(super) fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Temporary files of the programs that make the image.
    pub(super) fn scratch(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// The file for their error output.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Tells a person at a terminal what takes so long.
    #[expect(clippy::unused_self, reason = "said only while something is staged")]
    pub(super) fn say(&self, line: &str) {
        if io::stderr().is_terminal() {
            crate::say::say(line);
        }
    }

    /// Puts the staged image into its final place, with `record` as `base.json`. The package store is kept.
    pub(in super::super) fn exchange(self, record: &Record) -> Result<(), DirectoryError> {
        let root = self.root();
        let failed = |source| writing(&self.image, source);
        let text = serde_json::to_string(record).map_err(io::Error::from);
        text.and_then(|text| {
            let path = root.join(RECORD);
            fs::write(&path, text + "\n")?;
            File::open(&path)?.sync_all()
        })
        .map_err(failed)?;

        let held = self.image.symlink_metadata().is_ok();
        if held {
            if is_mounted_within(&self.image).map_err(failed)? {
                return Err(DirectoryError::BaseInUse {
                    path: self.image.clone(),
                    problem: "has something mounted in it: unmount that",
                });
            }
            if self.image.is_symlink() {
                return Err(DirectoryError::BaseInUse {
                    path: self.image.clone(),
                    problem: "is a link, where a directory is wanted: remove the link",
                });
            }
            renameat_with(CWD, &root, CWD, &self.image, RenameFlags::EXCHANGE)
                .map_err(|error| failed(error.into()))?;
        } else {
            fs::rename(&root, &self.image).map_err(failed)?;
        }
        // Now the staging directory holds the old image. An error here is reported, because the package store is in it.
        clear(&self.path, &self.image)?;
        // Renames are durable only once their directories are synced.
        for folder in [Some(self.image.as_path()), self.image.parent()]
            .into_iter()
            .flatten()
        {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(failed)?;
        }
        Ok(())
    }
}

/// Finishes what a kill interrupted: moves the package store to its place and removes the staging directory. True if there was one.
pub(in super::super) fn settle(
    root: &Path,
    image: &Path,
    _lock: &Lock,
) -> Result<bool, DirectoryError> {
    let staging = root.join(STAGING);
    if staging.symlink_metadata().is_err() {
        return Ok(false);
    }
    clear(&staging, image)?;
    Ok(true)
}

/// Removes the staging directory, after moving the package store to its place.
fn clear(staging: &Path, image: &Path) -> Result<(), DirectoryError> {
    let (stray, store) = (staging.join("root").join(PACKAGES), image.join(PACKAGES));
    if stray.symlink_metadata().is_ok() {
        // An empty store at the final place is removed; one with packages makes this fail.
        let _ = fs::remove_dir(&store);
        if store.symlink_metadata().is_ok() {
            return Err(DirectoryError::BaseInUse {
                path: stray,
                problem: "is a second package store: keep one of the two, in lambda/packages",
            });
        }
        fs::rename(&stray, &store).map_err(|source| writing(&store, source))?;
    }
    if is_mounted_within(staging).map_err(|source| writing(staging, source))? {
        return Err(DirectoryError::BaseInUse {
            path: staging.to_owned(),
            problem: "has something mounted in it: unmount that",
        });
    }
    fs::remove_dir_all(staging).map_err(|source| writing(staging, source))
}

/// Creates a folder that sandboxes and apt's own user can enter, whatever the umask.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

fn writing(path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Write {
        path: path.to_owned(),
        source,
    }
}
