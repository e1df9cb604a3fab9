//! What a registry offers to the lambda layer, wherever it keeps its bundles.

use super::RegistryError;
use ol_model::FunctionName;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// A future in a box, so that registries of different kinds share one type.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Told the name of a function whose bundle has changed.
pub type Announce = Box<dyn Fn(&FunctionName) + Send + Sync>;

/// What tells one stored bundle from the next, as far as its registry can tell without reading it. Equal as long as nobody replaced or
/// touched it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Stamp(Arc<[u8]>);

impl Stamp {
    /// One that holds what its registry goes by, which nobody else looks into.
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

/// The bytes of a bundle, from its beginning to its end. Reading may block.
pub trait Content: Read + Send + 'static {
    /// The stamp of what is read, as it is now. To be compared with the one before once all has been read: when they differ, somebody
    /// was still writing, and what was read is a mixture. May block for a moment.
    ///
    /// # Errors
    /// When that can't be found out.
    fn stamp(&self) -> io::Result<Stamp>;
}

/// A bundle that was opened.
pub struct Bundle {
    /// The stamp of this very content, so that a replacement a moment later can't pair new content with an old stamp.
    pub stamp: Stamp,
    /// What is in it.
    pub content: Box<dyn Content>,
}

impl Bundle {
    pub(super) fn of_file(stamp: Stamp, file: File) -> Self {
        let content = Box::new(file);
        Self { stamp, content }
    }
}

/// The bundles that a worker serves. Calls need no order among themselves.
pub trait Registry: Send + Sync + 'static {
    /// The functions that have a bundle, sorted.
    ///
    /// # Errors
    /// When they can't be listed.
    fn list(&self) -> Pending<'_, Result<Vec<FunctionName>, RegistryError>>;

    /// The stamp of the bundle that is stored now; `None` when there is no such function.
    ///
    /// # Errors
    /// When that can't be found out.
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

    /// Stores a copy of the file `from` as the bundle of `name`, durably and whole or not at all. The stamp is of what is stored on
    /// return: of this upload, unless another one was faster.
    ///
    /// # Errors
    /// When `from` can't be read or the bundle can't be stored.
    fn put<'a>(
        &'a self,
        name: &'a FunctionName,
        from: &'a Path,
    ) -> Pending<'a, Result<Stamp, RegistryError>>;

    /// Deletes the bundle of `name`, durably, and what was kept of the one before; false when there was none.
    ///
    /// # Errors
    /// When it can't be deleted, or perhaps not durably: it may come back after a power cut.
    fn delete<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, Result<bool, RegistryError>>;

    /// Keeps the bundle that is stored now, beside the one that will take its place.
    ///
    /// # Errors
    /// When it can't.
    fn keep_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>>;

    /// Forgets what was kept, if anything was.
    ///
    /// # Errors
    /// When it can't.
    fn forget_before<'a>(&'a self, name: &'a FunctionName) -> Pending<'a, io::Result<()>>;

    /// Opens what was kept.
    ///
    /// # Errors
    /// When it can't be opened.
    fn read_before<'a>(
        &'a self,
        name: &'a FunctionName,
    ) -> Pending<'a, Result<Option<Bundle>, RegistryError>>;

    /// From now on `announce` is told of each bundle that was stored, replaced or deleted, by whomever. A registry that doesn't hear of
    /// that announces nothing; it is looked at again after `registry_cache_ms` all the same.
    fn announce_to(&self, announce: Announce) {
        drop(announce);
    }
}
