//! What can be wrong with an index.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How an index misbehaves when asked for a project's page or files.
#[derive(Debug, Clone)]
pub enum Mischief {
    /// Takes the connection and hangs up.
    HangsUp,
    /// Answers nothing until the gate is opened; then honestly.
    Waits(Gate),
    /// Answers with this status.
    Status(u16),
    /// The page is no page.
    GarbagePage,
    /// Files are random bytes, whose hash the page tells.
    GarbageFile,
    /// The page tells the hash of another file.
    WrongHash,
    /// The page tells no hash.
    NoHash,
    /// Files end in the middle.
    CutsFiles,
    /// The page links its files from this host (`HOST:PORT`).
    LinksFrom(String),
}

/// Closed until it is opened, by a call or when its last owner is gone.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// A closed one.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Lets all pass, now and later.
    pub fn open(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.0.1.notify_all();
    }

    /// Returns once this many requests wait here.
    pub fn until_waiting(&self, count: usize) {
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(state, |state| state.waiting < count));
    }

    pub(super) fn pass(&self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        self.0.1.notify_all();
        drop(self.0.1.wait_while(state, |state| !state.open));
    }
}
