//! What a worker that crashed leaves on the host, and its removal.
//!
//! The kernel ends its sandboxes (they die with the warden) and its mounts (they were in namespaces of their own). What remains are empty
//! cgroups, a table of rules for a network interface that is gone, and files about a worker that no longer exists. Bundles, packages, logs
//! and the configuration are not residue.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ol_warden::cgroup;

use super::error::DirectoryError;
use super::lock::Lock;
use super::{Directory, base};

/// What [`Directory::remove_residue`] found and removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Cgroup directories.
    pub cgroups: usize,
    /// Parts of its network on the host: an interface, a table of rules.
    pub network: usize,
    /// Files and directories.
    pub paths: Vec<PathBuf>,
}

impl Removed {
    /// Whether nothing was removed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.cgroups == 0 && self.network == 0 && self.paths.is_empty()
    }
}

impl Directory {
    /// Removes what a worker that no longer lives left behind; does nothing if nothing is left.
    ///
    /// # Errors
    /// [`DirectoryError::Lock`] when a worker lives here; [`DirectoryError::Residue`] when
    /// something can't be removed.
    pub fn remove_residue(&self) -> Result<Removed, DirectoryError> {
        if !self.worker().exists() {
            return self.remove_kernels();
        }
        // Held throughout, so that a worker that starts meanwhile doesn't lose what it just made.
        self.remove_residue_under(&self.lock()?)
    }

    /// Like [`Self::remove_residue`], for a caller that already holds the lock.
    pub(crate) fn remove_residue_under(&self, lock: &Lock) -> Result<Removed, DirectoryError> {
        let mut removed = self.remove_kernels()?;
        if base::settle(&self.root, &self.base_image(), lock)? {
            removed.paths.push(self.root.join(base::STAGING));
        }
        let failed = |source| DirectoryError::Residue { source };
        for path in [
            self.pid_file(),
            self.url_file(),
            self.socket(),
            self.code(),
            self.uploads(),
        ] {
            // Behind a mount may be the host itself or an operator's own disk.
            if is_mounted_within(&path).map_err(failed)? {
                return Err(failed(io::Error::other(format!(
                    "something is mounted in {}",
                    path.display()
                ))));
            }
            if remove(&path).map_err(failed)? {
                removed.paths.push(path);
            }
        }
        Ok(removed)
    }

    fn remove_kernels(&self) -> Result<Removed, DirectoryError> {
        let failed = |source| DirectoryError::Residue { source };
        let cgroups = cgroup::probe()
            .and_then(|layout| cgroup::remove_all(&layout, &self.prefix()))
            .map_err(failed)?;
        // A user with delegated cgroups may have no rights on networks; then no network was ever made here.
        let network = match ol_warden::network::remove_all(&self.prefix()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => 0,
            other => other.map_err(failed)?,
        };
        Ok(Removed {
            cgroups,
            network,
            paths: Vec::new(),
        })
    }
}

/// Whether anything is mounted at `path` or beneath it; if so, it must not be removed.
pub(super) fn is_mounted_within(path: &Path) -> io::Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // Canonical, as the kernel lists it. Nothing can be mounted at a path that doesn't exist.
    Ok(fs::canonicalize(path).is_ok_and(|path| mounted_within(&mounts, &path)))
}

/// Whether any mount point is `path` or beneath it. Mountinfo writes a blank as `\040`.
fn mounted_within(mountinfo: &str, path: &Path) -> bool {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|at| PathBuf::from(at.replace("\\040", " ")))
        .any(|at| at.starts_with(path))
}

/// Removes a file or directory without following links; false when there was none.
fn remove(path: &Path) -> io::Result<bool> {
    let result = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            Err(io::Error::new(error.kind(), text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_beneath_is_seen_and_one_beside_is_not() {
        let mounts = "36 35 98:0 / /w/code/a\\040b rw - ext4 /dev/root rw\n";
        assert!(mounted_within(mounts, Path::new("/w/code")));
        assert!(mounted_within(mounts, Path::new("/w/code/a b")));
        assert!(!mounted_within(mounts, Path::new("/w/cod")));
        assert!(!mounted_within(mounts, Path::new("/w/code/a b/c")));
    }
}
