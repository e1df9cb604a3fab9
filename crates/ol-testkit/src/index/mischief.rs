//! The ways in which an index can misbehave.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How an index misbehaves when asked for a project's page or files.
#[derive(Debug, Clone)]
pub enum Mischief {
    /// Accepts the connection and closes it.
    HangsUp,
    /// Doesn't answer until the gate is opened; then answers honestly.
    Waits(Gate),
    /// Answers with this status.
    Status(u16),
    /// The page is no page.
    GarbagePage,
    /// Files are garbage, but have the hash that the page lists.
    GarbageFile,
    /// The page lists a wrong hash.
    WrongHash,
    /// The page lists no hash.
    NoHash,
    /// Files end in the middle.
    CutsFiles,
    /// The page's links lead to this host (`HOST:PORT`).
    LinksFrom(String),
}

/// A gate that is closed until somebody calls [`Gate::open`] or the index that it was given to is dropped.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    waiting: usize,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Lets all requests pass, now and later.
    pub fn open(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.0.1.notify_all();
    }

    /// Returns once this many requests wait at the gate.
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
