//! What backs an instance, or an entry of `direct`: one sandbox, running or paused, until it is given up.
//!
//! ```text
//!   Running ──pause_if──▶ Paused          either ──give_up, a freezer that fails──▶ Gone
//!      ▲                    │
//!      └───────thaw─────────┘
//! ```
//! Nothing here waits for a lock longer than a write to a freezer takes. The owner decides who may do what and when.

use ol_sandbox::{Allotment, Death, Obituary, Paused, Running};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long to poll for a freeze in a tight loop: usually the process runs only to be stopped, which happens at once.
const SOON: Duration = Duration::from_micros(200);
/// The first wait between two polls after that, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_millis(64);

/// The state of a sandbox.
pub(crate) enum State {
    Running(Running),
    Paused(Paused),
    /// Given up: it ran too long, broke the protocol, its code was replaced, or it is no longer wanted.
    Gone,
}

/// The result of an attempt to thaw.
pub(crate) enum Thaw {
    /// The sandbox was running already.
    Needless,
    /// The sandbox runs again; says how long that took.
    Done(Duration),
    /// The sandbox was given up.
    Gone,
}

/// A sandbox, behind a lock on its state.
pub(crate) struct Backing {
    state: Mutex<State>,
    obituary: Obituary,
}

impl Backing {
    pub(crate) fn new(sandbox: Running) -> Self {
        Self {
            obituary: sandbox.obituary(),
            state: Mutex::new(State::Running(sandbox)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the state to `look`. The state is locked meanwhile, so `look` should be short.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    /// Begins to freeze the sandbox if `wanted` agrees; returns whether it is paused then. `wanted` is called while nobody can thaw.
    ///
    /// # Errors
    /// When the freezer fails; the sandbox is given up then.
    pub(crate) fn pause_if(&self, wanted: impl FnOnce() -> bool) -> io::Result<bool> {
        let mut state = self.state();
        if !wanted() {
            return Ok(false);
        }
        match std::mem::replace(&mut *state, State::Gone) {
            State::Running(running) => *state = State::Paused(running.pause()?),
            other => *state = other,
        }
        Ok(matches!(*state, State::Paused(_)))
    }

    /// Waits until a freeze has taken effect; returns false if the sandbox is thawed or given up first.
    ///
    /// # Errors
    /// When the freezer can't be read.
    pub(crate) async fn until_frozen(&self) -> io::Result<bool> {
        let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            let frozen = self.look(|state| match state {
                State::Paused(paused) => paused.frozen().map(Some),
                _ => Ok(None),
            });
            match frozen? {
                Some(false) => {}
                Some(true) => return Ok(true),
                None => return Ok(false),
            }
            if begun.elapsed() < SOON {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_WAIT);
            }
        }
    }

    /// Makes the sandbox run.
    ///
    /// # Errors
    /// When the freezer fails; the sandbox is given up then.
    pub(crate) fn thaw(&self) -> io::Result<Thaw> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Running(running) => {
                *state = State::Running(running);
                Ok(Thaw::Needless)
            }
            State::Paused(paused) => {
                let begun = Instant::now();
                *state = State::Running(paused.unpause()?);
                Ok(Thaw::Done(begun.elapsed()))
            }
            State::Gone => Ok(Thaw::Gone),
        }
    }

    /// The sandbox's memory, to be lowered or raised; `None` once it is given up.
    pub(crate) fn allotment(&self) -> Option<Allotment> {
        self.look(|state| match state {
            State::Running(running) => Some(running.allotment()),
            State::Paused(paused) => Some(paused.allotment()),
            State::Gone => None,
        })
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.look(|state| matches!(state, State::Paused(_)))
    }

    /// Is there a sandbox, and does it live?
    pub(crate) fn alive(&self) -> bool {
        self.death().is_none() && !self.look(|state| matches!(state, State::Gone))
    }

    /// How the sandbox died, if that is known.
    pub(crate) fn death(&self) -> Option<Death> {
        self.obituary.death()
    }

    /// Like [`Self::death`], but if only the sandbox's silence is known, waits a moment for the pool to report the cause.
    pub(crate) async fn how_it_died(&self) -> Option<Death> {
        let mut obituary = self.obituary();
        let told = tokio::time::timeout(Duration::from_secs(1), obituary.wait());
        told.await.ok().flatten()
    }

    /// Where the sandbox's death will be reported.
    pub(crate) fn obituary(&self) -> Obituary {
        self.obituary.clone()
    }

    /// Has the sandbox destroyed, whatever it is doing.
    pub(crate) fn give_up(&self) {
        *self.state() = State::Gone;
    }
}
