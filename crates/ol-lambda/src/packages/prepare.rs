//! The packages of one version: locked, in the store, leased.

use super::failure::Failure;
use super::install::{Held, install};
use super::kept::Question;
use super::resolve::resolve;
use super::view::View;
use crate::shared::Shared;
use ol_model::{FunctionName, steps};
use ol_packages::lock::Lock;
use ol_packages::requirements::Requirements;
use ol_sandbox::Packages;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// What the lock answers, if it isn't kept yet.
    new: Option<Question>,
}

impl PackageSet {
    /// Keeps the lock for after a restart. Not for a version that was replaced or deleted while its packages were got: its lock
    /// would take the place of its successor's.
    pub(crate) async fn keep(
        &self,
        shared: &Arc<Shared>,
        name: &FunctionName,
    ) -> Result<(), Failure> {
        match &self.new {
            Some(question) => keep(shared, name, question.clone(), Arc::clone(&self.lock)).await,
            None => Ok(()),
        }
    }

    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What of the store its sandboxes see.
    pub(crate) fn shown(&self) -> Packages {
        self.view.shown()
    }

    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }

    /// A call is about to use them: counts those that no call has used since the worker began. Cheap but the first time.
    pub(crate) fn used(&self, shared: &Shared) {
        // Written only if it changes something: many cores come by here.
        if !self.recently.load(Ordering::Relaxed) {
            self.recently.store(true, Ordering::Relaxed);
        }
        if self.used.load(Ordering::Relaxed) || self.used.swap(true, Ordering::Relaxed) {
            return;
        }
        let store = &shared.packages.settings.store;
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

/// Gets the packages that `wanted` asks for; `says` is told what is being done.
pub(crate) async fn prepare(
    shared: &Arc<Shared>,
    name: &FunctionName,
    wanted: &Requirements,
    says: &(dyn Fn(String) + Sync),
) -> Result<PackageSet, Failure> {
    let settings = &shared.packages.settings;
    let question = Question::new(wanted.digest(), &settings.python, settings.allow_sdist);
    let known = {
        let (shared, name, question) = (Arc::clone(shared), name.clone(), question.clone());
        tokio::task::spawn_blocking(move || shared.packages.kept.of(&name, &question))
            .await
            .unwrap_or_default()
    };
    let (lock, held, new) = match known {
        Some(lock) => {
            let held = install(shared, name.as_str(), &lock, says).await?;
            (Arc::new(lock), held, None)
        }
        None => {
            says("finding out which packages are needed".to_owned());
            let lock = resolve(shared, &question, wanted).await?;
            // What the index said is believed for good only once it has been had: it may have told of a broken file, which
            // is then replaced.
            let held = install(shared, name.as_str(), &lock, says)
                .await
                .inspect_err(|_| shared.packages.resolving.forget(&question))?;
            (lock, held, Some(question))
        }
    };
    let path = lock
        .pins()
        .iter()
        .map(|pin| format!("/packages/{pin}/files"));
    let view = lay_out(shared, &lock).await?;
    Ok(PackageSet {
        view,
        path: path.collect(),
        held,
        lock,
        used: AtomicBool::new(false),
        recently: AtomicBool::new(false),
        new,
    })
}

async fn lay_out(shared: &Arc<Shared>, lock: &Arc<Lock>) -> Result<View, Failure> {
    let (code, lock) = (shared.settings.code.clone(), Arc::clone(lock));
    let laying = tokio::task::spawn_blocking(move || {
        let entries = lock.pins().iter().map(|pin| format!("{pin}/files"));
        View::lay_out(&code, entries)
    });
    laying
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| {
            tracing::error!("packages can't be laid out: {error}");
            Failure(
                "its packages can't be laid out on this worker's disk; its log says more\n"
                    .to_owned(),
            )
        })
}

async fn keep(
    shared: &Arc<Shared>,
    name: &FunctionName,
    question: Question,
    lock: Arc<Lock>,
) -> Result<(), Failure> {
    let (shared, name) = (Arc::clone(shared), name.clone());
    let kept =
        tokio::task::spawn_blocking(move || shared.packages.kept.keep(&name, &question, &lock));
    kept.await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| {
            tracing::error!("a lock can't be kept: {error}");
            Failure(
                "what was found out can't be kept on this worker's disk; its log says more\n"
                    .to_owned(),
            )
        })
}
