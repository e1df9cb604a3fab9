//! A kind of sandbox for tests: each is a task of this process, which isolates nothing and starts at once.
//!
//! ```text
//!   FakePool ── create ──▶ Running          the program that the test gave, as a task
//!      │                      └── socket ──▶ Inside::guest
//!      └── for the test: counts, failures to order, starts that can be held back
//! ```
//!
//! With it the layers above run unchanged, under a clock that a test moves, and need no root, no kernel feature and no Python. It is
//! also the second kind of sandbox, which shows that the interface of the sandbox layer fits more than one.

mod sandbox;

pub use sandbox::Inside;

use ol_model::MiB;
use ol_sandbox::budget::{Budget, Reservation};
use ol_sandbox::{
    Abilities, Allotment, Content, CreateError, Created, Egress, Network, Parent, Pending, Pool,
    Role, Running, SandboxSpec,
};
use sandbox::{PoolState, Program};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// What has happened in a pool so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many sandboxes were made.
    pub made: usize,
    /// How many of those were forked.
    pub forked: usize,
    /// How many exist now, including those that are ending.
    pub alive: usize,
    /// The most that existed at once.
    pub most_alive: usize,
    /// How often a sandbox was paused.
    pub pauses: usize,
}

/// A pool of sandboxes that are tasks.
pub struct FakePool {
    budget: Budget,
    abilities: Abilities,
    program: Program,
    state: Arc<PoolState>,
    failures: Mutex<VecDeque<CreateError>>,
    /// Each start takes one permit, and returns it when it is done.
    starts: Semaphore,
    gone: watch::Sender<bool>,
}

impl FakePool {
    /// Makes a pool with `memory`, whose sandboxes have `abilities` and each run `program`. Call it inside a tokio runtime.
    pub fn new<P>(
        memory: MiB,
        abilities: Abilities,
        program: impl Fn(Inside) -> P + Send + Sync + 'static,
    ) -> Arc<Self>
    where
        P: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Self {
            budget: Budget::new(memory),
            abilities,
            program: Arc::new(move |inside| Box::pin(program(inside))),
            state: Arc::default(),
            failures: Mutex::default(),
            starts: Semaphore::new(Semaphore::MAX_PERMITS >> 1),
            gone: watch::Sender::new(false),
        })
    }

    /// Abilities of sandboxes that can be forked and paused, and have no network.
    #[must_use]
    pub fn able() -> Abilities {
        Abilities {
            fork: true,
            freeze: true,
            networks: &[Network::None],
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.state.counts()
    }

    /// Makes the next starts and assignments fail, each with one of `errors`, in this order.
    pub fn fail(&self, errors: impl IntoIterator<Item = CreateError>) {
        self.failures().extend(errors);
    }

    /// Holds back all new starts until the result is dropped.
    ///
    /// # Panics
    /// If a start is under way.
    #[must_use]
    pub fn hold_starts(&self) -> impl Drop + '_ {
        let all = u32::try_from(self.starts.available_permits()).unwrap_or(u32::MAX);
        let held = self.starts.try_acquire_many(all);
        held.expect("no start is under way")
    }

    /// Ends the pool and all its sandboxes, as if the warden had been killed.
    pub fn end(&self) {
        self.gone.send_replace(true);
        self.state.kill_all();
    }

    fn failures(&self) -> MutexGuard<'_, VecDeque<CreateError>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reserve(&self, memory: MiB, patience: Duration) -> Result<Reservation, CreateError> {
        let reserved = self.budget.reserve(memory, patience).await;
        reserved.ok_or_else(|| CreateError::NoMemory {
            asked_mb: memory.0,
            pool_mb: self.budget.total().0,
            waited: patience,
        })
    }

    async fn make(&self, spec: SandboxSpec) -> Result<Created, CreateError> {
        let forks = matches!(spec.parent, Parent::Zygote(_)) || spec.role != Role::Leaf;
        assert!(self.abilities.fork || !forks, "asked to fork, and can't");
        assert!(
            self.abilities.networks.contains(&spec.content.network),
            "asked for a network that there isn't"
        );
        let memory = self.reserve(spec.content.limits.mem, spec.content.patience);
        let memory = memory.await?;
        let _turn = self.starts.acquire().await.expect("never closed");
        if *self.gone.borrow() {
            return Err(CreateError::Gone);
        }
        if let Some(error) = self.failures().pop_front() {
            return Err(error);
        }
        let made = sandbox::make(&self.state, &self.program, spec, memory);
        made.map_err(|error| CreateError::Mechanism(error.to_string()))
    }

    async fn raise(
        &self,
        sandbox: &Allotment,
        to: MiB,
        patience: Duration,
    ) -> Result<(), CreateError> {
        let missing = MiB(to.0.saturating_sub(sandbox.size().0));
        if missing.0 > 0 {
            sandbox.grow(self.reserve(missing, patience).await?);
        }
        Ok(())
    }
}

/// How much memory each program is said to use; thus lowering a sandbox's memory frees something.
const USED: MiB = MiB(1);

impl Pool for FakePool {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn ready(&self) -> Pending<'_, bool> {
        Box::pin(async { !*self.gone.borrow() })
    }

    fn gone(&self) -> Pending<'_, ()> {
        let mut gone = self.gone.subscribe();
        Box::pin(async move {
            let _ = gone.wait_for(|gone| *gone).await;
        })
    }

    fn egress(&self) -> Egress {
        Egress::Off
    }

    fn create(&self, spec: SandboxSpec) -> Pending<'_, Result<Created, CreateError>> {
        Box::pin(self.make(spec))
    }

    fn assign<'a>(
        &'a self,
        leaf: &'a Running,
        content: &'a Content,
    ) -> Pending<'a, Result<(), CreateError>> {
        assert!(self.abilities.fork, "asked to assign, and can't");
        Box::pin(async move {
            if let Some(error) = self.failures().pop_front() {
                return Err(error);
            }
            let (memory, wanted) = (leaf.allotment(), content.limits.mem);
            self.raise(&memory, wanted, content.patience).await?;
            memory.shrink_to(wanted);
            Ok(())
        })
    }

    fn downsize<'a>(&'a self, sandbox: &'a Allotment, room: MiB) -> Pending<'a, ()> {
        Box::pin(async move { sandbox.shrink_to(MiB(USED.0 + room.0)) })
    }

    fn regain<'a>(
        &'a self,
        sandbox: &'a Allotment,
        memory: MiB,
        patience: Duration,
    ) -> Pending<'a, Result<(), CreateError>> {
        Box::pin(self.raise(sandbox, memory, patience))
    }

    fn give_back<'a>(&'a self, sandbox: &'a Allotment, room: MiB, _most: MiB) -> Pending<'a, ()> {
        self.downsize(sandbox, room)
    }

    fn free_memory(&self) -> MiB {
        self.budget.free()
    }

    fn drained(&self) -> Pending<'_, ()> {
        Box::pin(self.state.drained())
    }
}
