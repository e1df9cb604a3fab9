//! What a registry offers to the lambda layer, wherever the registry keeps its bundles.

use super::RegistryError;
use ol_model::FunctionName;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future, so that different kinds of registries share one type.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A callback that is told the name of a function whose bundle has changed.
pub type Announce = Box<dyn Fn(&FunctionName) + Send + Sync>;

/// Tells one stored bundle from the next, as far as the registry can tell without reading it.
///
/// Two stamps are equal as long as nobody replaced or touched the bundle.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Stamp(Arc<[u8]>);

impl Stamp {
    /// A stamp made of the bytes that a registry compares; nobody else interprets them.
    pub fn new(tag: impl Into<Arc<[u8]>>) -> Self {
        Self(tag.into())
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.iter().map(|byte| format!("{byte:02x}"));
        write!(f, "Stamp({})", bytes.collect::<String>())
    }
}

/// The bytes of a bundle, from the beginning to the end. Reading may block.
pub trait Content: Read + Send + 'static {
    /// The stamp of the bundle being read, as it is now.
    ///
    /// Compare it with the earlier one once all has been read: if they differ, somebody was still writing, and what was read is a mixture.
    /// May block for a moment.
    ///
    /// # Errors
    /// When the stamp can't be found out.
    fn stamp(&self) -> io::Result<Stamp>;
}

/// A bundle that was opened.
pub struct Bundle {
    /// The stamp of this very content, so that a replacement a moment later can't pair new content with an old stamp.
    pub stamp: Stamp,
    /// The bytes of the bundle.
    pub content: Box<dyn Content>,
}

impl Bundle {
    pub(super) fn of_file(stamp: Stamp, file: File) -> Self {
        let content = Box::new(file);
        Self { stamp, content }
    }
}

/// The bundles that a worker serves. Concurrent calls need no particular order.
pub trait Registry: Send + Sync + 'static {
    /// The names of the functions that have a bundle, sorted.
    ///
    /// # Errors
    /// When the functions can't be listed.
    fn list(&self) -> Pending<'_, Result<Vec<FunctionName>, RegistryError>>;

    /// The stamp of the bundle that is stored now; `None` when there is no such function.
    ///
    /// # Errors
    /// When the stamp can't be found out.
    fn look<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Stamp>, RegistryError>>;

    /// Opens the bundle that is stored now; `None` when there is no such function.
    ///
    /// # Errors
    /// When it can't be opened.
    fn read<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>>;

    /// Stores a copy of the file `from` as the bundle of `name`, durably and whole or not at all.
    ///
    /// The returned stamp is of what is stored on return: of this upload, unless another one was faster.
    ///
    /// # Errors
    /// When `from` can't be read or the bundle can't be stored.
    fn put<'a>(
        &'a self,
        name: &'a FunctionName,
        from: &'a Path,
    ) -> Pending<'a, Result<Stamp, RegistryError>>;

    /// Deletes the bundle of `name`, durably, and the kept previous bundle; returns false if there was none.
    ///
    /// # Errors
    /// When the bundle can't be deleted, or perhaps not durably: it may come back after a power cut.
    fn delete<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, Result<bool, RegistryError>>;

    /// Keeps the bundle that is stored now, beside the one that will replace it.
    ///
    /// # Errors
    /// When the bundle can't be kept.
    fn keep_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>>;

    /// Removes the kept bundle, if there is one.
    ///
    /// # Errors
    /// When the kept bundle can't be removed.
    fn forget_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>>;

    /// Opens the kept bundle.
    ///
    /// # Errors
    /// When the kept bundle can't be opened.
    fn read_before<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>>;

    /// From now on, calls `announce` for each bundle that was stored, replaced or deleted, by anybody.
    ///
    /// A registry that doesn't learn of changes announces nothing; it is still looked at again after `registry_cache_ms`.
    fn announce_to(&self, announce: Announce) {
        drop(announce);
    }
}
