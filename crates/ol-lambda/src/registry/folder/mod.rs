//! A registry that is a flat folder of `NAME.tar.gz`, shared with people and scripts that know nothing of workers.
//!
//! - `put`: stores a bundle, atomically and durably
//! - `before`: keeps the previous bundle until the newest has shown that it works
//! - `stamp`: tells one stored bundle from the next
//!
//! A library for object stores could store bundles, but lacks the rest: those that support folders follow links, wait for ever on a named
//! pipe, and list nothing if one file's name isn't UTF-8.
//!
//! Two workers must not share a folder: when one starts, it removes the other's uploads in flight.

mod before;
mod put;
mod stamp;

#[cfg(test)]
mod tests;

use super::{Bundle, Pending, Registry, RegistryError, Stamp};
use ol_model::FunctionName;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".tar.gz";

/// The bundles in a folder. Cheap to clone; concurrent calls need no particular order.
#[derive(Debug, Clone)]
pub struct FolderRegistry {
    folder: PathBuf,
}

impl FolderRegistry {
    /// Opens the registry in `folder`, creating it if needed. Blocking.
    ///
    /// Removes what is left of uploads that a killed worker had not finished.
    ///
    /// # Errors
    /// When the folder can't be created, read or cleaned.
    pub fn open(folder: &Path) -> Result<Self, RegistryError> {
        let opened = || -> io::Result<Self> {
            create_durably(folder)?;
            let folder = folder.canonicalize()?;
            remove_cut_uploads(&folder)?;
            Ok(Self { folder })
        };
        opened().map_err(|source| RegistryError::Open {
            folder: folder.to_owned(),
            source,
        })
    }

    /// The names of the functions that have a bundle, sorted. Other files are ignored.
    ///
    /// # Errors
    /// When the folder can't be read.
    async fn do_list(&self) -> Result<Vec<FunctionName>, RegistryError> {
        let folder = self.folder.clone();
        blocking(move || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                // Links are not followed, as in `look` and `read`. A file may disappear while the folder is listed.
                if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    continue;
                }
                names.extend(bundle_name(&entry.file_name()));
            }
            names.sort();
            Ok(names)
        })
        .await
        .map_err(|source| RegistryError::List { source })
    }

    /// The stamp of the bundle that is stored now; `None` when there is no such function. Costs one stat.
    ///
    /// # Errors
    /// When the path is not a regular file, or it can't be examined.
    async fn do_look(&self, name: &FunctionName) -> Result<Option<Stamp>, RegistryError> {
        let path = self.path(name);
        let stat =
            blocking(
                move || match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => Ok(Some(stat)),
                    Err(Errno::NOENT) => Ok(None),
                    Err(errno) => Err(errno.into()),
                },
            )
            .await
            .map_err(|source| read_error(name, source))?;
        match stat {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                Err(RegistryError::NotAFile { name: name.clone() })
            }
            stat => Ok(stat.map(|stat| stamp::of_stat(&stat))),
        }
    }

    /// Opens the bundle that is stored now.
    ///
    /// The stamp is the opened file's own, so a replacement a moment later can't pair new contents with an old stamp.
    ///
    /// A script may still be writing the file in place: see [`Content::stamp`](super::Content::stamp).
    ///
    /// # Errors
    /// When the path is not a regular file, or it can't be opened.
    async fn do_read(&self, name: &FunctionName) -> Result<Option<Bundle>, RegistryError> {
        // NONBLOCK: a named pipe would hold this thread until somebody writes to it. The flag has no
        // effect on regular files, and nothing else is accepted below.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = self.path(name);
        let opened = blocking(move || {
            let file = match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(Errno::NOENT) => return Ok(None),
                // How open(2) reports a link and a socket.
                Err(Errno::LOOP | Errno::NXIO) => return Ok(Some(None)),
                Err(errno) => return Err(errno.into()),
            };
            let stat = rustix::fs::fstat(&file)?;
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            Ok(Some(regular.then(|| (stamp::of_stat(&stat), file))))
        })
        .await
        .map_err(|source| read_error(name, source))?;
        match opened {
            Some(None) => Err(RegistryError::NotAFile { name: name.clone() }),
            Some(Some((stamp, file))) => Ok(Some(Bundle::of_file(stamp, file))),
            None => Ok(None),
        }
    }

    /// Stores a copy of the file `from` as the bundle of `name`.
    ///
    /// When this returns, the bundle survives a power cut. If the worker is killed at any point, the old bundle or the new one is
    /// there, whole.
    /// The stamp is of what is stored on return: of this upload, unless another one was faster.
    ///
    /// # Errors
    /// When `from` can't be read or the bundle can't be stored.
    async fn do_put(&self, name: &FunctionName, from: &Path) -> Result<Stamp, RegistryError> {
        let failed = |source| RegistryError::Put {
            name: name.clone(),
            source,
        };
        // Check first: a rename would silently replace a link, and would fail on a directory only at the end.
        self.do_look(name).await?;
        let (folder, file) = (self.folder.clone(), file_name(name));
        put::replace_file(folder, file, from.to_owned())
            .await
            .map_err(failed)?;
        let stamp = self.do_look(name).await?;
        stamp.ok_or_else(|| RegistryError::Vanished { name: name.clone() })
    }

    /// Deletes the bundle of `name`, durably; returns false if there was none.
    ///
    /// # Errors
    /// When the bundle can't be deleted, or perhaps not durably: it may come back after a power cut.
    async fn do_delete(&self, name: &FunctionName) -> Result<bool, RegistryError> {
        let failed = |source| RegistryError::Delete {
            name: name.clone(),
            source,
        };
        self.do_forget_before(name).await.map_err(failed)?;
        let (folder, path) = (self.folder.clone(), self.path(name));
        let deleted = blocking(move || {
            let was_there = remove_if_there(&path)?;
            // Also if there was no file: perhaps an earlier delete was interrupted after the unlink.
            sync(&folder)?;
            Ok(was_there)
        });
        deleted.await.map_err(failed)
    }

    fn path(&self, name: &FunctionName) -> PathBuf {
        self.folder.join(file_name(name))
    }
}

impl Registry for FolderRegistry {
    fn list(&self) -> Pending<'_, Result<Vec<FunctionName>, RegistryError>> {
        Box::pin(self.do_list())
    }

    fn look<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Stamp>, RegistryError>> {
        Box::pin(self.do_look(name))
    }

    fn read<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>> {
        Box::pin(self.do_read(name))
    }

    fn put<'a>(
        &'a self,
        name: &'a FunctionName,
        from: &'a Path,
    ) -> Pending<'a, Result<Stamp, RegistryError>> {
        Box::pin(self.do_put(name, from))
    }

    fn delete<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, Result<bool, RegistryError>> {
        Box::pin(self.do_delete(name))
    }

    fn keep_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>> {
        Box::pin(self.do_keep_before(name))
    }

    fn forget_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>> {
        Box::pin(self.do_forget_before(name))
    }

    fn read_before<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>> {
        Box::pin(self.do_read_before(name))
    }
}

fn file_name(name: &FunctionName) -> String {
    format!("{name}{SUFFIX}")
}

/// Removes the file at `path`; returns whether it existed.
fn remove_if_there(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_error(name: &FunctionName, source: io::Error) -> RegistryError {
    RegistryError::Read {
        name: name.clone(),
        source,
    }
}

/// The function whose bundle has this file name; `None` if it isn't a bundle's name.
fn bundle_name(file: &OsStr) -> Option<FunctionName> {
    FunctionName::parse(file.to_str()?.strip_suffix(SUFFIX)?).ok()
}

/// Is this an upload's staging file, `NAME.tar.gz#DIGITS`?
///
/// No function name holds a `#`, so a staging file is never taken for a bundle.
fn is_staging(file: &OsStr) -> bool {
    let parts = file.to_str().and_then(|file| file.rsplit_once('#'));
    parts.is_some_and(|(bundle, number)| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && bundle_name(OsStr::new(bundle)).is_some()
    })
}

fn remove_cut_uploads(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if is_staging(&entry.file_name()) && entry.file_type()?.is_file() {
            tracing::info!(file = ?entry.file_name(), "removing an upload that was cut short");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Creates `folder` so that it survives a power cut as well as the bundles in it will.
///
/// Each new directory's name is stored in its parent, so the parent must be synced.
fn create_durably(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let missing = folder.ancestors().take_while(|above| !above.exists());
    let parents: Vec<_> = missing.filter_map(Path::parent).collect();
    std::fs::create_dir_all(&folder)?;
    parents.into_iter().try_for_each(sync)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Runs file system calls on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
