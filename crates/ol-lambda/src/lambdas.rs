//! The door of the lambda layer: all functions of a worker.

use crate::autoscale::Policy;
use crate::call::{CallError, Rest, call};
use crate::function::{Function, FunctionState, UploadFailed, Version, VersionError};
use crate::invoke::{Answer, Body, InvocationId, InvokeError, Request};
use crate::output::Retention;
use crate::packages::{Packages, PackagesSettings, StoredPackage, care};
use crate::pauser::Pauser;
use crate::phases::Phases;
use crate::registry::{Registry, RegistryError};
use crate::zygote::{Blanks, Kept, Zygotes};
use bytes::Bytes;
use futures_util::StreamExt;
use ol_model::worker_config::{ImportCache, Networks, ScalingPolicy};
use ol_model::{FunctionName, Limits, MaxLimits, MiB, WorkerConfig, steps};
use ol_packages::pin::Pin;
use ol_packages::store::StoreError;
use ol_sandbox::{Network, Pool};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How often a call is tried again when its instance turns out to have died while idle.
const TRIES: usize = 3;

/// How long the first part of a streamed body is waited for before the call begins without it.
const FIRST_PART: Duration = Duration::from_millis(20);

/// What the lambda layer goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where code is unpacked; the warden knows it too.
    pub code: PathBuf,
    /// Where functions' logs lie.
    pub logs: PathBuf,
    pub(crate) retention: Retention,
    pub(crate) default_limits: Limits,
    pub(crate) max_limits: MaxLimits,
    pub(crate) registry_cache: Duration,
    pub(crate) queue_per_function: usize,
    pub(crate) queue_wait: Duration,
    pub(crate) pause_after: Duration,
    /// How the number of instances follows the load.
    pub(crate) policy: Policy,
    /// How long an instance that nobody uses is kept.
    pub(crate) keep_idle: Duration,
    /// Functions see the base's own packages.
    pub(crate) site_packages: bool,
    /// The limits of zygotes, and the shells kept ready for the leaves of one; none if everything is to start afresh.
    pub(crate) zygotes: Option<(Limits, u16)>,
    /// What is paused gives back the memory that it doesn't use.
    pub(crate) downsize: bool,
    /// The most blanks that are kept.
    pub(crate) blanks: usize,
    /// Which networks functions may have.
    pub(crate) networks: Networks,
}

impl Settings {
    /// Those of `config`; `code` and `logs` are directories that exist. `site_packages`: whether the base brings packages
    /// of its own that functions are to see.
    #[must_use]
    pub fn new(
        config: &WorkerConfig,
        code: PathBuf,
        logs: PathBuf,
        site_packages: bool,
        networks: Networks,
    ) -> Self {
        Self {
            code,
            logs,
            retention: Retention {
                bytes: config.log_file().bytes(),
                files: config.log_files,
            },
            default_limits: config.default_limits(),
            max_limits: config.max_limits(),
            registry_cache: config.registry_cache(),
            queue_per_function: config.queue_per_function as usize,
            queue_wait: config.queue_wait(),
            pause_after: config.pause_after(),
            policy: match config.scaling.policy {
                ScalingPolicy::Work => Policy::Work {
                    target: config.scaling_target(),
                },
                ScalingPolicy::Original => Policy::Original,
            },
            keep_idle: config.keep_idle(),
            site_packages,
            zygotes: (config.features.import_cache != ImportCache::Off).then(|| {
                let shells = u16::try_from(config.shells_ready).unwrap_or(u16::MAX);
                (config.zygote_limits(), shells)
            }),
            downsize: config.features.downsize_paused_mem,
            blanks: config.blanks.max as usize,
            networks,
        }
    }
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

/// What the functions of a worker share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) pauser: Pauser,
    /// Unpacking is work for a core and a disk: two at once, so that threads for looks at the registry are never short.
    pub(crate) unpacking: Semaphore,
    /// What starts are forked from.
    pub(crate) zygotes: Arc<Zygotes>,
    /// Forks made ahead.
    pub(crate) blanks: Arc<Blanks>,
    /// What functions import and don't bring along.
    pub(crate) packages: Packages,
    /// Processor cores that sandboxes have.
    pub(crate) cores: u32,
    /// Guests that are ending in their own time.
    farewells: Mutex<JoinSet<()>>,
    functions: RwLock<HashMap<FunctionName, Arc<Function>>>,
}

impl Shared {
    fn known(&self, name: &FunctionName) -> Option<Arc<Function>> {
        self.read().get(name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<FunctionName, Arc<Function>>> {
        self.functions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The versions that serve.
    pub(crate) fn versions(&self) -> Vec<Arc<Version>> {
        let functions = self.read();
        functions
            .values()
            .filter_map(|f| f.known_version())
            .collect()
    }

    fn table(&self) -> RwLockWriteGuard<'_, HashMap<FunctionName, Arc<Function>>> {
        self.functions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn farewells(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.farewells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a guest ends in its own time, also when the worker does.
    pub(crate) fn farewell(&self, farewell: impl Future<Output = ()> + Send + 'static) {
        let mut farewells = self.farewells();
        while farewells.try_join_next().is_some() {}
        farewells.spawn(farewell);
    }

    /// Makes room for `wanted`: ends sandboxes that nobody uses, the longest idle first, until it is free or none is left.
    /// Their memory comes back when the kernel has nothing left of them; whoever waits for the budget gets it then.
    pub(crate) fn make_room(&self, wanted: MiB) {
        let mut room = self.pool.free_memory().0;
        if room < wanted.0 {
            // What nobody has asked for goes first.
            room += self.blanks.let_go().0;
        }
        while room < wanted.0 {
            let functions = self.read();
            let idlest = functions
                .values()
                .filter_map(|f| Some((f.instances.idle_since()?, f)))
                .min_by_key(|(since, _)| *since);
            let Some(freed) = idlest.and_then(|(_, function)| function.instances.end_idlest())
            else {
                return;
            };
            room += freed.0;
        }
    }
}

/// All functions of a worker.
pub struct Lambdas {
    shared: Arc<Shared>,
    draining: AtomicBool,
    /// The same, for those who wait.
    stopping: watch::Sender<bool>,
    /// When this run began; distinguishes its invocations from those of others.
    run: u32,
    next: AtomicU64,
}

impl Lambdas {
    /// Starts the lambda layer over `registry` and `pool`. Call it inside a tokio runtime.
    #[must_use]
    pub fn start(
        settings: Settings,
        registry: Registry,
        packages: PackagesSettings,
        pool: Arc<dyn Pool>,
    ) -> Arc<Self> {
        let pauser = Pauser::start(
            settings.pause_after,
            settings.downsize.then(|| Arc::clone(&pool)),
        );
        let began = SystemTime::now().duration_since(UNIX_EPOCH);
        let began = began.unwrap_or_default().as_secs();
        let zygotes = Arc::<Zygotes>::default();
        if let Some((limits, shells)) = settings.zygotes.clone() {
            zygotes.keep(&pool, limits, shells);
        }
        let kept = Kept {
            limits: settings.default_limits.clone(),
            most: settings.blanks,
            network: match settings.networks.resolve(None) {
                Ok(ol_model::Network::Egress) => Network::Egress,
                _ => Network::None,
            },
        };
        let blanks = Blanks::keep(kept, &zygotes, &pool);
        let lambdas = Arc::new(Self {
            shared: Arc::new(Shared {
                settings,
                registry,
                pool,
                pauser,
                unpacking: Semaphore::new(2),
                zygotes,
                blanks,
                packages: Packages::new(packages),
                cores: std::thread::available_parallelism()
                    .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
                farewells: Mutex::default(),
                functions: RwLock::default(),
            }),
            draining: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
            run: u32::try_from(began & u64::from(u32::MAX)).unwrap_or_default(),
            next: AtomicU64::new(1),
        });
        tokio::spawn(tend(Arc::downgrade(&lambdas.shared)));
        tokio::spawn(care(Arc::downgrade(&lambdas.shared)));
        lambdas
    }

    /// The number of the next invocation.
    pub fn number(&self) -> InvocationId {
        InvocationId {
            run: self.run,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Calls a function, and notes in `phases` where its time goes. Dropping the future gives up: a queued call leaves the
    /// queue, a running one finishes unheard.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke(
        &self,
        request: &Request<'_>,
        body: Body,
        phases: &mut Phases,
    ) -> Result<Answer, InvokeError> {
        if !self.accepts() {
            return Err(InvokeError::Draining);
        }
        let begun = Instant::now();
        let function = self.find(request.name).await?;
        let version = match function.fresh_version() {
            Some(version) => version,
            None => self
                .look(&function)
                .await
                .inspect(|_| phases.looked(begun.elapsed()))?,
        };
        let method = request.parts.method.as_str();
        if !version.config.allows(method) {
            let allowed = version
                .config
                .allowed_methods()
                .unwrap_or_default()
                .to_vec();
            return Err(InvokeError::MethodNotAllowed {
                sent: method.to_owned(),
                allowed,
            });
        }
        if let Some(packages) = version.packages.get() {
            packages.used(&self.shared);
        }
        drop(version);
        let (first, mut rest) = beginning(body).await?;
        for _ in 0..TRIES {
            let lease = function
                .instances
                .acquire(phases)
                .await
                .inspect_err(|error| function.instances.note(request.id, error))?;
            let regained = function.instances.regain(lease.instance()).await;
            regained.inspect_err(|error| function.instances.note(request.id, error))?;
            match call(lease, request, &first, &mut rest, phases).await {
                Ok(answer) => {
                    steps::INVOKE.record(begun.elapsed());
                    return Ok(answer);
                }
                Err(CallError::Failed(error)) => {
                    function.instances.note(request.id, &error);
                    return Err(error);
                }
                Err(CallError::Stale) => {}
            }
        }
        Err(InvokeError::Died {
            reason: "its instances end as soon as they are idle".to_owned(),
        })
    }

    /// The version to call, once the registry was looked at.
    async fn look(&self, function: &Arc<Function>) -> Result<Arc<Version>, InvokeError> {
        let version = function.version().await;
        if let Err(InvokeError::NotFound(_)) = version {
            self.forget(function);
        }
        version
    }

    /// A name that nothing is registered under leaves no trace.
    async fn find(&self, name: &FunctionName) -> Result<Arc<Function>, InvokeError> {
        if let Some(function) = self.shared.known(name) {
            return Ok(function);
        }
        match self.shared.registry.look(name).await {
            Ok(Some(_)) => Ok(self.insert(name)),
            Ok(None) => Err(InvokeError::NotFound(name.clone())),
            Err(error) => {
                tracing::error!("{error}");
                Err(InvokeError::Internal("the registry can't be read"))
            }
        }
    }

    /// The function of that name, made if there is none.
    fn insert(&self, name: &FunctionName) -> Arc<Function> {
        let new = || Function::new(name.clone(), Arc::clone(&self.shared));
        Arc::clone(self.shared.table().entry(name.clone()).or_insert_with(new))
    }

    fn forget(&self, function: &Arc<Function>) {
        let mut table = self.shared.table();
        if table
            .get(&function.name)
            .is_some_and(|known| Arc::ptr_eq(known, function))
        {
            table.remove(&function.name);
        }
        drop(table);
        function.retire();
    }

    /// Takes the bundle at `path` as the new version of `name`: checked, stored durably, then in service.
    ///
    /// # Errors
    /// See [`UploadError`]; the version before stays in service then.
    pub async fn upload(&self, name: &FunctionName, path: &Path) -> Result<(), UploadError> {
        if !self.accepts() {
            return Err(UploadError::Draining);
        }
        // In the table before it has a version, so that all who deal with this name take turns at one function.
        let function = self.insert(name);
        let uploaded = function.upload(path).await;
        if uploaded.is_ok() {
            // A call that found nothing registered may have removed it meanwhile.
            self.shared
                .table()
                .entry(name.clone())
                .or_insert_with(|| Arc::clone(&function));
        } else if !function.serves() {
            self.forget(&function);
        }
        match uploaded {
            Ok(()) => Ok(()),
            Err(UploadFailed::Unpack(VersionError::Bundle(why))) => Err(UploadError::Refused(why)),
            Err(UploadFailed::Unpack(VersionError::Host(why))) => {
                tracing::error!("an upload of {name} failed: {why}");
                Err(UploadError::Failed(
                    "the bundle could not be unpacked on this host".to_owned(),
                ))
            }
            Err(UploadFailed::Store(error)) => {
                tracing::error!(
                    "an upload of {name} failed: {}",
                    crate::function::chain(&error)
                );
                Err(UploadError::Failed(error.to_string()))
            }
        }
    }

    /// Deletes a function; running calls finish. Says whether there was one.
    ///
    /// # Errors
    /// When the registry's file can't be removed durably.
    pub async fn delete(&self, name: &FunctionName) -> Result<bool, RegistryError> {
        let deleted = self.shared.registry.delete(name).await?;
        if let Some(function) = self.shared.known(name) {
            self.forget(&function);
        }
        let (shared, name) = (Arc::clone(&self.shared), name.clone());
        tokio::task::spawn_blocking(move || shared.packages.forget(&name));
        Ok(deleted)
    }

    /// The names of all functions, sorted.
    ///
    /// # Errors
    /// When the registry can't be listed.
    pub async fn list(&self) -> Result<Vec<FunctionName>, RegistryError> {
        self.shared.registry.list().await
    }

    /// What a function is now: the version in service, and how far a newer one is.
    ///
    /// `seen`: the number of the step of its preparation that the caller knows; if it is still there, its end is waited for, for at most
    /// that long, or until the worker stops.
    ///
    /// # Errors
    /// When there is no such function, or this host fails and no version is in service.
    pub async fn state(
        &self,
        name: &FunctionName,
        seen: Option<(u64, Duration)>,
    ) -> Result<FunctionState, InvokeError> {
        let function = self.find(name).await?;
        if let Some((seen, patience)) = seen {
            let mut stopping = self.stopping.subscribe();
            tokio::select! {
                () = function.moves_on(seen, patience) => {}
                () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {}
            }
        }
        let state = function.state().await;
        if let Err(InvokeError::NotFound(_)) = state {
            self.forget(&function);
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

    /// Removes packages that nobody uses until all together are at most `quota` bytes, or what `packages.quota_mb` says, and says which.
    ///
    /// # Errors
    /// When this host fails.
    pub async fn collect_packages(&self, quota: Option<u64>) -> Result<Vec<Pin>, StoreError> {
        let quota = quota.unwrap_or(self.shared.packages.settings.quota);
        self.at_packages(move |packages| packages.collect_to(quota))
            .await
    }

    async fn at_packages<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Packages) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared.packages)).await;
        done.unwrap_or_else(|error| {
            Err(StoreError::Host {
                what: "look after the packages".to_owned(),
                source: Arc::new(std::io::Error::other(error)),
            })
        })
    }

    /// For people: the zygote, and the blanks that stand ready.
    pub fn describe_zygotes(&self) -> Vec<String> {
        let zygote = self.shared.zygotes.describe();
        zygote
            .into_iter()
            .chain(self.shared.blanks.describe())
            .collect()
    }

    /// For people: each function that was used, and what its instances do.
    pub fn describe(&self) -> Vec<(FunctionName, Vec<String>)> {
        let table = self.shared.read();
        let mut lines: Vec<_> = table
            .values()
            .map(|f| (f.name.clone(), f.instances.describe()))
            .collect();
        lines.sort();
        lines
    }

    /// Takes no new calls and no uploads from now on; those in flight go on.
    pub fn stop_accepting(&self) {
        self.draining.store(true, Ordering::Release);
        self.stopping.send_replace(true);
    }

    /// Does it take calls?
    pub fn accepts(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
    }

    /// Ends every sandbox, busy or not, and waits until the kernel has nothing left of any, for at most `patience`. False
    /// if something was left.
    pub async fn end(&self, patience: Duration) -> bool {
        self.stop_accepting();
        let functions: Vec<_> = self.shared.table().drain().collect();
        for (_, function) in functions {
            function.end();
        }
        let mut farewells = std::mem::take(&mut *self.shared.farewells());
        let parted = async { while farewells.join_next().await.is_some() {} };
        let _ = timeout(patience, parted).await;
        drop(farewells);
        self.shared.zygotes.end();
        self.shared.blanks.let_go();
        let drained = self.shared.pool.drained();
        timeout(patience, drained).await.is_ok()
    }
}

/// Looks after all functions now and then, until the worker ends.
async fn tend(shared: Weak<Shared>) {
    loop {
        let Some(pause) = shared.upgrade().map(|s| s.settings.keep_idle / 4) else {
            return;
        };
        tokio::time::sleep(pause.clamp(Duration::from_millis(50), Duration::from_secs(1))).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let functions: Vec<_> = shared.read().values().cloned().collect();
        functions.iter().for_each(|f| f.instances.tend());
    }
}

/// The first part of a body, which travels with the call itself, and the rest.
async fn beginning(body: Body) -> Result<(Bytes, Option<Rest>), InvokeError> {
    match body {
        Body::Whole(bytes) => Ok((bytes, None)),
        Body::Stream(mut stream) => match timeout(FIRST_PART, stream.next()).await {
            Ok(None) => Ok((Bytes::new(), None)),
            Ok(Some(first)) => Ok((first?, Some(stream))),
            // A web app may have something to say before its caller has.
            Err(_elapsed) => Ok((Bytes::new(), Some(stream))),
        },
    }
}
