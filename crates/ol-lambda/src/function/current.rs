//! Which version of a function serves now.
//!
//! For `registry_cache` after a look at the registry, the version is used without another look. The next invocation after that looks,
//! and if the bundle has changed, has the new version prepared and waits a moment for it.
//!
//! A version that can't be started never replaces one that works. It serves only where there is none, so that its calls say why.

use super::attempt::{Failed, Made};
use super::common::Common;
use super::preparing::{HURRY, PrepareError, Preparing};
use super::trial::Trial;
use crate::instances::Instances;
use crate::invoke::InvokeError;
use crate::registry::Stamp;
use crate::version::{Version, VersionError};
use ol_model::FunctionName;
use ol_model::chain;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// One function.
pub(crate) struct Function {
    pub(crate) name: FunctionName,
    pub(crate) common: Arc<Common>,
    /// The instances that its calls run in.
    pub(crate) instances: Arc<Instances>,
    /// Locked while another version is put into service, so that the instances always belong to this version.
    current: Mutex<Option<Current>>,
    /// The bundle that was last found unusable, and why.
    pub(super) failed: Mutex<Option<Failed>>,
    /// The attempt under way, or the last one if it failed.
    pub(super) preparing: Mutex<Option<Arc<Preparing>>>,
    /// Held while the registry is looked at or a bundle is stored, so that this happens once at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// True if the registry has announced a change and no look has begun since.
    announced: AtomicBool,
}

/// What a look at the registry found.
pub(super) enum Looked {
    /// The newest version serves.
    There(Arc<Version>),
    /// The newest version can't be used, as was found out recently; or the registry can't be read.
    Broken { why: PrepareError, looked: Instant },
    /// The newest version is being made.
    Coming {
        preparing: Arc<Preparing>,
        looked: Instant,
    },
}

struct Current {
    version: Arc<Version>,
    /// The bundle that the version was made of.
    stamp: Stamp,
    /// When the last look at the registry *began*: a bundle that is replaced during the look, or while its successor is made, may not
    /// have been seen by it.
    looked: Instant,
    /// The version could not be started when it was tried.
    refused: bool,
    /// Why the version was not tried.
    untried: Option<String>,
}

impl Current {
    /// Is it worth more than a version that can't be started? A version whose trial failed may have been started since.
    fn works(&self) -> bool {
        !self.refused || self.version.kind.get().is_some()
    }
}

/// An announcement that a look is about to answer. If the look fails or is given up, the announcement stays for the next look.
struct News<'a>(Option<&'a AtomicBool>);

impl<'a> News<'a> {
    /// Takes the announcement; one that comes later counts as new.
    fn take(announced: &'a AtomicBool) -> Self {
        Self(announced.swap(false, Ordering::AcqRel).then_some(announced))
    }

    fn seen(mut self) {
        self.0 = None;
    }
}

impl Drop for News<'_> {
    fn drop(&mut self) {
        if let Some(announced) = self.0 {
            announced.store(true, Ordering::Release);
        }
    }
}

impl Function {
    pub(crate) fn new(name: FunctionName, common: Arc<Common>) -> Arc<Self> {
        Arc::new(Self {
            instances: Instances::of(name.clone(), Arc::clone(&common.resources)),
            name,
            common,
            current: Mutex::new(None),
            failed: Mutex::new(None),
            preparing: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            announced: AtomicBool::new(false),
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

    /// Does the function have a version?
    pub(crate) fn serves(&self) -> bool {
        self.current().is_some()
    }

    /// Does the function have a version that is worth keeping?
    pub(crate) fn works(&self) -> bool {
        self.current().as_ref().is_some_and(Current::works)
    }

    /// The bundle of the version that serves, if that is worth keeping.
    pub(super) fn working_stamp(&self) -> Option<Stamp> {
        let current = self.current();
        let works = current.as_ref().filter(|current| current.works());
        works.map(|current| current.stamp.clone())
    }

    /// Why the version that serves was not tried, as long as nothing has shown that it can be started.
    pub(super) fn untried(&self) -> Option<String> {
        let current = self.current();
        let current = current.as_ref()?;
        let shown = current.version.kind.get().is_some();
        current.untried.clone().filter(|_| !shown)
    }

    /// The version to call, if no look at the registry is needed.
    pub(crate) fn fresh_version(&self) -> Option<Arc<Version>> {
        let current = self.current();
        let current = current.as_ref()?;
        let recent = current.looked.elapsed() < self.common.resources.settings.registry_cache;
        let known = recent && !self.announced.load(Ordering::Acquire);
        known.then(|| Arc::clone(&current.version))
    }

    /// The registry has announced a change: the next call looks at it.
    pub(crate) fn look_again(&self) {
        self.announced.store(true, Ordering::Release);
    }

    /// The version to call.
    pub(crate) async fn version(self: &Arc<Self>) -> Result<Arc<Version>, InvokeError> {
        loop {
            match self.look().await? {
                Looked::There(version) => return Ok(version),
                Looked::Broken { why, looked } => return self.version_before(why, looked),
                Looked::Coming { preparing, looked } => {
                    if let Some(version) = self.await_version(&preparing, looked).await? {
                        return Ok(version);
                    }
                }
            }
        }
    }

    /// Looks at the registry, and begins an attempt if its bundle is new. Doesn't wait for the attempt.
    pub(super) async fn look(self: &Arc<Self>) -> Result<Looked, InvokeError> {
        if let Some(version) = self.fresh_version() {
            return Ok(Looked::There(version));
        }
        let _once = self.changing.lock().await;
        if let Some(version) = self.fresh_version() {
            return Ok(Looked::There(version));
        }
        let looked = Instant::now();
        let news = News::take(&self.announced);
        let stored = match self.common.registry.look(&self.name).await {
            Ok(stored) => stored.ok_or_else(|| InvokeError::NotFound(self.name.clone()))?,
            Err(error) => {
                let why = PrepareError::host(chain(&error));
                return Ok(Looked::Broken { why, looked });
            }
        };
        news.seen();
        if let Some(version) = self.still(&stored, looked) {
            return Ok(Looked::There(version));
        }
        Ok(match self.failed_already(&stored) {
            Some(why) => Looked::Broken { why, looked },
            None => Looked::Coming {
                preparing: self.begin(stored, looked),
                looked,
            },
        })
    }

    /// The version that serves, if it was made of this bundle, which a look that began at `looked` found.
    fn still(&self, stored: &Stamp, looked: Instant) -> Option<Arc<Version>> {
        let (version, works) = {
            let mut current = self.current();
            let current = current
                .as_mut()
                .filter(|current| current.stamp == *stored)?;
            current.looked = looked;
            (Arc::clone(&current.version), current.works())
        };
        // Forget an ended attempt at another bundle, which has been taken back since. One at a version that fails stays: it says why.
        self.preparing()
            .take_if(|attempt| attempt.is_over() && works);
        Some(version)
    }

    /// The version that `preparing` brings; `None` if another attempt took its place.
    ///
    /// If the attempt takes long and the previous version works, returns the previous version.
    async fn await_version(
        &self,
        preparing: &Arc<Preparing>,
        looked: Instant,
    ) -> Result<Option<Arc<Version>>, InvokeError> {
        let outcome = if self.works() {
            let end = preparing.begun + HURRY;
            tokio::time::timeout_at(end, preparing.outcome()).await
        } else {
            Ok(preparing.outcome().await)
        };
        match outcome {
            Ok(Err(PrepareError::Superseded)) => return Ok(None),
            // The trial has just failed: return its error instead of starting the version once more for this call.
            Ok(Err(PrepareError::Trial(error))) if !self.works() => return Err(error),
            Ok(Err(error)) => return self.version_before(error, preparing.begun).map(Some),
            Ok(Ok(())) => {}
            Err(_elapsed) => {
                if let Some(current) = self.current().as_mut() {
                    current.looked = looked;
                }
            }
        }
        // The function was deleted at the same moment.
        let gone = || InvokeError::NotFound(self.name.clone());
        self.known_version().ok_or_else(gone).map(Some)
    }

    /// After a look, begun at `looked`, that brought no version: the previous one stays in service, until the next look after the usual time.
    pub(super) fn version_before(
        &self,
        error: PrepareError,
        looked: Instant,
    ) -> Result<Arc<Version>, InvokeError> {
        if let Some(current) = self.current().as_mut() {
            // A version that can't be started was reported when it was tried.
            if !matches!(error, PrepareError::Trial(_)) {
                tracing::warn!(
                    "{}: the version before stays in service: {error}",
                    self.name
                );
            }
            current.looked = looked;
            return Ok(Arc::clone(&current.version));
        }
        Err(self.without_version(error))
    }

    /// What a caller is told if no version serves, after an attempt that failed with `error`.
    pub(super) fn without_version(&self, error: PrepareError) -> InvokeError {
        match error {
            PrepareError::Version(VersionError::Bundle(why)) => InvokeError::BadBundle {
                name: self.name.clone(),
                why,
            },
            PrepareError::Packages(why) => InvokeError::NoPackages {
                name: self.name.clone(),
                why,
            },
            PrepareError::Trial(error) => error,
            PrepareError::Version(VersionError::Host(why)) => {
                tracing::error!("{}: {why}", self.name);
                InvokeError::Internal("the function's code can't be fetched")
            }
            PrepareError::Vanished | PrepareError::Superseded => {
                InvokeError::NotFound(self.name.clone())
            }
        }
    }

    /// Puts a version into service, whose bundle a look found that began at `looked`; its first instance is the one in which it was tried.
    ///
    /// When this returns, the idle instances of the previous version are gone.
    pub(super) fn install(self: &Arc<Self>, made: Made, looked: Instant) {
        let (version, mut untried) = (Arc::clone(&made.version), None);
        let refused = matches!(made.trial, Trial::Fails(_));
        let mut current = self.current();
        match made.trial {
            Trial::Works(instance) => self.instances.serve(version, Some(instance)),
            Trial::Skipped(why) => {
                untried = why;
                self.instances.serve(version, None);
            }
            Trial::Fails(error) => self.instances.serve_broken(version, &error),
        }
        *current = Some(Current {
            version: made.version,
            stamp: made.stamp,
            looked,
            refused,
            untried,
        });
        drop(current);
        self.common.serving.changed();
    }

    /// Takes the function out of service.
    pub(crate) fn retire(&self) {
        if let Some(attempt) = self.preparing().take() {
            attempt.give_up(PrepareError::Vanished);
        }
        let mut current = self.current();
        *current = None;
        self.instances.retire();
        drop(current);
        self.common.serving.changed();
    }

    /// Ends every instance, busy or not; called when the worker ends.
    pub(crate) fn end(&self) {
        self.retire();
        self.instances.end();
    }
}
