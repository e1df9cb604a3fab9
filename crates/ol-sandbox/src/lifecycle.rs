//! A sandbox's life as types: only a [`Running`] one can be paused, only a [`Paused`] one resumed, each once.

use crate::pool::{Ancestor, Hold, Parent};
use crate::sock::{Freezer, Link};
use ol_model::MiB;
use ol_warden::protocol::SandboxId;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;

/// How a sandbox's first process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The process's end.
    pub cause: ol_warden::protocol::Death,
    /// Processes of the sandbox that the kernel killed for want of memory, over its life.
    pub oom_kills: u64,
}

impl Death {
    /// Did the kernel kill it for want of memory?
    #[must_use]
    pub fn out_of_memory(&self) -> bool {
        self.oom_kills > 0 && self.cause == ol_warden::protocol::Death::Signalled(9)
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ol_warden::protocol::Death as Cause;
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
    pub(crate) fn new(receiver: watch::Receiver<Option<Death>>) -> Self {
        Self(receiver)
    }

    /// Has it died?
    #[must_use]
    pub fn death(&self) -> Option<Death> {
        self.0.borrow().clone()
    }

    /// Resolves when it has died; `None` if the warden was gone before it could tell.
    pub async fn wait(&mut self) -> Option<Death> {
        self.0
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|death| death.clone())
    }
}

/// What both states hold. Its drop asks the warden to destroy the sandbox and does not wait; the memory is given back when
/// the warden says that nothing is left.
#[derive(Debug)]
struct Core {
    id: SandboxId,
    pid: i32,
    freezer: Freezer,
    obituary: Obituary,
    link: Link,
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
    pub(crate) id: SandboxId,
    pub(crate) hold: Hold,
}

impl Allotment {
    /// How much it is.
    #[must_use]
    pub fn size(&self) -> MiB {
        let hold = self.hold.lock();
        hold.unwrap_or_else(PoisonError::into_inner).size()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.link.destroy(self.id);
    }
}

/// A sandbox that runs.
#[derive(Debug)]
pub struct Running(Core);

/// A sandbox that is frozen: it uses no CPU at all.
#[derive(Debug)]
pub struct Paused(Core);

impl Running {
    pub(crate) fn new(
        id: SandboxId,
        pid: i32,
        freezer: Freezer,
        obituary: Obituary,
        link: Link,
        hold: Hold,
    ) -> Self {
        Self(Core {
            id,
            pid,
            freezer,
            obituary,
            link,
            hold,
        })
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.0.hold
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

    /// The host's number of its first process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// Where its death will be told.
    #[must_use]
    pub fn obituary(&self) -> Obituary {
        self.0.obituary.clone()
    }

    /// Begins to freeze it; the kernel stops its processes within microseconds, see [`Paused::frozen`].
    ///
    /// # Errors
    /// When the freezer can't be written; the sandbox is destroyed then.
    pub fn pause(self) -> io::Result<Paused> {
        self.0.freezer.freeze()?;
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
    /// When the freezer can't be written; the sandbox is destroyed then.
    pub fn unpause(self) -> io::Result<Running> {
        self.0.freezer.thaw()?;
        Ok(Running(self.0))
    }

    /// Has every process of it stopped?
    ///
    /// # Errors
    /// When the freezer can't be read.
    pub fn frozen(&self) -> io::Result<bool> {
        self.0.freezer.is_frozen()
    }
}
