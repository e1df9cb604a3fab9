//! A sandbox's life as types: only a [`Running`] one can be paused, only a [`Paused`] one resumed, each once. What that means is its
//! kind's affair, which gives each sandbox a [`Handle`].

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
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
    /// It never ran: the step of its set-up that failed, and why.
    NotStarted(String),
}

/// What a kind of sandbox does to one that it made. Its drop has the sandbox destroyed, whatever it does, and doesn't wait for that.
pub trait Handle: fmt::Debug + Send + Sync + 'static {
    /// Begins to stop all of its processes, which happens soon, see [`Self::is_frozen`].
    ///
    /// # Errors
    /// When it can't.
    fn freeze(&self) -> io::Result<()>;

    /// Lets them go on.
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
    /// The process's end.
    pub cause: Cause,
    /// Processes of the sandbox that the kernel killed for want of memory, over its life.
    pub oom_kills: u64,
}

impl Death {
    /// Did the kernel kill it for want of memory?
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
            // The step is for the operator's log; a caller learns only that it never ran.
            Cause::NotStarted(_) => write!(f, "it could not be started"),
        }
    }
}

/// Where one learns of a sandbox's death; outlives the sandbox.
#[derive(Clone, Debug)]
pub struct Obituary(watch::Receiver<Option<Death>>);

impl Obituary {
    /// Where `receiver` is told.
    #[must_use]
    pub fn new(receiver: watch::Receiver<Option<Death>>) -> Self {
        Self(receiver)
    }

    /// Has it died?
    #[must_use]
    pub fn death(&self) -> Option<Death> {
        self.0.borrow().clone()
    }

    /// Resolves when it has died; `None` if what makes sandboxes was gone before it could tell.
    pub async fn wait(&mut self) -> Option<Death> {
        self.0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|death| death.clone())
    }
}

/// What both states hold. Its drop has the sandbox destroyed and does not wait; its kind gives the memory back when nothing is left
/// of it.
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

/// The memory of a sandbox in either state. Not to be kept: it holds that memory too.
#[derive(Clone, Debug)]
pub struct Allotment {
    id: SandboxId,
    hold: Hold,
}

impl Allotment {
    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> SandboxId {
        self.id
    }

    /// How much it is.
    #[must_use]
    pub fn size(&self) -> MiB {
        self.hold().size()
    }

    /// Gives back to the budget what exceeds `size`.
    pub fn shrink_to(&self, size: MiB) {
        self.hold().shrink_to(size);
    }

    /// Adds `more`, of the same budget.
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
    /// A sandbox that its kind has just made. `pid`: the host's number of its first process, where it has one. `hold`: its memory, which
    /// its kind keeps a part in until nothing is left of it.
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

    /// It as the parent of others, which only a zygote can be.
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

    /// For people: its first process, by the host's number where it has one.
    #[must_use]
    pub fn process(&self) -> String {
        let pid = self.0.pid.map(|pid| format!("pid {pid}"));
        pid.unwrap_or_else(|| "no process of this host".to_owned())
    }

    /// Where its death will be told.
    #[must_use]
    pub fn obituary(&self) -> Obituary {
        self.0.obituary.clone()
    }

    /// Begins to freeze it; its processes stop soon, see [`Paused::frozen`].
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

    /// Thaws it.
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
