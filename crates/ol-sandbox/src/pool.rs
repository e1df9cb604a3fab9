//! The door of the sandbox layer: what every kind of sandbox offers to the layer above.

use crate::lifecycle::{Allotment, Running};
use crate::line::Line;
use crate::spec::{Content, Network, SandboxSpec};
use ol_model::MiB;
use std::future::Future;
use std::net::{TcpListener as StdTcpListener, UdpSocket};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;

/// What sandboxes of a kind can do beside running a program. What one can't is not asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// They can be zygotes, and forked from one; a leaf can be made ahead and given its content by [`Pool::assign`].
    pub fork: bool,
    /// They can be paused.
    pub freeze: bool,
    /// Their networks.
    pub networks: &'static [Network],
}

/// Whether sandboxes have [`Network::Egress`].
#[derive(Debug)]
pub enum Egress {
    /// They have.
    On {
        /// The host forwards packets only since now.
        forwarding_is_new: bool,
        /// Takes their questions of names.
        udp: UdpSocket,
        /// Takes those that are too long for a datagram.
        tcp: StdTcpListener,
    },
    /// It was not asked for.
    Off,
    /// This machine can't, and why.
    Unable(String),
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
    /// What makes them is gone; this worker is about to end.
    #[error("what makes sandboxes is gone")]
    Gone,
}

/// A future in a box, so that pools of different kinds share one type.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes sandboxes of one kind.
pub trait Pool: Send + Sync + 'static {
    /// What its sandboxes can do.
    fn abilities(&self) -> Abilities;

    /// Resolves when it is known whether sandboxes can be made: true if so. To be awaited before the first is asked for.
    fn ready(&self) -> Pending<'_, bool>;

    /// Resolves when no sandbox can be made any more, and those that there were are gone.
    fn gone(&self) -> Pending<'_, ()>;

    /// Whether its sandboxes have egress, once it is ready. The first who asks gets the sockets by which they ask for names.
    fn egress(&self) -> Egress;

    /// Makes one. Dropping the future gives up: what was made by then is destroyed.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing remains of a failed attempt.
    fn create(&self, spec: SandboxSpec) -> Pending<'_, Result<Created, CreateError>>;

    /// Gives a leaf that was made without code its code and its limits. Only asked if its sandboxes can fork.
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
