//! A sandbox's states as types: only a [`Running`] one can be paused, and only a [`Paused`] one resumed.
//!
//! How that is done depends on the kind of sandbox, which implements it as a [`Handle`].

use crate::budget::{Hold, Reservation};
use crate::spec::{Ancestor, Parent, SandboxId};
use ol_model::MiB;
use std::fmt;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The process exited with this status.
    Exited(i32),
    /// This signal killed the process.
    Signalled(i32),
    /// The process never ran: the step of its set-up that failed, and why.
    NotStarted(String),
}

/// How a kind of sandbox controls one that it made.
///
/// Dropping the handle has the sandbox destroyed, whatever it is doing, and doesn't wait for that.
pub trait Handle: fmt::Debug + Send + Sync + 'static {
    /// Begins to stop all of the sandbox's processes; [`Self::is_frozen`] says when they have stopped.
    ///
    /// # Errors
    /// When it can't.
    fn freeze(&self) -> io::Result<()>;

    /// Lets the sandbox's processes go on.
    ///
    /// # Errors
    /// When it can't.
    fn thaw(&self) -> io::Result<()>;

    /// Has every process of it stopped?
    ///
    /// # Errors
    /// When that can't be seen.
    fn is_frozen(&self) -> io::Result<bool>;
}

/// How a sandbox's first process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// How the process ended.
    pub cause: Cause,
    /// How many processes of the sandbox the kernel killed for want of memory, over its whole life.
    pub oom_kills: u64,
}

impl Death {
    /// Did the kernel kill the first process for want of memory?
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.oom_kills > 0 && self.cause == Cause::Signalled(9)
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Signalled(_) if self.out_of_memory() => write!(f, "it ran out of memory"),
            Cause::Signalled(signal) => write!(f, "signal {signal} ended it"),
            Cause::Exited(status) => write!(f, "it exited with status {status}"),
            // The step is for the operator's log; a caller learns only that the process never ran.
            Cause::NotStarted(_) => write!(f, "it could not be started"),
        }
    }
}

/// Tells of a sandbox's death; outlives the sandbox.
#[derive(Clone, Debug)]
pub struct Obituary(watch::Receiver<Option<Death>>);

impl Obituary {
    /// An obituary of the sandbox whose death is sent to `receiver`.
    #[must_use]
    pub fn new(receiver: watch::Receiver<Option<Death>>) -> Self {
        Self(receiver)
    }

    /// How the sandbox died, if it has.
    #[must_use]
    pub fn death(&self) -> Option<Death> {
        self.0.borrow().clone()
    }

    /// Resolves when the sandbox has died; `None` if the maker of the sandboxes ended before it could tell.
    pub async fn wait(&mut self) -> Option<Death> {
        self.0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|death| death.clone())
    }
}

/// What both states hold.
///
/// Dropping it has the sandbox destroyed and doesn't wait for that; its kind gives the memory back when nothing is left of the sandbox.
#[derive(Debug)]
struct Core {
    id: SandboxId,
    pid: Option<i32>,
    handle: Box<dyn Handle>,
    obituary: Obituary,
    hold: Hold,
}

impl Core {
    fn allotment(&self) -> Allotment {
        Allotment {
            id: self.id,
            hold: Arc::clone(&self.hold),
        }
    }
}

/// The memory of a sandbox in either state. Not to be kept for long: it keeps that memory reserved too.
#[derive(Clone, Debug)]
pub struct Allotment {
    id: SandboxId,
    hold: Hold,
}

impl Allotment {
    /// The sandbox whose memory this is.
    #[must_use]
    pub fn id(&self) -> SandboxId {
        self.id
    }

    /// How much memory it is.
    #[must_use]
    pub fn size(&self) -> MiB {
        self.hold().size()
    }

    /// Gives back to the budget what exceeds `size`.
    pub fn shrink_to(&self, size: MiB) {
        self.hold().shrink_to(size);
    }

    /// Adds `more`, a reservation from the same budget.
    pub fn grow(&self, more: Reservation) {
        self.hold().merge(more);
    }

    fn hold(&self) -> MutexGuard<'_, Reservation> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sandbox that runs.
#[derive(Debug)]
pub struct Running(Core);

/// A sandbox that is frozen: it uses no CPU at all.
#[derive(Debug)]
pub struct Paused(Core);

impl Running {
    /// A sandbox that its kind has just made.
    ///
    /// `pid`: the pid, on the host, of its first process, if its kind has processes. `hold`: its memory, of which the kind keeps a clone
    /// until nothing is left of the sandbox.
    #[must_use]
    pub fn new(
        id: SandboxId,
        pid: Option<i32>,
        handle: Box<dyn Handle>,
        obituary: Obituary,
        hold: Hold,
    ) -> Self {
        Self(Core {
            id,
            pid,
            handle,
            obituary,
            hold,
        })
    }

    /// Its memory, to be lowered or raised.
    #[must_use]
    pub fn allotment(&self) -> Allotment {
        self.0.allotment()
    }

    /// This sandbox, which must be a zygote, as the parent of others.
    #[must_use]
    pub fn as_parent(&self) -> Parent {
        Parent::Zygote(Ancestor {
            id: self.0.id,
            hold: Arc::clone(&self.0.hold),
        })
    }

    /// Its number, unique in this run of the worker.
    #[must_use]
    pub fn id(&self) -> SandboxId {
        self.0.id
    }

    /// Names the sandbox's first process for people, by its pid on the host if it has one.
    #[must_use]
    pub fn process(&self) -> String {
        let pid = self.0.pid.map(|pid| format!("pid {pid}"));
        pid.unwrap_or_else(|| "no process of this host".to_owned())
    }

    /// Tells of this sandbox's death.
    #[must_use]
    pub fn obituary(&self) -> Obituary {
        self.0.obituary.clone()
    }

    /// Begins to freeze the sandbox; [`Paused::frozen`] says when its processes have stopped.
    ///
    /// # Errors
    /// When its kind can't; the sandbox is destroyed then.
    pub fn pause(self) -> io::Result<Paused> {
        self.0.handle.freeze()?;
        Ok(Paused(self.0))
    }
}

impl Paused {
    /// Its number, unique in this run of the worker.
    #[must_use]
    pub fn id(&self) -> SandboxId {
        self.0.id
    }

    /// Its memory, to be lowered or raised.
    #[must_use]
    pub fn allotment(&self) -> Allotment {
        self.0.allotment()
    }

    /// Thaws the sandbox.
    ///
    /// # Errors
    /// When its kind can't; the sandbox is destroyed then.
    pub fn unpause(self) -> io::Result<Running> {
        self.0.handle.thaw()?;
        Ok(Running(self.0))
    }

    /// Has every process of it stopped?
    ///
    /// # Errors
    /// When that can't be seen.
    pub fn frozen(&self) -> io::Result<bool> {
        self.0.handle.is_frozen()
    }
}
