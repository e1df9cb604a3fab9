//! One sandbox: a task, and the handle by which it is stopped and ended.

use crate::Counts;
use ol_sandbox::budget::Reservation;
use ol_sandbox::{
    Cause, Created, Death, Handle, Hold, Line, Obituary, Parent, Running, SandboxId, SandboxSpec,
};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// What a sandbox runs.
pub(crate) type Program =
    Arc<dyn Fn(Inside) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What a program finds in its sandbox.
#[derive(Debug)]
pub struct Inside {
    /// The sandbox's number.
    pub id: SandboxId,
    /// What it was made as.
    pub spec: SandboxSpec,
    /// The sandbox's end of its line to the worker.
    pub guest: UnixStream,
    /// Its standard output and error.
    pub output: pipe::Sender,
    frozen: watch::Receiver<bool>,
}

impl Inside {
    /// Waits while the sandbox is paused.
    ///
    /// A task can't be frozen from outside, so a program must call this before each thing it does.
    pub async fn runs(&mut self) {
        // An error means that the handle is gone, so nobody can freeze the sandbox any more.
        let _ = self.frozen.wait_for(|frozen| !frozen).await;
    }
}

/// What all sandboxes of a pool share.
#[derive(Default)]
pub(crate) struct PoolState {
    counts: Mutex<Counts>,
    /// How many sandboxes exist.
    alive: watch::Sender<usize>,
    /// Set to true to kill all sandboxes.
    kill: watch::Sender<bool>,
}

impl PoolState {
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kill_all(&self) {
        self.kill.send_replace(true);
    }

    /// Resolves when no sandbox is left.
    pub(crate) async fn drained(&self) {
        let mut alive = self.alive.subscribe();
        // This can't fail, since `self` holds the sender.
        let _ = alive.wait_for(|alive| *alive == 0).await;
    }
}

/// Counts a sandbox until this is dropped, also if its program panics.
struct AliveGuard {
    state: Arc<PoolState>,
    number: usize,
}

impl AliveGuard {
    fn new(state: &Arc<PoolState>, forked: bool) -> Self {
        let mut counts = state.counts();
        counts.made += 1;
        counts.forked += usize::from(forked);
        counts.alive += 1;
        counts.most_alive = counts.most_alive.max(counts.alive);
        state.alive.send_replace(counts.alive);
        let number = counts.made;
        drop(counts);
        let state = Arc::clone(state);
        Self { state, number }
    }
}

impl Drop for AliveGuard {
    fn drop(&mut self) {
        let mut counts = self.state.counts();
        counts.alive -= 1;
        self.state.alive.send_replace(counts.alive);
    }
}

/// Pauses the task and lets it continue; ends it when dropped.
struct FakeHandle {
    state: Arc<PoolState>,
    frozen: watch::Sender<bool>,
    /// Dropped with the handle, which ends the task.
    _wanted: watch::Sender<()>,
}

impl std::fmt::Debug for FakeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FakeHandle(frozen: {})", *self.frozen.borrow())
    }
}

impl Handle for FakeHandle {
    fn freeze(&self) -> io::Result<()> {
        self.state.counts().pauses += 1;
        self.frozen.send_replace(true);
        Ok(())
    }

    fn thaw(&self) -> io::Result<()> {
        self.frozen.send_replace(false);
        Ok(())
    }

    fn is_frozen(&self) -> io::Result<bool> {
        Ok(*self.frozen.borrow())
    }
}

/// Resolves when the handle at the other end is dropped, and at once afterwards.
async fn unwanted(wants: &mut watch::Receiver<()>) {
    while wants.changed().await.is_ok() {}
}

/// Makes a sandbox that holds `memory` until nothing is left of it.
pub(crate) fn make(
    state: &Arc<PoolState>,
    program: &Program,
    spec: SandboxSpec,
    memory: Reservation,
) -> io::Result<Created> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    if !spec.opening.is_empty() {
        io::Write::write_all(&mut &ours, &spec.opening)?;
    }
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let (output_end, output) = pipe::pipe()?;
    let shared = match &spec.parent {
        Parent::Root => None,
        Parent::Zygote(ancestor) => Some(Arc::clone(&ancestor.hold)),
    };
    let guest = UnixStream::from_std(theirs)?;
    let line = Line::new(ours)?;
    let alive_guard = AliveGuard::new(state, shared.is_some());
    let id = SandboxId(alive_guard.number as u64);
    let (frozen, watched) = watch::channel(false);
    let (wanted, mut wants) = watch::channel(());
    let (death, obituary) = watch::channel(None);
    let own: Hold = Arc::new(Mutex::new(memory));
    let inside = Inside {
        id,
        spec,
        guest,
        output: output_end,
        frozen: watched,
    };
    let run = program(inside);
    let held = (Arc::clone(&own), shared);
    let mut kill = state.kill.subscribe();
    tokio::spawn(async move {
        let cause = tokio::select! {
            biased;
            () = unwanted(&mut wants) => Cause::Signalled(9),
            _ = kill.wait_for(|kill| *kill) => Cause::Signalled(9),
            () = run => Cause::Exited(0),
        };
        let oom_kills = 0;
        death.send_replace(Some(Death { cause, oom_kills }));
        // The sandbox counts as alive until its owner drops it, as a real one does after its death.
        unwanted(&mut wants).await;
        drop(held);
        drop(alive_guard);
    });
    let handle = FakeHandle {
        state: Arc::clone(state),
        frozen,
        _wanted: wanted,
    };
    Ok(Created {
        sandbox: Running::new(id, None, Box::new(handle), Obituary::new(obituary), own),
        guest: line,
        output,
        gate: None,
    })
}
