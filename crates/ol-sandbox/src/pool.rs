//! The door of the sandbox layer: what may be asked, and what comes back.

use crate::lifecycle::{Death, Running};
use ol_model::{Limits, MiB, OomScope};
use ol_warden::protocol::{CodeId, SandboxId};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::broadcast;

/// Which process a sandbox descends from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parent {
    /// None: its program is started anew in an empty shell. (Zygotes as parents come with the fork server.)
    #[default]
    Root,
}

/// What a sandbox is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It serves calls.
    #[default]
    Leaf,
    /// It forks other sandboxes.
    Zygote,
}

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Whom it is forked from.
    pub parent: Parent,
    /// What it is for.
    pub role: Role,
    /// What it may use; its memory is reserved from the budget for as long as it exists.
    pub limits: Limits,
    /// What dies when it runs out of memory.
    pub oom: OomScope,
    /// The code at `/handler`, by number; nothing if `None`.
    pub code: Option<CodeId>,
    /// How long to wait for memory before giving up.
    pub patience: Duration,
}

/// A sandbox just made, with the worker's ends of its two lines.
#[derive(Debug)]
pub struct Created {
    /// The sandbox.
    pub sandbox: Running,
    /// Speaks the guest protocol.
    pub guest: UnixStream,
    /// What it writes to standard output and error.
    pub output: pipe::Receiver,
}

/// Why there is no sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The budget had no room in time.
    #[error(
        "no memory for a sandbox of {asked_mb} MiB within {waited:?}: the pool of {pool_mb} MiB is in use"
    )]
    NoMemory {
        /// What was asked.
        asked_mb: u32,
        /// What there is in all.
        pool_mb: u32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The mechanism failed; the reason is for the operator's log, not for callers.
    #[error("the sandbox could not be made: {0}")]
    Mechanism(String),
    /// The privileged companion is gone; this worker is about to end.
    #[error("the warden is gone")]
    WardenGone,
    /// This kind of pool can't make that.
    #[error("this pool makes no zygotes yet: ask for a leaf")]
    NoZygotes,
}

/// What happened to a sandbox, for those who watch all of them (the evictor, `/debug`, traces).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxEvent {
    /// Made.
    Created(SandboxId),
    /// Frozen.
    Paused(SandboxId),
    /// Thawed.
    Unpaused(SandboxId),
    /// Its first process ended.
    Died(SandboxId, Death),
    /// Nothing of it is left.
    Destroyed(SandboxId),
}

/// A future in a box, so that pools of different kinds share one type.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes sandboxes of one kind.
pub trait Pool: Send + Sync + 'static {
    /// Makes one. Dropping the future gives up: what was made by then is destroyed.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing remains of a failed attempt.
    fn create(&self, spec: SandboxSpec) -> Pending<'_, Result<Created, CreateError>>;

    /// Memory that no sandbox holds.
    fn free_memory(&self) -> MiB;

    /// What happens to all sandboxes of this pool from now on.
    fn events(&self) -> broadcast::Receiver<SandboxEvent>;

    /// Resolves when nothing is left of any sandbox that this pool made and whose value was dropped.
    fn drained(&self) -> Pending<'_, ()>;
}
