//! The table of a worker's functions that were called, uploaded or asked about, by name.

use crate::announce::Serving;
use crate::function::{Common, Function};
use crate::installers::Installers;
use crate::invoke::InvokeError;
use crate::package_set::PackageSet;
use crate::registry::Registry;
use crate::resources::Resources;
use crate::settings::Settings;
use crate::version::Version;
use ol_install::{Packages, PackagesSettings, care};
use ol_model::{FunctionName, MiB};
use ol_sandbox::Pool;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;
use tokio::runtime::Handle;

/// The functions of a worker.
pub(crate) struct Functions {
    pub(crate) common: Arc<Common>,
    table: RwLock<HashMap<FunctionName, Arc<Function>>>,
}

impl Functions {
    /// Starts with an empty table, and with what the functions of `registry` need to run in `pool`; tends it until the worker ends.
    pub(crate) fn start(
        settings: Settings,
        registry: Arc<dyn Registry>,
        packages: PackagesSettings,
        pool: Arc<dyn Pool>,
    ) -> Arc<Self> {
        let resources = Arc::new(Resources::new(settings, pool));
        let workshop = Arc::new(Installers(Arc::clone(&resources)));
        let packages = Arc::new(Packages::new(packages, workshop));
        let common = Common::new(resources, registry, packages);
        let functions = Arc::new(Self {
            common: Arc::new(common),
            table: RwLock::default(),
        });
        let common = &functions.common;
        let known = Arc::downgrade(&functions);
        let idle = known.clone();
        common.resources.reclaim_by(Box::new(move |missing| {
            if let Some(functions) = idle.upgrade() {
                functions.end_idlest(missing);
            }
        }));
        let told = known.clone();
        let runtime = Handle::current();
        common.registry.announce_to(Box::new(move |name| {
            let Some(functions) = told.upgrade() else {
                return;
            };
            if let Some(function) = functions.known(name) {
                function.look_again();
            }
            if functions.common.serving.are_heard() {
                let name = name.clone();
                runtime.spawn(async move { functions.news_of(&name).await });
            }
        }));
        tokio::spawn(tend(known.clone()));
        let touch = move || {
            let versions = known.upgrade().map_or_else(Vec::new, |f| f.versions());
            touch(&versions);
        };
        tokio::spawn(care(Arc::downgrade(&common.packages), touch));
        functions
    }

    /// The function of that name, if it is in the table.
    pub(crate) fn known(&self, name: &FunctionName) -> Option<Arc<Function>> {
        self.read().get(name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<FunctionName, Arc<Function>>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All functions in the table.
    pub(crate) fn all(&self) -> Vec<Arc<Function>> {
        self.read().values().cloned().collect()
    }

    /// The versions that serve.
    pub(crate) fn versions(&self) -> Vec<Arc<Version>> {
        let functions = self.read();
        functions
            .values()
            .filter_map(|f| f.known_version())
            .collect()
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<FunctionName, Arc<Function>>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function of that name, created if it isn't in the table.
    pub(crate) fn insert(&self, name: &FunctionName) -> Arc<Function> {
        let new = || Function::new(name.clone(), Arc::clone(&self.common));
        Arc::clone(self.write().entry(name.clone()).or_insert_with(new))
    }

    /// Puts `function` back into the table, unless another of its name is there by now.
    pub(crate) fn insert_again(&self, function: &Arc<Function>) {
        let mut table = self.write();
        let entry = table.entry(function.name.clone());
        entry.or_insert_with(|| Arc::clone(function));
        drop(table);
        self.common.serving.changed();
    }

    /// Takes `function` out of the table and out of service.
    pub(crate) fn forget(&self, function: &Arc<Function>) {
        let mut table = self.write();
        if table
            .get(&function.name)
            .is_some_and(|known| Arc::ptr_eq(known, function))
        {
            table.remove(&function.name);
        }
        drop(table);
        function.retire();
    }

    /// Like [`Self::forget`], for a function that the registry no longer has: its log ends too.
    pub(crate) fn forget_for_good(&self, function: &Arc<Function>) {
        self.forget(function);
        function.instances.log.end();
    }

    /// The registry has no function of this name: forgets the one in the table and ends the log, even one of an earlier run.
    pub(crate) fn end(&self, name: &FunctionName) {
        let function = self.known(name);
        self.forget_for_good(
            &function.unwrap_or_else(|| Function::new(name.clone(), Arc::clone(&self.common))),
        );
    }

    /// Takes all functions out of the table.
    pub(crate) fn take_all(&self) -> Vec<Arc<Function>> {
        self.write().drain().map(|(_, function)| function).collect()
    }

    /// The versions that serve, for subscribers.
    pub(crate) fn serving(&self) -> Serving {
        let functions = self.read();
        let versions = functions
            .iter()
            .filter_map(|(name, f)| Some((name.clone(), f.known_version()?)));
        versions.collect()
    }

    /// The function called `name`. If the registry has none of that name, no entry stays in the table.
    pub(crate) async fn find(&self, name: &FunctionName) -> Result<Arc<Function>, InvokeError> {
        if let Some(function) = self.known(name) {
            return Ok(function);
        }
        match self.common.registry.look(name).await {
            Ok(Some(_)) => Ok(self.insert(name)),
            Ok(None) => Err(InvokeError::NotFound(name.clone())),
            Err(error) => {
                tracing::error!("{error}");
                Err(InvokeError::Internal("the registry can't be read"))
            }
        }
    }

    /// Looks at the registry and returns the version of `function` to call.
    pub(crate) async fn look(&self, function: &Arc<Function>) -> Result<Arc<Version>, InvokeError> {
        let version = function.version().await;
        if let Err(InvokeError::NotFound(_)) = version {
            self.forget_for_good(function);
        }
        version
    }

    /// Looks at the registry for subscribers after it announced that `name` changed.
    ///
    /// Triggers call a function only after they know of it, so the look can't wait for the next call.
    async fn news_of(&self, name: &FunctionName) {
        if let Ok(function) = self.find(name).await {
            // An error is in the function's log already.
            let _ = self.look(&function).await;
        }
    }

    /// Ends idle sandboxes, the longest idle first, until those ended held `missing` together or none is left.
    fn end_idlest(&self, missing: MiB) {
        let mut freed = 0;
        while freed < missing.0 {
            let functions = self.read();
            let idlest = functions
                .values()
                .filter_map(|f| Some((f.instances.idle_since()?, f)))
                .min_by_key(|(since, _)| *since);
            let Some(ended) = idlest.and_then(|(_, function)| function.instances.end_idlest())
            else {
                return;
            };
            freed += ended.0;
        }
    }
}

/// Marks the packages in the store that calls of `versions` have used since the last time. Blocking.
fn touch(versions: &[Arc<Version>]) {
    let packages = versions.iter().filter_map(|version| version.packages.get());
    packages
        .filter(|packages| packages.take_recently())
        .for_each(PackageSet::touch);
}

/// Tends all functions from time to time, until the worker ends.
async fn tend(functions: Weak<Functions>) {
    loop {
        let known = functions.upgrade();
        let Some(pause) = known.map(|f| f.common.resources.settings.keep_idle / 4) else {
            return;
        };
        tokio::time::sleep(pause.clamp(Duration::from_millis(50), Duration::from_secs(1))).await;
        let Some(functions) = functions.upgrade() else {
            return;
        };
        functions.all().iter().for_each(|f| f.instances.tend());
    }
}
