//! What sandboxes are made with, for all who make some: the pool and what stands ready in it.

use crate::output::{Allowance, RATE_OF_ALL};
use crate::pauser::Pauser;
use crate::settings::Settings;
use crate::zygote::{Blanks, Kept, Zygotes};
use ol_model::MiB;
use ol_sandbox::{Network, Pool};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::task::JoinSet;

/// Ends idle sandboxes until so much memory is free, or none is left.
type Reclaim = Box<dyn Fn(MiB) + Send + Sync>;

/// What sandboxes are made with.
pub(crate) struct Resources {
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<dyn Pool>,
    /// `None` where sandboxes can't be paused.
    pub(crate) pauser: Option<Pauser>,
    /// What starts are forked from.
    pub(crate) zygotes: Arc<Zygotes>,
    /// Forks made ahead.
    pub(crate) blanks: Arc<Blanks>,
    /// What all functions may write to their logs.
    pub(crate) output: Arc<Allowance>,
    /// Processor cores that sandboxes have.
    pub(crate) cores: u32,
    /// Guests that are ending in their own time.
    farewells: Mutex<JoinSet<()>>,
    reclaim: OnceLock<Reclaim>,
}

impl Resources {
    /// Prepares what `pool` is able to.
    pub(crate) fn new(settings: Settings, pool: Arc<dyn Pool>) -> Self {
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
        Self {
            settings,
            pool,
            pauser,
            zygotes,
            blanks,
            output: Arc::new(Allowance::new(RATE_OF_ALL)),
            cores: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            farewells: Mutex::default(),
            reclaim: OnceLock::new(),
        }
    }

    /// From now on `reclaim` is asked for memory that is short.
    pub(crate) fn reclaim_by(&self, reclaim: Reclaim) {
        // Whoever knows all functions says so once.
        let _ = self.reclaim.set(reclaim);
    }

    /// Makes room for `wanted`: ends sandboxes that nobody uses until it is free or none is left.
    /// Their memory comes back when the kernel has nothing left of them; whoever waits for the budget gets it then.
    pub(crate) fn make_room(&self, wanted: MiB) {
        let mut room = self.pool.free_memory().0;
        if room < wanted.0 {
            // What nobody has asked for goes first.
            room += self.blanks.let_go().0;
        }
        if room < wanted.0
            && let Some(reclaim) = self.reclaim.get()
        {
            reclaim(MiB(wanted.0 - room));
        }
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
}
