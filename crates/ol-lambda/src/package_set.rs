//! The packages of a version: held in the store as long as the version lives.

use crate::view::View;
use ol_model::steps;
use ol_packages::lock::Lock;
use ol_packages::store::{Lease, Store};
use ol_sandbox::Packages;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A package that a version holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// How long the version waited for it: its fetch and installation, or a look into the store.
    pub(crate) took: Duration,
}

/// What a version uses of the store; it stays there as long as this lives.
#[derive(Debug)]
pub(crate) struct PackageSet {
    lock: Arc<Lock>,
    held: Vec<Held>,
    /// Where sandboxes find them, in order.
    path: Vec<String>,
    view: View,
    used: AtomicBool,
    /// Used since it was touched last?
    recently: AtomicBool,
    /// The lock was found for this version, and isn't kept on disk yet.
    pub(crate) is_new: bool,
}

impl PackageSet {
    /// What `held` are by `lock`; sandboxes see them by `view`.
    pub(crate) fn new(lock: Arc<Lock>, held: Vec<Held>, view: View, is_new: bool) -> Self {
        let path = lock
            .pins()
            .iter()
            .map(|pin| format!("/packages/{pin}/files"));
        Self {
            path: path.collect(),
            lock,
            held,
            view,
            used: AtomicBool::new(false),
            recently: AtomicBool::new(false),
            is_new,
        }
    }

    pub(crate) fn lock(&self) -> &Arc<Lock> {
        &self.lock
    }

    /// What of the store its sandboxes see.
    pub(crate) fn shown(&self) -> Packages {
        self.view.shown()
    }

    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }

    /// A call is about to use them: counts those of `store` that no call has used since the worker began. Cheap but the first time.
    pub(crate) fn used(&self, store: &Store) {
        // Written only if it changes something: many cores come by here.
        if !self.recently.load(Ordering::Relaxed) {
            self.recently.store(true, Ordering::Relaxed);
        }
        if self.used.load(Ordering::Relaxed) || self.used.swap(true, Ordering::Relaxed) {
            return;
        }
        for held in &self.held {
            if store.first_use(held.lease.pin()) {
                steps::PULL_PACKAGE.record(held.took);
            }
        }
    }

    /// Has any call used them since this was asked last?
    pub(crate) fn take_recently(&self) -> bool {
        self.recently.swap(false, Ordering::Relaxed)
    }

    /// Says that they are used still, for whoever collects the oldest. Blocking.
    pub(crate) fn touch(&self) {
        self.held.iter().for_each(|held| held.lease.touch());
    }
}
