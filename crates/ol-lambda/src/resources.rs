//! What sandboxes are made with: the pool, and what is kept ready in it.

use crate::output::{Allowance, RATE_OF_ALL};
use crate::pauser::Pauser;
use crate::settings::Settings;
use crate::zygote::{Blanks, Kept, Zygotes};
use ol_model::MiB;
use ol_sandbox::{Network, Pool};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::task::JoinSet;

/// Ends idle sandboxes until this much memory is free, or none is left.
type Reclaim = Box<dyn Fn(MiB) + Send + Sync>;

/// What sandboxes are made with.
pub(crate) struct Resources {
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<dyn Pool>,
    /// `None` where sandboxes can't be paused.
    pub(crate) pauser: Option<Pauser>,
    /// The zygotes that starts fork from.
    pub(crate) zygotes: Arc<Zygotes>,
    /// Leaves forked ahead.
    pub(crate) blanks: Arc<Blanks>,
    /// How much all functions together may write to their logs.
    pub(crate) output: Arc<Allowance>,
    /// How many processor cores sandboxes have.
    pub(crate) cores: u32,
    /// Guests that are shutting down by themselves.
    farewells: Mutex<JoinSet<()>>,
    reclaim: OnceLock<Reclaim>,
}

impl Resources {
    /// Prepares what the abilities of `pool` allow.
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

    /// Sets the function that [`Self::make_room`] calls when memory is short.
    pub(crate) fn reclaim_by(&self, reclaim: Reclaim) {
        // Set once, by the table of functions.
        let _ = self.reclaim.set(reclaim);
    }

    /// Makes room for `wanted`: ends idle sandboxes until that much memory is free or none is left.
    ///
    /// Their memory comes back when the kernel has nothing left of them; requests that wait for the budget get it then.
    pub(crate) fn make_room(&self, wanted: MiB) {
        let mut room = self.pool.free_memory().0;
        if room < wanted.0 {
            // Blanks go first: nobody has asked for them.
            room += self.blanks.let_go().0;
        }
        if room < wanted.0
            && let Some(reclaim) = self.reclaim.get()
        {
            reclaim(MiB(wanted.0 - room));
        }
    }

    /// Waits until all guests that are shutting down have ended.
    pub(crate) async fn parted(&self) {
        let mut farewells = std::mem::take(&mut *self.farewells());
        while farewells.join_next().await.is_some() {}
    }

    fn farewells(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.farewells
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `farewell`, in which a guest shuts down by itself; [`Self::parted`] waits for it when the worker ends.
    pub(crate) fn farewell(&self, farewell: impl Future<Output = ()> + Send + 'static) {
        let mut farewells = self.farewells();
        while farewells.try_join_next().is_some() {}
        farewells.spawn(farewell);
    }
}
