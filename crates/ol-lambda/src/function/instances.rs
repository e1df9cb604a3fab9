//! A function's instances and the calls that wait for one.
//!
//! ```text
//!   acquire ─▶ an idle one? ──▶ Lease ──drop──▶ give_back ─▶ the first who waits, else idle
//!      └─▶ wait (bounded), start one more if fewer start than wait ──ready──▶ give_back
//! ```
//! A waiting call takes whichever comes first: an instance that another call gives back, or one that was started. How many
//! there should be, [`crate::autoscale`] says; it is asked when a call has to wait, when an instance comes or goes, and
//! while calls wait at every beat. Invariant: while calls wait, instances are starting or busy; else one is started.

use super::current::Function;
use super::version::Version;
use crate::autoscale::{Load, ServiceTime};
use crate::instance::Instance;
use crate::invoke::InvokeError;
use crate::lambdas::Shared;
use crate::provision::provision;
use ol_model::{MiB, steps};
use ol_sandbox::Obituary;
use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often is looked whether waiting calls get on.
const BEAT: Duration = Duration::from_millis(25);

#[derive(Default)]
pub(super) struct Instances {
    /// Free, the most recently used last: it is the one with warm caches. One with a concurrency of n is here n times
    /// when nobody uses it.
    idle: Vec<Arc<Instance>>,
    waiting: VecDeque<oneshot::Sender<Result<Lease, InvokeError>>>,
    /// Being provisioned.
    starting: usize,
    /// All of them that were provisioned and not yet given up, for the bound and for people.
    alive: Vec<Arc<Instance>>,
    service: ServiceTime,
    /// Calls that have ended.
    served: u64,
    /// While calls wait: how many had ended at the last beat.
    beat: Option<u64>,
    /// Calls wait and between two beats none ended: what is known of their time doesn't hold now.
    stalled: bool,
    /// When an instance was started or ended by the policy.
    changed: Option<Instant>,
    /// A start waits for memory: what it was told last. Whoever waits too long is told so then.
    short_of_memory: Option<String>,
}

impl Instances {
    fn load(&self, version: &Version, shared: &Shared, least: u32) -> Load {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let lanes: u32 = self.alive.iter().map(|i| i.lanes()).sum();
        Load {
            waiting: count(self.waiting.len()),
            running: lanes.saturating_sub(count(self.idle.len())),
            alive: count(self.alive.len()),
            starting: count(self.starting),
            service: self
                .service
                .lately(shared.settings.policy)
                .filter(|_| !self.stalled),
            lanes: version.lanes(),
            bounds: (least, version.config.instances.max),
            cores: shared.cores,
            since_change: self.changed.map(|at| at.elapsed()),
        }
    }
}

/// What a call gets at once.
enum Place {
    Instance(Arc<Instance>),
    Turn(oneshot::Receiver<Result<Lease, InvokeError>>),
}

/// The right to call an instance once. Its drop gives the instance back.
pub(crate) struct Lease {
    function: Arc<Function>,
    instance: Option<Arc<Instance>>,
    since: Instant,
    took: Option<Duration>,
}

impl Lease {
    /// The guest said how long the call took. Our own clock also counts how long everybody waited for a core: judged by that, a
    /// crowded machine would start ever more instances.
    pub(crate) fn took(&mut self, took: Option<Duration>) {
        self.took = took.or(self.took);
    }

    pub(crate) fn function(&self) -> &Arc<Function> {
        &self.function
    }

    pub(crate) fn instance(&self) -> &Arc<Instance> {
        self.instance
            .as_ref()
            .expect("taken only by drop and into_instance, which consume")
    }

    fn into_instance(mut self) -> Option<Arc<Instance>> {
        self.instance.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.finish();
            if !instance.version.config.reuse_sandbox {
                instance.doom();
            }
            self.function
                .served(self.took.unwrap_or_else(|| self.since.elapsed()));
            self.function.give_back(instance);
        }
    }
}

impl Function {
    fn instances(&self) -> MutexGuard<'_, Instances> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases an instance of the version in service.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease, InvokeError> {
        let begun = Instant::now();
        let turn = loop {
            match self.take_idle_or_wait()? {
                Place::Turn(turn) => break turn,
                Place::Instance(instance) => {
                    if self.is_current(&instance.version) && instance.begin().is_ok() {
                        return Ok(self.lease(instance));
                    }
                    self.drop_instance(&instance);
                }
            }
        };
        let patience = self.shared.settings.queue_wait;
        let lease = match tokio::time::timeout(patience, turn).await {
            Ok(Ok(lease)) => lease?,
            Ok(Err(_closed)) => return Err(InvokeError::Draining),
            Err(_elapsed) => return Err(self.waited(patience)),
        };
        steps::QUEUE.record(begun.elapsed());
        Ok(lease)
    }

    /// Why a call waited in vain.
    fn waited(&self, waited: Duration) -> InvokeError {
        let name = self.name.clone();
        match self.instances().short_of_memory.clone() {
            Some(why) => InvokeError::NoMemory(why),
            None => InvokeError::Waited { name, waited },
        }
    }

    /// A start was told that there is no memory now, and why; or it waits for that no longer.
    pub(crate) fn short_of_memory(&self, why: Option<String>) {
        self.instances().short_of_memory = why;
    }

    fn lease(self: &Arc<Self>, instance: Arc<Instance>) -> Lease {
        Lease {
            function: Arc::clone(self),
            instance: Some(instance),
            since: Instant::now(),
            took: None,
        }
    }

    fn served(&self, took: Duration) {
        let mut instances = self.instances();
        instances.service.record(took, Instant::now());
        instances.served += 1;
        instances.stalled = false;
    }

    /// Under one lock, so that an instance which becomes idle is seen by this call or sees it wait.
    fn take_idle_or_wait(self: &Arc<Self>) -> Result<Place, InvokeError> {
        let mut instances = self.instances();
        if let Some(instance) = instances.idle.pop() {
            return Ok(Place::Instance(instance));
        }
        // Those who left need no place.
        instances.waiting.retain(|waiting| !waiting.is_closed());
        let waiting = instances.waiting.len();
        if waiting >= self.shared.settings.queue_per_function {
            return Err(InvokeError::QueueFull {
                name: self.name.clone(),
                waiting,
            });
        }
        let (sender, turn) = oneshot::channel();
        instances.waiting.push_back(sender);
        self.start_missing(&mut instances, 0);
        if instances.beat.is_none() {
            instances.beat = Some(instances.served);
            tokio::spawn(beat(Arc::downgrade(self)));
        }
        Ok(Place::Turn(turn))
    }

    /// Starts what the policy misses, at least up to `least` instances in all.
    fn start_missing(self: &Arc<Self>, instances: &mut Instances, least: u32) {
        let Some(version) = self.known_version() else {
            // Deleted while they waited.
            for waiting in instances.waiting.drain(..) {
                let _ = waiting.send(Err(InvokeError::NotFound(self.name.clone())));
            }
            return;
        };
        // Those who left need nothing started.
        instances.waiting.retain(|waiting| !waiting.is_closed());
        let load = instances.load(&version, &self.shared, least);
        for _ in 0..self.shared.settings.policy.starts(&load) {
            instances.changed = Some(Instant::now());
            instances.starting += 1;
            let (function, version) = (Arc::clone(self), Arc::clone(&version));
            tokio::spawn(async move {
                let started = Starting {
                    function: &function,
                    done: false,
                };
                let result = provision(&function, version).await;
                started.done(result);
            });
        }
    }

    /// Do as many calls wait as instances start? If fewer do, a start that has got nothing yet may be withdrawn, unless the
    /// function is to have instances even so.
    pub(crate) fn wants_start(&self, version: &Version) -> bool {
        let mut instances = self.instances();
        instances.waiting.retain(|waiting| !waiting.is_closed());
        let all = instances.alive.len() + instances.starting;
        instances.waiting.len() >= instances.starting
            || all <= version.config.instances.min as usize
    }

    /// At times: lets go of instances that the policy finds too many, and sees to the fewest that there should be.
    pub(crate) fn tend(self: &Arc<Self>) {
        let Some(version) = self.known_version() else {
            return;
        };
        let settings = &self.shared.settings;
        let least = version.config.instances.min;
        loop {
            let surplus = {
                let instances = self.instances();
                let load = instances.load(&version, &self.shared, least);
                let unused = instances.idle.iter().filter(|i| !i.in_use());
                unused
                    .min_by_key(|i| i.last_used())
                    .filter(|i| {
                        let idle = i.last_used().elapsed();
                        settings.policy.ends(&load, idle, settings.keep_idle)
                    })
                    .cloned()
            };
            let Some(surplus) = surplus else { break };
            self.instances().changed = Some(Instant::now());
            self.drop_instance(&surplus);
        }
        self.start_missing(&mut self.instances(), least);
    }

    fn started(self: &Arc<Self>, result: Result<Option<Arc<Instance>>, InvokeError>) {
        let mut instances = self.instances();
        instances.starting -= 1;
        match result {
            // Nobody waited for it any more; somebody may since.
            Ok(None) => self.start_missing(&mut instances, 0),
            Ok(Some(instance)) => {
                instances.alive.push(Arc::clone(&instance));
                drop(instances);
                tokio::spawn(bury(
                    Arc::downgrade(self),
                    Arc::downgrade(&instance),
                    instance.obituary(),
                ));
                for _ in 0..instance.lanes() {
                    self.give_back(Arc::clone(&instance));
                }
                self.start_missing(&mut self.instances(), 0);
            }
            Err(error) => {
                let next = next_waiting(&mut instances);
                if !instances.waiting.is_empty() {
                    self.start_missing(&mut instances, 0);
                }
                drop(instances);
                if let Some(waiting) = next {
                    // It may have left just now.
                    let _ = waiting.send(Err(error));
                }
            }
        }
    }

    /// An instance is free: the first who waits gets it.
    pub(super) fn give_back(self: &Arc<Self>, instance: Arc<Instance>) {
        let mut instance = instance;
        loop {
            let next = {
                let mut instances = self.instances();
                // Under the lock that a new version takes to retire the idle ones.
                if !instance.alive() || !self.is_current(&instance.version) {
                    drop(instances);
                    return self.drop_instance(&instance);
                }
                let next = next_waiting(&mut instances);
                if next.is_none() {
                    instances.idle.push(Arc::clone(&instance));
                }
                next
            };
            let Some(waiting) = next else {
                return self.shared.pauser.idle(&instance);
            };
            if instance.begin().is_err() {
                // Keep the call's turn: put it back in front and look at what is wrong with the instance.
                self.instances().waiting.push_front(waiting);
                continue;
            }
            match waiting.send(Ok(self.lease(instance))) {
                Ok(()) => return,
                Err(returned) => {
                    // The caller left between our look and the sending.
                    let Some(back) = returned.ok().and_then(Lease::into_instance) else {
                        return;
                    };
                    back.finish();
                    instance = back;
                }
            }
        }
    }

    /// Lets go of an instance; its sandbox ends when nobody uses it any more.
    fn drop_instance(self: &Arc<Self>, instance: &Arc<Instance>) {
        let mut instances = self.instances();
        instances.idle.retain(|other| !Arc::ptr_eq(other, instance));
        instances
            .alive
            .retain(|other| !Arc::ptr_eq(other, instance));
        self.start_missing(&mut instances, 0);
        drop(instances);
        self.part_with(instance);
    }

    /// Bids a guest farewell that wants to be told of its end.
    fn part_with(&self, instance: &Arc<Instance>) {
        if let Some(farewell) = instance.farewell() {
            self.shared.farewell(farewell);
        }
    }

    /// Since when the instance that nobody uses for longest is idle; `None` if all are in use.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let instances = self.instances();
        instances
            .idle
            .iter()
            .filter(|i| !i.in_use())
            .map(|i| i.last_used())
            .min()
    }

    /// Ends that instance; says how much memory comes back.
    pub(crate) fn end_idlest(self: &Arc<Self>) -> Option<MiB> {
        let idlest = {
            let instances = self.instances();
            let unused = instances.idle.iter().filter(|i| !i.in_use());
            Arc::clone(unused.min_by_key(|i| i.last_used())?)
        };
        self.drop_instance(&idlest);
        Some(idlest.version.limits.mem)
    }

    /// Ends the sandboxes of all instances, whatever they do.
    pub(super) fn doom_all(&self) {
        let mut instances = self.instances();
        instances.idle.clear();
        instances.waiting.clear();
        for instance in instances.alive.drain(..) {
            instance.doom();
        }
    }

    /// Lets go of all idle instances that are not of the version in service.
    pub(super) fn retire_idle(&self) {
        let mut instances = self.instances();
        let keep = |instance: &Arc<Instance>| self.is_current(&instance.version);
        let Instances { idle, alive, .. } = &mut *instances;
        // One that is busy stays known until it is given back.
        let old: Vec<_> = alive
            .extract_if(.., |instance| {
                !keep(instance) && idle.iter().any(|other| Arc::ptr_eq(other, instance))
            })
            .collect();
        idle.retain(keep);
        drop(instances);
        old.iter().for_each(|instance| self.part_with(instance));
    }

    /// For people: each instance, and how many calls wait.
    pub(crate) fn describe(&self) -> Vec<String> {
        let instances = self.instances();
        let mut lines: Vec<String> = instances.alive.iter().map(|i| i.describe()).collect();
        if instances.starting + instances.waiting.len() > 0 {
            lines.push(format!(
                "{} starting, {} calls waiting",
                instances.starting,
                instances.waiting.len()
            ));
        }
        lines
    }
}

/// While calls wait: asks at every beat whether more instances are due, for some may be kept by calls that take longer
/// than any before.
async fn beat(function: Weak<Function>) {
    loop {
        tokio::time::sleep(BEAT).await;
        let Some(function) = function.upgrade() else {
            return;
        };
        let mut instances = function.instances();
        instances.waiting.retain(|waiting| !waiting.is_closed());
        if instances.waiting.is_empty() {
            instances.beat = None;
            return;
        }
        let served = instances.served;
        instances.stalled = instances.beat.replace(served) == Some(served);
        function.start_missing(&mut instances, 0);
    }
}

/// Lets go of an instance when its sandbox dies, so that its memory is free before somebody calls it again.
async fn bury(function: Weak<Function>, instance: Weak<Instance>, mut obituary: Obituary) {
    obituary.wait().await;
    if let (Some(function), Some(instance)) = (function.upgrade(), instance.upgrade()) {
        function.drop_instance(&instance);
        // If a call is in flight on it, that call learns by its socket.
        instance.doom();
    }
}

/// The first who still waits.
fn next_waiting(instances: &mut Instances) -> Option<oneshot::Sender<Result<Lease, InvokeError>>> {
    loop {
        let waiting = instances.waiting.pop_front()?;
        if !waiting.is_closed() {
            return Some(waiting);
        }
    }
}

/// Makes sure that a start is counted as ended even if its task is dropped (at shutdown) or panics.
struct Starting<'a> {
    function: &'a Arc<Function>,
    done: bool,
}

impl Starting<'_> {
    fn done(mut self, result: Result<Option<Arc<Instance>>, InvokeError>) {
        self.done = true;
        self.function.started(result);
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.function.started(Err(InvokeError::Internal(
                "a sandbox's start was cut short",
            )));
        }
    }
}
