//! Which version of a function serves now. A version is used unexamined for `registry_cache`; the next invocation after
//! that looks at the registry, and if the bundle changed, waits for the new version.

use super::instances::Instances;
use super::version::{PrepareError, Version, chain};
use crate::invoke::{InvocationId, InvokeError};
use crate::lambdas::Shared;
use crate::output::Log;
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
    pub(super) instances: Mutex<Instances>,
    pub(crate) log: Arc<Log>,
    current: Mutex<Option<Current>>,
    /// The bundle that could not be used when it was looked at last, and why.
    failed: Mutex<Option<Failed>>,
    /// Held while a bundle is fetched or stored, so that it happens once.
    changing: tokio::sync::Mutex<()>,
}

struct Failed {
    stamp: Stamp,
    why: String,
    looked: Instant,
}

struct Current {
    version: Arc<Version>,
    stamp: Stamp,
    looked: Instant,
}

impl Function {
    pub(crate) fn new(name: FunctionName, shared: Arc<Shared>) -> Arc<Self> {
        let log = Arc::new(Log::new(
            &shared.settings.logs,
            &name,
            shared.settings.retention,
        ));
        let instances = Mutex::new(Instances::default());
        Arc::new(Self {
            name,
            shared,
            instances,
            log,
            current: Mutex::new(None),
            failed: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is `version` the one that serves?
    pub(super) fn is_current(&self, version: &Arc<Version>) -> bool {
        self.current()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(&current.version, version))
    }

    /// The version that serves, if there is one; doesn't look at the registry.
    pub(super) fn known_version(&self) -> Option<Arc<Version>> {
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
        if let Some(version) = self.fresh_version() {
            return Ok(version);
        }
        let _once = self.changing.lock().await;
        if let Some(version) = self.fresh_version() {
            return Ok(version);
        }
        let stored = match self.shared.registry.look(&self.name).await {
            Ok(stored) => stored.ok_or_else(|| InvokeError::NotFound(self.name.clone()))?,
            Err(error) => return self.version_before(PrepareError::Host(chain(&error))),
        };
        if let Some(current) = self.current().as_mut()
            && current.stamp == stored
        {
            current.looked = Instant::now();
            return Ok(Arc::clone(&current.version));
        }
        if let Some(why) = self.failed_already(&stored) {
            return self.version_before(PrepareError::Bundle(why));
        }
        match self.pull().await {
            Ok((version, stamp)) => Ok(self.install(version, stamp)),
            Err(Pull::Vanished) => Err(InvokeError::NotFound(self.name.clone())),
            Err(Pull::Failed(error)) => {
                if let PrepareError::Bundle(why) = &error {
                    let (stamp, why) = (stored, why.clone());
                    *self.failed() = Some(Failed {
                        stamp,
                        why,
                        looked: Instant::now(),
                    });
                }
                self.version_before(error)
            }
        }
    }

    fn failed(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this very bundle can't be used, if it was tried a moment ago: unpacking it again for each call would be dear.
    fn failed_already(&self, stored: &Stamp) -> Option<String> {
        let failed = self.failed();
        let failed = failed.as_ref()?;
        let recent = failed.looked.elapsed() < self.shared.settings.registry_cache;
        (recent && failed.stamp == *stored).then(|| failed.why.clone())
    }

    /// After a failed look: the version before stays in service, and the next look comes after the usual time.
    fn version_before(&self, error: PrepareError) -> Result<Arc<Version>, InvokeError> {
        if let Some(current) = self.current().as_mut() {
            tracing::warn!(
                "{}: the version before stays in service: {error}",
                self.name
            );
            current.looked = Instant::now();
            return Ok(Arc::clone(&current.version));
        }
        Err(match error {
            PrepareError::Bundle(why) => InvokeError::BadBundle {
                name: self.name.clone(),
                why,
            },
            PrepareError::Host(why) => {
                tracing::error!("{}: {why}", self.name);
                InvokeError::Internal("the function's code can't be fetched")
            }
        })
    }

    async fn pull(&self) -> Result<(Arc<Version>, Stamp), Pull> {
        let begun = Instant::now();
        for _ in 0..PULLS {
            let fetched = self.shared.registry.fetch(&self.name).await.map_err(host)?;
            let (stamp, file) = fetched.ok_or(Pull::Vanished)?;
            let prepared = self.prepare(&file).await;
            // The same file, unchanged, or else what was read may be half of this and half of that. One that was replaced by
            // a rename meanwhile has changed too, since it lost its name; the next try reads its successor.
            let after =
                Stamp::of(&file).map_err(|e| Pull::Failed(PrepareError::Host(e.to_string())))?;
            if after == stamp {
                let version = prepared.map_err(Pull::Failed)?;
                steps::PULL.record(begun.elapsed());
                return Ok((version, stamp));
            }
        }
        let half = format!(
            "{}.tar.gz was being written while it was read: replace it by a rename",
            self.name
        );
        Err(Pull::Failed(PrepareError::Bundle(half)))
    }

    /// Makes a version of a bundle, on a thread that may block.
    pub(crate) async fn prepare(&self, file: &File) -> Result<Arc<Version>, PrepareError> {
        let host = |error: std::io::Error| PrepareError::Host(error.to_string());
        let file = file.try_clone().map_err(host)?;
        let _turn = self.shared.unpacking.acquire().await;
        let shared = Arc::clone(&self.shared);
        let work = tokio::task::spawn_blocking(move || {
            Version::prepare(&shared.settings, &file).map(Arc::new)
        });
        work.await
            .unwrap_or_else(|error| Err(PrepareError::Host(error.to_string())))
    }

    /// Puts `version` into service; idle instances of the one before are gone when this returns.
    fn install(self: &Arc<Self>, version: Arc<Version>, stamp: Stamp) -> Arc<Version> {
        *self.current() = Some(Current {
            version: Arc::clone(&version),
            stamp,
            looked: Instant::now(),
        });
        self.retire_idle();
        self.tend();
        version
    }

    /// Stores an uploaded bundle durably and puts it into service.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        path: &std::path::Path,
    ) -> Result<(), UploadFailed> {
        let _once = self.changing.lock().await;
        let file = File::open(path)
            .map_err(|e| UploadFailed::Prepare(PrepareError::Host(e.to_string())))?;
        let version = self.prepare(&file).await.map_err(UploadFailed::Prepare)?;
        let stamp = self
            .shared
            .registry
            .put(&self.name, path)
            .await
            .map_err(UploadFailed::Store)?;
        self.install(version, stamp);
        Ok(())
    }

    /// Keeps in the function's log what its owner must see; what is the caller's or the worker's affair stays out of it.
    pub(crate) fn note(&self, id: InvocationId, error: &InvokeError) {
        use InvokeError::{CannotStart, Died, Raised, TimeLimit};
        if matches!(
            error,
            CannotStart(_) | Died { .. } | Raised(_) | TimeLimit { .. }
        ) {
            self.log.note(id, &error.to_string());
        }
    }

    /// Takes the function out of service.
    pub(crate) fn retire(&self) {
        *self.current() = None;
        self.retire_idle();
    }

    /// Ends every instance, busy or not; for the end of the worker.
    pub(crate) fn end(&self) {
        self.retire();
        self.doom_all();
    }
}

/// Why an upload is not in service.
pub(crate) enum UploadFailed {
    Prepare(PrepareError),
    Store(RegistryError),
}

enum Pull {
    Vanished,
    Failed(PrepareError),
}

fn host(error: RegistryError) -> Pull {
    Pull::Failed(PrepareError::Host(chain(&error)))
}
