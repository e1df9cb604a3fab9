//! The entrance to the lambda layer: all functions of a worker.

use crate::announce::{Changes, Serving};
use crate::function::{FunctionState, Progress, UploadFailed};
use crate::functions::Functions;
use crate::gauges::Gauges;
use crate::invocation::InvocationId;
use crate::invoke::InvokeError;
use crate::registry::{Registry, RegistryError};
use crate::resources::Resources;
use crate::settings::Settings;
use crate::version::VersionError;
use ol_install::{Packages, PackagesSettings, StoredPackage};
use ol_model::chain;

use crate::target::{Target, told};
use ol_model::FunctionName;
use ol_packages::pin::Pin;
use ol_packages::store::StoreError;
use ol_sandbox::Pool;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// What became of an accepted upload, as far as that is known at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// The new version serves.
    Serves,
    /// The new version is being prepared.
    Stored,
    /// The new version can't be used; [`Lambdas::state`] says why.
    Refused,
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The bundle is refused; the sentence names the member or key.
    #[error("{0}")]
    Refused(String),
    /// This worker failed; details are in its log only.
    #[error("{0}")]
    Failed(String),
    /// The worker is stopping.
    #[error("this worker is stopping and takes no uploads")]
    Draining,
}

/// All functions of a worker.
pub struct Lambdas {
    functions: Arc<Functions>,
    draining: AtomicBool,
    /// True as soon as `draining` is; wakes tasks that wait for that.
    stopping: watch::Sender<bool>,
    /// When this run of the worker began; distinguishes its invocations from those of other runs.
    run: u32,
    next: AtomicU64,
}

impl Lambdas {
    /// Starts the lambda layer over `registry` and `pool`. Call it inside a tokio runtime.
    #[must_use]
    pub fn start(
        settings: Settings,
        registry: Arc<dyn Registry>,
        packages: PackagesSettings,
        pool: Arc<dyn Pool>,
    ) -> Arc<Self> {
        let began = SystemTime::now().duration_since(UNIX_EPOCH);
        let began = began.unwrap_or_default().as_secs();
        Arc::new(Self {
            functions: Functions::start(settings, registry, packages, pool),
            draining: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
            run: u32::try_from(began & u64::from(u32::MAX)).unwrap_or_default(),
            next: AtomicU64::new(1),
        })
    }

    /// The number of the next invocation.
    pub fn number(&self) -> InvocationId {
        InvocationId {
            run: self.run,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Finds the function called `name` and the version of it to call.
    ///
    /// Asks the registry first where that is due. `id` is the number of the event.
    ///
    /// # Errors
    /// Those of [`Target::invoke`] that need no body.
    pub async fn target(
        &self,
        name: &FunctionName,
        id: InvocationId,
    ) -> Result<Target<'_>, InvokeError> {
        let begun = Instant::now();
        if !self.accepts() {
            return Err(InvokeError::Draining);
        }
        let function = self.functions.find(name).await?;
        let (version, looked) = match function.fresh_version() {
            Some(version) => (version, None),
            // Boxed: most calls don't look, and the future is moved for each.
            None => match Box::pin(self.functions.look(&function)).await {
                Ok(version) => (version, Some(begun.elapsed())),
                Err(error) => {
                    function.instances.note(id, &error);
                    return Err(told(self.resources(), &function, id, error));
                }
            },
        };
        Ok(Target {
            common: &self.functions.common,
            draining: &self.draining,
            function,
            version,
            looked,
        })
    }

    fn resources(&self) -> &Resources {
        &self.functions.common.resources
    }

    /// Subscribes to which functions serve: first all that serve now, then every change.
    pub fn subscribe(&self) -> Changes {
        let functions = Arc::downgrade(&self.functions);
        let look = move || {
            functions
                .upgrade()
                .map_or_else(Serving::new, |f| f.serving())
        };
        self.functions.common.serving.subscribe(look)
    }

    /// Takes the bundle at `path` as the new version of `name`.
    ///
    /// The bundle is checked and stored durably, then prepared, tried and put into service in the background. With `force`, the version
    /// goes into service even if it can't be started.
    ///
    /// # Errors
    /// See [`UploadError`]; the previous version then stays in service.
    pub async fn upload(
        &self,
        name: &FunctionName,
        path: &Path,
        force: bool,
    ) -> Result<Uploaded, UploadError> {
        if !self.accepts() {
            return Err(UploadError::Draining);
        }
        if let Ok(None) = self.functions.common.registry.look(name).await {
            // The function was removed from the registry by somebody else: the new function of this name inherits nothing from it.
            self.functions.end(name);
        }
        // Inserted before it has a version, so that all who use this name lock the same function.
        let function = self.functions.insert(name);
        let uploaded = function.upload(path, force).await;
        if uploaded.is_ok() {
            function.instances.log.begin();
            // A call that found nothing registered may have removed the function meanwhile.
            self.functions.insert_again(&function);
        } else if !function.serves() {
            self.functions.forget(&function);
        }
        match uploaded {
            // A version that is ready within a moment serves when this returns.
            Ok(attempt) => Ok(match attempt.soon().await {
                Progress::Done(Ok(())) => Uploaded::Serves,
                Progress::Done(Err(_)) => Uploaded::Refused,
                Progress::Working(_) => Uploaded::Stored,
            }),
            Err(UploadFailed::Unpack(VersionError::Bundle(why))) => Err(UploadError::Refused(why)),
            Err(UploadFailed::Unpack(VersionError::Host(why))) => {
                tracing::error!("an upload of {name} failed: {why}");
                Err(UploadError::Failed(
                    "the bundle could not be unpacked on this host".to_owned(),
                ))
            }
            Err(UploadFailed::Store(error)) => {
                tracing::error!("an upload of {name} failed: {}", chain(&error));
                Err(UploadError::Failed(error.to_string()))
            }
        }
    }

    /// Deletes a function and its log; running calls finish. Returns whether the function existed.
    ///
    /// # Errors
    /// When the registry's file can't be removed durably.
    pub async fn delete(&self, name: &FunctionName) -> Result<bool, RegistryError> {
        let deleted = self.functions.common.registry.delete(name).await?;
        self.functions.end(name);
        let (packages, name) = (Arc::clone(&self.functions.common.packages), name.clone());
        tokio::task::spawn_blocking(move || packages.forget(&name));
        Ok(deleted)
    }

    /// The names of all functions, sorted.
    ///
    /// # Errors
    /// When the registry can't be listed.
    pub async fn list(&self) -> Result<Vec<FunctionName>, RegistryError> {
        self.functions.common.registry.list().await
    }

    /// What a function is now: the version in service, and how far a newer version is.
    ///
    /// `seen` is the number of the preparation step that the caller knows already, and how long to wait for that step's end. The wait also
    /// ends when the worker stops.
    ///
    /// # Errors
    /// When there is no such function, or this host fails and no version is in service.
    pub async fn state(
        &self,
        name: &FunctionName,
        seen: Option<(u64, Duration)>,
    ) -> Result<FunctionState, InvokeError> {
        let function = self.functions.find(name).await?;
        if let Some((seen, patience)) = seen {
            let mut stopping = self.stopping.subscribe();
            tokio::select! {
                () = function.moves_on(seen, patience) => {}
                () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {}
            }
        }
        let state = function.state().await;
        if let Err(InvokeError::NotFound(_)) = state {
            self.functions.forget_for_good(&function);
        }
        state
    }

    /// The packages in the store, sorted.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn packages(&self) -> Result<Vec<StoredPackage>, StoreError> {
        self.at_packages(Packages::list).await
    }

    /// Removes a package from the store; false when it isn't there.
    ///
    /// # Errors
    /// [`StoreError::Held`] when functions use it; when this host fails.
    pub async fn remove_package(&self, pin: Pin) -> Result<bool, StoreError> {
        self.at_packages(move |packages| packages.remove(&pin))
            .await
    }

    /// Removes unused packages until all together are at most `quota` bytes (default: `packages.quota_mb`); returns those removed.
    ///
    /// # Errors
    /// When this host fails.
    pub async fn collect_packages(&self, quota: Option<u64>) -> Result<Vec<Pin>, StoreError> {
        let quota = quota.unwrap_or(self.functions.common.packages.settings().quota);
        self.at_packages(move |packages| packages.collect_to(quota))
            .await
    }

    async fn at_packages<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Packages) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let packages = Arc::clone(&self.functions.common.packages);
        let done = tokio::task::spawn_blocking(move || work(&packages)).await;
        done.unwrap_or_else(|error| {
            Err(StoreError::Host {
                what: "look after the packages".to_owned(),
                source: Arc::new(std::io::Error::other(error)),
            })
        })
    }

    /// For people: the zygote, and the blanks that are ready.
    pub fn describe_zygotes(&self) -> Vec<String> {
        let zygote = self.resources().zygotes.describe();
        zygote
            .into_iter()
            .chain(self.resources().blanks.describe())
            .collect()
    }

    /// For people: each function that was used, and what its instances are doing.
    pub fn describe(&self) -> Vec<(FunctionName, Vec<String>)> {
        let functions = self.functions.all();
        let mut lines: Vec<_> = functions
            .iter()
            .map(|f| (f.name.clone(), f.instances.describe()))
            .collect();
        lines.sort();
        lines
    }

    /// What the worker holds now.
    pub fn gauges(&self) -> Gauges {
        let mut held = Gauges::new(self.resources().pool.free_memory());
        for function in self.functions.all() {
            function.instances.add_to(&mut held);
        }
        held
    }

    /// Waits until all running calls have ended, whatever their source. To be called once no new calls are accepted.
    pub async fn finished(&self) {
        self.functions.common.in_flight.ended().await;
    }

    /// Accepts no new calls and no uploads from now on; running calls go on.
    pub fn stop_accepting(&self) {
        self.draining.store(true, Ordering::Release);
        self.stopping.send_replace(true);
    }

    /// Are calls accepted?
    pub fn accepts(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
    }

    /// Ends every sandbox, busy or not; returns false if something of one was left.
    ///
    /// Waits at most `patience` until the kernel has nothing left of any.
    pub async fn end(&self, patience: Duration) -> bool {
        self.stop_accepting();
        self.functions.common.serving.end();
        let functions = self.functions.take_all();
        functions.iter().for_each(|function| function.end());
        let _ = timeout(patience, self.resources().parted()).await;
        self.resources().zygotes.end();
        self.resources().blanks.let_go();
        let drained = self.resources().pool.drained();
        timeout(patience, drained).await.is_ok()
    }
}
