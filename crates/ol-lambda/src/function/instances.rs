//! A function's instances and the calls that wait for one.
//!
//! ```text
//!   acquire ─▶ an idle one? ──▶ Lease ──drop──▶ give_back ─▶ the first who waits, else idle
//!      └─▶ wait (bounded), start what is missing ──ready──▶ give_back
//! ```
//! A waiting call takes whichever comes first: an instance that another call gives back, or one that was started. Invariant:
//! while calls wait, instances are starting or busy; else one is started.

use super::current::Function;
use super::queue::Queue;
use crate::autoscale::ServiceTime;
use crate::instance::Instance;
use crate::invoke::InvokeError;
use crate::phases::Phases;
use crate::provision::{TURN, refused};
use ol_model::{MiB, steps};
use ol_sandbox::CreateError;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

#[derive(Default)]
pub(super) struct Instances {
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
    short_of_memory: Option<String>,
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
    pub(super) fn instances(&self) -> MutexGuard<'_, Instances> {
        self.instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Leases an instance of the version in service.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        phases: &mut Phases,
    ) -> Result<Lease, InvokeError> {
        phases.seek();
        let begun = Instant::now();
        let turn = loop {
            match self.take_idle_or_wait()? {
                Place::Turn(turn) => break turn,
                Place::Instance(instance) => {
                    if self.is_current(&instance.version) && instance.begin().is_ok() {
                        instance.first_call();
                        return Ok(self.lease(instance));
                    }
                    self.drop_instance(&instance);
                }
            }
        };
        // Who waits too long is told so by the queue's watch.
        let lease = turn.await.unwrap_or(Err(InvokeError::Draining))?;
        let waited = begun.elapsed();
        steps::QUEUE.record(waited);
        phases.waited(begun, waited, lease.instance().first_call());
        Ok(lease)
    }

    /// Why a call waited in vain.
    pub(super) fn waited(&self, instances: &Instances) -> InvokeError {
        let name = self.name.clone();
        let waited = self.shared.settings.queue_wait;
        match instances.short_of_memory.clone() {
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

    /// Sees to it that an instance whose memory was lowered has it again, before it runs.
    pub(crate) async fn regain(&self, instance: &Instance) -> Result<(), InvokeError> {
        if !instance.is_small() {
            return Ok(());
        }
        let (begun, patience) = (Instant::now(), self.shared.settings.queue_wait);
        loop {
            let missing = instance.version.limits.mem.0
                - instance.memory().0.min(instance.version.limits.mem.0);
            self.shared.make_room(MiB(missing));
            let left = patience.saturating_sub(begun.elapsed());
            match instance.regain(&*self.shared.pool, TURN.min(left)).await {
                Err(CreateError::NoMemory {
                    asked_mb, pool_mb, ..
                }) if begun.elapsed() >= patience => {
                    let waited = patience;
                    let error = CreateError::NoMemory {
                        asked_mb,
                        pool_mb,
                        waited,
                    };
                    return Err(InvokeError::NoMemory(error.to_string()));
                }
                // What is idle by now makes room.
                Err(CreateError::NoMemory { .. }) => {}
                Err(error) => {
                    instance.doom();
                    return Err(refused(&error));
                }
                Ok(()) => return Ok(()),
            }
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
        let most = self.shared.settings.queue_per_function;
        if instances.waiting.len() >= most {
            // Those who left need no place.
            instances.waiting.prune();
        }
        let waiting = instances.waiting.len();
        if waiting >= most {
            return Err(InvokeError::QueueFull {
                name: self.name.clone(),
                waiting,
            });
        }
        let turn = instances.waiting.join();
        self.start_missing(&mut instances, 0);
        self.watch_queue(&mut instances);
        Ok(Place::Turn(turn))
    }

    /// An instance is free: the first who waits gets it.
    pub(super) fn give_back(self: &Arc<Self>, instance: Arc<Instance>) {
        let mut instance = instance;
        loop {
            let next = {
                let mut instances = self.instances();
                // Under the lock that a new version takes to retire the idle ones.
                let ours = |other: &Arc<Instance>| Arc::ptr_eq(other, &instance);
                let kept = instances.alive.iter().any(ours) && instance.alive();
                if !kept || !self.is_current(&instance.version) {
                    drop(instances);
                    return self.drop_instance(&instance);
                }
                let next = instances.waiting.next();
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
                let mut instances = self.instances();
                instances.waiting.put_back(waiting);
                self.watch_queue(&mut instances);
                continue;
            }
            match waiting.0.send(Ok(self.lease(instance))) {
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
    pub(super) fn drop_instance(self: &Arc<Self>, instance: &Arc<Instance>) {
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
        if let Some(farewell) = instance.farewell(Arc::clone(&self.shared.pool)) {
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
        let memory = idlest.memory();
        self.drop_instance(&idlest);
        Some(memory)
    }

    /// Ends the sandboxes of all instances, whatever they do.
    pub(super) fn doom_all(&self) {
        let mut instances = self.instances();
        instances.idle.clear();
        instances.waiting.send_away(None);
        for instance in instances.alive.drain(..) {
            instance.doom();
        }
    }

    /// Lets go of all idle instances that are not of the version in service.
    pub(super) fn retire_idle(&self) {
        let mut instances = self.instances();
        // What kept the one before from starting says nothing of another version.
        instances.rest = None;
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
