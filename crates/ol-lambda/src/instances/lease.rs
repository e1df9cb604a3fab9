//! The right to call an instance.
//!
//! A waiting call takes whichever comes first: an instance that another call gives back, or one that was started.
//! Invariant: while calls wait, instances are starting or busy; otherwise an instance is started.

use super::provision::{TURN, refused};
use super::table::{Instances, Table};
use crate::instance::Instance;
use crate::invoke::InvokeError;
use crate::phases::Phases;
use ol_model::{MiB, steps};
use ol_sandbox::CreateError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a call gets at once: an instance or a place in the queue.
enum Place {
    Instance(Arc<Instance>),
    Turn(oneshot::Receiver<Result<Lease, InvokeError>>),
}

/// The right to call an instance once. Dropping it gives the instance back.
pub(crate) struct Lease {
    instances: Arc<Instances>,
    instance: Option<Arc<Instance>>,
    since: Instant,
    took: Option<Duration>,
}

impl Lease {
    /// Notes how long the call took by the guest's clock.
    ///
    /// The worker's clock also counts the time that calls wait for a core: with that measure, a crowded machine would start ever
    /// more instances.
    pub(crate) fn took(&mut self, took: Option<Duration>) {
        self.took = took.or(self.took);
    }

    /// The table that the instance belongs to.
    pub(crate) fn instances(&self) -> &Arc<Instances> {
        &self.instances
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
            self.instances
                .served(self.took.unwrap_or_else(|| self.since.elapsed()));
            self.instances.give_back(instance);
        }
    }
}

impl Instances {
    /// Leases an instance of the version in service, with all its memory.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        phases: &mut Phases,
    ) -> Result<Lease, InvokeError> {
        let lease = self.first_free(phases).await?;
        self.regain(lease.instance()).await?;
        Ok(lease)
    }

    async fn first_free(self: &Arc<Self>, phases: &mut Phases) -> Result<Lease, InvokeError> {
        phases.seek();
        let begun = Instant::now();
        let turn = loop {
            match self.take_idle_or_wait()? {
                Place::Turn(turn) => break turn,
                Place::Instance(instance) => {
                    if instance.begin().is_ok() {
                        instance.first_call();
                        return Ok(self.lease(instance));
                    }
                    self.drop_instance(&instance);
                }
            }
        };
        // The queue's watch sends an error to calls that wait too long.
        let lease = turn.await.unwrap_or(Err(InvokeError::Draining))?;
        let waited = begun.elapsed();
        if !lease.instance().version.ours {
            steps::QUEUE.record(waited);
        }
        phases.waited(begun, waited, lease.instance().first_call());
        Ok(lease)
    }

    /// Notes that a start waits for memory; calls that wait too long for it are told `error`.
    pub(crate) fn note_memory_shortage(&self, error: CreateError) {
        self.table().memory_shortage = Some(error);
    }

    /// Notes that a start doesn't wait for memory, or no longer.
    pub(crate) fn end_memory_shortage(&self) {
        self.table().memory_shortage = None;
    }

    fn lease(self: &Arc<Self>, instance: Arc<Instance>) -> Lease {
        Lease {
            instances: Arc::clone(self),
            instance: Some(instance),
            since: Instant::now(),
            took: None,
        }
    }

    /// Makes sure that an instance whose memory was lowered has it back before it runs.
    async fn regain(&self, instance: &Instance) -> Result<(), InvokeError> {
        if !instance.is_small() {
            return Ok(());
        }
        let (begun, patience) = (Instant::now(), self.resources.settings.queue_wait);
        loop {
            let missing = instance.version.limits.mem.0
                - instance.memory().0.min(instance.version.limits.mem.0);
            self.resources.make_room(MiB(missing));
            let left = patience.saturating_sub(begun.elapsed());
            match instance.regain(&*self.resources.pool, TURN.min(left)).await {
                Err(error @ CreateError::NoMemory { .. }) if begun.elapsed() >= patience => {
                    return Err(InvokeError::NoMemory(error.after(patience).to_string()));
                }
                // Instances that are idle by now make room.
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
        let mut table = self.table();
        table.service.record(took, Instant::now());
        table.served += 1;
        table.stalled = false;
    }

    /// Would a call get an instance, or a place in the queue?
    pub(crate) fn has_room(&self) -> Result<(), InvokeError> {
        let mut table = self.table();
        if table.idle.is_empty() {
            self.place_in(&mut table)
        } else {
            Ok(())
        }
    }

    /// Is there a place in the queue?
    fn place_in(&self, table: &mut Table) -> Result<(), InvokeError> {
        let most = self.resources.settings.queue_per_function;
        if table.waiting.len() >= most {
            // Calls that have left need no place.
            table.waiting.prune();
        }
        let waiting = table.waiting.len();
        if waiting < most {
            return Ok(());
        }
        Err(InvokeError::QueueFull {
            name: self.name.clone(),
            waiting,
        })
    }

    /// Takes an idle instance or joins the queue, under one lock: an instance that becomes idle is seen by this call, or sees it wait.
    fn take_idle_or_wait(self: &Arc<Self>) -> Result<Place, InvokeError> {
        let mut table = self.table();
        if let Some(instance) = table.idle.pop() {
            return Ok(Place::Instance(instance));
        }
        self.place_in(&mut table)?;
        let turn = table.waiting.join();
        self.start_missing(&mut table, 0);
        self.watch_queue(&mut table);
        Ok(Place::Turn(turn))
    }

    /// Gives a free instance to the first waiting call, or makes it idle.
    pub(super) fn give_back(self: &Arc<Self>, instance: Arc<Instance>) {
        let mut instance = instance;
        loop {
            let next = {
                let mut table = self.table();
                // Under the same lock under which a new version retires the idle instances.
                let ours = |other: &Arc<Instance>| Arc::ptr_eq(other, &instance);
                let kept = table.alive.iter().any(ours) && instance.alive();
                if !kept || !table.serves(&instance.version) {
                    drop(table);
                    return self.drop_instance(&instance);
                }
                let next = table.waiting.next();
                if next.is_none() {
                    table.idle.push(Arc::clone(&instance));
                }
                next
            };
            let Some(waiting) = next else {
                if let Some(pauser) = &self.resources.pauser {
                    pauser.idle(&instance);
                }
                return;
            };
            if instance.begin().is_err() {
                // Keep the call's turn: put it back in front and look at what is wrong with the instance.
                let mut table = self.table();
                table.waiting.put_back(waiting);
                self.watch_queue(&mut table);
                continue;
            }
            match waiting.0.send(Ok(self.lease(instance))) {
                Ok(()) => return,
                Err(returned) => {
                    // The caller left between `next` and `send`.
                    let Some(back) = returned.ok().and_then(Lease::into_instance) else {
                        return;
                    };
                    back.finish();
                    instance = back;
                }
            }
        }
    }
}
