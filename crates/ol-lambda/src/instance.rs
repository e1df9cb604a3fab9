//! A serving slot of a function: a bound sandbox, frozen while it is unused.

use crate::backing::{Backing, State, Thaw};
use crate::guest::Channel;
use crate::output::Outlet;
use crate::phases::Origin;
use crate::version::{FunctionKind, Version};
use ol_model::{MiB, steps};
use ol_sandbox::{CreateError, Death, Obituary, Pool, Running};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// How much memory a paused sandbox keeps beyond what it uses.
const ROOM: MiB = MiB(1);

/// How long a guest with a lifespan (its app's shutdown code) may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a guest reports of the function that it is bound to.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub(crate) struct About {
    pub(crate) kind: FunctionKind,
    /// The guest wants to be told before it ends.
    #[serde(default)]
    pub(crate) lifespan: bool,
    /// Its import started processes that still run.
    #[serde(default)]
    pub(crate) left: bool,
}

/// A bound sandbox.
pub(crate) struct Instance {
    pub(crate) version: Arc<Version>,
    pub(crate) channel: Channel,
    pub(crate) sandbox: u64,
    pub(crate) about: About,
    pub(crate) output: Arc<Outlet>,
    /// A listener for the sandbox's outgoing connections, until somebody takes it; only if the sandbox's network is a gate.
    gate: Mutex<Option<TcpListener>>,
    origin: Origin,
    /// A call has used the instance.
    used: AtomicBool,
    parting: AtomicBool,
    backing: Backing,
    /// Calls being served; several only if the function allows it.
    active: AtomicU32,
    /// How often the instance was used; tells the pauser whether it was idle all the time.
    uses: AtomicU64,
    made: Instant,
    /// When the last use ended, in ms after `made`.
    last_used: AtomicU64,
    /// The instance is in the pauser's first queue (`watched`), or in the one for lasting pauses (`watched_longer`).
    pub(crate) watched: AtomicBool,
    pub(crate) watched_longer: AtomicBool,
    /// The memory was lowered, or is about to be.
    ///
    /// A user begins its use before it reads this; the task that lowers memory sets this before it looks for uses. Thus at least
    /// one of them sees the other.
    small: AtomicBool,
    /// Held by the task that changes the memory.
    sizing: tokio::sync::Mutex<()>,
}

/// The sandbox is gone or can't be thawed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost;

impl Instance {
    pub(crate) fn new(
        version: Arc<Version>,
        channel: Channel,
        sandbox: Running,
        about: About,
        output: Arc<Outlet>,
        gate: Option<TcpListener>,
        origin: Origin,
    ) -> Self {
        Self {
            version,
            channel,
            about,
            output,
            gate: Mutex::new(gate),
            origin,
            used: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            sandbox: sandbox.id().0,
            backing: Backing::new(sandbox),
            active: AtomicU32::new(0),
            uses: AtomicU64::new(0),
            made: Instant::now(),
            last_used: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            watched_longer: AtomicBool::new(false),
            small: AtomicBool::new(false),
            sizing: tokio::sync::Mutex::default(),
        }
    }

    /// How many calls the instance serves at once.
    pub(crate) fn lanes(&self) -> u32 {
        match self.about.kind {
            FunctionKind::Asgi => self.version.config.concurrency,
            FunctionKind::F | FunctionKind::Wsgi => 1,
        }
    }

    /// Begins a use: from now on the instance isn't frozen any more, but it may still be frozen from before, see [`Self::thaw`].
    pub(crate) fn begin(&self) -> Result<(), Lost> {
        if !self.alive() {
            return Err(Lost);
        }
        // `SeqCst`, so that this and accesses to `small` have one order.
        self.active.fetch_add(1, Ordering::SeqCst);
        self.uses.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// The listener for the sandbox's outgoing connections, for the first caller.
    pub(crate) fn take_gate(&self) -> Option<TcpListener> {
        self.gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Notes that a call uses the instance; for the first call, returns how the instance was made.
    pub(crate) fn first_call(&self) -> Option<Origin> {
        let used = self.used.load(Ordering::Relaxed) || self.used.swap(true, Ordering::Relaxed);
        (!used).then_some(self.origin)
    }

    /// Makes the sandbox run, once a use has begun; returns how long that took if it was frozen.
    pub(crate) fn thaw(&self) -> Result<Option<Duration>, Lost> {
        match self.backing.thaw() {
            Ok(Thaw::Needless) => Ok(None),
            Ok(Thaw::Done(took)) => {
                if !self.version.ours {
                    steps::UNPAUSE.record(took);
                }
                Ok(Some(took))
            }
            Ok(Thaw::Gone) | Err(_) => Err(Lost),
        }
    }

    /// Must the memory be raised again before the sandbox runs? To be asked once a use has begun.
    pub(crate) fn is_small(&self) -> bool {
        self.small.load(Ordering::SeqCst)
    }

    /// The memory that the sandbox holds now.
    pub(crate) fn memory(&self) -> MiB {
        self.backing
            .allotment()
            .map_or(MiB(0), |allotment| allotment.size())
    }

    /// Raises the memory again, once a use has begun; waits at most `patience` for it.
    pub(crate) async fn regain(
        &self,
        pool: &dyn Pool,
        patience: Duration,
    ) -> Result<(), CreateError> {
        let _alone = self.sizing.lock().await;
        // If the sandbox was given up, it needs no memory, and its user will notice.
        if let Some(allotment) = self.backing.allotment() {
            let memory = self.version.limits.mem;
            pool.regain(&allotment, memory, patience).await?;
        }
        self.small.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Lowers the memory to what the sandbox uses, if it is paused and was since `uses` was read. Must not be dropped half way.
    pub(crate) async fn downsize_if_paused(&self, uses: u64, pool: &dyn Pool) {
        let _alone = self.sizing.lock().await;
        let was = self.small.swap(true, Ordering::SeqCst);
        let used = self.active.load(Ordering::SeqCst) > 0 || self.uses() != uses;
        let paused = !used && self.backing.is_paused();
        match self.backing.allotment().filter(|_| paused && !was) {
            Some(allotment) => pool.downsize(&allotment, ROOM).await,
            None => self.small.store(was, Ordering::SeqCst),
        }
    }

    /// Ends a use.
    pub(crate) fn finish(&self) {
        let since = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used.store(since, Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    /// Is more than one call being served?
    pub(crate) fn is_shared(&self) -> bool {
        self.active.load(Ordering::Acquire) > 1
    }

    /// Is any call being served?
    pub(crate) fn in_use(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    /// When the last use ended.
    pub(crate) fn last_used(&self) -> Instant {
        self.made + Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    /// Where the sandbox's death will be reported.
    pub(crate) fn obituary(&self) -> Obituary {
        self.backing.obituary()
    }

    /// A number that changes with each use.
    pub(crate) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Acquire)
    }

    /// Freezes the sandbox if it is idle and was since `uses` was read.
    pub(crate) async fn pause_if_idle(&self, uses: u64) {
        let begun = Instant::now();
        // A use that begins while this closure runs waits for the backing's lock, and then thaws.
        let idle = || self.active.load(Ordering::Acquire) == 0 && self.uses() == uses;
        match self.backing.pause_if(idle) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                return tracing::warn!("sandbox {} can't be paused: {error}", self.sandbox);
            }
        }
        if let Ok(true) = self.backing.until_frozen().await
            && !self.version.ours
        {
            steps::PAUSE.record(begun.elapsed());
        }
    }

    /// A future that lets the guest shut down by itself, for at most [`FAREWELL`]. `None` if it doesn't want that or is told already.
    pub(crate) fn farewell(
        self: &Arc<Self>,
        pool: Arc<dyn Pool>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let wanted = self.about.lifespan && !self.in_use() && self.alive();
        if !wanted || self.parting.swap(true, Ordering::AcqRel) {
            return None;
        }
        let instance = Arc::clone(self);
        Some(async move {
            // Counts as a use, so that nothing freezes the sandbox again.
            if instance.begin().is_err() {
                return;
            }
            if instance.is_small() {
                // If the memory can't be raised, the little that the guest may need is likely there anyway.
                let _ = instance.regain(&*pool, Duration::ZERO).await;
            }
            if instance.thaw().is_ok() {
                let ending = async {
                    instance.channel.bid_farewell().await;
                    instance.obituary().wait().await
                };
                // A guest that doesn't listen, or doesn't end in time, is destroyed.
                let _ = tokio::time::timeout(FAREWELL, ending).await;
            }
            instance.finish();
            instance.doom();
        })
    }

    /// Has the sandbox destroyed, whatever it is doing.
    pub(crate) fn doom(&self) {
        self.backing.give_up();
    }

    /// Can the instance still serve calls?
    pub(crate) fn alive(&self) -> bool {
        self.backing.alive()
    }

    /// How the sandbox died; if only its silence is known, waits a moment for the pool to report the cause.
    pub(crate) async fn death(&self) -> Option<Death> {
        self.backing.how_it_died().await
    }

    /// For people: what the instance is doing.
    pub(crate) fn describe(&self) -> String {
        let state = self.backing.look(|state| match state {
            State::Running(running) => format!("running, {}", running.process()),
            State::Paused(paused) => format!("paused, {} MiB", paused.allotment().size().0),
            State::Gone => "ending".to_owned(),
        });
        format!(
            "sandbox {}: {state}, {} calls so far",
            self.sandbox,
            self.uses()
        )
    }
}
