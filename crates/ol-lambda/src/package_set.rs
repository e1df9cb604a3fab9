//! The packages of a version: leased in the store as long as the version lives.

use crate::view::View;
use ol_install::{Held, Prepared};
use ol_model::steps;
use ol_packages::lock::Lock;
use ol_packages::store::Store;
use ol_sandbox::Packages;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The packages that a version uses; they stay in the store as long as this lives.
#[derive(Debug)]
pub(crate) struct PackageSet {
    lock: Arc<Lock>,
    held: Vec<Held>,
    /// Where sandboxes find the packages, in order.
    path: Vec<String>,
    view: View,
    used: AtomicBool,
    /// Have calls used the packages since they were last touched?
    recently: AtomicBool,
    /// The lock was found for this version, and isn't saved to disk yet.
    pub(crate) is_new: bool,
}

impl PackageSet {
    /// Makes the set of what was `prepared`, and lays out in `code` what sandboxes see of the store. Blocking.
    pub(crate) fn lay_out(code: &Path, prepared: Prepared) -> io::Result<Self> {
        let Prepared { lock, held, is_new } = prepared;
        let entries = lock.pins().iter().map(|pin| format!("{pin}/files"));
        let view = View::lay_out(code, entries)?;
        let path = lock
            .pins()
            .iter()
            .map(|pin| format!("/packages/{pin}/files"));
        Ok(Self {
            path: path.collect(),
            lock,
            held,
            view,
            used: AtomicBool::new(false),
            recently: AtomicBool::new(false),
            is_new,
        })
    }

    pub(crate) fn lock(&self) -> &Arc<Lock> {
        &self.lock
    }

    /// What sandboxes of this version see of the store.
    pub(crate) fn shown(&self) -> Packages {
        self.view.shown()
    }

    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }

    /// A call is about to use the packages: times those that no call has used since the worker began. Cheap after the first call.
    pub(crate) fn used(&self, store: &Store) {
        // Written only if it changes something: many cores run this.
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

    /// Have calls used the packages since this was last asked?
    pub(crate) fn take_recently(&self) -> bool {
        self.recently.swap(false, Ordering::Relaxed)
    }

    /// Marks the packages as used in the store, so that they aren't collected as the oldest. Blocking.
    pub(crate) fn touch(&self) {
        self.held.iter().for_each(|held| held.lease.touch());
    }
}
