//! The place where a base image is built, and the one step by which it takes the place of another.
//!
//! ```text
//!   DIR/.ol-base-new/root/   the new image ─┐ both change places (renameat2, EXCHANGE); then the old
//!   DIR/lambda/              the one in use ┘ one's packages/ moves over, and the rest of it goes
//!   DIR/.ol-base-new/tmp/ log               what the programs that make it need
//! ```
//!
//! A kill at any point leaves `lambda/` whole, one or the other. At most the package store is still in
//! the old one; [`settle`] moves it, and removes the rest. All of it happens under the
//! lock of the directory, so that no sandbox loses the floor it stands on.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::error::DirectoryError;
use super::super::lock::Lock;
use super::super::residue::is_mounted_within;
use super::record::{RECORD, Record};

/// A name that nobody else uses: a directory in which it lies is one that we began.
pub(in super::super) const STAGING: &str = ".ol-base-new";

const PACKAGES: &str = "packages";

/// Removed with all that is in it when dropped.
#[derive(Debug)]
pub(in super::super) struct Staging {
    path: PathBuf,
    image: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What can't be removed now, the next `init` or `up` will try again.
        let _ = clear(&self.path, &self.image);
    }
}

impl Staging {
    /// An empty one in the worker directory `root`, for the base image at `image`.
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

    /// Where the image goes.
    pub(super) fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// For what the programs that make it need meanwhile.
    pub(super) fn scratch(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// For what they complain of.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Tells a person what takes so long.
    #[expect(clippy::unused_self, reason = "said only while something is staged")]
    pub(super) fn say(&self, line: &str) {
        if io::stderr().is_terminal() {
            crate::up::say(line);
        }
    }

    /// Puts what is staged into its place, recorded as `record`. The package store stays.
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
        // By now what is staged is the old one. An error is told: the package store is in there.
        clear(&self.path, &self.image)?;
        // The renames last only once their directories are on the disk.
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

/// Ends what a kill interrupted: the package store in its place, and nothing staged.
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

/// Removes what is staged, after the package store is where it belongs.
fn clear(staging: &Path, image: &Path) -> Result<(), DirectoryError> {
    let (stray, store) = (staging.join("root").join(PACKAGES), image.join(PACKAGES));
    if stray.symlink_metadata().is_ok() {
        // Only an empty one gives way.
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

/// Whatever the umask: sandboxes, and apt's own user, must be able to enter.
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
