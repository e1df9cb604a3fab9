//! Directories of code, named by number because sandboxes are given code by its number. Each is removed when its owner is dropped.

use ol_sandbox::Folder;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A directory below the code directory, named by its number and removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Numbered(Folder);

impl Numbered {
    /// Makes a new, empty one that sandboxes may read whatever the umask: nobody else can pass the directory around it. Blocking.
    ///
    /// # Errors
    /// For the operator: they name the path.
    pub(crate) fn make(code: &Path) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = code.join(number.to_string());
        let made = fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
        made.map_err(|error| {
            // The pool may hold on to the code directory that existed when it started.
            let text = format!(
                "{} (start the worker again if its folder was removed): {error}",
                path.display()
            );
            io::Error::new(error.kind(), text)
        })?;
        let path = path.into();
        Ok(Self(Folder { number, path }))
    }

    /// The directory in the form in which sandboxes are given it.
    pub(crate) fn folder(&self) -> Folder {
        self.0.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Removes it on a thread of its own: removing a large tree takes a while, and the caller may be an async task.
    pub(crate) fn go_later(self) {
        std::thread::spawn(move || drop(self));
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        remove(self.path());
    }
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("old code stays: remove {}: {error}", directory.display());
    }
}
