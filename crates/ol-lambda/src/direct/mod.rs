//! Sandboxes without functions, made and driven one by one, for experiments (`server_mode: "sock"`).
//!
//! ```text
//!   create ─▶ order ─▶ packages (in the store?) ─▶ code (a version of its own) ─▶ start ─▶ Entry, in the table
//!   pause · unpause · destroy · run ─▶ the entry with that number
//! ```
//! - [`order`]: what a request to create a sandbox may say
//! - `packages`: what of the package store a sandbox sees, and which modules a zygote imports
//! - `code`: makes a version of a directory or a tar.gz
//! - `start`: from an order to a sandbox that runs
//! - `entry`: one sandbox, running or paused
//!
//! Failure: an entry whose sandbox died stays in the table, with how it died, until it is destroyed, since experimenters want to know.
//! Creation fails if there is no memory within [`PATIENCE`]; nothing is ever evicted here.

mod code;
mod entry;
pub mod order;
mod packages;
mod start;

use crate::gauges::Gauges;
use crate::invoke::InvokeError;
use crate::settings::Settings;
use bytes::Bytes;
use entry::Entry;
use ol_sandbox::Pool;
pub use order::Order;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait for memory.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Why a request failed. `Display` is for the client.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// There is no such sandbox.
    #[error("there is no sandbox {0}: POST /create makes one, GET /debug lists those there are")]
    Unknown(String),
    /// The sandbox's state doesn't allow the request.
    #[error("{0}")]
    Conflict(String),
    /// Fails as a call of a function would.
    #[error(transparent)]
    Call(#[from] InvokeError),
}

impl DirectError {
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::Call(InvokeError::BadRequest(text.into()))
    }
}

/// The sandboxes of a worker in sock mode.
pub struct Direct {
    settings: Settings,
    /// The package store.
    packages: PathBuf,
    pool: Arc<dyn Pool>,
    table: Mutex<Table>,
    draining: AtomicBool,
}

#[derive(Default)]
struct Table {
    last: u64,
    entries: BTreeMap<u64, Arc<Entry>>,
}

impl Direct {
    /// Drives sandboxes of `pool`, which see the store `packages`.
    #[must_use]
    pub fn new(settings: Settings, packages: PathBuf, pool: Arc<dyn Pool>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            packages,
            pool,
            table: Mutex::default(),
            draining: AtomicBool::new(false),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Entry>, DirectError> {
        let number: Option<u64> = id.parse().ok();
        let entry = number.and_then(|number| self.table().entries.get(&number).cloned());
        entry.ok_or_else(|| DirectError::Unknown(id.to_owned()))
    }

    /// Can sandboxes be made? Lets the server refuse a request before it has read the order.
    ///
    /// # Errors
    /// [`InvokeError::Draining`].
    pub fn makes(&self) -> Result<(), DirectError> {
        if self.accepts() {
            Ok(())
        } else {
            Err(InvokeError::Draining.into())
        }
    }

    /// Is there a sandbox with this number? Lets the server refuse a request before it has read the event.
    ///
    /// # Errors
    /// [`DirectError::Unknown`].
    pub fn knows(&self, id: &str) -> Result<(), DirectError> {
        self.find(id).map(|_| ())
    }

    /// Makes a sandbox; returns its number. They count from 1, in the order in which they were made.
    ///
    /// # Errors
    /// See [`DirectError`]; nothing remains of a failed attempt.
    pub async fn create(&self, order: Order) -> Result<u64, DirectError> {
        self.makes()?;
        let parent = match order.parent()? {
            Some(id) => Some(self.find(&id)?),
            None => None,
        };
        let entry = self.start(order, parent).await?;
        let mut table = self.table();
        // Shutdown may have begun meanwhile, and then nobody would end this sandbox.
        if !self.accepts() {
            return Err(InvokeError::Draining.into());
        }
        table.last += 1;
        let number = table.last;
        table.entries.insert(number, Arc::new(entry));
        Ok(number)
    }

    /// Ends a sandbox. Sandboxes forked from a zygote outlive it.
    ///
    /// # Errors
    /// When there is no sandbox with this number.
    pub async fn destroy(&self, id: &str) -> Result<(), DirectError> {
        let entry = self.find(id)?;
        let removed = id
            .parse()
            .ok()
            .and_then(|id: u64| self.table().entries.remove(&id));
        if removed.is_none() {
            return Err(DirectError::Unknown(id.to_owned()));
        }
        entry.end();
        Ok(())
    }

    /// Freezes a sandbox; when this returns, it uses no CPU. Does nothing to a paused sandbox.
    ///
    /// # Errors
    /// See [`DirectError`].
    pub async fn pause(&self, id: &str) -> Result<(), DirectError> {
        let entry = self.find(id)?;
        if !self.pool.abilities().freeze {
            return Err(DirectError::bad("this worker's sandboxes can't be paused"));
        }
        let (pool, downsize) = (Arc::clone(&self.pool), self.settings.downsize);
        // A task of its own: a client that stops waiting must not interrupt it.
        let pausing = tokio::spawn(async move { entry.pause(downsize.then_some(&*pool)).await });
        pausing.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Thaws a sandbox. Does nothing to a running sandbox.
    ///
    /// # Errors
    /// See [`DirectError`].
    pub async fn unpause(&self, id: &str) -> Result<(), DirectError> {
        let entry = self.find(id)?;
        entry.unpause(&*self.pool).await
    }

    /// Calls the `f(event)` of a sandbox that has one. If the client stops waiting, the call finishes and its answer is discarded.
    ///
    /// # Errors
    /// See [`DirectError`].
    pub async fn run(&self, id: &str, event: Bytes) -> Result<Bytes, DirectError> {
        let entry = self.find(id)?;
        let call = tokio::spawn(async move { entry.run(&event).await });
        call.await.unwrap_or_else(|_| Err(lost()))
    }

    /// For people: a line for each sandbox, and the free memory.
    pub async fn describe(&self) -> String {
        let entries = self.table().entries.clone();
        let mut text = String::new();
        for (number, entry) in entries {
            text += &format!("sandbox {number}: {}\n", entry.describe());
        }
        text + &format!("{} MiB of memory free\n", self.pool.free_memory().0)
    }

    /// What the worker holds now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sandboxes: self.table().entries.len(),
            ..Gauges::new(self.pool.free_memory())
        }
    }

    /// Can sandboxes be made?
    pub fn accepts(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
    }

    /// Makes no sandboxes from now on.
    pub fn stop_accepting(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ends every sandbox, and waits at most `patience` until the kernel has nothing left of any. Returns false if something was left.
    pub async fn end(&self, patience: Duration) -> bool {
        self.stop_accepting();
        let entries = std::mem::take(&mut self.table().entries);
        for entry in entries.into_values() {
            entry.end();
        }
        let drained = self.pool.drained();
        tokio::time::timeout(patience, drained).await.is_ok()
    }
}

fn lost() -> DirectError {
    InvokeError::Internal("a request was lost").into()
}
