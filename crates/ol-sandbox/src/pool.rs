//! The door of the sandbox layer: what may be asked, and what comes back.

use crate::budget::Reservation;
use crate::lifecycle::{Allotment, Running};
use crate::line::Line;
use ol_model::{Limits, MiB, OomScope};
use ol_warden::protocol::{CodeId, Network, Packages, SandboxId};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;

/// Which process a sandbox descends from.
#[derive(Clone, Debug, Default)]
pub enum Parent {
    /// None: its program is started anew in an empty shell.
    #[default]
    Root,
    /// A zygote, from which it is forked.
    Zygote(Ancestor),
}

/// A zygote as its children see it. While a child lives, its zygote's memory counts as used: they share it.
#[derive(Clone, Debug)]
pub struct Ancestor {
    pub(crate) id: SandboxId,
    pub(crate) hold: Hold,
}

impl Ancestor {
    /// The zygote's number.
    #[must_use]
    pub fn id(&self) -> SandboxId {
        self.id
    }
}

/// A hold on the budget that several have a part in; the last to let go gives it back.
pub(crate) type Hold = Arc<Mutex<Reservation>>;

/// What a sandbox is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It serves calls.
    #[default]
    Leaf,
    /// It forks other sandboxes.
    Zygote {
        /// How many shells are kept ready for its leaves, at most.
        shells: u16,
    },
}

/// What to make.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Whom it is forked from.
    pub parent: Parent,
    /// What it is for.
    pub role: Role,
    /// What is in it.
    pub content: Content,
    /// What its guest socket holds for it from the first instant; empty or at most [`LONGEST_OPENING`] bytes.
    pub opening: Vec<u8>,
}

/// So much fits a socket that nobody reads yet, in bytes.
pub const LONGEST_OPENING: usize = 64 << 10;

/// What of a sandbox can be settled when it is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it may use; its memory is reserved from the budget for as long as it exists.
    pub limits: Limits,
    /// What dies when it runs out of memory.
    pub oom: OomScope,
    /// The code at `/handler`, by number; nothing if `None`.
    pub code: Option<CodeId>,
    /// What of the package store lies at `/packages`.
    pub packages: Packages,
    /// How it reaches a network. [`Network::Host`] is for [`Parent::Root`] only; it and [`Network::Gate`] can't be assigned later, and
    /// zygotes have [`Network::None`].
    pub network: Network,
    /// How long to wait for memory before giving up.
    pub patience: Duration,
}

/// A sandbox just made, with the worker's ends of its two lines.
#[derive(Debug)]
pub struct Created {
    /// The sandbox.
    pub sandbox: Running,
    /// Speaks the guest protocol.
    pub guest: Line,
    /// What it writes to standard output and error.
    pub output: pipe::Receiver,
    /// Of a [`Network::Gate`]: takes the connections that it makes to its own 127.0.0.1:3128, for a proxy.
    pub gate: Option<TcpListener>,
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
    /// The zygote failed it: made another way, it may succeed.
    #[error("its zygote could not fork it: {0}")]
    Fork(String),
    /// The privileged companion is gone; this worker is about to end.
    #[error("the warden is gone")]
    WardenGone,
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

    /// Gives a leaf that was made without code its code and its limits.
    ///
    /// # Errors
    /// See [`CreateError`]; the leaf is of no use then, unless there was no memory.
    fn assign<'a>(
        &'a self,
        leaf: &'a Running,
        content: &'a Content,
    ) -> Pending<'a, Result<(), CreateError>>;

    /// Lowers the memory that a sandbox may use to what it uses and `room` more, and gives back what that frees; what it could not give
    /// up stays its own. For a zygote that has imported what it will, and for what is paused. Not to be dropped half way.
    fn downsize<'a>(&'a self, sandbox: &'a Allotment, room: MiB) -> Pending<'a, ()>;

    /// Gets back what [`Self::downsize`] gave away, up to `memory` in all. Waits for it at most `patience`.
    ///
    /// # Errors
    /// [`CreateError::NoMemory`], and then it has what it had; [`CreateError::Mechanism`] if the limit can't be raised.
    fn regain<'a>(
        &'a self,
        sandbox: &'a Allotment,
        memory: MiB,
        patience: Duration,
    ) -> Pending<'a, Result<(), CreateError>>;

    /// Gives back to the budget what `sandbox` doesn't use, and `room` is not given back; sets its limit to `most` all the same. For a zygote that
    /// has imported: a page that it writes to while a child still has the old one counts twice in its group. That grows with its children, whose own
    /// memory in the budget they never use up so.
    fn give_back<'a>(&'a self, sandbox: &'a Allotment, room: MiB, most: MiB) -> Pending<'a, ()>;

    /// Memory that no sandbox holds.
    fn free_memory(&self) -> MiB;

    /// Resolves when nothing is left of any sandbox that this pool made and whose value was dropped.
    fn drained(&self) -> Pending<'_, ()>;
}
