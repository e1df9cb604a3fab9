//! Keeps the bundle that served before the newest, until the newest has shown that it can be started.
//!
//! It is kept beside the newest as `NAME.tar.gz#before`.
//!
//! Thus a worker that is started meanwhile has a bundle that works. No bundle and no upload can have such a name, so the file is never
//! taken for one.

use super::{FolderRegistry, blocking, read_error, remove_if_there};
use crate::registry::{Bundle, Content, RegistryError};
use ol_model::FunctionName;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

impl FolderRegistry {
    fn before(&self, name: &FunctionName) -> PathBuf {
        let mut path = self.path(name).into_os_string();
        path.push("#before");
        path.into()
    }

    /// Keeps the bundle that is stored now, beside the one that will replace it: a second name of the same file costs no space.
    ///
    /// # Errors
    /// When the file system fails.
    pub(super) async fn do_keep_before(&self, name: &FunctionName) -> io::Result<()> {
        let (from, to) = (self.path(name), self.before(name));
        blocking(move || {
            remove_if_there(&to)?;
            fs::hard_link(from, to)
        })
        .await
    }

    /// Removes the kept bundle, if there is one.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub(super) async fn do_forget_before(&self, name: &FunctionName) -> io::Result<()> {
        let path = self.before(name);
        blocking(move || remove_if_there(&path).map(drop)).await
    }

    /// Opens the kept bundle.
    ///
    /// # Errors
    /// When the kept bundle can't be opened.
    pub(super) async fn do_read_before(
        &self,
        name: &FunctionName,
    ) -> Result<Option<Bundle>, RegistryError> {
        let path = self.before(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = blocking(move || match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => {
                let file = File::from(file);
                Ok(Some(Bundle::of_file(file.stamp()?, file)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        });
        opened.await.map_err(|source| read_error(name, source))
    }
}
