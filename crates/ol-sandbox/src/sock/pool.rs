//! The [`Pool`] of SOCK sandboxes.

use crate::budget::{Budget, Reservation};
use crate::lifecycle::{Allotment, Obituary, Running};
use crate::line::Line;
use crate::pool::{
    Ancestor, Content, CreateError, Created, Hold, Parent, Pending, Pool, Role, SandboxSpec,
};
use crate::sock::link::Memory;
use crate::sock::{Link, Warden};
use ol_model::{MiB, OomScope};
use ol_warden::cgroup;
use ol_warden::protocol::{self, SandboxId, Size};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Makes SOCK sandboxes through the warden.
#[derive(Debug)]
pub struct SockPool {
    link: Link,
    budget: Budget,
    next: AtomicU64,
    warden: watch::Receiver<Warden>,
}

/// Whether sandboxes can have a way out.
#[derive(Debug)]
pub enum Egress {
    /// They can.
    On {
        /// The host forwards packets only since now.
        forwarding_is_new: bool,
        /// Takes their questions of names.
        udp: UdpSocket,
        /// Takes those that are too long for a datagram.
        tcp: TcpListener,
    },
    /// It was not asked for.
    Off,
    /// This machine can't, and why.
    Unable(String),
}

impl SockPool {
    /// A pool on the worker's end of the warden's socket. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket can't be watched.
    pub fn start(socket: OwnedFd, budget: Budget) -> io::Result<Self> {
        let (link, warden) = Link::start(socket)?;
        Ok(Self {
            link,
            budget,
            next: AtomicU64::new(1),
            warden,
        })
    }

    /// Resolves when the warden is gone; nothing can be made any more.
    pub async fn warden_gone(&self) {
        self.warden_is(|warden| warden == Warden::Gone).await;
    }

    /// Resolves when the warden has spoken: true if it is ready, false if it is gone.
    pub async fn warden_ready(&self) -> bool {
        self.warden_is(|warden| warden != Warden::Starting).await == Warden::Ready
    }

    /// Whether sandboxes have egress, as the warden said when it was ready. The first who asks gets the sockets by which they ask for names.
    pub fn egress(&self) -> Egress {
        let Some((said, fds)) = self.link.take_networks() else {
            return Egress::Off;
        };
        let mut fds = fds.into_iter();
        match (said, fds.next(), fds.next()) {
            (protocol::Egress::On { forwarding_is_new }, Some(udp), Some(tcp)) => Egress::On {
                forwarding_is_new,
                udp: udp.into(),
                tcp: tcp.into(),
            },
            (protocol::Egress::On { .. }, ..) => {
                Egress::Unable("the warden sent no sockets".to_owned())
            }
            (protocol::Egress::Off, ..) => Egress::Off,
            (protocol::Egress::Unable(why), ..) => Egress::Unable(why),
        }
    }

    async fn warden_is(&self, what: impl Fn(Warden) -> bool) -> Warden {
        let mut warden = self.warden.clone();
        // An error means that the task is gone without a word, and then so is the warden.
        warden
            .wait_for(|warden| what(*warden))
            .await
            .map_or(Warden::Gone, |warden| *warden)
    }

    /// The memory of this pool.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    async fn make(&self, spec: SandboxSpec) -> Result<Created, CreateError> {
        let SandboxSpec {
            parent,
            role,
            content,
            opening,
        } = spec;
        let reservation = self.reserve(content.limits.mem, content.patience).await?;
        let own: Hold = Arc::new(Mutex::new(reservation));
        let id = SandboxId(self.next.fetch_add(1, Ordering::Relaxed));
        let (guest, theirs) = UnixStream::pair().map_err(mechanism)?;
        guest.set_nonblocking(true).map_err(mechanism)?;
        let guest = OwnedFd::from(guest);
        // Nobody reads it yet, and it fits: written in one go.
        if !opening.is_empty() && rustix::io::write(&guest, &opening) != Ok(opening.len()) {
            return Err(CreateError::Mechanism("the opening is too long".to_owned()));
        }
        let guest = Line::new(guest).map_err(mechanism)?;
        let (output_end, output) = pipe::pipe().map_err(mechanism)?;
        // The guest's ends block, as any program's standard output does.
        let fds = vec![
            theirs.into(),
            output_end.into_blocking_fd().map_err(mechanism)?,
        ];
        let (parent, shared) = match parent {
            Parent::Root => (None, None),
            Parent::Zygote(Ancestor { id, hold }) => (Some(id), Some(hold)),
        };
        let wire = protocol::Spec {
            role: match role {
                Role::Leaf => protocol::Role::Leaf,
                Role::Zygote { shells } => protocol::Role::Zygote { shells },
            },
            parent,
            content: on_the_wire(&content),
        };
        let memory = Memory {
            _own: Arc::clone(&own),
            _shared: shared,
        };
        let making = self.link.create(id, wire, fds, memory);
        let made = if parent.is_some() {
            // A zygote runs code of others: it may do anything, and nothing at all.
            tokio::time::timeout(FORK_PATIENCE, making)
                .await
                .unwrap_or_else(|_| {
                    Err(CreateError::Fork(format!(
                        "it did not within {FORK_PATIENCE:?}"
                    )))
                })
        } else {
            making.await
        };
        let (made, obituary) = made?;
        let gate = made.gate.map(|gate| {
            let gate = TcpListener::from(gate);
            gate.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(gate)
        });
        let sandbox = Running::new(
            id,
            made.pid,
            made.freezer,
            Obituary::new(obituary),
            self.link.clone(),
            own,
        );
        Ok(Created {
            sandbox,
            guest,
            output,
            gate: gate.transpose().map_err(mechanism)?,
        })
    }

    async fn reserve(&self, memory: MiB, patience: Duration) -> Result<Reservation, CreateError> {
        let reserved = self.budget.reserve(memory, patience).await;
        reserved.ok_or_else(|| CreateError::NoMemory {
            asked_mb: memory.0,
            pool_mb: self.budget.total().0,
            waited: patience,
        })
    }

    async fn give(&self, leaf: &Running, content: &Content) -> Result<(), CreateError> {
        let (wanted, had) = (content.limits.mem, lock(leaf.hold()).size());
        if wanted.0 > had.0 {
            let more = MiB(wanted.0 - had.0);
            let more = self.reserve(more, content.patience).await?;
            lock(leaf.hold()).merge(more);
        }
        match self.link.assign(leaf.id(), on_the_wire(content)).await? {
            Some(reason) => return Err(CreateError::Mechanism(reason)),
            None => lock(leaf.hold()).shrink_to(wanted),
        }
        Ok(())
    }
}

/// How long a zygote may take for one fork, its shell included.
const FORK_PATIENCE: Duration = Duration::from_secs(2);

fn lock(hold: &Hold) -> MutexGuard<'_, Reservation> {
    hold.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes as whole MiB, rounded up.
fn whole(bytes: u64) -> MiB {
    MiB(u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX))
}

fn on_the_wire(content: &Content) -> protocol::Content {
    let limits = &content.limits;
    protocol::Content {
        limits: cgroup::Limits {
            memory: limits.mem.bytes(),
            swap: 0,
            pids: limits.procs,
            cpu_percent: limits.cpu.0,
            oom_ends_all: content.oom == OomScope::Sandbox,
        },
        scratch: limits.scratch.bytes(),
        code: content.code,
        packages: content.packages,
        network: content.network,
    }
}

fn mechanism(error: io::Error) -> CreateError {
    CreateError::Mechanism(error.to_string())
}

impl Pool for SockPool {
    fn create(&self, spec: SandboxSpec) -> Pending<'_, Result<Created, CreateError>> {
        Box::pin(self.make(spec))
    }

    fn assign<'a>(
        &'a self,
        leaf: &'a Running,
        content: &'a Content,
    ) -> Pending<'a, Result<(), CreateError>> {
        Box::pin(self.give(leaf, content))
    }

    fn downsize<'a>(&'a self, sandbox: &'a Allotment, room: MiB) -> Pending<'a, ()> {
        Box::pin(async move {
            let size = Size::UsedAnd(room.bytes());
            if let Some(memory) = self.link.resize(sandbox.id, size).await {
                lock(&sandbox.hold).shrink_to(whole(memory));
            }
        })
    }

    fn give_back<'a>(&'a self, sandbox: &'a Allotment, room: MiB, most: MiB) -> Pending<'a, ()> {
        Box::pin(async move {
            self.downsize(sandbox, room).await;
            let most = Size::Bytes(most.bytes());
            // If it is gone, whoever uses it will see that.
            let _ = self.link.resize(sandbox.id, most).await;
        })
    }

    fn regain<'a>(
        &'a self,
        sandbox: &'a Allotment,
        memory: MiB,
        patience: Duration,
    ) -> Pending<'a, Result<(), CreateError>> {
        Box::pin(async move {
            let missing = MiB(memory.0.saturating_sub(sandbox.size().0));
            if missing.0 == 0 {
                return Ok(());
            }
            // Held before the limit is raised: if nobody waits for that any more, too much is held rather than too little.
            let more = self.reserve(missing, patience).await?;
            lock(&sandbox.hold).merge(more);
            let size = Size::Bytes(memory.bytes());
            match self.link.resize(sandbox.id, size).await.map(whole) {
                Some(raised) if raised.0 >= memory.0 => Ok(()),
                Some(kept) => {
                    lock(&sandbox.hold).shrink_to(kept);
                    Err(CreateError::Mechanism(
                        "its memory limit can't be raised".to_owned(),
                    ))
                }
                // It is gone, and whoever uses it will see that.
                None => Ok(()),
            }
        })
    }

    fn free_memory(&self) -> MiB {
        self.budget.free()
    }

    fn drained(&self) -> Pending<'_, ()> {
        Box::pin(self.link.drained())
    }
}
