//! What the functions of a worker share: what they are made of and run in, and the table of them all.

use crate::announce::Announcements;
use crate::function::{Function, Version};
use crate::output::{Allowance, RATE_OF_ALL};
use crate::packages::{Packages, PackagesSettings, care};
use crate::pauser::Pauser;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::zygote::{Blanks, Kept, Zygotes};
use ol_model::{FunctionName, MiB};
use ol_sandbox::{Network, Pool};
use std::collections::HashMap;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What the functions of a worker share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) pool: Arc<dyn Pool>,
    /// `None` where sandboxes can't be paused.
    pub(crate) pauser: Option<Pauser>,
    /// Unpacking is work for a core and a disk: two at once, so that threads for looks at the registry are never short.
    pub(crate) unpacking: Semaphore,
    /// What starts are forked from.
    pub(crate) zygotes: Arc<Zygotes>,
    /// Forks made ahead.
    pub(crate) blanks: Arc<Blanks>,
    /// What functions import and don't bring along.
    pub(crate) packages: Packages,
    /// Which functions serve, for those who want to know.
    pub(crate) serving: Announcements,
    /// What all functions may write to their logs.
    pub(crate) output: Arc<Allowance>,
    /// Processor cores that sandboxes have.
    pub(crate) cores: u32,
    /// Guests that are ending in their own time.
    farewells: Mutex<JoinSet<()>>,
    functions: RwLock<HashMap<FunctionName, Arc<Function>>>,
}

impl Shared {
    /// Starts what the functions of `registry` need to run in `pool`, and looks after them until the worker ends.
    pub(crate) fn start(
        settings: Settings,
        registry: Arc<dyn Registry>,
        packages: PackagesSettings,
        pool: Arc<dyn Pool>,
    ) -> Arc<Self> {
        let can = pool.abilities();
        let pauser = can.freeze.then(|| {
            let downsizing = settings.downsize.then(|| Arc::clone(&pool));
            Pauser::start(settings.pause_after, downsizing)
        });
        let zygotes = Arc::<Zygotes>::default();
        if let Some((limits, shells)) = settings.zygotes.clone().filter(|_| can.fork) {
            zygotes.keep(&pool, limits, shells);
        }
        let kept = Kept {
            limits: settings.default_limits.clone(),
            most: if can.fork { settings.blanks } else { 0 },
            network: match settings.networks.resolve(None) {
                Ok(ol_model::Network::Egress) => Network::Egress,
                _ => Network::None,
            },
        };
        let blanks = Blanks::keep(kept, &zygotes, &pool);
        let shared = Arc::new(Self {
            settings,
            registry,
            pool,
            pauser,
            unpacking: Semaphore::new(2),
            zygotes,
            blanks,
            packages: Packages::new(packages),
            serving: Announcements::default(),
            output: Arc::new(Allowance::new(RATE_OF_ALL)),
            cores: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            farewells: Mutex::default(),
            functions: RwLock::default(),
        });
        let told = Arc::downgrade(&shared);
        shared.registry.announce_to(Box::new(move |name| {
            let function = told.upgrade().and_then(|shared| shared.known(name));
            if let Some(function) = function {
                function.look_again();
            }
        }));
        tokio::spawn(tend(Arc::downgrade(&shared)));
        tokio::spawn(care(Arc::downgrade(&shared)));
        shared
    }

    /// The function of that name, if it was called or dealt with before.
    pub(crate) fn known(&self, name: &FunctionName) -> Option<Arc<Function>> {
        self.read().get(name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<FunctionName, Arc<Function>>> {
        self.functions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(crate) fn functions(&self) -> Vec<Arc<Function>> {
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

    fn table(&self) -> RwLockWriteGuard<'_, HashMap<FunctionName, Arc<Function>>> {
        self.functions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The function of that name, made if there is none.
    pub(crate) fn insert(self: &Arc<Self>, name: &FunctionName) -> Arc<Function> {
        let new = || Function::new(name.clone(), Arc::clone(self));
        Arc::clone(self.table().entry(name.clone()).or_insert_with(new))
    }

    /// Puts `function` back, unless another is there by now.
    pub(crate) fn insert_again(&self, function: &Arc<Function>) {
        let mut table = self.table();
        let entry = table.entry(function.name.clone());
        entry.or_insert_with(|| Arc::clone(function));
    }

    /// Takes `function` out of the table and out of service.
    pub(crate) fn forget(&self, function: &Arc<Function>) {
        let mut table = self.table();
        if table
            .get(&function.name)
            .is_some_and(|known| Arc::ptr_eq(known, function))
        {
            table.remove(&function.name);
        }
        drop(table);
        function.retire();
    }

    /// The same with a function that the registry has no more, whose log ends.
    pub(crate) fn forget_for_good(&self, function: &Arc<Function>) {
        self.forget(function);
        function.instances.log.end();
    }

    /// The registry has no function of this name: what is known of one is forgotten, and its log ends, be it of an earlier run.
    pub(crate) fn end(self: &Arc<Self>, name: &FunctionName) {
        let function = self.known(name);
        self.forget_for_good(
            &function.unwrap_or_else(|| Function::new(name.clone(), Arc::clone(self))),
        );
    }

    /// Takes all out of the table.
    pub(crate) fn take_all(&self) -> Vec<Arc<Function>> {
        self.table().drain().map(|(_, function)| function).collect()
    }

    /// Waits until the guests that are ending have ended.
    pub(crate) async fn parted(&self) {
        let mut farewells = std::mem::take(&mut *self.farewells());
        while farewells.join_next().await.is_some() {}
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
        shared.functions().iter().for_each(|f| f.instances.tend());
    }
}
