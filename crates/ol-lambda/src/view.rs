//! Names packages for the pool, which shows a sandbox those and no others.

use crate::numbered::Numbered;
use ol_sandbox::{Folder, Packages};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A directory beneath that of code, whose entries are called like packages of the store.
#[derive(Debug)]
pub(crate) struct View {
    folder: Folder,
    /// Goes with this.
    directory: Option<Numbered>,
}

impl View {
    /// One that names `entries` of the store, each by its name or that and a folder in it. Blocking.
    pub(crate) fn lay_out(
        code: &Path,
        entries: impl IntoIterator<Item = String>,
    ) -> io::Result<Self> {
        let directory = Numbered::make(code)?;
        // Seen from inside, by a uid that is neither its owner's nor in its group.
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
