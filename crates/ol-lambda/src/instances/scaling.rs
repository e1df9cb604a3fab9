//! Instances follow the load: [`crate::autoscale`] says how many there should be, here they are started and
//! ended. It is asked when a call has to wait, when an instance comes or goes, while calls wait at every beat, and now and then.

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

/// How often is looked whether waiting calls get on.
const BEAT: Duration = Duration::from_millis(25);

/// How long after a failed start that nobody waited for another is tried.
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
                .lately(resources.settings.policy)
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
    /// Starts what the policy misses, at least up to `least` instances in all.
    pub(super) fn start_missing(self: &Arc<Self>, table: &mut Table, least: u32) {
        let Some(version) = table.version.clone() else {
            // Deleted while they waited.
            let gone = InvokeError::NotFound(self.name.clone());
            return table.waiting.send_away(Some(&gone));
        };
        let load = table.load(&version, &self.resources, least);
        for _ in 0..self.resources.settings.policy.starts(&load) {
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

    /// Why a call waited in vain.
    fn waited(&self, table: &Table) -> InvokeError {
        let name = self.name.clone();
        let waited = self.resources.settings.queue_wait;
        match table.short_of_memory.clone() {
            Some(why) => InvokeError::NoMemory(why),
            None => InvokeError::Waited { name, waited },
        }
    }

    /// Sees to it that somebody looks after those who wait.
    pub(super) fn watch_queue(self: &Arc<Self>, table: &mut Table) {
        if table.beat.is_none() {
            table.beat = Some((table.served, false));
            tokio::spawn(beat(Arc::downgrade(self)));
        }
    }

    /// Do as many calls wait as instances start? If fewer do, a start that has got nothing yet may be withdrawn, unless there
    /// are to be instances even so.
    pub(crate) fn wants_start(&self, version: &Version) -> bool {
        let mut table = self.table();
        table.waiting.prune();
        let all = table.alive.len() + table.starting;
        table.waiting.len() >= table.starting || all <= version.config.instances.min as usize
    }

    /// At times: lets go of instances that the policy finds too many, and sees to the fewest that there should be.
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
                        settings.policy.ends(&load, idle, settings.keep_idle)
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

    /// After a start that failed with nobody there to be told: the owner is told, once, and it is tried again ever later.
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

    /// Starts one of `version`, which the policy of their number doesn't know of yet.
    pub(crate) async fn start_one(
        self: &Arc<Self>,
        version: Arc<Version>,
        demand: Demand,
    ) -> Result<Option<Arc<Instance>>, InvokeError> {
        provision(self, version, demand).await
    }

    /// A started instance is one of them from now on: calls may have it.
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
            // Nobody waited for it any more; somebody may since.
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
                    // It may have left just now.
                    Some((waiting, _)) => drop(waiting.send(Err(error))),
                    None => self.rest(&error),
                }
            }
        }
    }
}

/// While calls wait: at every beat sends away who waited too long, and asks whether more instances are due, for some may be kept
/// by calls that take longer than any before.
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
                // It may have left just now.
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

/// Lets go of an instance when its sandbox dies, so that its memory is free before somebody calls it again.
async fn bury(instances: Weak<Instances>, instance: Weak<Instance>, mut obituary: Obituary) {
    obituary.wait().await;
    if let (Some(instances), Some(instance)) = (instances.upgrade(), instance.upgrade()) {
        instances.drop_instance(&instance);
        // If a call is in flight on it, that call learns by its socket.
        instance.doom();
    }
}

/// Makes sure that a start is counted as ended even if its task is dropped (at shutdown) or panics.
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
