//! The table of instances.
//!
//! An idle instance always belongs to the version that serves; an instance of an older version stays until its last call ends.

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
use ol_sandbox::CreateError;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The folder for logs of the worker's own sandboxes; it can't clash with a function's log, for those end in `.log`.
const OURS: &str = "worker";

/// The instances of one function, or of one installer.
pub(crate) struct Instances {
    /// The name that their code and messages know.
    pub(crate) name: FunctionName,
    pub(crate) resources: Arc<Resources>,
    /// The log of what they print.
    pub(crate) log: Arc<Log>,
    table: Mutex<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    /// The version that new instances are made of; without one there are no instances, and no call waits.
    pub(super) version: Option<Arc<Version>>,
    /// Free instances, the most recently used last: that one has warm caches.
    ///
    /// An instance with a concurrency of n is here n times when it is unused.
    pub(super) idle: Vec<Arc<Instance>>,
    pub(super) waiting: Queue,
    /// How many are being provisioned.
    pub(super) starting: usize,
    /// All instances that were provisioned and not yet given up, for the limit and for `describe`.
    pub(super) alive: Vec<Arc<Instance>>,
    pub(super) service: ServiceTime,
    /// How many calls have ended.
    pub(super) served: u64,
    /// While calls wait: how many calls had ended at the last beat, and whether any was running.
    pub(super) beat: Option<(u64, bool)>,
    /// Calls wait and run, and none ended between two beats: the known service time doesn't hold now.
    pub(super) stalled: bool,
    /// When the rule last started or ended an instance.
    pub(super) changed: Option<Instant>,
    /// After failed starts that no call waited for: when the next try is due, and how long the pause before it is.
    pub(super) rest: Option<(Instant, Duration)>,
    /// Why a start that waits for memory has none; calls that wait too long are told this.
    pub(super) memory_shortage: Option<CreateError>,
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
    /// An empty table, without a version, for the function called `name`.
    pub(crate) fn of(name: FunctionName, resources: Arc<Resources>) -> Arc<Self> {
        let logs = resources.settings.logs.clone();
        Self::with_log(name, resources, &logs)
    }

    /// A table for a program of the worker itself, which is no function. Its log lies apart from those of functions.
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

    /// From now on calls get instances of `version`; idle instances of another version are gone when this returns.
    ///
    /// `first`, if given, is already an instance of `version`.
    pub(crate) fn serve(self: &Arc<Self>, version: Arc<Version>, first: Option<Arc<Instance>>) {
        self.replace(Some(version));
        if let Some(first) = first {
            self.table().changed = Some(Instant::now());
            self.welcome(first);
        }
        self.tend();
    }

    /// Like [`Self::serve`], for a version that can't be started: calls try it, and are told `error` or another error.
    ///
    /// The minimum of instances is tried later.
    pub(crate) fn serve_broken(self: &Arc<Self>, version: Arc<Version>, error: &InvokeError) {
        self.replace(Some(version));
        self.rest(error);
    }

    /// From now on there is no version to call: calls that still wait are told so at the next beat.
    pub(crate) fn retire(&self) {
        self.replace(None);
    }

    /// Ends the sandboxes of all instances, whatever they do, and sends waiting calls away.
    pub(crate) fn end(&self) {
        self.retire();
        let mut table = self.table();
        table.idle.clear();
        table.waiting.send_away(None);
        for instance in table.alive.drain(..) {
            instance.doom();
        }
    }

    /// Replaces the version, under the lock under which idle instances are taken and given back.
    fn replace(&self, version: Option<Arc<Version>>) {
        let mut table = self.table();
        let before = std::mem::replace(&mut table.version, version);
        // What kept the previous version from starting says nothing about another.
        table.rest = None;
        let Table {
            version,
            idle,
            alive,
            ..
        } = &mut *table;
        let keep = |instance: &Arc<Instance>| is(version.as_ref(), &instance.version);
        // A busy instance stays known until it is given back.
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

    /// Drops an instance; its sandbox ends when its last user is done.
    pub(super) fn drop_instance(self: &Arc<Self>, instance: &Arc<Instance>) {
        let mut table = self.table();
        table.idle.retain(|other| !Arc::ptr_eq(other, instance));
        table.alive.retain(|other| !Arc::ptr_eq(other, instance));
        self.start_missing(&mut table, 0);
        drop(table);
        self.part_with(instance);
    }

    /// Lets the guest shut down by itself, if it wants to be told of its end.
    pub(crate) fn part_with(&self, instance: &Arc<Instance>) {
        if let Some(farewell) = instance.farewell(Arc::clone(&self.resources.pool)) {
            self.resources.farewell(farewell);
        }
    }

    /// Since when the longest idle instance has been idle; `None` if all are in use.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let table = self.table();
        let unused = table.idle.iter().filter(|i| !i.in_use());
        unused.map(|i| i.last_used()).min()
    }

    /// Ends the longest idle instance; returns how much memory that frees.
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

    /// Writes to the log the errors that concern the function's owner; errors that concern the caller or the worker stay out of it.
    pub(crate) fn note(&self, id: InvocationId, error: &InvokeError) {
        use InvokeError::{BadAnswer, CannotStart, Died, Raised, TimeLimit};
        if matches!(
            error,
            BadAnswer(_) | CannotStart(_) | Died { .. } | Raised(_) | TimeLimit { .. }
        ) {
            self.log.note(id, &error.to_string());
        }
    }

    /// Adds these instances and waiting calls to `held`.
    pub(crate) fn add_to(&self, held: &mut Gauges) {
        let table = self.table();
        held.sandboxes += table.alive.len();
        held.starting += table.starting;
        held.waiting += table.waiting.len();
    }

    /// For people: one line for each instance, and how many calls wait.
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
