//! The [`Pool`] of SOCK sandboxes.

use super::handle::SockHandle;
use super::link::{Link, Memory, Warden};
use super::wire;
use crate::budget::{Budget, Hold, Reservation};
use crate::lifecycle::{Allotment, Obituary, Running};
use crate::line::Line;
use crate::pool::{Abilities, CreateError, Created, Egress, Pending, Pool};
use crate::spec::{Ancestor, Content, Network, Parent, SandboxId, SandboxSpec};
use ol_model::MiB;
use ol_warden::protocol::{self, Size};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
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

impl SockPool {
    /// A pool on the worker's end of the warden's socket. Must be called inside a tokio runtime.
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

    async fn warden_is(&self, what: impl Fn(Warden) -> bool) -> Warden {
        let mut warden = self.warden.clone();
        // An error means that the link's task ended without telling; then the warden is gone too.
        warden
            .wait_for(|warden| what(*warden))
            .await
            .map_or(Warden::Gone, |warden| *warden)
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = protocol::SandboxId(number);
        let (guest, theirs) = UnixStream::pair().map_err(mechanism)?;
        guest.set_nonblocking(true).map_err(mechanism)?;
        let guest = OwnedFd::from(guest);
        // Nobody reads the socket yet, and the opening fits into it: one write suffices.
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
            Parent::Zygote(Ancestor { id, hold }) => (Some(protocol::SandboxId(id.0)), Some(hold)),
        };
        let wire = protocol::Spec {
            role: wire::role(role),
            parent,
            content: wire::content(&content),
        };
        let memory = Memory {
            _own: Arc::clone(&own),
            _shared: shared,
        };
        let making = self.link.create(id, wire, fds, memory);
        let made = if parent.is_some() {
            // A zygote runs foreign code, which may keep it from ever answering.
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
        let handle = SockHandle {
            id,
            freezer: made.freezer,
            link: self.link.clone(),
        };
        let sandbox = Running::new(
            SandboxId(number),
            Some(made.pid),
            Box::new(handle),
            Obituary::new(obituary),
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
        let (memory, wanted) = (leaf.allotment(), content.limits.mem);
        let missing = MiB(wanted.0.saturating_sub(memory.size().0));
        if missing.0 > 0 {
            memory.grow(self.reserve(missing, content.patience).await?);
        }
        let id = protocol::SandboxId(leaf.id().0);
        match self.link.assign(id, wire::content(content)).await? {
            Some(reason) => Err(CreateError::Mechanism(reason)),
            None => {
                memory.shrink_to(wanted);
                Ok(())
            }
        }
    }
}

/// How long a zygote may take for one fork, its shell included.
const FORK_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes as whole MiB, rounded up.
fn whole(bytes: u64) -> MiB {
    MiB(u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX))
}

/// The sandbox's number in the warden's protocol.
fn named(sandbox: &Allotment) -> protocol::SandboxId {
    protocol::SandboxId(sandbox.id().0)
}

fn mechanism(error: io::Error) -> CreateError {
    CreateError::Mechanism(error.to_string())
}

impl Pool for SockPool {
    fn abilities(&self) -> Abilities {
        Abilities {
            fork: true,
            freeze: true,
            networks: &[Network::None, Network::Egress, Network::Host, Network::Gate],
        }
    }

    fn ready(&self) -> Pending<'_, bool> {
        let spoken = self.warden_is(|warden| warden != Warden::Starting);
        Box::pin(async { spoken.await == Warden::Ready })
    }

    fn gone(&self) -> Pending<'_, ()> {
        let gone = self.warden_is(|warden| warden == Warden::Gone);
        Box::pin(async {
            let _ = gone.await;
        })
    }

    fn egress(&self) -> Egress {
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
            if let Some(memory) = self.link.resize(named(sandbox), size).await {
                sandbox.shrink_to(whole(memory));
            }
        })
    }

    fn give_back<'a>(&'a self, sandbox: &'a Allotment, room: MiB, most: MiB) -> Pending<'a, ()> {
        Box::pin(async move {
            self.downsize(sandbox, room).await;
            let most = Size::Bytes(most.bytes());
            // If the sandbox is gone, whoever uses it will notice.
            let _ = self.link.resize(named(sandbox), most).await;
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
            // Reserved before the limit is raised: if this future is dropped in between, too much is reserved rather than too little.
            let more = self.reserve(missing, patience).await?;
            sandbox.grow(more);
            let size = Size::Bytes(memory.bytes());
            match self.link.resize(named(sandbox), size).await.map(whole) {
                Some(raised) if raised.0 >= memory.0 => Ok(()),
                Some(kept) => {
                    sandbox.shrink_to(kept);
                    Err(CreateError::Mechanism(
                        "its memory limit can't be raised".to_owned(),
                    ))
                }
                // The sandbox is gone; whoever uses it will notice.
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
