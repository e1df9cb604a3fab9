//! A list of packages for the pool, which shows a sandbox those packages and no others.

use crate::numbered::Numbered;
use ol_sandbox::{Folder, Packages};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A directory below the code directory whose entries are named like packages of the store.
#[derive(Debug)]
pub(crate) struct View {
    folder: Folder,
    /// Removed when this is dropped.
    directory: Option<Numbered>,
}

impl View {
    /// Creates a view that names `entries` of the store: each is a package's name, or that and a folder in the package. Blocking.
    pub(crate) fn lay_out(
        code: &Path,
        entries: impl IntoIterator<Item = String>,
    ) -> io::Result<Self> {
        let directory = Numbered::make(code)?;
        // Read from inside the sandbox, by a uid that is neither the owner nor in its group.
        let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755));
        open(directory.path())?;
        for entry in entries {
            let mut path = directory.path().to_owned();
            for part in Path::new(&entry) {
                path.push(part);
                fs::create_dir(&path)?;
                open(&path)?;
            }
        }
        Ok(Self {
            folder: directory.folder(),
            directory: Some(directory),
        })
    }

    pub(crate) fn shown(&self) -> Packages {
        Packages::Named(self.folder.clone())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            directory.go_later();
        }
    }
}
