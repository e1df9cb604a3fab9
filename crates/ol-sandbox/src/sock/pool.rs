//! The [`Pool`] of SOCK sandboxes.

use crate::budget::Budget;
use crate::lifecycle::{Obituary, Running};
use crate::pool::{CreateError, Created, Parent, Pending, Pool, Role, SandboxEvent, SandboxSpec};
use crate::sock::{Link, Warden};
use ol_model::{MiB, OomScope};
use ol_warden::cgroup;
use ol_warden::protocol::{LeafSpec, Network, SandboxId};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, watch};

/// Makes SOCK sandboxes through the warden.
#[derive(Debug)]
pub struct SockPool {
    link: Link,
    budget: Budget,
    next: AtomicU64,
    warden: watch::Receiver<Warden>,
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
        let Parent::Root = spec.parent;
        if spec.role == Role::Zygote {
            return Err(CreateError::NoZygotes);
        }
        let limits = &spec.limits;
        let reservation = self
            .budget
            .reserve(limits.mem, spec.patience)
            .await
            .ok_or_else(|| CreateError::NoMemory {
                asked_mb: limits.mem.0,
                pool_mb: self.budget.total().0,
                waited: spec.patience,
            })?;
        let id = SandboxId(self.next.fetch_add(1, Ordering::Relaxed));
        let (guest, theirs) = UnixStream::pair().map_err(mechanism)?;
        let (output_end, output) = pipe::pipe().map_err(mechanism)?;
        // The guest's ends block, as any program's standard output does.
        let fds = vec![
            theirs
                .into_std()
                .and_then(|s| s.set_nonblocking(false).map(|()| OwnedFd::from(s)))
                .map_err(mechanism)?,
            output_end.into_blocking_fd().map_err(mechanism)?,
        ];
        let wire = LeafSpec {
            limits: cgroup::Limits {
                memory: limits.mem.bytes(),
                swap: 0,
                pids: limits.procs,
                cpu_percent: limits.cpu.0,
                oom_ends_all: spec.oom == OomScope::Sandbox,
            },
            scratch: limits.scratch.bytes(),
            code: spec.code,
            network: Network::None,
        };
        let (made, obituary) = self.link.create(id, wire, fds, reservation).await?;
        let sandbox = Running::new(
            id,
            made.pid,
            made.freezer,
            Obituary::new(obituary),
            self.link.clone(),
        );
        Ok(Created {
            sandbox,
            guest,
            output,
        })
    }
}

fn mechanism(error: io::Error) -> CreateError {
    CreateError::Mechanism(error.to_string())
}

impl Pool for SockPool {
    fn create(&self, spec: SandboxSpec) -> Pending<'_, Result<Created, CreateError>> {
        Box::pin(self.make(spec))
    }

    fn free_memory(&self) -> MiB {
        self.budget.free()
    }

    fn events(&self) -> broadcast::Receiver<SandboxEvent> {
        self.link.events()
    }

    fn drained(&self) -> Pending<'_, ()> {
        Box::pin(self.link.drained())
    }
}
