//! An attempt turns a bundle, from the registry or uploaded, into a version that serves, or into the reason why it can't.
//!
//! Only the newest attempt of a function counts.

use super::current::Function;
use super::preparing::{PrepareError, Preparing, Progress, Reporting};
use super::trial::Trial;
use crate::package_set::PackageSet;
use crate::registry::{Bundle, RegistryError, Stamp};
use crate::version::{Version, VersionError};
use ol_install::{Failure, Prepared, keep, prepare};
use ol_model::chain;
use ol_model::steps;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How often a bundle is read at most, if it changes each time while it is read.
const PULLS: usize = 3;

/// A bundle that can't be used, and why.
pub(super) struct Failed {
    stamp: Stamp,
    error: PrepareError,
    found: Instant,
}

/// What an attempt has produced.
pub(super) struct Made {
    pub(super) version: Arc<Version>,
    /// The bundle that the version was made of.
    pub(super) stamp: Stamp,
    pub(super) trial: Trial,
}

/// Why an upload was not taken.
pub(crate) enum UploadFailed {
    Unpack(VersionError),
    Store(RegistryError),
}

impl Function {
    /// How far the last attempt is, or how it failed. `None` before the first attempt, and after a success.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.preparing().as_ref().map(|p| p.progress())
    }

    pub(super) fn preparing(&self) -> MutexGuard<'_, Option<Arc<Preparing>>> {
        self.preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an attempt with the bundle that a look at the registry found, which began at `looked`, unless one with that bundle is under way.
    pub(super) fn begin(self: &Arc<Self>, stored: Stamp, looked: Instant) -> Arc<Preparing> {
        let mut slot = self.preparing();
        if let Some(preparing) = slot.as_ref().filter(|p| p.stamp == stored && !p.is_over()) {
            return Arc::clone(preparing);
        }
        let preparing = Arc::new(Preparing::new(stored, looked));
        let before = slot.replace(Arc::clone(&preparing));
        drop(slot);
        if let Some(before) = before {
            before.give_up(PrepareError::Superseded);
        }
        let (function, reporting) = (Arc::clone(self), Reporting(Arc::clone(&preparing)));
        tokio::spawn(async move {
            let made = function.pull(&reporting.0).await;
            let broken = match &made {
                Ok(made) => matches!(made.trial, Trial::Fails(_)),
                Err(error) => error.for_owner().is_some(),
            };
            let kept = if broken && !function.works() {
                function.version_kept(&reporting.0).await
            } else {
                None
            };
            function.conclude(&reporting.0, made, kept);
        });
        preparing
    }

    /// Ends an attempt: its version goes into service, unless another attempt has taken its place.
    ///
    /// `kept` is the version that served before the worker was started; if given, it goes into service first.
    fn conclude(
        self: &Arc<Self>,
        preparing: &Arc<Preparing>,
        made: Result<Made, PrepareError>,
        kept: Option<Made>,
    ) {
        let mut slot = self.preparing();
        if !preparing.is_in(&slot) {
            drop(slot);
            for made in made.ok().into_iter().chain(kept) {
                if let Trial::Works(instance) = made.trial {
                    self.instances.part_with(&instance);
                }
            }
            return preparing.give_up(PrepareError::Superseded);
        }
        if let Some(kept) = kept {
            self.install(kept, preparing.begun);
        }
        let refused = match made {
            Ok(Made {
                trial: Trial::Fails(error),
                ..
            }) if self.works() => Err(PrepareError::Trial(error)),
            Ok(made) => {
                let failed = match &made.trial {
                    Trial::Fails(error) => Err(PrepareError::Trial(error.clone())),
                    Trial::Works(_) | Trial::Skipped(_) => Ok(()),
                };
                // If the version serves though it can't be started, the attempt stays here to say why.
                if failed.is_ok() {
                    *slot = None;
                }
                self.install(made, preparing.begun);
                drop(slot);
                if failed.is_ok() {
                    self.forget_before();
                }
                if let Err(PrepareError::Trial(error)) = &failed {
                    self.instances.log.say(&error.to_string());
                }
                return preparing.done(failed);
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &refused
            && error.for_owner().is_some()
        {
            *self.failed() = Some(Failed {
                stamp: preparing.stamp.clone(),
                error: error.clone(),
                found: Instant::now(),
            });
        }
        drop(slot);
        if let Err(PrepareError::Trial(error)) = &refused {
            let name = &self.name;
            tracing::warn!(
                "{name}: the new version can't be started, and the one before stays in service: `ol logs {name}` says why"
            );
            self.instances.log.say(&error.to_string());
        }
        preparing.done(refused);
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this very bundle can't be used, if it was tried recently: unpacking it again for each call would be expensive.
    pub(super) fn failed_already(&self, stored: &Stamp) -> Option<PrepareError> {
        let failed = self.failed();
        let failed = failed.as_ref()?;
        let recent = failed.found.elapsed() < self.common.resources.settings.registry_cache;
        // A bundle that can't be started is not tried again and again while an older version works.
        let counts = recent || matches!(failed.error, PrepareError::Trial(_));
        (counts && failed.stamp == *stored).then(|| failed.error.clone())
    }

    async fn pull(&self, preparing: &Preparing) -> Result<Made, PrepareError> {
        let begun = Instant::now();
        let (version, stamp) = self.unpack().await?;
        steps::PULL.record(begun.elapsed());
        self.get_packages(&version, preparing).await?;
        let trial = self.try_out(&version, preparing).await?;
        self.keep_lock(&version, &trial, preparing).await?;
        Ok(Made {
            version,
            stamp,
            trial,
        })
    }

    async fn unpack(&self) -> Result<(Arc<Version>, Stamp), PrepareError> {
        let host = |error: &dyn std::error::Error| PrepareError::host(chain(error));
        for _ in 0..PULLS {
            let opened = self.common.registry.read(&self.name).await;
            let Bundle { stamp, content } = opened
                .map_err(|error| host(&error))?
                .ok_or(PrepareError::Vanished)?;
            let (prepared, now) = self
                .make_version(content, |content| content.stamp())
                .await?;
            // The file must be unchanged, or what was read may be a mixture of two bundles. A file that was replaced by a rename has
            // changed too, since it lost its name; the next try reads its successor.
            if now.map_err(|error| host(&error))? == stamp {
                return Ok((prepared?, stamp));
            }
        }
        let unsteady = format!(
            "{}.tar.gz was being written while it was read: replace it by a rename",
            self.name
        );
        Err(VersionError::Bundle(unsteady).into())
    }

    /// Gets the packages that `version` asks for.
    pub(super) async fn get_packages(
        &self,
        version: &Version,
        preparing: &Preparing,
    ) -> Result<(), PrepareError> {
        let Some(wanted) = &version.requirements else {
            return Ok(());
        };
        let begun = Instant::now();
        let says = |what| preparing.says(what);
        let packages = prepare(&self.common.packages, &self.name, wanted, &says).await;
        let packages = self.lay_out(packages.map_err(not_had)?).await?;
        steps::PREPARE.record(begun.elapsed());
        // No other task prepares this version.
        let _ = version.packages.set(packages);
        Ok(())
    }

    /// Lays out what sandboxes of a version see of the package store.
    async fn lay_out(&self, prepared: Prepared) -> Result<PackageSet, PrepareError> {
        let code = self.common.resources.settings.code.clone();
        let laying = tokio::task::spawn_blocking(move || PackageSet::lay_out(&code, prepared));
        let laid = laying.await.map_err(io::Error::other).flatten();
        laid.map_err(|error| {
            tracing::error!("packages can't be laid out: {error}");
            let why = "its packages can't be laid out on this worker's disk; its log says more\n";
            PrepareError::Packages(why.to_owned())
        })
    }

    /// Keeps the lock of a version that will serve, so that it is there when the worker is started again.
    async fn keep_lock(
        &self,
        version: &Version,
        trial: &Trial,
        preparing: &Preparing,
    ) -> Result<(), PrepareError> {
        let serves = !matches!(trial, Trial::Fails(_)) || !self.works();
        let wanted_still = preparing.is_in(&self.preparing());
        match version.packages.get().zip(version.requirements.as_ref()) {
            Some((set, wanted)) if serves && wanted_still => {
                if !set.is_new {
                    return Ok(());
                }
                let kept = keep(&self.common.packages, &self.name, wanted, set.lock()).await;
                kept.map_err(not_had)
            }
            _ => Ok(()),
        }
    }

    /// Makes a version of a bundle, and returns what `then` finds of the bundle afterwards.
    ///
    /// Runs on a thread that may block. The outer error means that the thread did not finish.
    pub(super) async fn make_version<C: Read + Send + 'static, T: Send + 'static>(
        &self,
        mut content: C,
        then: impl FnOnce(C) -> T + Send + 'static,
    ) -> Result<(Result<Arc<Version>, VersionError>, T), VersionError> {
        let _turn = self.common.unpacking.acquire().await;
        let resources = Arc::clone(&self.common.resources);
        let work = tokio::task::spawn_blocking(move || {
            let version = Version::prepare(&resources.settings, &mut content).map(Arc::new);
            (version, then(content))
        });
        work.await
            .map_err(|error| VersionError::Host(error.to_string()))
    }

    /// Stores an uploaded bundle durably; it goes into service when its packages are there and a trial has started it once.
    ///
    /// With `force` there is no trial: if the version can't be started, its calls say so.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        path: &Path,
        force: bool,
    ) -> Result<Arc<Preparing>, UploadFailed> {
        let _once = self.changing.lock().await;
        let host = |error: io::Error| VersionError::Host(error.to_string());
        let file = File::open(path).map_err(|error| UploadFailed::Unpack(host(error)))?;
        let made = self.make_version(file, drop).await;
        let version = made
            .and_then(|(version, _)| version)
            .map_err(UploadFailed::Unpack)?;
        self.keep_before().await;
        let begun = Instant::now();
        let stamp = self
            .common
            .registry
            .put(&self.name, path)
            .await
            .map_err(UploadFailed::Store)?;
        let preparing = Arc::new(Preparing::new(stamp.clone(), begun));
        let before = self.preparing().replace(Arc::clone(&preparing));
        if let Some(before) = before {
            before.give_up(PrepareError::Superseded);
        }
        let (function, reporting) = (Arc::clone(self), Reporting(Arc::clone(&preparing)));
        tokio::spawn(async move {
            let attempt = async {
                function.get_packages(&version, &reporting.0).await?;
                let trial = if force {
                    Trial::Skipped(None)
                } else {
                    function.try_out(&version, &reporting.0).await?
                };
                function.keep_lock(&version, &trial, &reporting.0).await?;
                Ok(Made {
                    version,
                    stamp,
                    trial,
                })
            };
            let made = attempt.await;
            function.conclude(&reporting.0, made, None);
        });
        Ok(preparing)
    }
}

fn not_had(failure: Failure) -> PrepareError {
    PrepareError::Packages(failure.0)
}
