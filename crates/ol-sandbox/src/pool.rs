//! The interface of the sandbox layer: what every kind of sandbox offers to the layer above.

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

/// What sandboxes of a kind can do beside running a program. The layer above doesn't ask for what they can't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// They can be zygotes, and be forked from one; a leaf can be made ahead and given its content by [`Pool::assign`].
    pub fork: bool,
    /// They can be paused.
    pub freeze: bool,
    /// The networks that they can have.
    pub networks: &'static [Network],
}

/// Whether sandboxes can have [`Network::Egress`].
#[derive(Debug)]
pub enum Egress {
    /// They can.
    On {
        /// The host didn't forward packets before; it was switched on for this worker.
        forwarding_is_new: bool,
        /// Receives the sandboxes' DNS queries.
        udp: UdpSocket,
        /// Receives DNS queries whose answers don't fit into a datagram.
        tcp: StdTcpListener,
    },
    /// Egress is not configured.
    Off,
    /// This host can't provide egress, and why.
    Unable(String),
}

/// A sandbox that was just made, with the worker's ends of its sockets and pipe.
#[derive(Debug)]
pub struct Created {
    /// The sandbox.
    pub sandbox: Running,
    /// The socket of the guest protocol.
    pub guest: Line,
    /// What the sandbox writes to its standard output and error.
    pub output: pipe::Receiver,
    /// With [`Network::Gate`]: accepts the connections that the sandbox makes to its own 127.0.0.1:3128, for a proxy.
    pub gate: Option<TcpListener>,
}

/// Why a sandbox couldn't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The budget had no room in time.
    #[error(
        "no memory for a sandbox of {asked_mb} MiB within {waited:?}: the pool of {pool_mb} MiB is in use"
    )]
    NoMemory {
        /// How much was asked for, in MiB.
        asked_mb: u32,
        /// The whole budget, in MiB.
        pool_mb: u32,
        /// For how long the call waited.
        waited: Duration,
    },
    /// The mechanism failed; the reason is for the operator's log, not for callers.
    #[error("the sandbox could not be made: {0}")]
    Mechanism(String),
    /// The zygote couldn't fork it. Made in another way, the sandbox may succeed.
    #[error("its zygote could not fork it: {0}")]
    Fork(String),
    /// What makes sandboxes (for SOCK: the warden) is gone; this worker is about to end.
    #[error("what makes sandboxes is gone")]
    Gone,
}

impl CreateError {
    /// The same error of a caller that asked several times and has waited for `all` of them together.
    #[must_use]
    pub fn after(mut self, all: Duration) -> Self {
        if let Self::NoMemory { waited, .. } = &mut self {
            *waited = all;
        }
        self
    }
}

/// A boxed future, so that [`Pool`] can be used as a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes sandboxes of one kind.
pub trait Pool: Send + Sync + 'static {
    /// What sandboxes of this pool can do.
    fn abilities(&self) -> Abilities;

    /// Resolves when it is known whether sandboxes can be made: true if so. To be awaited before the first [`Self::create`].
    fn ready(&self) -> Pending<'_, bool>;

    /// Resolves when no sandbox can be made any more, and all that there were are gone.
    fn gone(&self) -> Pending<'_, ()>;

    /// Whether sandboxes of this pool can have egress; known once the pool is ready.
    ///
    /// Only the first call gets the sockets that receive their DNS queries.
    fn egress(&self) -> Egress;

    /// Makes a sandbox. If the future is dropped, what was made by then is destroyed.
    ///
    /// # Errors
    /// See [`CreateError`]; nothing remains of a failed attempt.
    fn create(&self, spec: SandboxSpec) -> Pending<'_, Result<Created, CreateError>>;

    /// Gives its code and limits to a leaf that was made without code. Only called if [`Abilities::fork`].
    ///
    /// # Errors
    /// See [`CreateError`]; the leaf can't be used afterwards, except after [`CreateError::NoMemory`].
    fn assign<'a>(
        &'a self,
        leaf: &'a Running,
        content: &'a Content,
    ) -> Pending<'a, Result<(), CreateError>>;

    /// Lowers a sandbox's memory limit to what it uses plus `room`, and gives the rest back to the budget.
    ///
    /// If the limit can't be lowered as far, the sandbox keeps what its limit is then. For zygotes that have imported all that they will,
    /// and for paused sandboxes. The future must not be dropped before it resolves.
    fn downsize<'a>(&'a self, sandbox: &'a Allotment, room: MiB) -> Pending<'a, ()>;

    /// Reserves again what [`Self::downsize`] gave back, and raises the limit to `memory`. Waits at most `patience` for the budget.
    ///
    /// # Errors
    /// [`CreateError::NoMemory`], and then the sandbox keeps the memory it had; [`CreateError::Mechanism`] if the limit can't be raised.
    fn regain<'a>(
        &'a self,
        sandbox: &'a Allotment,
        memory: MiB,
        patience: Duration,
    ) -> Pending<'a, Result<(), CreateError>>;

    /// Gives back to the budget what `sandbox` doesn't use, except for `room`, but sets its limit to `most`.
    ///
    /// For a zygote that has imported all that it will, whose use may exceed its reservation: when it writes to a page that a child still
    /// shares, the old and the new page both count in the zygote's cgroup. That grows with the number of children, but those pages aren't
    /// counted in the children's cgroups, so that the children's own reservations aren't used up and cover the excess.
    fn give_back<'a>(&'a self, sandbox: &'a Allotment, room: MiB, most: MiB) -> Pending<'a, ()>;

    /// Memory that no sandbox holds.
    fn free_memory(&self) -> MiB;

    /// Resolves when nothing is left of any sandbox that this pool made and whose value was dropped.
    fn drained(&self) -> Pending<'_, ()>;
}
