//! Attempts at a version: from a bundle, in the registry or uploaded, into service, or to why not. One at a time counts: the last that
//! began.

use super::current::Function;
use super::preparing::{PrepareError, Preparing, Progress, Reporting};
use super::version::{Version, VersionError, chain};
use crate::packages::{Failure, prepare};
use crate::registry::{RegistryError, Stamp};
use ol_model::steps;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

/// How often a bundle is read that changes while it is.
const PULLS: usize = 3;

/// A bundle that can't be used, and why.
pub(super) struct Failed {
    stamp: Stamp,
    error: PrepareError,
    looked: Instant,
}

/// Why an upload was not taken.
pub(crate) enum UploadFailed {
    Unpack(VersionError),
    Store(RegistryError),
}

impl Function {
    /// What became of the last attempt at a version, or how far it is. `None` before the first, and after a success.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.preparing().as_ref().map(|p| p.progress())
    }

    pub(super) fn preparing(&self) -> MutexGuard<'_, Option<Arc<Preparing>>> {
        self.preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to make a version of the bundle that the registry has now, unless that is being done.
    pub(super) fn begin(self: &Arc<Self>, stored: Stamp) -> Arc<Preparing> {
        let mut slot = self.preparing();
        if let Some(preparing) = slot.as_ref().filter(|p| p.stamp == stored && !p.is_over()) {
            return Arc::clone(preparing);
        }
        let preparing = Arc::new(Preparing::new(stored));
        *slot = Some(Arc::clone(&preparing));
        drop(slot);
        let (function, reporting) = (Arc::clone(self), Reporting(Arc::clone(&preparing)));
        tokio::spawn(async move {
            let made = function.pull(&reporting.0).await;
            function.conclude(&reporting.0, made);
        });
        preparing
    }

    /// Ends an attempt: its version goes into service, unless another attempt has taken its place.
    fn conclude(
        self: &Arc<Self>,
        preparing: &Arc<Preparing>,
        made: Result<(Arc<Version>, Stamp), PrepareError>,
    ) {
        let mut slot = self.preparing();
        if !preparing.is_in(&slot) {
            drop(slot);
            return preparing.done(Err(PrepareError::Superseded));
        }
        match made {
            Ok((version, stamp)) => {
                *slot = None;
                self.install(version, stamp);
            }
            Err(error) => {
                if error.for_owner().is_some() {
                    *self.failed() = Some(Failed {
                        stamp: preparing.stamp.clone(),
                        error: error.clone(),
                        looked: Instant::now(),
                    });
                }
                drop(slot);
                return preparing.done(Err(error));
            }
        }
        drop(slot);
        preparing.done(Ok(()));
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this very bundle can't be used, if it was tried a moment ago: unpacking it again for each call would be dear.
    pub(super) fn failed_already(&self, stored: &Stamp) -> Option<PrepareError> {
        let failed = self.failed();
        let failed = failed.as_ref()?;
        let recent = failed.looked.elapsed() < self.shared.settings.registry_cache;
        (recent && failed.stamp == *stored).then(|| failed.error.clone())
    }

    async fn pull(&self, preparing: &Preparing) -> Result<(Arc<Version>, Stamp), PrepareError> {
        let begun = Instant::now();
        let (version, stamp) = self.unpack().await?;
        steps::PULL.record(begun.elapsed());
        self.get_packages(&version, preparing).await?;
        Ok((version, stamp))
    }

    async fn unpack(&self) -> Result<(Arc<Version>, Stamp), PrepareError> {
        let host = |error: &dyn std::error::Error| PrepareError::host(chain(error));
        for _ in 0..PULLS {
            let fetched = self.shared.registry.fetch(&self.name).await;
            let (stamp, file) = fetched
                .map_err(|error| host(&error))?
                .ok_or(PrepareError::Vanished)?;
            let prepared = self.make_version(&file).await;
            // The same file, unchanged, or else what was read may be half of this and half of that. One that was replaced by
            // a rename meanwhile has changed too, since it lost its name; the next try reads its successor.
            if Stamp::of(&file).map_err(|error| host(&error))? == stamp {
                return Ok((prepared?, stamp));
            }
        }
        let unsteady = format!(
            "{}.tar.gz was being written while it was read: replace it by a rename",
            self.name
        );
        Err(VersionError::Bundle(unsteady).into())
    }

    /// Sees to it that the packages of `version` are there.
    async fn get_packages(
        &self,
        version: &Version,
        preparing: &Preparing,
    ) -> Result<(), PrepareError> {
        let Some(wanted) = &version.requirements else {
            return Ok(());
        };
        let begun = Instant::now();
        let says = |what| preparing.says(what);
        let packages = prepare(&self.shared, &self.name, wanted, &says).await;
        let failed = |failure: Failure| PrepareError::Packages(failure.0);
        let packages = packages.map_err(failed)?;
        let wanted_still = preparing.is_in(&self.preparing());
        if wanted_still {
            packages
                .keep(&self.shared, &self.name)
                .await
                .map_err(failed)?;
        }
        steps::PREPARE.record(begun.elapsed());
        // Nobody else prepares this version.
        let _ = version.packages.set(packages);
        Ok(())
    }

    /// Makes a version of a bundle, on a thread that may block.
    async fn make_version(&self, file: &File) -> Result<Arc<Version>, VersionError> {
        let host = |error: io::Error| VersionError::Host(error.to_string());
        let file = file.try_clone().map_err(host)?;
        let _turn = self.shared.unpacking.acquire().await;
        let shared = Arc::clone(&self.shared);
        let work = tokio::task::spawn_blocking(move || {
            Version::prepare(&shared.settings, &file).map(Arc::new)
        });
        work.await
            .unwrap_or_else(|error| Err(VersionError::Host(error.to_string())))
    }

    /// Stores an uploaded bundle durably; it goes into service at once, or when its packages are there.
    pub(crate) async fn upload(self: &Arc<Self>, path: &Path) -> Result<(), UploadFailed> {
        let _once = self.changing.lock().await;
        let host = |error: io::Error| VersionError::Host(error.to_string());
        let file = File::open(path).map_err(|error| UploadFailed::Unpack(host(error)))?;
        let version = self
            .make_version(&file)
            .await
            .map_err(UploadFailed::Unpack)?;
        let stamp = self
            .shared
            .registry
            .put(&self.name, path)
            .await
            .map_err(UploadFailed::Store)?;
        let preparing = Arc::new(Preparing::new(stamp.clone()));
        *self.preparing() = Some(Arc::clone(&preparing));
        if version.requirements.is_none() {
            self.conclude(&preparing, Ok((version, stamp)));
            return Ok(());
        }
        let (function, reporting) = (Arc::clone(self), Reporting(preparing));
        tokio::spawn(async move {
            let got = function.get_packages(&version, &reporting.0).await;
            function.conclude(&reporting.0, got.map(|()| (version, stamp)));
        });
        Ok(())
    }
}
