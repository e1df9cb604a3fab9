//! Which version of a function serves now. A version is used unexamined for `registry_cache`; the next invocation after
//! that looks at the registry, and if the bundle changed, has the new version prepared and waits for it a moment.

use super::instances::Instances;
use super::preparing::{HURRY, PrepareError, Preparing, Progress, Reporting};
use super::version::{Version, VersionError, chain};
use crate::invoke::InvokeError;
use crate::lambdas::Shared;
use crate::packages::{Failure, prepare};
use crate::registry::{RegistryError, Stamp};
use ol_model::{FunctionName, steps};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How often a bundle is read that changes while it is.
const PULLS: usize = 3;

/// One function.
pub(crate) struct Function {
    pub(crate) name: FunctionName,
    pub(crate) shared: Arc<Shared>,
    /// What calls of it run in.
    pub(crate) instances: Arc<Instances>,
    /// Locked while another version is put into service, so that the instances are always of this one.
    current: Mutex<Option<Current>>,
    /// The bundle that could not be used when it was looked at last, and why.
    failed: Mutex<Option<Failed>>,
    /// The version that is being made, or the last attempt if that failed.
    preparing: Mutex<Option<Arc<Preparing>>>,
    /// Held while the registry is looked at or a bundle stored, so that it happens once.
    changing: tokio::sync::Mutex<()>,
}

/// What a look at the registry found.
pub(super) enum Looked {
    /// The newest version serves.
    There(Arc<Version>),
    /// The newest can't be used, as was found out a moment ago; or the registry can't be read.
    Broken(PrepareError),
    /// The newest is being made.
    Coming(Arc<Preparing>),
}

struct Failed {
    stamp: Stamp,
    error: PrepareError,
    looked: Instant,
}

struct Current {
    version: Arc<Version>,
    /// The bundle that it was made of.
    stamp: Stamp,
    looked: Instant,
}

impl Function {
    pub(crate) fn new(name: FunctionName, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            instances: Instances::of(name.clone(), Arc::clone(&shared)),
            name,
            shared,
            current: Mutex::new(None),
            failed: Mutex::new(None),
            preparing: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version that serves, if there is one; doesn't look at the registry.
    pub(crate) fn known_version(&self) -> Option<Arc<Version>> {
        self.current()
            .as_ref()
            .map(|current| Arc::clone(&current.version))
    }

    /// Does it have a version?
    pub(crate) fn serves(&self) -> bool {
        self.current().is_some()
    }

    /// The version to call, if it needs no look at the registry.
    pub(crate) fn fresh_version(&self) -> Option<Arc<Version>> {
        let current = self.current();
        let current = current.as_ref()?;
        (current.looked.elapsed() < self.shared.settings.registry_cache)
            .then(|| Arc::clone(&current.version))
    }

    /// The version to call.
    pub(crate) async fn version(self: &Arc<Self>) -> Result<Arc<Version>, InvokeError> {
        loop {
            match self.look().await? {
                Looked::There(version) => return Ok(version),
                Looked::Broken(error) => return self.version_before(error),
                Looked::Coming(preparing) => {
                    if let Some(version) = self.await_version(&preparing).await? {
                        return Ok(version);
                    }
                }
            }
        }
    }

    /// What the registry has, and has a version made of it if that is new. Waits for no version.
    pub(super) async fn look(self: &Arc<Self>) -> Result<Looked, InvokeError> {
        if let Some(version) = self.fresh_version() {
            return Ok(Looked::There(version));
        }
        let _once = self.changing.lock().await;
        if let Some(version) = self.fresh_version() {
            return Ok(Looked::There(version));
        }
        let stored = match self.shared.registry.look(&self.name).await {
            Ok(stored) => stored.ok_or_else(|| InvokeError::NotFound(self.name.clone()))?,
            Err(error) => return Ok(Looked::Broken(PrepareError::host(chain(&error)))),
        };
        if let Some(version) = self.still(&stored) {
            return Ok(Looked::There(version));
        }
        Ok(match self.failed_already(&stored) {
            Some(error) => Looked::Broken(error),
            None => Looked::Coming(self.begin(stored)),
        })
    }

    /// The version that serves, if it was made of this bundle.
    fn still(&self, stored: &Stamp) -> Option<Arc<Version>> {
        let version = {
            let mut current = self.current();
            let current = current
                .as_mut()
                .filter(|current| current.stamp == *stored)?;
            current.looked = Instant::now();
            Arc::clone(&current.version)
        };
        // An attempt at another bundle, which has been taken back since.
        self.preparing().take_if(|attempt| attempt.is_over());
        Some(version)
    }

    /// The version that `preparing` brings, `None` if another attempt took its place. If it takes long, the one before, where
    /// there is one.
    async fn await_version(
        &self,
        preparing: &Arc<Preparing>,
    ) -> Result<Option<Arc<Version>>, InvokeError> {
        let outcome = if self.serves() {
            let end = preparing.begun + HURRY;
            tokio::time::timeout_at(end.into(), preparing.outcome()).await
        } else {
            Ok(preparing.outcome().await)
        };
        match outcome {
            Ok(Err(PrepareError::Superseded)) => return Ok(None),
            Ok(Err(error)) => return self.version_before(error).map(Some),
            Ok(Ok(())) => {}
            Err(_elapsed) => {
                if let Some(current) = self.current().as_mut() {
                    current.looked = Instant::now();
                }
            }
        }
        // Deleted in the same moment.
        let gone = || InvokeError::NotFound(self.name.clone());
        self.known_version().ok_or_else(gone).map(Some)
    }

    pub(super) fn preparing(&self) -> MutexGuard<'_, Option<Arc<Preparing>>> {
        self.preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has no other attempt taken its place, and is the function still there?
    fn is_wanted(&self, preparing: &Preparing) -> bool {
        let slot = self.preparing();
        slot.as_ref().is_some_and(|p| std::ptr::eq(&**p, preparing))
    }

    /// What became of the last attempt at a version, or how far it is. `None` before the first, and after a success.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.preparing().as_ref().map(|p| p.progress())
    }

    /// Starts to make a version of the bundle that the registry has now, unless that is being done.
    fn begin(self: &Arc<Self>, stored: Stamp) -> Arc<Preparing> {
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
        let superseded = !slot.as_ref().is_some_and(|p| Arc::ptr_eq(p, preparing));
        if superseded {
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
    fn failed_already(&self, stored: &Stamp) -> Option<PrepareError> {
        let failed = self.failed();
        let failed = failed.as_ref()?;
        let recent = failed.looked.elapsed() < self.shared.settings.registry_cache;
        (recent && failed.stamp == *stored).then(|| failed.error.clone())
    }

    /// After a failed look: the version before stays in service, and the next look comes after the usual time.
    pub(super) fn version_before(&self, error: PrepareError) -> Result<Arc<Version>, InvokeError> {
        if let Some(current) = self.current().as_mut() {
            tracing::warn!(
                "{}: the version before stays in service: {error}",
                self.name
            );
            current.looked = Instant::now();
            return Ok(Arc::clone(&current.version));
        }
        Err(match error {
            PrepareError::Version(VersionError::Bundle(why)) => InvokeError::BadBundle {
                name: self.name.clone(),
                why,
            },
            PrepareError::Packages(why) => InvokeError::NoPackages {
                name: self.name.clone(),
                why,
            },
            PrepareError::Version(VersionError::Host(why)) => {
                tracing::error!("{}: {why}", self.name);
                InvokeError::Internal("the function's code can't be fetched")
            }
            PrepareError::Vanished | PrepareError::Superseded => {
                InvokeError::NotFound(self.name.clone())
            }
        })
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
        if self.is_wanted(preparing) {
            packages
                .keep(&self.shared, &self.name)
                .await
                .map_err(failed)?;
        }
        steps::PREPARE.record(begun.elapsed());
        // Nobody else prepares this version.
        let _ = version.packages.set(packages);
        // They are held by now.
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.packages.collect());
        Ok(())
    }

    /// Makes a version of a bundle, on a thread that may block.
    async fn make_version(&self, file: &File) -> Result<Arc<Version>, VersionError> {
        let host = |error: std::io::Error| VersionError::Host(error.to_string());
        let file = file.try_clone().map_err(host)?;
        let _turn = self.shared.unpacking.acquire().await;
        let shared = Arc::clone(&self.shared);
        let work = tokio::task::spawn_blocking(move || {
            Version::prepare(&shared.settings, &file).map(Arc::new)
        });
        work.await
            .unwrap_or_else(|error| Err(VersionError::Host(error.to_string())))
    }

    /// Puts `version` into service; idle instances of the one before are gone when this returns.
    fn install(self: &Arc<Self>, version: Arc<Version>, stamp: Stamp) {
        let mut current = self.current();
        self.instances.serve(Arc::clone(&version));
        *current = Some(Current {
            version,
            stamp,
            looked: Instant::now(),
        });
    }

    /// Stores an uploaded bundle durably; it goes into service at once, or when its packages are there.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        path: &std::path::Path,
    ) -> Result<(), UploadFailed> {
        let _once = self.changing.lock().await;
        let host = |error: std::io::Error| VersionError::Host(error.to_string());
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

    /// Takes the function out of service.
    pub(crate) fn retire(&self) {
        *self.preparing() = None;
        let mut current = self.current();
        *current = None;
        self.instances.retire();
    }

    /// Ends every instance, busy or not; for the end of the worker.
    pub(crate) fn end(&self) {
        self.retire();
        self.instances.end();
    }
}

/// Why an upload was not taken.
pub(crate) enum UploadFailed {
    Unpack(VersionError),
    Store(RegistryError),
}
