//! Starts and ends instances, so that their number follows the load; [`crate::autoscale`] says how many there should be.
//!
//! It asks when a call has to wait, when an instance comes or goes, at every beat while calls wait, and now and then.

use super::provision::{Demand, provision};
use super::table::{Instances, Table};
use crate::autoscale::Load;
use crate::instance::Instance;
use crate::invoke::InvokeError;
use crate::resources::Resources;
use crate::version::Version;
use ol_sandbox::Obituary;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How often to check whether waiting calls make progress.
const BEAT: Duration = Duration::from_millis(25);

/// How long to wait before the next try after a failed start that no call waited for.
const FIRST_REST: Duration = Duration::from_secs(1);

impl Table {
    /// Calls being served.
    fn running(&self) -> u32 {
        let lanes: u32 = self.alive.iter().map(|i| i.lanes()).sum();
        lanes.saturating_sub(u32::try_from(self.idle.len()).unwrap_or(u32::MAX))
    }

    fn load(&self, version: &Version, resources: &Resources, least: u32) -> Load {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Load {
            waiting: count(self.waiting.len()),
            running: self.running(),
            alive: count(self.alive.len()),
            starting: count(self.starting),
            service: self
                .service
                .lately(resources.settings.rule)
                .filter(|_| !self.stalled),
            stalled: self.stalled,
            lanes: version.lanes(),
            bounds: (least, version.config.instances.max),
            cores: resources.cores,
            since_change: self.changed.map(|at| at.elapsed()),
        }
    }
}

impl Instances {
    /// Starts as many instances as the rule asks for, and at least enough to have `least` in all.
    pub(super) fn start_missing(self: &Arc<Self>, table: &mut Table, least: u32) {
        let Some(version) = table.version.clone() else {
            // The function was deleted while they waited.
            let gone = InvokeError::NotFound(self.name.clone());
            return table.waiting.send_away(Some(&gone));
        };
        let load = table.load(&version, &self.resources, least);
        for _ in 0..self.resources.settings.rule.starts(&load) {
            table.changed = Some(Instant::now());
            table.starting += 1;
            let (instances, version) = (Arc::clone(self), Arc::clone(&version));
            tokio::spawn(async move {
                let started = Starting {
                    instances: &instances,
                    done: false,
                };
                let result = instances.start_one(version, Demand::Calls).await;
                started.done(result);
            });
        }
    }

    /// The error for a call that waited in vain.
    fn waited(&self, table: &Table) -> InvokeError {
        let name = self.name.clone();
        let waited = self.resources.settings.queue_wait;
        match &table.memory_shortage {
            Some(error) => InvokeError::NoMemory(error.to_string()),
            None => InvokeError::Waited { name, waited },
        }
    }

    /// Makes sure that a task watches the waiting calls.
    pub(super) fn watch_queue(self: &Arc<Self>, table: &mut Table) {
        if table.beat.is_none() {
            table.beat = Some((table.served, false));
            tokio::spawn(beat(Arc::downgrade(self)));
        }
    }

    /// Do at least as many calls wait as instances start?
    ///
    /// If not, a start that has no memory yet may be withdrawn, unless the function's minimum of instances needs it.
    pub(crate) fn wants_start(&self, version: &Version) -> bool {
        let mut table = self.table();
        table.waiting.prune();
        let all = table.alive.len() + table.starting;
        table.waiting.len() >= table.starting || all <= version.config.instances.min as usize
    }

    /// From time to time: ends instances that the rule finds too many, and starts those missing from the minimum.
    pub(crate) fn tend(self: &Arc<Self>) {
        let Some(version) = self.table().version.clone() else {
            return;
        };
        let settings = &self.resources.settings;
        let least = version.config.instances.min;
        loop {
            let surplus = {
                let table = self.table();
                let load = table.load(&version, &self.resources, least);
                let unused = table.idle.iter().filter(|i| !i.in_use());
                unused
                    .min_by_key(|i| i.last_used())
                    .filter(|i| {
                        let idle = i.last_used().elapsed();
                        settings.rule.ends(&load, idle, settings.keep_idle)
                    })
                    .cloned()
            };
            let Some(surplus) = surplus else { break };
            self.table().changed = Some(Instant::now());
            self.drop_instance(&surplus);
        }
        let mut table = self.table();
        let rests = table.rest.is_some_and(|(until, _)| until > Instant::now());
        self.start_missing(&mut table, if rests { 0 } else { least });
    }

    /// Does a call wait for an instance?
    pub(crate) fn is_waited_for(&self) -> bool {
        let mut table = self.table();
        table.waiting.prune();
        !table.waiting.is_empty()
    }

    /// After a failed start that no call waited for: tells the function's owner, once, and tries again after ever longer pauses.
    pub(super) fn rest(&self, error: &InvokeError) {
        let mut table = self.table();
        let pause = table.rest.map(|(_, pause)| pause * 2);
        table.rest = Some(match pause {
            Some(pause) => {
                let pause = pause.min(Duration::from_secs(60));
                (Instant::now() + pause, pause)
            }
            None => {
                tracing::warn!("{}: an instance could not be started: {error}", self.name);
                (Instant::now() + FIRST_REST, FIRST_REST)
            }
        });
    }

    /// Starts one instance of `version`, which the rule doesn't know of yet.
    pub(crate) async fn start_one(
        self: &Arc<Self>,
        version: Arc<Version>,
        demand: Demand,
    ) -> Result<Option<Arc<Instance>>, InvokeError> {
        provision(self, version, demand).await
    }

    /// Adds a started instance to the table: from now on calls may have it.
    pub(super) fn welcome(self: &Arc<Self>, instance: Arc<Instance>) {
        let mut table = self.table();
        table.alive.push(Arc::clone(&instance));
        table.rest = None;
        drop(table);
        tokio::spawn(bury(
            Arc::downgrade(self),
            Arc::downgrade(&instance),
            instance.obituary(),
        ));
        for _ in 0..instance.lanes() {
            self.give_back(Arc::clone(&instance));
        }
    }

    fn started(self: &Arc<Self>, result: Result<Option<Arc<Instance>>, InvokeError>) {
        let mut table = self.table();
        table.starting -= 1;
        match result {
            // No call waited for it any more; one may wait by now.
            Ok(None) => self.start_missing(&mut table, 0),
            Ok(Some(instance)) => {
                drop(table);
                self.welcome(instance);
                self.start_missing(&mut self.table(), 0);
            }
            Err(error) => {
                let next = table.waiting.next();
                if !table.waiting.is_empty() {
                    self.start_missing(&mut table, 0);
                }
                drop(table);
                match next {
                    // The caller may have left just now.
                    Some((waiting, _)) => drop(waiting.send(Err(error))),
                    None => self.rest(&error),
                }
            }
        }
    }
}

/// While calls wait, at every beat: sends away those that waited too long, and asks whether more instances are due.
///
/// More may be due because all instances are kept busy by calls that take longer than any before.
async fn beat(instances: Weak<Instances>) {
    loop {
        tokio::time::sleep(BEAT).await;
        let Some(instances) = instances.upgrade() else {
            return;
        };
        let mut table = instances.table();
        table.waiting.prune();
        let late = table
            .waiting
            .expired(instances.resources.settings.queue_wait);
        if !late.is_empty() {
            let why = instances.waited(&table);
            for waiting in late {
                // The caller may have left just now.
                let _ = waiting.send(Err(why.clone()));
            }
        }
        if table.waiting.is_empty() {
            table.beat = None;
            return;
        }
        let (served, runs) = (table.served, table.running() > 0);
        table.stalled = table.beat.replace((served, runs)) == Some((served, true));
        instances.start_missing(&mut table, 0);
    }
}

/// Drops an instance when its sandbox dies, so that its memory is free before the next call.
async fn bury(instances: Weak<Instances>, instance: Weak<Instance>, mut obituary: Obituary) {
    obituary.wait().await;
    if let (Some(instances), Some(instance)) = (instances.upgrade(), instance.upgrade()) {
        instances.drop_instance(&instance);
        // A call in flight on it learns of the death from its socket.
        instance.doom();
    }
}

/// Counts a start as ended even if its task is dropped (at shutdown) or panics.
struct Starting<'a> {
    instances: &'a Arc<Instances>,
    done: bool,
}

impl Starting<'_> {
    fn done(mut self, result: Result<Option<Arc<Instance>>, InvokeError>) {
        self.done = true;
        self.instances.started(result);
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.instances.started(Err(InvokeError::Internal(
                "a sandbox's start was cut short",
            )));
        }
    }
}
