//! The registry folder: `NAME.tar.gz`, flat, shared with people and scripts who know nothing of us.
//!
//! What object_store's `LocalFileSystem` does, and where it is used (0.14, read in its source):
//!
//! | call | does | here |
//! |---|---|---|
//! | put, fsync on | writes `NAME.tar.gz#N`, fsyncs it, renames, fsyncs the folder | used as it is |
//! | delete | unlinks; never fsyncs, whatever the setting | used, the fsync added |
//! | get, head | follows links, waits for ever on a named pipe | not used: one open that does neither |
//! | list | follows links, fails on any file name that isn't UTF-8 | not used: one bad file would hide all others |
//!
//! Two workers must not share a folder: each removes the other's uploads in flight when it starts.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{MultipartUpload, ObjectStoreExt};
use ol_model::FunctionName;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;
use tokio::io::AsyncReadExt;

use super::stamp::Stamp;

const SUFFIX: &str = ".tar.gz";

/// What an upload holds in memory while it is copied.
const PIECE: usize = 1 << 20;

/// Why the registry could not do what was asked.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The folder can't be used at all. Seen when the worker starts and by its operator only, so it
    /// names the path, which the others never do.
    #[error("failed to open the registry {folder:?}; make it a directory that this user may write")]
    Open {
        /// The folder.
        folder: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The folder could not be listed.
    #[error("failed to list the registry; check that its folder is there and readable")]
    List {
        /// What the file system said.
        source: io::Error,
    },
    /// Something else lies where the bundle should: a link would let the folder point anywhere.
    #[error(
        "{name}.tar.gz in the registry is not a regular file; replace it with the bundle itself"
    )]
    NotAFile {
        /// The function.
        name: FunctionName,
    },
    /// A bundle could not be opened.
    #[error("failed to open the bundle of {name}; check that the worker may read its file")]
    Read {
        /// The function.
        name: FunctionName,
        /// What the file system said.
        source: io::Error,
    },
    /// A bundle could not be stored. The one before it is still in place, unless only the last step
    /// failed: making the new one durable.
    #[error("failed to store the bundle of {name}; check the registry's disk and upload it again")]
    Put {
        /// The function.
        name: FunctionName,
        /// What the file system said.
        source: io::Error,
    },
    /// Stored, and removed by somebody else before this call returned.
    #[error("the bundle of {name} was deleted while it was stored; upload it again")]
    Vanished {
        /// The function.
        name: FunctionName,
    },
    /// A bundle could not be deleted, or not durably.
    #[error("failed to delete the bundle of {name}; check the registry's disk and delete it again")]
    Delete {
        /// The function.
        name: FunctionName,
        /// What the file system said.
        source: io::Error,
    },
}

/// The bundles that this worker serves. Cheap to clone; calls need no order among themselves.
#[derive(Debug, Clone)]
pub struct Registry {
    folder: PathBuf,
    store: LocalFileSystem,
}

impl Registry {
    /// Opens the registry in `folder`, creating it, and removes what uploads left behind that a
    /// killed worker had not finished. Blocking.
    ///
    /// # Errors
    /// When the folder can't be created, read or cleaned.
    pub fn open(folder: &Path) -> Result<Registry, RegistryError> {
        let opened = || -> io::Result<Registry> {
            create_durably(folder)?;
            let folder = folder.canonicalize()?;
            remove_cut_uploads(&folder)?;
            let store = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
            Ok(Registry { folder, store })
        };
        opened().map_err(|source| RegistryError::Open {
            folder: folder.to_owned(),
            source,
        })
    }

    /// The functions that have a bundle, sorted. Any other file is none of our business.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub async fn list(&self) -> Result<Vec<FunctionName>, RegistryError> {
        let folder = self.folder.clone();
        blocking(move || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                // Not followed, like `look` and `fetch`. A file may go while we list.
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

    /// The stamp of the bundle that is stored now; `None` when there is no such function. One stat.
    ///
    /// # Errors
    /// When something that is not a file lies there, or it can't be examined.
    pub async fn look(&self, name: &FunctionName) -> Result<Option<Stamp>, RegistryError> {
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
            stat => Ok(stat.map(|stat| Stamp::from_stat(&stat))),
        }
    }

    /// Opens the bundle that is stored now. The stamp is the opened file's own, so a replacement a
    /// moment later can't pair new contents with an old stamp.
    ///
    /// A script may still be writing the file in place: see [`Stamp::of`].
    ///
    /// # Errors
    /// When something that is not a file lies there, or it can't be opened.
    pub async fn fetch(&self, name: &FunctionName) -> Result<Option<(Stamp, File)>, RegistryError> {
        // NONBLOCK: a named pipe would hold this thread until somebody writes to it. It has no
        // effect on regular files, the only ones we go on with.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = self.path(name);
        let opened = blocking(move || {
            let file = match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(Errno::NOENT) => return Ok(None),
                // How open(2) says "a link" and "a socket".
                Err(Errno::LOOP | Errno::NXIO) => return Ok(Some(None)),
                Err(errno) => return Err(errno.into()),
            };
            let stat = rustix::fs::fstat(&file)?;
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            Ok(Some(regular.then(|| (Stamp::from_stat(&stat), file))))
        })
        .await
        .map_err(|source| read_error(name, source))?;
        match opened {
            Some(None) => Err(RegistryError::NotAFile { name: name.clone() }),
            Some(Some(bundle)) => Ok(Some(bundle)),
            None => Ok(None),
        }
    }

    /// Stores a copy of the file `from` as the bundle of `name`. When this returns the bundle
    /// survives a power cut; killed at any point, the old one or the new one is there, whole.
    ///
    /// The stamp is of what is stored on return: of this upload, unless another one was faster.
    ///
    /// # Errors
    /// When `from` can't be read or the bundle can't be stored.
    pub async fn put(&self, name: &FunctionName, from: &Path) -> Result<Stamp, RegistryError> {
        let failed = |source| RegistryError::Put {
            name: name.clone(),
            source,
        };
        // A link would be replaced unasked. A directory would only fail at the rename, where
        // object_store forgets to remove its staging file: retries would fill the disk.
        self.look(name).await?;
        let mut upload = self
            .store
            .put_multipart(&location(name))
            .await
            .map_err(|error| failed(error.into()))?;
        if let Err(source) = copy(from, upload.as_mut()).await {
            // The first error is the one to tell; what stays behind, `open` removes.
            let _ = upload.abort().await;
            return Err(failed(source));
        }
        let stored = upload.complete().await;
        stored.map_err(|error| failed(error.into()))?;
        // Not the etag that `complete` gives: it was taken before the rename, which changes the
        // change time that our stamps hold.
        let stamp = self.look(name).await?;
        stamp.ok_or_else(|| RegistryError::Vanished { name: name.clone() })
    }

    /// Deletes the bundle of `name`, durably; false when there was none.
    ///
    /// # Errors
    /// When it can't be deleted, or perhaps not durably: it may come back after a power cut.
    pub async fn delete(&self, name: &FunctionName) -> Result<bool, RegistryError> {
        let failed = |source| RegistryError::Delete {
            name: name.clone(),
            source,
        };
        self.forget_before(name).await.map_err(failed)?;
        let was_there = match self.store.delete(&location(name)).await {
            Ok(()) => true,
            Err(object_store::Error::NotFound { .. }) => false,
            Err(error) => return Err(failed(error.into())),
        };
        // Also when there was none: perhaps a delete before this one got no further than the unlink.
        let folder = self.folder.clone();
        let synced = blocking(move || sync(&folder)).await;
        synced.map_err(failed)?;
        Ok(was_there)
    }

    pub(super) fn path(&self, name: &FunctionName) -> PathBuf {
        self.folder.join(format!("{name}{SUFFIX}"))
    }
}

fn location(name: &FunctionName) -> Location {
    // A name has no character that object_store would encode.
    Location::from(format!("{name}{SUFFIX}"))
}

pub(super) fn read_error(name: &FunctionName, source: io::Error) -> RegistryError {
    RegistryError::Read {
        name: name.clone(),
        source,
    }
}

async fn copy(from: &Path, upload: &mut dyn MultipartUpload) -> io::Result<()> {
    let mut file = tokio::fs::File::open(from).await?;
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        while piece.len() < PIECE && file.read_buf(&mut piece).await? > 0 {}
        if piece.is_empty() {
            return Ok(());
        }
        upload.put_part(piece.freeze().into()).await?;
    }
}

/// The function whose bundle has this file name, if it is one.
fn bundle_name(file: &OsStr) -> Option<FunctionName> {
    FunctionName::parse(file.to_str()?.strip_suffix(SUFFIX)?).ok()
}

/// Whether this is an upload's staging file: `NAME.tar.gz#DIGITS`, object_store's own form. No
/// function name holds a `#`, so nothing else here ever takes it for a bundle.
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

/// Creates `folder` such that it survives a power cut as well as the bundles in it will: each new
/// directory's name lies in its parent, so the parent is what must be synced.
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

/// Runs file system calls where they may take their time.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
