//! Those there are. An idle one is always of the version that serves; one of a version before is known until its last call is over.

use super::queue::Queue;
use crate::autoscale::ServiceTime;
use crate::gauges::Gauges;
use crate::instance::Instance;
use crate::invocation::InvocationId;
use crate::invoke::InvokeError;
use crate::output::Log;
use crate::resources::Resources;
use crate::version::Version;
use ol_model::{FunctionName, MiB};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The folder of the logs of sandboxes of ours; no log is called so, for logs end in `.log`.
const OURS: &str = "worker";

/// The instances of one function, or of one installer.
pub(crate) struct Instances {
    /// What they are called, towards their code and in words.
    pub(crate) name: FunctionName,
    pub(crate) resources: Arc<Resources>,
    /// What they print.
    pub(crate) log: Arc<Log>,
    table: Mutex<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    /// What new ones are made of; without it there are none, and nobody waits for one.
    pub(super) version: Option<Arc<Version>>,
    /// Free, the most recently used last: it is the one with warm caches. One with a concurrency of n is here n times
    /// when nobody uses it.
    pub(super) idle: Vec<Arc<Instance>>,
    pub(super) waiting: Queue,
    /// Being provisioned.
    pub(super) starting: usize,
    /// All of them that were provisioned and not yet given up, for the bound and for people.
    pub(super) alive: Vec<Arc<Instance>>,
    pub(super) service: ServiceTime,
    /// Calls that have ended.
    pub(super) served: u64,
    /// While calls wait: how many had ended at the last beat, and whether any ran.
    pub(super) beat: Option<(u64, bool)>,
    /// Calls wait and run, and between two beats none ended: what is known of their time doesn't hold now.
    pub(super) stalled: bool,
    /// When an instance was started or ended by the policy.
    pub(super) changed: Option<Instant>,
    /// Starts that nobody waited for failed: not before then again, and how long the pause was.
    pub(super) rest: Option<(Instant, Duration)>,
    /// A start waits for memory: what it was told last. Whoever waits too long is told so then.
    pub(super) short_of_memory: Option<String>,
}

impl Table {
    /// Is `version` the one that serves?
    pub(super) fn serves(&self, version: &Arc<Version>) -> bool {
        is(self.version.as_ref(), version)
    }
}

fn is(serving: Option<&Arc<Version>>, version: &Arc<Version>) -> bool {
    serving.is_some_and(|serving| Arc::ptr_eq(serving, version))
}

impl Instances {
    /// None yet, of no version, for the function called `name`.
    pub(crate) fn of(name: FunctionName, resources: Arc<Resources>) -> Arc<Self> {
        let logs = resources.settings.logs.clone();
        Self::with_log(name, resources, &logs)
    }

    /// Those of a version of ours, which is no function's. Their log lies apart from those of functions.
    pub(crate) fn of_ours(
        name: FunctionName,
        resources: Arc<Resources>,
        version: Arc<Version>,
    ) -> io::Result<Arc<Self>> {
        let logs = resources.settings.logs.join(OURS);
        std::fs::create_dir_all(&logs)?;
        let instances = Self::with_log(name, resources, &logs);
        instances.table().version = Some(version);
        Ok(instances)
    }

    fn with_log(name: FunctionName, resources: Arc<Resources>, logs: &Path) -> Arc<Self> {
        Arc::new(Self {
            log: Arc::new(Log::new(
                logs,
                &name,
                resources.settings.retention,
                Arc::clone(&resources.output),
            )),
            name,
            resources,
            table: Mutex::default(),
        })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on calls get instances of `version`; idle ones of another are gone when this returns.
    /// `first` is one of them already.
    pub(crate) fn serve(self: &Arc<Self>, version: Arc<Version>, first: Option<Arc<Instance>>) {
        self.replace(Some(version));
        if let Some(first) = first {
            self.table().changed = Some(Instant::now());
            self.welcome(first);
        }
        self.tend();
    }

    /// The same of one that can't be started: calls try it, and are told `error` or another. The fewest that there should be are tried
    /// later.
    pub(crate) fn serve_broken(self: &Arc<Self>, version: Arc<Version>, error: &InvokeError) {
        self.replace(Some(version));
        self.rest(error);
    }

    /// From now on there is no version to call: who still waits for an instance is told so at the next beat.
    pub(crate) fn retire(&self) {
        self.replace(None);
    }

    /// Ends the sandboxes of all, whatever they do, and sends away who waits.
    pub(crate) fn end(&self) {
        self.retire();
        let mut table = self.table();
        table.idle.clear();
        table.waiting.send_away(None);
        for instance in table.alive.drain(..) {
            instance.doom();
        }
    }

    /// Under the lock that idle instances are taken and given back under.
    fn replace(&self, version: Option<Arc<Version>>) {
        let mut table = self.table();
        let before = std::mem::replace(&mut table.version, version);
        // What kept the one before from starting says nothing of another version.
        table.rest = None;
        let Table {
            version,
            idle,
            alive,
            ..
        } = &mut *table;
        let keep = |instance: &Arc<Instance>| is(version.as_ref(), &instance.version);
        // One that is busy stays known until it is given back.
        let old: Vec<_> = alive
            .extract_if(.., |instance| {
                !keep(instance) && idle.iter().any(|other| Arc::ptr_eq(other, instance))
            })
            .collect();
        idle.retain(keep);
        drop(table);
        drop(before);
        old.iter().for_each(|instance| self.part_with(instance));
    }

    /// Lets go of an instance; its sandbox ends when nobody uses it any more.
    pub(super) fn drop_instance(self: &Arc<Self>, instance: &Arc<Instance>) {
        let mut table = self.table();
        table.idle.retain(|other| !Arc::ptr_eq(other, instance));
        table.alive.retain(|other| !Arc::ptr_eq(other, instance));
        self.start_missing(&mut table, 0);
        drop(table);
        self.part_with(instance);
    }

    /// Bids a guest farewell that wants to be told of its end.
    pub(crate) fn part_with(&self, instance: &Arc<Instance>) {
        if let Some(farewell) = instance.farewell(Arc::clone(&self.resources.pool)) {
            self.resources.farewell(farewell);
        }
    }

    /// Since when the instance that nobody uses for longest is idle; `None` if all are in use.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let table = self.table();
        let unused = table.idle.iter().filter(|i| !i.in_use());
        unused.map(|i| i.last_used()).min()
    }

    /// Ends that instance; says how much memory comes back.
    pub(crate) fn end_idlest(self: &Arc<Self>) -> Option<MiB> {
        let idlest = {
            let table = self.table();
            let unused = table.idle.iter().filter(|i| !i.in_use());
            Arc::clone(unused.min_by_key(|i| i.last_used())?)
        };
        let memory = idlest.memory();
        self.drop_instance(&idlest);
        Some(memory)
    }

    /// Keeps in the log what the owner must see; what is the caller's or the worker's affair stays out of it.
    pub(crate) fn note(&self, id: InvocationId, error: &InvokeError) {
        use InvokeError::{BadAnswer, CannotStart, Died, Raised, TimeLimit};
        if matches!(
            error,
            BadAnswer(_) | CannotStart(_) | Died { .. } | Raised(_) | TimeLimit { .. }
        ) {
            self.log.note(id, &error.to_string());
        }
    }

    /// Adds these, and the calls that wait for one.
    pub(crate) fn add_to(&self, held: &mut Gauges) {
        let table = self.table();
        held.sandboxes += table.alive.len();
        held.starting += table.starting;
        held.waiting += table.waiting.len();
    }

    /// For people: each instance, and how many calls wait.
    pub(crate) fn describe(&self) -> Vec<String> {
        let table = self.table();
        let mut lines: Vec<String> = table.alive.iter().map(|i| i.describe()).collect();
        if table.starting + table.waiting.len() > 0 {
            lines.push(format!(
                "{} starting, {} calls waiting",
                table.starting,
                table.waiting.len()
            ));
        }
        lines
    }
}
